//! Asks one run of a container for as long as it lasts.

use std::time::Duration;

use k8s_openapi::api::core::v1::Container;

use super::handler::Answer;
use super::{Machine, ProbeKind, Timings};
use crate::pods::action::Verdict;
use crate::pods::state::Doom;

/// The probes of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Startup.
    pub startup: Option<Timings>,
    /// Liveness.
    pub liveness: Option<Timings>,
    /// Readiness.
    pub readiness: Option<Timings>,
}

impl Plan {
    /// What the container's spec asks for.
    pub fn of(container: &Container) -> Plan {
        Plan {
            startup: container.startup_probe.as_ref().map(Timings::of),
            liveness: container.liveness_probe.as_ref().map(Timings::of),
            readiness: container.readiness_probe.as_ref().map(Timings::of),
        }
    }

    /// Whether there is nothing to ask.
    pub fn is_empty(&self) -> bool {
        *self == Plan::default()
    }
}

/// The world of a prober. Time is part of it, so that tests own it.
pub trait World: Sync {
    /// Monotonic time.
    fn now(&self) -> Duration;
    /// Waits until that time.
    fn sleep_until(&self, when: Duration) -> impl Future<Output = ()> + Send;
    /// Asks the container.
    fn ask(&self, kind: ProbeKind) -> impl Future<Output = Answer> + Send;
    /// Reports a failed or impossible question: the event's text.
    fn complain(&self, text: String);
    /// Reports a verdict.
    fn report(&self, kind: ProbeKind, verdict: bool);
}

/// Asks until the future is dropped, or until there is nothing left to find
/// out. `since_start` is how long the container has been running.
pub async fn run(plan: Plan, since_start: Duration, world: &impl World) {
    if let Some(timings) = plan.startup
        && !once(ProbeKind::Startup, timings, since_start, world).await
    {
        return;
    }
    // What the startup probe took counts towards the others' initial delay; it is over by then as a rule.
    let passed = if plan.startup.is_some() {
        Duration::MAX
    } else {
        since_start
    };
    let liveness = async {
        if let Some(timings) = plan.liveness {
            follow(ProbeKind::Liveness, timings, passed, world).await;
        }
    };
    let readiness = async {
        if let Some(timings) = plan.readiness {
            follow(ProbeKind::Readiness, timings, passed, world).await;
        }
    };
    tokio::join!(liveness, readiness);
}

/// Asks until the first verdict.
async fn once(kind: ProbeKind, timings: Timings, since_start: Duration, world: &impl World) -> bool {
    let mut machine = Machine::new(timings, None);
    let mut next = world.now() + timings.initial_delay.saturating_sub(since_start);
    loop {
        next = tick(next, timings.period, world).await;
        if let Some(verdict) = ask(kind, &mut machine, world).await {
            world.report(kind, verdict);
            return verdict;
        }
    }
}

/// Asks for ever, except that a failed liveness probe ends the run.
async fn follow(kind: ProbeKind, timings: Timings, since_start: Duration, world: &impl World) {
    // A container is alive until proved otherwise. Whether it is ready is not
    // assumed here: one that outlived an agent may be ready and fail from now on.
    let mut machine = Machine::new(timings, (kind == ProbeKind::Liveness).then_some(true));
    let mut next = world.now() + timings.initial_delay.saturating_sub(since_start);
    loop {
        next = tick(next, timings.period, world).await;
        let Some(verdict) = ask(kind, &mut machine, world).await else {
            continue;
        };
        world.report(kind, verdict);
        if kind == ProbeKind::Liveness && !verdict {
            return;
        }
    }
}

/// Waits for `next` and returns the time of the tick after it. A question that
/// took longer than the period delays the rhythm; it does not cause a burst.
async fn tick(next: Duration, period: Duration, world: &impl World) -> Duration {
    world.sleep_until(next).await;
    world.now().max(next) + period
}

async fn ask(kind: ProbeKind, machine: &mut Machine, world: &impl World) -> Option<bool> {
    match world.ask(kind).await {
        Answer::Good => machine.answer(true),
        Answer::Bad(why) => {
            world.complain(format!("{} probe failed: {why}", kind.title()));
            machine.answer(false)
        }
        // No answer is no verdict either.
        Answer::Error(why) => {
            world.complain(format!("{} probe errored: {why}", kind.title()));
            None
        }
        Answer::Later => None,
    }
}

