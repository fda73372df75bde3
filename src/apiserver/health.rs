//! `/healthz`, `/livez` and `/readyz`, as a whole, in parts, and in words.

mod slis;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use base::telemetry::Metrics;

use crate::http::query::Query;
use slis::Slis;

/// Says whether a part is well, and if not, why.
pub type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Which of the three questions is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// `/healthz`.
    Health,
    /// `/livez`: whether a restart would help.
    Live,
    /// `/readyz`: whether requests should be sent here.
    Ready,
}

impl Probe {
    const ALL: [Self; 3] = [Self::Health, Self::Live, Self::Ready];

    fn name(self) -> &'static str {
        match self {
            Probe::Health => "healthz",
            Probe::Live => "livez",
            Probe::Ready => "readyz",
        }
    }

    /// The probe a path asks for, and the part of it (empty for the whole).
    pub fn of(path: &str) -> Option<(Self, &str)> {
        let path = path.strip_prefix('/')?;
        let (name, part) = path.split_once('/').unwrap_or((path, ""));
        let probe = Self::ALL.into_iter().find(|p| p.name() == name)?;
        Some((probe, part.trim_end_matches('/')))
    }
}

struct Part {
    name: String,
    /// Whether only `/readyz` asks it.
    ready_only: bool,
    check: Check,
}

impl Part {
    fn is_asked_by(&self, probe: Probe) -> bool {
        !self.ready_only || probe == Probe::Ready
    }
}

/// The parts of the server that can be unwell.
#[derive(Default)]
pub struct Health {
    // A std mutex: checks are quick and nothing awaits while it is held.
    parts: Mutex<Vec<Part>>,
    slis: Slis,
}

impl Health {
    /// Only `ping`, which is always well.
    pub fn new() -> Self {
        let health = Self::default();
        health.add("ping", false, Arc::new(|| Ok(())));
        health
    }

    /// Adds a part; `ready_only` keeps it out of `/livez` and `/healthz`.
    pub fn add(&self, name: &str, ready_only: bool, check: Check) {
        self.lock().push(Part {
            name: name.to_owned(),
            ready_only,
            check,
        });
    }

    /// Adds something that is done once after the start. When it has been done it stays well, whatever becomes of it.
    pub fn add_step(&self, name: &str, check: Check) {
        let done = AtomicBool::new(false);
        let once = move || {
            if !done.load(Ordering::Relaxed) {
                check()?;
                done.store(true, Ordering::Relaxed);
            }
            Ok(())
        };
        self.add(name, false, Arc::new(once));
    }

    /// The paths of all parts.
    pub fn paths(&self) -> Vec<String> {
        let parts = self.lock();
        let of = |probe: Probe| {
            let asked = parts.iter().filter(move |part| part.is_asked_by(probe));
            let each = asked.map(move |part| format!("/{}/{}", probe.name(), part.name));
            [format!("/{}", probe.name())].into_iter().chain(each)
        };
        Probe::ALL.into_iter().flat_map(of).collect()
    }

    /// What was seen of the parts whenever somebody asked for the whole.
    pub fn slis(&self) -> &Metrics {
        self.slis.metrics()
    }

    /// Status code and text of the answer; `None` when there is no such part.
    pub fn answer(&self, probe: Probe, part: &str, query: &Query) -> Option<(u16, String)> {
        let parts = self.lock();
        let asked: Vec<&Part> = parts.iter().filter(|part| part.is_asked_by(probe)).collect();
        if !part.is_empty() {
            let found = asked.iter().find(|p| p.name == part)?;
            return Some(match (found.check)() {
                Ok(()) => (200, "ok".to_owned()),
                Err(why) => (500, format!("internal server error: {why}\n")),
            });
        }
        let mut unknown: BTreeSet<&str> = query.all("exclude").collect();
        let mut lines = String::new();
        let mut well = true;
        for part in asked {
            let name = &part.name;
            // Writing to a String cannot fail.
            let _ = if unknown.remove(name.as_str()) {
                writeln!(lines, "[+]{name} excluded: ok")
            } else if self.is_well(probe, part) {
                writeln!(lines, "[+]{name} ok")
            } else {
                well = false;
                // The reason is for the log: the caller may be anybody.
                writeln!(lines, "[-]{name} failed: reason withheld")
            };
        }
        if !unknown.is_empty() {
            let names: Vec<String> = unknown.iter().map(|name| format!("{name:?}")).collect();
            let names = names.join(",");
            let _ = writeln!(
                lines,
                "warn: some health checks cannot be excluded: no matches for {names}"
            );
        }
        let name = probe.name();
        Some(match (well, query.get("verbose").is_some()) {
            (true, false) => (200, "ok".to_owned()),
            (true, true) => (200, format!("{lines}{name} check passed\n")),
            (false, _) => (500, format!("{lines}{name} check failed\n")),
        })
    }

