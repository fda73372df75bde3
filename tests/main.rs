//! What Coracle promises, tried on the real binary with real clients.
//!
//! Every scenario runs in mount, network and process namespaces of its own,
//! with default ports, and leaves nothing behind however it ends. They need
//! root; as another user they are skipped out loud, which `CI=true` turns
//! into a failure.

mod support;

mod kubectl;
mod startup;
