//! What a kubelet answers on its own port, for `nodes/NAME/proxy`.

use api::status::Status;
use http::Response;
use serde_json::json;

use super::body::{Body, whole};
use super::logs;
use super::query::Query;
use super::service::LinkService;
use crate::stats;

pub(super) async fn answer(
    service: &LinkService,
    path: &[&str],
    query: &Query,
) -> Result<Response<Body>, Status> {
    match path {
        ["stats", "summary"] => {
            let node = service.node()?;
            let sample = stats::collect(node, true).await;
            let before = node.last.replace(&sample);
            Ok(json(stats::summary(&sample, before.as_ref())))
        }
        ["metrics"] => {
            let sample = stats::collect(service.node()?, true).await;
            let now = jiff::Timestamp::now().as_second();
            Ok(text(service.certificate.metrics(now) + &stats::volumes(&sample)))
        }
        ["metrics", "resource"] => {
            let sample = stats::collect(service.node()?, false).await;
            Ok(text(stats::resource(&sample)))
        }
        ["metrics", "cadvisor"] => {
            let sample = stats::collect(service.node()?, false).await;
            Ok(text(stats::cadvisor(&sample)))
        }
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

fn text(page: String) -> Response<Body> {
    let mut response = Response::new(whole(page));
    let plain = http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, plain);
    response
}

fn json(value: serde_json::Value) -> Response<Body> {
    let mut response = Response::new(whole(value.to_string()));
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}
