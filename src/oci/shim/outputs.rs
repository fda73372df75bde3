//! A process' standard streams, as the shim holds them.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::watch;

use crate::spec::{Stream, WindowSize};

/// How long an output must say nothing, once its process has ended, to be taken for done: what the process left behind
/// may hold it open for ever.
const QUIET: Duration = Duration::from_millis(500);

/// The far ends, to be given to the process.
pub(super) enum Far {
    /// Three descriptors.
    Pipes {
        stdin: OwnedFd,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
    /// The runtime library makes a terminal and sends it here.
    Console(UnixListener),
}

/// The near ends.
pub(super) struct Near {
    /// Where to write; `None` when the process has no standard input.
    pub(super) stdin: Option<Input>,
    /// Where to read.
    pub(super) outputs: Vec<(Stream, Output)>,
    /// The terminal, if it is one.
    pub(super) terminal: Option<Rc<AsyncFd<OwnedFd>>>,
}

/// Something to write to.
pub(super) enum Input {
    Pipe(pipe::Sender),
    Terminal(Rc<AsyncFd<OwnedFd>>),
}

/// Something to read from.
pub(super) enum Output {
    Pipe(pipe::Receiver),
    Terminal(Rc<AsyncFd<OwnedFd>>),
}

/// Both ends of a process' streams.
pub(super) struct Ends {
    pub(super) far: Far,
    pub(super) near: Option<Near>,
    /// Where the listener for its terminal is, if it is to have one.
    pub(super) console: PathBuf,
}

/// What is left here of a process' streams when it has the others.
pub(super) enum NearEnd {
    Pipes(Option<Near>),
    Terminal(UnixListener),
}

impl NearEnd {
    /// The near ends, when the process is there: its terminal has come by now.
    pub(super) fn open(self, stdin: bool) -> io::Result<Near> {
        match self {
            NearEnd::Pipes(near) => near.ok_or_else(|| io::Error::other("there are none")),
            NearEnd::Terminal(listener) => terminal(&listener, stdin),
        }
    }
}

/// Streams for a process that runs as `owner`: pipes at once, or a listener at `console` for its terminal.
pub(super) fn ends(console: Option<PathBuf>, stdin: bool, owner: u32) -> io::Result<Ends> {
    let (far, near, console) = match console {
        Some(path) => (self::console(&path)?, None, path),
        None => {
            let (far, near) = pipes(stdin, owner)?;
            (far, Some(near), PathBuf::new())
        }
    };
    Ok(Ends { far, near, console })
}

/// A pipe that its owner may open by name, too: as `/dev/stdout`, say.
fn pair(owner: u32) -> io::Result<(OwnedFd, OwnedFd)> {
    let (near, far) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    std::os::unix::fs::fchown(&far, Some(owner), None)?;
    Ok((near, far))
}

/// Pipes for a process without a terminal that runs as `owner`.
fn pipes(stdin: bool, owner: u32) -> io::Result<(Far, Near)> {
    let (out_near, out_far) = pair(owner)?;
    let (err_near, err_far) = pair(owner)?;
    let (in_far, in_near) = if stdin {
        let (far, near) = pair(owner)?;
        (far, Some(Input::Pipe(pipe::Sender::from_owned_fd(near)?)))
    } else {
        (OwnedFd::from(std::fs::File::open("/dev/null")?), None)
    };
    let near = Near {
        stdin: in_near,
        outputs: vec![
            (
                Stream::Stdout,
                Output::Pipe(pipe::Receiver::from_owned_fd(out_near)?),
            ),
            (
                Stream::Stderr,
                Output::Pipe(pipe::Receiver::from_owned_fd(err_near)?),
            ),
        ],
        terminal: None,
    };
    Ok((
        Far::Pipes {
            stdin: in_far,
            stdout: out_far,
            stderr: err_far,
        },
        near,
    ))
}

/// A socket on which the runtime library will send the terminal it makes.
fn console(path: &Path) -> io::Result<Far> {
    // A socket of that name is one of an earlier process, which has sent its terminal.
    let _ = std::fs::remove_file(path);
    UnixListener::bind(path).map(Far::Console)
}

/// Receives the terminal that was sent.
fn terminal(listener: &UnixListener, stdin: bool) -> io::Result<Near> {
    let (stream, _) = listener.accept()?;
    if let Some(path) = listener.local_addr()?.as_pathname() {
        // It has served its purpose; a file that stays does no harm.
        let _ = std::fs::remove_file(path);
    }
    let fd = sys::pty::receive_fd(&stream)?;
    let flags = OFlag::from_bits_truncate(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    let terminal = Rc::new(sys::ready::watched(fd)?);
    Ok(Near {
        stdin: stdin.then(|| Input::Terminal(terminal.clone())),
        outputs: vec![(Stream::Stdout, Output::Terminal(terminal.clone()))],
        terminal: Some(terminal),
    })
}

impl Output {
    /// Reads some bytes; 0 at the end, or when nothing comes after the process has `ended`.
    ///
    /// What the process wrote is there before its end is known, and whoever takes it off may be as slow as they like:
    /// only silence counts, and reading goes before that.
    pub(super) async fn rest(&mut self, buffer: &mut [u8], ended: &mut watch::Receiver<bool>) -> usize {
        let silence = async {
            // A process of which nobody tells has ended as well.
            let _ = ended.wait_for(|ended| *ended).await;
            tokio::time::sleep(QUIET).await;
        };
        tokio::select! {
            biased;
            read = self.read(buffer) => read.unwrap_or(0),
            () = silence => 0,
        }
    }

    /// Reads some bytes; 0 at the end. A terminal whose far end is closed answers EIO, which is its end.
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Output::Pipe(pipe) => pipe.read(buffer).await,
            Output::Terminal(terminal) => loop {
                let mut guard = terminal.readable().await?;
                match guard.try_io(|fd| (&std::fs::File::from(fd.get_ref().try_clone()?)).read(buffer)) {
                    Ok(Err(error)) if error.raw_os_error() == Some(nix::libc::EIO) => return Ok(0),
                    Ok(result) => return result,
                    Err(_would_block) => {}
                }
            },
        }
    }
}

