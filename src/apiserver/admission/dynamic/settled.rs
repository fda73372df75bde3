//! Expressions that ask about permissions which somebody elsewhere decides.
//!
//! An expression is evaluated at once, and a webhook takes its time. So what cannot be answered at once is written
//! down, asked for, and the expressions evaluated again with the answers. What expressions may cost bounds how many
//! questions they ask, and so how often this is done.

use std::sync::{Mutex, MutexGuard, PoisonError};

use base::Random;
use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::admission::World;
use crate::authz::{Attributes, Decision};

/// What `judge` comes to once all whom it asks about permissions have answered. It is called once more for each round
/// of answers, and must do nothing but judge.
pub fn settled<'w, T: Send + 'w>(
    world: &'w dyn World,
    judge: impl Fn(&dyn World) -> T + Send + Sync + 'w,
) -> BoxFuture<'w, T> {
    // Boxed, because the compiler loses track of the closure's lifetimes in a future that others contain.
    Box::pin(async move {
        let patient = Patient {
            world,
            known: Mutex::default(),
        };
        loop {
            let judged = judge(&patient);
            let open = std::mem::take(&mut patient.known().open);
            if open.is_empty() {
                return judged;
            }
            drop(judged);
            for question in open {
                let answer = world.settle(&question).await;
                patient.known().answers.push((question, answer));
            }
        }
    })
}

/// A world that remembers what was asked of it, and what came of it.
struct Patient<'w> {
    world: &'w dyn World,
    // A std lock: nothing awaits while it is held.
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    answers: Vec<(Attributes, Decision)>,
    open: Vec<Attributes>,
}

impl Patient<'_> {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl World for Patient<'_> {
    fn decision(&self, attributes: &Attributes) -> Decision {
        let mut known = self.known();
        if let Some((_, answer)) = known.answers.iter().find(|(asked, _)| asked == attributes) {
            return answer.clone();
        }
        let decision = self.world.decision(attributes);
        if decision.asks && !known.open.contains(attributes) {
            known.open.push(attributes.clone());
        }
        decision
    }

    fn settle<'a>(&'a self, attributes: &'a Attributes) -> BoxFuture<'a, Decision> {
        self.world.settle(attributes)
    }

    fn namespace_phase(&self, name: &str) -> Option<String> {
        self.world.namespace_phase(name)
    }

    fn find(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.world.find(group, plural, namespace, name)
    }

    fn labels(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Vec<(String, String)> {
        self.world.labels(group, plural, namespace, name)
    }

    fn all(&self, group: &str, plural: &str, namespace: &str) -> Vec<Value> {
        self.world.all(group, plural, namespace)
    }

    fn random(&self) -> &dyn Random {
        self.world.random()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Fixed;

    fn asks(verb: &str) -> Attributes {
        Attributes {
            verb: verb.to_owned(),
            ..Attributes::default()
        }
    }

    #[tokio::test]
    async fn what_others_decide_is_waited_for() {
        let elsewhere = Fixed {
            allowed: vec!["get", "list"],
            elsewhere: true,
            ..Fixed::new(Vec::new())
        };
        let calls = Mutex::new(0);
        let both = settled(&elsewhere, |world| {
            *calls.lock().unwrap() += 1;
            // A question comes up only with the answer to the one before.
            world.allows(&asks("get")) && world.allows(&asks("list")) && !world.allows(&asks("delete"))
        });
        assert!(both.await);
        assert_eq!(*calls.lock().unwrap(), 4);
    }

    #[tokio::test]
    async fn what_is_known_is_judged_once() {
        let here = Fixed {
            allowed: vec!["get"],
            ..Fixed::new(Vec::new())
        };
        let calls = Mutex::new(0);
        let judged = settled(&here, |world| {
            *calls.lock().unwrap() += 1;
            world.allows(&asks("get"))
        });
        assert!(judged.await);
        assert_eq!(*calls.lock().unwrap(), 1);
    }
}
