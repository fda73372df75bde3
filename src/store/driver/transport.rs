//! What the driver needs of the way to the other members.

use crate::membership::Peer;
use crate::parcel::Parcel;
use crate::shipment::Shipment;

/// The way to the other members.
pub trait Transport: Send {
    /// Sends a parcel, or loses it. Never waits.
    fn send(&mut self, to: u64, parcel: Parcel);
    /// Sends a snapshot, and reports what became of it by [`Input::Shipped`](super::Input::Shipped).
    fn ship(&mut self, shipment: Shipment);
    /// Where the members are from now on.
    fn peers(&mut self, peers: &[Peer]);
    /// Where somebody is who has called, whether it is a member or not.
    fn meet(&mut self, peer: Peer);
}

/// For a group of one.
pub struct NoPeers;

impl Transport for NoPeers {
    fn send(&mut self, _: u64, _: Parcel) {}
    fn ship(&mut self, _: Shipment) {}
    fn peers(&mut self, _: &[Peer]) {}
    fn meet(&mut self, _: Peer) {}
}
