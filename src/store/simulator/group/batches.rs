//! What is committed together: done whole or not at all, in one piece, and nobody ever sees a part of it.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use linear::Wish;

/// What an operation does: to which key, and what it writes there unless it deletes it.
type Step = (&'static str, Option<u64>);

/// See the module.
#[derive(Default)]
pub struct Batches {
    /// What follows the first operation, by the value that this one writes.
    begun_by: HashMap<u64, Vec<Step>>,
    /// Values that are written by others than the first.
    inner: HashSet<u64>,
    /// What must be seen next.
    rest: VecDeque<Step>,
    /// Revisions at which only a part is there.
    torn: BTreeSet<u64>,
    /// How many were seen.
    pub seen: u64,
}

fn written(wish: Wish) -> Option<u64> {
    match wish {
        Wish::Put(value) | Wish::Swap(_, value) | Wish::Create(value) => Some(value),
        Wish::Delete | Wish::Get => None,
    }
}

impl Batches {
    /// These are asked for together. The first writes: by what it writes the whole is known again.
    pub fn ask(&mut self, wishes: &[(&'static str, Wish)]) {
        let mut steps = wishes.iter().map(|(key, wish)| (*key, written(*wish)));
        let first = steps
            .next()
            .and_then(|(_, value)| value)
            .expect("a first that writes");
        let rest: Vec<Step> = steps.collect();
        self.inner.extend(rest.iter().filter_map(|(_, value)| *value));
        self.begun_by.insert(first, rest);
    }

    /// The next change is seen; `there` says which keys there are after it.
    pub fn see(
        &mut self,
        revision: u64,
        key: &str,
        value: Option<u64>,
        there: impl Fn(&str) -> bool,
    ) -> Result<(), String> {
        match (self.rest.pop_front(), value) {
            (Some(next), _) if next != (key, value) => {
                return Err(format!(
                    "revision {revision} comes in the middle of a commit, where {next:?} was due"
                ));
            }
            (Some(_), _) => {}
            (None, Some(value)) if self.inner.contains(&value) => {
                return Err(format!(
                    "revision {revision} is a part of a commit, of which nothing came before"
                ));
            }
            (None, Some(value)) => {
                let begun = self.begun_by.remove(&value);
                self.seen += u64::from(begun.is_some());
                self.rest.extend(begun.into_iter().flatten());
            }
            (None, None) => {}
        }
        // Deleting what is not there is seen by nobody.
        while self
            .rest
            .pop_front_if(|(key, value)| value.is_none() && !there(key))
            .is_some()
        {}
        if !self.rest.is_empty() {
            self.torn.insert(revision);
        }
        Ok(())
    }

    /// Whether all that is there up to this revision is whole.
    pub fn is_whole(&self, revision: u64) -> bool {
        !self.torn.contains(&revision)
    }
}
