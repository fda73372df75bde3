//! A [`Client`]: the door with types.

use api::canon;
use api::request::{EventStream, Options, PatchType, Reply, Request, ResourceRef, User, Verb};
use api::schema::Schemas;
use api::status::Status;
use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, ObjectMeta};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::door::ApiRef;

/// A Kubernetes object with metadata, as `k8s_openapi` defines them.
pub trait Object:
    k8s_openapi::Resource
    + k8s_openapi::Metadata<Ty = ObjectMeta>
    + Serialize
    + DeserializeOwned
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<T> Object for T where
    T: k8s_openapi::Resource
        + k8s_openapi::Metadata<Ty = ObjectMeta>
        + Serialize
        + DeserializeOwned
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// The place of `T` in the API.
pub fn resource_of<T: k8s_openapi::Resource>() -> ResourceRef {
    ResourceRef::new(T::GROUP, T::VERSION, T::URL_PATH_SEGMENT)
}

/// Which objects of a collection are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selectors {
    /// Namespace; empty for all of them (and for cluster-scoped kinds).
    pub namespace: String,
    /// Label selector text; empty selects everything.
    pub labels: String,
    /// Field selector text; empty selects everything.
    pub fields: String,
}

impl Selectors {
    /// Every object in every namespace.
    pub fn all() -> Self {
        Self::default()
    }

    /// Every object in one namespace.
    pub fn namespace(namespace: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            ..Self::default()
        }
    }

    /// Narrowed to a label selector.
    #[must_use]
    pub fn labels(mut self, selector: impl Into<String>) -> Self {
        self.labels = selector.into();
        self
    }

    /// Narrowed to a field selector.
    #[must_use]
    pub fn fields(mut self, selector: impl Into<String>) -> Self {
        self.fields = selector.into();
        self
    }
}

/// What becomes of the objects that a deleted object owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They stay, without an owner.
    Orphan,
    /// They go after it.
    Background,
    /// They go before it.
    Foreground,
}

impl Propagation {
    /// The text of `propagationPolicy`.
    pub fn name(self) -> &'static str {
        match self {
            Propagation::Orphan => "Orphan",
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
        }
    }
}

/// How an object is to be deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Seconds a pod gets to end; `None` leaves it to the pod, 0 removes it at once.
    pub grace_seconds: Option<i64>,
    /// What becomes of owned objects; `None` leaves it to the kind.
    pub propagation: Option<Propagation>,
    /// Delete only if this is still its UID.
    pub uid: Option<String>,
    /// Delete only if this is still its resource version.
    pub resource_version: Option<String>,
}

/// A list as it came.
#[derive(Clone, Debug, Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
pub struct Page<T> {
    /// Resource version and continuation.
    #[serde(default)]
    pub metadata: ListMeta,
    /// The objects.
    #[serde(default = "Vec::new")]
    pub items: Vec<T>,
}

/// Speaks to the API as one user.
#[derive(Clone)]
pub struct Client {
    api: ApiRef,
    user: User,
    manager: String,
}

/// The field manager under which a user's writes are recorded unless told otherwise.
fn manager_of(user: &str) -> String {
    if user.starts_with("system:node:") {
        return "kubelet".to_owned();
    }
    user.rsplit(':').next().unwrap_or(user).to_owned()
}

impl Client {
    /// A client that speaks as `user` (which HTTP ignores: there the credentials speak).
    /// Writes are recorded under the last part of the user's name.
    pub fn new(api: ApiRef, user: User) -> Self {
        let manager = manager_of(&user.name);
        Self { api, user, manager }
    }

    /// The same client recording its writes under another field manager.
    #[must_use]
    pub fn with_manager(mut self, manager: impl Into<String>) -> Self {
        self.manager = manager.into();
        self
    }

    /// The same door for another user.
    #[must_use]
    pub fn with_user(&self, user: User) -> Self {
        Self::new(self.api.clone(), user)
    }

    /// The door.
    pub fn api(&self) -> &ApiRef {
        &self.api
    }

    /// Who is asking.
    pub fn user(&self) -> &User {
        &self.user
    }

    /// A request of this user about `T`, to be completed and handed to [`Client::call`].
    pub fn request<T: k8s_openapi::Resource>(&self, verb: Verb, namespace: &str, name: &str) -> Request {
        self.request_for(verb, resource_of::<T>(), namespace, name)
    }

    /// A request of this user about any resource.
    pub fn request_for(&self, verb: Verb, resource: ResourceRef, namespace: &str, name: &str) -> Request {
        let mut request = Request::new(self.user.clone(), verb, resource, namespace, name);
        request.options.field_manager.clone_from(&self.manager);
        request
    }

