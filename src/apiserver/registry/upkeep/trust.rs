//! The ConfigMap `extension-apiserver-authentication`: by whose certificates servers that extend the API know clients
//! and this server, and in which headers it says who is asking. Pure.

use api::object;
use serde_json::{Map, Value, json};

use super::order::{Collection, What, Write, has_all};
use crate::authn::RequestHeaders;
use crate::pki::Material;

/// Where it is.
pub(super) const MAPS: Collection = ("", "configmaps", "kube-system");
const NAME: &str = "extension-apiserver-authentication";

/// Whom servers that extend the API may trust.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// The CA of clients, PEM.
    pub clients: String,
    /// The CA of front proxies, PEM; empty for a server that is none.
    pub front_proxies: String,
    /// What front proxies say in which headers.
    pub headers: RequestHeaders,
}

impl Trust {
    /// What the cluster's keys say at the moment.
    pub fn of(keys: &Material) -> Self {
        Self {
            clients: keys.client_ca.bundle().to_owned(),
            front_proxies: keys.front_proxy_ca.bundle().to_owned(),
            headers: RequestHeaders::default(),
        }
    }

    fn data(&self) -> Map<String, Value> {
        let headers = &self.headers;
        let lists = [
            ("requestheader-username-headers", &headers.username),
            ("requestheader-uid-headers", &headers.uid),
            ("requestheader-group-headers", &headers.group),
            ("requestheader-extra-headers-prefix", &headers.extra_prefix),
            ("requestheader-allowed-names", &headers.allowed_names),
        ];
        let mut data: Map<String, Value> = lists
            .into_iter()
            .map(|(key, list)| (key.to_owned(), json!(list).to_string().into()))
            .collect();
        data.insert("client-ca-file".to_owned(), self.clients.as_str().into());
        data.insert(
            "requestheader-client-ca-file".to_owned(),
            self.front_proxies.as_str().into(),
        );
        data
    }
}

/// What has to be written, given the ConfigMaps that are there.
pub(super) fn plan(trust: &Trust, live: &[Value]) -> Vec<Write> {
    if trust.front_proxies.is_empty() {
        return Vec::new();
    }
    let wanted = Value::Object(trust.data());
    let (what, object) = match live.iter().find(|map| object::name(map) == NAME) {
        Some(map) if has_all(&map["data"], &wanted) => return Vec::new(),
        Some(map) => {
            let mut new = map.clone();
            object::map_mut(&mut new, &["data"]).extend(trust.data());
            (What::Replace, new)
        }
        None => {
            let new = json!({
                "apiVersion": "v1", "kind": "ConfigMap", "data": wanted,
                "metadata": {"name": NAME, "namespace": MAPS.2},
            });
            (What::Create, new)
        }
    };
    vec![Write {
        collection: MAPS,
        what,
        object,
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_and_mended() {
        let trust = Trust {
            clients: "CLIENTS".into(),
            front_proxies: "PROXIES".into(),
            ..Trust::default()
        };
        let made = plan(&trust, &[]).pop().unwrap();
        assert_eq!(made.what, What::Create);
        let data = &made.object["data"];
        assert_eq!(data["requestheader-allowed-names"], "[\"front-proxy-client\"]");
        assert_eq!(
            data["requestheader-extra-headers-prefix"],
            "[\"X-Remote-Extra-\"]"
        );
        assert_eq!(data["client-ca-file"], "CLIENTS");
        let mut live = made.object;
        live["data"]["more"] = "kept".into();
        assert_eq!(plan(&trust, &[live.clone()]), []);
        live["data"]["requestheader-client-ca-file"] = "FORGED".into();
        let mended = plan(&trust, &[live]).pop().unwrap();
        assert_eq!(mended.what, What::Replace);
        assert_eq!(mended.object["data"]["requestheader-client-ca-file"], "PROXIES");
        assert_eq!(mended.object["data"]["more"], "kept");
        assert_eq!(plan(&Trust::default(), &[]), []);
    }
}
