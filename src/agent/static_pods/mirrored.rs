//! Under which id the API knows each static pod.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Pod;

use crate::pods::spec;

/// Under which id the API knows each static pod. Cheap to clone.
#[derive(Clone, Default)]
pub struct Mirrors {
    // A std mutex: nothing awaits while it is held.
    ids: Arc<Mutex<HashMap<String, String>>>,
}

impl Mirrors {
    /// The ids, held.
    pub(super) fn ids(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id by which the API knows a pod; `None` for a static pod that has no mirror (yet).
    pub fn id_of(&self, pod: &Pod) -> Option<String> {
        match super::is_static(pod) {
            false => Some(spec::uid(pod).to_owned()),
            true => self.ids().get(spec::uid(pod)).cloned(),
        }
    }

    /// Notes the mirror of a pod; whether that is news.
    pub(super) fn set(&self, uid: &str, mirror: Option<&str>) -> bool {
        let mut ids = self.ids();
        let before = match mirror {
            Some(mirror) => ids.insert(uid.to_owned(), mirror.to_owned()),
            None => ids.remove(uid),
        };
        before.as_deref() != mirror
    }
}
