//! Writes what Wasm guests print, and passes it on to who has attached.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base::Clock;
use bytes::Bytes;
use oci::log::Log;
use oci::{Chunk, LogSpec, Stream};
use tokio::sync::mpsc;

/// Chunks that wait for a slow attached client before it loses some.
const ATTACHED_CHUNKS_MAX: usize = 256;

/// One container's log. Shared by its two outputs.
pub struct LogWriter {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    // A std mutex: nothing awaits while it is held, and guests write from their own threads.
    state: Mutex<State>,
}

struct State {
    log: Log,
    attached: Vec<mpsc::Sender<Chunk>>,
    failed: bool,
}

impl LogWriter {
    /// Makes the log. Its file is open only while something is written: a node
    /// has thousands of guests, and most of them are silent.
    ///
    /// # Errors
    /// The disk.
    pub fn open(spec: &LogSpec, clock: Arc<dyn Clock>) -> io::Result<LogWriter> {
        let mut log = Log::open(spec)?;
        log.close();
        let state = State {
            log,
            attached: Vec::new(),
            failed: false,
        };
        Ok(LogWriter {
            path: spec.path.clone(),
            clock,
            state: Mutex::new(state),
        })
    }

    /// Writes what the guest printed: whole lines at once, the rest when its line ends.
    pub fn write(&self, stream: Stream, bytes: &[u8]) {
        let mut state = self.lock();
        state.tell(stream, bytes);
        let written = state.log.write(self.clock.now(), stream, bytes);
        state.log.close();
        self.note(&mut state, written);
    }

    /// Writes unfinished lines: the guest has ended.
    pub fn finish(&self) {
        let mut state = self.lock();
        state.attached.clear();
        let written = state.log.finish(self.clock.now());
        state.log.close();
        self.note(&mut state, written);
    }

    /// What is printed from now on, until the end or until the receiver goes.
    pub fn attach(&self) -> mpsc::Receiver<Chunk> {
        let (sender, receiver) = mpsc::channel(ATTACHED_CHUNKS_MAX);
        self.lock().attached.push(sender);
        receiver
    }

    /// A full disk must not stop the guest, nor flood our own log.
    fn note(&self, state: &mut State, written: io::Result<()>) {
        if let Err(error) = &written
            && !state.failed
        {
            tracing::warn!(path = %self.path.display(), %error, "a container's log cannot be written");
        }
        state.failed = written.is_err();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn tell(&mut self, stream: Stream, bytes: &[u8]) {
        if self.attached.is_empty() {
            return;
        }
        let bytes = Bytes::copy_from_slice(bytes);
        self.attached.retain(|client| {
            let sent = client.try_send(Chunk {
                stream,
                bytes: bytes.clone(),
            });
            !matches!(sent, Err(mpsc::error::TrySendError::Closed(_)))
        });
    }
}

#[cfg(test)]
mod tests {
    use base::ManualClock;

    use super::*;

    #[tokio::test]
    async fn attached_clients_hear_what_is_printed() {
        let temp = tempfile::tempdir().unwrap();
        let spec = LogSpec {
            path: temp.path().join("0.log"),
            bytes_max: 100,
            files_max: 3,
        };
        let log = LogWriter::open(&spec, Arc::new(ManualClock::default())).unwrap();
        log.write(Stream::Stdout, b"before\n");
        let mut attached = log.attach();
        log.write(Stream::Stderr, b"now");
        log.finish();
        let chunk = attached.recv().await.unwrap();
        assert_eq!((chunk.stream, &chunk.bytes[..]), (Stream::Stderr, &b"now"[..]));
        assert!(attached.recv().await.is_none());
        let text = std::fs::read_to_string(&spec.path).unwrap();
        let t = "1970-01-01T00:00:00.000000000Z";
        assert_eq!(text, format!("{t} stdout F before\n{t} stderr P now\n"));
    }
}
