//! One webhook's turn in a request.

use std::time::Instant;

use super::hook::Hook;
use crate::admission::dynamic::subject::Subject;
use crate::admission::metrics::Phase;

/// One webhook's turn in a request.
pub struct Course<'a> {
    /// Whose.
    pub hook: &'a Hook,
    /// In which request.
    pub subject: &'a Subject,
    /// In which half of admission.
    pub phase: Phase,
    /// Which of the webhooks it is, and in which round.
    pub turn: Turn,
    /// When it began.
    pub began: Instant,
}

/// A webhook's place in a request.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// 0 for the first round, 1 for those who are asked again.
    pub round: usize,
    /// Which one it is among all.
    pub index: usize,
}

impl Turn {
    /// What is noted of it stands under this key.
    pub fn key(self, prefix: &str) -> String {
        format!("{prefix}round_{}_index_{}", self.round, self.index)
    }
}
