//! Writes what a container prints to its log, in CRI format: by the shim for
//! OCI containers, by the agent for those that run in its own process.
//!
//! ```text
//! 2006-01-02T15:04:05.000000000Z stdout F a whole line
//! 2006-01-02T15:04:05.000000001Z stderr P a part of a line that
//! 2006-01-02T15:04:05.000000002Z stderr F  goes on
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::spec::{LogSpec, Stream};

/// A line longer than this is written in parts (as containerd does).
pub const LINE_BYTES_MAX: usize = 16 << 10;

/// One container's log.
#[derive(Debug)]
pub struct Log {
    spec: LogSpec,
    /// None while it is closed.
    file: Option<File>,
    bytes: u64,
    /// Lines whose end has not come yet, by stream.
    pending: [Vec<u8>; 2],
}

impl Log {
    /// Opens the log for appending; makes its folder.
    ///
    /// # Errors
    /// The disk.
    pub fn open(spec: &LogSpec) -> io::Result<Log> {
        if let Some(folder) = spec.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let (file, bytes) = append(&spec.path)?;
        Ok(Log {
            spec: spec.clone(),
            file: Some(file),
            bytes,
            pending: Default::default(),
        })
    }

    /// Takes in what was printed: whole lines are written at once, in one
    /// write, the rest when its line ends.
    ///
    /// # Errors
    /// The disk; what could not be written is lost, what comes next is tried again.
    pub fn write(&mut self, now: Timestamp, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let mut out = Vec::with_capacity(bytes.len() + 64);
        let pending = self.pending(stream);
        // What was pending has no line end in it: a guest may print byte by byte.
        let mut known = pending.len();
        pending.extend_from_slice(bytes);
        let mut rest = pending.as_slice();
        loop {
            let line = rest.iter().take(LINE_BYTES_MAX + 1).skip(known);
            match line.copied().position(|b| b == b'\n').map(|at| known + at) {
                Some(at) => {
                    let (line, after) = rest.split_at(at);
                    entry(&mut out, now, stream, 'F', line);
                    rest = after.get(1..).unwrap_or_default();
                }
                None if rest.len() > LINE_BYTES_MAX => {
                    let (part, after) = rest.split_at(LINE_BYTES_MAX);
                    entry(&mut out, now, stream, 'P', part);
                    rest = after;
                }
                None => break,
            }
            known = 0;
        }
        let done = pending.len() - rest.len();
        pending.drain(..done);
        self.put(&out)
    }

