//! Who has not taken up the last step. Pure.

use std::collections::BTreeMap;

/// A server, or a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Party {
    /// Its name.
    pub name: String,
    /// The generation that it has taken up, if it has said so.
    pub taken: Option<u64>,
}

/// The full servers, by what was said in the store. The one that answers is `here`: while it is alone, it has told
/// nobody its name.
pub(super) fn servers(status: &store::Status, taken: &BTreeMap<u64, u64>, here: &str) -> Vec<Party> {
    let mut servers = parties(status, taken, false);
    if status.peers.iter().all(|peer| peer.id != status.member) {
        servers.push(Party {
            name: here.to_owned(),
            taken: taken.get(&status.member).copied(),
        });
    }
    servers
}

/// The witnesses, by what was said in the store.
pub(super) fn witnesses(status: &store::Status, taken: &BTreeMap<u64, u64>) -> Vec<Party> {
    parties(status, taken, true)
}

fn parties(status: &store::Status, taken: &BTreeMap<u64, u64>, witness: bool) -> Vec<Party> {
    let wanted = status.peers.iter().filter(|peer| peer.witness == witness);
    wanted
        .map(|peer| Party {
            name: peer.name.clone(),
            taken: taken.get(&peer.id).copied(),
        })
        .collect()
}

/// The names of those that are behind; before the first step, nobody is.
pub(super) fn behind(parties: &[Party], generation: u64) -> Vec<String> {
    let late = |party: &&Party| party.taken.unwrap_or(0) < generation;
    let mut names: Vec<String> = parties
        .iter()
        .filter(late)
        .map(|party| party.name.clone())
        .collect();
    names.sort_unstable();
    names
}

/// What to do about them.
pub(super) fn advice(servers: &[String], nodes: &[String]) -> Option<String> {
    let mut parts = Vec::new();
    if !servers.is_empty() {
        parts.push(format!(
            "not every server has taken up the last step: {}. Wait for them, start them (an older version takes up none), \
             or remove those that are gone (`coracle member remove`)",
            servers.join(", ")
        ));
    }
    if !nodes.is_empty() {
        parts.push(format!(
            "not every node has taken up the last step: {}. Wait for them, or force the step: they will have to join anew \
             with --token-file",
            nodes.join(", ")
        ));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::{Peer, Status};

    #[test]
    fn who_is_behind_is_named() {
        let peer = |id, name: &str, witness| Peer {
            id,
            name: name.to_owned(),
            address: String::new(),
            witness,
        };
        let status = Status {
            peers: vec![
                peer(1, "one", false),
                peer(2, "two", false),
                peer(3, "tiny", true),
            ],
            member: 1,
            ..Status::default()
        };
        let taken = BTreeMap::from([(1, 4), (9, 1)]);
        let witnesses = witnesses(&status, &taken);
        assert_eq!(behind(&witnesses, 4), ["tiny"]);
        let all = servers(&status, &taken, "one");
        assert_eq!(behind(&all, 4), ["two"]);
        assert_eq!(behind(&all, 5), ["one", "two"]);
        assert_eq!(behind(&all, 0), [""; 0]);
        let alone = Status {
            member: 9,
            ..Status::default()
        };
        assert_eq!(behind(&servers(&alone, &taken, "alone"), 1), [""; 0]);
        assert_eq!(behind(&servers(&alone, &taken, "alone"), 2), ["alone"]);
        assert_eq!(advice(&[], &[]), None);
        let said = advice(&["two".to_owned()], &["edge".to_owned()]).unwrap();
        assert!(
            said.contains("step: two. Wait") && said.contains("step: edge. Wait"),
            "{said}"
        );
    }
}
