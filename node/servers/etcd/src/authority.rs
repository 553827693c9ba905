//! Accepts every `:authority`, as etcd does. The Go client sends `#initially=[127.0.0.1:2379]`, and etcdctl with
//! `--endpoints http://HOST:PORT` that URL. The library h2 resets a call whose authority is no authority of a URL, before
//! any code of ours sees it, and has no setting for it (hyperium/h2, issues 442 and 525).
//!
//! No call depends on the authority. So this filter sits between the socket and h2, and replaces each authority by letters
//! `a` of the same count. Because entries of HPACK's dynamic table are accounted by their length (RFC 7541, 4.1), h2's
//! table stays the same as the client's, and the filter needs none: where a client refers to an entry of the table, h2
//! has the replaced text in it.
//!
//! What it does not recognize, it passes on unchanged, and h2 decides.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// The first bytes of a connection (RFC 9113, 3.4), of this length.
const PREFACE_BYTES: usize = 24;
/// Length of a frame's head: length, type, flags, stream (RFC 9113, 4.1).
const HEAD_BYTES: usize = 9;
/// Largest payload of a frame that h2 accepts: the protocol's initial value, which this server does not raise.
const PAYLOAD_BYTES_MAX: usize = 16_384;
/// Bytes that are read at once. A guess: a few small requests.
const READ_BYTES: usize = 8192;
const TYPE_HEADERS: u8 = 1;
const FLAG_PADDED: u8 = 0x8;
const FLAG_PRIORITY: u8 = 0x20;
/// Bytes of a stream's priority in a frame of headers.
const PRIORITY_BYTES: usize = 5;
/// The name in HPACK's static table (RFC 7541, appendix A), as bytes, and in its Huffman code.
const NAME_INDEX: usize = 1;
const NAME: &[u8] = b":authority";
const NAME_CODED: &[u8] = b"\xb8\x3b\x53\x39\xec\x32\x7d\x7f";
/// The symbols with codes of 1, 2, 3 ... bits, without the end of the string. The code is canonical: these numbers
/// define the length of each code (RFC 7541, appendix B).
const CODES: [u32; 30] =
    [0, 0, 0, 0, 10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19, 29, 0, 3];

/// The bytes of an HTTP/2 client, with each authority replaced.
pub struct AnyAuthority<R> {
    inner: R,
    frames: Frames,
}

impl<R> AnyAuthority<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, frames: Frames::default() }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for AnyAuthority<R> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context, buf: &mut ReadBuf) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while !this.frames.take(buf) {
            let mut bytes = [0; READ_BYTES];
            let mut read = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                break;
            }
            this.frames.push(read.filled());
        }
        Poll::Ready(Ok(()))
    }
}

/// Splits a client's bytes into frames.
struct Frames {
    /// Bytes that pass unchanged before the next head: the preface's or a payload's.
    unchanged: usize,
    /// The start of a head, or of a frame of headers.
    incomplete: Vec<u8>,
    /// Bytes for h2, from `taken` on.
    ready: Vec<u8>,
    taken: usize,
}

impl Default for Frames {
    fn default() -> Self {
        Self { unchanged: PREFACE_BYTES, incomplete: Vec::new(), ready: Vec::new(), taken: 0 }
    }
}

impl Frames {
    /// Moves bytes that are ready into `buf`. False if there are none.
    fn take(&mut self, buf: &mut ReadBuf) -> bool {
        let ready = &self.ready[self.taken..];
        let count = ready.len().min(buf.remaining());
        buf.put_slice(&ready[..count]);
        self.taken += count;
        if self.taken == self.ready.len() {
            self.ready.clear();
            self.taken = 0;
        }
        count > 0
    }

    fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.unchanged > 0 {
                let (now, later) = bytes.split_at(self.unchanged.min(bytes.len()));
                self.unchanged -= now.len();
                self.ready.extend_from_slice(now);
                bytes = later;
                continue;
            }
            let missing = self.missing();
            let (now, later) = bytes.split_at(missing.min(bytes.len()));
            self.incomplete.extend_from_slice(now);
            bytes = later;
            if now.len() == missing {
                self.completed();
            }
        }
    }

    /// Bytes until the head, or the frame of headers, is complete.
    fn missing(&self) -> usize {
        let held = self.incomplete.len();
        if held < HEAD_BYTES {
            HEAD_BYTES - held
        } else {
            HEAD_BYTES + payload_bytes(&self.incomplete) - held
        }
    }

    /// Handles a complete head, or a complete frame of headers.
    fn completed(&mut self) {
        let payload = payload_bytes(&self.incomplete);
        let is_headers = self.incomplete[3] == TYPE_HEADERS && payload <= PAYLOAD_BYTES_MAX;
        if is_headers && self.incomplete.len() < HEAD_BYTES + payload {
            return;
        }
        match replaced(&self.incomplete).filter(|_| is_headers) {
            Some(frame) => self.ready.extend(frame),
            None => self.ready.extend_from_slice(&self.incomplete),
        }
        self.unchanged = HEAD_BYTES + payload - self.incomplete.len();
        self.incomplete.clear();
    }
}

