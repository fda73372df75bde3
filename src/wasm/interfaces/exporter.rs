//! A program whose exports may be called, as its callers see it.

use super::types::Wanted;
use crate::limits::Held;
use std::any::Any;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use wasmtime::component::{ResourceAny, Val};

/// A running program that others call.
pub(crate) trait Exporter: Send + Sync {
    /// The digest its program was compiled under.
    fn digest(&self) -> &str;

    /// Whether its program exports what somebody imports.
    fn fits(&self, wanted: &Wanted) -> Result<(), String>;

    /// Whether it takes calls in.
    fn is_open(&self) -> bool;

    /// Whether what it was asked has ended with it.
    fn is_over(&self) -> bool;

    /// Answers a call, with the caller's own instance if it has one.
    fn call(self: Arc<Self>, partner: Option<Partner>, call: Call) -> Answering;
}

/// An answer to come.
pub(super) type Answering = Pin<Box<dyn Future<Output = Result<Answer, String>> + Send>>;

/// An instance of another program's that is its caller's own for now.
pub(crate) struct Partner {
    /// The program, which alone knows what the instance is.
    pub(super) exporter: Weak<dyn Exporter>,
    pub(super) instance: Box<dyn Any + Send>,
}

impl Partner {
    /// Whether it was made by this run of its program.
    pub(super) fn is_of(&self, exporter: &Arc<dyn Exporter>) -> bool {
        std::ptr::addr_eq(self.exporter.as_ptr(), Arc::as_ptr(exporter))
    }
}

/// One call.
pub(crate) struct Call {
    pub(super) interface: String,
    pub(super) function: String,
    pub(super) work: Work,
    pub(super) depth: u32,
}

/// What there is to do in a call.
pub(super) enum Work {
    /// To call the function.
    Function {
        params: Vec<Val>,
        /// How many values it gives.
        results: usize,
        /// Handles among the parameters that the caller has no more.
        given: u64,
    },
    /// To drop a resource.
    Drop(ResourceAny),
}

/// What a call gave.
pub(crate) struct Answer {
    pub(super) values: Vec<Val>,
    /// The instance, if it is the caller's to keep.
    pub(super) partner: Option<Partner>,
    pub(super) _held: Held,
}
