//! Whether a server may join, and what the members look like. Pure.

use store::Status;

use super::wire::{JoinRequest, Member, MemberList, id_text};

/// Where this server is found by the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Here {
    /// Its name.
    pub name: String,
    /// `HOST:PORT`.
    pub address: String,
}

/// Whether a server may have the cluster's secrets; the error says what to do.
pub fn may_join(asked: &JoinRequest, ours: &str, members: &MemberList) -> Result<(), String> {
    let JoinRequest {
        name,
        address,
        version,
        ..
    } = asked;
    if is_too_old(version, ours) {
        return Err(format!(
            "version {version} is too old to join servers of version {ours}: install {ours} and try again"
        ));
    }
    let port = |address: &str| address.rsplit_once(':').map(|(_, port)| port.to_owned());
    let common = members.items.iter().find_map(|member| port(&member.address));
    if let (Some(wanted), Some(given)) = (common, port(address))
        && wanted != given
    {
        return Err(format!(
            "the servers of this cluster listen on port {wanted}, not {given}: start it with --listen {wanted}"
        ));
    }
    let mut others = members.items.iter().filter(|member| member.id != asked.id);
    if let Some(other) = others.clone().find(|member| member.name == *name) {
        return Err(format!(
            "a server named {name} is a member already, at {}: choose another --node-name, or, if that one \
             will not come back, remove it first with `coracle member remove {name}`",
            other.address
        ));
    }
    if let Some(other) = others.clone().find(|member| member.witness && asked.witness) {
        return Err(format!(
            "the cluster has a witness already, {0}: join as a full server, or, if {0} will not come back, remove \
             it first with `coracle member remove {0}`",
            other.name
        ));
    }
    match others.find(|member| member.address == *address) {
        Some(other) => Err(format!(
            "address {address} belongs to the member {0}: give another --advertise-address or --listen, or, if \
             that one will not come back, remove it first with `coracle member remove {0}`",
            other.name
        )),
        None => Ok(()),
    }
}

/// The names and addresses at which somebody looks at a witness of that name and `HOST:PORT`.
pub fn witness_names(name: &str, address: &str) -> Vec<String> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    [name, host, "localhost", "127.0.0.1", "::1"]
        .map(str::to_owned)
        .into()
}

/// A server may be newer than the others, and older by one minor version.
fn is_too_old(version: &str, ours: &str) -> bool {
    let parts = |version: &str| -> Option<(u64, u64)> {
        let mut numbers = version.split('.').map(|part| part.parse().ok());
        Some((numbers.next()??, numbers.next()??))
    };
    match (parts(version), parts(ours)) {
        (Some((major, minor)), Some((our_major, our_minor))) => {
            major < our_major || (major == our_major && minor + 1 < our_minor)
        }
        _ => true,
    }
}

/// The members as this server sees them; `here` is what it knows of itself.
pub fn members(status: &Status, here: &Here) -> MemberList {
    let ids = &status.members;
    let all = [
        &ids.voters,
        &ids.learners,
        &ids.voters_outgoing,
        &ids.learners_next,
    ];
    let mut found: Vec<u64> = all.into_iter().flatten().copied().collect();
    found.sort_unstable();
    found.dedup();
    let mut items: Vec<Member> = found.into_iter().map(|id| member(id, status, here)).collect();
    items.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    MemberList {
        cluster: id_text(status.cluster),
        answered_by: id_text(status.member),
        items,
    }
}

fn member(id: u64, status: &Status, here: &Here) -> Member {
    let known = status.peers.iter().find(|peer| peer.id == id);
    let (name, address) = match known {
        Some(peer) => (peer.name.clone(), peer.address.clone()),
        // A server that was alone until now has told nobody where it is.
        None if id == status.member => (here.name.clone(), here.address.clone()),
        None => (id_text(id), String::new()),
    };
    let witness = known.is_some_and(|peer| peer.witness);
    let role = match () {
        () if status.counts(id) => voters_role(witness),
        () if status.members.learners.contains(&id) || status.members.voters.contains(&id) => "learner",
        () => "leaving",
    };
    let leads = status.leadership.leader == Some(id);
    let health = status.health.iter().find(|health| health.id == id);
    let own = status.leadership.leads && id == status.member;
    Member {
        name,
        id: id_text(id),
        address,
        role: role.to_owned(),
        witness,
        leader: leads,
        reachable: own.then_some(true).or(health.map(|health| health.active)),
        lag: own
            .then_some(0)
            .or(health.map(|health| status.last_index.saturating_sub(health.matched))),
    }
}

