//! The bounds of one entry of a LimitRange, held against what is asked for. Pure.

use api::pod::Amounts;
use api::quantity::Quantity;
use api::value;
use serde_json::Value;

/// What something asks for.
pub struct Asked {
    /// At least.
    pub requests: Amounts,
    /// At most.
    pub limits: Amounts,
}

fn bounds<'a>(limit: &'a Value, key: &str) -> impl Iterator<Item = (&'a str, Quantity)> {
    value::entries(limit, key)
        .filter_map(|(name, bound)| Some((name.as_str(), Quantity::from_json(bound).ok()?)))
}

/// How an entry is broken, whose `kind` is what it is about.
pub fn of(kind: &str, limit: &Value, asked: &Asked) -> Vec<String> {
    let min = bounds(limit, "min").filter_map(|(name, bound)| too_little(kind, name, bound, asked));
    let max = bounds(limit, "max").filter_map(|(name, bound)| too_much(kind, name, bound, asked));
    let ratio = bounds(limit, "maxLimitRequestRatio")
        .filter_map(|(name, bound)| too_far_apart(kind, name, bound, asked));
    min.chain(max).chain(ratio).collect()
}

/// The same for what knows no limits.
pub fn of_requests(kind: &str, limit: &Value, requests: &Amounts) -> Vec<String> {
    let asked = Asked {
        requests: requests.clone(),
        limits: Amounts::new(),
    };
    let min = bounds(limit, "min").filter_map(|(name, bound)| too_little(kind, name, bound, &asked));
    let max = bounds(limit, "max").filter_map(|(name, bound)| {
        let usage = format!("maximum {name} usage per {kind} is {bound}");
        match requests.get(name) {
            None => Some(format!("{usage}.  No request is specified")),
            Some(request) if *request > bound => Some(format!("{usage}, but request is {request}")),
            Some(_) => None,
        }
    });
    min.chain(max).collect()
}

fn too_little(kind: &str, name: &str, bound: Quantity, asked: &Asked) -> Option<String> {
    let usage = format!("minimum {name} usage per {kind} is {bound}");
    match (asked.requests.get(name), asked.limits.get(name)) {
        (None, _) => Some(format!("{usage}.  No request is specified")),
        (Some(request), _) if *request < bound => Some(format!("{usage}, but request is {request}")),
        (_, Some(limit)) if *limit < bound => Some(format!("{usage}, but limit is {limit}")),
        _ => None,
    }
}

fn too_much(kind: &str, name: &str, bound: Quantity, asked: &Asked) -> Option<String> {
    let usage = format!("maximum {name} usage per {kind} is {bound}");
    match (asked.limits.get(name), asked.requests.get(name)) {
        (None, _) => Some(format!("{usage}.  No limit is specified")),
        (Some(limit), _) if *limit > bound => Some(format!("{usage}, but limit is {limit}")),
        (_, Some(request)) if *request > bound => Some(format!("{usage}, but request is {request}")),
        _ => None,
    }
}

fn too_far_apart(kind: &str, name: &str, bound: Quantity, asked: &Asked) -> Option<String> {
    let usage = format!("{name} max limit to request ratio per {kind} is {bound}");
    let given = |amounts: &Amounts| amounts.get(name).filter(|amount| !amount.is_zero()).copied();
    let Some(request) = given(&asked.requests) else {
        return Some(format!("{usage}, but no request is specified or request is 0"));
    };
    let Some(limit) = given(&asked.limits) else {
        return Some(format!("{usage}, but no limit is specified or limit is 0"));
    };
    let ratio = limit.as_f64() / request.as_f64();
    (ratio > bound.as_f64()).then(|| format!("{usage}, but provided ratio is {ratio:.6}"))
}