    fn is_well(&self, probe: Probe, part: &Part) -> bool {
        let found = (part.check)();
        self.slis.saw(&part.name, probe.name(), found.is_ok());
        found
            .inspect_err(|why| tracing::warn!(check = part.name, why, "health check failed"))
            .is_ok()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Part>> {
        self.parts.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(health: &Health, path: &str, query: &str) -> Option<(u16, String)> {
        let (probe, part) = Probe::of(path).unwrap();
        health.answer(probe, part, &Query::parse(query))
    }

    #[test]
    fn the_whole_the_parts_and_the_words() {
        let health = Health::new();
        health.add("etcd", false, Arc::new(|| Ok(())));
        health.add("shutdown", true, Arc::new(|| Err("going away".into())));
        let ask = |path: &str, query: &str| ask(&health, path, query);
        assert_eq!(ask("/healthz", ""), Some((200, "ok".into())));
        assert_eq!(
            ask("/livez", "verbose"),
            Some((200, "[+]ping ok\n[+]etcd ok\nlivez check passed\n".into()))
        );
        let failed = "[+]ping ok\n[+]etcd ok\n[-]shutdown failed: reason withheld\nreadyz check failed\n";
        assert_eq!(ask("/readyz", ""), Some((500, failed.into())));
        assert_eq!(ask("/readyz", "exclude=shutdown"), Some((200, "ok".into())));
        assert_eq!(ask("/readyz/etcd", ""), Some((200, "ok".into())));
        assert_eq!(ask("/livez/shutdown", ""), None);
        let warned = "[+]ping ok\n[+]etcd excluded: ok\n\
                      warn: some health checks cannot be excluded: no matches for \"odd\",\"shutdown\"\n\
                      livez check passed\n";
        assert_eq!(
            ask("/livez", "verbose&exclude=shutdown&exclude=etcd&exclude=odd"),
            Some((200, warned.into()))
        );
        assert_eq!(Probe::of("/metrics"), None);
        let paths = health.paths();
        assert!(paths.contains(&"/readyz/shutdown".to_owned()) && paths.contains(&"/livez".to_owned()));
        assert!(!paths.contains(&"/livez/shutdown".to_owned()));
    }

    #[test]
    fn what_was_done_once_stays_done() {
        let health = Health::new();
        let done = Arc::new(AtomicBool::new(false));
        let seen = done.clone();
        let check = move || {
            seen.load(Ordering::Relaxed)
                .then_some(())
                .ok_or_else(|| "not yet".to_owned())
        };
        health.add_step("poststarthook/a", Arc::new(check));
        assert_eq!(ask(&health, "/livez", "").unwrap().0, 500);
        done.store(true, Ordering::Relaxed);
        assert_eq!(ask(&health, "/livez", "").unwrap().0, 200);
        done.store(false, Ordering::Relaxed);
        assert_eq!(ask(&health, "/livez", "").unwrap().0, 200);
    }

    #[test]
    fn what_is_seen_is_counted() {
        let health = Health::new();
        health.add("etcd", false, Arc::new(|| Err("gone".into())));
        for _ in 0..2 {
            ask(&health, "/livez", "");
        }
        // Asked for alone, a part counts for nothing.
        ask(&health, "/livez/ping", "");
        let text = health.slis().encode_plain();
        for line in [
            "kubernetes_healthcheck{name=\"ping\",type=\"livez\"} 1",
            "kubernetes_healthcheck{name=\"etcd\",type=\"livez\"} 0",
            "kubernetes_healthchecks_total{name=\"ping\",type=\"livez\",status=\"success\"} 2",
            "kubernetes_healthchecks_total{name=\"etcd\",type=\"livez\",status=\"error\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
