//! Where an instance's sockets may connect to and which names it may look up, besides what its network says.

use crate::AllowedHosts;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Addresses whose names are known at once. More are begun anew: who needs one of those looks it up again.
const ADDRESSES_MAX: usize = 1024;

/// What was granted. Grants speak of names and sockets of addresses, so what a guest looks up is remembered.
#[derive(Default)]
pub(super) struct Grants {
    /// None: anything.
    allowed: Option<AllowedHosts>,
    // A std mutex: nothing awaits while it is held.
    names: Mutex<HashMap<IpAddr, BTreeSet<String>>>,
}

impl Grants {
    pub(super) fn new(allowed: Option<AllowedHosts>) -> Grants {
        Grants {
            allowed,
            names: Mutex::default(),
        }
    }

    /// Whether a request may go to a URL of these parts.
    pub(super) fn url(&self, scheme: &str, host: &str, port: u16) -> bool {
        let allowed = self.allowed.as_ref();
        allowed.is_none_or(|allowed| allowed.permits(scheme, host, port))
    }

    /// Whether a name may be looked up.
    pub(super) fn name(&self, name: &str) -> bool {
        let allowed = self.allowed.as_ref();
        allowed.is_none_or(|allowed| allowed.permits_name(&plain(name)))
    }

    /// Whether a socket may be connected to an address, or to one of the names that it was found under.
    pub(super) fn address(&self, wanted: SocketAddr) -> bool {
        let Some(allowed) = &self.allowed else {
            return true;
        };
        let names = self.names();
        let names = names.get(&wanted.ip().to_canonical());
        allowed.permits_address(wanted, names.into_iter().flatten().map(String::as_str))
    }

    /// Remembers what was found under a name that may be looked up.
    pub(super) fn note(&self, name: &str, found: &[IpAddr]) {
        if self.allowed.is_none() {
            return;
        }
        let mut names = self.names();
        for address in found {
            if names.len() >= ADDRESSES_MAX {
                names.clear();
            }
            let known = names.entry(address.to_canonical()).or_default();
            // Somebody else decides how many names lead to one address.
            if known.len() >= ADDRESSES_MAX {
                known.clear();
            }
            known.insert(plain(name));
        }
    }

    fn names(&self) -> MutexGuard<'_, HashMap<IpAddr, BTreeSet<String>>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name as grants have it.
fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_go_where_permitted_names_lead() {
        let allowed = AllowedHosts::parse(["tcp://db.lan:5432", "tcp://10.0.0.0/24:80"]).unwrap();
        let grants = Grants::new(Some(allowed));
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(grants.address(at("10.0.0.9:80")));
        assert!(!grants.address(at("10.1.0.9:5432")), "nobody knows its name");
        assert!(grants.name("DB.lan.") && grants.name("10.0.0.4"));
        assert!(!grants.name("evil.lan") && !grants.name("10.1.0.4"));
        grants.note("DB.lan.", &[[10, 1, 0, 9].into()]);
        assert!(grants.address(at("10.1.0.9:5432")));
        assert!(grants.address(at("[::ffff:10.1.0.9]:5432")));
        assert!(!grants.address(at("10.1.0.9:5433")) && !grants.address(at("10.1.0.8:5432")));
        let free = Grants::default();
        assert!(free.name("evil.lan") && free.address(at("10.1.0.9:1")));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let grants = Grants::new(Some(AllowedHosts::parse(["*://*:*"]).unwrap()));
        for number in 0..3 * ADDRESSES_MAX as u32 {
            grants.note("a", &[IpAddr::from(number.to_be_bytes())]);
            grants.note(&format!("n{number}"), &[[9, 9, 9, 9].into()]);
        }
        let names = grants.names();
        assert!(names.len() <= ADDRESSES_MAX);
        assert!(names.values().all(|names| names.len() <= ADDRESSES_MAX));
    }
}
