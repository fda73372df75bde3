//! What of a cluster's keys ends, and when somebody should be told.

use super::terms::DAY;
use super::{Pki, Secret};

/// Leaves are made anew long before; one that comes as near as this could not be.
const LEAF_WARNING: i64 = 30 * DAY;
/// An authority is replaced by a person, who may be busy.
const AUTHORITY_WARNING: i64 = 180 * DAY;

/// Something that ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// What.
    pub name: &'static str,
    /// When, in seconds since 1970.
    pub ends: i64,
    /// Whether it is an authority, which is not made anew by itself.
    pub authority: bool,
}

impl Ending {
    /// What to tell an administrator at that time, if anything.
    pub fn alarm(&self, now: i64) -> Option<String> {
        let warning = if self.authority {
            AUTHORITY_WARNING
        } else {
            LEAF_WARNING
        };
        let (name, left) = (self.name, self.ends - now);
        if left > warning {
            return None;
        }
        let what = if self.authority { "" } else { " certificate" };
        let when = match left {
            ..=0 => "has ended".to_owned(),
            left => format!("ends in {} days", left / DAY),
        };
        let help = if self.authority {
            " (coracle trust --help)"
        } else {
            ""
        };
        Some(format!("{name}{what} {when}{help}"))
    }
}

impl Pki {
    /// The authorities that sign, and the certificates that this server has made for itself.
    pub fn endings(&self) -> Vec<Ending> {
        let keys = self.now();
        let authority = |secret: Secret| {
            let ends = keys.trust.active(secret)?.certificate_ends()?;
            Some(Ending {
                name: secret.name(),
                ends,
                authority: true,
            })
        };
        let known = self.leaves().clone();
        let leaves = known.into_iter().map(|(name, ends)| Ending {
            name,
            ends,
            authority: false,
        });
        Secret::ALL
            .into_iter()
            .filter_map(authority)
            .chain(leaves)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_in_time_and_not_sooner() {
        let leaf = |left: i64| Ending {
            name: "serving",
            ends: 1_000_000 + left,
            authority: false,
        };
        let alarm = |ending: Ending| ending.alarm(1_000_000);
        assert_eq!(alarm(leaf(31 * DAY)), None);
        assert_eq!(
            alarm(leaf(12 * DAY)).unwrap(),
            "serving certificate ends in 12 days"
        );
        assert_eq!(alarm(leaf(0)).unwrap(), "serving certificate has ended");
        let authority = |left| Ending {
            name: "client-ca",
            authority: true,
            ..leaf(left)
        };
        assert_eq!(alarm(authority(181 * DAY)), None);
        let said = alarm(authority(50 * DAY)).unwrap();
        assert_eq!(said, "client-ca ends in 50 days (coracle trust --help)");
    }
}
