//! Registry credentials out of `imagePullSecrets`, and which of any fit an image. Pure.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use oci::Credentials;
use serde_json::Value;

/// What docker's own registry is called in most people's configurations.
const DOCKER_KEY: &str = "index.docker.io";

/// The credentials that fit the image, in the kubelet's order: by place, the
/// last in the alphabet first (so that a longer one comes before its own
/// beginning), and within a place in the order in which they are given.
pub fn fitting<T: Clone>(reference: &str, entries: impl IntoIterator<Item = (String, T)>) -> Vec<T> {
    let mut known: BTreeMap<String, Vec<T>> = BTreeMap::new();
    for (place, credentials) in entries {
        known.entry(key(&place)).or_default().push(credentials);
    }
    let fitting = known.iter().rev().filter(|(place, _)| covers(reference, place));
    let found: Vec<T> = fitting.flat_map(|(_, all)| all.iter().cloned()).collect();
    if found.is_empty() && reference.starts_with("docker.io/") {
        return known.remove(DOCKER_KEY).unwrap_or_default();
    }
    found
}

/// The places that a secret names, with what it says of each.
pub fn of_secret(secret: &Secret) -> impl Iterator<Item = (String, Credentials)> {
    let entries = entries(secret).into_iter();
    entries.filter_map(|(place, entry)| Some((place, credentials(&entry)?)))
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

/// A place without scheme and API version: `https://index.docker.io/v1/` → `index.docker.io`.
fn key(place: &str) -> String {
    let place = place.trim_start_matches("https://").trim_start_matches("http://");
    let (host, path) = place.split_once('/').unwrap_or((place, ""));
    let path = match path.split_once('/') {
        Some(("v1" | "v2", rest)) => rest,
        None if matches!(path, "v1" | "v2") => "",
        _ => path,
    };
    if path.is_empty() {
        host.to_owned()
    } else {
        format!("{host}/{path}")
    }
}

/// Whether a place (`host[:port][/path]`, parts of the host perhaps with `*`)
/// covers a normalised reference, with a tag or without: as many parts, the same port, the path's beginning.
pub fn covers(reference: &str, place: &str) -> bool {
    let (host, path) = place.split_once('/').unwrap_or((place, ""));
    let (its_host, its_path) = reference.split_once('/').unwrap_or((reference, ""));
    let (name, port) = host.split_once(':').unwrap_or((host, ""));
    let (its_name, its_port) = its_host.split_once(':').unwrap_or((its_host, ""));
    let parts: Vec<&str> = name.split('.').collect();
    let its_parts: Vec<&str> = its_name.split('.').collect();
    let names_fit = parts.len() == its_parts.len() && parts.iter().zip(its_parts).all(|(p, i)| glob(p, i));
    names_fit && port == its_port && its_path.starts_with(path)
}

/// Whether a text fits a pattern in which `*` stands for anything.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(text) = text.strip_prefix(start) else {
        return false;
    };
    (0..=text.len()).any(|at| text.get(at..).is_some_and(|left| glob(rest, left)))
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
            "pre*.b.io:5000": {"username": "glob", "password": "x"},
            "https://versioned.io/v2/team": {"username": "versioned", "password": "x"},
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
        fitting(reference, of_secret(&secret))
            .into_iter()
            .map(|c| c.username)
            .collect()
    }

    #[test]
    fn places() {
        assert_eq!(users("docker.io/library/busybox:1"), ["hub"]);
        assert_eq!(users("localhost:5000/app:1"), ["local"]);
        assert_eq!(users("localhost:5000/team/app:1"), ["team", "local"]);
        assert_eq!(users("eu.example.com/app:1"), ["star"]);
        assert!(users("a.eu.example.com/app:1").is_empty());
        assert!(users("example.com/app:1").is_empty());
        assert_eq!(users("prefix.b.io:5000/app:1"), ["glob"]);
        assert!(users("prefix.b.io/app:1").is_empty());
        assert_eq!(users("versioned.io/team/app:1"), ["versioned"]);
        assert!(users("versioned.io/other:1").is_empty());
        assert!(users("broken.io/app:1").is_empty());
    }

    #[test]
    fn several_secrets_are_tried_in_their_order_and_the_old_form_is_read() {
        let secret = |key: &str, text: serde_json::Value| Secret {
            data: Some([(key.to_owned(), ByteString(text.to_string().into_bytes()))].into()),
            ..Secret::default()
        };
        let entry = |name: &str| json!({"r.io": {"username": name, "password": "x"}});
        let secrets = [
            secret(".dockercfg", entry("old")),
            secret(".dockerconfigjson", json!({"auths": entry("new")})),
        ];
        let users: Vec<String> = fitting("r.io/app:1", secrets.iter().flat_map(of_secret))
            .into_iter()
            .map(|c| c.username)
            .collect();
        assert_eq!(users, ["old", "new"]);
        assert!(fitting("docker.io/library/app:1", secrets.iter().flat_map(of_secret)).is_empty());
    }
}
