//! A SPDY connection: a task reads frames and hands bytes to streams, another
//! writes what streams send.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::frame::{self, Frame};
use super::headers::{Compressor, Decompressor, Headers};

/// Frames that may wait for a slow reader or a slow connection.
const WAITING: usize = 64;
/// Streams that may be open at once on one connection.
const STREAMS_MAX: usize = 1024;
const DATA_BYTES_MAX: usize = 32 * 1024;
const CANCEL: u32 = 5;
const REFUSED: u32 = 3;

enum Outgoing {
    Frame(Frame),
    Reply { stream: u32 },
    Close,
}

/// A connection on which the client opens streams.
pub struct Session {
    opened: mpsc::Receiver<Stream>,
    send: mpsc::Sender<Outgoing>,
}

/// A stream that the client opened. It was accepted already.
pub struct Stream {
    /// The headers with which it was opened.
    pub headers: Headers,
    /// What the client sends; ends when the client is done or gone.
    pub received: mpsc::Receiver<Bytes>,
    /// The way back.
    pub writer: Writer,
}

impl Stream {
    /// A stream without a connection.
    #[cfg(test)]
    pub fn for_tests(headers: Headers) -> Self {
        let (send, _) = mpsc::channel(1);
        let (_, received) = mpsc::channel(1);
        Self {
            headers,
            received,
            writer: Writer { id: 1, send },
        }
    }

    /// A header's value; empty when absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map_or("", |(_, value)| value)
    }
}

/// The sending side of a stream.
#[derive(Clone)]
pub struct Writer {
    id: u32,
    send: mpsc::Sender<Outgoing>,
}

/// The connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection is closed")]
pub struct Closed;

impl Writer {
    /// Sends bytes.
    pub async fn write(&self, mut bytes: Bytes) -> Result<(), Closed> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(DATA_BYTES_MAX));
            self.send(Frame::Data {
                stream: self.id,
                bytes: piece,
                fin: false,
            })
            .await?;
        }
        Ok(())
    }

    /// Says that nothing more will be sent.
    pub async fn finish(&self) -> Result<(), Closed> {
        self.send(Frame::Data {
            stream: self.id,
            bytes: Bytes::new(),
            fin: true,
        })
        .await
    }

    /// Ends the stream in both directions.
    pub async fn reset(&self) -> Result<(), Closed> {
        self.send(Frame::Reset {
            stream: self.id,
            code: CANCEL,
        })
        .await
    }

    async fn send(&self, frame: Frame) -> Result<(), Closed> {
        self.send.send(Outgoing::Frame(frame)).await.map_err(|_| Closed)
    }
}

impl Session {
    /// Speaks SPDY over that connection until it closes or the session is dropped.
    pub fn start<T>(io: T) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (read, write) = tokio::io::split(io);
        let (send, outgoing) = mpsc::channel(WAITING);
        let (open, opened) = mpsc::channel(WAITING);
        let reader = Reader {
            send: send.clone(),
            open,
            streams: HashMap::new(),
            headers: Decompressor::new(),
        };
        tokio::spawn(async move {
            if let Err(why) = reader.run(read).await {
                tracing::debug!(why, "SPDY connection ended");
            }
        });
        tokio::spawn(async move {
            if let Err(error) = write_all(write, outgoing).await {
                tracing::debug!(%error, "writing to a SPDY connection failed");
            }
        });
        Self { opened, send }
    }

    /// The next stream that the client opens; `None` when the connection is gone.
    pub async fn accept(&mut self) -> Option<Stream> {
        self.opened.recv().await
    }

    /// Sends what is waiting and closes the connection.
    pub async fn close(self) {
        // Fails only when it is closed already.
        let _ = self.send.send(Outgoing::Close).await;
    }
}

struct Reader {
    send: mpsc::Sender<Outgoing>,
    open: mpsc::Sender<Stream>,
    streams: HashMap<u32, mpsc::Sender<Bytes>>,
    headers: Decompressor,
}

impl Reader {
    async fn run(mut self, mut io: impl AsyncRead + Unpin) -> Result<(), String> {
        let mut buffer = BytesMut::with_capacity(16 * 1024);
        loop {
            while let Some(frame) = frame::decode(&mut buffer).map_err(|e| e.to_string())? {
                if !self.take(frame).await? {
                    return Ok(());
                }
            }
            let closed = self.send.clone();
            let read = tokio::select! {
                read = io.read_buf(&mut buffer) => read.map_err(|e| e.to_string())?,
                () = closed.closed() => return Ok(()),
            };
            if read == 0 {
                return Ok(());
            }
        }
    }

    /// Deals with one frame; `false` when the connection is to be closed.
    async fn take(&mut self, frame: Frame) -> Result<bool, String> {
        match frame {
            Frame::Syn { stream, block, fin } => {
                let headers = self.headers.headers(&block).map_err(|e| e.to_string())?;
                return self.opened(stream, headers, fin).await;
            }
            Frame::Data { stream, bytes, fin } => {
                if let Some(receiver) = self.streams.get(&stream)
                    && !bytes.is_empty()
                    && receiver.send(bytes).await.is_err()
                {
                    self.streams.remove(&stream);
                }
                if fin {
                    self.streams.remove(&stream);
                }
            }
            Frame::Headers { block, stream, fin } => {
                // Nobody needs them, but the decompressor must see every block.
                self.headers.headers(&block).map_err(|e| e.to_string())?;
                if fin {
                    self.streams.remove(&stream);
                }
            }
            Frame::SynReply { block, .. } => {
                self.headers.headers(&block).map_err(|e| e.to_string())?;
            }
            Frame::Reset { stream, .. } => {
                self.streams.remove(&stream);
            }
            // An odd number is the client's own question.
            Frame::Ping { id } if id % 2 == 1 => {
                return Ok(self.answer(Outgoing::Frame(Frame::Ping { id })).await);
            }
            Frame::GoAway { .. } | Frame::Ping { .. } | Frame::Ignored => {}
        }
        Ok(true)
    }

