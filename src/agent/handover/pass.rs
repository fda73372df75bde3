//! Sockets on their way: a frame for each owner, its length before it, with the descriptors along.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use serde::{Deserialize, Serialize};

/// Whose sockets they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// UID of the pod.
    pub pod: String,
    /// Name of the container in it.
    pub container: String,
}

/// Sockets and whose they are.
pub type Legacy = Vec<(Owner, Vec<OwnedFd>)>;

/// Most bytes of a frame: an owner is two short names.
const FRAME_BYTES_MAX: u32 = 4096;

/// Sends all.
pub(super) fn send_all(stream: &UnixStream, legacy: &Legacy) -> io::Result<()> {
    for (owner, sockets) in legacy {
        let text = serde_json::to_vec(owner)?;
        let length = u32::try_from(text.len()).map_err(io::Error::other)?;
        let frame: Vec<u8> = length.to_be_bytes().into_iter().chain(text).collect();
        let sockets: Vec<_> = sockets
            .iter()
            .map(AsFd::as_fd)
            .take(sys::descriptors::MOST)
            .collect();
        sys::descriptors::send(stream, &frame, &sockets)?;
    }
    Ok(())
}

/// Receives until the other end has no more.
pub(super) fn receive_all(stream: &UnixStream) -> io::Result<Legacy> {
    let mut all = Legacy::new();
    while let Some(one) = receive(stream)? {
        all.push(one);
    }
    Ok(all)
}

fn receive(mut stream: &UnixStream) -> io::Result<Option<(Owner, Vec<OwnedFd>)>> {
    let mut head = [0; 4];
    let (length, sockets) = sys::descriptors::receive(stream, &mut head)?;
    if length == 0 {
        return Ok(None);
    }
    stream.read_exact(head.get_mut(length..).unwrap_or_default())?;
    let length = u32::from_be_bytes(head);
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::other(format!("a frame of {length} bytes")));
    }
    let mut text = vec![0; length as usize];
    stream.read_exact(&mut text)?;
    Ok(Some((serde_json::from_slice(&text)?, sockets)))
}
