//! Pods of other nodes: routes to them, through the network that connects the
//! nodes or through a vxlan of our own.
//!
//! ```text
//! Node objects ─▶ peers ─▶ wanted() ─▶ difference to the kernel ─▶ routes, neighbours, forwards
//!                   └─▶ network/peers, for a start without a server
//! ```
//!
//! A peer on a network that this machine is on too gets a plain route; any
//! other is reached by vxlan (UDP port 4789), whose device `cxID` learns
//! nothing: hardware address and identifier of a peer's device follow from its
//! pod range (`plan::station`), so that Node objects say all there is to know.

mod apply;
mod follow;
mod object;
mod peer;
pub(crate) mod plan;
mod record;

pub(crate) use apply::{Links, forget};
pub use follow::follow;
pub use object::ROUTING_ANNOTATION;
pub use peer::{Peer, PodRouting};
pub(crate) use record::{read, write};
