//! Where clients knock, and who answers.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use sys::nft::Family;

use super::SourceRange;

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

impl Protocol {
    /// The protocol of a Service's or slice's port; TCP if it says nothing.
    pub fn parse(text: Option<&str>) -> Option<Protocol> {
        match text {
            None | Some("" | "TCP") => Some(Protocol::Tcp),
            Some("UDP") => Some(Protocol::Udp),
            Some("SCTP") => Some(Protocol::Sctp),
            Some(_) => None,
        }
    }

    /// Its number in an IP header.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}

/// A port that can be one.
pub(super) fn number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port > 0)
}

/// Which address clients use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// This one.
    Address(IpAddr),
    /// Any address of the node, of this family (NodePort).
    Node(Family),
}

/// For whom a frontend is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Clients {
    /// Whoever is not meant by a frontend for those inside.
    All,
    /// Pods and nodes of the cluster.
    Inside,
}

/// Where clients of a Service knock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// Address.
    pub place: Place,
    /// For whom.
    pub clients: Clients,
    /// Transport.
    pub protocol: Protocol,
    /// Port.
    pub port: u16,
}

/// The kinds of frontend that are looked up apart from one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Door {
    /// Whether it is found by port alone, on any of the node's addresses.
    pub node: bool,
    /// For whom.
    pub clients: Clients,
}

impl Frontend {
    /// The family of its address.
    pub fn family(&self) -> Family {
        match self.place {
            Place::Address(ip) => Family::of(ip),
            Place::Node(family) => family,
        }
    }

    /// Its kind.
    pub fn door(&self) -> Door {
        Door {
            node: matches!(self.place, Place::Node(_)),
            clients: self.clients,
        }
    }

    /// The same for others.
    pub fn with(self, clients: Clients) -> Frontend {
        Frontend { clients, ..self }
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Address(address) => {
                write!(f, "{} {:?}", SocketAddr::new(address, self.port), self.protocol)?
            }
            Place::Node(Family::Ip) => write!(f, "node port {} {:?}", self.port, self.protocol)?,
            Place::Node(Family::Ip6) => write!(f, "node port {} {:?} by IPv6", self.port, self.protocol)?,
        }
        match self.clients {
            Clients::All => Ok(()),
            Clients::Inside => write!(f, " from inside"),
        }
    }
}

/// Who answers, in order of address and port, each once. Empty: nobody.
pub type Backends = Vec<SocketAddr>;

/// What becomes of a client when nobody answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Nobody {
    /// It hears so at once.
    #[default]
    Refuse,
    /// Others elsewhere do answer, but the traffic policy keeps it here: it
    /// hears nothing, as Kubernetes has it.
    Drop,
}

/// What a frontend leads to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Group {
    /// Who answers.
    pub backends: Backends,
    /// And if there is nobody.
    pub nobody: Nobody,
    /// Seconds for which a client's next connection goes to the same backend.
    pub sticky: Option<u32>,
    /// Whom to let in; empty: everybody.
    pub sources: Vec<SourceRange>,
}
