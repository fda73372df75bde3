//! What is watched, and below what the node is short of it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use api::quantity::Quantity;

/// Something that can run short, by the kubelet's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// `memory.available`.
    Memory,
    /// `nodefs.available`: the file system with the pods' volumes and logs.
    NodefsBytes,
    /// `nodefs.inodesFree`.
    NodefsInodes,
    /// `imagefs.available`: the file system with the images.
    ImagefsBytes,
    /// `imagefs.inodesFree`.
    ImagefsInodes,
    /// `pid.available`.
    Pids,
}

impl Signal {
    const ALL: [Signal; 6] = [
        Signal::Memory,
        Signal::NodefsBytes,
        Signal::NodefsInodes,
        Signal::ImagefsBytes,
        Signal::ImagefsInodes,
        Signal::Pids,
    ];

    /// Its name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Signal::Memory => "memory.available",
            Signal::NodefsBytes => "nodefs.available",
            Signal::NodefsInodes => "nodefs.inodesFree",
            Signal::ImagefsBytes => "imagefs.available",
            Signal::ImagefsInodes => "imagefs.inodesFree",
            Signal::Pids => "pid.available",
        }
    }

    /// What pods use of it, as messages name it.
    pub fn resource(self) -> &'static str {
        match self {
            Signal::Memory => "memory",
            Signal::NodefsBytes | Signal::ImagefsBytes => "ephemeral-storage",
            Signal::NodefsInodes | Signal::ImagefsInodes => "inodes",
            Signal::Pids => "pids",
        }
    }
}

/// How much must be left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Floor {
    /// So many units.
    Amount(u64),
    /// So many hundredths of a percent of all there is.
    Share(u64),
}

impl Floor {
    /// In units, of so many in all.
    pub fn of(self, capacity: u64) -> u64 {
        match self {
            Floor::Amount(amount) => amount,
            Floor::Share(parts) => {
                u64::try_from(u128::from(capacity) * u128::from(parts) / 10_000).unwrap_or(u64::MAX)
            }
        }
    }
}

/// Below what the node is short of something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thresholds(Vec<(Signal, Floor)>);

/// Kubernetes' own, and one for process ids, which it leaves to administrators.
impl Default for Thresholds {
    fn default() -> Thresholds {
        Thresholds(vec![
            (Signal::Memory, Floor::Amount(100 << 20)),
            (Signal::NodefsBytes, Floor::Share(1000)),
            (Signal::NodefsInodes, Floor::Share(500)),
            (Signal::ImagefsBytes, Floor::Share(1500)),
            (Signal::ImagefsInodes, Floor::Share(500)),
            (Signal::Pids, Floor::Share(500)),
        ])
    }
}

/// Why a text is no list of thresholds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ThresholdError {
    /// No signal of that name.
    #[error("unsupported eviction signal {0:?}: it is one of {names}", names = names())]
    Signal(String),
    /// Not `SIGNAL<AMOUNT`.
    #[error(
        "invalid eviction threshold {0:?}: write SIGNAL<AMOUNT, such as memory.available<100Mi or nodefs.available<10%"
    )]
    Syntax(String),
    /// A signal was named twice.
    #[error("duplicate eviction threshold for {0}")]
    Twice(&'static str),
}

fn names() -> String {
    Signal::ALL.map(Signal::name).join(", ")
}

impl FromStr for Thresholds {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Thresholds, ThresholdError> {
        let mut list: Vec<(Signal, Floor)> = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let syntax = || ThresholdError::Syntax(part.to_owned());
            let (name, floor) = part.split_once('<').ok_or_else(syntax)?;
            let signal = Signal::ALL
                .into_iter()
                .find(|signal| signal.name() == name.trim());
            let signal = signal.ok_or_else(|| ThresholdError::Signal(name.trim().to_owned()))?;
            if list.iter().any(|(known, _)| *known == signal) {
                return Err(ThresholdError::Twice(signal.name()));
            }
            list.push((signal, floor_of(floor.trim()).ok_or_else(syntax)?));
        }
        Ok(Thresholds(list))
    }
}

fn floor_of(text: &str) -> Option<Floor> {
    let Some(percent) = text.strip_suffix('%') else {
        let amount = text.parse::<Quantity>().ok()?;
        return u64::try_from(amount.value()).ok().map(Floor::Amount);
    };
    let percent: f64 = percent.parse().ok()?;
    let sane = (0.0..=100.0).contains(&percent);
    // Within 0 and 10000, so nothing is cut off.
    sane.then(|| Floor::Share((percent * 100.0).round() as u64))
}

impl fmt::Display for Thresholds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (signal, floor)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match floor {
                Floor::Amount(amount) => write!(f, "{comma}{}<{}", signal.name(), binary(*amount))?,
                Floor::Share(parts) => write!(f, "{comma}{}<{}%", signal.name(), *parts as f64 / 100.0)?,
            }
        }
        Ok(())
    }
}

/// A number of bytes as Kubernetes prints binary quantities: `100Mi`, `1500`.
pub fn binary(bytes: u64) -> String {
    let (mut number, mut suffix) = (bytes, "");
    for next in ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"] {
        if number == 0 || !number.is_multiple_of(1024) {
            break;
        }
        (number, suffix) = (number / 1024, next);
    }
    format!("{number}{suffix}")
}

/// How much there is of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Of what.
    pub signal: Signal,
    /// How much is left.
    pub available: u64,
    /// How much there is in all.
    pub capacity: u64,
}

