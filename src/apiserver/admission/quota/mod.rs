//! ResourceQuota: what a namespace may use in all, and what one more object would make of it. Pure; what commits it
//! together with the object is `registry::quota`.

mod pods;
mod scopes;
mod usage;

use api::object;
use api::pod::{self, Amounts};
use api::quantity::Quantity;
use api::value;
use jiff::Timestamp;
use serde_json::{Map, Value};

pub use usage::{Counted, counted_as, is_counted};

/// A request that may cost something.
pub struct Asked<'a> {
    /// What sort of object it is.
    pub counted: Counted<'a>,
    /// The object as it will be.
    pub new: &'a Value,
    /// As it is; `None` for a creation.
    pub old: Option<&'a Value>,
    /// The present.
    pub now: Timestamp,
}

/// The quotas that have to change for a request to be let in, as they have to become.
///
/// # Errors
/// Why it is not let in.
pub fn charge(quotas: &[Value], asked: &Asked<'_>) -> Result<Vec<Value>, String> {
    let mut concerned = Vec::new();
    for quota in quotas {
        if concerns(quota, asked)? {
            concerned.push(quota);
        }
    }
    if concerned.is_empty() {
        return Ok(Vec::new());
    }
    let costs = costs(asked);
    if let Some((name, _)) = costs.iter().find(|(_, amount)| amount.is_negative()) {
        return Err(format!("quota usage is negative for resource(s): {name}"));
    }
    let mut changed = Vec::new();
    for quota in concerned {
        changed.extend(charged(quota, &costs)?);
    }
    Ok(changed)
}

/// Whether a quota counts the object; an error if it asks for what the object does not say.
fn concerns(quota: &Value, asked: &Asked<'_>) -> Result<bool, String> {
    let names: Vec<&str> = value::entries(quota, "status.hard")
        .map(|(name, _)| name.as_str())
        .filter(|name| asked.counted.is_counted_by(name))
        .collect();
    if names.is_empty() || !scopes::hold(quota, &asked.counted, asked.new) {
        return Ok(false);
    }
    let name = object::name(quota);
    if asked.counted.is("", "pods") {
        pods::check(asked.new, &names).map_err(|why| format!("failed quota: {name}: {why}"))?;
    }
    let used = value::get(quota, "status.used");
    if names.iter().any(|name| used.get(name).is_none()) {
        let names = names.join(",");
        return Err(format!("status unknown for quota: {name}, resources: {names}"));
    }
    Ok(true)
}

/// What the request adds to what is used. A change never costs less than nothing: what it sets free is counted later.
fn costs(asked: &Asked<'_>) -> Amounts {
    let mut costs = asked.counted.usage(asked.new, asked.now);
    if let Some(old) = asked.old {
        let before = asked.counted.usage(old, asked.now);
        for (name, cost) in &mut costs {
            let more = *cost - before.get(name).copied().unwrap_or_default();
            *cost = more.max(Quantity::ZERO);
        }
    }
    costs.retain(|_, cost| !cost.is_zero());
    costs
}

/// A quota with costs added to what is used; `None` if it counts none of them.
fn charged(quota: &Value, costs: &Amounts) -> Result<Option<Value>, String> {
    let (hard, used) = (amounts(quota, "status.hard"), amounts(quota, "status.used"));
    let asked: Vec<(&String, Quantity)> = costs
        .iter()
        .filter(|(name, _)| hard.contains_key(*name))
        .map(|(name, cost)| (name, *cost))
        .collect();
    if asked.is_empty() {
        return Ok(None);
    }
    let of = |amounts: &Amounts, name: &String| amounts.get(name).copied().unwrap_or_default();
    let over: Vec<&(&String, Quantity)> = asked
        .iter()
        .filter(|(name, cost)| of(&used, name) + *cost > of(&hard, name))
        .collect();
    if !over.is_empty() {
        let list = |amount: &dyn Fn(&String, Quantity) -> Quantity| {
            let texts = over
                .iter()
                .map(|(name, cost)| format!("{name}={}", amount(name, *cost)));
            texts.collect::<Vec<_>>().join(",")
        };
        return Err(format!(
            "exceeded quota: {}, requested: {}, used: {}, limited: {}",
            object::name(quota),
            list(&|_, cost| cost),
            list(&|name, _| of(&used, name)),
            list(&|name, _| of(&hard, name)),
        ));
    }
    let mut new = quota.clone();
    for (name, cost) in asked {
        let sum = of(&used, name) + cost;
        object::set(&mut new, &["status", "used", name], sum.to_string());
    }
    Ok(Some(new))
}

fn amounts(holder: &Value, path: &str) -> Amounts {
    let read = |(name, amount): (&String, &Value)| Some((name.clone(), Quantity::from_json(amount).ok()?));
    value::entries(holder, path).filter_map(read).collect()
}

/// A quota whose status says what is used now, if it does not say so already. `used` are the sums over all objects
/// that some name of it counts.
pub fn settled(quota: &Value, used: &Amounts) -> Option<Value> {
    let hard = value::get(quota, "spec.hard");
    let names = hard.as_object().into_iter().flatten().map(|(name, _)| name);
    let wanted: Amounts = names
        .filter_map(|name| Some((name.clone(), *used.get(name)?)))
        .collect();
    let same_hard = amounts(quota, "status.hard") == amounts(quota, "spec.hard");
    if same_hard && amounts(quota, "status.used") == wanted && value::has(quota, "status.hard") {
        return None;
    }
    let text = |(name, amount): (&String, &Quantity)| (name.clone(), Value::from(amount.to_string()));
    let used: Map<String, Value> = wanted.iter().map(text).collect();
    let mut new = quota.clone();
    object::set(&mut new, &["status", "hard"], hard.clone());
    object::set(&mut new, &["status", "used"], used);
    Some(new)
}

/// What the objects of one sort use together of what a quota counts; names that count this sort are there, be it with 0.
pub fn sum<'a>(
    quota: &Value,
    counted: &Counted<'_>,
    objects: impl Iterator<Item = &'a Value>,
    now: Timestamp,
) -> Amounts {
    let names: Vec<&String> = value::entries(quota, "spec.hard")
        .map(|(name, _)| name)
        .filter(|name| counted.is_counted_by(name))
        .collect();
    let mut sum: Amounts = names
        .iter()
        .map(|name| ((*name).clone(), Quantity::ZERO))
        .collect();
    for object in objects.filter(|object| scopes::hold(quota, counted, object)) {
        let mut used = counted.usage(object, now);
        used.retain(|name, _| names.contains(&name));
        pod::add(&mut sum, &used);
    }
    sum
}

#[cfg(test)]
mod tests;
