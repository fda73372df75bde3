//! Requests from outside, recorded: what they look like when they come, and when they are answered.

use api::request::User;
use http::header::USER_AGENT;
use http::{Method, Request, Response};
use http_body_util::BodyExt;

use super::door::{Caller, Door};
use super::handler::text;
use super::path::Route;
use crate::audit::policy::{About, Stage};
use crate::audit::{Ending, Outside, Trail};
use crate::authz::Attributes;
use crate::nodes::Body;

/// Begins the trail of a request whose caller is known, and whom it is carried out as; `verb` is that of metrics.
pub fn begin(
    door: &Door,
    caller: &Caller,
    users: (User, &User),
    route: &Route,
    verb: &str,
    request: &mut Request<Body>,
    id: &str,
) -> Option<Trail> {
    if !door.audit.is_on() {
        return None;
    }
    let uri = request.uri();
    let outside = Outside {
        id: id.to_owned(),
        uri: uri
            .path_and_query()
            .map_or(uri.path(), |all| all.as_str())
            .to_owned(),
        sources: caller.ip().map(|ip| ip.to_string()).into_iter().collect(),
        agent: text(request.headers(), &USER_AGENT).to_owned(),
    };
    let about = about(route, verb, request.method(), uri.path());
    let (user, effective) = users;
    let impersonated = (user != *effective).then(|| effective.clone());
    let asked = attributes(&about, effective);
    let trail = door.audit.begin(outside, about, user, impersonated)?;
    let decision = door.authorizer.decide(&asked);
    let word = if decision.allowed { "allow" } else { "forbid" };
    trail.notes().annotate("authorization.k8s.io/decision", word);
    trail
        .notes()
        .annotate("authorization.k8s.io/reason", decision.reason);
    request.extensions_mut().insert(trail.clone());
    Some(trail)
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
    let verb = match (verb, method) {
        ("CONNECT", &Method::GET) => "get".to_owned(),
        ("CONNECT" | "POST", _) => "create".to_owned(),
        ("PUT", _) => "update".to_owned(),
        (verb, _) => verb.to_ascii_lowercase(),
    };
    let resource = &place.resource;
    let own = resource.group.is_empty() && resource.plural == "namespaces";
    About {
        verb,
        path: path.to_owned(),
        is_resource: true,
        group: resource.group.clone(),
        version: resource.version.clone(),
        plural: resource.plural.clone(),
        subresource: place.subresource.clone(),
        namespace: if own { &place.name } else { &place.namespace }.clone(),
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