/// The length of the payload that a head states.
fn payload_bytes(head: &[u8]) -> usize {
    head[..3].iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
}

/// A frame of headers with another authority; `None` if it has none, or would become too large.
fn replaced(frame: &[u8]) -> Option<Vec<u8>> {
    let flags = *frame.get(4)?;
    let mut start = HEAD_BYTES;
    let mut padding = 0;
    if flags & FLAG_PADDED != 0 {
        padding = usize::from(*frame.get(start)?);
        start += 1;
    }
    if flags & FLAG_PRIORITY != 0 {
        start += PRIORITY_BYTES;
    }
    let block = frame.get(start..frame.len().checked_sub(padding)?)?;
    let (value, length) = authority(block)?;
    let mut replaced = frame[..start + value.start].to_vec();
    encode_length(&mut replaced, length);
    replaced.resize(replaced.len() + length, b'a');
    replaced.extend_from_slice(&frame[start + value.end..]);
    let payload = replaced.len() - HEAD_BYTES;
    replaced[..3].copy_from_slice(&u32::try_from(payload).ok()?.to_be_bytes()[1..]);
    (payload <= PAYLOAD_BYTES_MAX).then_some(replaced)
}

/// The place of the authority's value in a block of headers, and the length of the text. Headers whose names begin with
/// a colon come first, so a block that continues in another frame has it here.
fn authority(block: &[u8]) -> Option<(std::ops::Range<usize>, usize)> {
    let mut at = 0;
    loop {
        let first = *block.get(at)?;
        // Indexed field; literal that is added to the table; change of the table's size; other literals.
        let (prefix_bits, is_literal) = match first.leading_zeros() {
            0 => (7, false),
            1 => (6, true),
            2 => (5, false),
            _ => (4, true),
        };
        let (index, mut end) = integer(block, at, prefix_bits)?;
        if !is_literal {
            at = end;
            continue;
        }
        let mut is_authority = index == NAME_INDEX;
        if index == 0 {
            let name = string(block, end)?;
            let is_coded = block[end] & 0x80 != 0;
            is_authority = block[name.clone()] == *if is_coded { NAME_CODED } else { NAME };
            end = name.end;
        }
        let value = string(block, end)?;
        if is_authority {
            let is_coded = block[end] & 0x80 != 0;
            let length = if is_coded { decoded_length(&block[value.clone()])? } else { value.len() };
            return Some((end..value.end, length));
        }
        at = value.end;
    }
}

/// The place of a string's bytes; its length is at `at` (RFC 7541, 5.2).
fn string(block: &[u8], at: usize) -> Option<std::ops::Range<usize>> {
    let (length, start) = integer(block, at, 7)?;
    let end = start.checked_add(length)?;
    (end <= block.len()).then_some(start..end)
}

/// An integer whose first byte has this many bits of it, and the place behind it (RFC 7541, 5.1).
fn integer(block: &[u8], at: usize, prefix_bits: u32) -> Option<(usize, usize)> {
    let full = (1 << prefix_bits) - 1;
    let mut value = usize::from(*block.get(at)?) & full;
    let mut at = at + 1;
    if value < full {
        return Some((value, at));
    }
    // Four further bytes are more than any frame has.
    for shift in [0, 7, 14, 21] {
        let byte = *block.get(at)?;
        at += 1;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value, at));
        }
    }
    None
}

/// Writes the length of a string that is not coded.
fn encode_length(into: &mut Vec<u8>, length: usize) {
    if length < 0x7f {
        into.extend(u8::try_from(length));
        return;
    }
    into.push(0x7f);
    let mut rest = length - 0x7f;
    while rest >= 0x80 {
        into.extend(u8::try_from(rest & 0x7f | 0x80));
        rest >>= 7;
    }
    into.extend(u8::try_from(rest));
}

