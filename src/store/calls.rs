//! Writes on their way, of this member's own callers. Pure.
//!
//! ```text
//!           ┌────────── not done, certainly ──────────┐
//!           ▼                                         │
//! add ─▶ parked ─▶ proposed here, or forwarded ─▶ applied here ─▶ answered
//!           │         in term T                       │
//!           └─ too late: not done                     └─ too late: outcome unknown
//! ```
//! A call is proposed by the leader of one term only. So once this member has
//! applied an entry of a later term, the call was applied before or never will
//! be: it can be tried again without doing it twice. A change of leaders costs
//! callers time, and nothing else.

use std::collections::BTreeMap;

use crate::call::{Answer, Call};
use crate::error::StoreError;
use crate::parcel::{Forwarded, Reply};

/// Ticks after which a caller is told that the outcome is unknown, or that there is no leader.
const PATIENCE_TICKS: u64 = 200;

/// Who can be asked to put calls into the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nobody now.
    Nobody,
    /// This member, which leads in this term.
    Here {
        /// Its term.
        term: u64,
    },
    /// Another member.
    There {
        /// Its id.
        leader: u64,
        /// Its term, as far as is known here.
        term: u64,
    },
}

/// All calls on their way, by number.
#[derive(Default)]
pub struct Calls {
    waiting: BTreeMap<u64, Waiting>,
    /// Numbers of those that are parked, in the order in which they came.
    parked: Vec<u64>,
    /// Sent back by one that does not lead: parked when another one does, or at the
    /// next tick, by when more may be known of it.
    sent_back: Vec<u64>,
    now: u64,
}

struct Waiting {
    answer: Answer,
    /// None once it cannot be needed again.
    data: Option<Vec<u8>>,
    membership: bool,
    /// The term in which it was handed over; none if it is parked.
    handed: Option<u64>,
    /// It changed the group, and is answered when that is settled.
    done: bool,
    since: u64,
}

impl Calls {
    /// Takes a call.
    pub fn add(&mut self, call: Call) {
        self.parked.push(call.number);
        let waiting = Waiting {
            answer: call.answer,
            data: Some(call.data),
            membership: call.membership,
            handed: None,
            done: false,
            since: self.now,
        };
        self.waiting.insert(call.number, waiting);
    }

    /// How many have not been answered.
    pub fn under_way(&self) -> usize {
        self.waiting.len()
    }

    /// Whether calls are parked.
    pub fn any_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    /// Hands all parked calls over, to be proposed in `term`. With `keep`,
    /// they can be tried again.
    pub fn hand_over(&mut self, term: u64, keep: bool) -> Vec<Forwarded> {
        let mut handed = vec![];
        for number in std::mem::take(&mut self.parked) {
            let Some(call) = self.waiting.get_mut(&number) else {
                continue;
            };
            if call.answer.is_closed() {
                // Nobody wants it any more, and nothing was done.
                self.waiting.remove(&number);
                continue;
            }
            call.handed = Some(term);
            let data = if keep { call.data.clone() } else { call.data.take() };
            handed.push(Forwarded {
                number,
                membership: call.membership,
                data: data.unwrap_or_default(),
            });
        }
        handed
    }

    /// Answers one.
    pub fn answer(&mut self, number: u64, answer: Result<Vec<crate::types::Outcome>, StoreError>) {
        if let Some(call) = self.waiting.remove(&number) {
            let _ = call.answer.send(answer);
        }
    }

    /// One was applied here, and this came of it. Changes of the group are not done with that.
    pub fn applied(&mut self, number: u64, answer: Result<Vec<crate::types::Outcome>, StoreError>) {
        match self.waiting.get_mut(&number) {
            Some(call) if call.membership && answer.is_ok() => call.done = true,
            _ => self.answer(number, answer),
        }
    }

    /// The changes of the group that were applied are settled.
    pub fn release_changes(&mut self) {
        let done = self.waiting.extract_if(.., |_, call| call.done);
        done.for_each(|(_, call)| drop(call.answer.send(Ok(vec![]))));
    }

