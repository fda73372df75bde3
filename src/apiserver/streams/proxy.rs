//! `pods|services|nodes/NAME/proxy/…`: HTTP to what runs on a node.

use std::sync::Arc;

use api::request::{Request, ResourceRef, Verb};
use api::status::Status;
use base::{Random, SystemRandom};
use http::header::{
    AUTHORIZATION, CONNECTION, HeaderName, HeaderValue, LOCATION, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method, Response, StatusCode};
use serde_json::Value;

use super::{Incoming, link, pod};
use crate::http::path::ResourcePath;
use crate::http::{Door, reply};
use crate::nodes::{Body, NodeDialer};

/// Tells the agent to speak TLS to the pod.
pub const SCHEME: HeaderName = HeaderName::from_static("x-coracle-scheme");

/// `[scheme:]name[:port]`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target<'a> {
    scheme: &'a str,
    name: &'a str,
    port: &'a str,
}

impl<'a> Target<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        match parts.as_slice() {
            [name] => Some(Self {
                scheme: "",
                name,
                port: "",
            }),
            [name, port] => Some(Self {
                scheme: "",
                name,
                port,
            }),
            [scheme @ ("" | "http" | "https"), name, port] => Some(Self { scheme, name, port }),
            _ => None,
        }
    }
}

/// The node to ask, and the first segments of the path there.
struct Way {
    node: String,
    prefix: String,
}

/// Passes a request on.
pub async fn answer(
    door: &Arc<Door>,
    path: &ResourcePath,
    incoming: Incoming,
) -> Result<Response<Body>, Status> {
    let request = incoming.request;
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if path.rest.is_empty() && reads {
        return Ok(to_root(&request));
    }
    let plural = path.resource.plural.as_str();
    let target = Target::parse(&path.name)
        .ok_or_else(|| Status::bad_request(format!("invalid {} request {:?}", plural, path.name)))?;
    let way = match plural {
        "nodes" => Way {
            node: target.name.to_owned(),
            prefix: "/node".to_owned(),
        },
        "pods" => pod_way(
            &pod::get(door, "pods", &path.namespace, target.name).await?,
            target.port,
        )?,
        _ => service_way(door, &path.namespace, &target).await?,
    };
    let (mut parts, body) = request.into_parts();
    let own = parts
        .uri
        .path()
        .strip_suffix(path.rest.as_str())
        .unwrap_or_default()
        .to_owned();
    let query = parts.uri.query().map(|q| format!("?{q}")).unwrap_or_default();
    let rest = if path.rest.is_empty() { "/" } else { &path.rest };
    parts.uri = format!("{}{rest}{query}", way.prefix)
        .parse()
        .map_err(Status::internal)?;
    clean(&mut parts.headers);
    if target.scheme == "https" {
        parts.headers.insert(SCHEME, HeaderValue::from_static("https"));
    }
    let response = door
        .nodes
        .request(&way.node, http::Request::from_parts(parts, body))
        .await?;
    Ok(returned(response, &own))
}

/// Relative links work only below a path that ends in a slash.
fn to_root(request: &http::Request<Body>) -> Response<Body> {
    let query = request.uri().query().map(|q| format!("?{q}")).unwrap_or_default();
    let mut response = reply::text(301, "");
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(value) = HeaderValue::from_str(&format!("{}/{query}", request.uri().path())) {
        response.headers_mut().insert(LOCATION, value);
    }
    response
}

fn pod_way(pod: &Value, port: &str) -> Result<Way, Status> {
    let text = |name: &str| pod["metadata"][name].as_str().unwrap_or_default();
    let port = if port.is_empty() {
        first_port(pod)
    } else {
        named_port(pod, port)
    };
    let segments = ["proxy", text("namespace"), text("name"), &port];
    Ok(Way {
        node: pod::assigned(pod)?.to_owned(),
        prefix: link::uri(&segments, &[]),
    })
}

fn ports(pod: &Value) -> impl Iterator<Item = &Value> {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    containers.flat_map(|container| container["ports"].as_array().into_iter().flatten())
}

fn first_port(pod: &Value) -> String {
    ports(pod)
        .find_map(|port| port["containerPort"].as_u64())
        .unwrap_or(80)
        .to_string()
}

fn named_port(pod: &Value, name: &str) -> String {
    let found = ports(pod).find(|port| port["name"].as_str() == Some(name));
    let number = found.and_then(|port| port["containerPort"].as_u64());
    number.map_or_else(|| name.to_owned(), |number| number.to_string())
}

async fn service_way(door: &Door, namespace: &str, target: &Target<'_>) -> Result<Way, Status> {
    let service = pod::get(door, "services", namespace, target.name).await?;
    let place = ResourceRef::new("discovery.k8s.io", "v1", "endpointslices");
    let mut list = Request::new(pod::server(), Verb::List, place, namespace, "");
    list.options.label_selector = format!("kubernetes.io/service-name={}", target.name);
    let slices = door.api.call(list).await?;
    let slices: Value = serde_json::from_slice(&slices.body).map_err(Status::internal)?;
    let none = || Status::unavailable(format!("no endpoints available for service {:?}", target.name));
    let port = service_port(&service, target.port).ok_or_else(|| {
        Status::unavailable(format!(
            "no service port {:?} found for service {:?}",
            target.port, target.name
        ))
    })?;
    let ready = endpoints(&slices, port);
    let chosen = SystemRandom.below(ready.len().max(1) as u64) as usize;
    let (pod_name, number) = ready.get(chosen).ok_or_else(none)?;
    let pod = pod::get(door, "pods", namespace, pod_name).await?;
    pod_way(&pod, &number.to_string())
}

