//! Requests for resources: method and path become a verb, the registry's JSON
//! becomes what the client wants.

use std::sync::Arc;
use std::time::Duration;

use api::decode::media_type;
use api::request::{Options, PatchType, Request, Verb};
use api::status::Status;
use base::{Random, SystemRandom};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Response};

use super::convert::{self, Conversion};
use super::door::Door;
use super::incoming::{Incoming, text};
use super::negotiate::Format;
use super::path::ResourcePath;
use super::query::{self, Query};
use super::verbs::timeout;
use super::{negotiate, reply, turns, watch};
use crate::audit::{self, Trail};
use crate::body::Body;
use crate::body::read;
use crate::metrics::About;
use crate::streams;
use crate::streams::upgrade::{self, Wanted};
use crate::{backup, members, room, trust};

/// A watch without `timeoutSeconds` lasts this long and up to as long again, so that those
/// begun together do not all come back together.
const WATCH_TIMEOUT_SECONDS: u64 = 1800;

const NO_SUCH_METHOD: &str = "the server does not allow this method on the requested resource";

/// Answers a request for a resource. What few requests are for is boxed, so that the others need no room for it.
pub async fn answer(
    door: &Arc<Door>,
    path: ResourcePath,
    about: &About,
    incoming: Incoming,
) -> Result<Response<Body>, Status> {
    let place = &path.resource;
    if door.kinds.is_off(&place.group, &place.version, &place.plural) {
        return Err(Status::no_such_path());
    }
    if streams::is_stream(&path) {
        let _running = door.counters.long_running(about);
        return Box::pin(streams::answer(door, path, incoming)).await;
    }
    if backup::is_about(&path) {
        return Box::pin(backup::answer(door, path, incoming)).await;
    }
    if room::is_about(&path) {
        return Box::pin(room::answer(door, path, incoming)).await;
    }
    if trust::is_about(&path) {
        return Box::pin(trust::answer(door, path, incoming)).await;
    }
    if members::is_about(&path) {
        return Box::pin(members::answer(door, path, incoming)).await;
    }
    let (method, headers) = (incoming.request.method(), incoming.request.headers());
    let place = &path.resource;
    let kind = door.kinds.find(&place.group, &place.version, &place.plural);
    let types = patch_types(kind.is_some_and(|kind| kind.custom().is_some()));
    let verb = verb(&path, method, &incoming.query, headers, types)?;
    if verb == Verb::Watch {
        return Box::pin(follow(door, path, about, incoming)).await;
    }
    let _running = door.counters.running(!matches!(verb, Verb::Get | Verb::List));
    call(door, verb, path, incoming).await
}

/// What a method on a path means.
fn verb(
    path: &ResourcePath,
    method: &Method,
    query: &Query,
    headers: &HeaderMap,
    types: &[(&str, PatchType)],
) -> Result<Verb, Status> {
    let named = !path.name.is_empty();
    Ok(match *method {
        Method::GET | Method::HEAD if path.watch => Verb::Watch,
        Method::GET | Method::HEAD if named => Verb::Get,
        Method::GET | Method::HEAD if query.flag("watch") => Verb::Watch,
        Method::GET | Method::HEAD => Verb::List,
        Method::POST if named && path.subresource.is_empty() => return Err(not_allowed()),
        Method::POST => Verb::Create,
        Method::PUT if named => Verb::Update,
        Method::PATCH if named => Verb::Patch(patch_type(text(headers, &CONTENT_TYPE), types)?),
        Method::DELETE if named => Verb::Delete,
        Method::DELETE => Verb::DeleteCollection,
        _ => return Err(not_allowed()),
    })
}

fn not_allowed() -> Status {
    Status::new(405, "MethodNotAllowed", NO_SUCH_METHOD)
}

/// The media types of patches of a kind that is built in, or custom, in Kubernetes' order.
fn patch_types(custom: bool) -> &'static [(&'static str, PatchType)] {
    const JSON: (&str, PatchType) = ("application/json-patch+json", PatchType::Json);
    const MERGE: (&str, PatchType) = ("application/merge-patch+json", PatchType::Merge);
    const STRATEGIC: (&str, PatchType) = ("application/strategic-merge-patch+json", PatchType::Strategic);
    const APPLY: (&str, PatchType) = ("application/apply-patch+yaml", PatchType::Apply);
    match custom {
        true => &[JSON, MERGE, APPLY],
        false => &[JSON, MERGE, STRATEGIC, APPLY],
    }
}

