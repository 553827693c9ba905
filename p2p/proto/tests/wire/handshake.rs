//! The parts of the handshake: they keep their bytes, and are within their bounds.

use starling_proto::trust::{Certificate, Claim, Invitation, Rejection, Request};
use starling_proto::wire::handshake::{
    Answer, Greeting, Hello, MACS_MAX, PART_BYTES_MAX, Papers, PartError, Proof, decode_statements,
    encode_statements,
};
use starling_proto::wire::{Features, Protocol};
use starling_proto::{NodeId, NodeRecord, Role};

use crate::{certificate, hex, large_statement, largest_record, record, statements};

#[test]
fn every_part_of_the_handshake_keeps_its_bytes_and_comes_back() {
    let protocol = Protocol { min: 2, max: 7, features: Features(0x0102) };
    let hello = Hello { protocol, network: [3; 16], nonce: [4; 32], trust: [7; 16] };
    let proof = Proof { macs: vec![[5; 32], [6; 32]], record: record(1) };
    let rejected = Answer::Rejected(Rejection::NoCertificate);
    let answers = [Answer::Proof(proof.clone()), Answer::SecretDiffers, Answer::BadRecord, rejected];
    assert_eq!(Hello::decode(&hello.encode(), Protocol::CURRENT), Ok(Greeting::Hello(hello)));
    assert_eq!(Proof::decode(&proof.encode()), Ok(proof.clone()));
    for answer in &answers {
        assert_eq!(Answer::decode(&answer.encode()).as_ref(), Ok(answer));
    }
    let signature = vec![9; 64];
    let (id, role, uses, issuer) = ([8; 16], Role::Replica, 3, NodeId([7; 32]));
    let invitation = Invitation { id, role, uses, not_after_ms: 1 << 41, issuer, signature };
    let papers = Papers {
        authority: Some(NodeId([6; 32])),
        certificate: Some(certificate()),
        request: Some(Request::Invited(invitation)),
        issued: Some(certificate()),
        parts: 1,
    };
    assert_eq!(Papers::decode(&papers.encode()), Ok(papers.clone()));
    let stated = encode_statements(statements().iter());
    assert_eq!(stated.iter().flat_map(|part| decode_statements(part).expect("decodes")).count(), 3);
    let parts = [hello.encode(), proof.encode()].into_iter().chain(answers.iter().map(Answer::encode));
    let parts = parts.chain([papers.encode()]).chain(stated);
    let lines: String = parts.map(|part| hex(&part) + "\n").collect();
    assert_eq!(lines, include_str!("golden/handshake.txt"), "the handshake changed: it needs a new version");
}

#[test]
fn the_proof_with_the_largest_record_fits() {
    let record = largest_record();
    let answer = Answer::Proof(Proof { macs: vec![[255; 32]; MACS_MAX], record });
    assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
}

#[test]
fn parts_of_the_handshake_out_of_bounds_are_refused() {
    let large = Proof { macs: vec![[0; 32]; MACS_MAX + 1], record: record(1) };
    assert_eq!(Proof::decode(&large.encode()), Err(PartError::Proof));
    assert_eq!(Answer::decode(&Answer::Proof(large).encode()), Err(PartError::Proof));
    let wide = Proof { macs: vec![], record: NodeRecord { name: "n".repeat(1 << 10), ..record(1) } };
    assert_eq!(Proof::decode(&wide.encode()), Err(PartError::Record));
    let signed = Certificate { signature: vec![0; 65], ..certificate() };
    let papers = Papers { certificate: Some(signed), ..Papers::default() };
    assert_eq!(Papers::decode(&papers.encode()), Err(PartError::Papers));
    let endless = Papers { parts: u16::MAX, ..Papers::default() };
    assert_eq!(Papers::decode(&endless.encode()), Err(PartError::Papers));
    let mut wide = large_statement();
    if let Claim::Issuer { addresses, .. } = &mut wide.claim {
        addresses.push(String::new());
    }
    let parts = encode_statements([wide].iter());
    assert_eq!(decode_statements(&parts[0]), Err(PartError::Papers));
    assert_eq!(decode_statements(&[1]), Err(PartError::Papers), "cut short");
}

#[test]
fn statements_fill_parts_that_are_not_too_long() {
    let many = vec![large_statement(); 9];
    let parts = encode_statements(many.iter());
    assert!(parts.len() < many.len() && parts.iter().all(|part| part.len() <= PART_BYTES_MAX));
    let read: Vec<_> = parts.iter().flat_map(|part| decode_statements(part).expect("decodes")).collect();
    assert_eq!(read, many);
    assert_eq!(encode_statements([].iter()), Vec::<Vec<u8>>::new());
}

#[test]
fn a_hello_of_other_versions_names_them_and_a_longer_one_is_read() {
    let ours = Protocol { min: 3, max: 5, features: Features(0) };
    let hello = |min, max| {
        let protocol = Protocol { min, max, features: Features(1) };
        Hello { protocol, network: [8; 16], nonce: [9; 32], trust: [0; 16] }
    };
    let elsewhere = |min, max| Ok(Greeting::Elsewhere(Protocol { min, max, features: Features(0) }));
    assert_eq!(Hello::decode(&hello(6, 9).encode(), ours), elsewhere(6, 9));
    assert_eq!(Hello::decode(&hello(6, 9).encode()[..10], ours), elsewhere(6, 9), "whatever follows");
    assert_eq!(Hello::decode(&hello(2, 2).encode(), ours), elsewhere(2, 2));
    let version_1 = [&b"starling\x01"[..], &[8; 48]].concat();
    assert_eq!(Hello::decode(&version_1, ours), elsewhere(1, 1));
    let later = [&hello(4, 6).encode()[..], b"what a later version adds"].concat();
    assert_eq!(Hello::decode(&later, ours), Ok(Greeting::Hello(hello(4, 6))));
    for cut in 0..hello(4, 6).encode().len() {
        assert_eq!(Hello::decode(&later[..cut], ours), Err(PartError::Hello), "cut at {cut}");
    }
    assert_eq!(Hello::decode(&hello(5, 4).encode(), ours), Err(PartError::Hello), "no range");
}
