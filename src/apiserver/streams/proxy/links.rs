//! Where a page behind a proxy leads: its links, as they must be for whoever sees it through the proxy.

use http::{HeaderMap, header};

/// Headers by which a page would open itself to others; what is behind a proxy may not decide that for the API's
/// address.
const SHARING: [&str; 4] = [
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
];

/// How links change on their way through one proxied request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Links {
    /// The proxy's own path, such as `/api/v1/namespaces/a/pods/b/proxy`.
    pub prefix: String,
    /// The host that the request named.
    pub asked: String,
    /// The host that answered.
    pub backend: String,
}

/// A link taken apart.
struct Link<'a> {
    /// Scheme and host as they stand there; empty without a host.
    origin: &'a str,
    host: &'a str,
    path: &'a str,
    /// Query and fragment.
    tail: &'a str,
}

impl<'a> Link<'a> {
    fn parse(text: &'a str) -> Self {
        let end = |text: &str, stops: &[char]| text.find(stops).unwrap_or(text.len());
        let scheme = text.find("://").filter(|at| end(text, &['/', '?', '#']) > *at);
        let authority = match scheme {
            Some(at) => Some(at + 3),
            None => text.starts_with("//").then_some(2),
        };
        let (origin, host, rest) = match authority {
            None => ("", "", text),
            Some(at) => {
                let (_, after) = text.split_at_checked(at).unwrap_or(("", text));
                let (host, rest) = after
                    .split_at_checked(end(after, &['/', '?', '#']))
                    .unwrap_or((after, ""));
                let (origin, _) = text.split_at_checked(at + host.len()).unwrap_or((text, ""));
                (origin, host, rest)
            }
        };
        let (path, tail) = rest
            .split_at_checked(end(rest, &['?', '#']))
            .unwrap_or((rest, ""));
        Self {
            origin,
            host,
            path,
            tail,
        }
    }
}

impl Links {
    /// A link as seen through the proxy; `None` when it stays as it is: relative ones, and those to other hosts.
    pub fn through(&self, text: &str) -> Option<String> {
        let link = Link::parse(text.trim());
        let elsewhere = !link.host.is_empty() && link.host != self.backend && link.host != self.asked;
        if elsewhere || !link.path.starts_with('/') {
            return None;
        }
        let origin = if link.host == self.asked { link.origin } else { "" };
        let behind = link.path.strip_prefix(self.prefix.as_str());
        let is_there = behind.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let prefix = if is_there { "" } else { &self.prefix };
        Some(format!("{origin}{prefix}{}{}", link.path, link.tail))
    }

    /// Leads a redirect back through the proxy, and takes out what the page may not say.
    pub fn correct(&self, headers: &mut HeaderMap) {
        SHARING.iter().for_each(|name| drop(headers.remove(*name)));
        let location = headers
            .get(header::LOCATION)
            .and_then(|value| value.to_str().ok());
        let led = location.and_then(|location| self.through(location));
        if let Some(Ok(value)) = led.map(header::HeaderValue::try_from) {
            headers.insert(header::LOCATION, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> Links {
        Links {
            prefix: "/api/v1/namespaces/a/pods/b/proxy".into(),
            asked: "api.example:6443".into(),
            backend: "10.64.0.7:8080".into(),
        }
    }

    #[test]
    fn links_lead_through_the_proxy() {
        let proxy = "/api/v1/namespaces/a/pods/b/proxy";
        for (text, seen) in [
            ("/", Some(format!("{proxy}/"))),
            ("/a/b/?q=1#x", Some(format!("{proxy}/a/b/?q=1#x"))),
            ("http://10.64.0.7:8080/a", Some(format!("{proxy}/a"))),
            ("//10.64.0.7:8080/a", Some(format!("{proxy}/a"))),
            (
                "https://api.example:6443/a",
                Some(format!("https://api.example:6443{proxy}/a")),
            ),
            (
                "/api/v1/namespaces/a/pods/b/proxy/there",
                Some("/api/v1/namespaces/a/pods/b/proxy/there".into()),
            ),
            (
                "/api/v1/namespaces/a/pods/b/proxyish",
                Some(format!("{proxy}{proxy}ish")),
            ),
            ("a/b", None),
            ("?q", None),
            ("#x", None),
            ("", None),
            ("mailto:a@b", None),
            ("javascript:x('/a')", None),
            ("http://elsewhere/a", None),
            ("http://10.64.0.7:8080", None),
            ("a?b=c://d/e", None),
        ] {
            assert_eq!(links().through(text), seen, "{text}");
        }
    }

    #[test]
    fn redirects_come_back_and_sharing_goes() {
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, "/login".parse().unwrap());
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*".parse().unwrap());
        links().correct(&mut headers);
        assert_eq!(headers.len(), 1);
        assert_eq!(
            headers[header::LOCATION],
            "/api/v1/namespaces/a/pods/b/proxy/login"
        );
    }
}