    /// Writes what no line end came for, as a part of a line: the container has ended, and who reads
    /// the log gets no line end that nobody printed.
    ///
    /// # Errors
    /// The disk.
    pub fn finish(&mut self, now: Timestamp) -> io::Result<()> {
        let mut out = Vec::new();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = std::mem::take(self.pending(stream));
            if !rest.is_empty() {
                entry(&mut out, now, stream, 'P', &rest);
            }
        }
        self.put(&out)
    }

    /// Lets go of the file until something is written again: where one process
    /// keeps the logs of thousands, files are scarcer than time.
    pub fn close(&mut self) {
        self.file = None;
    }

    fn pending(&mut self, stream: Stream) -> &mut Vec<u8> {
        let [stdout, stderr] = &mut self.pending;
        match stream {
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
        }
    }

    /// A full log is rotated before it is written to, and in the middle of a
    /// line too: a container that never ends its lines must not fill the disk.
    fn put(&mut self, out: &[u8]) -> io::Result<()> {
        if out.is_empty() {
            return Ok(());
        }
        if self.spec.bytes_max > 0 && self.bytes >= self.spec.bytes_max {
            self.rotate()?;
        }
        self.file()?.write_all(out)?;
        self.bytes += out.len() as u64;
        Ok(())
    }

    fn file(&mut self) -> io::Result<&File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let (file, bytes) = append(&self.spec.path)?;
                self.bytes = bytes;
                file
            }
        };
        Ok(self.file.insert(file))
    }

    /// `PATH` becomes `PATH.1`, that `PATH.2`, the last one goes.
    fn rotate(&mut self) -> io::Result<()> {
        let old = self.spec.files_max.saturating_sub(1).max(1);
        for n in (1..old).rev() {
            let from = rotated(&self.spec.path, n);
            if from.exists() {
                fs::rename(from, rotated(&self.spec.path, n + 1))?;
            }
        }
        fs::rename(&self.spec.path, rotated(&self.spec.path, 1))?;
        self.file = None;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(path)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

/// The `n`th rotated file of a log, the youngest being 1.
pub fn rotated(path: &Path, n: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    PathBuf::from(name)
}

fn entry(out: &mut Vec<u8>, now: Timestamp, stream: Stream, tag: char, text: &[u8]) {
    let name = match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    out.extend_from_slice(format!("{now:.9} {name} {tag} ").as_bytes());
    out.extend_from_slice(text);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn open(path: &Path, bytes_max: u64) -> Log {
        let spec = LogSpec {
            path: path.to_owned(),
            bytes_max,
            files_max: 3,
        };
        Log::open(&spec).unwrap()
    }

    /// What the log holds, without the times.
    fn texts(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| line.split_once(' ').unwrap().1.to_owned())
            .collect()
    }

    #[test]
    fn lines_are_stamped_and_parts_are_joined() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made/0.log");
        let mut log = open(&path, 0);
        log.write(NOW, Stream::Stdout, b"one\ntw").unwrap();
        log.write(NOW, Stream::Stderr, b"bad\n").unwrap();
        log.write(NOW, Stream::Stdout, b"o\n\nrest").unwrap();
        log.finish(NOW).unwrap();
        assert_eq!(
            texts(&path),
            [
                "stdout F one",
                "stderr F bad",
                "stdout F two",
                "stdout F ",
                "stdout P rest"
            ]
        );
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("1970-01-01T00:00:00.000000000Z stdout F one\n"),
            "{text}"
        );
    }

    #[test]
    fn a_long_line_comes_in_parts_however_it_is_printed() {
        let mut line = vec![b'x'; LINE_BYTES_MAX + 5];
        line.push(b'\n');
        for cut in [line.len(), LINE_BYTES_MAX, LINE_BYTES_MAX + 5, 1] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("0.log");
            let mut log = open(&path, 0);
            for piece in line.chunks(cut.max(64)) {
                log.write(NOW, Stream::Stdout, piece).unwrap();
            }
            let lines = texts(&path);
            assert_eq!(lines.len(), 2, "{cut}");
            assert!(lines[0].starts_with("stdout P xxx"), "{cut}");
            assert_eq!(lines[1], "stdout F xxxxx", "{cut}");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut fits = vec![b'x'; LINE_BYTES_MAX];
        fits.push(b'\n');
        open(&path, 0).write(NOW, Stream::Stdout, &fits).unwrap();
        assert!(texts(&path)[0].starts_with("stdout F xxx"));
    }

    #[test]
    fn a_full_log_is_rotated_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = open(&path, 1);
        for n in 0..4 {
            log.write(NOW, Stream::Stdout, format!("{n}\n").as_bytes())
                .unwrap();
        }
        assert_eq!(texts(&path), ["stdout F 3"]);
        assert_eq!(texts(&rotated(&path, 1)), ["stdout F 2"]);
        assert_eq!(texts(&rotated(&path, 2)), ["stdout F 1"]);
        assert!(!rotated(&path, 3).exists());
    }

    #[test]
    fn a_closed_log_opens_again_where_it_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = open(&path, 60);
        log.write(NOW, Stream::Stdout, b"one\n").unwrap();
        log.close();
        log.write(NOW, Stream::Stdout, b"two\n").unwrap();
        assert_eq!(texts(&path), ["stdout F one", "stdout F two"]);
        log.close();
        log.write(NOW, Stream::Stdout, b"three\n").unwrap();
        assert_eq!(texts(&path), ["stdout F three"]);
    }

    #[test]
    fn a_log_without_line_ends_is_rotated_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = open(&path, 1);
        for _ in 0..3 {
            log.write(NOW, Stream::Stdout, &[b'x'; LINE_BYTES_MAX + 1])
                .unwrap();
        }
        assert!(rotated(&path, 2).exists());
    }
}
