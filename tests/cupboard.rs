//! Clocks: a year in a cupboard, in which every certificate ends, and a server that has the wrong time.

use crate::support::hosts::{Host, Place};
use crate::support::manifests::idle_pod;
use crate::support::servers::Servers;
use crate::support::{Cluster, assert_has, eventually, sandboxed};

/// Certificates last a year.
const LONG_AGO: i32 = -400;

fn set_back(host: &Host) {
    host.set_clock(LONG_AGO);
}

#[test]
fn after_a_year_in_a_cupboard_servers_find_each_other_and_nodes_are_let_in_by_token() {
    sandboxed(|dir| {
        let mut servers = Servers::start_apart(dir, 3, set_back);
        let edge = servers.net.add("edge", Place::Lan);
        set_back(&edge);
        let token = servers.token().replace("server-token", "agent-token");
        let args = ["--server", &servers.url(0), "--token-file", &token].map(str::to_owned);
        let mut agent = Cluster::start_on(&edge, "agent", &args.each_ref().map(String::as_str));
        agent.busybox();
        servers.all[0].ready();
        servers.all[0].apply(&idle_pod("box"));
        servers.all[0].pod_ready("box");

        agent.kill();
        servers.all.iter_mut().for_each(Cluster::kill);
        for host in servers.hosts.iter().chain([&edge]) {
            host.set_clock(0);
        }
        servers.all.iter_mut().for_each(Cluster::relaunch);
        servers.until_led(0);
        // Kubectl looks at the dates of both certificates.
        for server in &servers.all {
            eventually("an answer", || server.try_ok(&["get", "pod", "box"]));
        }

        // What the node has is no proof any more, and it says what to do.
        let mut untold = edge.launch("agent", &["--server", &servers.url(0)]);
        eventually("a word on the certificate", || {
            let log = agent.log();
            match log.contains("certificate has ended") && log.contains("--token-file") {
                true => Ok(()),
                false => Err(log),
            }
        });
        untold
            .kill()
            .and_then(|()| untold.wait().map(drop))
            .expect("its end");
        agent.restart();
        let restarts = "{.status.containerStatuses[0].restartCount}";
        eventually("exec in the pod of back then", || {
            servers.all[1].exec("box", &["true"])
        });
        servers.all[2].until("pod/box", restarts, "0");
    });
}

#[test]
fn a_server_with_the_wrong_time_votes_and_leads_as_well_as_the_others() {
    sandboxed(|dir| {
        let mut servers = Servers::start_apart(dir, 3, |_| ());
        servers.all[2].kill();
        servers.hosts[2].set_clock(LONG_AGO);
        servers.all[2].restart();
        // It takes clients' certificates for none yet, so that they go to the others, which pass on to it what they
        // are asked to write.
        eventually("third leads", || {
            servers.coracle(0, &["member", "transfer-leader", "third"])
        });
        for at in 0..2 {
            servers.all[at].ok(&["create", "configmap", &format!("by-{at}")]);
        }
        servers.all[0].kill();
        let found = servers.all[1].ok(&["get", "configmaps", "-o", "name"]);
        assert_has(&found, &["by-0", "by-1"]);
        servers.all[1].ok(&["create", "configmap", "by-two-of-three"]);
    });
}
