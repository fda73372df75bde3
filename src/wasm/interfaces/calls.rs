//! What a store has of other programs: an instance of each that it has called.

use super::exporter::{Exporter, Partner};
use std::collections::HashMap;
use std::sync::Arc;

/// What a store knows of the calls that it is part of.
#[derive(Default)]
pub(crate) struct Calls {
    /// Calls between programs that have led here.
    pub(super) depth: u32,
    /// Instances of other programs that this one has called, which go with it.
    partners: HashMap<String, (u64, Partner)>,
    /// How many there have been.
    met: u64,
}

/// The instance that answers a call, if there is one already, and its number.
pub(super) struct Meeting {
    pub(super) number: u64,
    pub(super) partner: Option<Partner>,
}

impl Calls {
    /// The instance of that run of a program's. One of an earlier run is given up.
    pub(super) fn meet(&mut self, provider: &str, running: &Arc<dyn Exporter>) -> Meeting {
        match self.partners.remove(provider) {
            Some((number, partner)) if partner.is_of(running) => Meeting {
                number,
                partner: Some(partner),
            },
            _ => {
                self.met += 1;
                Meeting {
                    number: self.met,
                    partner: None,
                }
            }
        }
    }

    /// Keeps an instance for the next call.
    pub(super) fn keep(&mut self, provider: &str, number: u64, partner: Option<Partner>) {
        if let Some(partner) = partner {
            self.partners.insert(provider.to_owned(), (number, partner));
        }
    }

    /// The instance of that number, if it is still there.
    pub(super) fn part(&mut self, provider: &str, number: u64) -> Option<Partner> {
        let is_it = self
            .partners
            .get(provider)
            .is_some_and(|(known, _)| *known == number);
        let partner = is_it.then(|| self.partners.remove(provider)).flatten();
        partner.map(|(_, partner)| partner)
    }
}
