//! `/healthz`, `/livez` and `/readyz`, as a whole, in parts, and in words.

use std::fmt::Write;
use std::sync::{Arc, Mutex};

use crate::http::query::Query;

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
        let probe = [Probe::Health, Probe::Live, Probe::Ready]
            .into_iter()
            .find(|p| p.name() == name)?;
        Some((probe, part.trim_end_matches('/')))
    }
}

struct Part {
    name: String,
    /// Whether only `/readyz` asks it.
    ready_only: bool,
    check: Check,
}

/// The parts of the server that can be unwell.
#[derive(Default)]
pub struct Health {
    // A std mutex: checks are quick and nothing awaits while it is held.
    parts: Mutex<Vec<Part>>,
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

    /// Status code and text of the answer; `None` when there is no such part.
    pub fn answer(&self, probe: Probe, part: &str, query: &Query) -> Option<(u16, String)> {
        let parts = self.lock();
        let asked: Vec<&Part> = parts
            .iter()
            .filter(|p| !p.ready_only || probe == Probe::Ready)
            .collect();
        if !part.is_empty() {
            let found = asked.iter().find(|p| p.name == part)?;
            return Some(match (found.check)() {
                Ok(()) => (200, "ok".to_owned()),
                Err(why) => (500, format!("internal server error: {why}\n")),
            });
        }
        let excluded: Vec<&str> = query.all("exclude").collect();
        let mut lines = String::new();
        let mut well = true;
        for part in asked {
            let name = &part.name;
            // Writing to a String cannot fail.
            let _ = if excluded.contains(&name.as_str()) {
                writeln!(lines, "[+]{name} excluded: ok")
            } else if let Err(why) = (part.check)() {
                tracing::warn!(check = name, why, "health check failed");
                well = false;
                // The reason is for the log: the caller may be anybody.
                writeln!(lines, "[-]{name} failed: reason withheld")
            } else {
                writeln!(lines, "[+]{name} ok")
            };
        }
        let name = probe.name();
        Some(match (well, query.flag("verbose")) {
            (true, false) => (200, "ok".to_owned()),
            (true, true) => (200, format!("{lines}{name} check passed\n")),
            (false, _) => (500, format!("{lines}{name} check failed\n")),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Part>> {
        self.parts.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_the_parts_and_the_words() {
        let health = Health::new();
        health.add("etcd", false, Arc::new(|| Ok(())));
        health.add("shutdown", true, Arc::new(|| Err("going away".into())));
        let ask = |path: &str, query: &str| {
            let (probe, part) = Probe::of(path).unwrap();
            health.answer(probe, part, &Query::parse(query))
        };
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
        assert_eq!(Probe::of("/metrics"), None);
    }
}
