//! ConfigMaps of several servers by way of the library's own client, which asks once and says what it heard.

use api::request::{Request, ResourceRef, User, Verb};
use client::{HttpApi, HttpConfig, Kubeconfig};
use serde_json::Value;

use super::servers::Servers;

/// A client that begins at one server and goes on to `others`, if there are any.
pub fn client(servers: &Servers, first: usize, others: &[usize]) -> HttpApi {
    let kubeconfig = Kubeconfig::read(&servers.all[0].dir.join("admin.kubeconfig")).expect("a kubeconfig");
    let config = HttpConfig {
        server: servers.url(first),
        others: others.iter().map(|at| servers.url(*at)).collect(),
        ..kubeconfig.http_config()
    };
    HttpApi::new(config).expect("a client")
}

/// A request about ConfigMaps of the default namespace; with an empty name, about all of them.
pub fn request(verb: Verb, name: &str) -> Request {
    let place = ResourceRef::new("", "v1", "configmaps");
    Request::new(User::anonymous(), verb, place, "default", name)
}

/// The revision of an object or a list.
pub fn revision(object: &Value) -> u64 {
    let text = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    text.parse().unwrap_or(0)
}
