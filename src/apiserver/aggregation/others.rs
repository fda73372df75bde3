//! Who extends the API, and what is known of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use api::request::{Reply, ResourceRef};
use api::status::Status;
use bytes::Bytes;
use serde_json::{Value, json};
use store::Entry;
use tokio::sync::watch;

use super::Remote;
use crate::mirror::Mirror;

const PREFIX: &str = "/apiregistration.k8s.io/apiservices/";

/// What a server said of itself when it was last asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Documents {
    /// The resources of its APIResourceList.
    pub resources: Vec<Value>,
    /// Its OpenAPI v2 document; empty when it has none.
    pub openapi_v2: Bytes,
    /// Where its OpenAPI v3 document is (`serverRelativeURL`); empty when it has none.
    pub openapi_v3: String,
}

/// A group version served elsewhere, and what is known of it.
pub type Shown = (Arc<Remote>, Option<Arc<Documents>>);

/// All group versions that others serve, by the names of their APIServices.
pub struct Others {
    // Std locks: nothing awaits while they are held.
    table: RwLock<BTreeMap<String, Arc<Remote>>>,
    documents: Mutex<HashMap<String, Arc<Documents>>>,
    /// Counts the changes.
    changes: watch::Sender<u64>,
}

impl Default for Others {
    fn default() -> Self {
        Self {
            table: RwLock::default(),
            documents: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }
}

impl Others {
    /// Who else serves a group version; `None` when nobody does.
    pub fn serving(&self, group: &str, version: &str) -> Option<Arc<Remote>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        if table.is_empty() {
            return None;
        }
        table.get(&format!("{version}.{group}")).cloned()
    }

    /// Who else serves what is at a path; `None` when nobody does.
    pub fn of_path(&self, path: &str) -> Option<Arc<Remote>> {
        let mut parts = path.strip_prefix("/apis/")?.splitn(3, '/');
        self.serving(parts.next()?, parts.next()?)
    }

    /// What a group version was last known to consist of, as an APIResourceList. Everybody may know.
    ///
    /// # Errors
    /// 404 when nobody else serves it, 503 in client-go's words when whoever does is away or has not said it yet.
    pub fn resources(&self, place: &ResourceRef) -> Result<Reply, Status> {
        let (group, version) = (&place.group, &place.version);
        let remote = self
            .serving(group, version)
            .ok_or_else(|| Status::not_found(group, "", version))?;
        let documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        let said = documents.get(&remote.name).filter(|_| remote.available);
        let stale = || Status::unavailable(format!("stale GroupVersion discovery: {group}/{version}"));
        let list = json!({
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": format!("{group}/{version}"),
            "resources": said.ok_or_else(stale)?.resources,
        });
        Ok(Reply {
            code: 200,
            body: list.to_string().into(),
            warnings: Vec::new(),
        })
    }

    /// All of them, by name.
    pub fn all(&self) -> Vec<Shown> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = |remote: &Arc<Remote>| (remote.clone(), documents.get(&remote.name).cloned());
        table.values().map(shown).collect()
    }

    /// A number that changes whenever what they are, or serve, does.
    pub fn state(&self) -> u64 {
        *self.changes.borrow()
    }

    /// What tells of changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Notes what one said of itself: `note` writes it beside what is known.
    pub(super) fn learned(&self, name: &str, note: impl FnOnce(&mut Documents)) {
        let mut documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        let known = documents.get(name);
        let mut said = known.map(|known| Documents::clone(known)).unwrap_or_default();
        note(&mut said);
        if known.is_none_or(|known| **known != said) {
            documents.insert(name.to_owned(), Arc::new(said));
            self.changes.send_modify(|count| *count += 1);
        }
    }
}

/// Takes an APIService in, or forgets one that is gone or leads nowhere else.
fn put(table: &mut BTreeMap<String, Arc<Remote>>, name: &str, text: Option<&[u8]>) {
    let object: Option<Value> = text.and_then(|text| serde_json::from_slice(text).ok());
    match object.as_ref().and_then(Remote::of) {
        Some(remote) => table.insert(name.to_owned(), Arc::new(remote)),
        None => table.remove(name),
    };
}

impl Mirror for Others {
    const PREFIX: &'static str = PREFIX;
    const OF: &'static str = "APIServices";

    fn replace(&self, entries: &[Arc<Entry>]) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.clear();
        for entry in entries {
            let name = entry.key.strip_prefix(PREFIX).unwrap_or_default();
            put(&mut table, name, Some(&entry.text));
        }
        drop(table);
        self.changes.send_modify(|count| *count += 1);
    }

    fn apply(&self, key: &str, text: Option<&[u8]>) {
        let name = key.strip_prefix(PREFIX).unwrap_or_default();
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let before = table.get(name).cloned();
        put(&mut table, name, text);
        let after = table.get(name).cloned();
        drop(table);
        if before == after {
            return;
        }
        if after.is_none() {
            let mut documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
            documents.remove(name);
        }
        self.changes.send_modify(|count| *count += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::super::remote::tests::service;
    use super::*;

    #[test]
    fn a_group_version_is_taken_over_and_given_back() {
        let others = Others::default();
        let mut object = service("a.example.com", "v1");
        let key = format!("{PREFIX}v1.a.example.com");
        others.apply(&key, Some(object.to_string().as_bytes()));
        assert!(others.of_path("/apis/a.example.com/v1").is_some());
        assert!(others.of_path("/apis/a.example.com/v1/boats").is_some());
        assert!(others.of_path("/apis/a.example.com/v10/boats").is_none());
        assert!(others.of_path("/apis/a.example.com").is_none());
        let state = others.state();
        for _ in 0..2 {
            others.learned("v1.a.example.com", |said| said.openapi_v3 = "here".to_owned());
        }
        assert_eq!(others.state(), state + 1);
        others.learned("v1.a.example.com", |said| {
            said.resources = vec![json!({"name": "boats"})]
        });
        let said = others.all()[0].1.clone().unwrap();
        assert_eq!((said.resources.len(), said.openapi_v3.as_str()), (1, "here"));
        object["spec"]["service"] = Value::Null;
        others.apply(&key, Some(object.to_string().as_bytes()));
        assert!(others.all().is_empty());
    }
}
