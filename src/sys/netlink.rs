//! Netlink: messages, attributes and the conversation with the kernel.
//!
//! Shared by [`crate::link`] and [`crate::nft`]. Everything is synchronous:
//! the kernel answers such requests while they are being sent, so there is
//! nothing to wait for, and a thread that visits a namespace must not await.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Bytes the kernel puts at most into one reply of a dump.
const REPLY_BYTES_MAX: usize = 64 * 1024;
/// A kernel that does not answer at once lost the reply (receive buffer
/// overrun); better an error than a thread that hangs.
const REPLY_TIMEOUT_SECONDS: i64 = 5;

/// Which part of the kernel to talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Links, addresses, routes, neighbours.
    Route,
    /// nftables and conntrack.
    Netfilter,
}

/// One or more netlink messages under construction, in one buffer.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
}

impl Buffer {
    /// An empty buffer.
    pub fn new() -> Buffer {
        Buffer::default()
    }

    /// Appends a message: header, then what `body` writes.
    pub fn message(&mut self, kind: u16, flags: u16, sequence: u32, body: impl FnOnce(&mut Buffer)) {
        let start = self.bytes.len();
        self.raw(&[0; 4])
            .raw(&kind.to_ne_bytes())
            .raw(&flags.to_ne_bytes());
        self.raw(&sequence.to_ne_bytes()).raw(&[0; 4]);
        body(self);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Appends bytes as they are: the fixed part of a message.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Buffer {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Appends an attribute, padded to four bytes.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Buffer {
        self.bytes
            .extend_from_slice(&((value.len() + 4) as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad()
    }

    /// Appends a NUL-terminated text attribute.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Buffer {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    /// Appends an attribute that holds what `body` writes.
    ///
    /// The length field has 16 bits: callers keep a nest below 64 KiB.
    pub fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Buffer)) -> &mut Buffer {
        let start = self.bytes.len();
        self.raw(&[0; 2])
            .raw(&(kind | libc::NLA_F_NESTED as u16).to_ne_bytes());
        body(self);
        let length = self.bytes.len() - start;
        debug_assert!(length <= usize::from(u16::MAX), "attribute of {length} bytes");
        self.bytes[start..start + 2].copy_from_slice(&(length as u16).to_ne_bytes());
        self.pad()
    }

    /// What was written so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What was written, handed over.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn pad(&mut self) -> &mut Buffer {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
        self
    }
}

/// A message from the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// The sequence number of the request it answers.
    pub sequence: u32,
    /// What follows the header.
    pub body: Vec<u8>,
}

/// What the kernel says to one request: `errno` 0 is an acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// Sequence number of the request.
    pub sequence: u32,
    /// Positive errno, or 0.
    pub errno: i32,
    /// The kernel's own words, when it has any (extended acknowledgement).
    pub text: Option<String>,
}

impl Ack {
    /// The refusal as an `io::Error` that says what was tried.
    pub fn into_result(self, what: &str) -> io::Result<()> {
        if self.errno == 0 {
            return Ok(());
        }
        let error = io::Error::from_raw_os_error(self.errno);
        let text = self.text.map(|t| format!(" ({t})")).unwrap_or_default();
        Err(io::Error::new(error.kind(), format!("{what}: {error}{text}")))
    }
}

/// A socket to the kernel of the namespace in which it was made.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open(family: Family) -> io::Result<Socket> {
        let protocol = match family {
            Family::Route => SockProtocol::NetlinkRoute,
            Family::Netfilter => SockProtocol::NetlinkNetFilter,
        };
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            protocol,
        )?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        setsockopt(
            &fd,
            sockopt::ReceiveTimeout,
            &TimeVal::seconds(REPLY_TIMEOUT_SECONDS),
        )?;
        // Without these two the kernel still answers, only with fewer words.
        let _ = set_option(&fd, libc::NETLINK_EXT_ACK);
        let _ = set_option(&fd, libc::NETLINK_CAP_ACK);
        Ok(Socket { fd, sequence: 0 })
    }

    /// A sequence number not used on this socket before.
    pub fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Sends one request and waits for its acknowledgement.
    pub fn request(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Buffer)) -> io::Result<Ack> {
        Ok(self.query(kind, flags, body)?.1)
    }

    /// Sends one request and returns what the kernel sent before its
    /// acknowledgement, and that.
    pub fn query(
        &mut self,
        kind: u16,
        flags: u16,
        body: impl FnOnce(&mut Buffer),
    ) -> io::Result<(Vec<Message>, Ack)> {
        let sequence = self.next_sequence();
        let mut buffer = Buffer::new();
        buffer.message(
            kind,
            flags | (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16,
            sequence,
            body,
        );
        self.send(buffer.bytes())?;
        let mut found = Vec::new();
        loop {
            for message in self.receive()?.into_iter().filter(|m| m.sequence == sequence) {
                match message.ack() {
                    Some(ack) => return Ok((found, ack)),
                    None => found.push(message),
                }
            }
        }
    }

    /// Sends one dump request and returns all messages of the answer.
    ///
    /// `Interrupted` if the table changed meanwhile and the dump may have
    /// gaps: ask again.
    pub fn dump(&mut self, kind: u16, body: impl FnOnce(&mut Buffer)) -> io::Result<Vec<Message>> {
        let sequence = self.next_sequence();
        let mut buffer = Buffer::new();
        buffer.message(
            kind,
            (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16,
            sequence,
            body,
        );
        self.send(buffer.bytes())?;
        let mut found = Vec::new();
        loop {
            for message in self.receive()?.into_iter().filter(|m| m.sequence == sequence) {
                if message.flags & libc::NLM_F_DUMP_INTR as u16 != 0 {
                    self.drain();
                    return Err(io::Error::new(
                        io::ErrorKind::Interrupted,
                        "table changed during dump",
                    ));
                }
                if message.kind == libc::NLMSG_DONE as u16 {
                    return Ok(found);
                }
                match message.ack() {
                    Some(ack) => ack.into_result("dump")?,
                    None => found.push(message),
                }
            }
        }
    }

    /// Sends bytes that hold complete messages.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.make_room(bytes.len());
        let sent = send(self.fd.as_raw_fd(), bytes, MsgFlags::empty())?;
        if sent != bytes.len() {
            return Err(io::Error::new(
                io::ErrorKind::WriteZero,
                "netlink message cut short",
            ));
        }
        Ok(())
    }

    /// Waits for the next datagram and splits it into messages.
    pub fn receive(&mut self) -> io::Result<Vec<Message>> {
        let mut buffer = vec![0u8; REPLY_BYTES_MAX];
        let length = loop {
            match recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => break length,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(e) => return Err(e.into()),
            }
        };
        Ok(split(&buffer[..length]))
    }

    /// One batch travels as one datagram, so the send buffer must hold it.
    fn make_room(&self, bytes: usize) {
        // The kernel doubles what is asked for and counts its own overhead.
        let wanted = bytes + bytes / 4 + 64 * 1024;
        let has = nix::sys::socket::getsockopt(&self.fd, sockopt::SndBuf).unwrap_or(0);
        if has < wanted && setsockopt(&self.fd, sockopt::SndBufForce, &wanted).is_err() {
            // Without CAP_NET_ADMIN over the initial namespace: up to wmem_max.
            let _ = setsockopt(&self.fd, sockopt::SndBuf, &wanted);
        }
    }

    /// Throws away what has arrived and nobody asked for.
    pub fn drain(&mut self) {
        let mut buffer = vec![0u8; REPLY_BYTES_MAX];
        while recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT).is_ok() {}
    }
}

