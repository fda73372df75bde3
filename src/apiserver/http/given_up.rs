//! What the server gives up, and why: connections, requests and answers that would cost it more than they are worth.

use std::error::Error;

use base::telemetry::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

/// Why something was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A handshake that was not completed in time, or not properly.
    Handshake,
    /// A connection that said nothing after its handshake.
    Silent,
    /// An HTTP/2 connection over which nothing was asked any more.
    Idle,
    /// A head that did not come in time.
    Header,
    /// A head that is too large.
    HeaderSize,
    /// A client that answers no pings.
    Vanished,
    /// A client that breaks the rules of HTTP/2, or stretches them too far.
    Protocol,
    /// An answer that nobody reads.
    Unread,
    /// An answer for which there was no room.
    Room,
    /// A watch more than one user may have, or all.
    Watches,
    /// A body that is too large.
    BodySize,
    /// A request that took too long.
    Timeout,
    /// A request that made the server panic.
    Panic,
}

impl Reason {
    fn name(self) -> &'static str {
        match self {
            Reason::Handshake => "handshake",
            Reason::Silent => "silent",
            Reason::Idle => "idle",
            Reason::Header => "header",
            Reason::HeaderSize => "header_size",
            Reason::Vanished => "vanished",
            Reason::Protocol => "protocol",
            Reason::Unread => "unread",
            Reason::Room => "room",
            Reason::Watches => "watches",
            Reason::BodySize => "body_size",
            Reason::Timeout => "timeout",
            Reason::Panic => "panic",
        }
    }

    /// Why a request was refused that was answered with that code.
    pub fn of_code(code: u16) -> Option<Self> {
        match code {
            413 => Some(Reason::BodySize),
            504 => Some(Reason::Timeout),
            _ => None,
        }
    }

    /// Why a connection ended; `None` when that was its client's affair.
    pub fn of_connection(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        let causes = std::iter::from_fn(move || {
            let this = next?;
            next = this.source();
            Some(this)
        });
        causes.filter_map(Self::of_cause).last()
    }

    fn of_cause(cause: &(dyn Error + 'static)) -> Option<Self> {
        if let Some(error) = cause.downcast_ref::<hyper::Error>() {
            return match error {
                // What took too long is a cause of its own, but for a head.
                error if error.is_timeout() && error.source().is_none() => Some(Reason::Header),
                error if error.is_timeout() => Some(Reason::Vanished),
                error if error.is_parse_too_large() => Some(Reason::HeaderSize),
                _ => None,
            };
        }
        if let Some(error) = cause.downcast_ref::<h2::Error>() {
            // What the other side ended is not given up here.
            return (error.is_library() && !error.is_io()).then_some(Reason::Protocol);
        }
        let error = cause.downcast_ref::<std::io::Error>()?;
        (error.kind() == std::io::ErrorKind::TimedOut).then_some(Reason::Unread)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Why {
    reason: &'static str,
}

/// Counts what is given up. Copies share it.
#[derive(Clone, Default)]
pub struct GivenUp(Family<Why, Counter>);

impl GivenUp {
    /// A counter that `/metrics` shows.
    pub fn new(metrics: &Metrics) -> Self {
        let family = metrics.add(
            "coracle_given_up",
            "Connections, requests and answers that were given up, by reason",
            Family::default(),
        );
        Self(family)
    }

    /// Something was given up.
    pub fn count(&self, reason: Reason) {
        let why = Why {
            reason: reason.name(),
        };
        self.0.get_or_create(&why).inc();
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn reasons_are_found_among_causes() {
        let of = |kind: io::ErrorKind| Reason::of_connection(&io::Error::from(kind));
        assert_eq!(of(io::ErrorKind::TimedOut), Some(Reason::Unread));
        assert_eq!(of(io::ErrorKind::ConnectionReset), None);
        let calm = h2::Error::from(h2::Reason::ENHANCE_YOUR_CALM);
        assert_eq!(Reason::of_connection(&calm), None, "the other side said so");
        assert_eq!(Reason::of_code(504), Some(Reason::Timeout));
        assert_eq!(Reason::of_code(404), None);
    }

    #[test]
    fn what_is_given_up_is_counted() {
        let metrics = Metrics::new();
        GivenUp::new(&metrics).count(Reason::Header);
        let text = metrics.encode();
        assert!(
            text.contains("coracle_given_up_total{reason=\"header\"} 1"),
            "{text}"
        );
    }
}
