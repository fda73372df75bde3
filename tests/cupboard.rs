//! Clocks: a year in a cupboard, in which every certificate ends, and a server that has the wrong time.

use crate::account_secrets::asked;
use crate::support::hosts::{Host, Hosts, Place};
use crate::support::manifests::{BUSYBOX, IDLE, idle_pod};
use crate::support::servers::Servers;
use crate::support::{Cluster, assert_has, eventually, has, sandboxed};

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

/// Authorities last ten years, so this is before theirs is half over; a certificate of then ends at -3335.
const LONG_BEFORE: i32 = -3700;

#[test]
fn certificates_are_made_anew_while_servers_and_nodes_run_and_the_ends_of_authorities_are_told() {
    sandboxed(|dir| {
        let servers = Servers::start_apart(dir, 2, |host| host.turn_clock(LONG_BEFORE));
        let edge = servers.net.add("edge", Place::Lan);
        edge.turn_clock(LONG_BEFORE);
        let token = servers.token().replace("server-token", "agent-token");
        let args = ["--server", &servers.url(0), "--token-file", &token].map(str::to_owned);
        let agent = Cluster::start_on(&edge, "agent", &args.each_ref().map(String::as_str));
        agent.busybox();
        servers.all[0].ready();
        let turn = |days: i32| {
            for host in servers.hosts.iter().chain([&edge]) {
                host.turn_clock(days);
            }
        };
        let mut files = vec![agent.dir.join("pki/agent.crt")];
        for server in &servers.all {
            files.push(server.dir.join("pki/serving.crt"));
            files.push(server.dir.join("admin.kubeconfig"));
        }
        let texts = || -> Vec<String> {
            let read = |file| std::fs::read_to_string(file).unwrap_or_default();
            files.iter().map(read).collect()
        };
        let before = texts();

        // In time before they end.
        turn(LONG_BEFORE + 300);
        eventually("other certificates", || {
            let now = texts();
            let same = (0..files.len()).find(|at| now[*at] == before[*at] || now[*at].is_empty());
            same.map_or(Ok(()), |at| Err(files[at].display().to_string()))
        });
        // When the first ones have ended, nobody has noticed anything.
        turn(LONG_BEFORE + 400);
        for at in 0..2 {
            let status = eventually("a status", || servers.coracle(at, &["status"]));
            assert!(
                !status.contains("unreachable") && !status.contains("ends in"),
                "{status}"
            );
        }
        servers.all[1].apply(&idle_pod("late"));
        servers.all[1].pod_ready("late");
        eventually("exec in it", || servers.all[0].exec("late", &["true"]));
        assert!(!agent.log().contains("certificate has ended"), "{}", agent.log());

        // What is not made anew by itself is told of.
        turn(-100);
        let status = eventually("an alarm", || {
            let status = servers.coracle(0, &["status"])?;
            if status.contains("ends in") {
                Ok(status)
            } else {
                Err(status)
            }
        });
        assert_has(
            &status,
            &["client-ca ends in", "serving-ca ends in", "days", "coracle trust"],
        );
        let metrics = servers.all[0].ok(&["get", "--raw", "/metrics"]);
        let series = "coracle_certificate_expiration_timestamp_seconds";
        for name in ["client-ca", "serving"] {
            let named = format!("{series}{{name=\"{name}\"}}");
            let line = metrics.lines().find(|line| line.starts_with(&named));
            let ends: i64 = line
                .and_then(|line| line.rsplit(' ').next()?.parse().ok())
                .unwrap_or_else(|| panic!("no {named} in\n{metrics}"));
            // The authority ends fifty days from the sandbox's now, and nothing that it signs lives longer.
            let days = (ends - jiff::Timestamp::now().as_second()) / 86_400;
            assert!((-51..=-49).contains(&days), "{name} ends in {days} days");
        }
    });
}

/// A pod with a token of ten minutes, the shortest there are, and with something beside it that anybody can change.
fn with_token() -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: box}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {BUSYBOX}
    command: [sh, -c, {IDLE:?}]
    volumeMounts: [{{name: token, mountPath: /token}}]
  volumes:
  - name: token
    projected:
      sources:
      - serviceAccountToken: {{path: token, expirationSeconds: 600}}
      - configMap: {{name: beside}}
"#
    )
}

#[test]
fn a_running_pod_finds_another_token_once_time_has_passed() {
    sandboxed(|dir| {
        let net = Hosts::start(dir);
        let host = net.add("edge", Place::Lan);
        host.turn_clock(0);
        let cluster = Cluster::start_on(&host, "up", &[]);
        cluster.busybox();
        cluster.ready();
        cluster.ok(&["create", "configmap", "beside"]);
        cluster.apply(&with_token());
        cluster.pod_ready("box");
        let server = format!("https://{}:6443", host.ip);
        let token = || cluster.exec("box", &["cat", "/token/token"]);
        let old = token().expect("a token");
        assert_has(&asked(&server, &old).expect("an answer"), &["201 Created"]);

        host.turn_clock(1);
        eventually("a refusal of the old one", || {
            has(&asked(&server, &old)?, &["401 Unauthorized"])
        });
        // The volume is looked at every few minutes, and at once when something in it has changed.
        let mut tries = 0;
        let new = eventually("another token", || {
            tries += 1;
            let word = format!(r#"{{"data":{{"word":"{tries}"}}}}"#);
            cluster.try_ok(&["patch", "configmap", "beside", "-p", &word])?;
            match token()? {
                new if new == old => Err("the old one".to_owned()),
                new => Ok(new),
            }
        });
        assert_has(&asked(&server, &new).expect("an answer"), &["201 Created"]);
        let restarts = "{.status.containerStatuses[0].restartCount}";
        cluster.until("pod/box", restarts, "0");
    });
}
