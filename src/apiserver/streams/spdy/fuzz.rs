//! Damaged conversations: frames, header blocks and what is compressed in them.

use base::SeededRandom;
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::frame::{self, Frame};
use super::headers::{Compressor, Decompressor};
use super::{Session, testing};

fn conversation() -> Vec<u8> {
    let ping = |out: &mut BytesMut| frame::encode(&Frame::Ping { id: 1 }, out);
    let mut all = BytesMut::from(&testing::open(&[(1, "error"), (3, "data"), (5, "stdin")])[..]);
    all.extend(testing::data(3, b"some bytes"));
    ping(&mut all);
    all.extend(testing::data(5, b"others"));
    frame::encode(&Frame::Reset { stream: 5, code: 5 }, &mut all);
    frame::encode(&Frame::GoAway { last: 5, code: 0 }, &mut all);
    all.to_vec()
}

/// Takes whatever streams a client opens, and all that comes on them.
async fn hear(bytes: Vec<u8>) -> usize {
    let io = tokio::io::join(std::io::Cursor::new(bytes), tokio::io::sink());
    let mut session = Session::start(io);
    let mut heard = 0;
    while let Some(mut stream) = session.accept().await {
        while let Some(bytes) = stream.received.recv().await {
            heard += bytes.len();
        }
    }
    heard
}

fn run(bytes: Vec<u8>) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(hear(bytes))
}

#[test]
fn what_is_not_damaged_is_heard() {
    assert_eq!(run(conversation()), b"some bytesothers".len());
}

proptest! {
    #[test]
    fn damaged_conversations_end(seed: u64) {
        let mut bytes = conversation();
        SeededRandom::new(seed).damage(&mut bytes);
        run(bytes);
    }

    /// A header block that is wrong inside, and one after it.
    #[test]
    fn damaged_headers_are_refused_or_read(seed: u64) {
        let random = SeededRandom::new(seed);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let headers = vec![pair("streamtype", "error"), pair("port", "80")];
        let mut compressor = Compressor::new().expect("zlib");
        let mut block = || compressor.block(&headers).expect("a block").to_vec();
        let (mut first, second) = (block(), block());
        random.damage(&mut first);
        let mut reader = Decompressor::new();
        for block in [first, second] {
            let read = reader.headers(&block).unwrap_or_default();
            prop_assert!(read.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() < 1 << 20);
        }
    }

    #[test]
    fn damaged_frames_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let mut buffer = BytesMut::from(&Bytes::from(bytes)[..]);
        while let Ok(Some(_)) = frame::decode(&mut buffer) {}
    }
}
