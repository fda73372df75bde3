//! What is wrong with an expression, and where.

use std::fmt;

/// What is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Byte at which it was noticed.
    at: usize,
    text: String,
}

impl Error {
    /// That is wrong at that byte.
    pub fn new(at: usize, text: impl Into<String>) -> Self {
        Self {
            at,
            text: text.into(),
        }
    }

    /// The same, with what should have stood there.
    pub fn expecting(mut self, sign: &str) -> Self {
        self.text.push_str(&format!(" expecting '{sign}'"));
        self
    }

    /// In the form of cel-go: place, text, the line and a mark below it.
    pub fn shown(&self, source: &str) -> String {
        let before = source.get(..self.at).unwrap_or(source);
        let line = before.matches('\n').count();
        let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count());
        let text = source.lines().nth(line).unwrap_or_default();
        let mark = ".".repeat(column) + "^";
        let Self { text: why, .. } = self;
        format!(
            "ERROR: <input>:{}:{}: {why}\n | {text}\n | {mark}",
            line + 1,
            column + 1
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
