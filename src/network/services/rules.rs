//! The plan as nftables elements: what a changed frontend adds to and takes
//! from the sets of [`super::layout`]. Every change is set elements only.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use api::cidr::Cidr;
use sys::nft::{Batch, Element, Family, Verdict};

use super::layout::{self, Class, GUARDED, Layout, REFUSE, SOURCES, octets};
use super::table::Delta;
use crate::plan::{Clients, Frontend, Group, Nobody, Place};

/// One family's table of an instance, and which classes it has, with the
/// number of frontends in each.
#[derive(Debug)]
pub(super) struct Rules {
    layout: Layout,
    classes: BTreeMap<Class, usize>,
}

impl Rules {
    /// For the table of that name; `pods` are those inside.
    pub(super) fn new(table: String, family: Family, pods: Option<Cidr>) -> Rules {
        Rules {
            layout: Layout { table, family, pods },
            classes: BTreeMap::new(),
        }
    }

    /// The table's name.
    pub(super) fn table(&self) -> &str {
        &self.layout.table
    }

    /// Whose packets it sees.
    pub(super) fn family(&self) -> Family {
        self.layout.family
    }

    /// Whether writing the table anew would rid it of classes that nobody is in
    /// any more. Not while clients are remembered: they would be forgotten.
    pub(super) fn wasteful(&self) -> bool {
        let remembers = |(class, users): (&Class, &usize)| class.sticky.is_some() && *users > 0;
        self.classes.values().any(|users| *users == 0) && !self.classes.iter().any(remembers)
    }

    /// Replaces whatever table there is by one with these frontends, as far as
    /// they are of its family.
    pub(super) fn replace(&mut self, all: &[Delta]) -> Batch {
        self.classes.clear();
        let mut batch = Batch::new(self.layout.family);
        batch
            .clear_table(&self.layout.table)
            .add_table(&self.layout.table);
        self.layout.skeleton(&mut batch);
        self.elements(all, &mut batch);
        batch
    }

    /// Changes some frontends, as far as they are of its family.
    pub(super) fn change(&mut self, deltas: &[Delta]) -> Batch {
        let mut batch = Batch::new(self.layout.family);
        self.elements(deltas, &mut batch);
        batch
    }

    fn elements(&mut self, deltas: &[Delta], batch: &mut Batch) {
        let mut changes = Changes::default();
        let ours = deltas
            .iter()
            .filter(|delta| delta.frontend.family() == self.layout.family);
        ours.for_each(|delta| changes.frontend(delta));
        for class in changes.entered {
            if !self.classes.contains_key(&class) {
                self.layout.class(class, batch);
            }
            *self.classes.entry(class).or_default() += 1;
        }
        for class in changes.left {
            if let Some(users) = self.classes.get_mut(&class) {
                *users = users.saturating_sub(1);
            }
        }
        for (set, elements) in &changes.delete {
            batch.delete_elements(&self.layout.table, set, elements);
        }
        for (set, elements) in &changes.add {
            batch.add_elements(&self.layout.table, set, elements);
        }
    }
}

/// Elements to remove and to add, by set.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    entered: Vec<Class>,
    left: Vec<Class>,
    delete: BTreeMap<String, Vec<Element>>,
    add: BTreeMap<String, Vec<Element>>,
}

impl Changes {
    fn frontend(&mut self, delta: &Delta) {
        let (old, new) = (delta.old.as_ref(), delta.new.as_ref());
        let of = |group: Option<&Group>| group.and_then(|group| class(&delta.frontend, group));
        let (before, after) = (of(old), of(new));
        let key = key(&delta.frontend);
        if before != after {
            let entries = layout::entries(delta.frontend.door());
            if let Some(class) = before {
                self.left.push(class);
                self.delete(entries, Element::Key(key.clone()));
            }
            if let Some(class) = after {
                self.entered.push(class);
                self.add(
                    entries,
                    Element::Verdict(key.clone(), Verdict::Goto(class.name())),
                );
            }
        }
        self.endpoints(&key, (before, old), (after, new));
        self.refused(&key, delta);
        self.sources(&key, delta);
    }

