//! Functions of lists: Kubernetes' own, those of cel-go's list library (version 3), and what optional values add.

use std::cmp::Ordering;
use std::rc::Rc;

use super::ops;
use super::val::Val;

const NO_OVERLOAD: &str = "no such overload";
/// What `sortBy` becomes: sorts a list in the order of the keys that another holds.
pub const SORT_BY: &str = "@sortByAssociatedKeys";
/// What making a list costs.
const LIST_COST: usize = 10;

/// What a function of a list costs beyond its one unit; `None` for those that are none, or cost what all do.
pub fn cost(name: &str, values: &[Val<'_>]) -> Option<usize> {
    let size = |i: usize| values.get(i).and_then(Val::size).unwrap_or(0);
    let number = |i: usize| match values.get(i) {
        Some(Val::Int(n)) => usize::try_from(*n).unwrap_or(0),
        _ => 0,
    };
    let work = match name {
        "slice" => number(2).saturating_sub(number(1)),
        "lists.range" => number(0),
        "reverse" => size(0),
        "flatten" if values.len() == 1 => size(0),
        "flatten" => size(0).saturating_mul(number(1)),
        "distinct" | "sort" => of_comparing(values.first()),
        SORT_BY => of_comparing(values.get(1)),
        _ => return None,
    };
    Some(work.saturating_add(LIST_COST))
}

/// Every item is compared with every other, and texts letter by letter.
fn of_comparing(list: Option<&Val<'_>>) -> usize {
    let items = list.and_then(Val::items).unwrap_or_default();
    let square = items.len().saturating_mul(items.len());
    let texts = matches!(items.first(), Some(Val::Text(_) | Val::Bytes(_)));
    let letters = if texts { square / 10 } else { 0 };
    square.saturating_mul(2).saturating_add(letters)
}

/// The numbers from 0 on, so many of them. What that costs has been paid, so there are not too many.
pub fn range<'a>(count: i64) -> Result<Val<'a>, String> {
    if count < 0 {
        return Err(format!("lists.range: size must be non-negative, got {count}"));
    }
    Ok(Val::list((0..count).map(Val::Int).collect()))
}

/// The values of those items that have one.
pub fn unwrapped<'a>(items: &[Val<'a>]) -> Result<Val<'a>, String> {
    let mut out = Vec::with_capacity(items.len());
    for item in items {
        match item {
            Val::Optional(inner) => out.extend(inner.as_deref().cloned()),
            _ => return Err(NO_OVERLOAD.to_owned()),
        }
    }
    Ok(Val::list(out))
}

