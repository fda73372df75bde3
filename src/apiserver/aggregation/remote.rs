//! One APIService that leads elsewhere. Pure.

use api::object;
use api::value::{flag, get, has, int, list, text};
use serde_json::Value;

use crate::outbound::endpoint::{self, Endpoint};

/// The port of a Service that an APIService does not name.
const PORT: u16 = 443;

/// A group version that another server serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Name of the APIService: `VERSION.GROUP`.
    pub name: String,
    /// Group.
    pub group: String,
    /// Version.
    pub version: String,
    /// Where the group stands among the others: higher comes first (`groupPriorityMinimum`).
    pub group_priority: i64,
    /// Where the version stands in its group (`versionPriority`).
    pub version_priority: i64,
    /// Namespace of the Service that leads there.
    pub namespace: String,
    /// Name of that Service.
    pub service: String,
    /// Port of that Service.
    pub port: u16,
    /// How it is reached, or what is wrong with the trust in it.
    pub endpoint: Result<Endpoint, String>,
    /// Whether the condition `Available` says so.
    pub available: bool,
}

impl Remote {
    /// What an APIService says; `None` for a group version that this server serves itself.
    pub fn of(service: &Value) -> Option<Self> {
        if !has(service, "spec.service") {
            return None;
        }
        let to = |key: &str| text(service, &format!("spec.service.{key}")).to_owned();
        let port = int(service, "spec.service.port").and_then(|port| u16::try_from(port).ok());
        let (namespace, name, port) = (to("namespace"), to("name"), port.unwrap_or(PORT));
        let endpoint = endpoint::bundle(text(service, "spec.caBundle")).map(|authorities| Endpoint {
            authorities,
            unchecked: flag(service, "spec.insecureSkipTLSVerify"),
            ..Endpoint::service(&namespace, &name, port)
        });
        let available =
            |condition: &Value| text(condition, "type") == "Available" && text(condition, "status") == "True";
        Some(Self {
            name: object::name(service).to_owned(),
            group: text(service, "spec.group").to_owned(),
            version: text(service, "spec.version").to_owned(),
            group_priority: int(get(service, "spec"), "groupPriorityMinimum").unwrap_or_default(),
            version_priority: int(get(service, "spec"), "versionPriority").unwrap_or_default(),
            namespace,
            service: name,
            port,
            endpoint,
            available: list(service, "status.conditions").iter().any(available),
        })
    }

    /// `GROUP/VERSION`.
    pub fn group_version(&self) -> String {
        format!("{}/{}", self.group, self.version)
    }

    /// The path below which everything of it is.
    pub fn root(&self) -> String {
        format!("/apis/{}/{}", self.group, self.version)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;
    use crate::outbound::endpoint::Place;

    pub(in super::super) fn service(group: &str, version: &str) -> Value {
        json!({
            "metadata": {"name": format!("{version}.{group}")},
            "spec": {"group": group, "version": version, "groupPriorityMinimum": 2000, "versionPriority": 10,
                "service": {"namespace": "ns", "name": "svc", "port": 8443}, "insecureSkipTLSVerify": true},
            "status": {"conditions": [{"type": "Available", "status": "True"}]},
        })
    }

    #[test]
    fn where_it_is_and_how_it_is_trusted() {
        let mut object = service("boats.example.com", "v1");
        let remote = Remote::of(&object).unwrap();
        let endpoint = remote.endpoint.clone().unwrap();
        assert_eq!(endpoint.place, Place::Service("ns".into(), "svc".into(), 8443));
        assert_eq!(endpoint.server_name, "svc.ns.svc");
        assert!(endpoint.unchecked && remote.available);
        assert_eq!(remote.root(), "/apis/boats.example.com/v1");
        object["spec"]["caBundle"] = json!("?");
        assert!(Remote::of(&object).unwrap().endpoint.is_err());
        object["spec"]["service"] = Value::Null;
        assert_eq!(Remote::of(&object), None);
    }
}
