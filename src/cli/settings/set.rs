//! What was given goes over what was there.

use std::time::Duration;

/// Puts what was given in the default's place.
pub fn set<T>(field: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *field = given;
    }
}

/// The same for a number of seconds.
pub fn set_seconds(field: &mut Duration, given: Option<u64>) {
    set(field, given.map(Duration::from_secs));
}
