//! The address records on disk: a file of lines, appended to with every
//! change and written anew when most of it is history.
//!
//! A line that was cut short by a crash is ignored, and so is all after it.
//! Nothing is forced to the disk: after a power cut pods may lose the last
//! changes, and the agent asks for the addresses that it remembers.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::ipam::{Lease, Pool};
use api::cidr::Cidr;

/// Of the file's format.
const VERSION: u32 = 1;
/// Lines of history that are not worth a rewrite.
const SLACK_LINES: usize = 1024;

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    range: Cidr,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Take {
        pod: String,
        #[serde(flatten)]
        lease: Lease,
    },
    Free {
        pod: String,
    },
    /// Where the circle goes on, after a rewrite.
    Next {
        offset: u32,
    },
}

/// The file, open for appending.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    lines: usize,
}

impl Journal {
    /// Reads `path` and makes it ready for more. A file of another range or
    /// of no sense counts as empty: its addresses mean nothing here.
    pub fn open(path: &Path, range: Cidr) -> io::Result<(Journal, Pool)> {
        let bytes = match std::fs::read(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        // Damaged bytes spoil their own lines only.
        let pool = replay(&String::from_utf8_lossy(&bytes), range);
        let (file, lines) = rewrite(path, &pool)?;
        Ok((
            Journal {
                path: path.to_path_buf(),
                file,
                lines,
            },
            pool,
        ))
    }

    /// Records that a pod has an address; `pool` is the state after it.
    pub fn take(&mut self, pod: &str, lease: Lease, pool: &Pool) -> io::Result<()> {
        self.append(
            &Line::Take {
                pod: pod.to_string(),
                lease,
            },
            pool,
        )
    }

    /// Records that a pod's address is free; `pool` is the state after it.
    pub fn free(&mut self, pod: &str, pool: &Pool) -> io::Result<()> {
        self.append(&Line::Free { pod: pod.to_string() }, pool)
    }

    fn append(&mut self, line: &Line, pool: &Pool) -> io::Result<()> {
        if self.lines > 2 * pool.len() + SLACK_LINES {
            (self.file, self.lines) = rewrite(&self.path, pool)?;
            return Ok(());
        }
        self.lines += 1;
        self.file.write_all(text(line)?.as_bytes())
    }
}

fn replay(text: &str, range: Cidr) -> Pool {
    let mut pool = Pool::new(range);
    let mut lines = text.lines();
    let header = lines
        .next()
        .and_then(|line| serde_json::from_str::<Header>(line).ok());
    if header.is_none_or(|h| h.version != VERSION || h.range != range) {
        return pool;
    }
    for line in lines {
        match serde_json::from_str(line) {
            Ok(Line::Take { pod, lease }) => pool.restore(&pod, lease),
            Ok(Line::Free { pod }) => {
                pool.release(&pod);
            }
            Ok(Line::Next { offset }) => pool.set_next(offset),
            Err(_) => break,
        }
    }
    pool
}

fn rewrite(path: &Path, pool: &Pool) -> io::Result<(File, usize)> {
    let mut out = text(&Header {
        version: VERSION,
        range: pool.range(),
    })?;
    for (pod, lease) in pool.pods() {
        out.push_str(&text(&Line::Take {
            pod: pod.to_string(),
            lease,
        })?);
    }
    out.push_str(&text(&Line::Next { offset: pool.next() })?);
    let new = path.with_extension("new");
    std::fs::write(&new, &out)?;
    std::fs::rename(&new, path)?;
    Ok((OpenOptions::new().append(true).open(path)?, pool.len() + 2))
}

fn text(value: &impl Serialize) -> io::Result<String> {
    Ok(serde_json::to_string(value)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::PodNetKind::{Own, Shared};

    fn range() -> Cidr {
        "10.64.0.0/20".parse().unwrap()
    }

    fn take(journal: &mut Journal, pool: &mut Pool, pod: &str) -> Lease {
        let lease = pool.take(pod, Shared, None).unwrap();
        journal.take(pod, lease, pool).unwrap();
        lease
    }

    #[test]
    fn what_was_recorded_is_there_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("addresses");
        let (mut journal, mut pool) = Journal::open(&path, range()).unwrap();
        let a = take(&mut journal, &mut pool, "a");
        take(&mut journal, &mut pool, "b");
        pool.release("b");
        journal.free("b", &pool).unwrap();

        let (_, again) = Journal::open(&path, range()).unwrap();
        assert_eq!(again.pods().collect::<Vec<_>>(), [("a", a)]);
        assert_eq!(again.next(), pool.next(), "b's address is not the next one");
        let (_, thrice) = Journal::open(&path, range()).unwrap();
        assert_eq!(thrice.next(), pool.next());
    }

    #[test]
    fn a_torn_line_and_another_range_do_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("addresses");
        let (mut journal, mut pool) = Journal::open(&path, range()).unwrap();
        let lease = pool.take("a", Own, None).unwrap();
        journal.take("a", lease, &pool).unwrap();
        journal
            .file
            .write_all(b"{\"take\":{\"pod\":\"b\",\"ip\":\"10.6")
            .unwrap();
        let (_, again) = Journal::open(&path, range()).unwrap();
        assert_eq!(again.get("a"), Some(lease));
        assert_eq!(again.len(), 1);
        journal.file.write_all(&[0xff; 40]).unwrap();
        let (_, again) = Journal::open(&path, range()).unwrap();
        assert_eq!(again.len(), 1);
        let (_, other) = Journal::open(&path, "10.65.0.0/20".parse().unwrap()).unwrap();
        assert!(other.is_empty());
        std::fs::write(&path, "what?").unwrap();
        assert!(Journal::open(&path, range()).unwrap().1.is_empty());
    }

    #[test]
    fn history_is_dropped_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("addresses");
        let (mut journal, mut pool) = Journal::open(&path, range()).unwrap();
        for n in 0..3000 {
            let pod = format!("p{n}");
            take(&mut journal, &mut pool, &pod);
            pool.release(&pod);
            journal.free(&pod, &pool).unwrap();
        }
        assert!(journal.lines <= SLACK_LINES + 2);
        assert!(Journal::open(&path, range()).unwrap().1.is_empty());
    }
}
