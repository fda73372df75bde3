//! Admission by those whom users configure: webhooks and policies.
//!
//! ```text
//! stored configurations ─ follow ─▶ Index ─┐
//! a request under review ─▶ Subject ───────┴▶ Turn: policies, webhooks, and once more if they changed anything
//! ```
//!
//! Where nobody configured anything, a request costs a look at an empty index.

pub mod again;
pub mod around;
pub mod conditions;
mod index;
pub mod rules;
pub mod seen;
pub mod settled;
pub mod shape;
pub mod shown;
pub mod subject;

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use api::kind::KindRef;
use api::status::Status;
use serde_json::Value;
use store::Entry;

use super::metrics::AdmissionMetrics;
use super::{Review, World, policies, webhooks};
use crate::mirror::Mirror;
use crate::outbound::Outbound;
use crate::served::ServedKinds;
use again::Again;
use around::Around;
use index::{Configurations, Index};
use subject::{Objects, Subject};

const PREFIX: &str = "/admissionregistration.k8s.io/";

/// Who is asked about requests, and how.
pub struct Dynamic {
    // Std locks: nothing awaits while one is held.
    configurations: Mutex<Configurations>,
    index: RwLock<Arc<Index>>,
    outbound: Outbound,
    kinds: Arc<ServedKinds>,
    metrics: Arc<AdmissionMetrics>,
}

impl Dynamic {
    /// One that asks nobody yet.
    pub fn new(outbound: Outbound, kinds: Arc<ServedKinds>, metrics: Arc<AdmissionMetrics>) -> Self {
        Self {
            configurations: Mutex::default(),
            index: RwLock::default(),
            outbound,
            kinds,
            metrics,
        }
    }

    /// Calls webhooks.
    pub fn outbound(&self) -> &Outbound {
        &self.outbound
    }

    fn index(&self) -> Arc<Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn publish(&self, all: &Configurations) {
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(all.index());
    }

    /// Who may change the object of a review; `None` when that is nobody.
    pub fn mutators(&self, review: &Review<'_>) -> Option<Turn<'_>> {
        let index = self.index();
        if index.changes_nothing() {
            return None;
        }
        Some(self.turn(index, Subject::of(review)?))
    }

    /// Lets everybody concerned refuse a request.
    ///
    /// # Errors
    /// The refusal.
    pub async fn validate(&self, review: &Review<'_>, world: &dyn World) -> Result<(), Status> {
        let index = self.index();
        if index.refuses_nothing() {
            return Ok(());
        }
        let Some(subject) = Subject::of(review) else {
            return Ok(());
        };
        let turn = self.turn(index, subject);
        let objects = Objects {
            new: review.object.as_deref(),
            old: review.old,
        };
        let around = turn.around(world);
        if turn.subject.concerns_policies() {
            policies::validate(&turn.index.validating_policies, &turn.subject, objects, around).await?;
        }
        let began = Instant::now();
        let validated =
            webhooks::validate(&turn.index.validating_hooks, &turn.subject, objects, around).await;
        turn.subject.notes.wait(began.elapsed());
        validated
    }

    fn turn(&self, index: Arc<Index>, subject: Subject) -> Turn<'_> {
        let own = &subject.kind;
        let others = match subject.has_versions() {
            true => self.kinds.equivalents(own),
            false => Vec::new(),
        };
        Turn {
            dynamic: self,
            index,
            subject,
            others,
            policies: Again::default(),
            hooks: Again::default(),
            second: false,
        }
    }
}

impl Mirror for Dynamic {
    const PREFIX: &'static str = PREFIX;
    const OF: &'static str = "webhooks and policies";

    fn replace(&self, entries: &[Arc<Entry>]) {
        let mut all = Configurations::default();
        for entry in entries {
            apply(&mut all, &entry.key, Some(&entry.text));
        }
        let mut kept = self.configurations.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = all;
        self.publish(&kept);
    }

    fn apply(&self, key: &str, text: Option<&[u8]>) {
        let mut all = self.configurations.lock().unwrap_or_else(PoisonError::into_inner);
        apply(&mut all, key, text);
        self.publish(&all);
    }
}

fn apply(all: &mut Configurations, key: &str, text: Option<&[u8]>) {
    let place = key.strip_prefix(PREFIX).and_then(|place| place.split_once('/'));
    let Some((plural, name)) = place else { return };
    let object: Option<Value> = text.and_then(|text| serde_json::from_slice(text).ok());
    all.apply(plural, name, object.as_ref());
}

/// A request on its way past those who may change its object.
pub struct Turn<'d> {
    dynamic: &'d Dynamic,
    index: Arc<Index>,
    subject: Subject,
    others: Vec<KindRef>,
    policies: Again,
    hooks: Again,
    second: bool,
}

impl Turn<'_> {
    fn around<'a>(&'a self, world: &'a dyn World) -> Around<'a> {
        Around {
            outbound: &self.dynamic.outbound,
            kinds: &self.dynamic.kinds,
            world,
            others: &self.others,
            metrics: &self.dynamic.metrics,
        }
    }

    /// Lets policies, then webhooks change the object; the second time only those who wish to see what others
    /// changed after their turn. True when one did.
    ///
    /// # Errors
    /// The refusal of one of them.
    pub async fn mutate(&mut self, review: &mut Review<'_>, world: &dyn World) -> Result<bool, Status> {
        let mut object = review.object.as_deref().cloned();
        let (mut policies, mut hooks) = (
            std::mem::take(&mut self.policies),
            std::mem::take(&mut self.hooks),
        );
        let around = self.around(world);
        let mut changed = false;
        if let Some(object) = object.as_mut().filter(|_| self.subject.concerns_policies()) {
            policies.begin(self.second, object);
            let bound = &self.index.mutating_policies;
            changed |=
                policies::mutate(bound, &self.subject, object, review.old, around, &mut policies).await?;
            policies.end(object);
        }
        hooks.begin(self.second, object.as_ref().unwrap_or(&Value::Null));
        let all = &self.index.mutating_hooks;
        let began = Instant::now();
        let mutated = webhooks::mutate(all, &self.subject, &mut object, review.old, around, &mut hooks).await;
        self.subject.notes.wait(began.elapsed());
        changed |= mutated?;
        hooks.end(object.as_ref().unwrap_or(&Value::Null));
        if let (Some(object), Some(place), true) = (object, review.object.as_deref_mut(), changed) {
            *place = object;
        }
        (self.policies, self.hooks, self.second) = (policies, hooks, true);
        Ok(changed)
    }
}