    /// Takes back what the leader of `term` did not put into the log.
    pub fn returned(&mut self, term: u64, number: u64, reply: Reply) {
        // A late answer, about a call that has been handed to another one since,
        // would have it done twice.
        if self
            .waiting
            .get(&number)
            .is_none_or(|call| call.handed != Some(term) || call.done)
        {
            return;
        }
        match reply {
            Reply::NotLeader => match self.waiting.get_mut(&number) {
                // At once: from here on nothing but the next tick may park it.
                Some(call) if call.data.is_some() => {
                    call.handed = None;
                    self.sent_back.push(number);
                }
                // Handed over for good by a member that was alone.
                _ => self.answer(number, Err(StoreError::Overloaded)),
            },
            Reply::Begun => self.answer(number, Ok(vec![])),
            Reply::Overloaded => self.answer(number, Err(StoreError::Overloaded)),
            Reply::Refused(reason) => self.answer(number, Err(StoreError::Membership(reason))),
        }
    }

    /// An entry of `term` was applied: what was handed over in an earlier one
    /// and is still here was not done and never will be.
    pub fn fence(&mut self, term: u64) {
        let early = |(number, call): (&u64, &Waiting)| {
            let undone = !call.done && call.handed.is_some_and(|at| at < term);
            undone.then_some(*number)
        };
        let undone: Vec<u64> = self.waiting.iter().filter_map(early).collect();
        undone.into_iter().for_each(|number| self.park(number));
    }

    /// The log was skipped: who knows what was in it.
    pub fn skipped(&mut self) {
        self.give_up(|call| call.handed.is_some(), || StoreError::Uncertain);
    }

    /// Somebody leads of whom nothing was known: what was sent back can be tried there.
    pub fn try_again(&mut self) {
        self.parked.append(&mut self.sent_back);
    }

    /// Lets a tick pass: who has waited too long is told what is known.
    pub fn tick(&mut self) {
        self.now += 1;
        self.try_again();
        let late = self.now.saturating_sub(PATIENCE_TICKS);
        self.give_up(
            |call| call.since < late && call.handed.is_some(),
            || StoreError::Uncertain,
        );
        self.give_up(
            |call| call.since < late || call.handed.is_none() && call.answer.is_closed(),
            no_leader,
        );
    }

    /// The disk takes nothing any more, for this reason: nobody shall wait for it.
    pub fn suspend(&mut self, reason: &str) {
        let why = |uncertain| StoreError::Unwritable {
            reason: reason.to_owned(),
            uncertain,
        };
        self.give_up(|call| call.handed.is_some(), || why(true));
        self.refuse(|| why(false));
    }

    /// Refuses all.
    pub fn refuse(&mut self, why: impl Fn() -> StoreError) {
        self.give_up(|_| true, why);
    }

    fn park(&mut self, number: u64) {
        let Some(call) = self.waiting.get_mut(&number) else {
            return;
        };
        match call.data {
            Some(_) => {
                call.handed = None;
                self.parked.push(number);
            }
            // It was proposed by a member that was alone, and is not any more.
            None => self.answer(number, Err(StoreError::Uncertain)),
        }
    }

    fn give_up(&mut self, which: impl Fn(&Waiting) -> bool, why: impl Fn() -> StoreError) {
        let numbers: Vec<u64> = self
            .waiting
            .iter()
            .filter(|(_, call)| which(call))
            .map(|(n, _)| *n)
            .collect();
        for number in numbers {
            self.parked.retain(|parked| *parked != number);
            self.answer(number, Err(why()));
        }
    }
}

