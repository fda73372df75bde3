//! Listening sockets of Wasm pods outlive an agent that ends in order, so that the next one answers who has connected
//! in between: nobody is refused because of an upgrade.
//!
//! ```text
//! agent that ends ─▶ sockets ─▶ `hold`, a process of its own ─▶ agent that begins ─▶ guests
//! ```
//! The kernel takes connections as long as somebody has the socket open; they wait in its queue. Guests are known by
//! their pod and their container's name.

mod hold;
mod pass;

use std::collections::HashMap;
use std::io::{self, Read};
use std::net::{Shutdown, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use hold::{HOLD_VERB, hold_main};
pub use pass::{Legacy, Owner};

/// How long sockets are held for the next agent. After that connections are refused, as they would have been at once.
pub const HELD_MAX: Duration = Duration::from_secs(30);
/// How long the process that holds them may take to have them.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Leaves sockets to whoever listens at `socket` next; `program` is this one. Blocks.
///
/// # Errors
/// When no process can be started, or it does not take them: connections are refused until the next agent is there.
pub fn leave(program: &Path, socket: &Path, legacy: &Legacy) -> io::Result<()> {
    let (near, far) = UnixStream::pair()?;
    near.set_read_timeout(Some(ANSWER_MAX))?;
    Command::new(program)
        .arg(HOLD_VERB)
        .arg(socket)
        .arg(HELD_MAX.as_secs().to_string())
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(far)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    pass::send_all(&near, legacy)?;
    near.shutdown(Shutdown::Write)?;
    // It has them all, and can be asked for them.
    (&near).read_exact(&mut [0])
}

/// What an earlier agent has left, until it is taken.
#[derive(Debug, Default)]
pub struct Inheritance {
    // A std mutex: nothing awaits while it is held.
    left: Mutex<HashMap<Owner, Vec<OwnedFd>>>,
}

impl Inheritance {
    /// Fetches what was left at `socket`, if anything was. Blocks.
    pub fn fetch(socket: &Path) -> Inheritance {
        let fetched = UnixStream::connect(socket).and_then(|stream| {
            stream.set_read_timeout(Some(ANSWER_MAX))?;
            pass::receive_all(&stream)
        });
        let left = match fetched {
            Ok(legacy) => legacy.into_iter().collect(),
            Err(error) if is_nobody(&error) => HashMap::new(),
            Err(error) => {
                tracing::warn!(%error, "sockets that an earlier agent has left cannot be had");
                HashMap::new()
            }
        };
        Inheritance {
            left: Mutex::new(left),
        }
    }

    /// The sockets of a container, once.
    pub fn take(&self, owner: &Owner) -> Vec<TcpListener> {
        let sockets = self.lock().remove(owner).unwrap_or_default();
        sockets.into_iter().map(TcpListener::from).collect()
    }

    /// Closes what nobody has taken.
    pub fn close(&self) {
        let left = std::mem::take(&mut *self.lock());
        for owner in left.keys() {
            tracing::debug!(
                pod = owner.pod,
                container = owner.container,
                "its sockets are closed"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Owner, Vec<OwnedFd>>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nothing was left, or whoever held it has ended.
fn is_nobody(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpStream;

    use super::*;

    fn owner(container: &str) -> Owner {
        Owner {
            pod: "u1".to_owned(),
            container: container.to_owned(),
        }
    }

    #[test]
    fn who_connects_in_between_is_answered_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sock");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let legacy = vec![
            (owner("web"), vec![OwnedFd::from(listener)]),
            (owner("none"), vec![]),
        ];
        let (near, far) = UnixStream::pair().unwrap();
        let held = path.clone();
        let holder = std::thread::spawn(move || hold::hold(far, &held, Duration::from_secs(60)));
        pass::send_all(&near, &legacy).unwrap();
        near.shutdown(Shutdown::Write).unwrap();
        (&near).read_exact(&mut [0]).unwrap();
        drop(legacy);
        let mut client = TcpStream::connect(address).unwrap();
        let inheritance = Inheritance::fetch(&path);
        holder.join().unwrap().unwrap();
        assert!(!path.exists());
        let listeners = inheritance.take(&owner("web"));
        assert_eq!(listeners[0].local_addr().unwrap(), address);
        assert!(inheritance.take(&owner("web")).is_empty());
        let (mut accepted, _) = listeners[0].accept().unwrap();
        accepted.write_all(b"hello").unwrap();
        let mut heard = [0; 5];
        client.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello");
    }

    #[test]
    fn nobody_holds_them_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sock");
        let (near, far) = UnixStream::pair().unwrap();
        drop(near);
        hold::hold(far, &path, Duration::from_millis(10)).unwrap();
        assert!(!path.exists());
        assert!(Inheritance::fetch(&path).take(&owner("web")).is_empty());
    }
}
