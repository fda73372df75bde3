//! What Kubernetes adds to CEL: quantities, addresses, URLs and sets; lists are in `lists`.

use std::cmp::Ordering;
use std::net::IpAddr;
use std::rc::Rc;

use serde_json::Value;

use super::formats;
use super::lists;
use super::semver::Semver;
use super::val::Val;
use crate::quantity::Quantity;

const NO_OVERLOAD: &str = "no such overload";

/// A function without a receiver.
pub fn global<'a>(name: &str, args: &[Val<'a>]) -> Result<Val<'a>, String> {
    match (name, args) {
        ("quantity", [Val::Text(text)]) => quantity(text).map(Val::Quantity),
        ("isQuantity", [Val::Text(text)]) => Ok(Val::Bool(quantity(text).is_ok())),
        ("ip", [Val::Text(text)]) => ip(text).map(Val::Ip),
        ("isIP", [Val::Text(text)]) => Ok(Val::Bool(ip(text).is_ok())),
        ("ip.isCanonical", [Val::Text(text)]) => Ok(Val::Bool(ip(text)?.to_string() == **text)),
        ("cidr", [Val::Text(text)]) => cidr(text).map(|(ip, bits)| Val::Cidr(ip, bits)),
        ("isCIDR", [Val::Text(text)]) => Ok(Val::Bool(cidr(text).is_ok())),
        ("url", [Val::Text(text)]) if is_url(text) => Ok(Val::Url(text.clone())),
        ("url", [Val::Text(text)]) => Err(format!(
            "URL parse error during conversion from string: parse {text:?}"
        )),
        ("isURL", [Val::Text(text)]) => Ok(Val::Bool(is_url(text))),
        ("semver" | "isSemver", [Val::Text(text)]) => semver(name, text, false),
        ("semver" | "isSemver", [Val::Text(text), Val::Bool(lenient)]) => semver(name, text, *lenient),
        ("format.named", [Val::Text(name)]) => {
            let format = formats::named(name).map(|format| Rc::new(Val::Format(format)));
            Ok(Val::Optional(format))
        }
        (_, []) => name
            .strip_prefix("format.")
            .and_then(formats::named)
            .map(Val::Format)
            .ok_or_else(|| NO_OVERLOAD.to_owned()),
        ("lists.range", [Val::Int(count)]) => lists::range(*count),
        (_, [a, b]) => sets(name, a, b),
        _ => Err(NO_OVERLOAD.to_owned()),
    }
}

/// A method of anything but text, times and optionals.
pub fn method<'a>(on: &Val<'a>, name: &str, args: &[Val<'a>]) -> Result<Val<'a>, String> {
    match on {
        Val::Quantity(amount) => of_quantity(amount, name, args),
        Val::Ip(ip) => of_ip(*ip, name),
        Val::Cidr(ip, bits) => of_cidr(*ip, *bits, name, args),
        Val::Url(url) => of_url(url, name),
        Val::Semver(version) => of_semver(version, name, args),
        Val::Format(format) => match (name, args) {
            ("validate", [Val::Text(text)]) => Ok(formats::validate(format, text)),
            _ => Err(NO_OVERLOAD.to_owned()),
        },
        _ => match on.items() {
            Some(items) => lists::method(&items, name, args),
            None => Err(NO_OVERLOAD.to_owned()),
        },
    }
}

fn of_semver<'a>(version: &Semver, name: &str, args: &[Val<'a>]) -> Result<Val<'a>, String> {
    let [major, minor, patch] = version.numbers();
    let number = |n: u64| Ok(Val::Int(i64::try_from(n).unwrap_or(i64::MAX)));
    match (name, args) {
        ("major", []) => number(major),
        ("minor", []) => number(minor),
        ("patch", []) => number(patch),
        ("compareTo", [Val::Semver(other)]) => Ok(Val::Int(version.cmp(other) as i64)),
        ("isLessThan", [Val::Semver(other)]) => Ok(Val::Bool(version < &**other)),
        ("isGreaterThan", [Val::Semver(other)]) => Ok(Val::Bool(version > &**other)),
        _ => Err(NO_OVERLOAD.to_owned()),
    }
}