fn patch_type(content_type: &str, types: &[(&str, PatchType)]) -> Result<PatchType, Status> {
    let asked = media_type(content_type);
    let found = types.iter().find(|(media, _)| *media == asked);
    found.map(|(_, how)| *how).ok_or_else(|| {
        let known: Vec<&str> = types.iter().map(|(media, _)| *media).collect();
        let known = known.join(", ");
        let why = format!(
            "the body of the request was in an unknown format - accepted media types include: {known}"
        );
        Status::new(415, "UnsupportedMediaType", why)
    })
}

fn conversion(door: &Door, path: &ResourcePath, incoming: &Incoming) -> Result<Conversion, Status> {
    let place = &path.resource;
    let kind = door.kinds.find(&place.group, &place.version, &place.plural);
    // Parts of an object are of kinds without columns of their own, and so are answers to questions.
    let kept = kind.as_ref().is_some_and(|kind| kind.stored());
    let tables = kept && matches!(path.subresource.as_str(), "" | "status");
    Ok(Conversion {
        form: negotiate::form(incoming.request.headers(), tables)?,
        kind,
        include: convert::include(&incoming.query)?,
        pretty: convert::pretty(&incoming.query, incoming.user_agent()),
        clock: door.clock.clone(),
        forms: door.forms.clone(),
    })
}

fn request(path: ResourcePath, verb: Verb, user: api::request::User, options: Options) -> Request {
    let mut request = Request::new(user, verb, path.resource, &path.namespace, &path.name);
    request.subresource = path.subresource;
    request.options = options;
    request
}

/// What a request's head says: the form of the answer, options, and how long it may take.
fn settle(
    door: &Door,
    verb: Verb,
    path: &ResourcePath,
    incoming: &Incoming,
) -> Result<(Conversion, Options, Duration), Status> {
    let conversion = conversion(door, path, incoming)?;
    // Of all namespaces at once there is a list and nothing else.
    let everywhere =
        path.namespace.is_empty() && conversion.kind.as_ref().is_some_and(|kind| kind.namespaced);
    if everywhere && verb != Verb::List {
        return Err(not_allowed());
    }
    let options = query::options(&incoming.query, verb, incoming.user_agent())?;
    Ok((conversion, options, timeout(&incoming.query)?))
}

async fn call(
    door: &Arc<Door>,
    verb: Verb,
    path: ResourcePath,
    incoming: Incoming,
) -> Result<Response<Body>, Status> {
    let (conversion, options, limit) = settle(door, verb, &path, &incoming)?;
    let until = incoming.began + limit;
    let (parts, sent) = incoming.request.into_parts();
    let content_type = text(&parts.headers, &CONTENT_TYPE).to_owned();
    let trail = parts.extensions.get::<Trail>();
    let notes = incoming.notes;
    let whole_list = verb == Verb::List && turns::is_whole(&incoming.query);
    let size_key = whole_list.then(|| turns::list_key(&path, &incoming.query));
    let part = path.subresource.clone();
    let reader = door.waiting.reader(&incoming.user.name);
    let carried_out = async {
        let sent = read(sent, usize::MAX).await;
        let sent = sent.map_err(|error| Status::bad_request(error.to_string()))?;
        if let Some(trail) = trail.filter(|trail| trail.wants_bodies()) {
            let asked = audit::object(&sent, &content_type, conversion.kind.as_ref(), &part);
            asked.into_iter().for_each(|asked| trail.asked(asked));
        }
        let mut request = request(path, verb, incoming.user, options);
        request.notes = notes.clone();
        request.body = sent;
        request.content_type = content_type;
        door.api.call(request).await
    };
    let answer = tokio::time::timeout_at(until, carried_out).await;
    let answer = match answer.map_err(|_| reply::late())? {
        Ok(answer) => answer,
        Err(status) => {
            trail.into_iter().for_each(|trail| trail.failed(&status));
            let mut response = reply::failure(&status);
            reply::warn(&mut response, &notes.warnings());
            return Ok(response);
        }
    };
    trail.into_iter().for_each(|trail| trail.answered(&answer.body));
    if let Some(key) = size_key {
        door.fairness.sizes().note(key, answer.body.len() as u64);
    }
    let body = conversion.body(answer.body)?;
    let mut response = reply::response(answer.code, conversion.form.content_type(), "");
    let reads = matches!(verb, Verb::Get | Verb::List);
    if parts.method != Method::HEAD {
        let body = match reads && negotiate::gzip(&parts.headers) {
            true => reply::compressed(&mut response, body),
            false => body,
        };
        *response.body_mut() = door.waiting.body(reader, body)?;
    }
    reply::warn(&mut response, &answer.warnings);
    Ok(response)
}