impl Input {
    /// Writes all bytes.
    pub(super) async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        match self {
            Input::Pipe(pipe) => pipe.write_all(bytes).await,
            Input::Terminal(terminal) => {
                while !bytes.is_empty() {
                    let mut guard = terminal.writable().await?;
                    match guard.try_io(|fd| (&std::fs::File::from(fd.get_ref().try_clone()?)).write(bytes)) {
                        Ok(result) => bytes = bytes.get(result?..).unwrap_or_default(),
                        Err(_would_block) => {}
                    }
                }
                Ok(())
            }
        }
    }

    /// Tells a terminal's process that there is no more input.
    pub(super) async fn end(mut self) {
        if matches!(self, Input::Terminal(_)) {
            const END_OF_TRANSMISSION: &[u8] = &[4];
            // A process that has ended reads nothing any more.
            let _ = self.write_all(END_OF_TRANSMISSION).await;
        }
    }
}

/// Gives a terminal a new size; a process that has ended has none.
pub(super) fn resize(terminal: &AsyncFd<OwnedFd>, size: WindowSize) {
    let _ = sys::pty::resize(terminal.get_ref(), size.width, size.height);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output() -> (OwnedFd, Output) {
        let (near, far) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
        (far, Output::Pipe(pipe::Receiver::from_owned_fd(near).unwrap()))
    }

    #[tokio::test]
    async fn what_was_written_is_read_however_late() {
        let (far, mut output) = output();
        let mut buffer = [0; 8];
        let (tell, mut ended) = watch::channel(false);
        nix::unistd::write(&far, b"first and last").unwrap();
        tell.send_replace(true);
        let mut all = Vec::new();
        loop {
            let n = output.rest(&mut buffer, &mut ended).await;
            if n == 0 {
                break;
            }
            all.extend_from_slice(&buffer[..n]);
            // Whoever takes it is slow.
            tokio::time::sleep(QUIET * 2).await;
        }
        assert_eq!(all, b"first and last");
        // The far end was open all the time.
        drop(far);
    }

    #[tokio::test]
    async fn only_the_end_makes_silence_count() {
        let (far, mut output) = output();
        let mut buffer = [0; 4];
        let (tell, mut ended) = watch::channel(false);
        let late = async {
            tokio::time::sleep(QUIET * 2).await;
            nix::unistd::write(&far, b"late").unwrap();
        };
        let (n, ()) = tokio::join!(output.rest(&mut buffer, &mut ended), late);
        assert_eq!(&buffer[..n], b"late");
        drop((far, tell));
        assert_eq!(output.rest(&mut buffer, &mut ended).await, 0);
    }
}