/// What a voter is called.
pub fn voters_role(witness: bool) -> &'static str {
    if witness { "witness" } else { "voter" }
}

/// The member of that name or id.
pub fn find<'a>(members: &'a MemberList, text: &str) -> Option<&'a Member> {
    let named = members.items.iter().find(|member| member.name == text);
    named.or_else(|| members.items.iter().find(|member| member.id == text))
}

#[cfg(test)]
mod tests {
    use store::{Health, Leadership, Peer};

    use super::*;

    /// Voters 1 (leads, not announced yet) and 2, learner 3 which lags and is away and will be a witness.
    fn status() -> Status {
        let peer = |id: u64| Peer {
            id,
            name: format!("n{id}"),
            address: format!("10.0.0.{id}:6443"),
            witness: id == 3,
        };
        let health = |id, matched, active| Health { id, matched, active };
        let mut status = Status {
            cluster: 0xc,
            member: 1,
            last_index: 50,
            peers: vec![peer(2), peer(3)],
            health: vec![health(2, 50, true), health(3, 20, false)],
            leadership: Leadership {
                leader: Some(1),
                term: 2,
                leads: true,
            },
            ..Status::default()
        };
        status.members.voters = vec![1, 2];
        status.members.learners = vec![3];
        status
    }

    fn here() -> Here {
        Here {
            name: "n1".into(),
            address: "10.0.0.1:6443".into(),
        }
    }

    #[test]
    fn members_are_shown_with_their_roles_and_lag() {
        let list = members(&status(), &here());
        let shown: Vec<_> = list
            .items
            .iter()
            .map(|m| (m.name.as_str(), m.role.as_str(), m.leader, m.reachable, m.lag))
            .collect();
        assert_eq!(
            shown,
            [
                ("n1", "voter", true, Some(true), Some(0)),
                ("n2", "voter", false, Some(true), Some(0)),
                ("n3", "learner", false, Some(false), Some(30)),
            ]
        );
        assert_eq!(list.items[0].address, "10.0.0.1:6443");
        assert_eq!(find(&list, "n3"), find(&list, "3"));
        assert_eq!(find(&list, "n4"), None);
        let mut promoted = status();
        promoted.members.voters = vec![1, 2, 3];
        promoted.members.learners.clear();
        assert_eq!(members(&promoted, &here()).items[2].role, "witness");
        promoted.unsettled = vec![3];
        assert_eq!(
            members(&promoted, &here()).items[2].role,
            "learner",
            "not before everybody knows"
        );
    }

    #[test]
    fn who_may_not_join_is_told_why() {
        let list = members(&status(), &here());
        let ask = |name: &str, address: &str, version: &str, id: &str| {
            let asked = JoinRequest {
                name: name.into(),
                address: address.into(),
                version: version.into(),
                id: id.into(),
                witness: name.starts_with('w'),
            };
            may_join(&asked, "0.5.1", &list).err().unwrap_or_default()
        };
        assert_eq!(ask("n4", "10.0.0.4:6443", "0.5.0", ""), "");
        assert_eq!(ask("n4", "10.0.0.4:6443", "0.4.9", ""), "");
        assert_eq!(ask("n4", "10.0.0.4:6443", "1.0.0", ""), "");
        assert!(ask("n4", "10.0.0.4:6443", "0.3.9", "").contains("too old"));
        assert!(ask("n4", "10.0.0.4:6443", "x", "").contains("too old"));
        assert!(ask("n1", "10.0.0.4:6443", "0.5.0", "").contains("coracle member remove n1"));
        assert!(ask("n4", "10.0.0.2:6443", "0.5.0", "").contains("belongs to the member n2"));
        assert!(ask("n4", "10.0.0.4:7443", "0.5.0", "").contains("--listen 6443"));
        let second = ask("w2", "10.0.0.4:6443", "0.5.0", "");
        assert!(second.contains("a witness already, n3"), "{second}");
        // An attempt that was cut short goes on.
        assert_eq!(ask("n3", "10.0.0.3:6443", "0.5.0", "3"), "");
    }
}