fn semver<'a>(name: &str, text: &str, lenient: bool) -> Result<Val<'a>, String> {
    let version = Semver::parse(text, lenient);
    match name {
        "isSemver" => Ok(Val::Bool(version.is_ok())),
        _ => version.map(|version| Val::Semver(Rc::new(version))),
    }
}

fn quantity(text: &str) -> Result<Quantity, String> {
    Quantity::from_json(&Value::from(text)).map_err(|why| why.to_string())
}

fn of_quantity<'a>(amount: &Quantity, name: &str, args: &[Val<'a>]) -> Result<Val<'a>, String> {
    let order = |other: &Quantity| amount.partial_cmp(other).unwrap_or(Ordering::Equal);
    Ok(match (name, args) {
        ("isInteger", []) => Val::Bool(amount.is_whole()),
        ("asInteger", []) if amount.is_whole() => Val::Int(amount.value()),
        ("asInteger", []) => return Err("cannot convert value to integer".to_owned()),
        ("asApproximateFloat", []) => Val::Double(amount.as_f64()),
        ("sign", []) => Val::Int(if amount.is_zero() {
            0
        } else if amount.is_negative() {
            -1
        } else {
            1
        }),
        ("compareTo", [Val::Quantity(other)]) => Val::Int(order(other) as i64),
        ("isGreaterThan", [Val::Quantity(other)]) => Val::Bool(order(other) == Ordering::Greater),
        ("isLessThan", [Val::Quantity(other)]) => Val::Bool(order(other) == Ordering::Less),
        ("add" | "sub", [other]) => {
            let other = match other {
                Val::Quantity(other) => *other,
                Val::Int(n) => Quantity::new(*n, amount.format()),
                _ => return Err(NO_OVERLOAD.to_owned()),
            };
            Val::Quantity(if name == "add" {
                *amount + other
            } else {
                *amount - other
            })
        }
        _ => return Err(NO_OVERLOAD.to_owned()),
    })
}

/// An address; IPv4 in IPv6's clothes and zones are refused.
fn ip(text: &str) -> Result<IpAddr, String> {
    let wrong = || format!("IP Address {text:?} parse error during conversion from string");
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => Err(wrong()),
        Ok(ip) => Ok(ip),
        Err(_) => Err(wrong()),
    }
}

fn cidr(text: &str) -> Result<(IpAddr, u8), String> {
    let wrong = || format!("network address parse error during conversion from string: {text:?}");
    let (address, bits) = text.split_once('/').ok_or_else(wrong)?;
    let address = ip(address).map_err(|_| wrong())?;
    let bits: u8 = bits.parse().map_err(|_| wrong())?;
    let max = if address.is_ipv4() { 32 } else { 128 };
    if bits > max {
        Err(wrong())
    } else {
        Ok((address, bits))
    }
}

/// An address as a number, its bits on the left.
fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn within(range: (IpAddr, u8), ip: IpAddr) -> bool {
    let differing = (number(range.0) ^ number(ip))
        .checked_shr(128 - u32::from(range.1))
        .unwrap_or(0);
    range.0.is_ipv4() == ip.is_ipv4() && differing == 0
}

fn masked((ip, bits): (IpAddr, u8)) -> IpAddr {
    let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
    let number = number(ip) & mask;
    match ip {
        IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::from_bits((number >> 96) as u32)),
        IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::from_bits(number)),
    }
}

fn of_ip<'a>(ip: IpAddr, name: &str) -> Result<Val<'a>, String> {
    let link_local = |multicast: bool| match (ip, multicast) {
        (IpAddr::V4(v4), true) => within((IpAddr::from([224, 0, 0, 0]), 24), IpAddr::V4(v4)),
        (IpAddr::V4(v4), false) => v4.is_link_local(),
        (IpAddr::V6(v6), true) => v6.to_bits() >> 112 == 0xff02,
        (IpAddr::V6(v6), false) => v6.is_unicast_link_local(),
    };
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    Ok(match name {
        "family" => Val::Int(if ip.is_ipv4() { 4 } else { 6 }),
        "isUnspecified" => Val::Bool(ip.is_unspecified()),
        "isLoopback" => Val::Bool(ip.is_loopback()),
        "isLinkLocalMulticast" => Val::Bool(link_local(true)),
        "isLinkLocalUnicast" => Val::Bool(link_local(false)),
        "isGlobalUnicast" => Val::Bool(
            !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || broadcast || link_local(false)),
        ),
        _ => return Err(NO_OVERLOAD.to_owned()),
    })
}

