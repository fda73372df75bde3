//! A network that loses, delays, doubles and reorders, and in which any
//! direction between any two machines may be cut.

use std::collections::BTreeSet;

use base::{Random, SeededRandom};
use bytes::Bytes;

use crate::error::StoreError;
use crate::parcel::Parcel;
use crate::shipment::Shipment;
use crate::state::{Meta, Version};

/// Something on its way.
pub enum Freight {
    /// A parcel.
    Parcel(Parcel),
    /// A snapshot, of which the sender waits to hear.
    Snapshot(Box<Cargo>),
}

/// A snapshot, packed.
pub struct Cargo {
    /// Raft's part.
    pub message: ::raft::eraftpb::Message,
    /// The meta data, encoded.
    pub meta: Bytes,
    /// The state, in portions.
    pub portions: Vec<Vec<Version>>,
}

/// One flight.
pub struct Flight {
    /// The step in which it arrives.
    pub at: u64,
    /// Who sent it.
    pub from: u64,
    /// Who gets it.
    pub to: u64,
    /// What it is.
    pub freight: Freight,
}

/// See the module.
#[derive(Default)]
pub struct Network {
    flights: Vec<Flight>,
    cut: BTreeSet<(u64, u64)>,
    /// Of 100 parcels, so many are lost.
    pub lossy: u64,
    /// At most so many steps late.
    pub slow: u64,
    /// Snapshots that were lost: from whom, to whom.
    pub lost: Vec<(u64, u64)>,
}

impl Cargo {
    /// Packs a shipment; the state is copied as it was when the shipment was made.
    pub fn pack(mut shipment: Shipment) -> Result<Cargo, StoreError> {
        let mut portions = vec![];
        loop {
            match shipment.export.next()? {
                portion if portion.is_empty() => break,
                portion => portions.push(portion),
            }
        }
        Ok(Cargo {
            message: shipment.message,
            meta: shipment.meta.encode().into(),
            portions,
        })
    }

    /// The meta data.
    pub fn meta(&self) -> Meta {
        Meta::decode(self.meta.clone()).expect("meta data")
    }
}

impl Network {
    /// Sends something.
    pub fn send(&mut self, random: &SeededRandom, now: u64, from: u64, to: u64, freight: Freight) {
        if self.cut.contains(&(from, to)) || random.below(100) < self.lossy {
            if let Freight::Snapshot(_) = freight {
                self.lost.push((from, to));
            }
            return;
        }
        // Only what Raft sends may come twice: the rest travels in connections.
        if let Freight::Parcel(Parcel::Raft(message)) = &freight
            && random.below(100) < 5
        {
            let at = now + 1 + random.below(self.slow * 4 + 1);
            let freight = Freight::Parcel(Parcel::Raft(message.clone()));
            self.flights.push(Flight {
                at,
                from,
                to,
                freight,
            });
        }
        let at = now + 1 + random.below(self.slow + 1);
        self.flights.push(Flight {
            at,
            from,
            to,
            freight,
        });
    }

    /// What arrives now.
    pub fn arrivals(&mut self, now: u64) -> Vec<Flight> {
        self.flights.extract_if(.., |flight| flight.at <= now).collect()
    }

    /// Whether a call that changes the members is on its way.
    pub fn carries_change(&self) -> bool {
        let changes = |flight: &Flight| match &flight.freight {
            Freight::Parcel(Parcel::Forward { calls, .. }) => calls.iter().any(|call| call.membership),
            _ => false,
        };
        self.flights.iter().any(changes)
    }

    /// Cuts one direction.
    pub fn cut(&mut self, from: u64, to: u64) {
        self.cut.insert((from, to));
    }

    /// Mends all cuts, most of the time; the weather may change.
    pub fn heal_some(&mut self, random: &SeededRandom) {
        if random.below(4) > 0 {
            self.cut.clear();
        }
        self.change_weather(random);
    }

    /// Draws anew how much is lost, and how late.
    pub fn change_weather(&mut self, random: &SeededRandom) {
        (self.lossy, self.slow) = (random.below(3) * random.below(8), random.below(6));
    }

    /// Mends everything.
    pub fn heal(&mut self) {
        self.cut.clear();
        (self.lossy, self.slow) = (0, 1);
    }

    /// Loses everything that is on its way.
    pub fn lose_all(&mut self) {
        let lost = std::mem::take(&mut self.flights).into_iter();
        let snapshots = lost.filter(|flight| matches!(flight.freight, Freight::Snapshot(_)));
        self.lost.extend(snapshots.map(|flight| (flight.from, flight.to)));
    }

    /// A process ends, and with it the snapshots that it sends or takes in.
    /// What else is on its way may still arrive.
    pub fn break_off(&mut self, id: u64) {
        let broken = |f: &Flight| matches!(f.freight, Freight::Snapshot(_)) && (f.from == id || f.to == id);
        let (gone, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.flights).into_iter().partition(broken);
        self.flights = left;
        self.lost.extend(gone.into_iter().map(|f| (f.from, f.to)));
    }
}