    fn endpoints(
        &mut self,
        key: &[u8],
        (before, old): (Option<Class>, Option<&Group>),
        (after, new): (Option<Class>, Option<&Group>),
    ) {
        let backends = |group: Option<&Group>| group.map(|g| g.backends.clone()).unwrap_or_default();
        let (old, new) = (backends(old), backends(new));
        let numbered = |n: usize| [key, &(n as u32).to_ne_bytes()].concat();
        let same = |n: usize| before == after && old.get(n) == new.get(n);
        for n in (0..old.len()).filter(|n| !same(*n)) {
            self.delete_of(before, Class::name, Element::Key(numbered(n)));
        }
        for (n, backend) in new.iter().enumerate().filter(|(n, _)| !same(*n)) {
            self.add_of(after, Class::name, Element::Value(numbered(n), target(backend)));
        }
        let sticky = |class: Option<Class>| class.filter(|class| class.sticky.is_some());
        let (before, after) = (sticky(before), sticky(after));
        let alive = |class: Class| layout::alive(class.door);
        let member = |backend: &SocketAddr| Element::Key([key, &target(backend)].concat());
        let stays = |list: &[SocketAddr], backend: &SocketAddr| {
            before.is_some() && after.is_some() && list.contains(backend)
        };
        for backend in old.iter().filter(|backend| !stays(&new, backend)) {
            self.delete_of(before, alive, member(backend));
        }
        for backend in new.iter().filter(|backend| !stays(&old, backend)) {
            self.add_of(after, alive, member(backend));
        }
    }

    /// A frontend for those inside is there only while somebody answers.
    fn refused(&mut self, key: &[u8], delta: &Delta) {
        let all = delta.frontend.clients == Clients::All;
        let empty = |group: &&Group| all && group.backends.is_empty();
        let verdict = |group: Option<&Group>| {
            group.filter(empty).map(|group| match group.nobody {
                Nobody::Refuse => Verdict::Goto(REFUSE.into()),
                Nobody::Drop => Verdict::Drop,
            })
        };
        let (old, new) = (verdict(delta.old.as_ref()), verdict(delta.new.as_ref()));
        if old == new {
            return;
        }
        let set = layout::refused(delta.frontend.door().node);
        if old.is_some() {
            self.delete(set, Element::Key(key.to_vec()));
        }
        if let Some(verdict) = new {
            self.add(set, Element::Verdict(key.to_vec(), verdict));
        }
    }

    /// Ranges of the other family keep everybody out.
    fn sources(&mut self, key: &[u8], delta: &Delta) {
        let of = |group: &Option<Group>| group.as_ref().map(|g| g.sources.clone()).unwrap_or_default();
        let (old, new) = (of(&delta.old), of(&delta.new));
        if old == new || delta.frontend.clients != Clients::All {
            return;
        }
        let family = delta.frontend.family();
        let ranges = |list: &[crate::plan::SourceRange]| -> Vec<Element> {
            let ours = list.iter().filter(|range| Family::of(range.first) == family);
            let end = |ip| [key, &octets(ip)].concat();
            ours.map(|range| Element::Range(end(range.first), end(range.last)))
                .collect()
        };
        if !old.is_empty() {
            self.delete(GUARDED, Element::Key(key.to_vec()));
            ranges(&old)
                .into_iter()
                .for_each(|range| self.delete(SOURCES, range));
        }
        if !new.is_empty() {
            self.add(GUARDED, Element::Key(key.to_vec()));
            ranges(&new)
                .into_iter()
                .for_each(|range| self.add(SOURCES, range));
        }
    }

    fn delete_of(&mut self, class: Option<Class>, set: impl Fn(Class) -> String, element: Element) {
        if let Some(class) = class {
            self.delete(&set(class), element);
        }
    }

    fn add_of(&mut self, class: Option<Class>, set: impl Fn(Class) -> String, element: Element) {
        if let Some(class) = class {
            self.add(&set(class), element);
        }
    }

    fn delete(&mut self, set: &str, element: Element) {
        self.delete.entry(set.to_string()).or_default().push(element);
    }

    fn add(&mut self, set: &str, element: Element) {
        self.add.entry(set.to_string()).or_default().push(element);
    }
}

/// `None`: there is nobody to lead to.
fn class(frontend: &Frontend, group: &Group) -> Option<Class> {
    (!group.backends.is_empty()).then(|| Class {
        door: frontend.door(),
        endpoints: group.backends.len(),
        sticky: group.sticky,
    })
}

/// Each part of a key fills words.
fn key(frontend: &Frontend) -> Vec<u8> {
    let mut key = match frontend.place {
        Place::Address(ip) => octets(ip),
        Place::Node(_) => Vec::new(),
    };
    key.extend([frontend.protocol.number(), 0, 0, 0]);
    key.extend(frontend.port.to_be_bytes());
    key.extend([0, 0]);
    key
}

