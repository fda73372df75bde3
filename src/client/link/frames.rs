//! The frames of exec and attach: `[channel u8][length u32 big-endian][payload]`,
//! channels as in Kubernetes' `v5.channel.k8s.io`.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Standard input.
pub const STDIN: u8 = 0;
/// Standard output.
pub const STDOUT: u8 = 1;
/// Standard error.
pub const STDERR: u8 = 2;
/// The end: a `v1.Status` in JSON.
pub const ERROR: u8 = 3;
/// A new size of the terminal: `{"Width":80,"Height":24}`.
pub const RESIZE: u8 = 4;
/// The channel whose number is the payload is closed.
pub const CLOSE: u8 = 255;

const HEAD_BYTES: usize = 5;
/// A longer frame is an attack or a mistake.
const PAYLOAD_BYTES_MAX: usize = 16 << 20;

/// A frame longer than any that we send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {0} bytes")]
pub struct TooLong(pub usize);

/// One frame as bytes.
pub fn encode(channel: u8, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD_BYTES + payload.len());
    out.put_u8(channel);
    out.put_u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    out.put_slice(payload);
    out.freeze()
}

/// Puts frames together from pieces of any size.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// Takes the next piece.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, channel and payload; `None` until it is all there.
    ///
    /// # Errors
    /// [`TooLong`]; the stream is of no use after it.
    pub fn next_frame(&mut self) -> Result<Option<(u8, Bytes)>, TooLong> {
        let mut head = self.buffer.get(..HEAD_BYTES).unwrap_or_default();
        if head.len() < HEAD_BYTES {
            return Ok(None);
        }
        let (channel, length) = (head.get_u8(), head.get_u32() as usize);
        if length > PAYLOAD_BYTES_MAX {
            return Err(TooLong(length));
        }
        if self.buffer.len() < HEAD_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(HEAD_BYTES);
        Ok(Some((channel, self.buffer.split_to(length).freeze())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cutting() {
        let bytes = [
            encode(STDIN, b"hello"),
            encode(CLOSE, &[STDIN]),
            encode(STDOUT, b""),
        ]
        .concat();
        for size in 1..bytes.len() {
            let mut decoder = Decoder::default();
            let mut found = Vec::new();
            for piece in bytes.chunks(size) {
                decoder.push(piece);
                while let Some((channel, payload)) = decoder.next_frame().unwrap() {
                    found.push((channel, payload.to_vec()));
                }
            }
            assert_eq!(
                found,
                [(STDIN, b"hello".to_vec()), (CLOSE, vec![STDIN]), (STDOUT, vec![])]
            );
        }
    }

    #[test]
    fn giants_are_refused() {
        let mut decoder = Decoder::default();
        decoder.push(&[0, 255, 255, 255, 255]);
        assert_eq!(decoder.next_frame(), Err(TooLong(u32::MAX as usize)));
    }
}
