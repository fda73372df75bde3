//! SPDY frames: bytes to frames and back. Header blocks stay compressed here.

use bytes::{Buf, BufMut, Bytes, BytesMut};

const VERSION: u16 = 3;
const HEAD_BYTES: usize = 8;
/// Clients send at most 32 KiB a frame; more than this is nobody we know.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;
const FIN: u8 = 1;
const STREAM_ID: u32 = 0x7fff_ffff;

/// A frame that the server reads or writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Opens a stream.
    Syn {
        /// Its number.
        stream: u32,
        /// Compressed headers.
        block: Bytes,
        /// Whether the sender will send nothing on it.
        fin: bool,
    },
    /// Accepts a stream.
    SynReply {
        /// Its number.
        stream: u32,
        /// Compressed headers.
        block: Bytes,
    },
    /// Ends a stream at once.
    Reset {
        /// Its number.
        stream: u32,
        /// Why; 5 is "cancel".
        code: u32,
    },
    /// More headers for a stream.
    Headers {
        /// Its number.
        stream: u32,
        /// Compressed headers.
        block: Bytes,
        /// Whether the sender will send nothing more on it.
        fin: bool,
    },
    /// Asks for an echo.
    Ping {
        /// What to echo.
        id: u32,
    },
    /// No more streams.
    GoAway {
        /// The last stream that was looked at.
        last: u32,
        /// Why; 0 is "all is well".
        code: u32,
    },
    /// Bytes of a stream.
    Data {
        /// Its number.
        stream: u32,
        /// The bytes.
        bytes: Bytes,
        /// Whether these are the last.
        fin: bool,
    },
    /// A control frame that changes nothing here (settings, window updates).
    Ignored,
}

/// What is wrong with the bytes of a connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A frame is larger than any client sends.
    #[error("a SPDY frame of {0} bytes")]
    TooLarge(usize),
    /// A control frame of another version of the protocol.
    #[error("SPDY version {0}")]
    Version(u16),
    /// A control frame that ends too soon.
    #[error("a short SPDY control frame of type {0}")]
    Short(u16),
}

/// Takes a frame off the front of `buffer`; `None` until it is there whole.
pub fn decode(buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    let Some(head) = buffer.first_chunk::<HEAD_BYTES>() else {
        return Ok(None);
    };
    let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    let flags = head[4];
    let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
    if length > PAYLOAD_BYTES_MAX {
        return Err(FrameError::TooLarge(length));
    }
    if buffer.len() < HEAD_BYTES + length {
        return Ok(None);
    }
    buffer.advance(HEAD_BYTES);
    let payload = buffer.split_to(length).freeze();
    if first & !STREAM_ID == 0 {
        return Ok(Some(Frame::Data {
            stream: first,
            bytes: payload,
            fin: flags & FIN != 0,
        }));
    }
    let version = (first >> 16) as u16 & 0x7fff;
    if version != VERSION {
        return Err(FrameError::Version(version));
    }
    control(first as u16, flags & FIN != 0, payload).map(Some)
}

fn control(kind: u16, fin: bool, mut payload: Bytes) -> Result<Frame, FrameError> {
    let needed = match kind {
        1 => 10,
        2 | 6 | 8 => 4,
        3 | 7 => 8,
        _ => return Ok(Frame::Ignored),
    };
    if payload.len() < needed {
        return Err(FrameError::Short(kind));
    }
    let number = payload.get_u32();
    let stream = number & STREAM_ID;
    Ok(match kind {
        1 => {
            // The stream it belongs to, its priority and its credential slot.
            payload.advance(6);
            Frame::Syn {
                stream,
                block: payload,
                fin,
            }
        }
        2 => Frame::SynReply {
            stream,
            block: payload,
        },
        3 => Frame::Reset {
            stream,
            code: payload.get_u32(),
        },
        6 => Frame::Ping { id: number },
        7 => Frame::GoAway {
            last: stream,
            code: payload.get_u32(),
        },
        _ => Frame::Headers {
            stream,
            block: payload,
            fin,
        },
    })
}

