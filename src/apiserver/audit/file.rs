//! The log as a file: a line for each event; when it has grown too large it is put aside under the time's name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::sinks::{Counters, Line, Lines};

/// What becomes of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSettings {
    /// Where it is; `-` for standard output.
    pub path: PathBuf,
    /// The size at which it is put aside.
    pub bytes_max: u64,
    /// As many of those put aside are kept; 0 for all.
    pub backups_max: usize,
    /// For so many days; 0 for ever.
    pub days_max: u64,
    /// Events of more bytes are cut; `None` for none.
    pub event_bytes_max: Option<usize>,
}

/// Writes what comes through the queue until it is closed. Runs on a thread of its own.
pub fn write(mut log: Log, mut queue: Lines, counters: &Counters) {
    let mut lines = Vec::new();
    while queue.blocking_recv_many(&mut lines, 1024) > 0 {
        if let Err(error) = log.append(&lines) {
            tracing::error!(%error, events = lines.len(), "audit events could not be written");
            counters.lose(lines.len());
        }
        lines.clear();
    }
}

/// The open file.
pub struct Log {
    settings: FileSettings,
    out: BufWriter<Box<dyn Write + Send>>,
    bytes: u64,
}

impl Log {
    /// Opens the file, to write after what is in it.
    ///
    /// # Errors
    /// When it cannot be written: a server that is to keep a log does not run without one.
    pub fn open(settings: FileSettings) -> io::Result<Self> {
        if settings.path == Path::new("-") {
            return Ok(Self {
                settings,
                out: BufWriter::new(Box::new(io::stdout())),
                bytes: 0,
            });
        }
        let file = append_to(&settings.path)?;
        Ok(Self {
            settings,
            bytes: file.metadata()?.len(),
            out: BufWriter::new(Box::new(file)),
        })
    }

    fn append(&mut self, lines: &[Line]) -> io::Result<()> {
        for line in lines {
            let more = line.text.len() as u64 + 1;
            if self.bytes > 0 && self.bytes + more > self.settings.bytes_max {
                self.rotate()?;
            }
            self.out.write_all(&line.text)?;
            self.out.write_all(b"\n")?;
            self.bytes += more;
        }
        self.out.flush()
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.settings.path == Path::new("-") {
            return Ok(());
        }
        self.out.flush()?;
        fs::rename(&self.settings.path, aside(&self.settings.path, Timestamp::now()))?;
        self.out = BufWriter::new(Box::new(append_to(&self.settings.path)?));
        self.bytes = 0;
        tidy(&self.settings, SystemTime::now())
    }
}

/// Only its owner reads what everybody does.
fn append_to(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

/// `audit.log` put aside is `audit-2026-01-31T10-20-30.123.log`.
fn aside(path: &Path, now: Timestamp) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let end = path.extension().map(|end| format!(".{}", end.to_string_lossy()));
    let time = now.strftime("%Y-%m-%dT%H-%M-%S%.3f");
    path.with_file_name(format!("{stem}-{time}{}", end.unwrap_or_default()))
}

/// Removes what was put aside too long ago, or is too much.
fn tidy(settings: &FileSettings, now: SystemTime) -> io::Result<()> {
    let mut old = put_aside(&settings.path)?;
    // Their names sort as their times do; the newest come first.
    old.sort();
    old.reverse();
    let oldest = now.checked_sub(Duration::from_secs(settings.days_max * 24 * 3600));
    for (place, path) in old.iter().enumerate() {
        let many = settings.backups_max > 0 && place >= settings.backups_max;
        let written = fs::metadata(path).and_then(|about| about.modified());
        let aged = settings.days_max > 0
            && oldest.is_some_and(|oldest| written.is_ok_and(|written| written < oldest));
        if many || aged {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn put_aside(path: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let stem = format!("{}-", path.file_stem().unwrap_or_default().to_string_lossy());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder.unwrap_or(Path::new(".")))? {
        let other = entry?.path();
        let named = other
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(&stem));
        if named && other.extension() == path.extension() {
            found.push(other);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::sinks::tests::line;
    use super::*;

    #[test]
    fn a_full_log_is_put_aside_and_the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        let settings = FileSettings {
            path: dir.path().join("audit.log"),
            bytes_max: 10,
            backups_max: 2,
            days_max: 0,
            event_bytes_max: None,
        };
        for n in 0..3 {
            let name = aside(&settings.path, Timestamp::from_second(n).unwrap());
            fs::write(name, "old\n").unwrap();
        }
        let mut log = Log::open(settings.clone()).unwrap();
        log.append(&[line("12345678"), line("next")]).unwrap();
        assert_eq!(fs::read_to_string(&settings.path).unwrap(), "next\n");
        let mut kept = put_aside(&settings.path).unwrap();
        kept.sort();
        assert_eq!(kept.len(), 2);
        assert!(kept[0].ends_with("audit-1970-01-01T00-00-02.000.log"), "{kept:?}");
        assert_eq!(fs::read_to_string(&kept[1]).unwrap(), "12345678\n");
    }

    #[test]
    fn a_log_that_cannot_be_written_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let opened = Log::open(FileSettings {
            path: dir.path().to_owned(),
            bytes_max: 10,
            backups_max: 0,
            days_max: 0,
            event_bytes_max: None,
        });
        assert!(opened.is_err());
    }

    #[test]
    fn what_is_too_old_goes_too() {
        let dir = tempfile::tempdir().unwrap();
        let settings = FileSettings {
            path: dir.path().join("audit.log"),
            bytes_max: 10,
            backups_max: 0,
            days_max: 2,
            event_bytes_max: None,
        };
        fs::write(aside(&settings.path, Timestamp::UNIX_EPOCH), "old\n").unwrap();
        tidy(&settings, SystemTime::now()).unwrap();
        assert_eq!(put_aside(&settings.path).unwrap().len(), 1);
        tidy(&settings, SystemTime::now() + Duration::from_secs(3 * 24 * 3600)).unwrap();
        assert_eq!(put_aside(&settings.path).unwrap().len(), 0);
    }
}
