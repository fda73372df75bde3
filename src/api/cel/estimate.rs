//! The most that an expression can cost, in cel-go's units (cel-go `checker/cost.go`, apiserver `cel/library`).

use std::ops::Add;

use super::authority;
use super::expr::How;
use super::lists;
use super::types::{Type, text_length};

/// A cost, never more than its type can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost(pub u64);

/// What is written down costs nothing.
pub const NOTHING: Cost = Cost(0);
/// Looking up a name, a field or an item; most functions cost the same.
pub const LOOK: Cost = Cost(1);
/// Making a list.
pub const LIST: Cost = Cost(10);
/// Making a map.
pub const MAP: Cost = Cost(30);

impl Add for Cost {
    type Output = Cost;

    fn add(self, other: Cost) -> Cost {
        Cost(self.0.saturating_add(other.0))
    }
}

impl Cost {
    /// This cost so many times.
    pub fn times(self, count: u64) -> Cost {
        Cost(self.0.saturating_mul(count))
    }
}

/// A tenth of a unit for each character.
fn tenth(size: u64) -> Cost {
    Cost(size.div_ceil(10))
}

/// What a macro costs beyond its range; `count` is the most members that the range has.
pub fn each(how: How, count: u64, filter: Option<Cost>, body: Cost) -> Cost {
    let append = LOOK + LOOK + LIST;
    let (start, step, end) = match how {
        How::All => (NOTHING, Cost(2) + LOOK + body, LOOK),
        How::Exists => (NOTHING, Cost(3) + LOOK + body, LOOK),
        How::ExistsOne => (NOTHING, body + Cost(2), Cost(2)),
        How::Filter => (LIST, body + append + LOOK, LOOK),
        How::Map => (LIST, filter.unwrap_or(NOTHING) + append + body, LOOK),
        How::TransformMap => (MAP, filter.unwrap_or(NOTHING) + LOOK + LOOK + MAP + body, LOOK),
    };
    start + step.times(count) + end
}

/// What a list costs that a call makes, with so much work, and how large it may be.
fn listing(work: u64, size: u64) -> (Cost, Option<u64>) {
    (Cost(work) + LOOK + LIST, Some(size))
}

/// What it costs at worst to compare every item of a list with every other, and the size that cel-go gives the result.
fn comparing(list: Option<&Type<'_>>) -> (Cost, Option<u64>) {
    let size = list.map_or(0, Type::extent);
    let square = size.saturating_mul(size);
    let letters = match list {
        Some(Type::List(of, _)) if matches!(**of, Type::Text(_) | Type::Bytes(_)) => square.div_ceil(10),
        _ => 0,
    };
    listing(square.saturating_mul(2).saturating_add(letters), square)
}

/// What it costs to compare each item of a list with one other.
fn comparing_once(list: Option<&Type<'_>>) -> Cost {
    let each = match list {
        Some(Type::List(of, _)) => match &**of {
            Type::Text(max) | Type::Bytes(max) => LOOK + tenth(*max),
            _ => LOOK,
        },
        _ => LOOK,
    };
    each.times(list.map_or(0, Type::extent))
}

/// What a call costs beyond its arguments, and how large its result may be where that follows from them. `numbers` are
/// those of the arguments that are numbers written down.
pub fn call(name: &str, args: &[Type<'_>], numbers: &[Option<u64>]) -> (Cost, Option<u64>) {
    let number = |i: usize| numbers.get(i).copied().flatten();
    let size = |i: usize| args.get(i).map_or(0, Type::extent);
    let (first, second) = (size(0), size(1));
    match name {
        "check" => (Cost(authority::CHECK_COST as u64), None),
        "==" | "!=" | "<" | "<=" | ">" | ">=" => (tenth(first.min(second)), None),
        "in" => (
            if matches!(args.get(1), Some(Type::Map(..))) {
                LOOK
            } else {
                Cost(second)
            },
            None,
        ),
        "+" if matches!(args, [Type::Text(_) | Type::Bytes(_), _]) => {
            let sum = first.saturating_add(second);
            (tenth(sum), Some(sum))
        }
        "+" if matches!(args, [Type::List(..), _]) => (LOOK, Some(first.saturating_add(second))),
        "startsWith" | "endsWith" => (tenth(second), None),
        "contains" => (tenth(first).times(tenth(second).0), None),
        "matches" | "find" | "findAll" => {
            let pattern = Cost(second.div_ceil(4));
            (tenth(first.saturating_add(1)).times(pattern.0), Some(first))
        }
        "isSorted" | "sum" | "min" | "max" => (comparing_once(args.first()), None),
        "indexOf" | "lastIndexOf" if matches!(args, [Type::List(..), ..]) => {
            (comparing_once(args.first()), None)
        }
        "slice" => {
            let size = number(2).unwrap_or(first).saturating_sub(number(1).unwrap_or(0));
            listing(size, size)
        }
        "lists.range" => {
            let size = number(0).unwrap_or(super::types::UNBOUNDED);
            listing(size, size)
        }
        "reverse" => listing(first, first),
        "flatten" => {
            let once = if args.len() > 1 {
                super::types::UNBOUNDED
            } else {
                1
            };
            listing(first.saturating_mul(number(1).unwrap_or(once)), first)
        }
        "distinct" => {
            let square = first.saturating_mul(first);
            listing(square.saturating_mul(2), square)
        }
        "sort" => comparing(args.first()),
        lists::SORT_BY => comparing(args.get(1)),
        "sets.contains" | "sets.equivalent" | "sets.intersects" => (Cost(first.saturating_mul(second)), None),
        "replace" => {
            let third = size(2);
            // At worst every character becomes the other text.
            let grown = first.saturating_mul(third.max(1));
            (tenth(first), Some(grown))
        }
        "split" => (tenth(first), Some(first)),
        "join" => {
            let of = match args.first() {
                Some(Type::List(of, _)) => text_length(of),
                _ => super::types::UNBOUNDED,
            };
            let sum = first.saturating_mul(of.saturating_add(second));
            (tenth(sum), Some(sum))
        }
        "lowerAscii" | "upperAscii" | "trim" | "substring" | "jsonpatch.escapeKey" => {
            (tenth(first), Some(first))
        }
        "charAt" => (tenth(first), Some(1)),
        "indexOf" | "lastIndexOf" | "format" => (tenth(first), None),
        "string" => (tenth(first), args.first().map(text_length)),
        "bytes" => (tenth(first), Some(first.saturating_mul(4))),
        "quantity" | "isQuantity" | "url" | "isURL" | "ip" | "isIP" | "cidr" | "isCIDR"
        | "ip.isCanonical" | "semver" | "isSemver" => (tenth(first), None),
        "validate" => (tenth(second), None),
        _ => (LOOK, None),
    }
}
