//! What the embedder says of an instance and the other programs of its pod.

/// What an instance is among the programs of its pod.
#[derive(Debug, Clone, Default)]
pub struct Membership {
    /// Its name there.
    pub name: String,
    /// Whether the others may call what it exports.
    pub provides: bool,
    /// Programs that are there as well, or will be soon: what nobody has exported yet they may.
    pub others: Vec<String>,
    /// Programs that would be there, but are not for now: their names, and what can be said of them.
    pub absent: Vec<(String, String)>,
    /// Which program provides an interface, where several could.
    pub chosen: Vec<(String, String)>,
}

/// A program that cannot provide anything for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absent {
    /// Its name.
    pub name: String,
    /// What is the matter, as words that follow the name.
    pub why: String,
}

impl Absent {
    pub(crate) fn new(name: &str, why: impl Into<String>) -> Absent {
        Absent {
            name: name.to_owned(),
            why: why.into(),
        }
    }
}

impl std::fmt::Display for Absent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}", self.name, self.why)
    }
}
