//! What is said on the wire: ARP (RFC 826) and neighbour discovery (RFC 4861),
//! as whole Ethernet frames. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sys::link::Mac;
use sys::packet::BROADCAST;

const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];
const ICMPV6: u8 = 58;
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Set in an advertisement: an answer to somebody, and it replaces what is known.
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
/// All nodes on the link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];

/// Somebody asks who has an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question {
    /// Which.
    pub(super) wanted: IpAddr,
    mac: Mac,
    ip: IpAddr,
}

impl Question {
    /// Reads a frame; `None` if it is none, or nobody waits for an answer.
    pub(super) fn parse(frame: &[u8]) -> Option<Question> {
        match frame.get(12..14)? {
            kind if kind == ARP => arp_question(frame.get(14..)?),
            kind if kind == IPV6 => solicitation(frame),
            _ => None,
        }
    }

    /// The answer: it is me.
    pub(super) fn answer(&self, me: Mac) -> Vec<u8> {
        match (self.wanted, self.ip) {
            (IpAddr::V4(wanted), IpAddr::V4(ip)) => arp(REPLY, (me, wanted), (self.mac, ip), self.mac),
            (IpAddr::V6(wanted), IpAddr::V6(ip)) if ip.is_unspecified() => {
                advertisement(me, wanted, (ALL_NODES_MAC, ALL_NODES), OVERRIDE)
            }
            (IpAddr::V6(wanted), IpAddr::V6(ip)) => {
                advertisement(me, wanted, (self.mac, ip), SOLICITED | OVERRIDE)
            }
            // `parse` makes pairs of one family only.
            _ => Vec::new(),
        }
    }
}

/// What tells everybody that an address has moved here. Both forms of
/// gratuitous ARP, since some listen to the one and some to the other.
pub(super) fn announcements(address: IpAddr, me: Mac) -> Vec<Vec<u8>> {
    match address {
        IpAddr::V4(ip) => vec![
            arp(REQUEST, (me, ip), ([0; 6], ip), BROADCAST),
            arp(REPLY, (me, ip), (BROADCAST, ip), BROADCAST),
        ],
        IpAddr::V6(ip) => vec![advertisement(me, ip, (ALL_NODES_MAC, ALL_NODES), OVERRIDE)],
    }
}

fn arp_question(body: &[u8]) -> Option<Question> {
    let is_request = body.get(..8)? == [0, 1, 8, 0, 6, 4, 0, REQUEST];
    let ip = |at| Some(Ipv4Addr::from(<[u8; 4]>::try_from(body.get(at..at + 4)?).ok()?));
    let (sender, wanted) = (ip(14)?, ip(24)?);
    // Who announces the address itself asks nothing.
    (is_request && sender != wanted).then_some(Question {
        wanted: wanted.into(),
        mac: body.get(8..14)?.try_into().ok()?,
        ip: sender.into(),
    })
}

fn arp(operation: u8, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr), to: Mac) -> Vec<u8> {
    let mut frame = ethernet(to, sender.0, ARP);
    frame.extend([0, 1, 8, 0, 6, 4, 0, operation]);
    for (mac, ip) in [sender, target] {
        frame.extend(mac);
        frame.extend(ip.octets());
    }
    frame
}

/// RFC 4861, 7.1.1: the hop limit proves that it comes from this link.
fn solicitation(frame: &[u8]) -> Option<Question> {
    let (header, body) = (frame.get(14..54)?, frame.get(54..)?);
    let genuine = header[6] == ICMPV6 && header[7] == 255 && *body.first()? == SOLICITATION;
    let ip = |bytes: &[u8]| Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?));
    let wanted = ip(body.get(8..24)?)?;
    genuine.then_some(Question {
        wanted: wanted.into(),
        mac: frame.get(6..12)?.try_into().ok()?,
        ip: ip(&header[8..24])?.into(),
    })
}

fn advertisement(me: Mac, address: Ipv6Addr, (to_mac, to): (Mac, Ipv6Addr), flags: u8) -> Vec<u8> {
    let mut message = vec![ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0];
    message.extend(address.octets());
    // Option: target link-layer address, one unit of eight bytes.
    message.extend([2, 1]);
    message.extend(me);
    let sum = checksum(address, to, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = ethernet(to_mac, me, IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend((message.len() as u16).to_be_bytes());
    frame.extend([ICMPV6, 255]);
    frame.extend(address.octets());
    frame.extend(to.octets());
    frame.extend(message);
    frame
}

/// Of ICMPv6, over addresses, length and protocol too (RFC 8200, 8.1).
fn checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let pseudo = [0, 0, 0, message.len() as u8, 0, 0, 0, ICMPV6];
    let all = [&from.octets()[..], &to.octets(), &pseudo, message].concat();
    let words = all
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u32::from(*b)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn ethernet(to: Mac, from: Mac, kind: [u8; 2]) -> Vec<u8> {
    [&to[..], &from, &kind].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Mac = [2, 0, 0, 0, 0, 1];
    const YOU: Mac = [2, 0, 0, 0, 0, 2];

    #[test]
    fn a_question_by_arp_is_answered_to_who_asked() {
        let (wanted, you) = (Ipv4Addr::new(203, 0, 113, 7), Ipv4Addr::new(203, 0, 113, 1));
        let frame = arp(REQUEST, (YOU, you), ([0; 6], wanted), BROADCAST);
        let question = Question::parse(&frame).unwrap();
        assert_eq!(question.wanted, IpAddr::V4(wanted));
        let answer = question.answer(ME);
        assert_eq!(
            (&answer[..6], &answer[6..12], answer.len()),
            (&YOU[..], &ME[..], 42)
        );
        assert_eq!(answer[14..22], [0, 1, 8, 0, 6, 4, 0, REPLY]);
        assert_eq!(
            (&answer[22..28], &answer[28..32]),
            (&ME[..], &wanted.octets()[..])
        );
    }

    #[test]
    fn announcements_and_noise_are_no_questions() {
        for frame in announcements([203, 0, 113, 7].into(), ME) {
            assert_eq!(Question::parse(&frame), None);
        }
        for length in 0..60 {
            let _ = Question::parse(&vec![8; length]);
        }
    }

    #[test]
    fn a_solicitation_is_answered_with_a_valid_checksum() {
        let (wanted, you): (Ipv6Addr, Ipv6Addr) = ("fd00::7".parse().unwrap(), "fd00::1".parse().unwrap());
        // An advertisement turned into a solicitation: the same layout.
        let mut frame = advertisement(YOU, wanted, (ME, ALL_NODES), 0);
        frame[54] = SOLICITATION;
        frame[22..38].copy_from_slice(&you.octets());
        let question = Question::parse(&frame).unwrap();
        assert_eq!((question.wanted, question.ip), (wanted.into(), you.into()));
        let answer = question.answer(ME);
        assert_eq!((answer[54], answer[58]), (ADVERTISEMENT, SOLICITED | OVERRIDE));
        assert_eq!(checksum(wanted, you, &answer[54..]), 0);
        frame[21] = 64;
        assert_eq!(Question::parse(&frame), None, "from beyond the link");
    }
}
