//! What a request is counted as, and how it went.

use std::time::Duration;

use api::kind::KindRef;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response};
use hyper::body::Body as _;
use tokio::time::Instant;

use super::door::Door;
use super::incoming::text;
use super::path::{ResourcePath, Route};
use super::query::Query;
use super::verbs;
use crate::body::Body;
use crate::metrics::{About, Answer, HttpMetrics};
use crate::served::ServedKinds;

/// A request that is on its way; one that is dropped before it was answered was aborted.
pub struct Counted<'d> {
    counters: &'d HttpMetrics,
    /// What it is about.
    pub about: About,
    deprecated: bool,
    dry_run: bool,
    began: Instant,
    answered: bool,
}

impl<'d> Counted<'d> {
    /// A request that began at that time.
    pub fn of(door: &'d Door, route: &Route, request: &Request<Body>, query: &Query, began: Instant) -> Self {
        let (about, deprecated) = about(&door.kinds, route, request, query);
        Self {
            counters: &door.counters,
            about,
            deprecated,
            dry_run: query.get("dryRun").is_some(),
            began,
            answered: false,
        }
    }

    /// Whether its answer takes as long as the client likes.
    pub fn lasts(&self) -> bool {
        matches!(self.about.verb, "WATCH" | "CONNECT")
    }

    /// The server could not, or would not, carry it out for now.
    pub fn refused(&self, code: u16) {
        if matches!(code, 429 | 503 | 504) && self.about.verb != "CONNECT" {
            self.counters.terminated(&self.about, code);
        }
    }

    /// It was answered, after it had `waited` for its turn and for webhooks.
    pub fn answered(mut self, response: &Response<Body>, waited: Duration) {
        self.answered = true;
        let code = response.status().as_u16();
        // What was refused lasts no longer than the refusal.
        let lasts = self.lasts() && code < 400;
        let answer = Answer {
            code,
            dry_run: self.dry_run,
            took: (!lasts).then(|| self.began.elapsed()),
            waited,
            bytes: response.body().size_hint().exact(),
        };
        self.counters.answered(&self.about, answer);
        if self.deprecated && !matches!(code, 401 | 403 | 429) {
            self.counters.deprecated(&self.about);
        }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.counters.aborted(&self.about);
        }
    }
}

/// What to count a request as, and whether that is about to go. Only names that are served become labels.
fn about(kinds: &ServedKinds, route: &Route, request: &Request<Body>, query: &Query) -> (About, bool) {
    let method = request.method();
    let mut about = About {
        component: "apiserver",
        ..About::default()
    };
    let Route::Resource(path) = route else {
        about.verb = method_name(method);
        about.subresource = known_path(request.uri().path());
        return (about, false);
    };
    about.verb = match verbs::metric_verb(path, method, query) {
        "PATCH" if verbs::is_apply(text(request.headers(), &CONTENT_TYPE)) => "APPLY",
        verb => verb,
    };
    about.scope = scope(path, method);
    let place = &path.resource;
    match kinds.find(&place.group, &place.version, &place.plural) {
        Some(kind) => {
            about.group = kind.group;
            about.version = kind.version;
            about.resource = kind.plural;
            about.subresource = kind.subresource(&path.subresource).map_or("", |part| part.name);
            (about, is_deprecated(&kind))
        }
        None => {
            about.resource = "other";
            (about, false)
        }
    }
}

fn is_deprecated(kind: &KindRef) -> bool {
    !kind.warning.is_empty()
}

fn scope(path: &ResourcePath, method: &Method) -> &'static str {
    match (path.name.is_empty(), path.namespace.is_empty()) {
        _ if method == Method::POST => "resource",
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

#[cfg(test)]
mod tests {
    use super::super::path::parse;
    use super::super::reply;
    use super::*;

    #[test]
    fn requests_have_kubernetes_labels() {
        let kinds = ServedKinds::default();
        let of = |method: &str, path: &str, content_type: &str| {
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header(CONTENT_TYPE, content_type);
            let request = request.body(reply::empty()).unwrap();
            let query = Query::parse(request.uri().query().unwrap_or_default());
            let (about, going) = about(&kinds, &parse(request.uri().path()), &request, &query);
            (about.verb, about.resource, about.subresource, about.scope, going)
        };
        let apply = "application/apply-patch+yaml; charset=utf-8";
        for (method, path, content_type, expected) in [
            ("GET", "/api/v1/pods", "", ("LIST", "pods", "", "cluster", false)),
            (
                "GET",
                "/api/v1/namespaces/a/pods",
                "",
                ("LIST", "pods", "", "namespace", false),
            ),
            (
                "GET",
                "/api/v1/pods?watch=1",
                "",
                ("WATCH", "pods", "", "cluster", false),
            ),
            (
                "POST",
                "/api/v1/namespaces/a/pods",
                "",
                ("POST", "pods", "", "resource", false),
            ),
            (
                "PATCH",
                "/api/v1/namespaces/a/pods/b/status",
                apply,
                ("APPLY", "pods", "status", "resource", false),
            ),
            (
                "PATCH",
                "/api/v1/namespaces/a/pods/b",
                "",
                ("PATCH", "pods", "", "resource", false),
            ),
            (
                "GET",
                "/api/v1/namespaces/a/endpoints/b",
                "",
                ("GET", "endpoints", "", "resource", true),
            ),
            (
                "GET",
                "/api/v1/invented",
                "",
                ("LIST", "other", "", "cluster", false),
            ),
            ("GET", "/livez/ping", "", ("GET", "", "/livez", "", false)),
        ] {
            assert_eq!(of(method, path, content_type), expected, "{method} {path}");
        }
    }
}