fn target(backend: &SocketAddr) -> Vec<u8> {
    let mut value = octets(backend.ip());
    value.extend(backend.port().to_be_bytes());
    value.extend([0, 0]);
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Protocol, SourceRange};

    fn group(last: &[u8]) -> Option<Group> {
        Some(Group {
            backends: last.iter().map(|n| ([10, 64, 0, *n], 8080).into()).collect(),
            ..Group::default()
        })
    }

    fn sticky(last: &[u8], seconds: u32) -> Option<Group> {
        group(last).map(|group| Group {
            sticky: Some(seconds),
            ..group
        })
    }

    fn frontend(place: Place) -> Frontend {
        Frontend {
            place,
            clients: Clients::All,
            protocol: Protocol::Tcp,
            port: 80,
        }
    }

    fn changes(place: Place, old: Option<Group>, new: Option<Group>) -> Changes {
        let mut changes = Changes::default();
        let frontend = frontend(place);
        changes.frontend(&Delta { frontend, old, new });
        changes
    }

    fn at() -> Place {
        Place::Address([10, 43, 0, 7].into())
    }

    fn sizes(sets: &BTreeMap<String, Vec<Element>>) -> Vec<(&str, usize)> {
        sets.iter()
            .map(|(set, elements)| (set.as_str(), elements.len()))
            .collect()
    }

    #[test]
    fn a_new_service_is_one_class_entry_and_its_endpoints() {
        let changes = changes(at(), None, group(&[2, 3]));
        assert!(changes.delete.is_empty());
        assert_eq!(sizes(&changes.add), [("s2", 2), ("services", 1)]);
        let element = &changes.add["s2"][1];
        let key = [10, 43, 0, 7, 6, 0, 0, 0, 0, 80, 0, 0, 1, 0, 0, 0].to_vec();
        assert_eq!(
            *element,
            Element::Value(key, vec![10, 64, 0, 3, 0x1f, 0x90, 0, 0])
        );
    }

    #[test]
    fn a_replaced_endpoint_is_one_element() {
        let changes = changes(at(), group(&[2, 3, 4]), group(&[2, 5, 4]));
        assert_eq!(sizes(&changes.delete), [("s3", 1)]);
        assert_eq!(sizes(&changes.add), [("s3", 1)]);
        assert!(changes.entered.is_empty());
    }

    #[test]
    fn another_number_of_endpoints_is_another_class() {
        let changes = changes(at(), group(&[2, 3]), group(&[2, 3, 4]));
        assert_eq!(sizes(&changes.delete), [("s2", 2), ("services", 1)]);
        assert_eq!(sizes(&changes.add), [("s3", 3), ("services", 1)]);
    }

    #[test]
    fn who_is_remembered_must_be_alive() {
        let changes = changes(at(), sticky(&[2, 3], 60), sticky(&[2, 4], 60));
        assert_eq!(sizes(&changes.delete), [("s2-60", 1), ("services-alive", 1)]);
        assert_eq!(sizes(&changes.add), [("s2-60", 1), ("services-alive", 1)]);
        let longer = super::tests::changes(at(), sticky(&[2], 60), sticky(&[2], 90));
        assert_eq!(sizes(&longer.add), [("s1-90", 1), ("services", 1)]);
        let off = super::tests::changes(at(), sticky(&[2], 60), group(&[2]));
        assert_eq!(
            sizes(&off.delete),
            [("s1-60", 1), ("services", 1), ("services-alive", 1)]
        );
    }

    #[test]
    fn what_has_nobody_is_refused() {
        let node = Place::Node(Family::Ip);
        assert_eq!(
            sizes(&changes(node, None, group(&[])).add),
            [("refused-nodeports", 1)]
        );
        let filled = changes(node, group(&[]), group(&[2]));
        assert_eq!(sizes(&filled.delete), [("refused-nodeports", 1)]);
        assert_eq!(sizes(&filled.add), [("n1", 1), ("nodeports", 1)]);
        let dropped = Group {
            nobody: Nobody::Drop,
            ..Group::default()
        };
        let changed = changes(at(), group(&[]), Some(dropped));
        assert_eq!(sizes(&changed.delete), [("refused", 1)]);
        assert!(matches!(
            changed.add["refused"][..],
            [Element::Verdict(_, Verdict::Drop)]
        ));
    }

    #[test]
    fn sources_are_ranges_per_frontend() {
        let guarded = group(&[2]).map(|group| Group {
            sources: vec![SourceRange::parse("192.0.2.0/24").unwrap()],
            ..group
        });
        let changes = changes(at(), group(&[2]), guarded);
        assert_eq!(sizes(&changes.add), [("guarded", 1), ("sources", 1)]);
        let Element::Range(first, last) = &changes.add["sources"][0] else {
            panic!("{changes:?}")
        };
        assert_eq!(
            (&first[12..], &last[12..]),
            (&[192, 0, 2, 0][..], &[192, 0, 2, 255][..])
        );
    }

    #[test]
    fn keys_of_ipv6_have_sixteen_bytes_of_address() {
        let key = key(&frontend(Place::Address("fd00::7".parse().unwrap())));
        assert_eq!(key.len(), 24);
    }
}
