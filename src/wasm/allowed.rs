//! Where a guest may connect to, in the words of Spin's
//! `allowed_outbound_hosts`: `SCHEME://HOST[:PORT]`, each part perhaps `*`.

use std::net::{IpAddr, SocketAddr};

use crate::WasmError;

/// Hosts that a guest may reach; nothing else. There may be several lists, all of which have to permit it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHosts(Vec<Vec<Pattern>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    /// None: any.
    scheme: Option<String>,
    host: Host,
    /// First and last; None: any.
    ports: Option<(u16, u16)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Any,
    Name(String),
    /// `.example.com`, for whatever comes before it.
    Below(String),
    /// Address and prefix length.
    Range(IpAddr, u8),
}

impl AllowedHosts {
    /// Reads the list.
    ///
    /// # Errors
    /// [`WasmError::Spec`] with the entry that cannot be read.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<AllowedHosts, WasmError> {
        let wrong =
            |text: &str| WasmError::Spec(format!("the allowed host {text:?} is not SCHEME://HOST[:PORT]"));
        let patterns = texts
            .into_iter()
            .map(|text| pattern(text).ok_or_else(|| wrong(text)));
        let list = patterns.collect::<Result<_, _>>()?;
        Ok(AllowedHosts(vec![list]))
    }

    /// What both permit.
    pub fn and(mut self, other: AllowedHosts) -> AllowedHosts {
        self.0.extend(other.0);
        self
    }

    fn all(&self, permits: impl Fn(&Pattern) -> bool) -> bool {
        self.0.iter().all(|list| list.iter().any(&permits))
    }

    /// Whether a URL of these parts may be asked for.
    pub(crate) fn permits(&self, scheme: &str, host: &str, port: u16) -> bool {
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_ascii_lowercase();
        self.all(|pattern| {
            let scheme_fits = pattern.scheme.as_deref().is_none_or(|wanted| wanted == scheme);
            scheme_fits && pattern.host.covers(&host) && pattern.has_port(port)
        })
    }

    /// Whether a socket may be connected to this address, which was found under these names, whatever is spoken over it.
    pub(crate) fn permits_address<'a>(
        &self,
        address: SocketAddr,
        names: impl Iterator<Item = &'a str> + Clone,
    ) -> bool {
        let ip = address.ip().to_canonical();
        self.all(|pattern| {
            let host_fits = pattern.host.covers(&ip.to_string())
                || (ip.is_loopback() && pattern.host == Host::Name("localhost".to_owned()))
                || names.clone().any(|name| pattern.host.covers(name));
            host_fits && pattern.has_port(address.port())
        })
    }

    /// Whether anything may be reached under a name, in small letters.
    pub(crate) fn permits_name(&self, name: &str) -> bool {
        self.all(|pattern| pattern.host.covers(name))
    }
}

impl Pattern {
    fn has_port(&self, port: u16) -> bool {
        self.ports
            .is_none_or(|(first, last)| (first..=last).contains(&port))
    }
}

impl Host {
    fn covers(&self, host: &str) -> bool {
        match self {
            Host::Any => true,
            Host::Name(name) => name == host,
            Host::Below(domain) => host.ends_with(domain.as_str()),
            Host::Range(base, bits) => host.parse().is_ok_and(|ip| in_range(ip, *base, *bits)),
        }
    }
}

fn in_range(ip: IpAddr, base: IpAddr, bits: u8) -> bool {
    let shifted = |value: u128, width: u32| {
        value
            .checked_shr(width.saturating_sub(u32::from(bits)))
            .unwrap_or(0)
    };
    match (ip, base) {
        (IpAddr::V4(ip), IpAddr::V4(base)) => {
            shifted(u32::from(ip).into(), 32) == shifted(u32::from(base).into(), 32)
        }
        (IpAddr::V6(ip), IpAddr::V6(base)) => shifted(ip.into(), 128) == shifted(base.into(), 128),
        _ => false,
    }
}

