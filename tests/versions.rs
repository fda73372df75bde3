//! Servers of two builds in one cluster: upgraded one after the other, and back, while clients write and watch.
//!
//! `make test-upgrade` builds an earlier one and names it in `CORACLE_EARLIER_BIN`; `make test` names the one that was
//! built last, and where there is none, says at its end that this was not tried. Whether every build reads what earlier
//! ones wrote is tried each time, without one: `upgrade.rs`.

use std::path::{Path, PathBuf};

use crate::failover::Clients;
use crate::support::servers::Servers;
use crate::support::tools::run_another;
use crate::support::{assert_has, sandboxed};

const COUNT: usize = 3;

/// A server goes on with another build, or with the one that is under test.
fn change(servers: &mut Servers, clients: &Clients, at: usize, program: Option<&Path>, what: &str) {
    run_another(program);
    servers.all[at].stop();
    clients.work.goes_on("a server was stopped");
    servers.all[at].restart();
    let via = servers.until_led(at);
    servers.until_role(via, &servers.hosts[at].name, "voter");
    servers.until_level(at);
    clients.work.goes_on(what);
}

/// Members are removed and taken in by way of a server that is newer than the one that leads.
fn change_members(servers: &mut Servers, clients: &Clients, earlier: &Path) {
    run_another(None);
    servers.hand_over(1);
    servers.all[2].kill();
    let done = servers.coracle(0, &["member", "remove", "third"]);
    done.expect("a server is removed under an earlier leader");
    clients.work.goes_on("a server was removed");
    run_another(Some(earlier));
    servers.rejoin(2, 0);
    clients.work.goes_on("a server has joined");
    assert_has(
        &servers.coracle(2, &["member", "list"]).expect("members"),
        &["first", "second", "third"],
    );
}

#[test]
fn servers_of_two_builds_work_together() {
    let Some(earlier) = std::env::var_os("CORACLE_EARLIER_BIN").map(PathBuf::from) else {
        eprintln!(
            "NOT TRIED: servers of two builds in one cluster. CORACLE_EARLIER_BIN does not name an earlier one; \
             `make test-upgrade` builds one"
        );
        return;
    };
    sandboxed(move |dir| {
        run_another(Some(&earlier));
        let mut servers = Servers::start(dir, COUNT);
        let clients = Clients::start(&servers);
        change(&mut servers, &clients, 0, None, "the first server was upgraded");
        change_members(&mut servers, &clients, &earlier);
        for at in 1..COUNT {
            change(&mut servers, &clients, at, None, "a server was upgraded");
        }
        run_another(None);
        for at in 0..COUNT {
            servers.hand_over(at);
            clients.work.goes_on("an upgraded server leads");
        }
        for at in 0..COUNT {
            let what = "a server went back to the earlier build";
            change(&mut servers, &clients, at, Some(&earlier), what);
        }
        clients.end(&servers);
    });
}
