//! Talking with a pod's shim over its socket.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use super::places::io;
use crate::protocol::{self, Answer, Ask, kind};
use crate::spec::{Chunk, OciError, Process, Stream};

/// What to make of an answer to another question.
pub(super) fn unexpected(answer: &Answer) -> OciError {
    OciError::Shim(format!("answered {answer:?}, which was not asked"))
}

fn lost(error: std::io::Error) -> OciError {
    OciError::Shim(error.to_string())
}

/// Why the shim could not be asked. Only when nobody is behind the socket it is gone; that this process is
/// short of something, such as files it may open, says nothing about it.
fn unreachable_shim(error: std::io::Error) -> OciError {
    match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => lost(error),
        _ => io("asking the shim")(error),
    }
}

/// The socket that a shim is given as its standard input: it can be asked from
/// the first moment, and answers as soon as it can.
pub(super) fn bind(path: &Path) -> std::io::Result<UnixListener> {
    // What is there belongs to a shim that is gone.
    base::files::absent_is_fine(fs::remove_file(path))?;
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Sends one request and reads its reply.
pub(super) async fn ask(dir: &Path, request: &Ask) -> Result<Answer, OciError> {
    converse(dir, request).await.map(|(answer, _)| answer)
}

async fn converse(dir: &Path, request: &Ask) -> Result<(Answer, UnixStream), OciError> {
    let socket = dir.join("shim.sock");
    let mut stream = UnixStream::connect(socket).await.map_err(unreachable_shim)?;
    protocol::send_json(&mut stream, kind::MESSAGE, request)
        .await
        .map_err(lost)?;
    let reply = protocol::receive(&mut stream).await.map_err(lost)?;
    let Some((kind::MESSAGE, payload)) = reply else {
        return Err(OciError::Shim("hung up".to_owned()));
    };
    let answer: protocol::Result<Answer> =
        serde_json::from_slice(&payload).map_err(|error| OciError::Shim(error.to_string()))?;
    answer.map(|answer| (answer, stream))
}

/// Starts something with streams and connects them to channels.
pub(super) async fn streams(dir: &Path, request: &Ask, stdin: bool) -> Result<Process, OciError> {
    let (answer, stream) = converse(dir, request).await?;
    if !matches!(answer, Answer::Streams) {
        return Err(unexpected(&answer));
    }
    let (from, to) = stream.into_split();
    let (stdin_in, stdin_out) = mpsc::channel(16);
    let (resize_in, resize_out) = mpsc::channel(4);
    let (output_in, output_out) = mpsc::channel(16);
    let (exit_in, exit_out) = oneshot::channel();
    let writer = tokio::spawn(write(to, stdin_out, resize_out));
    tokio::spawn(async move {
        let exit = read(from, output_in).await;
        writer.abort();
        // Whoever no longer waits for the code has dropped the process.
        let _ = exit_in.send(exit);
    });
    Ok(Process {
        stdin: stdin.then_some(stdin_in),
        output: output_out,
        resize: resize_in,
        exit: exit_out,
    })
}

async fn write(
    mut to: OwnedWriteHalf,
    mut stdin: mpsc::Receiver<bytes::Bytes>,
    mut resize: mpsc::Receiver<crate::spec::WindowSize>,
) -> std::io::Result<()> {
    let (mut stdin_open, mut resize_open) = (true, true);
    while stdin_open || resize_open {
        tokio::select! {
            bytes = stdin.recv(), if stdin_open => match bytes {
                Some(bytes) if bytes.is_empty() => {}
                Some(bytes) => protocol::send(&mut to, kind::STDIN, &bytes).await?,
                None => {
                    stdin_open = false;
                    protocol::send(&mut to, kind::STDIN, &[]).await?;
                }
            },
            size = resize.recv(), if resize_open => match size {
                Some(size) => protocol::send_json(&mut to, kind::RESIZE, &size).await?,
                None => resize_open = false,
            },
        }
    }
    // The write side stays open: closing it would tell the shim that the caller has gone.
    std::future::pending().await
}

async fn read(mut from: OwnedReadHalf, output: mpsc::Sender<Chunk>) -> Result<i32, OciError> {
    loop {
        let Some((what, bytes)) = protocol::receive(&mut from).await.map_err(lost)? else {
            return Err(OciError::Shim("hung up".to_owned()));
        };
        let stream = match what {
            kind::STDOUT => Stream::Stdout,
            kind::STDERR => Stream::Stderr,
            kind::EXIT => {
                return serde_json::from_slice(&bytes).map_err(|error| OciError::Shim(error.to_string()));
            }
            _ => continue,
        };
        if output.send(Chunk { stream, bytes }).await.is_err() {
            return Err(OciError::Shim("nobody listens any more".to_owned()));
        }
    }
}
