//! What the agent and a pod's shim say to each other, over a unix socket.
//!
//! A connection carries one request. Both sides send frames: a kind (1 byte),
//! a length (4 bytes, big endian), the payload. A request and its reply are
//! frames of JSON; after a reply to exec or attach, the connection carries the
//! process' streams until it has ended.

use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::spec::{ContainerSpec, ExecSpec, Exit, Found, OciError};

/// Version of this protocol; an agent that was upgraded may meet an older shim.
pub(crate) const VERSION: u32 = 1;

/// Longest frame; a longer one is nonsense.
const FRAME_MAX: usize = 16 << 20;

/// A request to the shim.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Which protocol do you speak?
    Hello,
    /// Prepare a container; `layers` are its unpacked layers, lowest first.
    Create {
        spec: Box<ContainerSpec>,
        layers: Vec<PathBuf>,
    },
    /// Let it run.
    Start { id: String },
    /// Send a signal to its main process.
    Signal { id: String, signal: i32, all: bool },
    /// Answer when it has ended.
    Wait { id: String },
    /// Forget it; it has ended.
    Remove { id: String },
    /// What is there?
    List,
    /// Run a process in it.
    Exec { id: String, spec: ExecSpec },
    /// Join its streams.
    Attach { id: String, stdin: bool },
    /// End, after killing what is left.
    Shutdown,
}

/// The shim's reply.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Hello {
        version: u32,
    },
    Done,
    Started {
        at: jiff::Timestamp,
    },
    Ended(Exit),
    List(Vec<Found>),
    /// The streams follow.
    Streams,
}

/// Kinds of frames.
pub(crate) mod kind {
    /// JSON: a request or a reply.
    pub(crate) const MESSAGE: u8 = 0;
    /// Bytes for standard input; empty closes it.
    pub(crate) const STDIN: u8 = 1;
    /// Bytes from standard output.
    pub(crate) const STDOUT: u8 = 2;
    /// Bytes from standard error.
    pub(crate) const STDERR: u8 = 3;
    /// JSON: a new size of the terminal.
    pub(crate) const RESIZE: u8 = 4;
    /// JSON: the exit code; nothing follows.
    pub(crate) const EXIT: u8 = 5;
}

/// A reply, or what went wrong.
pub(crate) type Result<T> = std::result::Result<T, OciError>;

/// Sends one frame.
pub(crate) async fn send(to: &mut (impl AsyncWrite + Unpin), kind: u8, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    let mut head = [kind, 0, 0, 0, 0];
    head[1..].copy_from_slice(&length.to_be_bytes());
    to.write_all(&head).await?;
    to.write_all(payload).await?;
    to.flush().await
}

/// Sends one JSON frame.
pub(crate) async fn send_json(
    to: &mut (impl AsyncWrite + Unpin),
    kind: u8,
    message: &impl Serialize,
) -> io::Result<()> {
    send(to, kind, &serde_json::to_vec(message)?).await
}

/// Receives one frame; `None` at the end.
pub(crate) async fn receive(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<(u8, Bytes)>> {
    let mut head = [0; 5];
    match from.read_exact(&mut head).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let [kind, a, b, c, d] = head;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > FRAME_MAX {
        return Err(io::Error::other("frame too long"));
    }
    let mut payload = vec![0; length];
    from.read_exact(&mut payload).await?;
    Ok(Some((kind, payload.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_come_back_as_they_went() {
        let (mut a, mut b) = tokio::io::duplex(64);
        let sent = tokio::spawn(async move {
            send_json(&mut a, kind::MESSAGE, &Ask::Start { id: "x".into() })
                .await
                .unwrap();
            send(&mut a, kind::STDIN, b"").await.unwrap();
        });
        let (what, payload) = receive(&mut b).await.unwrap().unwrap();
        assert_eq!(what, kind::MESSAGE);
        assert!(matches!(serde_json::from_slice(&payload).unwrap(), Ask::Start { id } if id == "x"));
        assert_eq!(
            receive(&mut b).await.unwrap().unwrap(),
            (kind::STDIN, Bytes::new())
        );
        sent.await.unwrap();
        assert!(receive(&mut b).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_frame_of_nonsense_length_is_refused() {
        let mut bytes: &[u8] = &[0, 0xff, 0xff, 0xff, 0xff];
        assert!(receive(&mut bytes).await.is_err());
    }
}
