//! A compiled program and the kinds there are.

use std::sync::Arc;

/// What a program is, found from its own imports and exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProgramKind {
    /// A core module with `_start` (WASI preview 1).
    Module,
    /// A component that exports `wasi:cli/run`.
    Command,
    /// A component that exports `wasi:http/incoming-handler`.
    Http,
}

/// A compiled program, ready to be started any number of times. Cheap to clone.
#[derive(Clone)]
pub struct Program {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) kind: ProgramKind,
    pub(crate) digest: String,
}

impl Program {
    /// What sort of program it is.
    pub fn kind(&self) -> ProgramKind {
        self.inner.kind
    }

    /// The digest it was compiled under.
    pub fn digest(&self) -> &str {
        &self.inner.digest
    }
}
