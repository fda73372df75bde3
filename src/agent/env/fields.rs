//! The downward API: fields and resources of the pod itself.

use std::collections::BTreeMap;

use api::cidr::Addresses;
use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Pod, ResourceFieldSelector};

use crate::pods::spec;

/// What the node knows that the pod may ask for.
#[derive(Clone, Debug)]
pub struct NodeFacts {
    /// Name of the node.
    pub name: String,
    /// Its addresses: `status.hostIP`, `status.hostIPs`.
    pub ip: Addresses,
    /// Thousandths of a core that pods may use: what a missing CPU limit reads as.
    pub cpu_millis: i64,
    /// Bytes of memory that pods may use: what a missing memory limit reads as.
    pub memory_bytes: i64,
    /// Bytes of ephemeral storage that pods may use.
    pub storage_bytes: i64,
}

/// The value of a `fieldRef`.
///
/// # Errors
/// For a path that is none, in the kubelet's words.
pub fn field(pod: &Pod, path: &str, ip: Option<Addresses>, node: &NodeFacts) -> Result<String, String> {
    let text = |ip: Option<Addresses>| ip.map(|ip| ip.primary().to_string()).unwrap_or_default();
    let all = |ip: Option<Addresses>| ip.map(|ip| ip.to_string()).unwrap_or_default();
    let host_network = spec::host_network(pod);
    let ip = if host_network { Some(node.ip) } else { ip };
    if let Some((map, key)) = path.split_once('[') {
        let key = key
            .strip_suffix(']')
            .unwrap_or(key)
            .trim_matches(|c| c == '\'' || c == '"');
        let map = match map {
            "metadata.labels" => &pod.metadata.labels,
            "metadata.annotations" => &pod.metadata.annotations,
            _ => return Err(unsupported(path)),
        };
        return Ok(map.as_ref().and_then(|m| m.get(key)).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => spec::name(pod).to_owned(),
        "metadata.namespace" => spec::namespace(pod).to_owned(),
        "metadata.uid" => spec::uid(pod).to_owned(),
        "metadata.labels" => map_lines(pod.metadata.labels.as_ref()),
        "metadata.annotations" => map_lines(pod.metadata.annotations.as_ref()),
        "spec.nodeName" => node.name.clone(),
        "spec.serviceAccountName" => spec::spec(pod)
            .service_account_name
            .clone()
            .unwrap_or_else(|| "default".to_owned()),
        "status.hostIP" => text(Some(node.ip)),
        "status.hostIPs" => all(Some(node.ip)),
        "status.podIP" => text(ip),
        "status.podIPs" => all(ip),
        _ => return Err(unsupported(path)),
    })
}

fn unsupported(path: &str) -> String {
    format!("unsupported fieldPath: {path}")
}

/// A map as a downward volume shows it: `key="value"` lines, sorted, Go-quoted.
fn map_lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", go_quote(v)))
        .collect();
    lines.join("\n")
}

