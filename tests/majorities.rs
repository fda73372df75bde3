//! Five servers, of which two may be lost; who is behind, and who becomes a voter by an order.

use nix::sys::signal::Signal;

use crate::failover::Clients;
use crate::support::servers::Servers;
use crate::support::{assert_has, eventually, sandboxed};

/// Entries that a server lacks at least, which was stopped while so many were written.
const BEHIND: f64 = 20.0;

/// Waits until the leader's `/metrics` show this of the fifth server: whether it is heard of, and what it lacks.
fn until_shown(servers: &Servers, what: &str, fits: impl Fn(f64, f64) -> bool) {
    eventually(what, || {
        let of = |name: &str| servers.all[0].series(&format!("coracle_raft_peer_{name}{{name=\"fifth\"}}"));
        let (reachable, lag) = (of("reachable")?, of("lag_entries")?);
        match fits(reachable, lag) {
            true => Ok(()),
            false => Err(format!("reachable {reachable}, lag {lag}")),
        }
    });
}

/// A server that does not answer is seen in `/metrics`: how far it is behind, and that it has caught up.
fn who_is_behind_is_seen(servers: &Servers) {
    servers.hand_over(0);
    until_shown(servers, "nobody is behind", |reachable, lag| {
        reachable == 1.0 && lag == 0.0
    });
    let before = servers.all[0].series("coracle_raft_committed_index").unwrap();
    servers.all[4].signal(Signal::SIGSTOP);
    for number in 0..BEHIND as usize {
        servers.all[1].ok(&["create", "configmap", &format!("unheard-{number}")]);
    }
    until_shown(servers, "the fifth is behind", |reachable, lag| {
        reachable == 0.0 && lag >= BEHIND
    });
    assert_has(&servers.coracle(0, &["status"]).unwrap(), &["unreachable"]);
    servers.all[4].signal(Signal::SIGCONT);
    until_shown(servers, "it has caught up", |reachable, lag| {
        reachable == 1.0 && lag == 0.0
    });
    let shown = |at: usize, name: &str| servers.all[at].series(&format!("coracle_raft_{name}"));
    for name in ["committed_index", "applied_index"] {
        for at in [0, 4] {
            let index = shown(at, name).unwrap();
            assert!(index >= before + BEHIND, "{name} of {at}: {index} after {before}");
        }
    }
    assert_eq!(shown(0, "is_leader"), Ok(1.0));
    assert_eq!(shown(4, "is_leader"), Ok(0.0));
    assert_eq!(shown(4, "has_leader"), Ok(1.0));
    assert_eq!(shown(4, "term"), shown(0, "term"));
    // Writes count where they were asked for, and are applied everywhere.
    for (histogram, at) in [("commit", 1), ("apply", 0)] {
        let count = format!("coracle_store_{histogram}_duration_seconds_count");
        assert!(servers.all[at].series(&count).unwrap() >= BEHIND, "{count}");
    }
}

#[test]
fn five_servers_outlive_two_of_them() {
    sandboxed(|dir| {
        let mut servers = Servers::start(dir, 5);
        who_is_behind_is_seen(&servers);

        let clients = Clients::start(&servers);
        let term = servers.all[1].series("coracle_raft_term").unwrap();
        servers.all[0].kill();
        clients.work.goes_on("the leader of five was killed");
        let second = eventually("another leader", || match servers.leader(1)? {
            0 => Err("it is the old one".to_owned()),
            other => Ok(other),
        });
        servers.all[second].kill();
        let left: Vec<usize> = (1..5).filter(|at| *at != second).collect();
        clients.work.goes_on("the next leader was killed");
        assert!(servers.all[left[0]].series("coracle_raft_term").unwrap() > term + 1.0);
        let refused = servers.coracle(left[0], &["member", "remove", &servers.hosts[left[2]].name]);
        let refused = refused.unwrap_err();
        // Whoever leads by now is told so; any other is needed.
        assert!(
            refused.contains("2 of 4 voters would be reachable") || refused.contains("leads"),
            "{refused}"
        );

        // One more, and two are too few of five: nothing is written, and nothing is lost.
        servers.all[left[2]].kill();
        eventually("a refusal", || {
            let create = ["create", "configmap", "too-few", "--request-timeout=5s"];
            match servers.all[left[0]].try_ok(&create) {
                Err(why) if why.contains("no leader") || why.contains("timeout") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        servers.all[left[2]].restart();
        clients.work.goes_on("three of five are there again");
        for at in [0, second] {
            servers.all[at].restart();
            servers.until_level(at);
        }
        clients.end(&servers);
    });
}

/// A server becomes a voter by itself as soon as it has caught up; the order is for when it does not. Here both are
/// tried at once, so it may take several servers until the order comes first.
#[test]
fn a_learner_becomes_a_voter_by_an_order_and_not_before_it_has_caught_up() {
    sandboxed(|dir| {
        let mut servers = Servers::start(dir, 2);
        let promote = |servers: &Servers, name: &str| servers.coracle(1, &["member", "promote", name]);
        assert_has(&promote(&servers, "second").unwrap_err(), &["is a voter already"]);
        assert_has(&promote(&servers, "nobody").unwrap_err(), &["not found"]);
        servers.join_unheeded(&[]);
        let (mut refused, mut ordered) = (false, None);
        for _ in 0..10 {
            // Taken in, and stopped before it has anything.
            servers.all[2].kill();
            eventually("the third is removed", || {
                match servers.coracle(0, &["member", "remove", "third"]) {
                    Err(why) if !why.contains("not found") => Err(why),
                    _ => Ok(()),
                }
            });
            servers.empty(2);
            servers.relaunch_joining(2, 0);
            servers.until_listed(0, "third");
            servers.all[2].signal(Signal::SIGSTOP);
            let early = promote(&servers, "third");
            servers.all[2].signal(Signal::SIGCONT);
            match early {
                Ok(said) => ordered = Some(said),
                Err(why) if why.contains("is a voter already") => continue,
                Err(why) => {
                    assert_has(&why, &["has not caught up: it has entry"]);
                    refused = true;
                }
            }
            let order = || match promote(&servers, "third") {
                Ok(said) => Ok(Some(said)),
                Err(why) if why.contains("is a voter already") => Ok(None),
                Err(why) => Err(why),
            };
            let said = eventually("the third is a voter", order);
            servers.until_role(0, "third", "voter");
            ordered = ordered.or(said);
            if refused && ordered.is_some() {
                break;
            }
        }
        assert!(refused, "it was never stopped in time");
        assert_has(&ordered.expect("an order that came first"), &["third is a voter"]);
        servers.all[0].kill();
        eventually("the new voter counts", || {
            servers.all[2].try_ok(&["create", "configmap", "counted"])
        });
        servers.all[0].restart();
    });
}
