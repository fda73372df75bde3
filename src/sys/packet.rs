//! Raw frames of one protocol on one device, for what the kernel would only
//! say in its own name: who has an address that is not the machine's.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::link::Mac;

/// Which frames to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frames {
    /// ARP.
    Arp,
    /// Neighbour solicitations of IPv6, whoever they are for.
    NeighbourSolicitations,
}

impl Frames {
    fn protocol(self) -> u16 {
        match self {
            Frames::Arp => libc::ETH_P_ARP as u16,
            Frames::NeighbourSolicitations => libc::ETH_P_IPV6 as u16,
        }
    }
}

/// Opens a socket that never blocks, for frames with their Ethernet header, on
/// a device of the calling thread's network namespace. `recv` and `send` carry
/// a frame each.
///
/// # Errors
/// Without the right to (`CAP_NET_RAW`), or if there is no such device.
pub fn open(link: u32, frames: Frames) -> io::Result<OwnedFd> {
    // Without a protocol until the filter stands: no other frame slips in.
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes no pointers; the result is checked.
    let fd = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
    let socket = PacketSocket {
        // SAFETY: `fd` was just opened and belongs to nobody else.
        fd: unsafe { OwnedFd::from_raw_fd(fd) },
        link,
        frames,
    };
    if frames == Frames::NeighbourSolicitations {
        socket.attach_filter()?;
        socket.hear_all_multicast()?;
    }
    socket.bind()?;
    Ok(socket.fd)
}

struct PacketSocket {
    fd: OwnedFd,
    link: u32,
    frames: Frames,
}

impl PacketSocket {
    fn bind(&self) -> io::Result<()> {
        // SAFETY: all fields of the struct are integers, for which zero is a value.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = self.frames.protocol().to_be();
        address.sll_ifindex = self.link as i32;
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the pointer is to a live sockaddr_ll of the length given.
        check(unsafe { libc::bind(self.fd.as_raw_fd(), (&raw const address).cast(), length) }).map(drop)
    }

    /// A solicitation is sent to a group that only the address's owner joins.
    fn hear_all_multicast(&self) -> io::Result<()> {
        let membership = libc::packet_mreq {
            mr_ifindex: self.link as i32,
            mr_type: libc::PACKET_MR_ALLMULTI as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        self.set(libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &membership)
    }

    /// IPv6 with next header ICMPv6 (58) and type 135, so that ordinary traffic
    /// does not wake anybody.
    fn attach_filter(&self) -> io::Result<()> {
        let load = |at| libc::sock_filter {
            code: (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16,
            jt: 0,
            jf: 0,
            k: at,
        };
        let unless = |value, skip| libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            jt: 0,
            jf: skip,
            k: value,
        };
        let give = |bytes| libc::sock_filter {
            code: (libc::BPF_RET | libc::BPF_K) as u16,
            jt: 0,
            jf: 0,
            k: bytes,
        };
        let mut program = [
            load(20),
            unless(58, 3),
            load(54),
            unless(135, 1),
            give(0xffff),
            give(0),
        ];
        let program = libc::sock_fprog {
            len: program.len() as u16,
            filter: program.as_mut_ptr(),
        };
        self.set(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
    }

    fn set<T>(&self, level: i32, option: i32, value: &T) -> io::Result<()> {
        let length = size_of::<T>() as libc::socklen_t;
        // SAFETY: the pointer is to a live value of the length given, which the
        // kernel copies, with what it points to, before returning.
        check(unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                option,
                std::ptr::from_ref(value).cast(),
                length,
            )
        })
        .map(drop)
    }
}

/// Everybody on the link.
pub const BROADCAST: Mac = [0xff; 6];

fn check(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
