//! Front proxies: servers that have authenticated a request themselves and say in its headers whose it is.
//!
//! This server reads such headers from those whom the front-proxy CA has certified, and writes them when it passes
//! requests on to servers that extend the API. Pure.

use std::collections::BTreeMap;

use api::request::User;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::groups::add_authenticated;
use crate::http::path::decode;

/// The common name of this server's own certificate as a front proxy.
pub const CLIENT_NAME: &str = "front-proxy-client";

/// Which headers say what, and who may send them (the `requestheader-…` settings of Kubernetes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeaders {
    /// Headers with the user's name; the first that is there counts.
    pub username: Vec<String>,
    /// Headers with the user's UID; the first that is there counts.
    pub uid: Vec<String>,
    /// Headers with groups, one in each value.
    pub group: Vec<String>,
    /// What the names of headers with anything else begin with.
    pub extra_prefix: Vec<String>,
    /// Common names of certificates that may send them; empty for all that the CA has signed.
    pub allowed_names: Vec<String>,
}

impl Default for RequestHeaders {
    fn default() -> Self {
        let one = |text: &str| vec![text.to_owned()];
        Self {
            username: one("X-Remote-User"),
            uid: one("X-Remote-Uid"),
            group: one("X-Remote-Group"),
            extra_prefix: one("X-Remote-Extra-"),
            allowed_names: one(CLIENT_NAME),
        }
    }
}

impl RequestHeaders {
    /// Whether the holder of a certificate of that name may say who is asking.
    pub fn trusts(&self, common_name: &str) -> bool {
        self.allowed_names.is_empty() || self.allowed_names.iter().any(|name| name == common_name)
    }

    /// The user that the headers name; `None` when they name none.
    pub fn user(&self, headers: &HeaderMap) -> Option<User> {
        let name = first(headers, &self.username)?;
        let mut groups: Vec<String> = self
            .group
            .iter()
            .flat_map(|header| values(headers, header))
            .collect();
        add_authenticated(&name, &mut groups);
        Some(User {
            name,
            uid: first(headers, &self.uid).unwrap_or_default(),
            groups,
            extra: self.extra(headers).into(),
        })
    }

    fn extra(&self, headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in headers {
            let prefixes = self.extra_prefix.iter().map(|prefix| prefix.to_ascii_lowercase());
            let key = prefixes
                .into_iter()
                .find_map(|prefix| name.as_str().strip_prefix(&prefix).map(str::to_owned));
            let Some(key) = key.filter(|key| !key.is_empty()) else {
                continue;
            };
            // What is no encoding is taken as it is, as Kubernetes does.
            let key = decode(&key, false).unwrap_or(key);
            if let Ok(value) = value.to_str() {
                extra.entry(key).or_default().push(value.to_owned());
            }
        }
        extra
    }
}

fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    let values = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
        .collect()
}

fn first(headers: &HeaderMap, names: &[String]) -> Option<String> {
    names
        .iter()
        .find_map(|name| values(headers, name).into_iter().next())
}

/// Says in the headers of a request whose it is, by the default names; whatever said so before goes.
pub fn introduce(headers: &mut HeaderMap, user: &User) {
    remove(headers);
    let mut put = |name: &str, value: &str| {
        // A name that cannot stand in a header was never authenticated by one either.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    };
    put("x-remote-user", &user.name);
    if !user.uid.is_empty() {
        put("x-remote-uid", &user.uid);
    }
    for group in &user.groups {
        put("x-remote-group", group);
    }
    for (key, values) in user.extra.iter() {
        for value in values {
            put(&format!("x-remote-extra-{}", escaped(key)), value);
        }
    }
}

/// Takes out every header that could say whose a request is.
pub fn remove(headers: &mut HeaderMap) {
    let ours: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-remote-"))
        .cloned()
        .collect();
    for name in ours {
        headers.remove(name);
    }
}

/// A key as part of a header's name: percent encoding for what may not stand there.
fn escaped(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'!' | b'#' | b'$' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|'
            | b'~' => {
                out.push(char::from(byte));
            }
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let user = User {
            name: "jane".into(),
            uid: "u-1".into(),
            groups: vec!["dev".into(), "system:authenticated".into()],
            extra: Arc::new(BTreeMap::from([(
                "example.com/scope".to_owned(),
                vec!["a".to_owned(), "b".to_owned()],
            )])),
        };
        let mut headers = HeaderMap::new();
        headers.insert("x-remote-group", "system:masters".parse().unwrap());
        introduce(&mut headers, &user);
        assert!(
            headers.contains_key("x-remote-extra-example.com%2fscope"),
            "{headers:?}"
        );
        assert_eq!(RequestHeaders::default().user(&headers), Some(user));
        remove(&mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn names_are_needed_and_groups_added() {
        let mut headers = HeaderMap::new();
        headers.insert("x-remote-group", "dev".parse().unwrap());
        let settings = RequestHeaders::default();
        assert_eq!(settings.user(&headers), None);
        headers.insert("x-remote-user", " eve ".parse().unwrap());
        assert_eq!(
            settings.user(&headers),
            Some(User::new("eve", &["dev", "system:authenticated"]))
        );
        assert!(settings.trusts(CLIENT_NAME) && !settings.trusts("admin"));
        let all = RequestHeaders {
            allowed_names: Vec::new(),
            ..settings
        };
        assert!(all.trusts("anyone"));
    }
}
