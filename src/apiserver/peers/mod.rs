//! The connections between the servers of a cluster: on the API's own port,
//! told apart by the protocol that the handshake names, proven on both sides.
//!
//! ```text
//! store ─dial─▶ PeerDialer ── TLS, ALPN coracle-peer/1 ──▶ PeerDoor ─▶ the other's store
//! ```
//!
//! **Invariant:** no byte from a connection reaches the store before its
//! certificate is known to be another server's of this cluster.

mod accept;
mod dial;
mod identity;

pub(crate) use accept::PeerDoor;
pub use dial::PeerDialer;
pub use identity::PeerTls;

/// What the two sides agree on in the handshake; the number changes when neither understands the other any more.
pub const PROTOCOL: &[u8] = b"coracle-peer/1";

/// Milliseconds of silence about what was sent, after which a connection is given up: when a broken network is
/// whole again, a new one is there sooner than the old one's next attempt.
const UNANSWERED_MS_MAX: u32 = 3_000;

/// Small parcels leave at once, and a peer that is gone is noticed.
fn tune(stream: &tokio::net::TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    nix::sys::socket::setsockopt(
        stream,
        nix::sys::socket::sockopt::TcpUserTimeout,
        &UNANSWERED_MS_MAX,
    )
    .map_err(Into::into)
}
