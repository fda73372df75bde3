//! Buckets of `wasi:keyvalue`: ConfigMaps of the pod's namespace that its annotation grants, read and written as
//! the pod's ServiceAccount, so that roles say who may.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use api::status::Status;
use async_trait::async_trait;
use base::{Clock, Random};
use client::{Cache, Client, Credentials, HttpApi, HttpConfig};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service, ServiceAccountTokenProjection};
use tokio::runtime::Handle;
use wasm::{Bucket, Buckets, Edit, KeyValueError, Values};

use crate::context::Context;
use crate::moment::Moment;
use crate::pods::spec;
use crate::volumes::Tokens;

/// On pods: names of ConfigMaps that its guests may open as buckets, separated by commas.
pub const ANNOTATION: &str = "coracle.dev/keyvalue";
/// Under which the pod's tokens are kept.
const TOKEN: &str = "keyvalue";
/// How often a change is tried that others came in between of.
const TRIES: u32 = 100;
/// Most of the pause between two tries.
const PAUSE_MS_MAX: u64 = 50;

/// The buckets that a pod's annotation grants; `None` without one.
pub fn granted(node: &Context, pod: &Pod) -> Option<Arc<dyn Buckets>> {
    let names = spec::annotation(pod, ANNOTATION)?.split(',');
    let names = names.map(|name| name.trim().to_owned());
    Some(Arc::new(PodBuckets {
        names: names.filter(|name| !name.is_empty()).collect(),
        door: Arc::new(Door {
            client: node.client.clone(),
            services: node.services.clone(),
            clock: node.clock.clone(),
            random: node.random.clone(),
            pod: Arc::new(pod.clone()),
            tokens: Tokens::default(),
            open: tokio::sync::Mutex::default(),
        }),
        // Guests' threads may be where no server is reached.
        runtime: Handle::current(),
    }))
}

struct PodBuckets {
    names: Vec<String>,
    door: Arc<Door>,
    runtime: Handle,
}

impl fmt::Debug for PodBuckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PodBuckets")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Buckets for PodBuckets {
    async fn open(&self, name: &str) -> Result<Arc<dyn Bucket>, KeyValueError> {
        if !self.names.iter().any(|granted| granted == name) {
            return Err(KeyValueError::NoSuchStore);
        }
        let bucket = Arc::new(Map {
            name: name.to_owned(),
            door: self.door.clone(),
            runtime: self.runtime.clone(),
        });
        bucket.read().await?;
        Ok(bucket)
    }
}

/// The API as the pod's ServiceAccount sees it.
struct Door {
    client: Client,
    services: Cache<Service>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    pod: Arc<Pod>,
    tokens: Tokens,
    /// With the token it was opened with.
    open: tokio::sync::Mutex<Option<(String, Client)>>,
}

impl Door {
    async fn client(&self) -> Result<Client, KeyValueError> {
        let wanted = ServiceAccountTokenProjection {
            path: TOKEN.to_owned(),
            ..ServiceAccountTokenProjection::default()
        };
        let now = Moment::read(self.clock.as_ref());
        let mut open = self.open.lock().await;
        let had = self
            .tokens
            .get(
                &self.client,
                &self.pod,
                TOKEN,
                std::iter::once(&wanted),
                |_| None,
                now,
            )
            .await;
        let token = had
            .map_err(KeyValueError::Other)?
            .remove(TOKEN)
            .unwrap_or_default();
        if let Some((_, client)) = open.as_ref().filter(|(with, _)| *with == token) {
            return Ok(client.clone());
        }
        let client = self.connect(&token).await?;
        *open = Some((token, client.clone()));
        Ok(client)
    }

    async fn connect(&self, token: &str) -> Result<Client, KeyValueError> {
        let master = self.services.get("default", "kubernetes");
        let address = master.and_then(|service| service.spec.as_ref()?.cluster_ip.clone());
        let address =
            address.ok_or_else(|| KeyValueError::Other("the API's Service is not known yet".to_owned()))?;
        let namespace = spec::namespace(&self.pod);
        let authority = self.client.get::<ConfigMap>(namespace, "kube-root-ca.crt").await;
        let data = authority.map_err(refused)?.data.unwrap_or_default();
        let config = HttpConfig {
            server: format!("https://{address}:443"),
            ca_pem: data.get("ca.crt").cloned().unwrap_or_default(),
            credentials: Credentials {
                token: token.to_owned(),
                ..Credentials::default()
            },
            ..HttpConfig::default()
        };
        let api = HttpApi::new(config).map_err(|error| KeyValueError::Other(error.to_string()))?;
        // Who asks is what the token says.
        Ok(Client::new(Arc::new(api), self.client.user().clone()))
    }
}

