//! Room for many, of which one may have half: nobody keeps all others out. Pure, but for its lock.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// So much room, and who has taken what of it.
pub struct Shares<K: Eq + Hash> {
    max: usize,
    // A std lock: nothing awaits while it is held.
    taken: Mutex<Taken<K>>,
}

struct Taken<K> {
    all: usize,
    each: HashMap<K, usize>,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// All of it is taken.
    All,
    /// The one who asks has their half.
    One,
}

impl<K: Clone + Eq + Hash> Shares<K> {
    /// So much room.
    pub fn new(max: usize) -> Arc<Self> {
        let taken = Taken {
            all: 0,
            each: HashMap::new(),
        };
        Arc::new(Self {
            max,
            taken: Mutex::new(taken),
        })
    }

    /// Takes room for somebody, until what is returned is dropped. Whoever has nothing yet may take more than half
    /// of it, as long as it is there.
    ///
    /// # Errors
    /// When there is not so much room.
    pub fn take(self: &Arc<Self>, who: K, amount: usize) -> Result<Share<K>, Full> {
        let mut taken = self.taken();
        let amount = amount.min(self.max);
        if taken.all + amount > self.max {
            return Err(Full::All);
        }
        let own = taken.each.get(&who).copied().unwrap_or_default();
        if own > 0 && own + amount > self.max.div_ceil(2) {
            return Err(Full::One);
        }
        taken.all += amount;
        taken.each.insert(who.clone(), own + amount);
        let of = self.clone();
        Ok(Share { of, who, amount })
    }

    fn taken(&self) -> MutexGuard<'_, Taken<K>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room that somebody has, while this lives.
pub struct Share<K: Eq + Hash> {
    of: Arc<Shares<K>>,
    who: K,
    amount: usize,
}

impl<K: Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        let mut taken = self.of.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= self.amount;
        if let Some(own) = taken.each.get_mut(&self.who) {
            *own -= self.amount;
            if *own == 0 {
                taken.each.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_leaves_room_for_others() {
        let shares = Shares::new(4);
        let take = |who: &'static str, amount| shares.take(who, amount);
        let first = take("a", 1).unwrap();
        let second = take("a", 1).unwrap();
        assert_eq!(take("a", 1).err(), Some(Full::One));
        let third = take("b", 1).unwrap();
        drop(first);
        let fourth = take("a", 1).unwrap();
        let fifth = take("b", 1).unwrap();
        assert_eq!(take("c", 1).err(), Some(Full::All));
        drop((second, third, fourth, fifth));
        assert!(shares.taken().each.is_empty());
        let whole = take("a", 9).unwrap();
        assert_eq!(take("b", 1).err(), Some(Full::All));
        drop(whole);
        assert_eq!(shares.taken().all, 0);
    }
}
