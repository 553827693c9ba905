//! Any bytes as any part of the handshake. What decodes encodes to the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use starling_proto::wire::Protocol;
use starling_proto::wire::handshake::{
    Answer, Greeting, Hello, Papers, Proof, decode_statements, encode_statements,
};

fuzz_target!(|part: &[u8]| {
    if let Ok(Greeting::Hello(hello)) = Hello::decode(part, Protocol::CURRENT) {
        assert!(part.starts_with(&hello.encode()), "what follows is a later version's");
    }
    if let Ok(proof) = Proof::decode(part) {
        assert_eq!(Proof::decode(&proof.encode()), Ok(proof));
    }
    if let Ok(answer) = Answer::decode(part) {
        assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
    }
    if let Ok(papers) = Papers::decode(part) {
        assert_eq!(Papers::decode(&papers.encode()), Ok(papers));
    }
    if let Ok(statements) = decode_statements(part) {
        let parts = encode_statements(statements.iter());
        let read: Vec<_> = parts.iter().flat_map(|part| decode_statements(part).expect("is bounded")).collect();
        assert_eq!(read, statements);
    }
});
