//! `wasi:keyvalue`: buckets of values that the embedder keeps, each opened by a name that it granted.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower, Resource, ResourceType};
use wasmtime_wasi::WasiView;

const STORE: &str = "wasi:keyvalue/store@0.2.0-draft";
const ATOMICS: &str = "wasi:keyvalue/atomics@0.2.0-draft";
const BATCH: &str = "wasi:keyvalue/batch@0.2.0-draft";

/// What a bucket holds.
pub type Values = BTreeMap<String, Vec<u8>>;

/// A change of a bucket as a whole, which may be tried more than once; what it gives is told to the guest.
pub type Edit = dyn Fn(&mut Values) -> Result<u64, KeyValueError> + Send + Sync;

/// Why a bucket cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyValueError {
    /// There is none of that name, or it was not granted.
    #[error("no such store")]
    NoSuchStore,
    /// It may not be used.
    #[error("access denied")]
    AccessDenied,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// The buckets that an instance was granted.
#[async_trait]
pub trait Buckets: Debug + Send + Sync + 'static {
    /// Opens one.
    async fn open(&self, name: &str) -> Result<Arc<dyn Bucket>, KeyValueError>;
}

/// A bucket.
#[async_trait]
pub trait Bucket: Send + Sync + 'static {
    /// All that is in it.
    async fn read(&self) -> Result<Values, KeyValueError>;

    /// Changes it: no other change comes in between what `edit` sees and what it leaves.
    async fn change(&self, edit: Arc<Edit>) -> Result<u64, KeyValueError>;
}

/// A guest's handle of a bucket.
struct Opened(Arc<dyn Bucket>);

#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

impl From<KeyValueError> for Error {
    fn from(error: KeyValueError) -> Error {
        match error {
            KeyValueError::NoSuchStore => Error::NoSuchStore,
            KeyValueError::AccessDenied => Error::AccessDenied,
            KeyValueError::Other(text) => Error::Other(text),
        }
    }
}

#[derive(ComponentType, Lift, Lower)]
#[component(record)]
struct KeyResponse {
    #[component(name = "keys")]
    keys: Vec<String>,
    #[component(name = "cursor")]
    cursor: Option<u64>,
}

type Answer<T> = wasmtime::Result<(Result<T, Error>,)>;
type Later<'a, T> = Box<dyn Future<Output = Answer<T>> + Send + 'a>;
type Context<'a, S> = StoreContextMut<'a, S>;
type Handle = Resource<Opened>;

/// A guest that may be granted buckets.
pub(crate) trait HasBuckets: WasiView + 'static {
    /// Those that it was granted.
    fn buckets(&self) -> Option<&Arc<dyn Buckets>>;
}

pub(crate) fn add_to_linker<S: HasBuckets>(linker: &mut Linker<S>) -> wasmtime::Result<()> {
    let mut store = linker.instance(STORE)?;
    store.resource("bucket", ResourceType::host::<Opened>(), |mut store, handle| {
        store
            .data_mut()
            .ctx()
            .table
            .delete(Resource::<Opened>::new_own(handle))?;
        Ok(())
    })?;
    store.func_wrap_async("open", open)?;
    store.func_wrap_async("[method]bucket.get", get)?;
    store.func_wrap_async("[method]bucket.set", set)?;
    store.func_wrap_async("[method]bucket.delete", delete)?;
    store.func_wrap_async("[method]bucket.exists", exists)?;
    store.func_wrap_async("[method]bucket.list-keys", list_keys)?;
    linker
        .instance(ATOMICS)?
        .func_wrap_async("increment", increment)?;
    let mut batch = linker.instance(BATCH)?;
    batch.func_wrap_async("get-many", get_many)?;
    batch.func_wrap_async("set-many", set_many)?;
    batch.func_wrap_async("delete-many", delete_many)?;
    Ok(())
}

fn open<S: HasBuckets>(mut store: Context<'_, S>, (name,): (String,)) -> Later<'_, Handle> {
    Box::new(async move {
        let Some(granted) = store.data().buckets().cloned() else {
            return Ok((Err(Error::NoSuchStore),));
        };
        Ok((match granted.open(&name).await {
            Ok(bucket) => Ok(store.data_mut().ctx().table.push(Opened(bucket))?),
            Err(error) => Err(error.into()),
        },))
    })
}

/// The bucket behind a handle.
fn bucket<S: HasBuckets>(store: &mut Context<'_, S>, handle: &Handle) -> wasmtime::Result<Arc<dyn Bucket>> {
    Ok(store.data_mut().ctx().table.get(handle)?.0.clone())
}

/// Answers with something of what is in the bucket.
fn reading<S: HasBuckets, T: Send + 'static>(
    store: &mut Context<'_, S>,
    handle: &Handle,
    of: impl FnOnce(Values) -> T + Send + 'static,
) -> Later<'static, T> {
    let bucket = bucket(store, handle);
    Box::new(async move { Ok((bucket?.read().await.map(of).map_err(Error::from),)) })
}

