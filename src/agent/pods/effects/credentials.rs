//! Registry credentials out of `imagePullSecrets`. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use oci::Credentials;
use serde_json::Value;

/// The credentials that fit the image's registry, the most specific first.
pub fn fitting<'a>(reference: &str, secrets: impl IntoIterator<Item = &'a Secret>) -> Vec<Credentials> {
    let mut found: Vec<(usize, Credentials)> = Vec::new();
    for secret in secrets {
        for (place, entry) in entries(secret) {
            let place = plain(&place);
            if fits(reference, &place) {
                found.extend(credentials(&entry).map(|c| (place.len(), c)));
            }
        }
    }
    found.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    found.into_iter().map(|(_, credentials)| credentials).collect()
}

/// The registries that a secret of either type names, with what it says of each.
fn entries(secret: &Secret) -> Vec<(String, Value)> {
    let data = |key: &str| {
        secret
            .data
            .as_ref()
            .and_then(|d| d.get(key))
            .map(|bytes| bytes.0.as_slice())
    };
    let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap_or_default();
    let auths = match (data(".dockerconfigjson"), data(".dockercfg")) {
        (Some(bytes), _) => read(bytes).get("auths").cloned().unwrap_or_default(),
        (None, Some(bytes)) => read(bytes),
        (None, None) => Value::Null,
    };
    match auths {
        Value::Object(map) => map.into_iter().collect(),
        _ => Vec::new(),
    }
}

/// `https://index.docker.io/v1/` → `docker.io`.
fn plain(place: &str) -> String {
    let place = place.trim_start_matches("https://").trim_start_matches("http://");
    let place = place
        .trim_end_matches('/')
        .trim_end_matches("/v1")
        .trim_end_matches("/v2");
    match place {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        other => other.to_owned(),
    }
}

/// Whether a place (`host[:port][/path]`, the host perhaps `*.example.com`) covers a normalised reference.
fn fits(reference: &str, place: &str) -> bool {
    let (host, path) = place.split_once('/').unwrap_or((place, ""));
    let (its_host, its_path) = reference.split_once('/').unwrap_or((reference, ""));
    let host_fits = match host.strip_prefix("*.") {
        Some(domain) => its_host.split_once('.').is_some_and(|(_, rest)| rest == domain),
        None => host == its_host,
    };
    let rest = its_path.strip_prefix(path);
    host_fits && rest.is_some_and(|r| path.is_empty() || r.is_empty() || r.starts_with(['/', ':', '@']))
}

fn credentials(entry: &Value) -> Option<Credentials> {
    let text = |key: &str| {
        entry
            .get(key)
            .and_then(Value::as_str)
            .filter(|t| !t.is_empty())
            .map(str::to_owned)
    };
    if let (Some(username), Some(password)) = (text("username"), text("password")) {
        return Some(Credentials { username, password });
    }
    let decoded = STANDARD.decode(text("auth")?).ok()?;
    let decoded = String::from_utf8(decoded).ok()?;
    let (username, password) = decoded.split_once(':')?;
    Some(Credentials {
        username: username.to_owned(),
        password: password.trim_end_matches('\0').to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use serde_json::json;

    use super::*;

    fn users(reference: &str) -> Vec<String> {
        let auth = STANDARD.encode("hub:pw:with:colons");
        let config = json!({"auths": {
            "https://index.docker.io/v1/": {"auth": auth},
            "localhost:5000": {"username": "local", "password": "x"},
            "localhost:5000/team": {"username": "team", "password": "x"},
            "*.example.com": {"username": "star", "password": "x"},
            "broken.io": {"auth": "!!"},
        }});
        let data = [(
            ".dockerconfigjson".to_owned(),
            ByteString(config.to_string().into_bytes()),
        )];
        let secret = Secret {
            data: Some(data.into()),
            ..Secret::default()
        };
        fitting(reference, [&secret])
            .into_iter()
            .map(|c| c.username)
            .collect()
    }

    #[test]
    fn places() {
        assert_eq!(users("docker.io/library/busybox:1"), ["hub"]);
        assert_eq!(users("localhost:5000/app:1"), ["local"]);
        assert_eq!(users("localhost:5000/team/app:1"), ["team", "local"]);
        assert_eq!(users("localhost:5000/teamster/app:1"), ["local"]);
        assert_eq!(users("eu.example.com/app:1"), ["star"]);
        assert!(users("example.com/app:1").is_empty());
        assert!(users("broken.io/app:1").is_empty());
    }
}
