//! What clients write: one operation, or several that are done together or not at all.

use base::Random;

use super::super::clients::{Wish, value};
use super::{KEYS, Waiting, World};
use crate::command::Body;
use crate::types::{Expect, Op, Record};

/// Of so many commits one has several operations.
const BATCHES: u64 = 4;
/// Of so many commits of several operations one changes a key more than once.
const REPEATED: u64 = 6;
/// Of so many entries one goes of itself, after so many seconds at most.
const TIMED: u64 = 8;
const SECONDS_MAX: u64 = 9;

impl World {
    pub(super) fn write(&mut self) {
        if let Some(at) = self.serving() {
            self.write_at(at);
        }
    }

    pub(super) fn write_at(&mut self, at: usize) {
        let count = match self.random.below(BATCHES) {
            0 => 2 + self.random.below(2),
            _ => 1,
        };
        let first = self.random.below(3);
        let apart = u64::from(self.random.below(REPEATED) > 0);
        let (mut wishes, mut ops) = (vec![], vec![]);
        for nth in 0..count {
            let key = KEYS[((first + nth * apart) % 3) as usize];
            // What is committed together is known again by what its first operation writes.
            let (wish, op) = self.operation(key, count > 1 && nth == 0);
            wishes.push((key, wish));
            ops.push(op);
        }
        let parts = self.clients.ask_all(&wishes, self.now);
        let now_ms = self.now_ms(at);
        if let Some(process) = &mut self.machines[at].process {
            let outcome = process.call(Body::Batch(ops), now_ms);
            self.waiting.push(Waiting::Write(at, parts, outcome));
        }
    }

    fn operation(&mut self, key: &'static str, writes: bool) -> (Wish, Op) {
        self.values += 1;
        let latest = self.clients.latest(key).cloned();
        let (wish, expect) = match (self.random.below(8), &latest) {
            (0, _) if !writes => (Wish::Delete, Expect::Any),
            (1, _) => (Wish::Create(self.values), Expect::Absent),
            (2..5, Some(entry)) => {
                let wish = Wish::Swap(value(entry), self.values);
                (wish, Expect::Revision(entry.revision))
            }
            _ => (Wish::Put(self.values), Expect::Any),
        };
        let op = match wish {
            Wish::Delete => Op::Delete {
                key: key.into(),
                expect,
            },
            _ => self.put(key, expect),
        };
        (wish, op)
    }

    fn put(&self, key: &str, expect: Expect) -> Op {
        let filler = "x".repeat(self.random.below(200) as usize);
        let timed = self.random.below(TIMED) == 0;
        let record = Record {
            text: format!("{{\"\",{},{filler}}}", self.values).into(),
            revision_at: 2,
            ttl_seconds: timed.then(|| 1 + self.random.below(SECONDS_MAX) as u32),
            ..Record::default()
        };
        let key = key.into();
        Op::Put { key, record, expect }
    }
}
