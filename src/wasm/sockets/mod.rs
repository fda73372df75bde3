//! Where a guest's sockets really are.
//!
//! Guests of many pods may share one network namespace, in which every pod
//! address can be bound. Then what a guest says is translated: 0.0.0.0 is its
//! pod's address, 127.0.0.1 an address of 127/8 that only this pod uses, what
//! it sends comes from its pod's address, and the addresses of others are not
//! to be had. In a namespace of its own, or on the plain host, addresses mean
//! what they say. Services are balanced here in all cases, at connect and send.

mod behind;
mod grants;
mod heirlooms;
mod linker;
mod listen;
mod names;
mod nat;
mod ports;
mod routes;
mod tcp;
mod translate;
mod udp;
mod view;

pub(crate) use heirlooms::Heirlooms;
pub(crate) use linker::add_to_linker;
pub(crate) use listen::{Listener, listen};
pub(crate) use ports::{Claim, Ports};
pub(crate) use routes::Route;
pub(crate) use translate::{Refused, Sockets};
pub(crate) use view::{Book, Counted, HasSockets, Traffic};
