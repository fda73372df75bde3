//! One request, from its arrival to its answer.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use api::request::{Notes, User};
use api::status::Status;
use base::{Random, SystemRandom};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response};
use tokio::time::Instant;

use super::counted::Counted;
use super::door::{Caller, Door};
use super::given_up::Reason;
use super::incoming::Incoming;
use super::lent::Lent;
use super::path::{self, Route};
use super::query::Query;
use super::turns::{self, Asking};
use super::{aggregated, audited, departure, impersonate, plain, reply, resource, verbs};
use crate::audit::Trail;
use crate::audit::policy::Stage;
use crate::body::Body;
use crate::fairness::Flow;
use crate::metrics::About;
use crate::streams;

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

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
    let counted = Counted::of(&door, &route, &request, &query, began);
    let mut course = Course::default();
    let (request, lent) = Lent::of(request);
    let known = (
        route,
        query,
        &counted.about,
        audit.to_str().unwrap_or_default(),
        began,
    );
    let answer = AssertUnwindSafe(answer(&door, caller, known, request, &mut course))
        .catch_unwind()
        .await;
    let Course {
        trail,
        flow,
        queued,
        notes,
    } = course;
    let mut response = match answer {
        Ok(Ok(response)) => response,
        Ok(Err(status)) => {
            trail.iter().for_each(|trail| trail.failed(&status));
            counted.refused(status.code);
            let reason = Reason::of_code(status.code);
            reason.iter().for_each(|reason| door.given_up.count(*reason));
            reply::failure(&status)
        }
        Err(_) => {
            door.given_up.count(Reason::Panic);
            trail.iter().for_each(|trail| trail.at(Stage::Panic, Some(500)));
            reply::failure(&Status::internal("this request caused the API server to panic"))
        }
    };
    if response.status().as_u16() >= 400 {
        Box::pin(lent.rest()).await;
    }
    let lasts = counted.lasts();
    counted.answered(&response, queued + notes.waited());
    reply::private(&mut response);
    flow.iter().for_each(|flow| turns::mark(&mut response, flow));
    response.headers_mut().insert(AUDIT_ID, audit);
    match trail {
        Some(trail) => audited::finish(trail, response, lasts),
        None => response,
    }
}

/// What is found out about a request on its way, for its answer.
#[derive(Default)]
struct Course {
    trail: Option<Trail>,
    flow: Option<Arc<Flow>>,
    /// How long it waited for its turn.
    queued: Duration,
    notes: Notes,
}

/// The caller's audit id, or a new one. It is marked as a secret, so that HTTP/2 does not remember it: no answer has the
/// same one, and the next would be compared with all before it.
fn audit_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(AUDIT_ID).filter(|value| value.len() <= 64).cloned();
    let mut id = given.unwrap_or_else(|| {
        HeaderValue::from_str(&SystemRandom.uuid()).unwrap_or(HeaderValue::from_static("none"))
    });
    id.set_sensitive(true);
    id
}

// What few requests need is boxed, so that all the others need no room for it.
async fn answer(
    door: &Arc<Door>,
    caller: Caller,
    (route, query, about, id, began): (Route, Query, &About, &str, Instant),
    mut request: Request<Body>,
    course: &mut Course,
) -> Result<Response<Body>, Status> {
    let notes = course.notes.clone();
    let real = match user(door, &caller, request.headers(), request.uri().path(), &notes).await {
        Ok(real) => real,
        Err(status) => {
            audited::unknown(door, &caller, &route, about.verb, &request, (id, &notes));
            return Err(status);
        }
    };
    let other = impersonate::effective(&real, request.headers(), door.authorizer.as_ref()).await?;
    if door.audit.is_on() {
        let users = (&real, other.as_ref());
        let begun = audited::begin(
            door,
            &caller,
            users,
            &route,
            about.verb,
            &mut request,
            (id, &notes),
        );
        course.trail = Box::pin(begun).await;
    }
    let user = other.unwrap_or(real);
    let remote = door.aggregation.others().of_path(request.uri().path());
    if remote.is_none() && has_body(&route) {
        let until = began + verbs::timeout(&query)?;
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
    let asked = Instant::now();
    let seat = asking.turn(door, &mut course.flow).await;
    course.queued = asked.elapsed();
    let seat = seat?;
    let incoming = Incoming {
        user,
        query,
        request,
        began,
        notes,
        until: caller.until(door),
    };
    if let Some(remote) = remote {
        return Box::pin(aggregated::answer(door, &remote, about, incoming)).await;
    }
    let response = match route {
        Route::Plain => Box::pin(plain::answer(door, incoming)).await?,
        Route::Resource(path) => resource::answer(door, *path, about, incoming).await?,
    };
    Ok(turns::hold(response, about, seat))
}

/// Whether the body of such a request is read before its turn: what a stream carries is its own affair.
fn has_body(route: &Route) -> bool {
    matches!(route, Route::Resource(path) if !streams::is_stream(path))
}

/// Who asks, before impersonation.
async fn user(
    door: &Door,
    caller: &Caller,
    headers: &HeaderMap,
    path: &str,
    notes: &Notes,
) -> Result<User, Status> {
    match caller {
        Caller::Local(user) => Ok(user.clone()),
        Caller::Remote {
            certificate, client, ..
        } => {
            let user = door.authn.request(certificate, headers, path, notes).await?;
            client.is(&user.name);
            Ok(user)
        }
    }
}
