//! What clients ask of a simulated machine: writes with preconditions of all sorts, reads, compaction.

use base::Random;
use tokio::sync::oneshot;

use super::World;
use crate::call::Call;
use crate::command::{Body, Command, Ticket};
use crate::types::{Expect, Op, Record};

impl World {
    pub(super) fn submit(&mut self) {
        let mut calls = vec![];
        for _ in 0..1 + self.random.below(3) {
            let ops: Vec<Op> = (0..1 + self.random.below(3)).map(|_| self.op()).collect();
            let call = self.history.ask(&ops);
            let now_ms = self.now_ms;
            let process = self.process();
            process.calls += 1;
            let ticket = Ticket {
                origin: process.origin,
                number: process.calls,
            };
            let data = Command {
                ticket,
                now_ms,
                body: Body::Batch(ops),
            }
            .encode();
            let (answer, waiting) = oneshot::channel();
            process.waiting.push((call, waiting));
            calls.push(Call {
                number: ticket.number,
                membership: false,
                data,
                answer,
            });
        }
        self.process().core.submit(calls);
    }

    fn op(&mut self) -> Op {
        let kind = ["a", "b"][self.random.below(2) as usize];
        let key = format!("/g/{kind}/{}", ["x1", "x2", "y"][self.random.below(3) as usize]);
        let known = self.history.entry(&key).map_or(0, |entry| entry.revision);
        let expect = match self.random.below(8) {
            0 => Expect::Absent,
            1 => Expect::Present,
            2 | 3 => Expect::Revision(known),
            _ => Expect::Any,
        };
        if self.random.below(5) == 0 {
            return Op::Delete { key, expect };
        }
        self.texts += 1;
        let filler = "x".repeat(self.random.below(300) as usize);
        let text = format!("{{\"\",{},{filler}}}", self.texts).into();
        let ttl_seconds = (self.random.below(6) == 0).then_some(1 + self.random.below(9) as u32);
        Op::Put {
            key,
            record: Record {
                text,
                revision_at: 2,
                ttl_seconds,
                ..Record::default()
            },
            expect,
        }
    }

    pub(super) fn read(&mut self) {
        let must_see = self.history.revision();
        let (clearance, cleared) = oneshot::channel();
        let process = self.process();
        process.reading.push((must_see, cleared));
        process.core.read(clearance);
        process.core.tick();
    }

    pub(super) fn compact(&mut self) {
        let revision = self.random.below(self.history.revision() + 1);
        let (origin, now_ms) = (self.process().origin, self.now_ms);
        let body = Body::Compact(revision);
        let data = Command {
            ticket: Ticket { origin, number: 0 },
            now_ms,
            body,
        }
        .encode();
        let (answer, _) = oneshot::channel();
        self.process().core.submit(vec![Call {
            number: u64::MAX,
            membership: false,
            data,
            answer,
        }]);
    }
}
