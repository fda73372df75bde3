//! Reads logs for `kubectl logs`: tail, since, timestamps, limit, follow, across rotated files.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc;

/// How often a followed log is looked at. Only while somebody follows.
const FOLLOW_EVERY: Duration = Duration::from_millis(100);
const BLOCK_BYTES: usize = 64 * 1024;

/// What is wanted of a log (`PodLogOptions`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogOptions {
    /// Go on as the log grows.
    pub follow: bool,
    /// The run before the current one.
    pub previous: bool,
    /// Only so many last lines.
    pub tail_lines: Option<u64>,
    /// Only what was printed since then.
    pub since: Option<Timestamp>,
    /// Each line with its time before it.
    pub timestamps: bool,
    /// Only so many bytes.
    pub limit_bytes: Option<u64>,
}

/// Sends a log's text to `out` until its end, or while it grows and `alive`
/// says that there is more to come, or until the receiver goes.
///
/// # Errors
/// The disk.
pub async fn stream(
    path: PathBuf,
    options: LogOptions,
    alive: impl Fn() -> bool + Send,
    out: mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    let follow = options.follow;
    let mut reader = blocking(move || Reader::open(&path, options)).await?;
    loop {
        // Asked before reading: what is printed between the reading and the end is still read.
        let more_to_come = follow && alive();
        loop {
            let (back, text) = blocking(move || reader.read().map(|text| (reader, text))).await?;
            reader = back;
            let Some(text) = text else { break };
            if !text.is_empty() && out.send(Ok(text)).await.is_err() {
                return Ok(());
            }
        }
        if !more_to_come || reader.exhausted() {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(FOLLOW_EVERY) => {}
            () = out.closed() => return Ok(()),
        }
    }
}

