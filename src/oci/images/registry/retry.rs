//! When to ask a registry again. Pure.

use std::time::Duration;

/// Tries of one request, the first included.
const TRIES_MAX: u32 = 4;
const PAUSE_FIRST: Duration = Duration::from_millis(500);
/// The longest pause within a pull that a registry may ask for; beyond that
/// the pod waits visibly, in its own back-off.
const PAUSE_ASKED_MAX: Duration = Duration::from_secs(60);

/// The pause before the next try, after `tries` failed; `None`: give up.
/// `asked` is the registry's `Retry-After`.
pub(super) fn pause(tries: u32, asked: Option<Duration>) -> Option<Duration> {
    if tries >= TRIES_MAX {
        return None;
    }
    let own = PAUSE_FIRST.saturating_mul(1 << tries.saturating_sub(1).min(8));
    match asked {
        Some(asked) if asked > PAUSE_ASKED_MAX => None,
        Some(asked) => Some(asked.max(own)),
        None => Some(own),
    }
}

/// Reads `Retry-After`: seconds, or an HTTP date seen from `now` (seconds since 1970).
pub(super) fn asked(header: &str, now: i64) -> Option<Duration> {
    if let Ok(seconds) = header.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(header.trim()).ok()?;
    let seconds = date.timestamp().as_second().saturating_sub(now);
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_end() {
        let pauses: Vec<Option<Duration>> = (1..=4).map(|tries| pause(tries, None)).collect();
        let millis = |n| Some(Duration::from_millis(n));
        assert_eq!(pauses, [millis(500), millis(1000), millis(2000), None]);
    }

    #[test]
    fn what_the_registry_asks_for_is_honoured_within_reason() {
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(pause(1, seconds(7)), seconds(7));
        assert_eq!(pause(1, seconds(0)), Some(PAUSE_FIRST));
        assert_eq!(pause(1, seconds(3600)), None);
        assert_eq!(asked("7", 0), seconds(7));
        assert_eq!(asked("Thu, 01 Jan 1970 00:01:40 GMT", 40), seconds(60));
        assert_eq!(asked("Thu, 01 Jan 1970 00:00:10 GMT", 40), None);
        assert_eq!(asked("soon", 0), None);
    }
}