async fn follow(
    door: &Arc<Door>,
    path: ResourcePath,
    about: &About,
    incoming: Incoming,
) -> Result<Response<Body>, Status> {
    if *door.cut_off.borrow() {
        return Err(Status::unavailable(
            "this server has lost contact with the others: ask another one",
        ));
    }
    let conversion = conversion(door, &path, &incoming)?;
    if conversion.form.format == Format::Yaml {
        return Err(negotiate::not_streamed());
    }
    let options = query::options(&incoming.query, Verb::Watch, incoming.user_agent())?;
    let place = door.watches.admit(&incoming.user.name)?;
    let seconds = options.timeout_seconds.filter(|s| *s > 0);
    let spread = || WATCH_TIMEOUT_SECONDS + SystemRandom.below(WATCH_TIMEOUT_SECONDS);
    let timeout = Duration::from_secs(seconds.unwrap_or_else(spread));
    let events = door
        .api
        .watch(request(path, Verb::Watch, incoming.user, options))
        .await?;
    let limits = watch::Limits {
        timeout,
        until: incoming.until,
        cut_off: door.cut_off.clone(),
        place,
    };
    let request = incoming.request;
    if upgrade::wanted(request.version(), request.headers()) == Some(Wanted::WebSocket) {
        return watch::socket(request, events, conversion, limits, door.counters.watching(about));
    }
    let content_type = if conversion.form.stream {
        "application/json;stream=watch"
    } else {
        "application/json"
    };
    let mut response = reply::response(200, content_type, "");
    *response.body_mut() = watch::body(events, conversion, limits, door.counters.watching(about));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::super::path::{Route, parse};
    use super::*;

    fn of(method: Method, uri: &str, content_type: &str) -> Result<Verb, u16> {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let Route::Resource(path) = parse(path) else {
            panic!("{uri}")
        };
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
        let types = patch_types(uri.contains("custom"));
        verb(&path, &method, &Query::parse(query), &headers, types).map_err(|status| status.code)
    }

    #[test]
    fn methods_become_verbs() {
        let merge = "application/merge-patch+json";
        for (method, uri, content_type, expected) in [
            (Method::GET, "/api/v1/pods", "", Ok(Verb::List)),
            (Method::GET, "/api/v1/pods?watch=true", "", Ok(Verb::Watch)),
            (Method::GET, "/api/v1/pods?watch=false", "", Ok(Verb::List)),
            (Method::GET, "/api/v1/nodes/a?watch=1", "", Ok(Verb::Get)),
            (Method::GET, "/api/v1/watch/nodes/a", "", Ok(Verb::Watch)),
            (Method::POST, "/api/v1/nodes", "", Ok(Verb::Create)),
            (Method::POST, "/api/v1/nodes/a", "", Err(405)),
            (
                Method::POST,
                "/api/v1/namespaces/a/pods/b/binding",
                "",
                Ok(Verb::Create),
            ),
            (Method::PUT, "/api/v1/nodes/a", "", Ok(Verb::Update)),
            (Method::PUT, "/api/v1/nodes", "", Err(405)),
            (
                Method::PATCH,
                "/api/v1/nodes/a",
                merge,
                Ok(Verb::Patch(PatchType::Merge)),
            ),
            (Method::PATCH, "/api/v1/nodes/a", "application/json", Err(415)),
            (
                Method::PATCH,
                "/api/v1/nodes/a",
                "application/strategic-merge-patch+json; charset=utf-8",
                Ok(Verb::Patch(PatchType::Strategic)),
            ),
            (
                Method::PATCH,
                "/apis/custom.io/v1/things/a",
                "application/strategic-merge-patch+json",
                Err(415),
            ),
            (Method::DELETE, "/api/v1/nodes/a", "", Ok(Verb::Delete)),
            (Method::DELETE, "/api/v1/nodes", "", Ok(Verb::DeleteCollection)),
            (Method::OPTIONS, "/api/v1/nodes", "", Err(405)),
        ] {
            assert_eq!(of(method.clone(), uri, content_type), expected, "{method} {uri}");
        }
    }
}
