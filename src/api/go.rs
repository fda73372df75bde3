//! How Go writes what Kubernetes' clients send and read: durations, and several errors in one text.

use std::time::Duration;

use jiff::SignedDuration;

/// Units of durations and their nanoseconds; the two letters for "micro" look alike, and Go reads both.
const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// A duration as Go prints it: `1h2m3.5s`, `1.5ms`, `0s`.
pub fn duration(of: Duration) -> String {
    nanoseconds(i64::try_from(of.as_nanos()).unwrap_or(i64::MAX))
}

/// The same to the millisecond; what is less is left out.
pub fn duration_in_milliseconds(of: Duration) -> String {
    duration(of - Duration::from_nanos(u64::from(of.subsec_nanos() % 1_000_000)))
}

/// The same of so many nanoseconds, which may be negative.
pub fn nanoseconds(nanos: i64) -> String {
    let (sign, total) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    let decimal = |whole: u64, part: u64, digits: usize| {
        let text = format!("{whole}.{part:0digits$}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    if total == 0 {
        return "0s".to_owned();
    }
    if total < 1_000 {
        return format!("{sign}{total}ns");
    }
    if total < 1_000_000 {
        return format!("{sign}{}µs", decimal(total / 1_000, total % 1_000, 3));
    }
    if total < 1_000_000_000 {
        return format!("{sign}{}ms", decimal(total / 1_000_000, total % 1_000_000, 6));
    }
    let (seconds, part) = (total / 1_000_000_000, total % 1_000_000_000);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let seconds = decimal(seconds % 60, part, 9);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, _) => format!("{sign}{minutes}m{seconds}s"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// A duration as Go reads it, such as `1h30m`; it may be negative.
pub fn parse_signed(text: &str) -> Option<SignedDuration> {
    parse_nanoseconds(text).map(SignedDuration::from_nanos)
}

/// The nanoseconds of a text that Go's `time.ParseDuration` takes: `1h30m`, `-1.5s`, `0`.
pub fn parse_nanoseconds(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos = 0i64;
    while !rest.is_empty() {
        let (part, more) = parse_part(rest)?;
        nanos = nanos.checked_add(part)?;
        rest = more;
    }
    Some(if negative { -nanos } else { nanos })
}

/// A number with its unit, in nanoseconds, and what follows it.
fn parse_part(text: &str) -> Option<(i64, &str)> {
    let of_number = |c: char| c.is_ascii_digit() || c == '.';
    let (number, after) = text.split_at(text.find(|c| !of_number(c))?);
    let (unit, more) = after.split_at(after.find(of_number).unwrap_or(after.len()));
    let (_, scale) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && part.is_empty() {
        return None;
    }
    let whole: i64 = match whole {
        "" => 0,
        digits => digits.parse().ok()?,
    };
    let part: f64 = match part {
        "" => 0.0,
        // A second point is refused here.
        digits => format!("0.{digits}").parse().ok()?,
    };
    let nanos = whole
        .checked_mul(scale)?
        .checked_add((part * scale as f64) as i64)?;
    Some((nanos, more))
}

/// A duration of such a text that is not negative.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let nanos = parse_nanoseconds(text)?;
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

/// Several errors in one text; one alone as it is.
pub fn aggregate(errors: &[impl AsRef<str>]) -> String {
    match errors {
        [one] => one.as_ref().to_owned(),
        many => {
            let many: Vec<&str> = many.iter().map(AsRef::as_ref).collect();
            format!("[{}]", many.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_go_writes_them() {
        for (milliseconds, text) in [
            (0, "0s"),
            (100, "100ms"),
            (2_500, "2.5s"),
            (10_000, "10s"),
            (61_500, "1m1.5s"),
            (80_000, "1m20s"),
            (300_000, "5m0s"),
            (3_601_000, "1h0m1s"),
        ] {
            let of = Duration::from_millis(milliseconds);
            assert_eq!(duration(of), text);
            assert_eq!(parse_duration(text), Some(of));
        }
        assert_eq!(
            duration_in_milliseconds(Duration::from_micros(1_234_567)),
            "1.234s"
        );
        for (nanos, text) in [
            (-1_500, "-1.5µs"),
            (999, "999ns"),
            (i64::MAX, "2562047h47m16.854775807s"),
        ] {
            assert_eq!(nanoseconds(nanos), text);
            assert_eq!(parse_nanoseconds(text), Some(nanos));
        }
    }

    #[test]
    fn durations_are_taken_as_go_takes_them() {
        for (text, nanos) in [
            ("0", 0),
            ("+5s", 5_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("1m1m", 120_000_000_000),
            ("2us3µs4μs", 9_000),
        ] {
            assert_eq!(parse_nanoseconds(text), Some(nanos), "{text}");
        }
        for text in [
            "",
            "-",
            "1",
            "s",
            ".s",
            "1.2.3s",
            "1d",
            "1 s",
            "1sec",
            "99999999999h",
            "é",
            "1sé",
        ] {
            assert_eq!(parse_nanoseconds(text), None, "{text}");
        }
        assert_eq!(parse_duration("-1s"), None);
    }

    #[test]
    fn several_errors_are_one_text() {
        assert_eq!(aggregate(&["one"]), "one");
        assert_eq!(aggregate(&["one".to_owned(), "two".to_owned()]), "[one, two]");
    }
}