/// A bucket: one ConfigMap.
#[derive(Clone)]
struct Map {
    name: String,
    door: Arc<Door>,
    runtime: Handle,
}

#[async_trait]
impl Bucket for Map {
    async fn read(&self) -> Result<Values, KeyValueError> {
        let own = self.clone();
        self.elsewhere(async move { Ok(values(&own.fetch().await?.1)) })
            .await
    }

    async fn change(&self, edit: Arc<Edit>) -> Result<u64, KeyValueError> {
        let own = self.clone();
        self.elsewhere(async move { own.change_here(&edit).await }).await
    }
}

impl Map {
    /// Does something on the node's own threads.
    async fn elsewhere<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, KeyValueError>> + Send + 'static,
    ) -> Result<T, KeyValueError> {
        let done = self.runtime.spawn(work).await;
        done.map_err(|error| KeyValueError::Other(error.to_string()))?
    }

    async fn fetch(&self) -> Result<(Client, ConfigMap), KeyValueError> {
        let client = self.door.client().await?;
        let found = client
            .get::<ConfigMap>(spec::namespace(&self.door.pod), &self.name)
            .await;
        Ok((client, found.map_err(refused)?))
    }

    /// Writes only over what was read; somebody who came in between is read again.
    async fn change_here(&self, edit: &Arc<Edit>) -> Result<u64, KeyValueError> {
        for _ in 0..TRIES {
            let (client, mut map) = self.fetch().await?;
            let before = values(&map);
            let mut after = before.clone();
            let answer = edit(&mut after)?;
            if after == before {
                return Ok(answer);
            }
            check(&after)?;
            fill(&mut map, after);
            match client.update(&map).await {
                Ok(_) => return Ok(answer),
                Err(status) if status.is_conflict() => {
                    let pause = self.door.random.below(PAUSE_MS_MAX);
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
                Err(status) => return Err(refused(status)),
            }
        }
        Err(KeyValueError::Other(format!(
            "bucket {:?} is changed by too many others",
            self.name
        )))
    }
}

fn refused(status: Status) -> KeyValueError {
    match status.code {
        404 => KeyValueError::NoSuchStore,
        401 | 403 => KeyValueError::AccessDenied,
        _ => KeyValueError::Other(status.message),
    }
}

/// What a ConfigMap holds as a bucket.
fn values(map: &ConfigMap) -> Values {
    let text = map.data.iter().flatten();
    let text = text.map(|(key, value)| (key.clone(), value.clone().into_bytes()));
    let bytes = map.binary_data.iter().flatten();
    text.chain(bytes.map(|(key, value)| (key.clone(), value.0.clone())))
        .collect()
}

/// Puts values into a ConfigMap: what is text as text, so that people can read it.
fn fill(map: &mut ConfigMap, values: Values) {
    map.data = None;
    map.binary_data = None;
    for (key, value) in values {
        match String::from_utf8(value) {
            Ok(text) => {
                map.data.get_or_insert_default().insert(key, text);
            }
            Err(other) => {
                let bytes = ByteString(other.into_bytes());
                map.binary_data.get_or_insert_default().insert(key, bytes);
            }
        }
    }
}

/// Keys are those of ConfigMaps.
fn check(values: &Values) -> Result<(), KeyValueError> {
    let fits = |key: &String| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        !key.is_empty() && key.len() <= 253 && key.bytes().all(plain)
    };
    match values.keys().find(|key| !fits(key)) {
        None => Ok(()),
        Some(key) => Err(KeyValueError::Other(format!(
            "the key {key:?} cannot be kept: keys are up to 253 letters, digits, '-', '_' and '.'"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_a_config_map_that_people_can_read() {
        let all: Values = [("n".to_owned(), b"42".to_vec()), ("raw".to_owned(), vec![0xff])].into();
        let mut map = ConfigMap::default();
        fill(&mut map, all.clone());
        assert_eq!(map.data.as_ref().unwrap()["n"], "42");
        assert_eq!(map.binary_data.as_ref().unwrap()["raw"].0, [0xff]);
        assert_eq!(values(&map), all);
        assert!(check(&all).is_ok());
        assert!(check(&[("a/b".to_owned(), Vec::new())].into()).is_err());
    }
}
