//! Text, times, and conversions between types.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{LazyLock, Mutex, PoisonError};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::budget::EXCEEDED;
use super::val::Val;
use crate::go;

const NO_OVERLOAD: &str = "no such overload";
/// Longest text that a function may make, bytes.
const MADE_MAX: usize = 1024 * 1024;

/// Patterns that are remembered; a rule that is asked often would else compile its own again and again.
const PATTERNS_MAX: usize = 256;

static PATTERNS: LazyLock<Mutex<HashMap<String, regex::Regex>>> = LazyLock::new(Mutex::default);

/// Whether a pattern is remembered, so that using it costs no compiling.
pub fn is_known(text: &str) -> bool {
    let known = PATTERNS.lock().unwrap_or_else(PoisonError::into_inner);
    known.contains_key(text)
}

/// A pattern, compiled with a bound on what it may take.
///
/// # Errors
/// What is wrong with it.
pub fn pattern(text: &str) -> Result<regex::Regex, String> {
    let mut known = PATTERNS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(regex) = known.get(text) {
        return Ok(regex.clone());
    }
    let built = regex::RegexBuilder::new(text).size_limit(1 << 18).build();
    let built = built.map_err(|error| format!("error parsing regexp: {error}"))?;
    if known.len() >= PATTERNS_MAX {
        known.clear();
    }
    known.insert(text.to_owned(), built.clone());
    Ok(built)
}

/// A value as `string()` and error texts show it.
pub fn show(value: &Val<'_>) -> String {
    match value {
        Val::Text(text) | Val::Url(text) => text.to_string(),
        Val::Bool(flag) => flag.to_string(),
        Val::Int(n) => n.to_string(),
        Val::Uint(n) => n.to_string(),
        Val::Double(n) => n.to_string(),
        Val::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Val::Null => "null".to_owned(),
        Val::Time(at) => at.to_string(),
        Val::Duration(span) => show_duration(*span),
        Val::Type(name) => (*name).to_owned(),
        Val::Quantity(quantity) => quantity.to_string(),
        Val::Semver(version) => version.to_string(),
        Val::Format(name) => (*name).to_owned(),
        Val::Ip(ip) => ip.to_string(),
        Val::Cidr(ip, bits) => format!("{ip}/{bits}"),
        Val::Optional(None) => "optional.none()".to_owned(),
        Val::Optional(Some(inner)) => format!("optional({})", show(inner)),
        other => show_parts(other),
    }
}

fn show_parts(value: &Val<'_>) -> String {
    if let Some(items) = value.items() {
        return format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", "));
    }
    let entries = value.entries().unwrap_or_default();
    let pair = |(key, value): &(Val<'_>, Val<'_>)| format!("{}: {}", show(key), show(value));
    format!("{{{}}}", entries.iter().map(pair).collect::<Vec<_>>().join(", "))
}

/// Seconds, as CEL writes a duration.
fn show_duration(span: SignedDuration) -> String {
    let text = format!("{}.{:09}", span.as_secs(), span.subsec_nanos().abs());
    format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
}

/// `int(x)` and its like.
pub fn convert<'a>(to: &str, value: &Val<'a>) -> Result<Val<'a>, String> {
    let out_of_range = || format!("{to} overflow");
    Ok(match (to, value) {
        ("int", Val::Int(_))
        | ("uint", Val::Uint(_))
        | ("double", Val::Double(_))
        | ("bool", Val::Bool(_)) => value.clone(),
        ("bytes", Val::Bytes(_)) | ("duration", Val::Duration(_)) | ("timestamp", Val::Time(_)) => {
            value.clone()
        }
        ("int", Val::Uint(n)) => Val::Int(i64::try_from(*n).map_err(|_| "integer overflow".to_owned())?),
        ("int", Val::Double(n)) if n.abs() < 9.2e18 => Val::Int(*n as i64),
        ("int", Val::Text(text)) => Val::Int(text.parse().map_err(|_| out_of_range())?),
        ("int", Val::Time(at)) => Val::Int(at.as_second()),
        ("uint", Val::Int(n)) => {
            Val::Uint(u64::try_from(*n).map_err(|_| "unsigned integer overflow".to_owned())?)
        }
        ("uint", Val::Double(n)) if *n >= 0.0 && *n < 1.8e19 => Val::Uint(*n as u64),
        ("uint", Val::Text(text)) => Val::Uint(text.parse().map_err(|_| out_of_range())?),
        ("double", Val::Int(n)) => Val::Double(*n as f64),
        ("double", Val::Uint(n)) => Val::Double(*n as f64),
        ("double", Val::Text(text)) => Val::Double(text.parse().map_err(|_| out_of_range())?),
        ("bool", Val::Text(text)) => match &**text {
            "true" | "True" | "TRUE" | "t" | "1" => Val::Bool(true),
            "false" | "False" | "FALSE" | "f" | "0" => Val::Bool(false),
            _ => return Err(format!("type conversion error from 'string' to 'bool': {text}")),
        },
        ("bytes", Val::Text(text)) => Val::Bytes(Rc::from(text.as_bytes())),
        ("duration", Val::Text(text)) => {
            Val::Duration(go::parse_signed(text).ok_or(format!("time: invalid duration {text:?}"))?)
        }
        ("timestamp", Val::Text(text)) => {
            Val::Time(text.parse().map_err(|_| format!("invalid timestamp {text:?}"))?)
        }
        ("timestamp", Val::Int(n)) => Val::Time(Timestamp::from_second(*n).map_err(|_| out_of_range())?),
        ("string", Val::Bytes(bytes)) => {
            Val::text(std::str::from_utf8(bytes).map_err(|_| "invalid UTF-8 in bytes".to_owned())?)
        }
        ("string", Val::Null | Val::List(_) | Val::Map(_) | Val::Json(..)) => {
            return Err(NO_OVERLOAD.to_owned());
        }
        ("string", other) => Val::text(&show(other)),
        _ => return Err(NO_OVERLOAD.to_owned()),
    })
}

