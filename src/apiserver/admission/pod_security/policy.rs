//! Which standard holds in a namespace, read from its labels. Pure.

use std::fmt;

use api::status::FieldError;

const LEVELS: [&str; 3] = ["privileged", "baseline", "restricted"];
const PREFIX: &str = "pod-security.kubernetes.io/";

/// How much a pod may do, the freest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything.
    #[default]
    Privileged,
    /// Nothing by which privileges are known to be gained.
    Baseline,
    /// What a hardened pod needs.
    Restricted,
}

impl Level {
    /// The level of that name.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "privileged" => Some(Level::Privileged),
            "baseline" => Some(Level::Baseline),
            "restricted" => Some(Level::Restricted),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        }
    }
}

/// The release whose rules count: the newest, or that of `v1.N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// The newest this server knows.
    #[default]
    Latest,
    /// That of Kubernetes 1.N.
    Minor(u32),
}

impl Version {
    /// `latest` or `v1.N`, N without leading zeros.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "latest" {
            return Some(Version::Latest);
        }
        let digits = text.strip_prefix("v1.")?;
        let plain = digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
        plain.then(|| digits.parse().ok().map(Version::Minor)).flatten()
    }

    /// N of the 1.N whose rules count.
    pub fn minor(self) -> u32 {
        match self {
            Version::Latest => u32::MAX,
            Version::Minor(minor) => minor,
        }
    }
}

/// A level as it was in some version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standard {
    /// How much is allowed.
    pub level: Level,
    /// By whose rules.
    pub version: Version,
}

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Version::Latest => write!(f, "{}:latest", self.level.name()),
            Version::Minor(minor) => write!(f, "{}:v1.{minor}", self.level.name()),
        }
    }
}

/// What holds in a namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Pods that break this are refused.
    pub enforce: Standard,
    /// What breaks this is noted in the audit log.
    pub audit: Standard,
    /// Whoever writes what breaks this is warned.
    pub warn: Standard,
}

impl Policy {
    /// The policy that labels ask for, and what is wrong with them. What cannot be read is enforced as
    /// `restricted`, and neither noted nor warned of.
    pub fn of<'a>(label: impl Fn(&str) -> Option<&'a str>, defaults: Policy) -> (Policy, Vec<FieldError>) {
        let mut read = Labels {
            label: &label,
            errors: Vec::new(),
        };
        let mut policy = defaults;
        let enforced = read.standard("enforce", &mut policy.enforce, Level::Restricted);
        read.standard("audit", &mut policy.audit, Level::Privileged);
        read.standard("warn", &mut policy.warn, Level::Privileged);
        // Who enforces more than is warned of is warned of as much, about Deployments for instance.
        let stricter = enforced && policy.enforce.level > policy.warn.level;
        if stricter && read.text("warn").is_none() {
            policy.warn.level = policy.enforce.level;
            if read.text("warn-version").is_none() {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, read.errors)
    }

    /// Whether nothing is looked at.
    pub fn is_idle(&self) -> bool {
        [self.enforce, self.audit, self.warn]
            .iter()
            .all(|standard| standard.level == Level::Privileged)
    }

    /// Whether both come to the same.
    pub fn equals(&self, other: &Policy) -> bool {
        let same = |a: Standard, b: Standard| {
            a == b || (a.level == Level::Privileged && b.level == Level::Privileged)
        };
        same(self.enforce, other.enforce) && same(self.audit, other.audit) && same(self.warn, other.warn)
    }
}

struct Labels<'l, F> {
    label: &'l F,
    errors: Vec<FieldError>,
}

impl<'a, F: Fn(&str) -> Option<&'a str>> Labels<'_, F> {
    fn text(&self, mode: &str) -> Option<&'a str> {
        (self.label)(&format!("{PREFIX}{mode}"))
    }

    /// Reads the labels of one mode; true if they name a level that there is.
    fn standard(&mut self, mode: &str, standard: &mut Standard, otherwise: Level) -> bool {
        let mut named = false;
        if let Some(text) = self.text(mode) {
            let level = Level::parse(text);
            named = level.is_some();
            standard.level = level.unwrap_or(otherwise);
            if !named {
                self.wrong(mode, text, &format!("must be one of {}", LEVELS.join(", ")));
            }
        }
        let key = format!("{mode}-version");
        if let Some(text) = self.text(&key) {
            let version = Version::parse(text);
            standard.version = version.unwrap_or_default();
            if version.is_none() {
                self.wrong(&key, text, "must be \"latest\" or \"v1.x\"");
            }
        }
        named
    }

    fn wrong(&mut self, key: &str, text: &str, why: &str) {
        let path = format!("metadata.labels[{PREFIX}{key}]");
        self.errors.push(FieldError::invalid(path, text, why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(labels: &[(&str, &'static str)]) -> (Policy, Vec<String>) {
        let find = |key: &str| {
            let mode = key.strip_prefix(PREFIX)?;
            labels
                .iter()
                .find(|(name, _)| *name == mode)
                .map(|(_, value)| *value)
        };
        let (policy, errors) = Policy::of(find, Policy::default());
        (policy, errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn labels_say_what_holds() {
        assert!(policy(&[]).0.is_idle());
        let (all, errors) = policy(&[
            ("enforce", "baseline"),
            ("enforce-version", "v1.24"),
            ("audit", "restricted"),
        ]);
        assert_eq!(errors, [""; 0]);
        assert_eq!(all.enforce.to_string(), "baseline:v1.24");
        assert_eq!(all.audit.to_string(), "restricted:latest");
        assert_eq!(all.warn, all.enforce, "who enforces is warned of as much");
        let (quiet, _) = policy(&[("enforce", "restricted"), ("warn", "privileged")]);
        assert_eq!(quiet.warn.level, Level::Privileged);
    }

    #[test]
    fn what_cannot_be_read_is_enforced_and_nothing_else() {
        let (all, errors) = policy(&[("enforce", "strict"), ("warn", "some"), ("audit-version", "1.2")]);
        assert_eq!(
            (all.enforce.level, all.warn.level),
            (Level::Restricted, Level::Privileged)
        );
        assert_eq!(
            errors,
            [
                "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of \
                 privileged, baseline, restricted",
                "metadata.labels[pod-security.kubernetes.io/audit-version]: Invalid value: \"1.2\": must be \
                 \"latest\" or \"v1.x\"",
                "metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: \"some\": must be one of \
                 privileged, baseline, restricted",
            ]
        );
        assert_eq!(Version::parse("v1.07"), None);
        assert_eq!(Version::parse("v1.0"), Some(Version::Minor(0)));
    }
}
