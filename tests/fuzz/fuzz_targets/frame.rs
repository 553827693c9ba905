//! Any bytes on any substream: cut into frames and decoded. What decodes encodes to the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use starling_proto::Class;
use starling_proto::wire::{FrameReader, Protocol, decode, encode};

fuzz_target!(|input: (u8, Vec<u8>)| {
    let class = Class::ALL[usize::from(input.0) % 4];
    let mut reader = FrameReader::new(class);
    for piece in input.1.chunks(7) {
        reader.push(piece);
        while let Ok(Some(frame)) = reader.next_frame() {
            if let Ok(message) = decode(class, &frame) {
                let again = encode(&message, Protocol::CURRENT.max).expect("the newest protocol has every kind");
                assert_eq!(decode(class, &again).as_ref(), Ok(&message));
            }
        }
    }
});
