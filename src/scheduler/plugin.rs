//! What a scheduling rule is.

pub use crate::refusal::Refusal;
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};

/// The best score.
pub const SCORE_MAX: i64 = 100;

/// One rule. It fits on a screen, and the reasons it gives are constants beside it.
pub trait Plugin: Send + Sync {
    /// Name, as Kubernetes' scheduler calls the same rule.
    fn name(&self) -> &'static str;

    /// Why the pod may run on no node, whichever there are.
    fn refuse(&self, _pod: &PodInfo, _all: &Snapshot) -> Option<Refusal> {
        None
    }

    /// Whether the pod may run there; all reasons why not.
    fn filter(&self, _pod: &PodInfo, _node: &NodeInfo, _all: &Snapshot) -> Vec<Refusal> {
        Vec::new()
    }

    /// How well the pod would be placed there; any number, higher is better.
    /// The scores of a plugin are stretched to 0..=[`SCORE_MAX`] over the nodes.
    fn score(&self, _pod: &PodInfo, _node: &NodeInfo, _all: &Snapshot) -> i64 {
        0
    }

    /// Weight of the score in the sum; 0 for rules that only refuse.
    fn weight(&self) -> i64 {
        0
    }

    /// Whether taking other pods away could change a refusal of this rule.
    fn others_matter(&self) -> bool {
        false
    }
}
