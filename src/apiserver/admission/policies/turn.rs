//! Which policies have their turn in a request: those that match, with each binding and parameter.

use std::sync::Arc;

use api::kind::KindRef;
use serde_json::Value;

use super::parameters;
use super::policy::{Binding, Policy};
use crate::admission::dynamic::around::Around;
use crate::admission::dynamic::subject::{Objects, Subject};

/// A policy and its bindings.
pub struct Bound {
    /// The policy.
    pub policy: Arc<Policy>,
    /// Where it holds.
    pub bindings: Vec<Arc<Binding>>,
}

/// One policy, asked because of one binding with one parameter.
pub struct Turn<'p> {
    /// The policy.
    pub policy: &'p Policy,
    /// The binding.
    pub binding: &'p Binding,
    /// The parameter; null for none.
    pub parameter: Value,
    /// The version of the resource in which it is asked.
    pub kind: KindRef,
}

/// A policy that cannot be asked.
pub struct Misfit<'p> {
    /// The policy.
    pub policy: &'p Policy,
    /// The binding, when it is to blame.
    pub binding: Option<&'p Binding>,
    /// What is wrong.
    pub why: String,
}

/// Everything that is to be asked about a request, and what cannot be.
pub fn turns<'p>(
    bound: &'p [Bound],
    subject: &Subject,
    objects: Objects<'_>,
    around: Around<'_>,
) -> (Vec<Turn<'p>>, Vec<Misfit<'p>>) {
    let (mut turns, mut misfits) = (Vec::new(), Vec::new());
    for Bound { policy, bindings } in bound {
        let mut misfit = |binding: Option<&'p Arc<Binding>>, why: String| {
            let what = if binding.is_some() { "binding" } else { "policy" };
            misfits.push(Misfit {
                policy,
                binding: binding.map(|binding| &**binding),
                why: format!("failed to configure {what}: {why}"),
            });
        };
        let kind = match policy
            .matcher
            .matches(subject, objects, around.others, around.world)
        {
            Ok(Some(kind)) => kind,
            Ok(None) => continue,
            Err(status) => {
                misfit(None, status.message);
                continue;
            }
        };
        for binding in bindings {
            let matched = binding
                .matcher
                .as_ref()
                .map(|matcher| matcher.matches(subject, objects, around.others, around.world));
            let parameters = match matched {
                Some(Ok(None)) => continue,
                Some(Err(status)) => Err(status.message),
                _ => parameters::of(policy, binding, subject, around),
            };
            match parameters {
                Err(why) => misfit(Some(binding), why),
                Ok(parameters) => turns.extend(parameters.into_iter().map(|parameter| Turn {
                    policy,
                    binding,
                    parameter,
                    kind: kind.clone(),
                })),
            }
        }
    }
    (turns, misfits)
}
