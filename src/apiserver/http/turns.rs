//! A request's turn: flow control stands between knowing who asks and asking whether they may.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use api::request::User;
use api::status::Status;
use bytes::Bytes;
use http::Response;
use http::header::HeaderName;
use hyper::body::{Body as _, Frame, SizeHint};

use super::door::Door;
use super::path::{ResourcePath, Route};
use super::query::Query;
use super::{reply, verbs};
use crate::body::{Body, BoxError};
use crate::fairness::{self, Digest, Flow, ListKey, Seat, Sort, Subject, Work};
use crate::metrics::About;
use crate::streams;

const HEADERS: [HeaderName; 2] = [
    HeaderName::from_static("x-kubernetes-pf-flowschema-uid"),
    HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid"),
];

/// Smaller answers are sent in no time.
const SMALL: u64 = 32 * 1024;
/// How long a large answer's way may keep seats.
const SENDING_MAX: Duration = Duration::from_millis(100);

/// A request that wants its turn.
pub struct Asking<'r> {
    /// Who asks, impersonation included.
    pub user: &'r User,
    /// What it is about.
    pub route: &'r Route,
    /// What it is counted as.
    pub about: &'r About,
    /// The method.
    pub method: &'r http::Method,
    /// The path.
    pub path: &'r str,
    /// The query.
    pub query: &'r Query,
}

impl Asking<'_> {
    /// Waits for seats; the flow that the request belongs to is written down in any case. Nothing to wait for have
    /// streams, which would keep their seats for hours. A watch has them until its first event can be sent.
    ///
    /// # Errors
    /// 429 when there are too many requests of that level.
    pub async fn turn(&self, door: &Door, of: &mut Option<Arc<Flow>>) -> Result<Option<Seat>, Status> {
        if matches!(self.route, Route::Resource(path) if streams::is_stream(path)) {
            return Ok(None);
        }
        let digest = self.digest();
        let Some(flow) = door.fairness.flow(&digest) else {
            return Ok(None);
        };
        let flow = &*of.insert(flow);
        let work = Work {
            sort: self.sort(),
            ..self.work(door, flow)
        };
        let entered = door.fairness.enter(flow, &digest, work);
        entered.await.map(Some).map_err(|_| reply::busy())
    }

    fn digest(&self) -> Digest<'_> {
        let (verb, about) = match self.route {
            Route::Plain => (method(self.method), Subject::Path(self.path)),
            Route::Resource(path) => {
                let place = &path.resource;
                let about = Subject::Resource {
                    group: &place.group,
                    plural: &place.plural,
                    part: &path.subresource,
                    namespace: path.judged_in(),
                };
                (verbs::rule_verb(self.about.verb, self.method), about)
            }
        };
        Digest {
            user: self.user,
            verb,
            about,
        }
    }

    fn sort(&self) -> Sort {
        let reads = ["GET", "HEAD", "OPTIONS"].contains(&self.method.as_str());
        match self.about.verb {
            "WATCH" => Sort::Watching,
            _ if reads => Sort::Reading,
            _ => Sort::Changing,
        }
    }

    fn work(&self, door: &Door, flow: &Flow) -> Work {
        let Route::Resource(path) = self.route else {
            return Work::default();
        };
        let is_list = || self.about.verb == "LIST" || self.query.flag("sendInitialEvents");
        match self.about.verb {
            _ if flow.exempt => Work::default(),
            "LIST" | "WATCH" if is_list() && !asks_for_one(self.query) => {
                fairness::list(door.fairness.sizes().of(&list_key(path, self.query)), flow.widest)
            }
            "POST" | "PUT" | "PATCH" | "APPLY" | "DELETE" | "DELETECOLLECTION"
                if path.subresource != "token" =>
            {
                let watchers = door.counters.watchers(self.about);
                flow.counts.told(watchers);
                fairness::write(watchers, flow.widest)
            }
            _ => Work::default(),
        }
    }
}

/// Under what the size of a list is remembered.
pub fn list_key(path: &ResourcePath, query: &Query) -> ListKey {
    let place = &path.resource;
    let limit = query.get("limit").and_then(|limit| limit.parse().ok());
    ListKey::new(
        &place.group,
        &place.plural,
        &path.namespace,
        limit.unwrap_or_default(),
    )
}

/// Whether a list is told by its size: what a selector picks says nothing of the work.
pub fn is_whole(query: &Query) -> bool {
    let empty = |key| query.get(key).unwrap_or_default().is_empty();
    empty("labelSelector") && empty("fieldSelector")
}

/// Keeps seats taken while a large answer is on its way: sending it is most of the work. A client that takes it slowly
/// costs nothing, and keeps its seats no longer than that.
pub fn hold(response: Response<Body>, about: &About, seat: Option<Seat>) -> Response<Body> {
    let bytes = response.body().size_hint().exact().unwrap_or_default();
    match seat {
        Some(seat) if bytes > SMALL && about.verb != "WATCH" => response.map(|body| {
            let seat = Arc::new(Mutex::new(Some(seat)));
            let lent = Arc::downgrade(&seat);
            tokio::spawn(async move {
                tokio::time::sleep(SENDING_MAX).await;
                let seat = lent.upgrade();
                drop(seat.and_then(|seat| seat.lock().unwrap_or_else(PoisonError::into_inner).take()));
            });
            Body::new(Held { body, _seat: seat })
        }),
        _ => response,
    }
}

/// A body whose seats come back when it was sent, or is given up.
struct Held {
    body: Body,
    _seat: Arc<Mutex<Option<Seat>>>,
}

impl hyper::body::Body for Held {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Says on an answer which schema and level the request belonged to.
pub fn mark(response: &mut Response<Body>, flow: &Flow) {
    for (name, uid) in HEADERS.into_iter().zip(&flow.uids) {
        response.headers_mut().insert(name, uid.clone());
    }
}

fn asks_for_one(query: &Query) -> bool {
    let selector = query.get("fieldSelector").unwrap_or_default();
    selector
        .split(',')
        .any(|part| part.trim().starts_with("metadata.name="))
}

/// The verb of a plain path.
fn method(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "get",
        "HEAD" => "head",
        "POST" => "post",
        "PUT" => "put",
        "PATCH" => "patch",
        "DELETE" => "delete",
        "OPTIONS" => "options",
        _ => "other",
    }
}
