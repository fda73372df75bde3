//! Which address leads where: Services and EndpointSlices to a table of
//! frontends and backends, without any I/O.

use std::net::{Ipv4Addr, SocketAddrV4};

/// A transport protocol that Services may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// Where clients of a Service knock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// None: any address of the node (NodePort).
    pub address: Option<Ipv4Addr>,
    /// Transport.
    pub protocol: Protocol,
    /// Port.
    pub port: u16,
}

/// Who answers.
pub type Backends = Vec<SocketAddrV4>;
