//! The one request type: every caller, TLS client or in-process controller,
//! ends in a [`Request`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use serde_json::{Map, Value, json};

use crate::status::Status;
use crate::text::Text;

/// Who is asking. A field of the request, set by the door it came through and
/// never by anything the caller can write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Name, such as `system:node:edge-1`.
    pub name: String,
    /// UID; empty for certificates.
    pub uid: String,
    /// Groups, such as `system:masters`.
    pub groups: Vec<String>,
    /// Anything else an authenticator has to say. Shared by the copies, of which every request makes some.
    pub extra: Arc<BTreeMap<String, Vec<String>>>,
}

impl User {
    /// A user of that name and those groups.
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        Self {
            name: name.into(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            ..Self::default()
        }
    }

    /// As `UserInfo` of `authentication.k8s.io/v1`, what is empty left out.
    pub fn info(&self) -> Value {
        let mut info = Map::new();
        let mut put = |key: &str, value: Value| info.insert(key.to_owned(), value);
        if !self.name.is_empty() {
            put("username", self.name.as_str().into());
        }
        if !self.uid.is_empty() {
            put("uid", self.uid.as_str().into());
        }
        if !self.groups.is_empty() {
            put("groups", self.groups.clone().into());
        }
        if !self.extra.is_empty() {
            put("extra", json!(*self.extra));
        }
        Value::Object(info)
    }

    /// The user behind a request that carries no credentials.
    pub fn anonymous() -> Self {
        Self::new("system:anonymous", &["system:unauthenticated"])
    }
}

/// How a patch body is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    /// RFC 6902, `application/json-patch+json`.
    Json,
    /// RFC 7386, `application/merge-patch+json`.
    Merge,
    /// `application/strategic-merge-patch+json`.
    Strategic,
    /// Server-side apply, `application/apply-patch+yaml`.
    Apply,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Read one object.
    Get,
    /// Read a collection.
    List,
    /// Follow a collection.
    Watch,
    /// Add an object (or a subresource such as `binding`).
    Create,
    /// Replace an object.
    Update,
    /// Change an object.
    Patch(PatchType),
    /// Remove an object.
    Delete,
    /// Remove a collection.
    DeleteCollection,
}

impl Verb {
    /// The name RBAC rules and discovery use.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch(_) => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
        }
    }
}

/// A resource by its place in the API.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceRef {
    /// API group; empty for the core group.
    pub group: String,
    /// Version, such as `v1`.
    pub version: String,
    /// Plural name, such as `pods`.
    pub plural: String,
}

impl ResourceRef {
    /// The resource of that group, version and plural name.
    pub fn new(group: &str, version: &str, plural: &str) -> Self {
        Self {
            group: group.into(),
            version: version.into(),
            plural: plural.into(),
        }
    }
}

/// Query parameters and delete options, parsed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// `labelSelector`, as written.
    pub label_selector: String,
    /// `fieldSelector`, as written.
    pub field_selector: String,
    /// `limit`; 0 for none.
    pub limit: u64,
    /// `continue`.
    pub continue_token: String,
    /// `resourceVersion`; `None` when absent, which differs from `"0"`.
    pub resource_version: Option<String>,
    /// `resourceVersionMatch`.
    pub resource_version_match: String,
    /// `allowWatchBookmarks`.
    pub allow_watch_bookmarks: bool,
    /// `sendInitialEvents`.
    pub send_initial_events: Option<bool>,
    /// `timeoutSeconds`.
    pub timeout_seconds: Option<u64>,
    /// `dryRun=All`.
    pub dry_run: bool,
    /// `fieldManager`; empty when absent (the door fills in the user agent's first word).
    pub field_manager: String,
    /// `fieldValidation`: `Ignore`, `Warn`, `Strict` or empty.
    pub field_validation: String,
    /// `force`, for apply.
    pub force: bool,
    /// `gracePeriodSeconds`.
    pub grace_period_seconds: Option<i64>,
    /// `propagationPolicy`: `Orphan`, `Background`, `Foreground` or empty.
    pub propagation_policy: String,
    /// `preconditions.uid`.
    pub precondition_uid: Option<String>,
    /// `preconditions.resourceVersion`.
    pub precondition_resource_version: Option<String>,
}

