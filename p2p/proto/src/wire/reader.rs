//! Splits a byte stream into frames.

use bytes::{Bytes, BytesMut};

use super::{WireError, read_length};
use crate::Class;

/// Collects the bytes of one substream and returns whole frames. Holds at most one frame of the
/// class's bound beyond what was pushed last.
#[derive(Debug)]
pub struct FrameReader {
    class: Class,
    buffer: BytesMut,
}

impl FrameReader {
    /// For a substream of `class`.
    pub fn new(class: Class) -> Self {
        Self { class, buffer: BytesMut::new() }
    }

    /// Appends bytes as they came from the stream. Drain [`Self::next_frame`] after each push.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, length included, ready for [`super::decode`]; `None` until more bytes
    /// are pushed. After an error the stream is lost: frames cannot be found again in it.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, WireError> {
        let Some((length, start)) = read_length(self.class, &self.buffer)? else { return Ok(None) };
        let whole = start + length;
        if self.buffer.len() < whole {
            // No memory is allocated by the announced length alone, before the bytes have arrived.
            return Ok(None);
        }
        Ok(Some(self.buffer.split_to(whole).freeze()))
    }
}
