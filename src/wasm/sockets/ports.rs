//! Which ports guests have bound on all their addresses.
//!
//! A server on 0.0.0.0 must also answer the other containers of its pod at
//! 127.0.0.1, but it is bound to the pod's address alone. So the host remembers
//! it here, and a connection to the pod's loopback goes to the pod's address.

use crate::Protocol;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A pod, named by its loopback address, and a port in it.
type Key = (IpAddr, Protocol, u16);

/// The ports bound on 0.0.0.0, of all pods.
#[derive(Debug, Default)]
pub(crate) struct Ports(Mutex<HashMap<Key, usize>>);

impl Ports {
    /// Remembers a port until the claim is dropped.
    pub(crate) fn claim(self: &Arc<Self>, loopback: IpAddr, protocol: Protocol, port: u16) -> Claim {
        let key = (loopback, protocol, port);
        *self.lock().entry(key).or_default() += 1;
        Claim {
            ports: self.clone(),
            key,
        }
    }

    pub(crate) fn is_claimed(&self, loopback: IpAddr, protocol: Protocol, port: u16) -> bool {
        self.lock().contains_key(&(loopback, protocol, port))
    }

    // A std mutex: nothing awaits while it is held.
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One socket bound on 0.0.0.0.
#[derive(Debug)]
pub(crate) struct Claim {
    ports: Arc<Ports>,
    key: Key,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut ports = self.ports.lock();
        if let Some(count) = ports.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                ports.remove(&self.key);
            }
        }
    }
}
