//! Instances that are kept between two uses.

use crate::limits::Account;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Instances kept for the next uses.
const IDLE_MAX: usize = 16;

/// Instances that wait for their next use.
pub(crate) struct Idle<T> {
    guests: Mutex<Vec<T>>,
    returned: Notify,
}

impl<T> Default for Idle<T> {
    fn default() -> Idle<T> {
        Idle {
            guests: Mutex::default(),
            returned: Notify::new(),
        }
    }
}

impl<T> Idle<T> {
    /// A used instance, or None once there is room for a new one. The used ones
    /// take up memory too: waiting for room alone could be waiting for ever.
    pub(crate) async fn take_or_room(&self, account: &Account) -> Option<T> {
        loop {
            let taken = self.lock().pop();
            if taken.is_some() {
                return taken;
            }
            tokio::select! {
                () = self.returned.notified() => {}
                () = account.room() => return None,
            }
        }
    }

    /// Keeps one, unless there are enough.
    pub(crate) fn put(&self, guest: T) {
        let mut guests = self.lock();
        if guests.len() < IDLE_MAX {
            guests.push(guest);
            self.returned.notify_one();
        }
    }

    // A std mutex: nothing awaits while it is held.
    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