    /// Carries out a request as it stands.
    ///
    /// # Errors
    /// The refusal of the server.
    pub async fn call(&self, request: Request) -> Result<Reply, Status> {
        self.api.call(request).await
    }

    /// Reads one object.
    ///
    /// # Errors
    /// The refusal of the server, such as 404.
    pub async fn get<T: Object>(&self, namespace: &str, name: &str) -> Result<T, Status> {
        self.send_object(self.request::<T>(Verb::Get, namespace, name))
            .await
    }

    /// Reads one object, or `None` where there is none.
    ///
    /// # Errors
    /// The refusal of the server, except 404.
    pub async fn find<T: Object>(&self, namespace: &str, name: &str) -> Result<Option<T>, Status> {
        match self.get(namespace, name).await {
            Err(status) if status.is_not_found() => Ok(None),
            other => other.map(Some),
        }
    }

    /// Reads a whole collection at its latest state.
    ///
    /// # Errors
    /// The refusal of the server.
    pub async fn list<T: Object>(&self, selectors: &Selectors) -> Result<Page<T>, Status> {
        self.list_with(selectors, Options::default()).await
    }

    /// Reads a collection with further options (limit, continue, resource version).
    ///
    /// # Errors
    /// The refusal of the server.
    pub async fn list_with<T: Object>(
        &self,
        selectors: &Selectors,
        options: Options,
    ) -> Result<Page<T>, Status> {
        let mut request = self.request::<T>(Verb::List, &selectors.namespace, "");
        request.options = select(options, selectors);
        decode_page(&self.call(request).await?.body.whole())
    }

    /// Follows a collection.
    ///
    /// # Errors
    /// The refusal of the server, such as 410 for a resource version that is gone.
    pub async fn watch<T: Object>(
        &self,
        selectors: &Selectors,
        options: Options,
    ) -> Result<EventStream, Status> {
        let mut request = self.request::<T>(Verb::Watch, &selectors.namespace, "");
        request.options = select(options, selectors);
        self.api.watch(request).await
    }

    /// Adds an object, in the namespace that its metadata names.
    ///
    /// # Errors
    /// The refusal of the server.
    pub async fn create<T: Object>(&self, object: &T) -> Result<T, Status> {
        let namespace = object.metadata().namespace.as_deref().unwrap_or_default();
        let mut request = self.request::<T>(Verb::Create, namespace, "");
        request.body = encode(object)?;
        self.send_object(request).await
    }

    /// Replaces an object; a resource version in it must still be the current one.
    ///
    /// # Errors
    /// The refusal of the server.
    pub async fn update<T: Object>(&self, object: &T) -> Result<T, Status> {
        self.update_subresource(object, "").await
    }

    /// Replaces the status of an object.
    ///
    /// # Errors
    /// The refusal of the server.
    pub async fn update_status<T: Object>(&self, object: &T) -> Result<T, Status> {
        self.update_subresource(object, "status").await
    }

    /// Replaces an object through one of its subresources; an empty one is the object itself.
    ///
    /// # Errors
    /// The refusal of the server.
    pub async fn update_subresource<T: Object>(&self, object: &T, subresource: &str) -> Result<T, Status> {
        let meta = object.metadata();
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let mut request =
            self.request::<T>(Verb::Update, namespace, meta.name.as_deref().unwrap_or_default());
        request.subresource = subresource.to_owned();
        request.body = encode(object)?;
        self.send_object(request).await
    }

    /// Changes an object, or one of its subresources where that is not empty.
    /// [`PatchType::Apply`] is forced.
    ///
    /// # Errors
    /// The refusal of the server.
    pub async fn patch<T: Object>(
        &self,
        namespace: &str,
        name: &str,
        how: PatchType,
        patch: &Value,
        subresource: &str,
    ) -> Result<T, Status> {
        let mut request = self.request::<T>(Verb::Patch(how), namespace, name);
        request.subresource = subresource.to_owned();
        request.options.force = how == PatchType::Apply;
        request.content_type = crate::url::patch_media_type(how).to_owned();
        request.body = encode(patch)?;
        self.send_object(request).await
    }