/// Changes what is in the bucket.
fn changing<S: HasBuckets>(
    store: &mut Context<'_, S>,
    handle: &Handle,
    edit: impl Fn(&mut Values) -> Result<u64, KeyValueError> + Send + Sync + 'static,
) -> Later<'static, u64> {
    let bucket = bucket(store, handle);
    Box::new(async move { Ok((bucket?.change(Arc::new(edit)).await.map_err(Error::from),)) })
}

/// The same without an answer.
fn silent(later: Later<'static, u64>) -> Later<'static, ()> {
    Box::new(async move {
        let (answer,) = Box::into_pin(later).await?;
        Ok((answer.map(drop),))
    })
}

fn get<S: HasBuckets>(
    mut store: Context<'_, S>,
    (handle, key): (Handle, String),
) -> Later<'_, Option<Vec<u8>>> {
    reading(&mut store, &handle, move |mut values| values.remove(&key))
}

fn exists<S: HasBuckets>(mut store: Context<'_, S>, (handle, key): (Handle, String)) -> Later<'_, bool> {
    reading(&mut store, &handle, move |values| values.contains_key(&key))
}

/// All keys at once: a bucket is no larger than one answer.
fn list_keys<S: HasBuckets>(
    mut store: Context<'_, S>,
    (handle, _): (Handle, Option<u64>),
) -> Later<'_, KeyResponse> {
    reading(&mut store, &handle, |values| KeyResponse {
        keys: values.into_keys().collect(),
        cursor: None,
    })
}

fn set<S: HasBuckets>(
    mut store: Context<'_, S>,
    (handle, key, value): (Handle, String, Vec<u8>),
) -> Later<'_, ()> {
    silent(changing(&mut store, &handle, move |values| {
        values.insert(key.clone(), value.clone());
        Ok(0)
    }))
}

fn delete<S: HasBuckets>(mut store: Context<'_, S>, (handle, key): (Handle, String)) -> Later<'_, ()> {
    silent(changing(&mut store, &handle, move |values| {
        values.remove(&key);
        Ok(0)
    }))
}

fn increment<S: HasBuckets>(
    mut store: Context<'_, S>,
    (handle, key, delta): (Handle, String, u64),
) -> Later<'_, u64> {
    changing(&mut store, &handle, move |values| add(values, &key, delta))
}

/// Numbers are kept as decimal text, which people can read.
fn add(values: &mut Values, key: &str, delta: u64) -> Result<u64, KeyValueError> {
    let text = values.get(key).map_or(&b"0"[..], Vec::as_slice);
    let number = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse::<u64>().ok());
    let number = number.ok_or_else(|| KeyValueError::Other(format!("the value of {key:?} is no number")))?;
    let sum = number.checked_add(delta);
    let sum = sum.ok_or_else(|| KeyValueError::Other(format!("the value of {key:?} would be too large")))?;
    values.insert(key.to_owned(), sum.to_string().into_bytes());
    Ok(sum)
}

type Pair = (String, Vec<u8>);

fn get_many<S: HasBuckets>(
    mut store: Context<'_, S>,
    (handle, keys): (Handle, Vec<String>),
) -> Later<'_, Vec<Option<Pair>>> {
    reading(&mut store, &handle, move |mut values| {
        let found = keys
            .into_iter()
            .map(|key| values.remove(&key).map(|value| (key, value)));
        found.collect()
    })
}

fn set_many<S: HasBuckets>(mut store: Context<'_, S>, (handle, pairs): (Handle, Vec<Pair>)) -> Later<'_, ()> {
    silent(changing(&mut store, &handle, move |values| {
        values.extend(pairs.clone());
        Ok(0)
    }))
}

fn delete_many<S: HasBuckets>(
    mut store: Context<'_, S>,
    (handle, keys): (Handle, Vec<String>),
) -> Later<'_, ()> {
    silent(changing(&mut store, &handle, move |values| {
        values.retain(|key, _| !keys.contains(key));
        Ok(0)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_text_and_never_wrap() {
        let mut values = Values::new();
        assert_eq!(add(&mut values, "n", 2), Ok(2));
        assert_eq!(add(&mut values, "n", 40), Ok(42));
        assert_eq!(values["n"], b"42");
        assert!(add(&mut values, "n", u64::MAX).is_err());
        values.insert("n".to_owned(), b"many".to_vec());
        assert!(add(&mut values, "n", 1).is_err());
    }
}
