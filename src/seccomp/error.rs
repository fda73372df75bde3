//! What can go wrong.

/// Why a profile cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// A name that is no call's on any machine that we know.
    #[error("there is no system call {0:?}")]
    Unknown(String),
    /// Calls have six arguments.
    #[error("there is no argument {0}")]
    NoArgument(u32),
    /// The kernel takes no longer ones.
    #[error("the profile makes a filter of {0} instructions, more than the kernel takes")]
    TooLong(usize),
    /// Nobody decides over calls, or the descriptor was taken.
    #[error("there is nobody to notify")]
    NobodyListens,
    /// The kernel's.
    #[error("loading a filter of system calls: {0}")]
    Load(#[from] std::io::Error),
}

/// What this crate answers.
pub(crate) type Result<T> = std::result::Result<T, SeccompError>;
