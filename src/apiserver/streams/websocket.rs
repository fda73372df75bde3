//! WebSockets: channels in messages (`channel.k8s.io` and its successors), and
//! a WebSocket as the carrier of another protocol's bytes.

use api::status::Status;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use super::quiet::Wire;
use super::upgrade;
use crate::body::Body;

/// Clients send pieces of 32 KiB; a larger message is nobody we know.
const MESSAGE_BYTES_MAX: usize = 4 << 20;
const PIPE_BYTES: usize = 64 * 1024;

/// A WebSocket on a connection that has left HTTP.
pub type Socket = WebSocketStream<Wire>;

/// The server's side of a WebSocket whose handshake is done.
pub async fn socket(connection: Wire) -> Socket {
    WebSocketStream::from_raw_socket(connection, Role::Server, Some(limits())).await
}

fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
}

/// How messages carry channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// A binary message whose first byte is the channel.
    Binary,
    /// A text message: the channel's digit, then base64.
    Base64,
}

impl Framing {
    /// The framing of a subprotocol.
    pub fn of(protocol: &str) -> Self {
        if protocol.contains("base64") {
            Framing::Base64
        } else {
            Framing::Binary
        }
    }

    /// A message without a channel, for protocols that have only one.
    pub fn plain(self, bytes: Bytes) -> Message {
        match self {
            Framing::Binary => Message::Binary(bytes),
            Framing::Base64 => Message::text(STANDARD.encode(bytes)),
        }
    }

    fn encode(self, channel: u8, bytes: &[u8]) -> Message {
        match self {
            Framing::Binary => {
                let mut message = BytesMut::with_capacity(bytes.len() + 1);
                message.put_u8(channel);
                message.put_slice(bytes);
                Message::Binary(message.freeze())
            }
            Framing::Base64 => Message::text(format!("{}{}", digit(channel), STANDARD.encode(bytes))),
        }
    }

    fn decode(self, message: Message) -> Option<(u8, Bytes)> {
        match (self, message) {
            // Some clients (Kubernetes' for Python) send what is typed as text, channel and all.
            (Framing::Binary, message) => {
                let bytes = message.into_data();
                Some((*bytes.first()?, bytes.slice(1..)))
            }
            (Framing::Base64, Message::Text(text)) => {
                let mut rest = text.chars();
                let channel = rest.next()?.to_digit(10)?;
                let bytes = STANDARD.decode(rest.as_str()).ok()?;
                Some((u8::try_from(channel).ok()?, bytes.into()))
            }
            _ => None,
        }
    }
}

fn digit(channel: u8) -> char {
    char::from_digit(u32::from(channel), 10).unwrap_or('9')
}

/// The receiving half of a WebSocket with channels.
pub struct Receiver {
    stream: SplitStream<Socket>,
    framing: Framing,
}

/// The sending half of a WebSocket with channels.
pub struct Sender {
    sink: SplitSink<Socket, Message>,
    framing: Framing,
}

/// Splits a WebSocket into its halves.
pub fn channels(socket: Socket, framing: Framing) -> (Sender, Receiver) {
    let (sink, stream) = socket.split();
    (Sender { sink, framing }, Receiver { stream, framing })
}

impl Receiver {
    /// The next message with its channel; `None` when the client is gone.
    pub async fn next(&mut self) -> Option<(u8, Bytes)> {
        loop {
            match self.stream.next().await? {
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(message @ (Message::Binary(_) | Message::Text(_))) => {
                    if let Some(found) = self.framing.decode(message) {
                        return Some(found);
                    }
                }
                // Pings are answered by the library.
                Ok(_) => {}
            }
        }
    }
}

impl Sender {
    /// Sends bytes on a channel; `false` when the client is gone.
    pub async fn send(&mut self, channel: u8, bytes: &[u8]) -> bool {
        self.sink.send(self.framing.encode(channel, bytes)).await.is_ok()
    }

    /// Says good-bye, and that all is well: without a code, client-go takes the end for an error.
    pub async fn close(&mut self) {
        // Fails only when the client is gone already.
        let _ = self.sink.send(goodbye()).await;
        let _ = self.sink.close().await;
    }
}