/// A threshold that was passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Met {
    /// Of what.
    pub signal: Signal,
    /// How much should be left.
    pub floor: u64,
    /// How much is left.
    pub available: u64,
}

impl Thresholds {
    /// What runs short, memory first. What was not observed does not.
    pub fn met(&self, observed: &[Observation]) -> Vec<Met> {
        let met = self.0.iter().filter_map(|(signal, floor)| {
            let now = observed.iter().find(|o| o.signal == *signal && o.capacity > 0)?;
            let floor = floor.of(now.capacity);
            (now.available < floor).then_some(Met {
                signal: *signal,
                floor,
                available: now.available,
            })
        });
        let mut met: Vec<Met> = met.collect();
        met.sort_by_key(|met| met.signal);
        met
    }

    /// What pods may not count on, of so much in all.
    pub fn reserved(&self, signal: Signal, capacity: u64) -> u64 {
        let floor = self.0.iter().find(|(known, _)| *known == signal);
        floor.map_or(0, |(_, floor)| floor.of(capacity)).min(capacity)
    }
}

/// What the node is short of, as its conditions tell it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// `MemoryPressure`.
    pub memory: bool,
    /// `DiskPressure`.
    pub disk: bool,
    /// `PIDPressure`.
    pub pids: bool,
}

impl Pressure {
    /// The names of the conditions that are true.
    pub fn conditions(self) -> Vec<&'static str> {
        let all = [
            (self.memory, "MemoryPressure"),
            (self.disk, "DiskPressure"),
            (self.pids, "PIDPressure"),
        ];
        all.into_iter()
            .filter_map(|(is, name)| is.then_some(name))
            .collect()
    }
}

/// When each sort of pressure was last seen, so that it does not come and go with every look.
#[derive(Clone, Copy, Debug, Default)]
pub struct PressureHistory([Option<Duration>; 3]);

impl PressureHistory {
    /// Takes note of what runs short now (monotonic time); pressure lasts for `lasts` after that.
    pub fn observe(&mut self, met: &[Met], now: Duration, lasts: Duration) -> Pressure {
        for met in met {
            let [memory, disk, pids] = &mut self.0;
            let seen = match met.signal {
                Signal::Memory => memory,
                Signal::Pids => pids,
                _ => disk,
            };
            *seen = Some(now);
        }
        let [memory, disk, pids] = self
            .0
            .map(|seen| seen.is_some_and(|seen| seen == now || now.saturating_sub(seen) < lasts));
        Pressure { memory, disk, pids }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(signal: Signal, available: u64, capacity: u64) -> Observation {
        Observation {
            signal,
            available,
            capacity,
        }
    }

    #[test]
    fn thresholds_are_read_and_printed() {
        let default = Thresholds::default().to_string();
        assert_eq!(
            default,
            "memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,imagefs.available<15%,\
             imagefs.inodesFree<5%,pid.available<5%"
        );
        assert_eq!(default.parse(), Ok(Thresholds::default()));
        assert_eq!(
            " memory.available < 1Gi "
                .parse::<Thresholds>()
                .unwrap()
                .to_string(),
            "memory.available<1Gi"
        );
        assert_eq!(
            "".parse::<Thresholds>()
                .unwrap()
                .met(&[seen(Signal::Memory, 0, 1)]),
            []
        );
        let wrong = |text: &str| text.parse::<Thresholds>().unwrap_err().to_string();
        assert!(wrong("memory.free<1").contains("unsupported eviction signal \"memory.free\""));
        assert!(wrong("memory.available=1").contains("SIGNAL<AMOUNT"));
        assert!(wrong("memory.available<120%").contains("SIGNAL<AMOUNT"));
        assert!(wrong("pid.available<1,pid.available<2").contains("duplicate"));
    }

    #[test]
    fn what_is_short_is_found_memory_first() {
        let observed = [
            seen(Signal::ImagefsBytes, 14, 100),
            seen(Signal::NodefsBytes, 10, 100),
            seen(Signal::Memory, 1 << 20, 1 << 30),
        ];
        let met = Thresholds::default().met(&observed);
        let what: Vec<_> = met.iter().map(|m| (m.signal, m.floor, m.available)).collect();
        assert_eq!(
            what,
            [
                (Signal::Memory, 100 << 20, 1 << 20),
                (Signal::ImagefsBytes, 15, 14)
            ]
        );
        // A file system that could not be looked at is not full.
        assert_eq!(Thresholds::default().met(&[seen(Signal::NodefsBytes, 0, 0)]), []);
    }

    #[test]
    fn pressure_outlasts_its_cause_for_a_while() {
        let mut history = PressureHistory::default();
        let met = Thresholds::default().met(&[seen(Signal::NodefsBytes, 0, 100)]);
        let lasts = Duration::from_secs(300);
        let at = Duration::from_secs;
        assert_eq!(
            history.observe(&met, at(10), lasts).conditions(),
            ["DiskPressure"]
        );
        assert!(history.observe(&[], at(309), lasts).disk);
        assert!(!history.observe(&[], at(310), lasts).disk);
        assert!(history.observe(&met, at(400), Duration::ZERO).disk);
    }

    #[test]
    fn bytes_are_printed_as_quantities() {
        assert_eq!(
            [0, 1500, 2048, 100 << 20].map(binary),
            ["0", "1500", "2Ki", "100Mi"]
        );
    }
}
