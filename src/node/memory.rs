//! Gives memory back after bursts: the C library keeps what was freed, so that a node would stay as large as it was
//! at its height.

use std::time::Duration;

use base::{OnError, Tasks};

/// How often the node looks at what it keeps.
const EVERY: Duration = Duration::from_secs(10);
/// Less than this is left for the next requests.
const WORTH_BYTES: u64 = 8 << 20;

/// Looks after it for as long as the node runs.
pub(super) fn give_back(tasks: &Tasks) {
    tasks.spawn("give memory back", OnError::Log, look());
}

async fn look() {
    let mut left = Left::default();
    loop {
        tokio::time::sleep(EVERY).await;
        if left.is_much(sys::process::kept_memory()) {
            let trimmed = tokio::task::spawn_blocking(sys::process::trim_memory).await;
            if trimmed.is_ok() {
                left.0 = sys::process::kept_memory();
            }
        }
    }
}

/// Bytes that were kept when they were last looked at, which the library counts although the system has them.
#[derive(Default)]
struct Left(u64);

impl Left {
    /// Whether so much more is kept by now that giving it back is worth the walk over it.
    fn is_much(&mut self, kept: u64) -> bool {
        self.0 = self.0.min(kept);
        kept - self.0 >= WORTH_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_come_since_counts() {
        let mut left = Left::default();
        assert!(!left.is_much(WORTH_BYTES - 1));
        assert!(left.is_much(3 * WORTH_BYTES));
        left.0 = 3 * WORTH_BYTES;
        assert!(!left.is_much(3 * WORTH_BYTES));
        // What was used again and freed again is kept anew.
        assert!(!left.is_much(WORTH_BYTES));
        assert!(left.is_much(2 * WORTH_BYTES));
    }
}
