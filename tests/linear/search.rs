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
    let mut operations = operations.to_vec();
    operations.sort_by_key(|operation| operation.called);
    let mut tried = HashSet::new();
    let mut todo = vec![(Done::none_of(operations.len()), None)];
    let mut best = None;
    while let Some((done, value)) = todo.pop() {
        let Some(mut next) = done.next(&operations) else {
            return Ok(());
        };
        if best
            .as_ref()
            .is_none_or(|(before, _): &(Done, _)| done.count() > before.count())
        {
            best = Some((done.clone(), value));
        }
        if tried.len() > TRIED_MAX {
            return Err(format!("undecided: {}", stuck(best, &operations)));
        }
        let fits = |at: &usize| after(operations[*at].action, value).is_some();
        if let Some(idle) = next
            .iter()
            .find(|at| operations[**at].action.is_idle() && fits(at))
        {
            next = vec![*idle];
        }
        // The likeliest last, which is the stack's top.
        next.sort_by_key(|at| std::cmp::Reverse(operations[*at].hint.unwrap_or(u64::MAX)));
        for at in next {
            let Some(value) = after(operations[at].action, value) else {
                continue;
            };
            let done = done.with(at);
            if tried.insert((done.clone(), value)) {
                todo.push((done, value));
            }
        }
    }
    Err(stuck(best, &operations))
}

/// How far the search got.
fn stuck(best: Option<(Done, Option<u64>)>, operations: &[Operation]) -> String {
    let Some((done, value)) = best else {
        return "nothing was tried".to_owned();
    };
    let next = done.next(operations).unwrap_or_default();
    let waiting: Vec<_> = next.into_iter().map(|at| &operations[at]).collect();
    format!(
        "after {} of {}, with {value:?}, none fits of {waiting:?}",
        done.count(),
        operations.len()
    )
}

/// Which operations have happened: a bit for each.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Done(Vec<u64>);

impl Done {
    fn none_of(count: usize) -> Done {
        Done(vec![0; count.div_ceil(64)])
    }

    fn has(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 == 1
    }

    fn with(&self, at: usize) -> Done {
        let mut done = self.clone();
        done.0[at / 64] |= 1 << (at % 64);
        done
    }

    fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Those that can be next, of operations in the order in which they were called: they were called before
    /// any other of the rest returned. `None` if nothing is left that returned at all.
    fn next(&self, operations: &[Operation]) -> Option<Vec<usize>> {
        let word = self.0.iter().position(|word| *word != u64::MAX)?;
        let start = word * 64 + self.0[word].trailing_ones() as usize;
        let (mut next, mut first) = (vec![], None);
        for (at, operation) in operations.iter().enumerate().skip(start) {
            if first.is_some_and(|first| operation.called >= first) {
                break;
            }
            if !self.has(at) {
                next.push(at);
                first = first.into_iter().chain(operation.returned).min();
            }
        }
        let first = first?;
        next.retain(|at| operations[*at].called < first);
        Some(next)
    }
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
