//! ConfigMaps and Secrets that pods here use: fetched when needed, kept on
//! disk for times without a server, followed while a volume shows them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::status::Status;
use base::{OnError, Tasks};
use client::{Cache, Client, Object, Selectors};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::warn;

use crate::disk;
use crate::env::{Objects, References};
use crate::paths::Paths;

/// Called, from some task, when an object that a pod follows has changed.
pub type OnChange = Arc<dyn Fn() + Send + Sync>;

/// How long the server is waited for where something on disk would do as well.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    kind: &'static str,
    namespace: String,
    name: String,
}

struct Followed {
    tasks: Tasks,
    pods: HashMap<String, OnChange>,
}

/// The objects. Cheap to clone.
#[derive(Clone)]
pub struct ObjectStore {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    paths: Paths,
    tasks: Tasks,
    // Std mutexes: nothing awaits while they are held.
    followed: Mutex<HashMap<Key, Followed>>,
    /// Resource versions of the copies on disk, so that an unchanged object is not written again.
    kept: Mutex<HashMap<Key, String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the failure says nothing about the object: the server is away.
pub fn away(status: &Status) -> bool {
    status.code >= 500 || status.code == 429
}

/// The answer, or that the server is away if it does not come soon.
pub async fn within_patience<T>(asked: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let answer = tokio::time::timeout(PATIENCE, asked).await;
    answer.unwrap_or_else(|_| Err(Status::timeout("the server did not answer soon")))
}

impl ObjectStore {
    /// A store that asks through `client` and follows with tasks of `tasks`.
    pub fn new(client: Client, paths: Paths, tasks: Tasks) -> ObjectStore {
        let (followed, kept) = Default::default();
        ObjectStore {
            inner: Arc::new(Inner {
                client,
                paths,
                tasks,
                followed,
                kept,
            }),
        }
    }

    /// The objects that exist of those referred to. While the server is away
    /// the copies on disk stand in.
    ///
    /// # Errors
    /// Why it is not known whether an object exists.
    pub async fn fetch(&self, namespace: &str, references: &References) -> Result<Objects, String> {
        let mut objects = Objects::default();
        for name in &references.config_maps {
            if let Some(map) = self.one::<ConfigMap>("configmap", namespace, name).await? {
                objects.config_maps.insert(name.clone(), map);
            }
        }
        for name in &references.secrets {
            if let Some(secret) = self.one::<Secret>("secret", namespace, name).await? {
                objects.secrets.insert(name.clone(), secret);
            }
        }
        Ok(objects)
    }