impl Message {
    /// The acknowledgement or error that this message is, if it is one.
    pub fn ack(&self) -> Option<Ack> {
        if self.kind != libc::NLMSG_ERROR as u16 {
            return None;
        }
        let errno = self
            .body
            .get(..4)
            .map(|b| i32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
            .unwrap_or(0);
        Some(Ack {
            sequence: self.sequence,
            errno: errno.saturating_neg(),
            text: self.ack_text(),
        })
    }

    /// `NLMSGERR_ATTR_MSG`, which follows the echoed header of the request.
    fn ack_text(&self) -> Option<String> {
        if self.flags & libc::NLM_F_ACK_TLVS as u16 == 0 {
            return None;
        }
        let mut offset = 4 + HEADER;
        if self.flags & libc::NLM_F_CAPPED as u16 == 0 {
            let length = self.body.get(4..8)?;
            offset = 4 + u32::from_ne_bytes([length[0], length[1], length[2], length[3]]) as usize;
        }
        let value = attributes(self.body.get(offset..)?)
            .find(|(kind, _)| *kind == 1)?
            .1;
        Some(text(value))
    }
}

/// The attributes in `bytes`, nesting and byte-order flags stripped from
/// their kinds; stops at the first malformed one.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header = bytes.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

/// The first attribute of a kind.
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes)
        .find(|(k, _)| *k == kind)
        .map(|(_, value)| value)
}

/// A NUL-terminated text attribute's value.
pub fn text(value: &[u8]) -> String {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

fn split(mut bytes: &[u8]) -> Vec<Message> {
    let mut found = Vec::new();
    while let Some(header) = bytes.get(..HEADER) {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let Some(body) = bytes.get(HEADER..length) else {
            break;
        };
        found.push(Message {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            sequence: u32::from_ne_bytes([header[8], header[9], header[10], header[11]]),
            body: body.to_vec(),
        });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    found
}

fn set_option(fd: &OwnedFd, option: i32) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: `fd` is an open socket and the value is a live c_int of the
    // length given; the kernel copies it before returning.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_carry_their_length_and_attributes_are_padded() {
        let mut buffer = Buffer::new();
        buffer.message(7, 1, 9, |b| {
            b.raw(&[1, 2, 3, 4]).text(5, "abc").nest(6, |b| {
                b.attribute(1, &[9]);
            });
        });
        let messages = split(buffer.bytes());
        assert_eq!(messages.len(), 1);
        assert_eq!((messages[0].kind, messages[0].sequence), (7, 9));
        let body = &messages[0].body[4..];
        assert_eq!(text(attribute(body, 5).unwrap()), "abc");
        assert_eq!(attribute(attribute(body, 6).unwrap(), 1).unwrap(), &[9]);
    }

    #[test]
    fn garbage_ends_the_iteration() {
        assert_eq!(attributes(&[255, 255, 1, 0, 7]).count(), 0);
        assert_eq!(attributes(&[0, 0, 1, 0, 7, 7, 7, 7]).count(), 0);
        assert!(split(&[1; 20]).is_empty());
        assert!(split(&[16, 0, 0]).is_empty());
    }

    #[test]
    fn an_error_message_keeps_the_kernels_words() {
        let mut buffer = Buffer::new();
        let flags = (libc::NLM_F_CAPPED | libc::NLM_F_ACK_TLVS) as u16;
        buffer.message(libc::NLMSG_ERROR as u16, flags, 3, |b| {
            b.raw(&(-libc::EBUSY).to_ne_bytes())
                .raw(&[0; HEADER])
                .text(1, "no such thing");
        });
        let ack = split(buffer.bytes())[0].ack().unwrap();
        assert_eq!(
            ack,
            Ack {
                sequence: 3,
                errno: libc::EBUSY,
                text: Some("no such thing".into())
            }
        );
    }
}
