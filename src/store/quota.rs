//! How much the state may take: from then on writes that grow are refused, with
//! the way out, and deletions and what makes objects smaller are taken. Pure.

use crate::apply::View;
use crate::types::Op;

/// Below this part of the quota, in parts of a hundred, all writes are taken again.
const RELIEF_PERCENT: u64 = 95;

/// Whether the state is full, given that it was or was not until now. Without
/// a quota (0) it never is.
pub fn is_full(bytes: u64, quota: u64, was: bool) -> bool {
    let limit = if was { quota / 100 * RELIEF_PERCENT } else { quota };
    quota > 0 && bytes >= limit
}

/// Whether operations make any entry larger than it is.
pub fn grow(ops: &[Op], view: &impl View) -> bool {
    ops.iter().any(|op| match op {
        Op::Delete { .. } => false,
        Op::Put { key, record, .. } => view
            .entry(key)
            .is_none_or(|entry| record.text.len() > entry.text.len()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relief_comes_well_below_the_quota() {
        assert!(!is_full(999, 1000, false));
        assert!(is_full(1000, 1000, false));
        assert!(is_full(960, 1000, true));
        assert!(!is_full(949, 1000, true));
        assert!(!is_full(u64::MAX, 0, false));
    }
}
