//! The HTTP servers of one pod, known to one another.
//!
//! A request from one program of a pod to another is handed over in memory: no socket, nothing that is written and
//! parsed. Who asks names an address as ever, and whether it may be reached is decided before anybody looks here.
//! Servers that are not found here, or take nothing in any more, are left to the network.

use hyper::{Request, Response};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use wasmtime_wasi_http::{Error, WasiBody};

/// The servers of one pod by the addresses to which they are bound. Belongs to the pod's [`crate::Network`], so that
/// servers of other pods are not to be found in it.
#[derive(Default)]
pub struct Neighbours(Mutex<HashMap<SocketAddr, Weak<dyn Door>>>);

/// An answer to come.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Result<Response<WasiBody>, Error>> + Send>>;

/// Takes one request in, from the program at that address.
pub(crate) type Entrance = Box<dyn FnOnce(Request<WasiBody>, SocketAddr) -> Answering + Send>;

/// A server, as its neighbours see it.
pub(crate) trait Door: Send + Sync {
    /// The way in, while the server would accept a connection as well. A server that ends waits for whoever has it.
    fn open(self: Arc<Self>) -> Option<Entrance>;
}

impl Neighbours {
    /// Makes a server known; it takes the place of one that was bound there before.
    pub(crate) fn introduce(&self, bound: SocketAddr, door: Weak<dyn Door>) {
        self.lock().insert(bound, door);
    }

    /// The way into the server that is bound there.
    pub(crate) fn enter(&self, bound: SocketAddr) -> Option<Entrance> {
        let door = self.lock().get(&bound).and_then(Weak::upgrade);
        door?.open()
    }

    // A std mutex: nothing awaits while it is held.
    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Weak<dyn Door>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// A server that refuses whoever enters, and lets in while it is open.
    struct Simple(AtomicBool);

    impl Door for Simple {
        fn open(self: Arc<Self>) -> Option<Entrance> {
            let answer = || Box::pin(async { Err(Error::LoopDetected) }) as Answering;
            let is_open = self.0.load(Ordering::Relaxed);
            is_open.then(|| Box::new(move |_: Request<WasiBody>, _: SocketAddr| answer()) as Entrance)
        }
    }

    #[test]
    fn a_server_is_found_where_it_is_bound_while_it_takes_requests_in() {
        let neighbours = Neighbours::default();
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let one = Arc::new(Simple(AtomicBool::new(true)));
        let known: Weak<Simple> = Arc::downgrade(&one);
        neighbours.introduce(at("10.0.0.5:80"), known);
        assert!(neighbours.enter(at("10.0.0.5:80")).is_some());
        assert!(neighbours.enter(at("10.0.0.5:81")).is_none());
        assert!(neighbours.enter(at("10.0.0.6:80")).is_none());
        one.0.store(false, Ordering::Relaxed);
        assert!(neighbours.enter(at("10.0.0.5:80")).is_none(), "it drains");
        drop(one);
        assert!(neighbours.enter(at("10.0.0.5:80")).is_none(), "it is gone");
        let next = Arc::new(Simple(AtomicBool::new(true)));
        let known: Weak<Simple> = Arc::downgrade(&next);
        neighbours.introduce(at("10.0.0.5:80"), known);
        assert!(
            neighbours.enter(at("10.0.0.5:80")).is_some(),
            "it has begun again"
        );
    }
}