/// A method of a text.
pub fn method<'a>(text: &Rc<str>, name: &str, args: &[Val<'a>]) -> Result<Val<'a>, String> {
    Ok(match (name, args) {
        ("contains", [Val::Text(part)]) => Val::Bool(text.contains(&**part)),
        ("startsWith", [Val::Text(part)]) => Val::Bool(text.starts_with(&**part)),
        ("endsWith", [Val::Text(part)]) => Val::Bool(text.ends_with(&**part)),
        ("matches", [Val::Text(regex)]) => Val::Bool(pattern(regex)?.is_match(text)),
        ("find", [Val::Text(regex)]) => Val::text(pattern(regex)?.find(text).map_or("", |m| m.as_str())),
        ("findAll", [Val::Text(regex)]) => found(text, regex, -1)?,
        ("findAll", [Val::Text(regex), Val::Int(max)]) => found(text, regex, *max)?,
        ("lowerAscii", []) => Val::text(&text.to_ascii_lowercase()),
        ("upperAscii", []) => Val::text(&text.to_ascii_uppercase()),
        ("trim", []) => Val::text(text.trim()),
        ("charAt", [Val::Int(at)]) => Val::text(&slice(
            text,
            *at,
            Some(at.saturating_add(1)).filter(|_| *at < chars(text)),
        )?),
        ("substring", [Val::Int(from)]) => Val::text(&slice(text, *from, None)?),
        ("substring", [Val::Int(from), Val::Int(to)]) => Val::text(&slice(text, *from, Some(*to))?),
        ("indexOf", [Val::Text(part)]) => Val::Int(place(text, part, 0)),
        ("indexOf", [Val::Text(part), Val::Int(from)]) => Val::Int(place(
            text,
            part,
            usize::try_from(*from).map_err(|_| bounds(*from))?,
        )),
        ("lastIndexOf", [Val::Text(part)]) => Val::Int(
            text.rfind(&**part)
                .map_or(-1, |at| chars(text.get(..at).unwrap_or(""))),
        ),
        ("replace", [Val::Text(from), Val::Text(to)]) => replaced(text, from, to, usize::MAX)?,
        ("replace", [Val::Text(from), Val::Text(to), Val::Int(max)]) => {
            replaced(text, from, to, usize::try_from(*max).unwrap_or(usize::MAX))?
        }
        ("split", [Val::Text(by)]) => split(text, by, usize::MAX),
        ("split", [Val::Text(by), Val::Int(max)]) => {
            split(text, by, usize::try_from(*max).unwrap_or(usize::MAX))
        }
        ("format", [values]) => Val::text(&format(text, &values.items().ok_or(NO_OVERLOAD)?)?),
        _ => return Err(NO_OVERLOAD.to_owned()),
    })
}

fn chars(text: &str) -> i64 {
    i64::try_from(text.chars().count()).unwrap_or(i64::MAX)
}

fn bounds(at: i64) -> String {
    format!("index out of range: {at}")
}

fn found<'a>(text: &str, regex: &str, max: i64) -> Result<Val<'a>, String> {
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    let regex = pattern(regex)?;
    Ok(Val::list(
        regex
            .find_iter(text)
            .take(max)
            .map(|m| Val::text(m.as_str()))
            .collect(),
    ))
}

/// Characters from one place up to another.
fn slice(text: &str, from: i64, to: Option<i64>) -> Result<String, String> {
    let length = chars(text);
    let to = to.unwrap_or(length);
    if from < 0 || from > length {
        return Err(bounds(from));
    }
    if to < from || to > length {
        return Err(bounds(to));
    }
    Ok(text
        .chars()
        .skip(from as usize)
        .take((to - from) as usize)
        .collect())
}

fn place(text: &str, part: &str, from: usize) -> i64 {
    let start = text.char_indices().nth(from).map_or(text.len(), |(at, _)| at);
    let rest = text.get(start..).unwrap_or_default();
    match rest.find(part) {
        Some(at) => chars(text.get(..start + at).unwrap_or_default()),
        None => -1,
    }
}