/// What a prober's verdict means for its container.
pub fn verdict(kind: ProbeKind, good: bool, container: &Container, grace_seconds: i64) -> Option<Verdict> {
    let doom = |what: &str| {
        let message = format!(
            "Container {} failed {what} probe, will be restarted",
            container.name
        );
        Some(Verdict::Kill(Doom {
            message,
            grace_seconds,
        }))
    };
    match (kind, good) {
        (ProbeKind::Startup, true) => Some(Verdict::Started),
        (ProbeKind::Startup, false) => doom("startup"),
        (ProbeKind::Liveness, true) => None,
        (ProbeKind::Liveness, false) => doom("liveness"),
        (ProbeKind::Readiness, ready) => Some(Verdict::Ready(ready)),
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::sync::Mutex;
    use std::task::{Context, Poll, Waker};

    use k8s_openapi::api::core::v1::Probe;

    use super::*;

    struct Script {
        now: Mutex<Duration>,
        sleeping: Mutex<Vec<Duration>>,
        /// Whether a probe asked so many seconds after the start is answered well.
        good: fn(ProbeKind, u64) -> bool,
        heard: Mutex<Vec<String>>,
    }

    impl Script {
        fn note(&self, text: &str) {
            let line = format!("{} {text}", self.now().as_secs());
            self.heard.lock().unwrap().push(line);
        }
    }

    struct Sleep<'a>(&'a Script, Duration);

    impl Future for Sleep<'_> {
        type Output = ();

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            if self.0.now() >= self.1 {
                return Poll::Ready(());
            }
            self.0.sleeping.lock().unwrap().push(self.1);
            Poll::Pending
        }
    }

    impl World for Script {
        fn now(&self) -> Duration {
            *self.now.lock().unwrap()
        }

        fn sleep_until(&self, when: Duration) -> impl Future<Output = ()> + Send {
            Sleep(self, when)
        }

        async fn ask(&self, kind: ProbeKind) -> Answer {
            self.note(&format!("ask {kind:?}"));
            if (self.good)(kind, self.now().as_secs()) {
                Answer::Good
            } else {
                Answer::Bad("no".to_owned())
            }
        }

        fn complain(&self, text: String) {
            assert!(text.ends_with("probe failed: no"), "{text}");
        }

        fn report(&self, kind: ProbeKind, verdict: bool) {
            self.note(&format!("{kind:?} {verdict}"));
        }
    }

    fn timings(delay: i32, period: i32, failures: i32) -> Timings {
        Timings::of(&Probe {
            initial_delay_seconds: Some(delay),
            period_seconds: Some(period),
            failure_threshold: Some(failures),
            ..Probe::default()
        })
    }

    /// Runs the prober for that long in a time of its own.
    fn heard(plan: Plan, seconds: u64, good: fn(ProbeKind, u64) -> bool) -> Vec<String> {
        let (now, sleeping, heard) = Default::default();
        let script = Script {
            now,
            sleeping,
            good,
            heard,
        };
        {
            let mut run = pin!(run(plan, Duration::ZERO, &script));
            let mut context = Context::from_waker(Waker::noop());
            while run.as_mut().poll(&mut context).is_pending() {
                let next = script.sleeping.lock().unwrap().drain(..).min().unwrap();
                if next > Duration::from_secs(seconds) {
                    break;
                }
                *script.now.lock().unwrap() = next;
            }
        }
        script.heard.into_inner().unwrap()
    }

    #[test]
    fn readiness_comes_and_goes() {
        let plan = Plan {
            readiness: Some(timings(5, 10, 2)),
            ..Plan::default()
        };
        let found = heard(plan, 50, |_, second| second < 20);
        let asks = [
            "5 ask Readiness",
            "5 Readiness true",
            "15 ask Readiness",
            "25 ask Readiness",
        ];
        assert_eq!(found[..4], asks);
        assert_eq!(
            found[4..],
            ["35 ask Readiness", "35 Readiness false", "45 ask Readiness"]
        );
    }

    #[test]
    fn the_others_wait_for_startup() {
        let plan = Plan {
            startup: Some(timings(0, 3, 10)),
            liveness: Some(timings(2, 10, 1)),
            readiness: Some(timings(0, 10, 1)),
        };
        let found = heard(plan, 8, |_, second| second >= 6);
        let expected = [
            "0 ask Startup",
            "3 ask Startup",
            "6 ask Startup",
            "6 Startup true",
            "6 ask Liveness",
            "6 ask Readiness",
            "6 Readiness true",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn failure_ends_the_asking() {
        let plan = Plan {
            liveness: Some(timings(0, 1, 3)),
            ..Plan::default()
        };
        let found = heard(plan, 100, |_, _| false);
        assert_eq!(found.last().map(String::as_str), Some("2 Liveness false"));
        let plan = Plan {
            startup: Some(timings(0, 1, 2)),
            readiness: Some(timings(0, 1, 1)),
            ..Plan::default()
        };
        let found = heard(plan, 100, |_, _| false);
        assert_eq!(found, ["0 ask Startup", "1 ask Startup", "1 Startup false"]);
    }

    #[test]
    fn verdicts() {
        let container = Container {
            name: "app".to_owned(),
            ..Container::default()
        };
        let text = "Container app failed liveness probe, will be restarted".to_owned();
        let doom = Verdict::Kill(Doom {
            message: text,
            grace_seconds: 7,
        });
        assert_eq!(verdict(ProbeKind::Liveness, false, &container, 7), Some(doom));
        assert_eq!(verdict(ProbeKind::Liveness, true, &container, 7), None);
        assert_eq!(
            verdict(ProbeKind::Readiness, false, &container, 7),
            Some(Verdict::Ready(false))
        );
        assert_eq!(
            verdict(ProbeKind::Startup, true, &container, 7),
            Some(Verdict::Started)
        );
    }
}
