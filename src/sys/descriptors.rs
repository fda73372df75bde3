//! Open files that go from one process to another, over a unix socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Most descriptors of one message.
pub const MOST: usize = 16;

/// Sends descriptors along with some bytes, all of which must fit at once.
///
/// # Errors
/// When the other end is gone, or has no room.
pub fn send(stream: &UnixStream, bytes: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let files: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&files)];
    let control: &[ControlMessage<'_>] = if files.is_empty() { &[] } else { &rights };
    let sent = sendmsg::<()>(
        stream.as_raw_fd(),
        &[IoSlice::new(bytes)],
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    match sent == bytes.len() {
        true => Ok(()),
        false => Err(io::Error::other("a message was sent in part")),
    }
}

/// Receives some bytes and the descriptors that were sent along with them; none at the end.
///
/// # Errors
/// The kernel's.
pub fn receive(stream: &UnixStream, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut buffers = [IoSliceMut::new(bytes)];
    let mut space = nix::cmsg_space!([RawFd; MOST]);
    let message = recvmsg::<()>(
        stream.as_raw_fd(),
        &mut buffers,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    let mut received = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(files) = control {
            for file in files {
                // SAFETY: the kernel has just made this descriptor for us; nothing else knows it.
                received.push(unsafe { OwnedFd::from_raw_fd(file) });
            }
        }
    }
    Ok((message.bytes, received))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn files_go_with_their_message() {
        let (near, far) = UnixStream::pair().unwrap();
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("a", "one"), ("b", "two")] {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            let file = std::fs::File::open(path).unwrap();
            send(&near, name.as_bytes(), &[file.as_fd()]).unwrap();
        }
        send(&near, b"c", &[]).unwrap();
        drop(near);
        let mut heard = Vec::new();
        loop {
            let mut bytes = [0; 8];
            let (length, files) = receive(&far, &mut bytes).unwrap();
            if length == 0 {
                break;
            }
            let mut text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            for file in files {
                std::fs::File::from(file).read_to_string(&mut text).unwrap();
            }
            heard.push(text);
        }
        assert_eq!(heard, ["aone", "btwo", "c"]);
    }
}
