//! How many watches there may be: each costs memory for as long as its client pleases.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use api::status::Status;

use super::given_up::{GivenUp, Reason};
use super::reply;
use super::shares::{Share, Shares};

/// The watches of all clients, of which one user may have half.
pub struct Watches {
    names: RandomState,
    room: Arc<Shares<u64>>,
    given_up: GivenUp,
}

/// A watch's place, until it is dropped.
pub type Place = Share<u64>;

impl Watches {
    /// Room for that many.
    pub fn new(max: usize, given_up: GivenUp) -> Self {
        Self {
            names: RandomState::new(),
            room: Shares::new(max),
            given_up,
        }
    }

    /// Takes a place for a watch of that user.
    ///
    /// # Errors
    /// 429 when there is none.
    pub fn admit(&self, user: &str) -> Result<Place, Status> {
        self.room.take(self.names.hash_one(user), 1).map_err(|_| {
            self.given_up.count(Reason::Watches);
            reply::busy()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_has_half_of_all_watches() {
        let watches = Watches::new(4, GivenUp::default());
        let held: Vec<Place> = (0..9).map_while(|_| watches.admit("a").ok()).collect();
        assert_eq!(held.len(), 2);
        let other = watches.admit("b").unwrap();
        assert_eq!(watches.admit("a").err().map(|status| status.code), Some(429));
        drop(held);
        assert!(watches.admit("a").is_ok());
        drop(other);
    }
}
