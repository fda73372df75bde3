//! Which pod, container and node a stream leads to.

use api::request::{Request, ResourceRef, Verb};
use api::status::Status;
use serde_json::Value;

use crate::http::Door;
use crate::own;

/// An object, read as the server: the caller's permission for the stream was checked before.
pub async fn get(door: &Door, plural: &str, namespace: &str, name: &str) -> Result<Value, Status> {
    let request = Request::new(
        own::user(),
        Verb::Get,
        ResourceRef::new("", "v1", plural),
        namespace,
        name,
    );
    let reply = door.api.call(request).await?;
    serde_json::from_slice(&reply.body.whole()).map_err(Status::internal)
}

fn names(pod: &Value, list: &str) -> Vec<String> {
    let containers = pod["spec"][list].as_array().into_iter().flatten();
    containers
        .filter_map(|c| c["name"].as_str().map(str::to_owned))
        .collect()
}

/// The container that is meant: the one named, or the only one.
pub fn container(pod: &Value, asked: &str) -> Result<String, Status> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let main = names(pod, "containers");
    let init = names(pod, "initContainers");
    let known = [&main[..], &init[..], &names(pod, "ephemeralContainers")[..]].concat();
    if !asked.is_empty() {
        if known.iter().any(|container| container == asked) {
            return Ok(asked.to_owned());
        }
        return Err(Status::bad_request(format!(
            "container {asked} is not valid for pod {name}"
        )));
    }
    match main.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Status::bad_request(format!(
            "a container name must be specified for pod {name}"
        ))),
        many => {
            let mut text = format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                many.join(" ")
            );
            if !init.is_empty() {
                text.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            Err(Status::bad_request(text))
        }
    }
}

/// The node on which the pod runs; empty while it has none.
pub fn node(pod: &Value) -> &str {
    pod["spec"]["nodeName"].as_str().unwrap_or_default()
}

/// The node on which the pod runs; 400 while it has none.
pub fn assigned(pod: &Value) -> Result<&str, Status> {
    match node(pod) {
        "" => {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            Err(Status::bad_request(format!(
                "pod {name} does not have a host assigned"
            )))
        }
        node => Ok(node),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_only_container_or_the_one_named() {
        let one = json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "a"}]}});
        assert_eq!(container(&one, "").unwrap(), "a");
        let wrong = container(&one, "b").unwrap_err();
        assert_eq!(wrong.message, "container b is not valid for pod web");
        let two = json!({"metadata": {"name": "web"}, "spec": {
            "containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}});
        assert_eq!(container(&two, "i").unwrap(), "i");
        assert_eq!(
            container(&two, "").unwrap_err().message,
            "a container name must be specified for pod web, choose one of: [a b] or one of the init containers: [i]"
        );
        assert_eq!(
            assigned(&two).unwrap_err().message,
            "pod web does not have a host assigned"
        );
    }
}
