//! Clients, over a WebSocket or SPDY: either way channels on which they speak and hear.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use client::link::frames::{CLOSE, ERROR, RESIZE, STDERR, STDIN, STDOUT};
use tokio::sync::mpsc;

use super::super::quiet::Wire;
use super::super::spdy::{Session, Stream, Writer};
use super::super::websocket::{self, Framing};
use super::channels::Channels;

/// A SPDY client opens its streams right after the upgrade.
const STREAMS_TIMEOUT: Duration = Duration::from_secs(30);
const WAITING: usize = 64;

/// A client, whatever it speaks.
pub(super) struct Client {
    /// What it sends; `CLOSE` ends a channel. Closed when the client is gone.
    pub from: mpsc::Receiver<(u8, Bytes)>,
    /// What it is sent.
    pub to: Outputs,
    /// Whether the end is told as a whole `v1.Status` rather than as words.
    pub status_json: bool,
}

/// The channels on which a client hears.
pub(super) enum Outputs {
    WebSocket {
        sender: websocket::Sender,
        half_close: bool,
    },
    Spdy {
        writers: HashMap<u8, Writer>,
        done: tokio::sync::oneshot::Sender<()>,
    },
}

impl Outputs {
    /// Sends on a channel, unless the client has none like it. Whether the client is there still.
    pub async fn send(&mut self, channel: u8, bytes: Bytes) -> bool {
        match self {
            Outputs::WebSocket { sender, .. } => sender.send(channel, &bytes).await,
            Outputs::Spdy { writers, .. } => match writers.get(&channel) {
                Some(writer) => writer.write(bytes).await.is_ok(),
                None => true,
            },
        }
    }

    /// Ends one channel; whether the client is there still.
    pub async fn close(&mut self, channel: u8) -> bool {
        match self {
            Outputs::WebSocket {
                sender,
                half_close: true,
            } => sender.send(CLOSE, &[channel]).await,
            Outputs::WebSocket { .. } => true,
            Outputs::Spdy { writers, .. } => match writers.get(&channel) {
                Some(writer) => writer.finish().await.is_ok(),
                None => true,
            },
        }
    }

    /// Ends all of them.
    pub async fn end(self) {
        match self {
            Outputs::WebSocket { mut sender, .. } => sender.close().await,
            Outputs::Spdy { writers, done } => {
                for writer in writers.values() {
                    let _ = writer.finish().await;
                }
                // The session is waited for by the task that owns it.
                let _ = done.send(());
            }
        }
    }
}

/// A client over a WebSocket; `None` when it has gone.
pub(super) async fn over_websocket(connection: Wire, protocol: &str, channels: Channels) -> Option<Client> {
    let socket = websocket::socket(connection).await;
    let (mut sender, mut receiver) = websocket::channels(socket, Framing::of(protocol));
    // An empty message says that the connection stands, on the first channel there is.
    let first = if channels.stdout {
        STDOUT
    } else if channels.stderr {
        STDERR
    } else {
        ERROR
    };
    if !sender.send(first, b"").await {
        return None;
    }
    let (send, from) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        // Once nobody listens any more, the connection goes with this half of it.
        let closed = send.clone();
        let pass = async {
            while let Some(message) = receiver.next().await {
                if send.send(message).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = pass => {}
            () = closed.closed() => {}
        }
    });
    let to = Outputs::WebSocket {
        sender,
        half_close: protocol.starts_with("v5."),
    };
    Some(Client {
        from,
        to,
        status_json: protocol.starts_with("v5.") || protocol.starts_with("v4."),
    })
}

/// A client over SPDY; `None` when it does not open the streams that it wants.
pub(super) async fn over_spdy(mut session: Session, protocol: &str, channels: Channels) -> Option<Client> {
    let resizes = channels.tty && (protocol.starts_with("v4.") || protocol.starts_with("v3."));
    let wanted = [
        (ERROR, "error", true),
        (STDIN, "stdin", channels.stdin),
        (STDOUT, "stdout", channels.stdout),
        (STDERR, "stderr", channels.stderr),
        (RESIZE, "resize", resizes),
    ];
    let expected: Vec<(u8, &str)> = wanted.iter().filter(|w| w.2).map(|w| (w.0, w.1)).collect();
    let gather = gather(&mut session, &expected);
    let streams = tokio::time::timeout(STREAMS_TIMEOUT, gather)
        .await
        .ok()
        .flatten()?;
    let (send, from) = mpsc::channel(WAITING);
    let mut writers = HashMap::new();
    for (channel, stream) in streams {
        writers.insert(channel, stream.writer.clone());
        if matches!(channel, STDIN | RESIZE) {
            tokio::spawn(forward(channel, stream, send.clone()));
        }
    }
    let (done, ended) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        // The sender is held for as long as the client is there: a closed stdin does not end it.
        let _client_is_there = send;
        tokio::select! {
            _ = ended => session.close().await,
            () = async { while session.accept().await.is_some() {} } => {}
        }
    });
    let to = Outputs::Spdy { writers, done };
    Some(Client {
        from,
        to,
        status_json: protocol.starts_with("v4."),
    })
}

/// The streams that the client opens, by channel, once all are there.
async fn gather(session: &mut Session, expected: &[(u8, &str)]) -> Option<HashMap<u8, Stream>> {
    let mut streams = HashMap::new();
    while streams.len() < expected.len() {
        let stream = session.accept().await?;
        let kind = stream.header("streamtype");
        if let Some((channel, _)) = expected.iter().find(|(_, name)| *name == kind) {
            streams.insert(*channel, stream);
        }
    }
    Some(streams)
}

async fn forward(channel: u8, mut stream: Stream, send: mpsc::Sender<(u8, Bytes)>) {
    while let Some(bytes) = stream.received.recv().await {
        if send.send((channel, bytes)).await.is_err() {
            return;
        }
    }
    let _ = send.send((CLOSE, Bytes::copy_from_slice(&[channel]))).await;
}