fn replaced<'a>(text: &str, from: &str, to: &str, max: usize) -> Result<Val<'a>, String> {
    let count = text.matches(from).count().min(max);
    if text.len().saturating_add(count.saturating_mul(to.len())) > MADE_MAX {
        return Err(EXCEEDED.to_owned());
    }
    Ok(Val::text(&text.replacen(from, to, max)))
}

fn split<'a>(text: &str, by: &str, max: usize) -> Val<'a> {
    let parts: Vec<Val<'a>> = match (max, by) {
        (0, _) => Vec::new(),
        (_, "") => text
            .chars()
            .take(max)
            .map(|c| Val::text(&c.to_string()))
            .collect(),
        _ => text.splitn(max, by).map(Val::text).collect(),
    };
    Val::list(parts)
}

/// `"%s and %d".format([…])`.
fn format(text: &str, values: &[Val<'_>]) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut values = values.iter();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut precision = None;
        if rest.next_if_eq(&'.').is_some() {
            let mut digits = String::new();
            while let Some(digit) = rest.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            precision = digits.parse::<usize>().ok().filter(|n| *n <= 1000);
        }
        let verb = rest.next().ok_or("unexpected end of format string")?;
        if verb == '%' {
            out.push('%');
            continue;
        }
        let value = values.next().ok_or("index out of range in format")?;
        out.push_str(&formatted(verb, precision, value)?);
        if out.len() > MADE_MAX {
            return Err(EXCEEDED.to_owned());
        }
    }
    Ok(out)
}

fn formatted(verb: char, precision: Option<usize>, value: &Val<'_>) -> Result<String, String> {
    let number = match value {
        Val::Int(n) => Some(*n as f64),
        Val::Uint(n) => Some(*n as f64),
        Val::Double(n) => Some(*n),
        _ => None,
    };
    Ok(match (verb, value) {
        ('s', _) => show(value),
        ('d', Val::Int(_) | Val::Uint(_)) => show(value),
        ('b', Val::Int(n)) => format!("{n:b}"),
        ('b', Val::Bool(flag)) => u8::from(*flag).to_string(),
        ('o', Val::Int(n)) => format!("{n:o}"),
        ('x', Val::Int(n)) => format!("{n:x}"),
        ('X', Val::Int(n)) => format!("{n:X}"),
        ('x', Val::Text(text)) => text.bytes().map(|b| format!("{b:02x}")).collect(),
        ('f', _) => format!("{:.*}", precision.unwrap_or(6), number.ok_or(NO_OVERLOAD)?),
        ('e', _) => format!("{:.*e}", precision.unwrap_or(6), number.ok_or(NO_OVERLOAD)?),
        _ => return Err(format!("unrecognized formatting clause \"{verb}\"")),
    })
}

/// A part of a point in time, in UTC or the zone that is named.
pub fn time_part<'a>(at: Timestamp, name: &str, args: &[Val<'a>]) -> Result<Val<'a>, String> {
    let zone = match args {
        [] => TimeZone::UTC,
        [Val::Text(zone)] => self::zone(zone).ok_or_else(|| format!("unknown time zone {zone}"))?,
        _ => return Err(NO_OVERLOAD.to_owned()),
    };
    let at = at.to_zoned(zone);
    Ok(Val::Int(match name {
        "getFullYear" => i64::from(at.year()),
        "getMonth" => i64::from(at.month()) - 1,
        "getDate" => i64::from(at.day()),
        "getDayOfMonth" => i64::from(at.day()) - 1,
        "getDayOfWeek" => i64::from(at.weekday().to_sunday_zero_offset()),
        "getDayOfYear" => i64::from(at.day_of_year()) - 1,
        "getHours" => i64::from(at.hour()),
        "getMinutes" => i64::from(at.minute()),
        "getSeconds" => i64::from(at.second()),
        "getMilliseconds" => i64::from(at.millisecond()),
        _ => return Err(NO_OVERLOAD.to_owned()),
    }))
}

/// A zone by name, or by its distance from UTC such as `+02:00`.
fn zone(text: &str) -> Option<TimeZone> {
    if text == "UTC" || text == "Z" {
        return Some(TimeZone::UTC);
    }
    let Some((hours, minutes)) = text.split_once(':') else {
        return TimeZone::get(text).ok();
    };
    let sign = if hours.starts_with('-') { -1 } else { 1 };
    let hours: i32 = hours.trim_start_matches(['+', '-']).parse().ok()?;
    let minutes: i32 = minutes.parse().ok()?;
    let seconds = sign * hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?;
    jiff::tz::Offset::from_seconds(seconds).ok().map(TimeZone::fixed)
}

/// A span of time in one unit.
pub fn duration_part<'a>(span: SignedDuration, name: &str) -> Result<Val<'a>, String> {
    Ok(Val::Int(match name {
        "getHours" => span.as_hours(),
        "getMinutes" => span.as_mins(),
        "getSeconds" => span.as_secs(),
        "getMilliseconds" => i64::try_from(span.as_millis()).unwrap_or(i64::MAX),
        _ => return Err(NO_OVERLOAD.to_owned()),
    }))
}
