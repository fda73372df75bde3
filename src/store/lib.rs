//! A replicated, revisioned key-value store: the one place where the control
//! plane's state lives.
//!
//! Every change gets a revision of its own from one global counter; changes are
//! decided by compare-and-swap in a deterministic state machine (`apply.rs`),
//! ordered by Raft (`raft.rs`), made durable by a segment log (`log.rs`,
//! `segment.rs`), kept with their history in RocksDB (`rocks.rs`) and served
//! from memory (`cache.rs`, `window.rs`). Watches see each change exactly once,
//! in order.
//!
//! ```text
//! Store ─inputs─▶ driver ─turns─▶ core = raft member + apply ─▶ state (RocksDB)
//!   ▲    ▲          │  │                                     └─▶ cache ─▶ watches
//!   │    │          │  └─jobs─▶ log (segments, one sync per batch)
//!   └────│─answers──┤
//!        └─door ◀───┴─peers─▶ the other members (parcels and snapshots)
//! ```
//! A group of one is a group: the same code, with nobody to talk to. What makes
//! it several is in `membership.rs`, `calls.rs`, `reads.rs`, `check.rs`,
//! `peers.rs` and `wire.rs`; `docs/store.md` says how all of it is tested.
//!
//! Invariants: an answer is given only after its entry is synced and its effect
//! is visible; log is recycled only up to what the state has flushed; nothing in
//! `apply.rs` reads a clock or chance; only the driver's thread changes the
//! cache; every byte format says its version.
//!
//! What the object is, the store does not know: a record is a text, the place
//! in it where the revision goes, and a small header for filters.

mod apply;
mod backup;
mod cache;
mod call;
mod calls;
mod check;
mod codec;
mod command;
mod config;
mod core;
mod disk;
mod driver;
mod error;
#[cfg(test)]
mod fuzz;
mod habits;
mod history;
mod log;
mod membership;
mod meta;
mod metrics;
mod open;
mod parcel;
mod peers;
mod plant;
mod quota;
mod raft;
mod reads;
mod restore;
mod rocks;
mod segment;
mod shipment;
#[cfg(test)]
mod simulator;
mod state;
mod status;
mod store;
mod tail;
mod types;
mod upkeep;
mod version;
mod watch;
mod window;
mod wire;
mod witness;

pub use backup::{About as BackupAbout, Backup, Files as BackupFiles, verify as verify_backup};
pub use config::StoreConfig;
pub use error::StoreError;
pub use membership::{Change as MemberChange, Health, Peer};
pub use peers::{Dialer, Dialling, Stream};
pub use restore::restore;
pub use state::Usage;
pub use status::{Leadership, Status};
pub use store::Store;
pub use types::{Change, Entry, Event, Expect, Header, ListQuery, Listing, Op, Outcome, Record};
pub use watch::Watch;
