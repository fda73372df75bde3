//! Streams are admitted too: whoever is asked about CONNECT sees what is wanted as an object.

use api::request::{Notes, Options};
use api::status::Status;
use serde_json::{Value, json};

use super::kind::Kind;
use crate::admission::{Operation, Review};
use crate::http::path::ResourcePath;
use crate::http::query::Query;
use crate::http::{Door, Incoming};

/// Lets everybody concerned refuse a stream; what they warn of and note goes into `notes`.
pub(super) async fn admit(
    door: &Door,
    kind: Kind,
    path: &ResourcePath,
    incoming: &Incoming,
    notes: &Notes,
) -> Result<(), Status> {
    let place = &path.resource;
    let served = door.kinds.find(&place.group, &place.version, &place.plural);
    let (Some(served), Some(mut wanted)) = (served, wanted(kind, path, &incoming.query)) else {
        return Ok(());
    };
    let options = Options::default();
    let review = Review {
        operation: Operation::Connect,
        kind: served,
        subresource: &path.subresource,
        namespace: &path.namespace,
        name: &path.name,
        user: &incoming.user,
        options: &options,
        notes,
        object: Some(&mut wanted),
        old: None,
    };
    door.core.admit_stream(review).await
}

/// What is wanted, as Kubernetes' options objects have it; `None` for what nobody is asked about.
fn wanted(kind: Kind, path: &ResourcePath, query: &Query) -> Option<Value> {
    let named = |name: &str| json!({"apiVersion": "v1", "kind": name});
    let mut out = match kind {
        Kind::Exec => named("PodExecOptions"),
        Kind::Attach => named("PodAttachOptions"),
        Kind::PortForward => named("PodPortForwardOptions"),
        Kind::Proxy => {
            let subject = match path.resource.plural.as_str() {
                "services" => "ServiceProxyOptions",
                "nodes" => "NodeProxyOptions",
                _ => "PodProxyOptions",
            };
            let mut out = named(subject);
            out["path"] = path.rest.as_str().into();
            return Some(out);
        }
        Kind::Logs | Kind::Connect => return None,
    };
    if kind == Kind::PortForward {
        let ports: Vec<i64> = query.all("ports").filter_map(|port| port.parse().ok()).collect();
        if !ports.is_empty() {
            out["ports"] = ports.into();
        }
        return Some(out);
    }
    for key in ["stdin", "stdout", "stderr", "tty"] {
        if query.flag(key) {
            out[key] = true.into();
        }
    }
    if let Some(container) = query.get("container") {
        out["container"] = container.into();
    }
    let command: Vec<&str> = query.all("command").collect();
    if kind == Kind::Exec {
        out["command"] = command.into();
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::path::{Route, parse};

    #[test]
    fn a_command_is_seen_before_it_runs() {
        let Route::Resource(path) = parse("/api/v1/namespaces/a/pods/b/exec") else {
            panic!("no resource")
        };
        let query = Query::parse("command=sh&command=-c&stdin=true&container=c");
        assert_eq!(
            wanted(Kind::Exec, &path, &query),
            Some(
                json!({"apiVersion": "v1", "kind": "PodExecOptions", "stdin": true, "container": "c",
                "command": ["sh", "-c"]})
            )
        );
        assert_eq!(wanted(Kind::Logs, &path, &query), None);
    }
}