/// Answers a request with a WebSocket on which messages are sent until they end or the client goes.
///
/// # Errors
/// 400 when the request is no proper opening.
pub fn stream<S>(
    mut request: Request<Body>,
    protocol: &'static str,
    messages: S,
) -> Result<Response<Body>, Status>
where
    S: futures_util::Stream<Item = Message> + Send + 'static,
{
    let response = upgrade::to_websocket(request.headers(), protocol)?;
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(connection) = upgraded.await else { return };
        let (mut sink, mut theirs) = socket(Wire::of(connection).0).await.split();
        let send = async {
            let mut messages = std::pin::pin!(messages);
            while let Some(message) = messages.next().await {
                if sink.send(message).await.is_err() {
                    return;
                }
            }
            // Fails only when the client is gone already.
            let _ = sink.send(goodbye()).await;
            let _ = sink.close().await;
        };
        let gone = async { while let Some(Ok(_)) = theirs.next().await {} };
        tokio::select! {
            () = send => {}
            () = gone => {}
        }
    });
    Ok(response)
}

fn goodbye() -> Message {
    Message::Close(Some(CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    }))
}

/// A byte stream carried in binary messages, as the tunnelled protocols want it.
pub fn bytes(socket: Socket) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    tokio::spawn(async move {
        let (mut sink, mut stream) = socket.split();
        let (mut read, mut write) = tokio::io::split(ours);
        let inward = async {
            while let Some(Ok(message)) = stream.next().await {
                match message {
                    Message::Binary(bytes) if write.write_all(&bytes).await.is_err() => break,
                    Message::Close(_) => break,
                    _ => {}
                }
            }
            let _ = write.shutdown().await;
        };
        let outward = async {
            let mut buffer = BytesMut::with_capacity(PIPE_BYTES);
            while matches!(read.read_buf(&mut buffer).await, Ok(n) if n > 0) {
                if sink.send(Message::Binary(buffer.split().freeze())).await.is_err() {
                    break;
                }
                buffer.reserve(PIPE_BYTES);
            }
            let _ = sink.send(goodbye()).await;
            let _ = sink.close().await;
        };
        tokio::join!(inward, outward);
    });
    theirs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_in_messages() {
        for framing in [
            Framing::of("v5.channel.k8s.io"),
            Framing::of("v4.base64.channel.k8s.io"),
        ] {
            let message = framing.encode(1, b"hello");
            assert_eq!(framing.decode(message), Some((1, Bytes::from_static(b"hello"))));
        }
        assert_eq!(Framing::Binary.decode(Message::Binary(Bytes::new())), None);
        let typed = Framing::Binary.decode(Message::text("\u{0}ls\n"));
        assert_eq!(typed, Some((0, Bytes::from_static(b"ls\n"))));
        assert_eq!(Framing::Base64.encode(1, b"hi"), Message::text("1aGk="));
        assert_eq!(Framing::Base64.decode(Message::text("1***")), None);
    }

    /// What a client sends: a text and a binary message in pieces, a ping and a farewell, masked.
    const CONVERSATION: &[u8] = b"\x81\x83\0\0\0\x000ls\x02\x82\0\0\0\0\0a\x80\x81\0\0\0\0b\x89\x80\0\0\0\0\
        \x82\xfe\0\x03\0\0\0\0\x01bc\x88\x82\0\0\0\0\x03\xe8";

    async fn hear(bytes: Vec<u8>) -> usize {
        let io = tokio::io::join(std::io::Cursor::new(bytes), tokio::io::sink());
        let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(limits())).await;
        let mut heard = 0;
        while let Some(Ok(message)) = socket.next().await {
            heard += usize::from(Framing::Binary.decode(message.clone()).is_some());
            let _ = Framing::Base64.decode(message);
        }
        heard
    }

    fn run(bytes: Vec<u8>) -> usize {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(hear(bytes))
    }

    #[test]
    fn what_is_not_damaged_is_heard() {
        assert_eq!(run(CONVERSATION.to_vec()), 3);
    }

    proptest::proptest! {
        #[test]
        fn damaged_conversations_end(seed: u64) {
            let mut bytes = CONVERSATION.to_vec();
            base::SeededRandom::new(seed).damage(&mut bytes);
            run(bytes);
        }
    }
}
