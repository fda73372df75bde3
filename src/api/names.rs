//! Names, label keys and values, ports and other small texts: which are valid,
//! and Kubernetes' words for why not (apimachinery `util/validation`).

/// Checks a name; the flag says that it is a `generateName` prefix. Returns Kubernetes' texts.
pub type NameRule = fn(&str, bool) -> Vec<String>;

/// Most bytes of a DNS label.
pub const LABEL_MAX: usize = 63;
/// Most bytes of a DNS subdomain.
pub const SUBDOMAIN_MAX: usize = 253;

const LABEL_TEXT: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
     start and end with an alphanumeric character";
const LABEL_REGEX: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_TEXT: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
     and must start and end with an alphanumeric character";
const SUBDOMAIN_REGEX: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const DNS1035_TEXT: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
     alphabetic character, and end with an alphanumeric character";
const DNS1035_REGEX: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED_TEXT: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
     alphanumeric character";
const QUALIFIED_REGEX: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const VALUE_TEXT: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and \
     must start and end with an alphanumeric character";

/// The text for something longer than `max` bytes.
pub fn too_long(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

fn not_matching(text: &str, regex: &str, examples: &[&str]) -> String {
    let examples: Vec<String> = examples.iter().map(|e| format!("'{e}'")).collect();
    if examples.is_empty() {
        return format!("{text} (regex used for validation is '{regex}')");
    }
    // The comma and the two spaces are Kubernetes' own.
    format!(
        "{text} (e.g. {}, regex used for validation is '{regex}')",
        examples.join(",  or ")
    )
}

fn lower(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn is_label_shaped(s: &str) -> bool {
    let bytes = s.as_bytes();
    bytes.first().copied().is_some_and(lower)
        && bytes.last().copied().is_some_and(lower)
        && bytes.iter().all(|b| lower(*b) || *b == b'-')
}

fn is_subdomain_shaped(s: &str) -> bool {
    s.split('.').all(is_label_shaped)
}

fn is_qualified_shaped(s: &str) -> bool {
    let bytes = s.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

/// What is wrong with an RFC 1123 label, such as a container's name.
pub fn is_dns_label(s: &str) -> Vec<String> {
    let mut why = Vec::new();
    if s.len() > LABEL_MAX {
        why.push(too_long(LABEL_MAX));
    }
    if !is_label_shaped(s) {
        why.push(if is_subdomain_shaped(s) {
            "must not contain dots".to_owned()
        } else {
            not_matching(LABEL_TEXT, LABEL_REGEX, &["my-name", "123-abc"])
        });
    }
    why
}

/// What is wrong with an RFC 1123 subdomain, such as most objects' names.
pub fn is_dns_subdomain(s: &str) -> Vec<String> {
    let mut why = Vec::new();
    if s.len() > SUBDOMAIN_MAX {
        why.push(too_long(SUBDOMAIN_MAX));
    }
    if !is_subdomain_shaped(s) {
        why.push(not_matching(SUBDOMAIN_TEXT, SUBDOMAIN_REGEX, &["example.com"]));
    }
    why
}

/// What is wrong with a name in a list of DNS search paths: as a subdomain, but underscores are allowed, also in front.
pub fn is_dns_subdomain_with_underscore(s: &str) -> Vec<String> {
    const TEXT: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', \
         and must start and end with an alphanumeric character";
    const REGEX: &str = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*";
    let mut why = Vec::new();
    if s.len() > SUBDOMAIN_MAX {
        why.push(too_long(SUBDOMAIN_MAX));
    }
    let label = |part: &str| {
        let part = part.strip_prefix('_').unwrap_or(part);
        is_label_shaped(&part.replace('_', "-"))
    };
    // A trailing or second leading underscore is no alphanumeric character.
    let edges = |part: &str| !part.ends_with('_') && !part.starts_with("__");
    if !s.split('.').all(|part| label(part) && edges(part)) {
        why.push(not_matching(TEXT, REGEX, &["example.com"]));
    }
    why
}

/// What is wrong with a host name that stands for all names below a domain.
pub fn is_wildcard_subdomain(s: &str) -> Vec<String> {
    const TEXT: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must \
         consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
    let mut why = Vec::new();
    if s.len() > SUBDOMAIN_MAX {
        why.push(too_long(SUBDOMAIN_MAX));
    }
    if !s.strip_prefix("*.").is_some_and(is_subdomain_shaped) {
        let regex = format!("\\*\\.{SUBDOMAIN_REGEX}");
        why.push(not_matching(TEXT, &regex, &["*.example.com"]));
    }
    why
}

/// What is wrong with an RFC 1035 label, such as a Service's name.
pub fn is_dns1035_label(s: &str) -> Vec<String> {
    let mut why = Vec::new();
    if s.len() > LABEL_MAX {
        why.push(too_long(LABEL_MAX));
    }
    if !is_label_shaped(s) || !s.starts_with(|c: char| c.is_ascii_lowercase()) {
        why.push(not_matching(DNS1035_TEXT, DNS1035_REGEX, &["my-name", "abc-123"]));
    }
    why
}

/// What is wrong with a label key, annotation key, resource name or the like: `[prefix/]name`.
pub fn is_qualified_name(s: &str) -> Vec<String> {
    let parts: Vec<&str> = s.split('/').collect();
    let mut why = Vec::new();
    let name = match parts.as_slice() {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                why.push("prefix part must be non-empty".to_owned());
            } else {
                why.extend(
                    is_dns_subdomain(prefix)
                        .into_iter()
                        .map(|w| format!("prefix part {w}")),
                );
            }
            name
        }
        _ => {
            let text = not_matching(QUALIFIED_TEXT, QUALIFIED_REGEX, &["MyName", "my.name", "123-abc"]);
            return vec![format!(
                "a qualified name {text} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        why.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        why.push(format!("name part {}", too_long(LABEL_MAX)));
    }
    if !is_qualified_shaped(name) {
        let text = not_matching(QUALIFIED_TEXT, QUALIFIED_REGEX, &["MyName", "my.name", "123-abc"]);
        why.push(format!("name part {text}"));
    }
    why
}

/// What is wrong with a label's value.
pub fn is_label_value(s: &str) -> Vec<String> {
    let mut why = Vec::new();
    if s.len() > LABEL_MAX {
        why.push(too_long(LABEL_MAX));
    }
    if !s.is_empty() && !is_qualified_shaped(s) {
        let regex = format!("({QUALIFIED_REGEX})?");
        why.push(not_matching(
            VALUE_TEXT,
            &regex,
            &["MyValue", "my_value", "12345"],
        ));
    }
    why
}

/// What is wrong with the name of an environment variable.
pub fn is_env_name(s: &str) -> Vec<String> {
    if s.is_empty() {
        return vec!["environment variable name must be non-empty".to_owned()];
    }
    if s.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        return Vec::new();
    }
    vec![
        "a valid environment variable name must consist only of printable ASCII characters other than '='"
            .into(),
    ]
}

/// What is wrong with a key of a ConfigMap's or Secret's data.
pub fn is_config_key(s: &str) -> Vec<String> {
    let mut why = Vec::new();
    if s.len() > SUBDOMAIN_MAX {
        why.push(too_long(SUBDOMAIN_MAX));
    }
    if s.is_empty()
        || !s
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    {
        let text = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        why.push(not_matching(
            text,
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match s {
        "." => why.push("must not be '.'".to_owned()),
        ".." => why.push("must not be '..'".to_owned()),
        _ if s.starts_with("..") => why.push("must not start with '..'".to_owned()),
        _ => {}
    }
    why
}

/// What is wrong with the name of a port (IANA service name).
pub fn is_port_name(s: &str) -> Vec<String> {
    let mut why = Vec::new();
    if s.len() > 15 {
        why.push(too_long(15));
    }
    if s.is_empty() || !s.bytes().all(|b| lower(b) || b == b'-') {
        why.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !s.bytes().any(|b| b.is_ascii_lowercase()) {
        why.push("must contain at least one letter (a-z)".to_owned());
    }
    if s.contains("--") {
        why.push("must not contain consecutive hyphens".to_owned());
    }
    if s.starts_with('-') || s.ends_with('-') {
        why.push("must not begin or end with a hyphen".to_owned());
    }
    why
}

/// What is wrong with a port number.
pub fn is_port_number(port: i64) -> Vec<String> {
    in_range(port, 1, 65535)
}

/// What is wrong with a number that must lie between two others.
pub fn in_range(n: i64, min: i64, max: i64) -> Vec<String> {
    if (min..=max).contains(&n) {
        Vec::new()
    } else {
        vec![format!("must be between {min} and {max}, inclusive")]
    }
}

/// What is wrong with an IP address of either family.
pub fn is_ip(s: &str) -> Vec<String> {
    if s.parse::<std::net::IpAddr>().is_ok() {
        return Vec::new();
    }
    vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()]
}

/// Why nobody can serve at that address, if it is one that means something else.
pub fn is_special_ip(s: &str) -> Vec<String> {
    let Ok(ip) = s.parse::<std::net::IpAddr>() else {
        return vec!["must be a valid IP address".to_owned()];
    };
    let (link_local, local_multicast) = match ip {
        std::net::IpAddr::V4(ip) => (ip.is_link_local(), ip.octets().starts_with(&[224, 0, 0])),
        std::net::IpAddr::V6(ip) => (ip.is_unicast_link_local(), ip.segments().first() == Some(&0xff02)),
    };
    let mut why = Vec::new();
    if ip.is_unspecified() {
        why.push(format!("may not be unspecified ({s})"));
    }
    if ip.is_loopback() {
        why.push("may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned());
    }
    if link_local {
        why.push("may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned());
    }
    if local_multicast {
        why.push("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned());
    }
    why
}

/// What is wrong with an address range such as `10.0.0.0/8`.
pub fn is_cidr(s: &str) -> Vec<String> {
    let ok = s.split_once('/').is_some_and(|(ip, bits)| {
        let max = match ip.parse::<std::net::IpAddr>() {
            Ok(std::net::IpAddr::V4(_)) => 32,
            Ok(std::net::IpAddr::V6(_)) => 128,
            Err(_) => return false,
        };
        bits.bytes().all(|b| b.is_ascii_digit()) && bits.parse::<u32>().is_ok_and(|n| n <= max)
    });
    if ok {
        return Vec::new();
    }
    vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".to_owned()]
}

/// A `generateName` prefix may end in `-`: something valid follows.
fn mask_trailing_dash(name: &str) -> String {
    match name.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => format!("{rest}a"),
        _ => name.to_owned(),
    }
}

fn ruled(name: &str, prefix: bool, rule: fn(&str) -> Vec<String>) -> Vec<String> {
    if prefix {
        rule(&mask_trailing_dash(name))
    } else {
        rule(name)
    }
}

/// Name rule: an RFC 1123 subdomain.
pub fn subdomain(name: &str, prefix: bool) -> Vec<String> {
    ruled(name, prefix, is_dns_subdomain)
}

/// Name rule: an RFC 1123 label.
pub fn label(name: &str, prefix: bool) -> Vec<String> {
    ruled(name, prefix, is_dns_label)
}

/// Name rule: an RFC 1035 label.
pub fn label_1035(name: &str, prefix: bool) -> Vec<String> {
    ruled(name, prefix, is_dns1035_label)
}

/// Name rule: anything that fits in a path segment.
pub fn path_segment(name: &str, prefix: bool) -> Vec<String> {
    let mut why = Vec::new();
    if !prefix {
        match name {
            "." => return vec!["may not be '.'".to_owned()],
            ".." => return vec!["may not be '..'".to_owned()],
            _ => {}
        }
    }
    for forbidden in ['/', '%'] {
        if name.contains(forbidden) {
            why.push(format!("may not contain '{forbidden}'"));
        }
    }
    why
}

/// Name rule: an IP address in canonical form.
pub fn ip_address(name: &str, _prefix: bool) -> Vec<String> {
    match name.parse::<std::net::IpAddr>() {
        Ok(ip) if ip.to_string() == name => Vec::new(),
        Ok(_) => vec!["must be in canonical form".to_owned()],
        Err(_) => is_ip(name),
    }
}

/// Longest base that leaves room for the five random characters of `generateName`.
const GENERATED_BASE_MAX: usize = LABEL_MAX - 5;

/// A name made from `generateName` and a random suffix, cut so that it fits a label.
pub fn generate(base: &str, suffix: &str) -> String {
    let mut end = base.len().min(GENERATED_BASE_MAX);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", base.get(..end).unwrap_or(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_fine() {
        for good in ["a", "a-b", "0", "a1-2b"] {
            assert!(is_dns_label(good).is_empty(), "{good}");
        }
        for good in ["a.b", "example.com", "a-1.b"] {
            assert!(is_dns_subdomain(good).is_empty(), "{good}");
        }
        for good in ["app", "app.kubernetes.io/name", "A_b.C-d"] {
            assert!(is_qualified_name(good).is_empty(), "{good}");
        }
        for good in ["", "x", "v1.2_3-A"] {
            assert!(is_label_value(good).is_empty(), "{good}");
        }
        assert!(subdomain("web-", true).is_empty());
        assert!(is_port_name("http-1").is_empty());
    }

    #[test]
    fn texts_are_those_of_kubernetes() {
        assert_eq!(
            is_dns_subdomain("Bad_Name"),
            [
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
              must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
              '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]
        );
        assert_eq!(
            is_label_value("a b"),
            [
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
              start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used \
              for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
            ]
        );
        assert_eq!(is_dns_label(&"a".repeat(64)), ["must be no more than 63 bytes"]);
        assert_eq!(is_qualified_name("/x"), ["prefix part must be non-empty"]);
        assert!(is_qualified_name("a/b/c")[0].starts_with("a qualified name must consist of"));
        assert_eq!(is_port_number(0), ["must be between 1 and 65535, inclusive"]);
        assert_eq!(is_config_key(".."), ["must not be '..'"]);
        assert_eq!(path_segment("a/b", false), ["may not contain '/'"]);
        assert!(!is_dns1035_label("1a").is_empty());
    }

    #[test]
    fn generated_names_fit_a_label() {
        assert_eq!(generate("web-", "x7k2p"), "web-x7k2p");
        assert_eq!(generate(&"a".repeat(80), "x7k2p").len(), 63);
    }
}
