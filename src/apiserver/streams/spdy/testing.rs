//! A SPDY client's bytes, for tests.

use bytes::{Bytes, BytesMut};

use super::frame::{self, Frame};
use super::headers::Compressor;

/// The bytes that open streams for port 80: number and type of each.
pub fn open(streams: &[(u32, &str)]) -> Bytes {
    let mut headers = Compressor::new().unwrap();
    let mut out = BytesMut::new();
    for (stream, kind) in streams {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let block = headers.block(&vec![
            pair("streamtype", kind),
            pair("port", "80"),
            pair("requestid", "0"),
        ]);
        frame::encode(
            &Frame::Syn {
                stream: *stream,
                block: block.unwrap(),
                fin: false,
            },
            &mut out,
        );
    }
    out.freeze()
}

/// The bytes that send data on a stream.
pub fn data(stream: u32, bytes: &'static [u8]) -> Bytes {
    let mut out = BytesMut::new();
    frame::encode(
        &Frame::Data {
            stream,
            bytes: Bytes::from_static(bytes),
            fin: false,
        },
        &mut out,
    );
    out.freeze()
}

/// What the frames in `buffer` carry for a stream; frames that are not whole stay.
pub fn data_of(buffer: &mut BytesMut, wanted: u32) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(frame) = frame::decode(buffer).unwrap() {
        if let Frame::Data { stream, bytes, .. } = frame
            && stream == wanted
        {
            all.extend_from_slice(&bytes);
        }
    }
    all
}
