//! Writes what a container prints to its log, in CRI format:
//! `2006-01-02T15:04:05.000000000Z stdout F text`, `P` for a part of a line.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::spec::{LogSpec, Stream};

/// A line longer than this is written in parts.
const LINE_MAX: usize = 16 << 10;

/// An open log.
pub(super) struct Log {
    spec: LogSpec,
    file: File,
    bytes: u64,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Log {
    /// Opens the log for appending.
    pub(super) fn open(spec: &LogSpec) -> io::Result<Self> {
        if let Some(folder) = spec.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let (file, bytes) = append(&spec.path)?;
        Ok(Self {
            spec: spec.clone(),
            file,
            bytes,
            stdout: Vec::new(),
            stderr: Vec::new(),
        })
    }

    /// Takes in what was printed; whole lines are written at once, in one write each.
    pub(super) fn write(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let mut pending = std::mem::take(self.pending(stream));
        pending.extend_from_slice(bytes);
        let mut rest = pending.as_slice();
        let mut result = Ok(());
        while result.is_ok() {
            let end = rest.iter().take(LINE_MAX).position(|b| *b == b'\n');
            result = match end {
                Some(at) => {
                    let (line, after) = rest.split_at(at);
                    rest = after.get(1..).unwrap_or_default();
                    self.line(stream, b'F', line)
                }
                None if rest.len() >= LINE_MAX => {
                    let (part, after) = rest.split_at(LINE_MAX);
                    rest = after;
                    self.line(stream, b'P', part)
                }
                None => break,
            };
        }
        *self.pending(stream) = rest.to_vec();
        result
    }

    /// Writes what no line end came for.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = std::mem::take(self.pending(stream));
            if !rest.is_empty() {
                self.line(stream, b'F', &rest)?;
            }
        }
        Ok(())
    }

    fn pending(&mut self, stream: Stream) -> &mut Vec<u8> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    fn line(&mut self, stream: Stream, tag: u8, text: &[u8]) -> io::Result<()> {
        let name = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%9fZ");
        let mut line = format!("{now} {name} {} ", char::from(tag)).into_bytes();
        line.extend_from_slice(text);
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.bytes += line.len() as u64;
        if tag == b'F' && self.spec.bytes_max > 0 && self.bytes >= self.spec.bytes_max {
            self.rotate()?;
        }
        Ok(())
    }

    /// `PATH` becomes `PATH.1`, that `PATH.2`, the last one goes.
    fn rotate(&mut self) -> io::Result<()> {
        let old = self.spec.files_max.saturating_sub(1).max(1);
        for n in (1..old).rev() {
            let from = numbered(&self.spec.path, n);
            if from.exists() {
                fs::rename(from, numbered(&self.spec.path, n + 1))?;
            }
        }
        fs::rename(&self.spec.path, numbered(&self.spec.path, 1))?;
        (self.file, self.bytes) = append(&self.spec.path)?;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

fn numbered(path: &Path, n: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| line.split_once(' ').unwrap().1.to_owned())
            .collect()
    }

    #[test]
    fn lines_are_stamped_and_parts_are_joined() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = Log::open(&LogSpec {
            path: path.clone(),
            bytes_max: 0,
            files_max: 5,
        })
        .unwrap();
        log.write(Stream::Stdout, b"one\ntw").unwrap();
        log.write(Stream::Stderr, b"bad\n").unwrap();
        log.write(Stream::Stdout, b"o\nrest").unwrap();
        log.finish().unwrap();
        assert_eq!(
            texts(&path),
            ["stdout F one", "stderr F bad", "stdout F two", "stdout F rest"]
        );
        let stamp = fs::read_to_string(&path).unwrap();
        let stamp = stamp.split(' ').next().unwrap();
        assert_eq!(stamp.len(), "2006-01-02T15:04:05.000000000Z".len(), "{stamp}");
        assert!(stamp.parse::<jiff::Timestamp>().is_ok());
    }

    #[test]
    fn a_long_line_comes_in_parts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = Log::open(&LogSpec {
            path: path.clone(),
            bytes_max: 0,
            files_max: 5,
        })
        .unwrap();
        log.write(Stream::Stdout, &[b'x'; LINE_MAX + 5]).unwrap();
        log.write(Stream::Stdout, b"\n").unwrap();
        let lines = texts(&path);
        assert!(lines[0].starts_with("stdout P xxx"));
        assert_eq!(lines[1], "stdout F xxxxx");
    }

    #[test]
    fn a_full_log_is_rotated_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = Log::open(&LogSpec {
            path: path.clone(),
            bytes_max: 1,
            files_max: 3,
        })
        .unwrap();
        for n in 0..4 {
            log.write(Stream::Stdout, format!("{n}\n").as_bytes()).unwrap();
        }
        assert_eq!(texts(&numbered(&path, 1)), ["stdout F 3"]);
        assert_eq!(texts(&numbered(&path, 2)), ["stdout F 2"]);
        assert!(!numbered(&path, 3).exists());
    }
}