/// The length of the text of a string in Huffman code.
fn decoded_length(coded: &[u8]) -> Option<usize> {
    let mut length = 0;
    let (mut code, mut first, mut bits) = (0, 0, 0);
    for at in 0..coded.len() * 8 {
        code = code << 1 | u32::from(coded[at / 8] >> (7 - at % 8) & 1);
        first <<= 1;
        let count = *CODES.get(bits)?;
        if code - first < count {
            length += 1;
            (code, first, bits) = (0, 0, 0);
        } else {
            first += count;
            bits += 1;
        }
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `#initially=[127.0.0.1:2379]` in Huffman code, by another implementation.
    const CODED: &[u8] =
        b"\xff\xa3\x54\x64\x98\x74\x51\xea\x0f\xfd\x84\x4e\xae\x05\xc0\xb8\x6e\x09\x97\x5f\xff\xe7";
    const TEXT: &[u8] = b"#initially=[127.0.0.1:2379]";

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("small").to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        frame.extend_from_slice(payload);
        frame
    }

    fn literal(before: &[u8], length: u8, value: &[u8], after: &[u8]) -> Vec<u8> {
        [before, &[length], value, after].concat()
    }

    #[test]
    fn lengths_of_coded_strings_are_those_of_their_texts() {
        // RFC 7541, C.4.1.
        assert_eq!(decoded_length(b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"), Some(15));
        assert_eq!(decoded_length(CODED), Some(TEXT.len()));
        assert_eq!(decoded_length(NAME_CODED), Some(NAME.len()));
        assert_eq!(decoded_length(b""), Some(0));
        assert_eq!(decoded_length(&[0xff; 4]), None, "the end of the string is no symbol");
    }

    #[test]
    fn every_form_of_an_authority_is_replaced_by_a_text_of_the_same_length() {
        let neutral = vec![b'a'; TEXT.len()];
        let length = u8::try_from(TEXT.len()).expect("small");
        let coded = 0x80 | u8::try_from(CODED.len()).expect("small");
        let (before, after) = ([0x83, 0x86, 0x44, 2, b'/', b'x'], [0x40, 1, b'k', 1, b'v']);
        let by_name = |first: u8| [&[first, 10], NAME].concat();
        let by_coded_name = |first: u8| [&[first, 0x88], NAME_CODED].concat();
        let names = [vec![0x41], vec![0x01], vec![0x11], by_name(0x40), by_name(0x00), by_coded_name(0x40)];
        for name in names {
            let expected = [&before[..], &literal(&name, length, &neutral, &after)].concat();
            for (length, value) in [(length, TEXT), (coded, CODED)] {
                let sent = [&before[..], &literal(&name, length, value, &after)].concat();
                let replaced = replaced(&frame(TYPE_HEADERS, 4, &sent)).expect("has an authority");
                assert_eq!(replaced, frame(TYPE_HEADERS, 4, &expected), "{name:x?}");
            }
        }
    }

    #[test]
    fn padding_and_priority_stay() {
        let sent = [&[2, 0, 0, 0, 0, 7][..], &literal(&[0x41], 2, b"[]", &[0x83]), &[0, 0]].concat();
        let expected = [&[2, 0, 0, 0, 0, 7][..], &literal(&[0x41], 2, b"aa", &[0x83]), &[0, 0]].concat();
        let flags = FLAG_PADDED | FLAG_PRIORITY;
        assert_eq!(replaced(&frame(TYPE_HEADERS, flags, &sent)), Some(frame(TYPE_HEADERS, flags, &expected)));
    }

    #[test]
    fn long_authorities_keep_their_length() {
        for length in [126, 127, 128, 254, 255, 16_000] {
            let mut sent = vec![0x41];
            encode_length(&mut sent, length);
            sent.resize(sent.len() + length, b'[');
            let replaced = replaced(&frame(TYPE_HEADERS, 4, &sent)).expect("has an authority");
            let (value, decoded) = authority(&replaced[HEAD_BYTES..]).expect("has an authority");
            assert_eq!((decoded, value.end), (length, sent.len()));
        }
    }

    #[test]
    fn what_is_damaged_or_becomes_too_large_passes_unchanged() {
        let coded = vec![0x00; 16_000];
        let mut large = vec![0x41, 0xff];
        let mut length = Vec::new();
        encode_length(&mut length, coded.len());
        large.extend_from_slice(&length[1..]);
        large.extend_from_slice(&coded);
        let cut = literal(&[0x41], 9, b"short", &[]);
        let longer_than_padding = [200, 0x41];
        for payload in [&large[..], &cut, &[0x41, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], &[]] {
            assert_eq!(replaced(&frame(TYPE_HEADERS, 4, payload)), None, "{} bytes", payload.len());
        }
        assert_eq!(replaced(&frame(TYPE_HEADERS, FLAG_PADDED, &longer_than_padding)), None);
    }

    #[test]
    fn bytes_come_out_in_order_however_they_are_cut() {
        let headers = |value: &[u8]| frame(TYPE_HEADERS, 4, &literal(&[0x83, 0x41], 2, value, &[0x86]));
        let data = frame(0, 1, &[7; 300]);
        let wire = |value: &[u8]| {
            let preface = &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..];
            [preface, &frame(4, 0, &[]), &headers(value), &data, &headers(value), &data].concat()
        };
        let (sent, expected) = (wire(b"[]"), wire(b"aa"));
        for size in 1..sent.len() {
            let mut frames = Frames::default();
            let mut received = Vec::new();
            for part in sent.chunks(size) {
                frames.push(part);
                let mut bytes = [0; 7];
                loop {
                    let mut buf = ReadBuf::new(&mut bytes);
                    if !frames.take(&mut buf) {
                        break;
                    }
                    received.extend_from_slice(buf.filled());
                }
            }
            assert_eq!(received, expected, "in pieces of {size}");
        }
    }
}