fn of_cidr<'a>(ip: IpAddr, bits: u8, name: &str, args: &[Val<'a>]) -> Result<Val<'a>, String> {
    let range = (ip, bits);
    Ok(match (name, args) {
        ("ip", []) => Val::Ip(ip),
        ("prefixLength", []) => Val::Int(i64::from(bits)),
        ("masked", []) => Val::Cidr(masked(range), bits),
        ("containsIP", [Val::Ip(other)]) => Val::Bool(within(range, *other)),
        ("containsIP", [Val::Text(other)]) => Val::Bool(within(range, self::ip(other)?)),
        ("containsCIDR", [Val::Cidr(other, more)]) => Val::Bool(*more >= bits && within(range, *other)),
        ("containsCIDR", [Val::Text(text)]) => {
            let (other, more) = cidr(text)?;
            Val::Bool(more >= bits && within(range, other))
        }
        _ => return Err(NO_OVERLOAD.to_owned()),
    })
}

/// Absolute, or a path from the root (Go's `url.ParseRequestURI`).
fn is_url(text: &str) -> bool {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    let absolute = scheme.is_some_and(|s| {
        s.starts_with(|c: char| c.is_ascii_alphabetic())
            && s.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    });
    (absolute || text.starts_with('/')) && !text.chars().any(|c| c.is_control() || c == ' ')
}

/// Scheme, host with port, path and query of a URL.
fn parts(url: &str) -> (&str, &str, &str, &str) {
    let (url, query) = url.split_once('?').unwrap_or((url, ""));
    let query = query.split('#').next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else {
        return ("", "", url, query);
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    (scheme, host.rsplit('@').next().unwrap_or(host), path, query)
}

fn of_url<'a>(url: &str, name: &str) -> Result<Val<'a>, String> {
    let (scheme, host, path, query) = parts(url);
    let bare = host.strip_prefix('[').and_then(|h| h.split_once(']'));
    let (hostname, port) = match bare {
        Some((name, port)) => (name, port.trim_start_matches(':')),
        None => host.split_once(':').unwrap_or((host, "")),
    };
    Ok(match name {
        "getScheme" => Val::text(scheme),
        "getHost" => Val::text(host),
        "getHostname" => Val::text(hostname),
        "getPort" => Val::text(port),
        "getEscapedPath" => Val::text(path),
        "getQuery" => self::query(query),
        _ => return Err(NO_OVERLOAD.to_owned()),
    })
}

/// The parameters of a query, each with all its values.
fn query<'a>(query: &str) -> Val<'a> {
    let mut out: Vec<(String, Vec<Val<'a>>)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match out.iter_mut().find(|(known, _)| known == key) {
            Some((_, values)) => values.push(Val::text(value)),
            None => out.push((key.to_owned(), vec![Val::text(value)])),
        }
    }
    let entries = out
        .into_iter()
        .map(|(key, values)| (Val::text(&key), Val::list(values)));
    Val::Map(Rc::new(entries.collect()))
}

fn sets<'a>(name: &str, a: &Val<'a>, b: &Val<'a>) -> Result<Val<'a>, String> {
    let (Some(a), Some(b)) = (a.items(), b.items()) else {
        return Err(NO_OVERLOAD.to_owned());
    };
    let has = |items: &[Val<'a>], wanted: &Val<'a>| items.iter().any(|item| item.equals(wanted));
    Ok(Val::Bool(match name {
        "sets.contains" => b.iter().all(|item| has(&a, item)),
        "sets.intersects" => b.iter().any(|item| has(&a, item)),
        "sets.equivalent" => a.iter().all(|item| has(&b, item)) && b.iter().all(|item| has(&a, item)),
        _ => return Err(NO_OVERLOAD.to_owned()),
    }))
}