    async fn opened(&mut self, id: u32, headers: Headers, fin: bool) -> Result<bool, String> {
        if self.streams.len() >= STREAMS_MAX {
            let refused = Frame::Reset {
                stream: id,
                code: REFUSED,
            };
            return Ok(self.answer(Outgoing::Frame(refused)).await);
        }
        let (sender, received) = mpsc::channel(WAITING);
        if !fin {
            self.streams.insert(id, sender);
        }
        if !self.answer(Outgoing::Reply { stream: id }).await {
            return Ok(false);
        }
        let writer = Writer {
            id,
            send: self.send.clone(),
        };
        Ok(self
            .open
            .send(Stream {
                headers,
                received,
                writer,
            })
            .await
            .is_ok())
    }

    async fn answer(&self, outgoing: Outgoing) -> bool {
        self.send.send(outgoing).await.is_ok()
    }
}

async fn write_all(
    mut io: impl AsyncWrite + Unpin,
    mut outgoing: mpsc::Receiver<Outgoing>,
) -> std::io::Result<()> {
    let mut headers = Compressor::new().map_err(std::io::Error::other)?;
    let mut buffer = BytesMut::with_capacity(16 * 1024);
    while let Some(mut next) = outgoing.recv().await {
        // What is waiting already goes out in one write.
        loop {
            match next {
                Outgoing::Frame(frame) => frame::encode(&frame, &mut buffer),
                Outgoing::Reply { stream } => {
                    let block = headers.block(&Headers::new()).map_err(std::io::Error::other)?;
                    frame::encode(&Frame::SynReply { stream, block }, &mut buffer);
                }
                Outgoing::Close => {
                    frame::encode(&Frame::GoAway { last: 0, code: 0 }, &mut buffer);
                    io.write_all(&buffer).await?;
                    return io.shutdown().await;
                }
            }
            match outgoing.try_recv() {
                Ok(more) if buffer.len() < 64 * 1024 => next = more,
                Ok(more) => {
                    io.write_all(&buffer).await?;
                    buffer.clear();
                    next = more;
                }
                Err(_) => break,
            }
        }
        io.write_all(&buffer).await?;
        io.flush().await?;
        buffer.clear();
    }
    io.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The client's end, by hand.
    struct Client<T> {
        io: T,
        buffer: BytesMut,
        headers: Compressor,
    }

    impl<T: AsyncRead + AsyncWrite + Unpin> Client<T> {
        async fn send(&mut self, frame: Frame) {
            let mut out = BytesMut::new();
            frame::encode(&frame, &mut out);
            self.io.write_all(&out).await.unwrap();
        }

        async fn open(&mut self, stream: u32, kind: &str) {
            let block = self
                .headers
                .block(&vec![("streamtype".into(), kind.into())])
                .unwrap();
            self.send(Frame::Syn {
                stream,
                block,
                fin: false,
            })
            .await;
        }

        async fn read(&mut self) -> Option<Frame> {
            loop {
                if let Some(frame) = frame::decode(&mut self.buffer).unwrap() {
                    return Some(frame);
                }
                if self.io.read_buf(&mut self.buffer).await.unwrap() == 0 {
                    return None;
                }
            }
        }
    }

    #[tokio::test]
    async fn streams_are_accepted_and_carry_bytes_both_ways() {
        let (ours, theirs) = tokio::io::duplex(1024);
        let mut session = Session::start(ours);
        let mut client = Client {
            io: theirs,
            buffer: BytesMut::new(),
            headers: Compressor::new().unwrap(),
        };
        client.open(1, "stdin").await;
        let mut stream = session.accept().await.unwrap();
        assert_eq!(stream.header("streamtype"), "stdin");
        assert!(matches!(
            client.read().await,
            Some(Frame::SynReply { stream: 1, .. })
        ));
        let hello = Bytes::from_static(b"hello");
        client
            .send(Frame::Data {
                stream: 1,
                bytes: hello.clone(),
                fin: true,
            })
            .await;
        assert_eq!(stream.received.recv().await, Some(hello.clone()));
        assert_eq!(stream.received.recv().await, None);
        client.send(Frame::Ping { id: 1 }).await;
        assert_eq!(client.read().await, Some(Frame::Ping { id: 1 }));
        stream.writer.write(hello.clone()).await.unwrap();
        stream.writer.finish().await.unwrap();
        assert_eq!(
            client.read().await,
            Some(Frame::Data {
                stream: 1,
                bytes: hello,
                fin: false
            })
        );
        assert_eq!(
            client.read().await,
            Some(Frame::Data {
                stream: 1,
                bytes: Bytes::new(),
                fin: true
            })
        );
        session.close().await;
        assert!(matches!(client.read().await, Some(Frame::GoAway { .. })));
        assert_eq!(client.read().await, None);
    }

    #[tokio::test]
    async fn a_connection_that_breaks_ends_its_streams() {
        let (ours, theirs) = tokio::io::duplex(1024);
        let mut session = Session::start(ours);
        let mut client = Client {
            io: theirs,
            buffer: BytesMut::new(),
            headers: Compressor::new().unwrap(),
        };
        client.open(1, "stdin").await;
        let mut stream = session.accept().await.unwrap();
        drop(client);
        assert_eq!(stream.received.recv().await, None);
        assert!(session.accept().await.is_none());
    }
}
