//! URL paths, taken apart by hand: all resources have paths of one shape.

use api::request::{ResourceRef, User};

use crate::authz::Attributes;

/// What a path points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// A resource of the API.
    Resource(Box<ResourcePath>),
    /// Anything else, such as `/healthz` or `/apis/apps`.
    Plain,
}

/// The path of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourcePath {
    /// Group, version and plural name.
    pub resource: ResourceRef,
    /// Namespace; empty for cluster scope and all namespaces.
    pub namespace: String,
    /// Object; empty for the collection.
    pub name: String,
    /// Part of the object; empty for the whole.
    pub subresource: String,
    /// What follows the subresource, as sent and with its leading slash; only `proxy` has any.
    pub rest: String,
    /// Whether the old form `/api/v1/watch/…` was used.
    pub watch: bool,
}

impl ResourcePath {
    /// The namespace by which requests are judged: a namespace lies in itself.
    pub fn judged_in(&self) -> &str {
        let own = self.resource.group.is_empty() && self.resource.plural == "namespaces";
        if own { &self.name } else { &self.namespace }
    }

    /// What access is judged by when `user` wants to `verb` this.
    pub fn asked(&self, user: &User, verb: &str) -> Attributes {
        Attributes {
            user: user.clone(),
            verb: verb.to_owned(),
            resource_request: true,
            group: self.resource.group.clone(),
            version: self.resource.version.clone(),
            resource: self.resource.plural.clone(),
            subresource: self.subresource.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            ..Attributes::default()
        }
    }
}

/// Parts of a namespace itself, which could otherwise be resources in it.
const NAMESPACE_PARTS: [&str; 2] = ["status", "finalize"];

/// Takes a path apart. `Plain` for everything that is not a resource of the API.
pub fn parse(path: &str) -> Route {
    resource(path).map_or(Route::Plain, |found| Route::Resource(Box::new(found)))
}

fn resource(path: &str) -> Option<ResourcePath> {
    let (found, more) = take_apart(path)?;
    (!more || found.subresource == "proxy").then_some(found)
}

/// What a path of somebody else's resources points at, as far as this server has to know: there may be anything
/// after a subresource.
pub fn parse_foreign(path: &str) -> Option<ResourcePath> {
    take_apart(path).map(|(found, _)| found)
}

/// The parts of a path, and whether more follows them.
fn take_apart(path: &str) -> Option<(ResourcePath, bool)> {
    let mut rest = Segments {
        rest: path.strip_prefix('/')?,
    };
    let group = match rest.next()?.as_str() {
        "api" => String::new(),
        "apis" => rest.next()?,
        _ => return None,
    };
    let version = rest.next()?;
    let mut first = rest.next()?;
    let watch = first == "watch" && !rest.rest.is_empty();
    if watch {
        first = rest.next()?;
    }
    let mut namespace = String::new();
    if first == "namespaces"
        && let Some((owner, then)) = namespaced(&rest)
    {
        namespace = owner;
        rest = then;
        first = rest.next()?;
    }
    let name = rest.optional()?;
    let subresource = rest.optional()?;
    let tail = if subresource == "proxy" {
        rest.tail(path)
    } else {
        String::new()
    };
    let more = !rest.rest.is_empty();
    let resource = ResourceRef {
        group,
        version,
        plural: first,
    };
    let found = ResourcePath {
        resource,
        namespace,
        name,
        subresource,
        rest: tail,
        watch,
    };
    Some((found, more))
}

/// `NAME/RESOURCE…` after `namespaces/`, unless it is the namespace itself that is meant.
fn namespaced<'a>(segments: &Segments<'a>) -> Option<(String, Segments<'a>)> {
    let mut ahead = segments.clone();
    let name = ahead.next()?;
    let then = ahead.clone();
    let part = ahead.next()?;
    (!NAMESPACE_PARTS.contains(&part.as_str())).then_some((name, then))
}

#[derive(Clone)]
struct Segments<'a> {
    rest: &'a str,
}

