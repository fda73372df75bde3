//! Who owns which frontend, and what changes when Services do. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::SocketAddr;

use crate::catalog::ServiceKey;
use crate::plan::{Clients, Frontend, Group};

/// For whom a frontend is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Owner {
    /// A Service.
    Service(ServiceKey),
    /// A pod with host ports, by its uid.
    Pod(String),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Service(key) => write!(f, "service {}/{}", key.namespace, key.name),
            Owner::Pod(uid) => write!(f, "pod {uid}"),
        }
    }
}

/// What happens to one frontend. `None`: it is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Delta {
    pub frontend: Frontend,
    pub old: Option<Group>,
    pub new: Option<Group>,
}

/// All frontends of the cluster. If two owners claim the same one (an external
/// address, say), the first keeps it until it lets go.
#[derive(Debug, Default)]
pub(super) struct Table {
    frontends: BTreeMap<Frontend, (Owner, Group)>,
    by_owner: HashMap<Owner, Vec<Frontend>>,
    /// Owners that did not get everything they claimed.
    waiting: BTreeSet<Owner>,
}

impl Table {
    /// Everything there is, as if it had just come.
    pub(super) fn all(&self) -> Vec<Delta> {
        let one = |(frontend, (_, group)): (&Frontend, &(Owner, Group))| Delta {
            frontend: *frontend,
            old: None,
            new: Some(group.clone()),
        };
        self.frontends.iter().map(one).collect()
    }

    /// Owners that should be planned again together with the next change.
    pub(super) fn waiting(&self) -> Vec<Owner> {
        self.waiting.iter().cloned().collect()
    }

    /// Everybody who may answer at an address and port, whoever asks.
    pub(super) fn backends(&self, frontend: Frontend) -> impl Iterator<Item = SocketAddr> {
        [Clients::All, Clients::Inside]
            .into_iter()
            .filter_map(move |clients| self.frontends.get(&frontend.with(clients)))
            .flat_map(|(_, group)| group.backends.iter().copied())
    }

    /// Brings the table up to the plans of some owners; an empty plan is what
    /// one that went has.
    pub(super) fn update(&mut self, plans: Vec<(Owner, Vec<(Frontend, Group)>)>) -> Vec<Delta> {
        let mut deltas = BTreeMap::new();
        // Letting go comes first: an address may pass from one owner to
        // another within one round.
        for (owner, plan) in &plans {
            self.release(owner, plan, &mut deltas);
        }
        for (owner, plan) in plans {
            self.claim(owner, plan, &mut deltas);
        }
        let changed = |delta: &Delta| delta.old != delta.new;
        deltas.into_values().filter(changed).collect()
    }

    fn release(&mut self, owner: &Owner, plan: &[(Frontend, Group)], deltas: &mut BTreeMap<Frontend, Delta>) {
        self.waiting.remove(owner);
        for frontend in self.by_owner.remove(owner).unwrap_or_default() {
            if plan.iter().any(|(kept, _)| *kept == frontend) {
                continue;
            }
            if let Some((_, old)) = self.frontends.remove(&frontend) {
                let delta = Delta {
                    frontend,
                    old: Some(old),
                    new: None,
                };
                deltas.insert(frontend, delta);
            }
        }
    }

    fn claim(&mut self, owner: Owner, plan: Vec<(Frontend, Group)>, deltas: &mut BTreeMap<Frontend, Delta>) {
        let mut mine = Vec::new();
        for (frontend, new) in plan {
            let taken = self.frontends.get(&frontend);
            if let Some((holder, _)) = taken.filter(|(holder, _)| *holder != owner) {
                tracing::warn!(%frontend, %holder, claimant = %owner, "two claim one address and port");
                self.waiting.insert(owner.clone());
                continue;
            }
            let old = self
                .frontends
                .insert(frontend, (owner.clone(), new.clone()))
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
            self.by_owner.insert(owner, mine);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Place, Protocol};

    fn owner(name: &str) -> Owner {
        Owner::Service(ServiceKey {
            namespace: "x".into(),
            name: name.into(),
        })
    }

    fn at(last: u8) -> Frontend {
        Frontend {
            place: Place::Address([10, 43, 0, last].into()),
            clients: Clients::All,
            protocol: Protocol::Tcp,
            port: 80,
        }
    }

    fn group(last: &[u8]) -> Group {
        Group {
            backends: last.iter().map(|n| ([10, 64, 0, *n], 8080).into()).collect(),
            ..Group::default()
        }
    }

    #[test]
    fn only_what_differs_is_told() {
        let mut table = Table::default();
        let plan = vec![(at(1), group(&[2])), (at(2), group(&[]))];
        assert_eq!(table.update(vec![(owner("a"), plan.clone())]).len(), 2);
        assert!(table.update(vec![(owner("a"), plan)]).is_empty());
        let deltas = table.update(vec![(owner("a"), vec![(at(1), group(&[2, 3]))])]);
        let delta = |frontend, old: Option<Group>, new: Option<Group>| Delta { frontend, old, new };
        let expected = [
            delta(at(1), Some(group(&[2])), Some(group(&[2, 3]))),
            delta(at(2), Some(group(&[])), None),
        ];
        assert_eq!(deltas, expected);
        assert_eq!(table.all().len(), 1);
    }

    #[test]
    fn an_address_passes_on_in_one_round_whatever_the_order() {
        let mut table = Table::default();
        table.update(vec![(owner("a"), vec![(at(1), group(&[2]))])]);
        let deltas = table.update(vec![
            (owner("b"), vec![(at(1), group(&[3]))]),
            (owner("a"), vec![]),
        ]);
        let passed = Delta {
            frontend: at(1),
            old: Some(group(&[2])),
            new: Some(group(&[3])),
        };
        assert_eq!(deltas, [passed]);
        assert!(table.waiting().is_empty());
    }

    #[test]
    fn the_second_claimant_waits() {
        let mut table = Table::default();
        table.update(vec![(owner("a"), vec![(at(1), group(&[2]))])]);
        let pod = Owner::Pod("uid".into());
        let claim = vec![(at(1), group(&[3]))];
        assert!(table.update(vec![(pod.clone(), claim.clone())]).is_empty());
        assert_eq!(table.waiting(), std::slice::from_ref(&pod));
        let plans = vec![(owner("a"), vec![]), (pod, claim)];
        assert_eq!(table.update(plans)[0].new, Some(group(&[3])));
        assert!(table.waiting().is_empty());
    }

    #[test]
    fn whoever_may_answer_is_known_for_all_clients_together() {
        let mut table = Table::default();
        let inside = at(1).with(Clients::Inside);
        table.update(vec![(
            owner("a"),
            vec![(at(1), group(&[2])), (inside, group(&[2, 3]))],
        )]);
        assert_eq!(table.backends(inside).count(), 3);
        assert_eq!(table.backends(at(2)).count(), 0);
    }
}