/// What somebody is told who has waited in vain.
pub fn no_leader() -> StoreError {
    StoreError::NoLeader {
        reason: "a majority of the servers cannot be reached from here".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    type Outcome = oneshot::Receiver<Result<Vec<crate::types::Outcome>, StoreError>>;

    fn add(calls: &mut Calls, number: u64) -> Outcome {
        add_one(calls, number, false)
    }

    fn add_one(calls: &mut Calls, number: u64, membership: bool) -> Outcome {
        let (answer, outcome) = oneshot::channel();
        calls.add(Call {
            number,
            data: vec![number as u8],
            membership,
            answer,
        });
        outcome
    }

    fn numbers(handed: Vec<Forwarded>) -> Vec<u64> {
        handed.into_iter().map(|call| call.number).collect()
    }

    #[test]
    fn a_later_term_brings_calls_back_and_an_equal_one_does_not() {
        let mut calls = Calls::default();
        let mut one = add(&mut calls, 1);
        assert_eq!(numbers(calls.hand_over(3, true)), [1]);
        calls.fence(3);
        assert!(!calls.any_parked());
        calls.fence(4);
        let again = calls.hand_over(4, true);
        assert_eq!((again[0].number, &again[0].data), (1, &vec![1]));
        calls.answer(1, Ok(vec![]));
        assert!(one.try_recv().is_ok_and(|answer| answer.is_ok()));
    }

    #[test]
    fn changes_of_the_group_are_answered_when_they_are_settled() {
        let mut calls = Calls::default();
        let mut write = add(&mut calls, 1);
        let mut change = add_one(&mut calls, 2, true);
        calls.hand_over(3, true);
        calls.applied(1, Ok(vec![]));
        calls.applied(2, Ok(vec![]));
        assert!(write.try_recv().is_ok_and(|answer| answer.is_ok()));
        calls.fence(4);
        calls.returned(3, 2, Reply::NotLeader);
        assert!(
            !calls.any_parked() && change.try_recv().is_err(),
            "done, and never again"
        );
        calls.release_changes();
        assert!(change.try_recv().is_ok_and(|answer| answer.is_ok()));
        let mut refused = add_one(&mut calls, 5, true);
        calls.applied(5, Err(StoreError::Overloaded));
        assert!(refused.try_recv().is_ok_and(|answer| answer.is_err()));
    }

    #[test]
    fn who_waits_too_long_hears_what_is_known() {
        let mut calls = Calls::default();
        let mut handed = add(&mut calls, 1);
        calls.hand_over(3, true);
        let mut parked = add(&mut calls, 2);
        (0..PATIENCE_TICKS).for_each(|_| calls.tick());
        assert!(handed.try_recv().is_err() && parked.try_recv().is_err());
        calls.tick();
        assert!(matches!(handed.try_recv(), Ok(Err(StoreError::Uncertain))));
        assert!(matches!(parked.try_recv(), Ok(Err(StoreError::NoLeader { .. }))));
    }

    #[test]
    fn a_late_refusal_by_an_earlier_leader_changes_nothing() {
        let mut calls = Calls::default();
        let _one = add(&mut calls, 1);
        calls.hand_over(3, true);
        calls.fence(4);
        calls.hand_over(4, true);
        calls.returned(3, 1, Reply::NotLeader);
        calls.tick();
        assert!(!calls.any_parked());
        calls.returned(4, 1, Reply::NotLeader);
        calls.fence(5);
        assert!(!calls.any_parked(), "the tick will");
        calls.tick();
        calls.fence(6);
        assert_eq!(numbers(calls.hand_over(6, true)), [1], "once");
        calls.tick();
        assert!(!calls.any_parked());
    }

    #[test]
    fn nobody_waits_nothing_is_proposed() {
        let mut calls = Calls::default();
        drop(add(&mut calls, 1));
        assert!(calls.hand_over(1, true).is_empty());
    }

    #[test]
    fn after_a_jump_in_the_log_outcomes_are_unknown() {
        let mut calls = Calls::default();
        let mut handed = add(&mut calls, 1);
        calls.hand_over(3, true);
        let mut parked = add(&mut calls, 2);
        calls.skipped();
        assert!(matches!(handed.try_recv(), Ok(Err(StoreError::Uncertain))));
        assert!(parked.try_recv().is_err());
    }
}
