//! Snapshots on their way between members.

use ::raft::eraftpb::Message;

use crate::state::{Export, Install, Meta};

/// A snapshot for a member that lags too far behind.
pub struct Shipment {
    /// Raft's part, with the receiver.
    pub message: Message,
    /// What the state knows beside the entries.
    pub meta: Meta,
    /// The state.
    pub export: Box<dyn Export>,
}

/// A snapshot that came, complete.
pub struct Arrival {
    /// Raft's part.
    pub message: Message,
    /// The sender's meta data.
    pub meta: Meta,
    /// Puts the copy in the state's place.
    pub install: Install,
}