    async fn one<T>(&self, kind: &'static str, namespace: &str, name: &str) -> Result<Option<Arc<T>>, String>
    where
        T: Object + Serialize + DeserializeOwned,
    {
        let key = Key {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        match self.ask::<T>(&key).await {
            Ok(Some(object)) => {
                self.keep(&key, &object).await;
                Ok(Some(Arc::new(object)))
            }
            Ok(None) => {
                if lock(&self.inner.kept).remove(&key).is_some() {
                    let _ = std::fs::remove_file(self.path(&key));
                }
                Ok(None)
            }
            Err(status) if away(&status) => match disk::read_json::<T>(&self.path(&key)) {
                Some(object) => Ok(Some(Arc::new(object))),
                None => Err(format!(
                    "{kind} {name:?} is not known here and the server is away: {status}"
                )),
            },
            Err(status) => Err(status.message),
        }
    }

    /// Asks the server, for a short time only if the copy would do: a network that swallows
    /// everything must not cost a pod a minute for each of its objects.
    async fn ask<T: Object>(&self, key: &Key) -> Result<Option<T>, Status> {
        let asked = self.inner.client.find::<T>(&key.namespace, &key.name);
        if self.path(key).exists() {
            within_patience(asked).await
        } else {
            asked.await
        }
    }

    async fn keep<T: Object + Serialize>(&self, key: &Key, object: &T) {
        let version = object.metadata().resource_version.clone().unwrap_or_default();
        if lock(&self.inner.kept).get(key) == Some(&version) {
            return;
        }
        let (path, bytes) = (self.path(key), serde_json::to_vec(object).unwrap_or_default());
        let written = tokio::task::spawn_blocking(move || disk::write(&path, &bytes, false)).await;
        match written {
            Ok(Ok(())) => {
                lock(&self.inner.kept).insert(key.clone(), version);
            }
            Ok(Err(error)) => warn!(kind = key.kind, name = %key.name, %error, "a copy was not kept"),
            Err(_) => {}
        }
    }

    fn path(&self, key: &Key) -> std::path::PathBuf {
        // Names of both kinds are DNS names: no slash, no leading dot.
        self.inner
            .paths
            .objects()
            .join(&key.namespace)
            .join(format!("{}.{}.json", key.kind, key.name))
    }

    /// From now on calls `on_change` whenever one of these changes, until
    /// [`ObjectStore::unfollow`].
    pub fn follow(&self, pod_uid: &str, namespace: &str, references: &References, on_change: &OnChange) {
        for name in &references.config_maps {
            self.follow_one::<ConfigMap>("configmap", namespace, name, pod_uid, on_change);
        }
        for name in &references.secrets {
            self.follow_one::<Secret>("secret", namespace, name, pod_uid, on_change);
        }
    }

    fn follow_one<T>(&self, kind: &'static str, namespace: &str, name: &str, pod_uid: &str, call: &OnChange)
    where
        T: Object + DeserializeOwned,
    {
        let key = Key {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let mut followed = lock(&self.inner.followed);
        if let Some(entry) = followed.get_mut(&key) {
            entry.pods.insert(pod_uid.to_owned(), call.clone());
            return;
        }
        let tasks = self.inner.tasks.child();
        let selectors = Selectors::namespace(namespace).fields(format!("metadata.name={name}"));
        let cache = Cache::<T>::start(&self.inner.client, selectors, &tasks);
        let mut changes = cache.changes();
        let (inner, its_key) = (Arc::downgrade(&self.inner), key.clone());
        tasks.spawn(
            format!("following {kind} {namespace}/{name}"),
            OnError::Log,
            async move {
                // Held here: the cache ends with its last handle's task group.
                let _cache = cache;
                while changes.recv().await.is_some() {
                    let Some(inner) = inner.upgrade() else { return };
                    let calls: Vec<OnChange> = match lock(&inner.followed).get(&its_key) {
                        Some(entry) => entry.pods.values().cloned().collect(),
                        None => return,
                    };
                    calls.iter().for_each(|call| call());
                }
            },
        );
        let pods = HashMap::from([(pod_uid.to_owned(), call.clone())]);
        followed.insert(key, Followed { tasks, pods });
    }

    /// Forgets what a pod follows.
    pub fn unfollow(&self, pod_uid: &str) {
        lock(&self.inner.followed).retain(|_, entry| {
            entry.pods.remove(pod_uid);
            if entry.pods.is_empty() {
                entry.tasks.cancel();
            }
            !entry.pods.is_empty()
        });
    }

    /// Removes the copies on disk that none of these (namespace, references) need.
    pub fn collect(&self, needed: &[(String, References)]) {
        let mut names: HashSet<(String, String)> = HashSet::new();
        for (namespace, references) in needed {
            let maps = references
                .config_maps
                .iter()
                .map(|name| format!("configmap.{name}.json"));
            let secrets = references
                .secrets
                .iter()
                .map(|name| format!("secret.{name}.json"));
            names.extend(maps.chain(secrets).map(|file| (namespace.clone(), file)));
        }
        let folders = std::fs::read_dir(self.inner.paths.objects())
            .into_iter()
            .flatten()
            .flatten();
        for folder in folders {
            let namespace = folder.file_name().to_string_lossy().into_owned();
            for entry in std::fs::read_dir(folder.path()).into_iter().flatten().flatten() {
                let file = entry.file_name().to_string_lossy().into_owned();
                if !names.contains(&(namespace.clone(), file)) {
                    let _ = std::fs::remove_file(entry.path());
                }
            }
        }
    }
}
