//! The kinds that are served: those of the table, early versions that are switched on, and those that
//! CustomResourceDefinitions add.
//!
//! One value, shared by everything that looks kinds up; it changes when a definition does.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use api::custom::CustomKind;
use api::kind::{Kind, KindRef};
use api::kinds;
use tokio::sync::watch;

use crate::switches::Switches;

/// Group, version and plural.
type Path = (&'static str, &'static str, &'static str);

/// All kinds that are served.
pub struct ServedKinds {
    built_in: Vec<&'static Kind>,
    /// The same: every request looks its kind up several times.
    by_path: HashMap<Path, &'static Kind>,
    switches: Switches,
    // A std lock: nothing awaits while it is held.
    custom: RwLock<Custom>,
    /// Counts the changes.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Custom {
    by_definition: BTreeMap<String, Vec<Arc<CustomKind>>>,
    by_path: HashMap<Path, Arc<CustomKind>>,
}

impl Default for ServedKinds {
    fn default() -> Self {
        Self::of(kinds::all())
    }
}

impl ServedKinds {
    /// Those of a table, and no others yet.
    pub fn of(built_in: &[&'static Kind]) -> Self {
        let path = |kind: &&'static Kind| ((kind.group, kind.version, kind.plural), *kind);
        Self {
            built_in: built_in.to_vec(),
            // Of two with one path the first counts.
            by_path: built_in.iter().rev().map(path).collect(),
            switches: Switches::default(),
            custom: RwLock::default(),
            changes: watch::Sender::new(0),
        }
    }

    /// Those of the one table, as they are switched, and no others yet.
    pub fn switched(switches: &Switches) -> Self {
        Self {
            switches: switches.clone(),
            ..Self::of(&[kinds::all(), switches.early()].concat())
        }
    }

    /// Whether that is switched off: the server's own parts find it, and nobody else.
    pub fn is_off(&self, group: &str, version: &str, plural: &str) -> bool {
        self.switches.is_off(group, version, plural)
    }

    /// The kind with that path.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<KindRef> {
        let path = (group, version, plural);
        if let Some(kind) = self.by_path.get(&path) {
            return Some(KindRef::BuiltIn(kind));
        }
        let custom = self.custom.read().unwrap_or_else(PoisonError::into_inner);
        let found = custom.by_path.get(&path)?;
        Some(KindRef::Custom(found.clone()))
    }

    /// Every kind that is not switched off: first the table, then the definitions by name, each with its preferred
    /// version first.
    pub fn all(&self) -> Vec<KindRef> {
        let custom = self.custom.read().unwrap_or_else(PoisonError::into_inner);
        let is_on = |kind: &&&'static Kind| !self.is_off(kind.group, kind.version, kind.plural);
        let built_in = self
            .built_in
            .iter()
            .filter(is_on)
            .map(|kind| KindRef::BuiltIn(kind));
        let custom = custom
            .by_definition
            .values()
            .flatten()
            .cloned()
            .map(KindRef::Custom);
        built_in.chain(custom).collect()
    }

    /// The other versions in which the same objects are served.
    pub fn equivalents(&self, kind: &KindRef) -> Vec<KindRef> {
        let itself = |other: &Kind| (other.group, other.version) == (kind.group, kind.version);
        if kind.custom().is_none() {
            let same = |other: &&&Kind| other.plural == kind.plural && other.stored_as() == kind.stored_as();
            let others = self.built_in.iter().filter(same).filter(|other| !itself(other));
            return others.map(|other| KindRef::BuiltIn(other)).collect();
        }
        let custom = self.custom.read().unwrap_or_else(PoisonError::into_inner);
        let definition = format!("{}.{}", kind.plural, kind.group);
        let versions = custom.by_definition.get(&definition).into_iter().flatten();
        let others = versions.filter(|other| !itself(other.kind()));
        others.cloned().map(KindRef::Custom).collect()
    }

    /// A number that changes whenever what is served does.
    pub fn state(&self) -> u64 {
        *self.changes.borrow()
    }

    /// What tells of changes of what is served.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Returns once a kind is not served any more, as when its definition is gone.
    pub async fn withdrawn(&self, kind: &KindRef) {
        let mut changes = self.changes.subscribe();
        let Some(uid) = kind.custom().map(|custom| &custom.generation().0) else {
            return std::future::pending().await;
        };
        loop {
            let now = self.find(kind.group, kind.version, kind.plural);
            let same = now.is_some_and(|now| now.custom().is_some_and(|now| now.generation().0 == *uid));
            if !same || changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Takes in what a definition serves now; nothing when it is gone or was not accepted.
    pub fn put(&self, definition: &str, kinds: Vec<Arc<CustomKind>>) {
        let mut custom = self.custom.write().unwrap_or_else(PoisonError::into_inner);
        let before = custom.by_definition.remove(definition).unwrap_or_default();
        if before.is_empty() && kinds.is_empty() {
            return;
        }
        for kind in &before {
            let kind = kind.kind();
            custom.by_path.remove(&(kind.group, kind.version, kind.plural));
        }
        for kind in &kinds {
            let path = (kind.kind().group, kind.kind().version, kind.kind().plural);
            custom.by_path.insert(path, kind.clone());
        }
        if !kinds.is_empty() {
            custom.by_definition.insert(definition.to_owned(), kinds);
        }
        // Told while the lock is held: whoever looks after being told sees the change.
        self.changes.send_modify(|count| *count += 1);
    }
}
