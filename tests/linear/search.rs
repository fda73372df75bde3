//! Is a history linearizable? The algorithm of Wing and Gong, with Lowe's
//! memory of what has been tried: look for an order of all operations in which
//! each takes effect at one moment between its call and its return.

use std::collections::HashSet;

/// What a client did to the one register, and what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Writes, whatever was there.
    Put(u64),
    /// Writes if this was there; whether it was.
    Swap(u64, u64, bool),
    /// Writes if nothing was there; whether nothing was.
    Create(u64, bool),
    /// Removes what is there; whether something was, if that is known.
    Delete(Option<bool>),
    /// Reads.
    Get(Option<u64>),
}

impl Action {
    /// Whether it leaves everything as it is. Where such an operation can have
    /// happened at once, nothing is lost by assuming that it did.
    fn is_idle(self) -> bool {
        matches!(
            self,
            Action::Get(_)
                | Action::Swap(_, _, false)
                | Action::Create(_, false)
                | Action::Delete(Some(false))
        )
    }
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// When it was called.
    pub called: u64,
    /// When it returned; never, if nobody knows whether it was done. Then what
    /// it was told is taken to be that it was.
    pub returned: Option<u64>,
    /// What it did.
    pub action: Action,
    /// Which effect is likely to have come earlier; nothing is concluded from
    /// it, but with it the search is short.
    pub hint: Option<u64>,
}

/// The register after an operation, if it can have happened then.
fn after(action: Action, before: Option<u64>) -> Option<Option<u64>> {
    match action {
        Action::Put(value) => Some(Some(value)),
        Action::Swap(expected, value, true) => (before == Some(expected)).then_some(Some(value)),
        Action::Swap(expected, _, false) => (before != Some(expected)).then_some(before),
        Action::Create(value, true) => before.is_none().then_some(Some(value)),
        Action::Create(_, false) => before.is_some().then_some(before),
        Action::Delete(None) => Some(None),
        Action::Delete(Some(there)) => (before.is_some() == there).then_some(None),
        Action::Get(seen) => (before == seen).then_some(before),
    }
}

/// States that are tried at most. A history that needs more has too many
/// operations about which nobody knows anything.
const TRIED_MAX: usize = 300_000;

/// Looks for an order of the operations on one register, at first empty, that
/// explains all answers. The error says how far it got.
pub fn linearizable(operations: &[Operation]) -> Result<(), String> {
    let words = operations.len().div_ceil(64);
    let mut tried = HashSet::new();
    let mut todo = vec![(vec![0u64; words], None)];
    let mut best = (0, String::new());
    while let Some((done, value)) = todo.pop() {
        let is_done = |at: usize| done[at / 64] >> (at % 64) & 1 == 1;
        let open = || operations.iter().enumerate().filter(|(at, _)| !is_done(*at));
        let Some(first) = open().filter_map(|(_, operation)| operation.returned).min() else {
            return Ok(());
        };
        let mut next: Vec<_> = open().filter(|(_, operation)| operation.called < first).collect();
        let count = done.iter().map(|word| word.count_ones()).sum::<u32>();
        if count > best.0 {
            let waiting: Vec<_> = next.iter().map(|(_, operation)| operation).collect();
            best = (
                count,
                format!(
                    "after {count} of {}, with {value:?}, none fits of {waiting:?}",
                    operations.len()
                ),
            );
        }
        if tried.len() > TRIED_MAX {
            return Err(format!("undecided: {}", best.1));
        }
        let fits = |operation: &Operation| after(operation.action, value).is_some();
        if let Some(idle) = next.iter().position(|(_, o)| o.action.is_idle() && fits(o)) {
            next = vec![next[idle]];
        }
        // The likeliest last, which is the stack's top.
        next.sort_by_key(|(_, operation)| std::cmp::Reverse(operation.hint.unwrap_or(u64::MAX)));
        for (at, operation) in next {
            let Some(value) = after(operation.action, value) else {
                continue;
            };
            let mut done = done.clone();
            done[at / 64] |= 1 << (at % 64);
            if tried.insert((done.clone(), value)) {
                todo.push((done, value));
            }
        }
    }
    Err(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Action::*;

    fn history(operations: &[(u64, u64, Action)]) -> bool {
        let operation = |(called, returned, action): &(u64, u64, Action)| Operation {
            called: *called,
            returned: (*returned > 0).then_some(*returned),
            action: *action,
            hint: None,
        };
        linearizable(&operations.iter().map(operation).collect::<Vec<_>>()).is_ok()
    }

    #[test]
    fn good_histories_are_good() {
        assert!(history(&[]));
        assert!(history(&[
            (1, 2, Put(1)),
            (3, 4, Get(Some(1))),
            (5, 6, Delete(Some(true))),
            (7, 8, Get(None))
        ]));
        // Two at once may happen in either order.
        assert!(history(&[(1, 5, Put(1)), (2, 6, Put(2)), (7, 8, Get(Some(1)))]));
        assert!(history(&[(1, 5, Put(1)), (2, 6, Put(2)), (7, 8, Get(Some(2)))]));
        // What nobody knows about may happen late, or never.
        assert!(history(&[
            (1, 0, Put(1)),
            (2, 3, Get(None)),
            (4, 5, Get(Some(1)))
        ]));
        assert!(history(&[(1, 0, Put(1)), (2, 3, Get(None)), (4, 5, Get(None))]));
        assert!(history(&[
            (1, 2, Create(1, true)),
            (3, 4, Create(2, false)),
            (5, 6, Swap(1, 3, true))
        ]));
    }

    #[test]
    fn bad_histories_are_bad() {
        assert!(!history(&[(1, 2, Put(1)), (3, 4, Get(None))]), "a lost write");
        assert!(
            !history(&[(1, 2, Put(1)), (3, 4, Put(2)), (5, 6, Get(Some(1)))]),
            "a stale read"
        );
        assert!(!history(&[(1, 2, Get(Some(7)))]), "a value from nowhere");
        assert!(
            !history(&[(1, 2, Put(1)), (3, 8, Swap(1, 2, true)), (4, 9, Swap(1, 3, true))]),
            "two winners"
        );
        let back = [
            (1, 2, Put(1)),
            (3, 9, Put(2)),
            (4, 5, Get(Some(2))),
            (6, 7, Get(Some(1))),
        ];
        assert!(!history(&back), "a read that goes back");
        assert!(
            !history(&[(1, 0, Put(1)), (2, 3, Get(Some(1))), (4, 5, Get(None))]),
            "undone again"
        );
        assert!(
            !history(&[(1, 2, Create(1, true)), (3, 4, Create(2, true))]),
            "created twice"
        );
        assert!(
            !history(&[(3, 4, Put(1)), (1, 2, Get(Some(1)))]),
            "read before it was written"
        );
        assert!(
            !history(&[(1, 2, Put(1)), (3, 4, Delete(Some(false)))]),
            "it was there"
        );
    }
}
