//! The kinds of streams.

use crate::http::path::ResourcePath;

/// Which stream a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Logs,
    Exec,
    Attach,
    PortForward,
    Proxy,
    Connect,
}

/// That of a path; `None` when it does not lead to a node.
pub(super) fn of(path: &ResourcePath) -> Option<Kind> {
    let place = &path.resource;
    let version = place.version.as_str();
    match (
        place.group.as_str(),
        version,
        place.plural.as_str(),
        path.subresource.as_str(),
    ) {
        ("", "v1", "pods", "log") => Some(Kind::Logs),
        ("", "v1", "pods", "exec") => Some(Kind::Exec),
        ("", "v1", "pods", "attach") => Some(Kind::Attach),
        ("", "v1", "pods", "portforward") => Some(Kind::PortForward),
        ("", "v1", "pods" | "services" | "nodes", "proxy") => Some(Kind::Proxy),
        ("coracle.dev", "v1", "nodes", "connect") => Some(Kind::Connect),
        _ => None,
    }
}