impl Segments<'_> {
    /// The next segment, decoded; `None` at the end, for an empty one, for broken escapes and for
    /// what no name may be: an escaped slash would make one object's key out of another's.
    fn next(&mut self) -> Option<String> {
        let (segment, rest) = self.rest.split_once('/').unwrap_or((self.rest, ""));
        if segment.is_empty() {
            return None;
        }
        self.rest = rest;
        decode(segment, false).filter(|name| !name.contains('/') && name != "." && name != "..")
    }

    /// The next segment, empty at the end; `None` when there is one that cannot be.
    fn optional(&mut self) -> Option<String> {
        if self.rest.is_empty() {
            Some(String::new())
        } else {
            self.next()
        }
    }

    /// What has not been read, with the slash before it; `/` when the path ends in one.
    fn tail(&self, path: &str) -> String {
        match path
            .len()
            .checked_sub(self.rest.len() + 1)
            .and_then(|at| path.get(at..))
        {
            Some(tail) if tail.starts_with('/') => tail.to_owned(),
            _ => String::new(),
        }
    }
}

/// Undoes percent encoding, and `+` for a space where `plus` says so. `None` when what comes
/// out is no text.
pub fn decode(text: &str, plus: bool) -> Option<String> {
    if !text.contains(['%', '+']) {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            b'+' if plus => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// group/version/plural namespace name subresource rest
    fn text(path: &str) -> String {
        match parse(path) {
            Route::Plain => "plain".into(),
            Route::Resource(p) => {
                let r = &p.resource;
                let watch = if p.watch { " watch" } else { "" };
                format!(
                    "{}|{}|{}|{}|{}|{}|{}{watch}",
                    r.group, r.version, r.plural, p.namespace, p.name, p.subresource, p.rest
                )
            }
        }
    }

    #[test]
    fn paths_and_what_they_point_at() {
        for (path, expected) in [
            ("/api/v1/pods", "|v1|pods||||"),
            ("/api/v1/pods/", "|v1|pods||||"),
            ("/api/v1/namespaces", "|v1|namespaces||||"),
            ("/api/v1/namespaces/a", "|v1|namespaces||a||"),
            ("/api/v1/namespaces/a/", "|v1|namespaces||a||"),
            ("/api/v1/namespaces/a/status", "|v1|namespaces||a|status|"),
            ("/api/v1/namespaces/a/finalize", "|v1|namespaces||a|finalize|"),
            ("/api/v1/namespaces/a/pods", "|v1|pods|a|||"),
            ("/api/v1/namespaces/a/pods/web", "|v1|pods|a|web||"),
            ("/api/v1/namespaces/a/pods/web/log", "|v1|pods|a|web|log|"),
            ("/api/v1/namespaces/a/pods/web/log/x", "plain"),
            ("/api/v1/nodes/n1/proxy", "|v1|nodes||n1|proxy|"),
            ("/api/v1/nodes/n1/proxy/", "|v1|nodes||n1|proxy|/"),
            ("/api/v1/nodes/n1/proxy/a%2Fb/c/", "|v1|nodes||n1|proxy|/a%2Fb/c/"),
            (
                "/api/v1/namespaces/a/services/http:web:80/proxy/x",
                "|v1|services|a|http:web:80|proxy|/x",
            ),
            (
                "/apis/apps/v1/namespaces/a/deployments/d/scale",
                "apps|v1|deployments|a|d|scale|",
            ),
            (
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
                "rbac.authorization.k8s.io|v1|clusterroles||system:node||",
            ),
            ("/api/v1/watch/namespaces/a/pods", "|v1|pods|a||| watch"),
            ("/api/v1/watch/pods", "|v1|pods|||| watch"),
            ("/api", "plain"),
            ("/api/v1", "plain"),
            ("/api/v1/", "plain"),
            ("/apis/apps", "plain"),
            ("/apis/apps/v1", "plain"),
            ("/healthz", "plain"),
            ("/", "plain"),
            ("//api/v1/pods", "plain"),
            ("/api/v1/namespaces//pods", "plain"),
            ("/api/v1/pods/%zz", "plain"),
            ("/api/v1/secrets/kube-system%2Fx", "plain"),
            ("/api/v1/namespaces/a/pods/%2e%2e", "plain"),
        ] {
            assert_eq!(text(path), expected, "{path}");
        }
    }

    #[test]
    fn what_others_serve_may_go_on() {
        let found = parse_foreign("/apis/a.io/v1/namespaces/n/boats/b/portforward/8080").unwrap();
        assert_eq!(
            (found.name.as_str(), found.subresource.as_str()),
            ("b", "portforward")
        );
        assert_eq!(parse_foreign("/apis/a.io/v1"), None);
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(decode("a%2Bb+c", true).as_deref(), Some("a+b c"));
        assert_eq!(decode("a+c", false).as_deref(), Some("a+c"));
        assert_eq!(decode("%f", true), None);
        assert_eq!(decode("%ff", true), None);
    }
}