fn pattern(text: &str) -> Option<Pattern> {
    if text == "insecure:allow-all" {
        return pattern("*://*:*");
    }
    let (scheme, rest) = text.split_once("://")?;
    let rest = rest.trim_end_matches('/');
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (rest, None),
    };
    let scheme = (scheme != "*").then(|| scheme.to_ascii_lowercase());
    let ports = match port {
        Some("*") => None,
        Some(text) => Some(match text.split_once("..") {
            Some((first, last)) => (first.parse().ok()?, last.parse::<u16>().ok()?.checked_sub(1)?),
            None => text.parse().map(|port| (port, port)).ok()?,
        }),
        None => default_port(scheme.as_deref()).map(|port| (port, port)),
    };
    let host = self::host(
        &host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_ascii_lowercase(),
    )?;
    Some(Pattern { scheme, host, ports })
}

fn default_port(scheme: Option<&str>) -> Option<u16> {
    match scheme? {
        "http" => Some(80),
        "https" => Some(443),
        "postgres" => Some(5432),
        "mysql" => Some(3306),
        "redis" => Some(6379),
        "mqtt" => Some(1883),
        _ => None,
    }
}

fn host(text: &str) -> Option<Host> {
    if text == "*" {
        return Some(Host::Any);
    }
    if let Some(domain) = text.strip_prefix('*') {
        return (domain.len() > 1 && domain.starts_with('.')).then(|| Host::Below(domain.to_owned()));
    }
    match text.split_once('/') {
        Some((base, bits)) => Some(Host::Range(base.parse().ok()?, bits.parse().ok()?)),
        None => (!text.is_empty()).then(|| Host::Name(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(texts: &[&str]) -> AllowedHosts {
        AllowedHosts::parse(texts.iter().copied()).unwrap()
    }

    #[test]
    fn urls() {
        let hosts = allowed(&[
            "https://example.com",
            "http://*.lan:8080",
            "*://any:*",
            "redis://10.0.0.0/8",
        ]);
        for (scheme, host, port, expected) in [
            ("https", "example.com", 443, true),
            ("https", "Example.com", 443, true),
            ("http", "example.com", 80, false),
            ("https", "example.com", 8443, false),
            ("https", "evil-example.com", 443, false),
            ("http", "a.lan", 8080, true),
            ("http", "lan", 8080, false),
            ("http", "any", 1, true),
            ("redis", "10.9.9.9", 6379, true),
            ("redis", "11.0.0.1", 6379, false),
        ] {
            assert_eq!(
                hosts.permits(scheme, host, port),
                expected,
                "{scheme}://{host}:{port}"
            );
        }
        assert!(!allowed(&[]).permits("https", "example.com", 443));
        assert!(allowed(&["insecure:allow-all"]).permits("https", "example.com", 443));
    }

    #[test]
    fn addresses() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let hosts = allowed(&[
            "tcp://10.0.0.7:5432",
            "*://192.168.0.0/16:1..100",
            "http://localhost:80",
            "*://[::1]:9",
        ]);
        for (address, expected) in [
            ("10.0.0.7:5432", true),
            ("10.0.0.7:5433", false),
            ("192.168.3.4:99", true),
            ("192.168.3.4:100", false),
            ("127.0.0.1:80", true),
            ("[::1]:9", true),
        ] {
            let found = hosts.permits_address(at(address), std::iter::empty());
            assert_eq!(found, expected, "{address}");
        }
    }

    #[test]
    fn lists_permit_together() {
        let both = allowed(&["http://a", "http://b"]).and(allowed(&["*://b:*", "*://c:*"]));
        for (host, expected) in [("a", false), ("b", true), ("c", false)] {
            assert_eq!(both.permits("http", host, 80), expected, "{host}");
            assert_eq!(both.permits_name(host), expected, "{host}");
        }
        assert!(!allowed(&["*://*:*"]).and(allowed(&[])).permits("http", "a", 80));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for text in [
            "example.com",
            "https://",
            "https://a:b",
            "https://*a",
            "x://1.2.3.4/x",
        ] {
            let error = AllowedHosts::parse([text]).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
