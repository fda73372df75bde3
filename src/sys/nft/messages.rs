//! The kinds of messages, and how they begin.

use crate::netlink::Buffer;

pub(super) const SUBSYSTEM: u16 = 10 << 8;

pub(super) const NEW_TABLE: u16 = SUBSYSTEM;
pub(super) const GET_TABLE: u16 = SUBSYSTEM | 1;
pub(super) const DELETE_TABLE: u16 = SUBSYSTEM | 2;
pub(super) const NEW_CHAIN: u16 = SUBSYSTEM | 3;
pub(super) const NEW_RULE: u16 = SUBSYSTEM | 6;
pub(super) const NEW_SET: u16 = SUBSYSTEM | 9;
pub(super) const NEW_ELEMENT: u16 = SUBSYSTEM | 12;
pub(super) const GET_ELEMENT: u16 = SUBSYSTEM | 13;
pub(super) const DELETE_ELEMENT: u16 = SUBSYSTEM | 14;

/// `struct nfgenmsg`.
pub(super) fn header(b: &mut Buffer, family: u8) {
    b.raw(&[family, 0, 0, 0]);
}