/// Go's `strconv.Quote`, as far as it differs from the text itself.
fn go_quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The value of a `resourceFieldRef`; `own` is the container it stands in,
/// for selectors that name none.
///
/// # Errors
/// For an unknown container, resource or divisor.
pub fn resource(
    pod: &Pod,
    selector: &ResourceFieldSelector,
    own: &str,
    node: &NodeFacts,
) -> Result<String, String> {
    let name = selector
        .container_name
        .as_deref()
        .filter(|n| !n.is_empty())
        .unwrap_or(own);
    let (_, container) = spec::container(pod, name).ok_or_else(|| format!("container {name} not found"))?;
    let resources = container.resources.clone().unwrap_or_default();
    let (list, resource) = selector
        .resource
        .split_once('.')
        .unwrap_or(("", &selector.resource));
    let amount = match list {
        "limits" => resources.limits.and_then(|l| l.get(resource).cloned()),
        // A request that is not there but limited is the limit.
        "requests" => resources
            .requests
            .and_then(|r| r.get(resource).cloned())
            .or_else(|| resources.limits.and_then(|l| l.get(resource).cloned())),
        _ => return Err(format!("unsupported container resource : {}", selector.resource)),
    };
    let amount: Option<Quantity> = amount.and_then(|q| q.0.parse().ok());
    let cpu = resource == "cpu";
    let value = match (&amount, list, resource) {
        (Some(amount), ..) => i128::from(if cpu { amount.milli() } else { amount.value() }),
        (None, "limits", "cpu") => i128::from(node.cpu_millis),
        (None, "limits", "memory") => i128::from(node.memory_bytes),
        (None, "limits", "ephemeral-storage") => i128::from(node.storage_bytes),
        _ => 0,
    };
    let divisor = selector.divisor.as_ref().map_or("1", |q| q.0.as_str());
    let divisor: Quantity = divisor.parse().map_err(|e| format!("divisor: {e}"))?;
    let divisor = i128::from(if cpu { divisor.milli() } else { divisor.value() });
    let divisor = if divisor <= 0 {
        if cpu { 1000 } else { 1 }
    } else {
        divisor
    };
    // Rounded up: half a core in whole cores is one.
    Ok(((value + divisor - 1) / divisor).to_string())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    fn node() -> NodeFacts {
        NodeFacts {
            name: "n1".to_owned(),
            ip: [192, 0, 2, 1].into(),
            cpu_millis: 2000,
            memory_bytes: 1 << 30,
            storage_bytes: 1 << 40,
        }
    }

    fn pod() -> Pod {
        let limits = [("cpu", "1500m"), ("memory", "64Mi")].map(|(k, v)| (k.to_owned(), Text(v.to_owned())));
        let resources = ResourceRequirements {
            limits: Some(limits.into()),
            ..Default::default()
        };
        let limited = Container {
            name: "a".to_owned(),
            resources: Some(resources),
            ..Default::default()
        };
        let free = Container {
            name: "b".to_owned(),
            ..Default::default()
        };
        let labels = [("x", "1"), ("y", "two \"2\"")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        Pod {
            metadata: ObjectMeta {
                name: Some("p".to_owned()),
                namespace: Some("ns".to_owned()),
                uid: Some("u".to_owned()),
                labels: Some(labels.into()),
                ..Default::default()
            },
            spec: Some(PodSpec {
                containers: vec![limited, free],
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn fields() {
        for (path, expected) in [
            ("metadata.name", "p"),
            ("metadata.namespace", "ns"),
            ("metadata.labels['x']", "1"),
            ("metadata.labels['none']", ""),
            ("metadata.labels", "x=\"1\"\ny=\"two \\\"2\\\"\""),
            ("spec.nodeName", "n1"),
            ("spec.serviceAccountName", "default"),
            ("status.podIP", "10.64.0.9"),
            ("status.hostIP", "192.0.2.1"),
        ] {
            let found = field(&pod(), path, Some([10, 64, 0, 9].into()), &node());
            assert_eq!(found.as_deref(), Ok(expected), "{path}");
        }
        let both: Addresses = "10.64.0.9,fd00::9".parse().unwrap();
        let field_of = |path| field(&pod(), path, Some(both), &node()).unwrap();
        assert_eq!(field_of("status.podIP"), "10.64.0.9");
        assert_eq!(field_of("status.podIPs"), "10.64.0.9,fd00::9");
        assert!(field(&pod(), "status.phase", None, &node()).is_err());
    }

    #[test]
    fn resources() {
        let ask = |container: &str, resource: &str, divisor: &str| {
            let selector = ResourceFieldSelector {
                container_name: Some(container.to_owned()),
                resource: resource.to_owned(),
                divisor: Some(Text(divisor.to_owned())),
            };
            super::resource(&pod(), &selector, "a", &node()).unwrap()
        };
        assert_eq!(ask("a", "limits.cpu", "1"), "2");
        assert_eq!(ask("a", "limits.cpu", "1m"), "1500");
        assert_eq!(ask("", "limits.cpu", "0"), "2");
        assert_eq!(ask("a", "limits.memory", "1Mi"), "64");
        assert_eq!(ask("a", "requests.memory", "1"), "67108864");
        assert_eq!(ask("b", "limits.cpu", "1"), "2");
        assert_eq!(ask("b", "limits.memory", "1Mi"), "1024");
        assert_eq!(ask("b", "requests.cpu", "1"), "0");
    }
}
