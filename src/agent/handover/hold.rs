//! The process that has the sockets while there is no agent. It does nothing with them.

use std::fs;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use base::files::absent_is_fine;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::pass;

/// `PROGRAM hold SOCKET SECONDS`, with the sockets coming in over standard input.
pub const HOLD_VERB: &str = "hold";

/// The holder's `main`; `args` are what follows [`HOLD_VERB`]. Returns the exit code.
pub fn hold_main(args: &[String]) -> i32 {
    let seconds = args.get(1).and_then(|text| text.parse().ok());
    let (Some(socket), Some(seconds)) = (args.first(), seconds) else {
        eprintln!("{HOLD_VERB} is started by an agent that ends, and not by hand");
        return 2;
    };
    // Whoever ends the agent's session means the agent.
    let _ = nix::unistd::setsid();
    let given = io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from);
    match given.and_then(|given| hold(given, Path::new(socket), Duration::from_secs(seconds))) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

/// Takes sockets over `given` and gives them to the first who asks at `socket` within a time.
pub(super) fn hold(mut given: UnixStream, socket: &Path, patience: Duration) -> io::Result<()> {
    let legacy = pass::receive_all(&given)?;
    absent_is_fine(fs::remove_file(socket))?;
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
    // The agent may have stopped waiting.
    let _ = given.write_all(&[1]);
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    let asked = poll(&mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)], timeout)?;
    let passed = match asked {
        0 => Ok(()),
        _ => listener
            .accept()
            .and_then(|(heir, _)| pass::send_all(&heir, &legacy)),
    };
    absent_is_fine(fs::remove_file(socket))?;
    passed
}
