//! Versions of three numbers, as semver.org orders them.

use std::cmp::Ordering;

/// A version; what follows `+` counts for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Semver {
    numbers: [u64; 3],
    before: Vec<Part>,
}

/// A part of what follows `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(u64),
    Text(String),
}

impl Ord for Semver {
    fn cmp(&self, other: &Self) -> Ordering {
        // Without such parts it is the version itself, with them one that comes before it.
        let whole = self.before.is_empty().cmp(&other.before.is_empty());
        self.numbers
            .cmp(&other.numbers)
            .then(whole)
            .then_with(|| self.before.cmp(&other.before))
    }
}

impl PartialOrd for Semver {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Semver {
    /// Reads a version. A `lenient` reading takes `v1.02` for `1.2.0`.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &str, lenient: bool) -> Result<Self, String> {
        if lenient {
            return Self::strict(&normal(text)?);
        }
        Self::strict(text)
    }

    fn strict(text: &str) -> Result<Self, String> {
        let (text, build) = text
            .split_once('+')
            .map_or((text, None), |(text, build)| (text, Some(build)));
        let (core, before) = text
            .split_once('-')
            .map_or((text, None), |(core, before)| (core, Some(before)));
        let numbers: Vec<u64> = core.split('.').map(number).collect::<Result<_, _>>()?;
        let numbers = numbers
            .try_into()
            .map_err(|_| "No Major.Minor.Patch elements found")?;
        let before = before.map_or(Ok(Vec::new()), |before| before.split('.').map(part).collect())?;
        match build.is_some_and(|build| !build.split('.').all(is_word)) {
            true => Err("Build meta data is empty or has invalid characters".to_owned()),
            false => Ok(Self { numbers, before }),
        }
    }

    /// Major, minor and patch.
    pub fn numbers(&self) -> [u64; 3] {
        self.numbers
    }
}

impl std::fmt::Display for Semver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{major}.{minor}.{patch}")?;
        for (at, part) in self.before.iter().enumerate() {
            f.write_str(if at == 0 { "-" } else { "." })?;
            match part {
                Part::Number(n) => write!(f, "{n}")?,
                Part::Text(text) => f.write_str(text)?,
            }
        }
        Ok(())
    }
}

/// The full form of a short or loose one.
fn normal(text: &str) -> Result<String, String> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let mut parts: Vec<String> = text.splitn(3, '.').map(without_zeros).collect();
    if parts.len() < 3 && parts.last().is_some_and(|last| last.contains(['+', '-'])) {
        return Err("short version cannot contain PreRelease/Build meta data".to_owned());
    }
    parts.resize(3, "0".to_owned());
    Ok(parts.join("."))
}

fn without_zeros(part: &str) -> String {
    if part.len() < 2 {
        return part.to_owned();
    }
    let rest = part.trim_start_matches('0');
    if rest.starts_with(|c: char| c.is_ascii_digit()) {
        return rest.to_owned();
    }
    format!("0{rest}")
}

fn number(text: &str) -> Result<u64, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits {
        return Err(format!("Invalid character(s) found in version number {text:?}"));
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(format!("Version number must not contain leading zeroes {text:?}"));
    }
    text.parse()
        .map_err(|_| format!("version number {text:?} is out of range"))
}

fn part(text: &str) -> Result<Part, String> {
    if !is_word(text) {
        return Err(format!("Invalid character(s) found in prerelease {text:?}"));
    }
    match text.bytes().all(|b| b.is_ascii_digit()) {
        true => number(text).map(Part::Number),
        false => Ok(Part::Text(text.to_owned())),
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}
