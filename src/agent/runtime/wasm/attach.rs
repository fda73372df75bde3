//! The streams of a container that runs.

use std::sync::Arc;

use ::oci::Process;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, oneshot};

use super::WasmRuntime;
use crate::runtime::RuntimeError;

/// What a guest has not read yet of its standard input.
pub(super) const STDIN_BUFFER_BYTES: usize = 64 * 1024;

impl WasmRuntime {
    /// Joins them.
    pub(super) fn join_streams(&self, id: &str, stdin: bool) -> Result<Process, RuntimeError> {
        let mut started = self.containers.started(id)?;
        let output = started.log.attach();
        let (exit_sender, exit) = oneshot::channel();
        let (resize, _) = mpsc::channel(1);
        tokio::spawn(async move {
            let end = started.end.wait_for(Option::is_some).await;
            let code = end.ok().and_then(|end| end.as_ref().map(|e| e.code)).unwrap_or(0);
            let _ = exit_sender.send(Ok(code));
        });
        let once = self
            .containers
            .lock()
            .containers
            .get(id)
            .is_some_and(|c| c.origin.launch.stdin_once);
        let input = match stdin {
            true => Some(feed(self.containers.started(id)?.stdin, once)),
            false => None,
        };
        Ok(Process {
            stdin: input,
            output,
            resize,
            exit,
        })
    }
}

/// A channel into a guest's standard input; if that is for one client only, it ends when the channel's sender goes.
fn feed(stdin: Arc<tokio::sync::Mutex<Option<DuplexStream>>>, once: bool) -> mpsc::Sender<bytes::Bytes> {
    let (sender, mut receiver) = mpsc::channel::<bytes::Bytes>(16);
    tokio::spawn(async move {
        let mut stdin = stdin.lock().await;
        while let Some(bytes) = receiver.recv().await {
            let Some(pipe) = stdin.as_mut() else { return };
            if pipe.write_all(&bytes).await.is_err() {
                *stdin = None;
            }
        }
        if once {
            *stdin = None;
        }
    });
    sender
}
