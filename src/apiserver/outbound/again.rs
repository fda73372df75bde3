//! Which failures are worth another attempt, and when (client-go's `DefaultShouldRetry` and the API server's default
//! back-off for webhooks that authenticate and authorise). Pure.

use std::time::Duration;

use base::Random;

/// Attempts in all.
const ATTEMPTS: usize = 5;
/// Before the second.
const FIRST: Duration = Duration::from_millis(500);
/// Each pause is that many times the one before.
const FACTOR: f64 = 1.5;
/// And up to this part of itself longer, so that many who failed together do not come back together.
const JITTER: f64 = 0.2;

/// Why somebody was not asked, or did not answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Failed {
    /// In the words of Go's client.
    pub why: String,
    /// Whether it may be otherwise in a moment.
    pub may_pass: bool,
}

impl Failed {
    /// A connection that was not made, or broke.
    pub fn on_the_way(why: String) -> Self {
        let may_pass = why.contains("onnection reset");
        Self { why, may_pass }
    }

    /// An answer with that code.
    pub fn with_code(code: u16, why: String) -> Self {
        Self {
            why,
            may_pass: matches!(code, 429 | 500 | 504),
        }
    }
}

/// The pauses between attempts.
pub fn pauses(random: &dyn Random) -> impl Iterator<Item = Duration> + Send + use<> {
    let jitter: Vec<f64> = (1..ATTEMPTS)
        .map(|_| random.below(1000) as f64 / 1000.0 * JITTER)
        .collect();
    jitter.into_iter().enumerate().map(|(nth, jitter)| {
        let factor = FACTOR.powi(i32::try_from(nth).unwrap_or_default());
        FIRST.mul_f64(factor * (1.0 + jitter))
    })
}

#[cfg(test)]
mod tests {
    use base::SeededRandom;

    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let all: Vec<Duration> = pauses(&SeededRandom::new(7)).collect();
        assert_eq!(all.len(), 4);
        for (pause, least) in all.iter().zip([500, 750, 1125, 1687]) {
            let least = Duration::from_millis(least);
            assert!(*pause >= least && *pause <= least.mul_f64(1.21), "{all:?}");
        }
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        let code = |code| Failed::with_code(code, String::new()).may_pass;
        assert!(code(500) && code(429) && code(504));
        assert!(!code(400) && !code(403) && !code(503));
        let way = |why: &str| Failed::on_the_way(why.to_owned()).may_pass;
        assert!(way("Post \"https://a\": read: connection reset by peer"));
        assert!(
            !way("dial tcp 127.0.0.1:1: connect: connection refused") && !way("context deadline exceeded")
        );
    }
}
