//! Why changes do not take effect.

use std::io;

/// Why a batch did not take effect.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The kernel refused one of its operations, and so all of them.
    #[error("{operation}: {}{}", io::Error::from_raw_os_error(*errno), detail(words))]
    Refused {
        /// What was being done: "add set services".
        operation: String,
        /// Positive errno.
        errno: i32,
        /// The kernel's own words, if it had any.
        words: Option<String>,
    },
    /// The conversation itself failed; whether the batch took effect is unknown.
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn detail(words: &Option<String>) -> String {
    words.as_ref().map(|w| format!(" ({w})")).unwrap_or_default()
}