/// The name of the service's port that is meant: by name, by number, or the only one.
fn service_port<'a>(service: &'a Value, wanted: &str) -> Option<&'a str> {
    fn name(port: &Value) -> &str {
        port["name"].as_str().unwrap_or_default()
    }
    let ports = service["spec"]["ports"].as_array()?;
    if wanted.is_empty() {
        return match ports.as_slice() {
            [one] => Some(name(one)),
            many => many.iter().map(name).find(|name| name.is_empty()),
        };
    }
    let number = wanted.parse::<u64>().ok();
    let fits = |port: &&Value| name(port) == wanted || (number.is_some() && port["port"].as_u64() == number);
    ports.iter().find(fits).map(name)
}

/// Ready pods with the number of that port.
fn endpoints(slices: &Value, port: &str) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for slice in slices["items"].as_array().into_iter().flatten() {
        let ports = slice["ports"].as_array().into_iter().flatten();
        let number = ports
            .into_iter()
            .find(|p| p["name"].as_str().unwrap_or_default() == port);
        let Some(number) = number.and_then(|p| p["port"].as_u64()) else {
            continue;
        };
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            let ready = endpoint["conditions"]["ready"].as_bool().unwrap_or(true);
            let name = endpoint["targetRef"]["name"]
                .as_str()
                .filter(|_| endpoint["targetRef"]["kind"] == "Pod");
            found.extend(name.filter(|_| ready).map(|name| (name.to_owned(), number)));
        }
    }
    found
}

/// Takes out what is for this hop only, and the caller's credentials, which are none of the
/// pod's business.
fn clean(headers: &mut HeaderMap) {
    let listed: Vec<String> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(|name| name.trim().to_ascii_lowercase()))
        .collect();
    let hop = [CONNECTION, UPGRADE, TRANSFER_ENCODING, AUTHORIZATION, SCHEME];
    let hop_names = [
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
    ];
    let gone: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            hop.contains(name)
                || hop_names.contains(&name.as_str())
                || listed.iter().any(|l| l == name.as_str())
                || name.as_str().starts_with("impersonate-")
        })
        .cloned()
        .collect();
    for name in gone {
        headers.remove(name);
    }
}

/// The answer, with a redirect led back through the proxy.
fn returned(mut response: Response<Body>, own: &str) -> Response<Body> {
    let headers = response.headers_mut();
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    let led = headers
        .get(LOCATION)
        .and_then(|value| value.to_str().ok())
        .filter(|l| l.starts_with('/'));
    if let Some(Ok(value)) = led.map(|location| HeaderValue::from_str(&format!("{own}{location}"))) {
        headers.insert(LOCATION, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_carry_scheme_and_port() {
        for (text, scheme, name, port) in [
            ("web", "", "web", ""),
            ("web:80", "", "web", "80"),
            ("https:web:tls", "https", "web", "tls"),
            (":web:80", "", "web", "80"),
        ] {
            assert_eq!(Target::parse(text), Some(Target { scheme, name, port }), "{text}");
        }
        assert_eq!(Target::parse("ftp:web:80"), None);
        assert_eq!(Target::parse("a:b:c:d"), None);
    }

    #[test]
    fn ports_and_endpoints_are_found() {
        let service =
            json!({"spec": {"ports": [{"name": "http", "port": 80}, {"name": "admin", "port": 81}]}});
        assert_eq!(service_port(&service, "81"), Some("admin"));
        assert_eq!(service_port(&service, "http"), Some("http"));
        assert_eq!(service_port(&service, ""), None);
        let slices = json!({"items": [{"ports": [{"name": "http", "port": 8080}], "endpoints": [
            {"conditions": {"ready": true}, "targetRef": {"kind": "Pod", "name": "a"}},
            {"conditions": {"ready": false}, "targetRef": {"kind": "Pod", "name": "b"}}]}]});
        assert_eq!(endpoints(&slices, "http"), [("a".to_owned(), 8080)]);
        let pod = json!({"spec": {"containers": [{"ports": [{"name": "web", "containerPort": 8080}]}]}});
        assert_eq!(
            (first_port(&pod), named_port(&pod, "web"), named_port(&pod, "9")),
            ("8080".into(), "8080".into(), "9".into())
        );
    }

    #[test]
    fn credentials_do_not_reach_the_pod() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer x"),
            ("connection", "close, x-mine"),
            ("x-mine", "1"),
            ("impersonate-user", "a"),
            ("accept", "text/html"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        clean(&mut headers);
        assert_eq!(
            headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(),
            ["accept"]
        );
    }
}
