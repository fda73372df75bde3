//! Writes what Wasm guests print.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base::Clock;
use bytes::Bytes;
use oci::{Chunk, Stream};
use tokio::sync::mpsc;

use super::rotated;

/// A line that grows beyond this is written in pieces (as containerd does).
const LINE_BYTES_MAX: usize = 16 * 1024;
/// Chunks that wait for a slow attached client before it loses some.
const ATTACHED_CHUNKS_MAX: usize = 256;

/// One container's log, open for writing. Shared by its two outputs.
pub struct LogWriter {
    path: PathBuf,
    bytes_max: u64,
    files_max: u32,
    clock: Arc<dyn Clock>,
    // A std mutex: nothing awaits while it is held, and guests write from their own threads.
    state: Mutex<State>,
}

struct State {
    file: File,
    size: u64,
    partial: [Vec<u8>; 2],
    attached: Vec<mpsc::Sender<Chunk>>,
    failed: bool,
}

impl LogWriter {
    /// Opens the log for appending.
    ///
    /// # Errors
    /// The disk.
    pub fn open(path: &Path, bytes_max: u64, files_max: u32, clock: Arc<dyn Clock>) -> io::Result<LogWriter> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let file = append(path)?;
        let size = file.metadata()?.len();
        let (partial, attached, failed) = Default::default();
        let state = Mutex::new(State {
            file,
            size,
            partial,
            attached,
            failed,
        });
        Ok(LogWriter {
            path: path.to_owned(),
            bytes_max,
            files_max,
            clock,
            state,
        })
    }

    /// Writes what the guest printed: whole lines at once, the rest when its line ends.
    pub fn write(&self, stream: Stream, bytes: &[u8]) {
        let mut state = self.lock();
        state.tell(stream, bytes);
        let mut partial = std::mem::take(state.slot(stream));
        let now = self.now();
        let mut out = Vec::with_capacity(bytes.len() + 64);
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            partial.extend_from_slice(piece);
            if let Some(line) = partial.strip_suffix(b"\n") {
                entry(&mut out, &now, stream, 'F', line);
                partial.clear();
            }
            while partial.len() >= LINE_BYTES_MAX {
                let rest = partial.split_off(LINE_BYTES_MAX);
                entry(&mut out, &now, stream, 'P', &partial);
                partial = rest;
            }
        }
        *state.slot(stream) = partial;
        self.put(&mut state, &out);
    }

    /// Writes unfinished lines: the guest has ended.
    pub fn finish(&self) {
        let mut state = self.lock();
        let now = self.now();
        let mut out = Vec::new();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = std::mem::take(state.slot(stream));
            if !rest.is_empty() {
                entry(&mut out, &now, stream, 'F', &rest);
            }
        }
        state.attached.clear();
        self.put(&mut state, &out);
    }

    /// What is printed from now on, until the end or until the receiver goes.
    pub fn attach(&self) -> mpsc::Receiver<Chunk> {
        let (sender, receiver) = mpsc::channel(ATTACHED_CHUNKS_MAX);
        self.lock().attached.push(sender);
        receiver
    }

    fn now(&self) -> String {
        format!("{:.9}", self.clock.now())
    }

    fn put(&self, state: &mut State, out: &[u8]) {
        if out.is_empty() {
            return;
        }
        let result = self
            .rotate_if_full(state)
            .and_then(|()| state.file.write_all(out));
        match result {
            Ok(()) => (state.size, state.failed) = (state.size + out.len() as u64, false),
            // A full disk must not stop the guest, nor flood our own log.
            Err(error) if !state.failed => {
                state.failed = true;
                tracing::warn!(path = %self.path.display(), %error, "a container's log cannot be written");
            }
            Err(_) => {}
        }
    }

    fn rotate_if_full(&self, state: &mut State) -> io::Result<()> {
        if state.size < self.bytes_max {
            return Ok(());
        }
        for n in (1..self.files_max).rev() {
            let from = if n == 1 {
                self.path.clone()
            } else {
                rotated(&self.path, n - 1)
            };
            if from.exists() {
                fs::rename(from, rotated(&self.path, n))?;
            }
        }
        state.file = append(&self.path)?;
        state.size = 0;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn slot(&mut self, stream: Stream) -> &mut Vec<u8> {
        let [out, err] = &mut self.partial;
        match stream {
            Stream::Stdout => out,
            Stream::Stderr => err,
        }
    }

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

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(path)
}

fn entry(out: &mut Vec<u8>, now: &str, stream: Stream, tag: char, text: &[u8]) {
    let name = match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    out.extend_from_slice(format!("{now} {name} {tag} ").as_bytes());
    out.extend_from_slice(text);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use base::ManualClock;

    use super::*;

    fn open(dir: &Path, bytes_max: u64) -> LogWriter {
        LogWriter::open(&dir.join("0.log"), bytes_max, 3, Arc::new(ManualClock::default())).unwrap()
    }

    #[test]
    fn lines_and_pieces() {
        let temp = tempfile::tempdir().unwrap();
        let log = open(temp.path(), 1 << 20);
        log.write(Stream::Stdout, b"one\ntw");
        log.write(Stream::Stderr, b"err\n");
        log.write(Stream::Stdout, b"o\n\nlast");
        log.finish();
        let text = fs::read_to_string(temp.path().join("0.log")).unwrap();
        let t = "1970-01-01T00:00:00.000000000Z";
        let expected = format!(
            "{t} stdout F one\n{t} stderr F err\n{t} stdout F two\n{t} stdout F \n{t} stdout F last\n"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn long_lines_are_cut_in_pieces() {
        let temp = tempfile::tempdir().unwrap();
        let log = open(temp.path(), 1 << 20);
        let mut line = vec![b'x'; LINE_BYTES_MAX + 10];
        line.push(b'\n');
        log.write(Stream::Stdout, &line[..LINE_BYTES_MAX + 5]);
        log.write(Stream::Stdout, &line[LINE_BYTES_MAX + 5..]);
        let text = fs::read_to_string(temp.path().join("0.log")).unwrap();
        let tags: Vec<&str> = text.lines().map(|l| l.split(' ').nth(2).unwrap()).collect();
        assert_eq!(tags, ["P", "F"]);
    }

    #[test]
    fn rotation_keeps_the_youngest() {
        let temp = tempfile::tempdir().unwrap();
        let log = open(temp.path(), 100);
        for n in 0..20 {
            log.write(Stream::Stdout, format!("line {n}\n").as_bytes());
        }
        let mut names: Vec<String> = fs::read_dir(temp.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["0.log", "0.log.1", "0.log.2"]);
        let newest = fs::read_to_string(temp.path().join("0.log")).unwrap();
        assert!(newest.ends_with("line 19\n"));
    }

    #[tokio::test]
    async fn attached_clients_hear_what_is_printed() {
        let temp = tempfile::tempdir().unwrap();
        let log = open(temp.path(), 100);
        log.write(Stream::Stdout, b"before\n");
        let mut attached = log.attach();
        log.write(Stream::Stderr, b"now");
        log.finish();
        let chunk = attached.recv().await.unwrap();
        assert_eq!((chunk.stream, &chunk.bytes[..]), (Stream::Stderr, &b"now"[..]));
        assert!(attached.recv().await.is_none());
    }
}
