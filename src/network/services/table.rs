//! Who owns which frontend, and what changes when Services do. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddrV4;

use crate::catalog::ServiceKey;
use crate::plan::{Backends, Frontend};

/// What happens to one frontend. `None`: it is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Delta {
    pub frontend: Frontend,
    pub old: Option<Backends>,
    pub new: Option<Backends>,
}

impl Delta {
    /// Who answered for this frontend and does not any more.
    pub(super) fn departed(&self) -> impl Iterator<Item = SocketAddrV4> {
        let stays = |backend: &SocketAddrV4| self.new.as_ref().is_some_and(|new| new.contains(backend));
        self.old
            .iter()
            .flatten()
            .copied()
            .filter(move |backend| !stays(backend))
    }
}

/// All frontends of the cluster. If two Services claim the same one (an
/// external address, say), the first keeps it until it lets go.
#[derive(Debug, Default)]
pub(super) struct Table {
    frontends: BTreeMap<Frontend, (ServiceKey, Backends)>,
    by_service: HashMap<ServiceKey, Vec<Frontend>>,
    /// Services that did not get everything they claimed.
    waiting: BTreeSet<ServiceKey>,
}

impl Table {
    /// Everything there is, as if it had just come.
    pub(super) fn all(&self) -> Vec<Delta> {
        let one = |(frontend, (_, backends)): (&Frontend, &(ServiceKey, Backends))| Delta {
            frontend: *frontend,
            old: None,
            new: Some(backends.clone()),
        };
        self.frontends.iter().map(one).collect()
    }

    /// Services that should be planned again together with the next change.
    pub(super) fn waiting(&self) -> Vec<ServiceKey> {
        self.waiting.iter().cloned().collect()
    }

    /// Brings the table up to the plans of some Services; an empty plan is
    /// what a Service that went has.
    pub(super) fn update(&mut self, plans: Vec<(ServiceKey, Vec<(Frontend, Backends)>)>) -> Vec<Delta> {
        let mut deltas = BTreeMap::new();
        // Letting go comes first: an address may pass from one Service to
        // another within one round.
        for (key, plan) in &plans {
            self.release(key, plan, &mut deltas);
        }
        for (key, plan) in plans {
            self.claim(key, plan, &mut deltas);
        }
        let changed = |delta: &Delta| delta.old != delta.new;
        deltas.into_values().filter(changed).collect()
    }

    fn release(
        &mut self,
        key: &ServiceKey,
        plan: &[(Frontend, Backends)],
        deltas: &mut BTreeMap<Frontend, Delta>,
    ) {
        self.waiting.remove(key);
        for frontend in self.by_service.remove(key).unwrap_or_default() {
            if plan.iter().any(|(kept, _)| *kept == frontend) {
                continue;
            }
            if let Some((_, old)) = self.frontends.remove(&frontend) {
                deltas.insert(
                    frontend,
                    Delta {
                        frontend,
                        old: Some(old),
                        new: None,
                    },
                );
            }
        }
    }

    fn claim(
        &mut self,
        key: ServiceKey,
        plan: Vec<(Frontend, Backends)>,
        deltas: &mut BTreeMap<Frontend, Delta>,
    ) {
        let mut mine = Vec::new();
        for (frontend, new) in plan {
            let taken = self.frontends.get(&frontend);
            if let Some((other, _)) = taken.filter(|(other, _)| *other != key) {
                tracing::warn!(%frontend, holder = ?other, claimant = ?key, "two Services claim one address and port");
                self.waiting.insert(key.clone());
                continue;
            }
            let old = self
                .frontends
                .insert(frontend, (key.clone(), new.clone()))
                .map(|(_, old)| old);
            let delta = deltas.entry(frontend).or_insert(Delta {
                frontend,
                old,
                new: None,
            });
            delta.new = Some(new);
            mine.push(frontend);
        }
        if !mine.is_empty() {
            self.by_service.insert(key, mine);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Protocol;

    fn key(name: &str) -> ServiceKey {
        ServiceKey {
            namespace: "x".into(),
            name: name.into(),
        }
    }

    fn at(last: u8) -> Frontend {
        Frontend {
            address: Some([10, 43, 0, last].into()),
            protocol: Protocol::Tcp,
            port: 80,
        }
    }

    fn backends(last: &[u8]) -> Backends {
        last.iter()
            .map(|n| SocketAddrV4::new([10, 64, 0, *n].into(), 8080))
            .collect()
    }

    #[test]
    fn only_what_differs_is_told() {
        let mut table = Table::default();
        let plan = vec![(at(1), backends(&[2])), (at(2), backends(&[]))];
        assert_eq!(table.update(vec![(key("a"), plan.clone())]).len(), 2);
        assert!(table.update(vec![(key("a"), plan)]).is_empty());
        let deltas = table.update(vec![(key("a"), vec![(at(1), backends(&[2, 3]))])]);
        let expected = [
            Delta {
                frontend: at(1),
                old: Some(backends(&[2])),
                new: Some(backends(&[2, 3])),
            },
            Delta {
                frontend: at(2),
                old: Some(backends(&[])),
                new: None,
            },
        ];
        assert_eq!(deltas, expected);
        assert_eq!(table.all().len(), 1);
    }

    #[test]
    fn an_address_passes_on_in_one_round_whatever_the_order() {
        let mut table = Table::default();
        table.update(vec![(key("a"), vec![(at(1), backends(&[2]))])]);
        let deltas = table.update(vec![
            (key("b"), vec![(at(1), backends(&[3]))]),
            (key("a"), vec![]),
        ]);
        let passed = Delta {
            frontend: at(1),
            old: Some(backends(&[2])),
            new: Some(backends(&[3])),
        };
        assert_eq!(deltas, [passed]);
        assert!(table.waiting().is_empty());
    }

    #[test]
    fn the_second_claimant_waits() {
        let mut table = Table::default();
        table.update(vec![(key("a"), vec![(at(1), backends(&[2]))])]);
        assert!(
            table
                .update(vec![(key("b"), vec![(at(1), backends(&[3]))])])
                .is_empty()
        );
        assert_eq!(table.waiting(), [key("b")]);
        let plans = vec![(key("a"), vec![]), (key("b"), vec![(at(1), backends(&[3]))])];
        assert_eq!(table.update(plans)[0].new, Some(backends(&[3])));
        assert!(table.waiting().is_empty());
    }
}
