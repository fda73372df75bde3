//! The frames between server and agent on an exec or attach stream:
//! channel (one byte), length (four bytes, big endian), payload.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// What goes in.
pub const STDIN: u8 = 0;
/// What comes out.
pub const STDOUT: u8 = 1;
/// What comes out as errors.
pub const STDERR: u8 = 2;
/// How it ended: a `v1.Status` as JSON.
pub const ERROR: u8 = 3;
/// Terminal sizes: `{"Width":…,"Height":…}`.
pub const RESIZE: u8 = 4;
/// Nothing more will come on the channel that the payload names.
pub const CLOSE: u8 = 255;

const HEAD_BYTES: usize = 5;
/// A larger frame is nobody we know.
const PAYLOAD_BYTES_MAX: usize = 16 << 20;

/// A frame's bytes.
pub fn encode(channel: u8, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD_BYTES + payload.len());
    out.put_u8(channel);
    out.put_u32(payload.len() as u32);
    out.put_slice(payload);
    out.freeze()
}

/// Takes a frame off the front of `buffer`; `None` until it is there whole, `Err` with its
/// length when it is too large.
pub fn decode(buffer: &mut BytesMut) -> Result<Option<(u8, Bytes)>, usize> {
    let Some(head) = buffer.first_chunk::<HEAD_BYTES>() else {
        return Ok(None);
    };
    let channel = head[0];
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if length > PAYLOAD_BYTES_MAX {
        return Err(length);
    }
    if buffer.len() < HEAD_BYTES + length {
        return Ok(None);
    }
    buffer.advance(HEAD_BYTES);
    Ok(Some((channel, buffer.split_to(length).freeze())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_wire_in_any_pieces() {
        let wire = [
            encode(STDOUT, b"hello"),
            encode(CLOSE, &[STDIN]),
            encode(ERROR, b""),
        ]
        .concat();
        let (mut buffer, mut read) = (BytesMut::new(), Vec::new());
        for byte in wire {
            buffer.put_u8(byte);
            read.extend(decode(&mut buffer).unwrap());
        }
        let expected = [(STDOUT, &b"hello"[..]), (CLOSE, &[STDIN]), (ERROR, b"")];
        assert_eq!(read, expected.map(|(c, b)| (c, Bytes::copy_from_slice(b))));
        assert!(decode(&mut BytesMut::from(&[1, 0xff, 0, 0, 0][..])).is_err());
    }
}
