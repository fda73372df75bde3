//! What a kubelet answers on its own port, for `nodes/NAME/proxy`.

use api::status::Status;
use http::Response;
use serde_json::json;

use super::query::Query;
use super::{Body, LinkService, logs, whole};

pub(super) fn answer(service: &LinkService, path: &[&str], query: &Query) -> Result<Response<Body>, Status> {
    match path {
        ["healthz"] => Ok(Response::new(whole("ok"))),
        ["pods" | "runningpods"] | ["pods" | "runningpods", ""] => Ok(json(pods(service))),
        ["containerLogs", namespace, pod, container] => {
            let target = service.target(namespace, pod, container)?;
            logs::answer(service.node()?, &target, query)
        }
        _ => Err(Status::no_such_path()),
    }
}

/// The node's pods as it knows them.
fn pods(service: &LinkService) -> serde_json::Value {
    let pods: Vec<_> = service.table.all().iter().map(|view| json!(*view.pod)).collect();
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods})
}

fn json(value: serde_json::Value) -> Response<Body> {
    let mut response = Response::new(whole(value.to_string()));
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}