/// Appends a frame's bytes.
pub fn encode(frame: &Frame, out: &mut BytesMut) {
    match frame {
        Frame::Syn { stream, block, fin } => {
            head(out, 1, *fin, 10 + block.len());
            out.put_u32(*stream);
            out.put_bytes(0, 6);
            out.put_slice(block);
        }
        Frame::SynReply { stream, block } => {
            head(out, 2, false, 4 + block.len());
            out.put_u32(*stream);
            out.put_slice(block);
        }
        Frame::Reset { stream, code } => pair(out, 3, *stream, *code),
        Frame::Headers { stream, block, fin } => {
            head(out, 8, *fin, 4 + block.len());
            out.put_u32(*stream);
            out.put_slice(block);
        }
        Frame::Ping { id } => {
            head(out, 6, false, 4);
            out.put_u32(*id);
        }
        Frame::GoAway { last, code } => pair(out, 7, *last, *code),
        Frame::Data { stream, bytes, fin } => {
            out.put_u32(*stream & STREAM_ID);
            out.put_u32(u32::from(*fin) << 24 | bytes.len() as u32);
            out.put_slice(bytes);
        }
        Frame::Ignored => {}
    }
}

fn head(out: &mut BytesMut, kind: u16, fin: bool, length: usize) {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    out.put_u32(u32::from(fin) << 24 | length as u32);
}

fn pair(out: &mut BytesMut, kind: u16, first: u32, second: u32) {
    head(out, kind, false, 8);
    out.put_u32(first);
    out.put_u32(second);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_wire_in_any_pieces() {
        let block = Bytes::from_static(b"headers");
        let frames = [
            Frame::Syn {
                stream: 1,
                block: block.clone(),
                fin: true,
            },
            Frame::SynReply {
                stream: 1,
                block: block.clone(),
            },
            Frame::Headers {
                stream: 3,
                block,
                fin: false,
            },
            Frame::Data {
                stream: 3,
                bytes: Bytes::from_static(b"hello"),
                fin: false,
            },
            Frame::Data {
                stream: 3,
                bytes: Bytes::new(),
                fin: true,
            },
            Frame::Ping { id: 7 },
            Frame::Reset { stream: 5, code: 5 },
            Frame::GoAway { last: 5, code: 0 },
        ];
        let mut wire = BytesMut::new();
        frames.iter().for_each(|frame| encode(frame, &mut wire));
        let (mut buffer, mut read) = (BytesMut::new(), Vec::new());
        for byte in wire {
            buffer.put_u8(byte);
            read.extend(decode(&mut buffer).unwrap());
        }
        assert_eq!(read, frames);
    }

    #[test]
    fn the_bytes_are_those_of_the_draft() {
        let mut out = BytesMut::new();
        encode(&Frame::Ping { id: 1 }, &mut out);
        assert_eq!(&out[..], [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1]);
        let mut settings = BytesMut::from(&[0x80, 3, 0, 4, 0, 0, 0, 4, 0, 0, 0, 0][..]);
        assert_eq!(decode(&mut settings), Ok(Some(Frame::Ignored)));
    }

    #[test]
    fn nonsense_is_refused_without_waiting_for_it() {
        let mut large = BytesMut::from(&[0, 0, 0, 1, 0, 0xff, 0xff, 0xff][..]);
        assert_eq!(decode(&mut large), Err(FrameError::TooLarge(0xff_ffff)));
        let mut old = BytesMut::from(&[0x80, 2, 0, 6, 0, 0, 0, 0][..]);
        assert_eq!(decode(&mut old), Err(FrameError::Version(2)));
        let mut short = BytesMut::from(&[0x80, 3, 0, 1, 0, 0, 0, 1, 0][..]);
        assert_eq!(decode(&mut short), Err(FrameError::Short(1)));
    }
}
