//! Who must answer for an image before it may run here: the part `policy` of
//! the registries' settings. Pure, but for the files of keys, which are read
//! with the settings.
//!
//! ```yaml
//! policy:
//!   "*": {pulled: refuse}
//!   docker.io/library: {pulled: accept}
//!   registry.example.com/team:
//!     pulled: {keys: [/etc/coracle/team.pub]}
//!     trust_imports: false
//!     bundles: true
//! ```

mod bundle;
mod claim;
mod key;
#[cfg(test)]
pub(super) mod signers;
mod voucher;

use std::collections::BTreeMap;

use oci_spec::distribution::Reference;
use serde::Deserialize;

pub(super) use bundle::{BUNDLE, BUNDLE_BYTES_MAX, SIGNED};
pub(super) use claim::{Asked, PAYLOAD_BYTES_MAX};
use key::{Keys, PublicKey};
pub use voucher::Voucher;

use super::{ImageError, reference};

/// Rules by the beginning of images' names; the longest that fits counts, `*` where none does.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct Policy(BTreeMap<String, Rule>);

/// What images of some names must have.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    /// When they come from a registry.
    pulled: Pulled,
    /// Whether it suffices that somebody imported them by hand.
    #[serde(default = "yes")]
    trust_imports: bool,
    /// Whether signatures count that name no repository.
    #[serde(default)]
    bundles: bool,
}

/// Whose signatures count.
pub(super) struct Signers<'a> {
    pub(super) keys: Vec<&'a PublicKey>,
    /// Those in bundles as well.
    pub(super) bundles: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Pulled {
    /// Nothing.
    Accept,
    /// They do not come from a registry.
    Refuse,
    /// A signature by any of these.
    Keys(Vec<Keys>),
}

fn yes() -> bool {
    true
}

impl Policy {
    /// Finds what would never count: a pattern that is the beginning of no
    /// normalised name, a rule without a key.
    ///
    /// # Errors
    /// What it is, and what to write instead.
    pub(super) fn check(&self) -> Result<(), String> {
        for (pattern, rule) in &self.0 {
            if matches!(&rule.pulled, Pulled::Keys(keys) if keys.is_empty()) {
                return Err(format!(
                    "the policy for {pattern:?} has no keys: name one at least"
                ));
            }
            if pattern != "*" && !is_beginning(pattern) {
                return Err(format!(
                    "the policy's {pattern:?} begins no image's name: write HOST[:PORT] or HOST[:PORT]/PATH, \
                     without a tag (docker.io/library/busybox for busybox)"
                ));
            }
        }
        Ok(())
    }

    /// By whom what is pulled under that name must be signed; `None`: by nobody.
    ///
    /// # Errors
    /// [`ImageError::Untrusted`] when it may not be pulled at all.
    pub(super) fn signers(&self, name: &Reference) -> Result<Option<Signers<'_>>, ImageError> {
        let Some((pattern, rule)) = self.rule(name) else {
            return Ok(None);
        };
        match &rule.pulled {
            Pulled::Accept => Ok(None),
            Pulled::Keys(keys) => Ok(Some(Signers {
                keys: keys.iter().flat_map(Keys::all).collect(),
                bundles: rule.bundles,
            })),
            Pulled::Refuse => Err(refused(pattern)),
        }
    }

    /// Whether an image that these answer for may run under that name.
    ///
    /// # Errors
    /// [`ImageError::Untrusted`] when none of them suffices.
    pub(super) fn admits(&self, name: &Reference, vouchers: &[Voucher]) -> Result<(), ImageError> {
        let Some((pattern, rule)) = self.rule(name) else {
            return Ok(());
        };
        let missing = match &rule.pulled {
            Pulled::Accept => return Ok(()),
            Pulled::Refuse => refused(pattern),
            Pulled::Keys(_) => ImageError::Untrusted(format!(
                "no key of the policy for {pattern:?} is known to have signed the image that is on this machine"
            )),
        };
        if vouchers.iter().any(|voucher| rule.is_met_by(voucher, name)) {
            Ok(())
        } else {
            Err(missing)
        }
    }

    /// The rule for a name, and the pattern it stands under.
    fn rule(&self, name: &Reference) -> Option<(&str, &Rule)> {
        let repository = claim::repository(name);
        let beginnings = repository.rmatch_indices('/').map(|(at, _)| &repository[..at]);
        let mut patterns = std::iter::once(&repository[..]).chain(beginnings).chain(["*"]);
        patterns.find_map(|pattern| {
            self.0
                .get_key_value(pattern)
                .map(|(pattern, rule)| (&pattern[..], rule))
        })
    }
}

impl Rule {
    fn is_met_by(&self, voucher: &Voucher, name: &Reference) -> bool {
        match (voucher, &self.pulled) {
            (Voucher::Import { reference }, _) => self.trust_imports && *reference == name.whole(),
            (Voucher::Signature { key, identity }, Pulled::Keys(keys)) => {
                let mut known = keys.iter().flat_map(Keys::all);
                let is_named = match identity.as_str() {
                    "" => self.bundles,
                    identity => claim::is_of(identity, name),
                };
                is_named && known.any(|one| one.id() == key)
            }
            (Voucher::Signature { .. }, _) => false,
        }
    }
}

/// Whether normalised names can begin so, up to a `/`.
fn is_beginning(pattern: &str) -> bool {
    // Two more parts, since Docker Hub's names have two at least.
    let whole = format!("{pattern}/a/a");
    reference::parse(&whole).is_ok_and(|name| claim::repository(&name) == whole)
}

fn refused(pattern: &str) -> ImageError {
    ImageError::Untrusted(format!(
        "the policy for {pattern:?} refuses images from registries"
    ))
}

#[cfg(test)]
mod tests;
