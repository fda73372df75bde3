//! What an expression may ask about permissions, and how far it has asked.

use std::fmt;
use std::rc::Rc;

/// What one question costs: as much as a page of ordinary steps (Kubernetes' figure).
pub const CHECK_COST: usize = 350_000;

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Namespace and name of the service account that is asked about; `None` for the request's user.
    pub account: Option<(String, String)>,
    /// The path, when it is about no resource.
    pub path: Option<String>,
    /// API group; empty for core.
    pub group: String,
    /// Plural name.
    pub resource: String,
    /// Part of the resource; empty for the whole.
    pub subresource: String,
    /// Namespace; empty for all.
    pub namespace: String,
    /// Object; empty for any.
    pub name: String,
    /// Field selector as written.
    pub field_selector: String,
    /// Label selector as written.
    pub label_selector: String,
    /// Verb.
    pub verb: String,
}

/// What is answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Whether it may be done.
    pub allowed: bool,
    /// Why; may be empty.
    pub reason: String,
    /// What went wrong; empty for nothing.
    pub error: String,
}

/// Who answers.
pub trait Permissions {
    /// Whether that may be done.
    fn decide(&self, question: &Question) -> Answer;

    /// The resource of the request under review.
    fn request_resource(&self) -> Question;
}

/// How far a question has been put.
#[derive(Clone)]
pub(super) enum Step {
    Begun,
    Group,
    Resource,
    Path,
    Decided(Answer),
}

/// A question on its way.
#[derive(Clone)]
pub struct Authority<'a> {
    pub(super) asked: &'a dyn Permissions,
    pub(super) step: Step,
    pub(super) question: Rc<Question>,
}

impl fmt::Debug for Authority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple(self.type_name()).field(&self.question).finish()
    }
}

impl<'a> Authority<'a> {
    /// The variable `authorizer`.
    pub fn new(asked: &'a dyn Permissions) -> Self {
        Self {
            asked,
            step: Step::Begun,
            question: Rc::default(),
        }
    }

    pub(super) fn type_name(&self) -> &'static str {
        match self.step {
            Step::Begun => "kubernetes.authorization.Authorizer",
            Step::Group => "kubernetes.authorization.GroupCheck",
            Step::Resource => "kubernetes.authorization.ResourceCheck",
            Step::Path => "kubernetes.authorization.PathCheck",
            Step::Decided(_) => "kubernetes.authorization.Decision",
        }
    }
}
