//! Requests from outside, recorded: what they look like when they come, and when they are answered.

use api::request::{Notes, User};
use http::header::{AUTHORIZATION, USER_AGENT};
use http::{Method, Request, Response};
use http_body_util::BodyExt;

use super::door::{Caller, Door};
use super::incoming::text;
use super::path::Route;
use super::verbs::rule_verb;
use crate::audit::policy::{About, Stage};
use crate::audit::{Ending, Outside, Trail};
use crate::authz::Attributes;
use crate::body::Body;

/// Begins the trail of a request whose caller is known, and as whom it is carried out if that is another; `verb` is that of metrics, and
/// what is noted of the request goes to its notes.
pub async fn begin(
    door: &Door,
    caller: &Caller,
    (user, other): (&User, Option<&User>),
    route: &Route,
    verb: &str,
    request: &mut Request<Body>,
    (id, notes): (&str, &Notes),
) -> Option<Trail> {
    let outside = outside(caller, request, id);
    let about = about(route, verb, request.method(), request.uri().path());
    let asked = attributes(&about, other.unwrap_or(user));
    let impersonated = other.filter(|other| *other != user).cloned();
    let trail = door.audit.begin(outside, about, user.clone(), impersonated)?;
    trail.follow(notes);
    let decision = door.authorizer.settle(&asked).await;
    let word = if decision.allowed { "allow" } else { "forbid" };
    notes.annotate("authorization.k8s.io/decision", word);
    notes.annotate("authorization.k8s.io/reason", decision.reason);
    request.extensions_mut().insert(trail.clone());
    Some(trail)
}

/// Records that nobody knows who sent a request (Kubernetes' text says how they tried).
pub fn unknown(
    door: &Door,
    caller: &Caller,
    route: &Route,
    verb: &str,
    request: &Request<Body>,
    (id, notes): (&str, &Notes),
) {
    if !door.audit.is_on() {
        return;
    }
    let about = about(route, verb, request.method(), request.uri().path());
    let mut tried = Vec::new();
    let scheme = text(request.headers(), &AUTHORIZATION)
        .split(' ')
        .next()
        .unwrap_or_default();
    for known in ["basic", "bearer"] {
        if scheme.eq_ignore_ascii_case(known) {
            tried.push(known);
        }
    }
    if caller.has_certificate() {
        tried.push("x509");
    }
    let why = match tried.is_empty() {
        true => "Authentication failed, no credentials provided.".to_owned(),
        false => format!("Authentication failed, attempted: {}", tried.join(", ")),
    };
    door.audit
        .unknown(outside(caller, request, id), about, &why, notes);
}

fn outside(caller: &Caller, request: &Request<Body>, id: &str) -> Outside {
    let uri = request.uri();
    let path = uri.path_and_query().map_or(uri.path(), |all| all.as_str());
    Outside {
        id: id.to_owned(),
        uri: path.to_owned(),
        sources: caller.ip().map(|ip| ip.to_string()).into_iter().collect(),
        agent: text(request.headers(), &USER_AGENT).to_owned(),
    }
}

fn attributes(about: &About, user: &User) -> Attributes {
    Attributes {
        user: user.clone(),
        verb: about.verb.clone(),
        resource_request: about.is_resource,
        group: about.group.clone(),
        version: about.version.clone(),
        resource: about.plural.clone(),
        subresource: about.subresource.clone(),
        namespace: about.namespace.clone(),
        name: about.name.clone(),
        path: about.path.clone(),
        ..Attributes::default()
    }
}

fn about(route: &Route, verb: &str, method: &Method, path: &str) -> About {
    let Route::Resource(place) = route else {
        return About {
            verb: method.as_str().to_ascii_lowercase(),
            path: path.to_owned(),
            ..About::default()
        };
    };
    let resource = &place.resource;
    About {
        verb: rule_verb(verb, method).to_owned(),
        path: path.to_owned(),
        is_resource: true,
        group: resource.group.clone(),
        version: resource.version.clone(),
        plural: resource.plural.clone(),
        subresource: place.subresource.clone(),
        namespace: place.judged_in().to_owned(),
        name: place.name.clone(),
    }
}

/// Records how a request was answered: at once, or when the answer of one that takes its time has ended.
pub fn finish(trail: Trail, response: Response<Body>, takes_its_time: bool) -> Response<Body> {
    let code = response.status().as_u16();
    if !takes_its_time || code >= 400 {
        trail.at(Stage::ResponseComplete, Some(code));
        return response;
    }
    trail.at(Stage::ResponseStarted, Some(code));
    let ending = Ending::of(trail, code);
    response.map(|body| {
        let held = body.map_frame(move |frame| {
            ending.goes_on();
            frame
        });
        Body::new(held)
    })
}

#[cfg(test)]
mod tests {
    use super::super::path::parse;
    use super::*;

    #[test]
    fn requests_are_about_what_rules_speak_of() {
        let of = |method: Method, verb: &str, path: &str| about(&parse(path), verb, &method, path);
        let exec = of(Method::GET, "CONNECT", "/api/v1/namespaces/a/pods/b/exec");
        assert_eq!((exec.verb.as_str(), exec.subresource.as_str()), ("get", "exec"));
        let made = of(Method::POST, "POST", "/apis/apps/v1/namespaces/a/deployments");
        assert_eq!(
            (made.verb.as_str(), made.group.as_str(), made.namespace.as_str()),
            ("create", "apps", "a")
        );
        let namespace = of(Method::GET, "GET", "/api/v1/namespaces/a");
        assert_eq!(namespace.namespace, "a");
        let plain = of(Method::GET, "GET", "/healthz");
        assert_eq!((plain.is_resource, plain.path.as_str()), (false, "/healthz"));
    }
}