/// The last bytes of what a log holds under these options.
///
/// # Errors
/// The disk.
pub fn last_text(path: &Path, options: LogOptions, bytes_max: usize) -> io::Result<String> {
    let mut reader = Reader::open(path, options)?;
    let mut text = Vec::new();
    while let Some(piece) = reader.read()? {
        text.extend_from_slice(&piece);
        let extra = text.len().saturating_sub(bytes_max);
        text.drain(..extra);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}

struct Reader {
    path: PathBuf,
    options: LogOptions,
    /// Rotated files still to be read, oldest first.
    older: VecDeque<PathBuf>,
    /// None: the log does not exist yet.
    current: Option<File>,
    /// An entry of which only the beginning has been read.
    rest: Vec<u8>,
    /// Whether the next entry of a stream begins a line.
    line_starts: [bool; 2],
    sent: u64,
}

impl Reader {
    fn open(path: &Path, options: LogOptions) -> io::Result<Reader> {
        let mut reader = Reader {
            path: path.to_owned(),
            older: older(path).into(),
            current: None,
            rest: Vec::new(),
            line_starts: [true; 2],
            sent: 0,
            options,
        };
        match reader.options.tail_lines {
            Some(lines) => reader.seek_tail(lines)?,
            None => reader.next_file()?,
        }
        Ok(reader)
    }

    /// Whether the limit has been reached.
    fn exhausted(&self) -> bool {
        self.options.limit_bytes.is_some_and(|limit| self.sent >= limit)
    }

    /// Opens the next older file, or the log itself.
    fn next_file(&mut self) -> io::Result<()> {
        self.current = match self.older.pop_front() {
            Some(path) => open_if_there(&path)?,
            None => open_if_there(&self.path)?,
        };
        Ok(())
    }

    /// Places itself before the last `lines` entries.
    fn seek_tail(&mut self, lines: u64) -> io::Result<()> {
        let mut wanted = lines;
        let mut files: Vec<PathBuf> = self.older.drain(..).collect();
        files.push(self.path.clone());
        let mut skipped = VecDeque::new();
        while let Some(path) = files.pop() {
            let Some(mut file) = open_if_there(&path)? else {
                continue;
            };
            let (offset, found) = tail_offset(&mut file, wanted)?;
            if found == wanted || files.is_empty() {
                file.seek(SeekFrom::Start(offset))?;
                self.current = Some(file);
                break;
            }
            wanted -= found;
            skipped.push_front(path);
        }
        // The log itself is always read last, by its name.
        skipped.retain(|path| *path != self.path);
        self.older = skipped;
        Ok(())
    }

    /// The next piece of text; `None` when there is no more for now.
    fn read(&mut self) -> io::Result<Option<Bytes>> {
        if self.exhausted() {
            return Ok(None);
        }
        if self.current.is_none() {
            self.next_file()?;
        }
        let Some(file) = &mut self.current else {
            return Ok(None);
        };
        let mut block = vec![0; BLOCK_BYTES];
        let n = file.read(&mut block)?;
        if n == 0 {
            return self.at_end();
        }
        let mut text = Vec::with_capacity(n);
        let mut entries = std::mem::take(&mut self.rest);
        entries.extend_from_slice(block.get(..n).unwrap_or_default());
        let whole = entries.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        self.rest = entries.split_off(whole);
        for entry in entries.split_inclusive(|b| *b == b'\n') {
            self.render(entry, &mut text);
        }
        if let Some(limit) = self.options.limit_bytes {
            text.truncate(usize::try_from(limit - self.sent).unwrap_or(usize::MAX));
        }
        self.sent += text.len() as u64;
        Ok(Some(Bytes::from(text)))
    }

    /// At the end of a file: goes on with the next one if there is one.
    fn at_end(&mut self) -> io::Result<Option<Bytes>> {
        let read_by_name = self.older.is_empty();
        let here = self
            .current
            .as_ref()
            .map(File::metadata)
            .transpose()?
            .map(|m| m.ino());
        let there = std::fs::metadata(&self.path).ok().map(|m| m.ino());
        if !read_by_name || (there.is_some() && there != here) {
            self.next_file()?;
            return Ok(Some(Bytes::new()));
        }
        Ok(None)
    }

    fn render(&mut self, entry: &[u8], out: &mut Vec<u8>) {
        let Some(parsed) = Entry::parse(entry) else { return };
        let [stdout, stderr] = &mut self.line_starts;
        let line_starts = if parsed.stderr { stderr } else { stdout };
        let begins = std::mem::replace(line_starts, parsed.full);
        if let Some(since) = self.options.since
            && parsed.time.parse::<Timestamp>().is_ok_and(|time| time < since)
        {
            return;
        }
        if self.options.timestamps && begins {
            out.extend_from_slice(parsed.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(parsed.text);
        if parsed.full {
            out.push(b'\n');
        }
    }
}

struct Entry<'a> {
    time: &'a str,
    stderr: bool,
    full: bool,
    text: &'a [u8],
}

impl<'a> Entry<'a> {
    fn parse(line: &'a [u8]) -> Option<Entry<'a>> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let mut parts = line.splitn(4, |b| *b == b' ');
        let time = std::str::from_utf8(parts.next()?).ok()?;
        let stream = parts.next()?;
        let tags = parts.next()?;
        let text = parts.next().unwrap_or_default();
        Some(Entry {
            time,
            stderr: stream == b"stderr",
            full: !tags.starts_with(b"P"),
            text,
        })
    }
}

/// The rotated files of a log that are there, the oldest first. (How many were
/// kept may have been set otherwise when they were written.)
fn older(path: &Path) -> Vec<PathBuf> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let prefix = format!("{}.", path.file_name().unwrap_or_default().to_string_lossy());
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let numbered = entries.filter_map(|entry| {
        let name = entry.file_name();
        let number: u32 = name.to_str()?.strip_prefix(&prefix)?.parse().ok()?;
        Some((number, entry.path()))
    });
    let mut found: Vec<(u32, PathBuf)> = numbered.collect();
    found.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    found.into_iter().map(|(_, path)| path).collect()
}

fn open_if_there(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where the last `lines` lines of a file begin, and how many there really are.
fn tail_offset(file: &mut File, lines: u64) -> io::Result<(u64, u64)> {
    let mut at = file.metadata()?.len();
    if lines == 0 {
        return Ok((at, 0));
    }
    let mut found = 0;
    let mut block = vec![0; BLOCK_BYTES];
    let end = at;
    while at > 0 {
        let size = at.min(BLOCK_BYTES as u64);
        at -= size;
        file.seek(SeekFrom::Start(at))?;
        let part = block.get_mut(..size as usize).unwrap_or_default();
        file.read_exact(part)?;
        for (index, byte) in part.iter().enumerate().rev() {
            let position = at + index as u64;
            // The newline at the very end belongs to the last line.
            if *byte == b'\n' && position + 1 != end {
                found += 1;
                if found == lines {
                    return Ok((position + 1, lines));
                }
            }
        }
    }
    Ok((0, if end > 0 { found + 1 } else { 0 }))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use oci::log::rotated;

    use super::*;

    fn line(second: u32, stream: &str, tag: char, text: &str) -> String {
        format!("2026-01-01T00:00:{second:02}.000000000Z {stream} {tag} {text}\n")
    }

    fn all(path: &Path, options: LogOptions) -> String {
        let mut reader = Reader::open(path, options).unwrap();
        let mut text = Vec::new();
        while let Some(piece) = reader.read().unwrap() {
            text.extend_from_slice(&piece);
        }
        String::from_utf8(text).unwrap()
    }

    fn sample(dir: &Path) -> PathBuf {
        let path = dir.join("0.log");
        fs::write(
            rotated(&path, 2),
            line(1, "stdout", 'F', "one") + &line(2, "stdout", 'F', "two"),
        )
        .unwrap();
        fs::write(rotated(&path, 1), line(3, "stderr", 'F', "three")).unwrap();
        let last = line(4, "stdout", 'P', "fo") + &line(5, "stdout", 'F', "ur") + &line(6, "stdout", 'F', "");
        fs::write(&path, last).unwrap();
        path
    }

    #[test]
    fn reads_across_rotated_files() {
        let temp = tempfile::tempdir().unwrap();
        let path = sample(temp.path());
        assert_eq!(all(&path, LogOptions::default()), "one\ntwo\nthree\nfour\n\n");
    }

    #[test]
    fn options() {
        let temp = tempfile::tempdir().unwrap();
        let path = sample(temp.path());
        let tail = |n| {
            all(
                &path,
                LogOptions {
                    tail_lines: Some(n),
                    ..Default::default()
                },
            )
        };
        assert_eq!(tail(0), "");
        assert_eq!(tail(1), "\n");
        assert_eq!(tail(4), "three\nfour\n\n");
        assert_eq!(tail(5), "two\nthree\nfour\n\n");
        assert_eq!(tail(99), "one\ntwo\nthree\nfour\n\n");
        let since = "2026-01-01T00:00:03Z".parse().ok();
        assert_eq!(
            all(
                &path,
                LogOptions {
                    since,
                    ..Default::default()
                }
            ),
            "three\nfour\n\n"
        );
        let limit_bytes = Some(6);
        assert_eq!(
            all(
                &path,
                LogOptions {
                    limit_bytes,
                    ..Default::default()
                }
            ),
            "one\ntw"
        );
        let stamped = all(
            &path,
            LogOptions {
                timestamps: true,
                tail_lines: Some(3),
                ..Default::default()
            },
        );
        let expected = "2026-01-01T00:00:04.000000000Z four\n2026-01-01T00:00:06.000000000Z \n";
        assert_eq!(stamped, expected);
    }

    #[test]
    fn a_log_that_is_not_there_is_empty() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(all(&temp.path().join("0.log"), LogOptions::default()), "");
        let tail_lines = Some(5);
        assert_eq!(
            all(
                &temp.path().join("0.log"),
                LogOptions {
                    tail_lines,
                    ..Default::default()
                }
            ),
            ""
        );
    }

    #[test]
    fn damaged_lines_are_left_out() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("0.log");
        fs::write(
            &path,
            "garbage\n\u{0}\n".to_owned() + &line(1, "stdout", 'F', "good") + "torn",
        )
        .unwrap();
        assert_eq!(all(&path, LogOptions::default()), "good\n");
    }

    #[tokio::test]
    async fn follows_over_a_rotation_until_the_end() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("0.log");
        fs::write(&path, line(1, "stdout", 'F', "one")).unwrap();
        let alive = Arc::new(AtomicBool::new(true));
        let (sender, mut receiver) = mpsc::channel(8);
        let options = LogOptions {
            follow: true,
            ..Default::default()
        };
        let flag = alive.clone();
        let task = tokio::spawn(stream(
            path.clone(),
            options,
            move || flag.load(Ordering::SeqCst),
            sender,
        ));
        assert_eq!(&receiver.recv().await.unwrap().unwrap()[..], b"one\n");
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(line(2, "stdout", 'F', "two").as_bytes()).unwrap();
        fs::rename(&path, rotated(&path, 1)).unwrap();
        fs::write(&path, line(3, "stdout", 'F', "three")).unwrap();
        let mut text = Vec::new();
        while text != b"two\nthree\n" {
            text.extend_from_slice(&receiver.recv().await.unwrap().unwrap());
        }
        alive.store(false, Ordering::SeqCst);
        assert!(receiver.recv().await.is_none());
        task.await.unwrap().unwrap();
    }
}
