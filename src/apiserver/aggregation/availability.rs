//! Whether a server that extends the API can be reached, in Kubernetes' reasons and words. Pure.

use api::value::{int, list, text};
use serde_json::Value;

use super::Remote;

/// The condition `Available` of an APIService.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is.
    pub available: bool,
    /// Why, for programs.
    pub reason: &'static str,
    /// Why, for people.
    pub message: String,
}

impl Verdict {
    fn no(reason: &'static str, message: String) -> Self {
        Self {
            available: false,
            reason,
            message,
        }
    }

    /// `status`, `reason` and `message` of the condition.
    pub fn says(&self) -> [&str; 3] {
        [
            if self.available { "True" } else { "False" },
            self.reason,
            &self.message,
        ]
    }
}

/// What the Service and its endpoint slices alone say: a refusal, or the URL to ask.
pub fn whereabouts(remote: &Remote, service: Option<&Value>, slices: &[Value]) -> Result<String, Verdict> {
    let (name, namespace) = (&remote.service, &remote.namespace);
    let Some(service) = service else {
        let message = format!("service/{name} in {namespace:?} is not present");
        return Err(Verdict::no("ServiceNotFound", message));
    };
    let url = |host: &str| {
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_owned()
        };
        format!("https://{host}:{}{}", remote.port, remote.root())
    };
    if text(service, "spec.type") == "ExternalName" {
        return Ok(url(text(service, "spec.externalName")));
    }
    let port = list(service, "spec.ports")
        .iter()
        .find(|port| int(port, "port") == Some(remote.port.into()));
    let Some(port) = port else {
        let message = format!(
            "service/{name} in {namespace:?} is not listening on port {}",
            remote.port
        );
        return Err(Verdict::no("ServicePortError", message));
    };
    if slices.is_empty() {
        let message = format!("cannot find endpointslices for service/{name} in {namespace:?}");
        return Err(Verdict::no("EndpointsNotFound", message));
    }
    if !slices
        .iter()
        .any(|slice| leads_somewhere(slice, text(port, "name")))
    {
        let port = text(port, "name");
        let message = format!(
            "endpointslices for service/{name} in {namespace:?} have no addresses with port name {port:?}"
        );
        return Err(Verdict::no("MissingEndpoints", message));
    }
    Ok(match text(service, "spec.clusterIP") {
        "" | "None" => url(&format!("{name}.{namespace}.svc")),
        address => url(address),
    })
}

/// Whether a slice has a ready endpoint of that port.
fn leads_somewhere(slice: &Value, port: &str) -> bool {
    let ready = |endpoint: &Value| {
        !list(endpoint, "addresses").is_empty() && endpoint["conditions"]["ready"].as_bool() != Some(false)
    };
    list(slice, "ports").iter().any(|one| text(one, "name") == port)
        && list(slice, "endpoints").iter().any(ready)
}

/// What asking for its discovery came to: a code, or why there was none.
pub fn asked(url: &str, answer: &Result<u16, String>) -> Verdict {
    let why = match answer {
        Ok(200..300) => {
            return Verdict {
                available: true,
                reason: "Passed",
                message: "all checks passed".to_owned(),
            };
        }
        Ok(code) => format!("bad status from {url}: {code}"),
        Err(why) => why.clone(),
    };
    Verdict::no(
        "FailedDiscoveryCheck",
        format!("failing or missing response from {url}: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::remote::tests::service;
    use super::*;

    fn remote() -> Remote {
        Remote::of(&service("boats.example.com", "v1")).unwrap()
    }

    #[test]
    fn what_is_missing_is_named() {
        let remote = remote();
        let why = |service: Option<&Value>, slices: &[Value]| {
            let verdict = whereabouts(&remote, service, slices).unwrap_err();
            (verdict.reason, verdict.message)
        };
        let absent = "service/svc in \"ns\" is not present".to_owned();
        assert_eq!(why(None, &[]), ("ServiceNotFound", absent));
        let other = json!({"spec": {"clusterIP": "10.43.0.9", "ports": [{"port": 443}]}});
        let deaf = "service/svc in \"ns\" is not listening on port 8443".to_owned();
        assert_eq!(why(Some(&other), &[]), ("ServicePortError", deaf));
        let good = json!({"spec": {"clusterIP": "10.43.0.9", "ports": [{"port": 8443, "name": "api"}]}});
        let lost = "cannot find endpointslices for service/svc in \"ns\"".to_owned();
        assert_eq!(why(Some(&good), &[]), ("EndpointsNotFound", lost));
        let mut slice = json!({"ports": [{"name": "api", "port": 1}],
            "endpoints": [{"addresses": ["10.64.0.2"], "conditions": {"ready": false}}]});
        let empty = "endpointslices for service/svc in \"ns\" have no addresses with port name \"api\"";
        assert_eq!(
            why(Some(&good), &[slice.clone()]),
            ("MissingEndpoints", empty.to_owned())
        );
        slice["endpoints"][0]["conditions"]["ready"] = true.into();
        assert_eq!(
            whereabouts(&remote, Some(&good), &[slice]).unwrap(),
            "https://10.43.0.9:8443/apis/boats.example.com/v1"
        );
        let elsewhere = json!({"spec": {"type": "ExternalName", "externalName": "boats.example"}});
        assert_eq!(
            whereabouts(&remote, Some(&elsewhere), &[]).unwrap(),
            "https://boats.example:8443/apis/boats.example.com/v1"
        );
    }

    #[test]
    fn the_answer_decides() {
        assert_eq!(
            asked("U", &Ok(200)).says(),
            ["True", "Passed", "all checks passed"]
        );
        assert_eq!(
            asked("U", &Ok(404)).says(),
            [
                "False",
                "FailedDiscoveryCheck",
                "failing or missing response from U: bad status from U: 404"
            ]
        );
        let late = asked("U", &Err("Get \"U\": context deadline exceeded".to_owned()));
        assert_eq!(
            late.message,
            "failing or missing response from U: Get \"U\": context deadline exceeded"
        );
    }
}
