//! Connections between members.

use std::future::Future;
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::membership::Peer;

/// A connection to a member, or from one.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection that is being made.
pub type Dialling = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// Makes connections to other members. They are to be authenticated on both
/// sides: the member dialled is the one with this id and no other.
pub trait Dialer: Send + Sync {
    /// Connects to a member.
    fn dial(&self, peer: &Peer) -> Dialling;
}

/// What is said of a connection that has ended.
pub(super) fn closed() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}
