//! One request, from its arrival to its answer.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use api::request::User;
use api::status::Status;
use base::{Random, SystemRandom};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{HeaderName, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method, Request, Response};
use tokio::time::Instant;

use super::body::Lent;
use super::door::{Caller, Door};
use super::path::{self, ResourcePath, Route};
use super::query::Query;
use super::turns::{self, Asking};
use super::{aggregated, audited, departure, impersonate, plain, reply, resource};
use crate::audit::Trail;
use crate::audit::policy::Stage;
use crate::fairness::Flow;
use crate::metrics::About;
use crate::nodes::Body;
use crate::served::ServedKinds;
use crate::streams;

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// A request on its way in, its user known.
pub struct Incoming {
    /// Who asks, impersonation included.
    pub user: User,
    /// The query, decoded.
    pub query: Query,
    /// The request itself; its body has been read, but for streams and what other servers answer.
    pub request: Request<Body>,
    /// When it began.
    pub began: Instant,
}

impl Incoming {
    /// The `User-Agent`; empty when there is none.
    pub fn user_agent(&self) -> &str {
        text(self.request.headers(), &USER_AGENT)
    }
}

/// A header's text; empty when absent or no text.
pub fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// Answers a request. Never fails: failures are answers too. (Boxed, because the compiler
/// loses track of lifetimes in a future that a connection's future contains.)
pub fn handle(door: Arc<Door>, caller: Caller, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
    Box::pin(answered(door, caller, request))
}

async fn answered(door: Arc<Door>, caller: Caller, request: Request<Body>) -> Response<Body> {
    let Some(_open) = door.departure.enter(request.uri().path()) else {
        return departure::refusal();
    };
    let began = Instant::now();
    let audit = audit_id(request.headers());
    let route = path::parse(request.uri().path());
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let about = about(
        &door.kinds,
        &route,
        request.method(),
        &query,
        request.uri().path(),
    );
    let dry_run = query.get("dryRun").is_some();
    let mut course = Course::default();
    let (request, lent) = Lent::of(request);
    let known = (route, query, &about, audit.to_str().unwrap_or_default(), began);
    let answer = AssertUnwindSafe(answer(&door, caller, known, request, &mut course))
        .catch_unwind()
        .await;
    let Course { trail, flow } = course;
    let mut response = match answer {
        Ok(Ok(response)) => response,
        Ok(Err(status)) => {
            trail.iter().for_each(|trail| trail.failed(&status));
            reply::failure(&status)
        }
        Err(_) => {
            trail.iter().for_each(|trail| trail.at(Stage::Panic, Some(500)));
            reply::failure(&Status::internal("this request caused the API server to panic"))
        }
    };
    if response.status().as_u16() >= 400 {
        lent.rest().await;
    }
    let timed = !matches!(about.verb, "WATCH" | "CONNECT");
    let took = timed.then(|| began.elapsed());
    door.counters
        .answered(&about, response.status().as_u16(), dry_run, took);
    reply::private(&mut response);
    flow.iter().for_each(|flow| turns::mark(&mut response, flow));
    response.headers_mut().insert(AUDIT_ID, audit);
    match trail {
        Some(trail) => audited::finish(trail, response, !timed),
        None => response,
    }
}

/// What is found out about a request on its way, for its answer.
#[derive(Default)]
struct Course {
    trail: Option<Trail>,
    flow: Option<Arc<Flow>>,
}

/// The caller's audit id, or a new one.
fn audit_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(AUDIT_ID).filter(|value| value.len() <= 64).cloned();
    given.unwrap_or_else(|| {
        HeaderValue::from_str(&SystemRandom.uuid()).unwrap_or(HeaderValue::from_static("none"))
    })
}

async fn answer(
    door: &Arc<Door>,
    caller: Caller,
    (route, query, about, id, began): (Route, Query, &About, &str, Instant),
    mut request: Request<Body>,
    course: &mut Course,
) -> Result<Response<Body>, Status> {
    let real = match user(door, &caller, request.headers(), request.uri().path()).await {
        Ok(real) => real,
        Err(status) => {
            audited::unknown(door, &caller, &route, about.verb, &request, id);
            return Err(status);
        }
    };
    let user = impersonate::effective(real.clone(), request.headers(), door.authorizer.as_ref()).await?;
    course.trail = audited::begin(door, &caller, (real, &user), &route, about.verb, &mut request, id).await;
    let remote = door.aggregation.others().of_path(request.uri().path());
    if remote.is_none() && has_body(&route) {
        let until = began + resource::timeout(&query)?;
        request = door.intake.whole(&user.name, request, until).await?;
    }
    let asking = Asking {
        user: &user,
        route: &route,
        about,
        method: request.method(),
        path: request.uri().path(),
        query: &query,
    };
    let seat = asking.turn(door, &mut course.flow).await?;
    let incoming = Incoming {
        user,
        query,
        request,
        began,
    };
    if let Some(remote) = remote {
        return aggregated::answer(door, &remote, about, incoming).await;
    }
    let response = match route {
        Route::Plain => plain::answer(door, incoming).await?,
        Route::Resource(path) => resource::answer(door, *path, about, incoming).await?,
    };
    Ok(turns::hold(response, about, seat))
}

/// Whether the body of such a request is read before its turn: what a stream carries is its own affair.
fn has_body(route: &Route) -> bool {
    matches!(route, Route::Resource(path) if !streams::is_stream(path))
}

/// Who asks, before impersonation.
async fn user(door: &Door, caller: &Caller, headers: &HeaderMap, path: &str) -> Result<User, Status> {
    match caller {
        Caller::Local(user) => Ok(user.clone()),
        Caller::Remote {
            certificate, client, ..
        } => {
            let user = door.authn.request(certificate, headers, path).await?;
            client.is(&user.name);
            Ok(user)
        }
    }
}

/// What to count a request as. Only names that are served become labels.
fn about(kinds: &ServedKinds, route: &Route, method: &Method, query: &Query, uri_path: &str) -> About {
    let mut about = About {
        component: "apiserver",
        ..About::default()
    };
    let Route::Resource(path) = route else {
        about.verb = method_name(method);
        about.subresource = known_path(uri_path);
        return about;
    };
    about.verb = resource::metric_verb(path, method, query);
    about.scope = scope(path);
    let place = &path.resource;
    match kinds.find(&place.group, &place.version, &place.plural) {
        Some(kind) => {
            about.group = kind.group;
            about.version = kind.version;
            about.resource = kind.plural;
            let part = kind.subresource(&path.subresource);
            about.subresource = part.map_or("", |part| part.name);
        }
        None => about.resource = "other",
    }
    about
}

fn scope(path: &ResourcePath) -> &'static str {
    match (path.name.is_empty(), path.namespace.is_empty()) {
        (false, _) => "resource",
        (true, false) => "namespace",
        (true, true) => "cluster",
    }
}

fn method_name(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        _ => "other",
    }
}

fn known_path(path: &str) -> &'static str {
    let known = [
        "/healthz", "/livez", "/readyz", "/metrics", "/version", "/openapi", "/apis", "/api", "/openid",
    ];
    known
        .into_iter()
        .find(|prefix| path.starts_with(prefix))
        .unwrap_or("other")
}
