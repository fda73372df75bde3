//! Whose packets a table sees.

/// Whose packets a table sees. Both have the same tables, chains and sets;
/// they differ in where addresses stand and how long they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::Ip, Family::Ip6];

    /// That of an address.
    pub fn of(address: std::net::IpAddr) -> Family {
        if address.is_ipv4() {
            Family::Ip
        } else {
            Family::Ip6
        }
    }

    /// `NFPROTO_*`.
    pub(crate) fn number(self) -> u8 {
        match self {
            Family::Ip => 2,
            Family::Ip6 => 10,
        }
    }

    /// Bytes of an address.
    pub fn address_bytes(self) -> u32 {
        match self {
            Family::Ip => 4,
            Family::Ip6 => 16,
        }
    }

    /// The number by which `nft list` prints addresses of this family.
    pub fn address_type(self) -> u32 {
        match self {
            Family::Ip => 7,
            Family::Ip6 => 8,
        }
    }
}