/// What there is to say about a request besides its answer, whatever that is. Copies share it.
#[derive(Clone, Debug, Default)]
pub struct Notes(Arc<Mutex<Said>>);

#[derive(Debug, Default)]
struct Said {
    warnings: Vec<String>,
    annotations: BTreeMap<String, String>,
    waited: Duration,
}

impl Notes {
    // A std mutex: nothing awaits while it is held.
    fn said(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Warns the caller; the same text is said once.
    pub fn warn(&self, text: impl Into<String>) {
        let (mut said, text) = (self.said(), text.into());
        if !said.warnings.contains(&text) {
            said.warnings.push(text);
        }
    }

    /// Warns the caller of several things.
    pub fn warn_all(&self, texts: impl IntoIterator<Item = String>) {
        texts.into_iter().for_each(|text| self.warn(text));
    }

    /// Adds an audit annotation; the first one under a key stays, as in Kubernetes.
    pub fn annotate(&self, key: impl Into<String>, value: impl Into<String>) {
        self.said()
            .annotations
            .entry(key.into())
            .or_insert_with(|| value.into());
    }

    /// Time was spent on waiting for others, such as webhooks; what the server itself needs is counted without it.
    pub fn wait(&self, spent: Duration) {
        self.said().waited += spent;
    }

    /// How long others were waited for so far.
    pub fn waited(&self) -> Duration {
        self.said().waited
    }

    /// The texts of all warnings so far.
    pub fn warnings(&self) -> Vec<String> {
        self.said().warnings.clone()
    }

    /// The audit annotations so far.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        self.said().annotations.clone()
    }
}

/// A request to the API, from wherever it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who is asking.
    pub user: User,
    /// What is to be done.
    pub verb: Verb,
    /// To which resource.
    pub resource: ResourceRef,
    /// In which namespace; empty for cluster-scoped resources and for all namespaces.
    pub namespace: String,
    /// To which object; empty for collections.
    pub name: String,
    /// To which part of it, such as `status`; empty for the object itself.
    pub subresource: String,
    /// How.
    pub options: Options,
    /// The body as received; empty when there is none.
    pub body: Bytes,
    /// Media type of the body; empty means JSON.
    pub content_type: String,
    /// What is said about it besides the answer.
    pub notes: Notes,
}

impl Request {
    /// A request without a body.
    pub fn new(user: User, verb: Verb, resource: ResourceRef, namespace: &str, name: &str) -> Self {
        Self {
            user,
            verb,
            resource,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: String::new(),
            options: Options::default(),
            body: Bytes::new(),
            content_type: String::new(),
            notes: Notes::default(),
        }
    }
}

/// An answer to a request that was not refused.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The HTTP status code: 200, 201 or 202.
    pub code: u16,
    /// JSON text of the object or list.
    pub body: Text,
    /// Texts for `Warning` headers (code 299).
    pub warnings: Vec<String>,
}

/// What happened to a watched object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It came into view.
    Added,
    /// It changed.
    Modified,
    /// It went out of view.
    Deleted,
    /// Nothing: the object carries only a resource version.
    Bookmark,
}

impl EventKind {
    /// The name in a watch event's `type`.
    pub fn name(self) -> &'static str {
        match self {
            EventKind::Added => "ADDED",
            EventKind::Modified => "MODIFIED",
            EventKind::Deleted => "DELETED",
            EventKind::Bookmark => "BOOKMARK",
        }
    }
}

/// One event of a watch; the object is JSON text, shared by all who watch.
#[derive(Clone, Debug)]
pub struct WatchEvent {
    /// What happened.
    pub kind: EventKind,
    /// The object after it happened.
    pub object: Bytes,
}

/// The events of a watch, until it ends or fails.
pub type EventStream = BoxStream<'static, Result<WatchEvent, Status>>;