    /// Removes an object.
    ///
    /// # Errors
    /// The refusal of the server; 404 too.
    pub async fn delete<T: Object>(
        &self,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<(), Status> {
        let mut request = self.request::<T>(Verb::Delete, namespace, name);
        set_delete(&mut request.options, options);
        self.call(request).await.map(drop)
    }

    /// Removes every object that the selectors choose.
    ///
    /// # Errors
    /// The refusal of the server.
    pub async fn delete_collection<T: Object>(
        &self,
        selectors: &Selectors,
        options: &DeleteOptions,
    ) -> Result<(), Status> {
        let mut request = self.request::<T>(Verb::DeleteCollection, &selectors.namespace, "");
        request.options = select(std::mem::take(&mut request.options), selectors);
        set_delete(&mut request.options, options);
        self.call(request).await.map(drop)
    }

    /// Posts to a subresource of an object, such as a pod's `binding`.
    ///
    /// # Errors
    /// The refusal of the server.
    pub async fn create_subresource<T, B, R>(
        &self,
        namespace: &str,
        name: &str,
        subresource: &str,
        body: &B,
    ) -> Result<R, Status>
    where
        T: k8s_openapi::Resource,
        B: Serialize,
        R: DeserializeOwned,
    {
        let mut request = self.request::<T>(Verb::Create, namespace, name);
        request.subresource = subresource.to_owned();
        request.body = encode(body)?;
        self.send(request).await
    }

    async fn send_object<T: Object>(&self, request: Request) -> Result<T, Status> {
        decode_object(&self.call(request).await?.body.whole())
    }

    async fn send<R: DeserializeOwned>(&self, request: Request) -> Result<R, Status> {
        decode(&self.call(request).await?.body.whole())
    }
}

fn select(mut options: Options, selectors: &Selectors) -> Options {
    options.label_selector.clone_from(&selectors.labels);
    options.field_selector.clone_from(&selectors.fields);
    options
}

fn set_delete(options: &mut Options, delete: &DeleteOptions) {
    options.grace_period_seconds = delete.grace_seconds;
    options.propagation_policy = delete
        .propagation
        .map(Propagation::name)
        .unwrap_or_default()
        .to_owned();
    options.precondition_uid.clone_from(&delete.uid);
    options
        .precondition_resource_version
        .clone_from(&delete.resource_version);
}

fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, Status> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(Status::internal)
}

/// Reads an object. What the types here insist on may be missing in it all the same (a condition that somebody set
/// without a time, say), where Go's clients go on with zero: so do we.
pub(crate) fn decode_object<T: Object>(text: &[u8]) -> Result<T, Status> {
    decode(text).or_else(|refused| match serde_json::from_slice(text) {
        Ok(value) => completed(value, refused),
        Err(_) => Err(refused),
    })
}

fn decode_page<T: Object>(text: &[u8]) -> Result<Page<T>, Status> {
    decode(text).or_else(|refused: Status| {
        let Page { metadata, items } = decode::<Page<Value>>(text)?;
        let items = items.into_iter().map(|value| completed(value, refused.clone()));
        Ok(Page {
            metadata,
            items: items.collect::<Result<_, _>>()?,
        })
    })
}

fn completed<T: Object>(mut value: Value, refused: Status) -> Result<T, Status> {
    if let Some(schema) = Schemas::builtin().for_kind(T::GROUP, T::VERSION, T::KIND) {
        canon::complete(&mut value, &schema);
    }
    serde_json::from_value(value).map_err(|_| refused)
}

pub(crate) fn decode<T: DeserializeOwned>(text: &[u8]) -> Result<T, Status> {
    serde_json::from_slice(text).map_err(|e| Status::internal(format!("reading the server's answer: {e}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_manager_is_the_last_part_of_the_users_name() {
        assert_eq!(manager_of("system:kube-scheduler"), "kube-scheduler");
        assert_eq!(manager_of("system:node:edge-1"), "kubelet");
        assert_eq!(
            manager_of("system:serviceaccount:kube-system:replicaset-controller"),
            "replicaset-controller"
        );
        assert_eq!(manager_of("admin"), "admin");
    }

    #[test]
    fn what_was_said_without_a_time_is_read() {
        use k8s_openapi::api::core::v1::Service;
        let said = json!({"type": "Ready", "status": "True", "reason": "BecauseISaySo"});
        let service = json!({"metadata": {"name": "a"}, "status": {"conditions": [said]}});
        let read: Service = decode_object(service.to_string().as_bytes()).unwrap();
        let conditions = read.status.unwrap().conditions.unwrap();
        let [condition] = conditions.as_slice() else {
            panic!("{conditions:?}");
        };
        assert_eq!(
            condition.last_transition_time.0.to_string(),
            "0001-01-01T00:00:00Z"
        );
        assert_eq!(
            (condition.reason.as_str(), condition.message.as_str()),
            ("BecauseISaySo", "")
        );
        let page = json!({"metadata": {"resourceVersion": "7"}, "items": [service]}).to_string();
        assert_eq!(decode_page::<Service>(page.as_bytes()).unwrap().items.len(), 1);
        assert!(decode_object::<Service>(br#"{"spec": 7}"#).is_err());
    }

    #[test]
    fn resources_come_from_the_types() {
        use k8s_openapi::api::apps::v1::Deployment;
        assert_eq!(
            resource_of::<Deployment>(),
            ResourceRef::new("apps", "v1", "deployments")
        );
    }
}
