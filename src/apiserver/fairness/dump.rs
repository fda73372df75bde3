//! What goes on in the queues, for people who look for a reason (`/debug/api_priority_and_fairness/dump_…`).

use std::fmt::Write;

use super::Fairness;

impl Fairness {
    /// The answer for a path below `/debug/api_priority_and_fairness/`; `None` when there is nothing.
    pub fn dump(&self, what: &str) -> Option<String> {
        match what {
            "dump_priority_levels" => Some(self.levels()),
            "dump_queues" => Some(self.queues()),
            "dump_requests" => Some(self.flows()),
            _ => None,
        }
    }

    fn levels(&self) -> String {
        let plan = self.plan();
        let mut rows = vec![
            "PriorityLevelName, ActiveQueues, IsIdle, IsQuiescing, WaitingRequests, ExecutingRequests, \
             DispatchedRequests, RejectedRequests, TimedoutRequests"
                .to_owned(),
        ];
        for level in plan.levels() {
            let ((executing, waiting), queues) = level.shown();
            let of_it = plan.flows().iter().filter(|flow| flow.level.name == level.name);
            let totals = of_it.map(|flow| flow.counts.totals());
            let (dispatched, rejected, late) =
                totals.fold((0, 0, 0), |sum, (dispatched, [limit, full, late])| {
                    (sum.0 + dispatched, sum.1 + limit + full, sum.2 + late)
                });
            let active = queues.iter().filter(|queue| queue.waiting > 0).count();
            rows.push(format!(
                "{}, {active}, {}, false, {waiting}, {executing}, {dispatched}, {rejected}, {late}",
                level.name,
                executing + waiting == 0,
            ));
        }
        lines(rows)
    }

    fn queues(&self) -> String {
        let head = "PriorityLevelName, Index, PendingRequests, ExecutingRequests, SeatsInUse, NextDispatchR";
        let mut rows = vec![head.to_owned()];
        for level in self.plan().levels() {
            rows.extend(level.shown().1.iter().map(|queue| {
                format!(
                    "{}, {}, {}, {}, {}, {:.8}ss",
                    level.name, queue.index, queue.waiting, queue.executing, queue.seats, queue.start
                )
            }));
        }
        lines(rows)
    }

    fn flows(&self) -> String {
        let head =
            "PriorityLevelName, FlowSchemaName, MatchingPrecedence, DispatchedRequests, RejectedRequests";
        let mut rows = vec![head.to_owned()];
        for flow in self.plan().flows() {
            let (dispatched, rejected) = flow.counts.totals();
            rows.push(format!(
                "{}, {}, {}, {dispatched}, {}",
                flow.level.name,
                flow.schema.name,
                flow.schema.precedence,
                rejected.iter().sum::<u64>(),
            ));
        }
        lines(rows)
    }
}

fn lines(rows: Vec<String>) -> String {
    rows.iter().fold(String::new(), |mut text, row| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{row}");
        text
    })
}