/// A method of a list.
pub fn method<'a>(items: &[Val<'a>], name: &str, args: &[Val<'a>]) -> Result<Val<'a>, String> {
    let place = |at: Option<usize>| Val::Int(at.map_or(-1, |at| at as i64));
    let best = |wanted: Ordering| {
        let mut items = items.iter();
        let mut found = items
            .next()
            .ok_or_else(|| format!("{name} called on empty list"))?;
        for item in items {
            if item.order(found).ok_or(NO_OVERLOAD)? == wanted {
                found = item;
            }
        }
        Ok(found.clone())
    };
    match (name, args) {
        ("isSorted", []) => {
            let pairs = items.iter().zip(items.iter().skip(1));
            Ok(Val::Bool(
                pairs
                    .into_iter()
                    .all(|(a, b)| a.order(b) != Some(Ordering::Greater)),
            ))
        }
        ("sum", []) => {
            let mut items = items.iter();
            let first = items.next().cloned().unwrap_or(Val::Int(0));
            items.try_fold(first, |sum, item| ops::binary("+", &sum, item))
        }
        ("min", []) => best(Ordering::Less),
        ("max", []) => best(Ordering::Greater),
        ("indexOf", [wanted]) => Ok(place(items.iter().position(|item| item.equals(wanted)))),
        ("lastIndexOf", [wanted]) => Ok(place(items.iter().rposition(|item| item.equals(wanted)))),
        ("first", []) => Ok(Val::Optional(items.first().cloned().map(Rc::new))),
        ("last", []) => Ok(Val::Optional(items.last().cloned().map(Rc::new))),
        ("reverse", []) => Ok(Val::list(items.iter().rev().cloned().collect())),
        ("distinct", []) => Ok(Val::list(distinct(items))),
        ("slice", [Val::Int(start), Val::Int(end)]) => slice(items, *start, *end),
        ("flatten", []) => flatten(items, 1).map(Val::list),
        ("flatten", [Val::Int(depth)]) => flatten(items, *depth).map(Val::list),
        ("sort", []) => sorted(items, items),
        (SORT_BY, [keys]) => sorted(items, &keys.items().ok_or(NO_OVERLOAD)?),
        ("unwrapOpt", []) => unwrapped(items),
        ("join", []) => joined(items, ""),
        ("join", [Val::Text(by)]) => joined(items, by),
        _ => Err(NO_OVERLOAD.to_owned()),
    }
}

fn joined<'a>(items: &[Val<'a>], by: &str) -> Result<Val<'a>, String> {
    let mut texts = Vec::with_capacity(items.len());
    for item in items {
        match item {
            Val::Text(text) => texts.push(text.to_string()),
            _ => return Err(NO_OVERLOAD.to_owned()),
        }
    }
    Ok(Val::text(&texts.join(by)))
}

fn distinct<'a>(items: &[Val<'a>]) -> Vec<Val<'a>> {
    let mut out: Vec<Val<'a>> = Vec::new();
    for item in items {
        if !out.iter().any(|known| known.equals(item)) {
            out.push(item.clone());
        }
    }
    out
}

fn slice<'a>(items: &[Val<'a>], start: i64, end: i64) -> Result<Val<'a>, String> {
    let cannot = |why: String| Err(format!("cannot slice({start}, {end}), {why}"));
    let (Ok(from), Ok(to)) = (usize::try_from(start), usize::try_from(end)) else {
        return cannot("negative indexes not supported".to_owned());
    };
    if from > to {
        return cannot("start index must be less than or equal to end index".to_owned());
    }
    match items.get(from..to) {
        Some(part) => Ok(Val::list(part.to_vec())),
        None => cannot(format!("list is length {}", items.len())),
    }
}

fn flatten<'a>(items: &[Val<'a>], depth: i64) -> Result<Vec<Val<'a>>, String> {
    if depth < 0 {
        return Err("level must be non-negative".to_owned());
    }
    let mut out = Vec::with_capacity(items.len());
    for item in items {
        match item.items().filter(|_| depth > 0) {
            Some(inner) => out.extend(flatten(&inner, depth - 1)?),
            None => out.push(item.clone()),
        }
    }
    Ok(out)
}

/// Items in the order of their keys, which are all of one type that has an order.
fn sorted<'a>(items: &[Val<'a>], keys: &[Val<'a>]) -> Result<Val<'a>, String> {
    if items.len() != keys.len() {
        return Err(format!(
            "{SORT_BY}() expected a list of the same size as the associated keys list, but got {} and {} elements \
             respectively",
            items.len(),
            keys.len()
        ));
    }
    if let Some(first) = keys.first() {
        if first.order(first).is_none() {
            return Err("list elements must be comparable".to_owned());
        }
        if keys.iter().any(|key| key.type_name() != first.type_name()) {
            return Err("list elements must have the same type".to_owned());
        }
    }
    let mut pairs: Vec<(&Val<'a>, &Val<'a>)> = keys.iter().zip(items).collect();
    pairs.sort_by(|(a, _), (b, _)| a.order(b).unwrap_or(Ordering::Equal));
    Ok(Val::list(
        pairs.into_iter().map(|(_, item)| item.clone()).collect(),
    ))
}
