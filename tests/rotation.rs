//! What a cluster proves itself with, changed while it works: tokens, the key of service accounts' tokens, authorities.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::account_secrets::{asking, told};
use crate::encryption::holding;
use crate::support::hosts::Place;
use crate::support::manifests::idle_pod;
use crate::support::rest::As;
use crate::support::said::said;
use crate::support::servers::Servers;
use crate::support::{Cluster, assert_has, eventually, sandboxed, tools};

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(&path).unwrap_or_default()
}

/// Waits until a file of every server says the same, and something else than before; what it says.
fn changed_everywhere(servers: &Servers, name: &str, before: &str) -> String {
    eventually(&format!("another {name} on every server"), || {
        let texts: Vec<String> = servers
            .all
            .iter()
            .map(|server| read(server.dir.join(name)))
            .collect();
        let same = texts.iter().all(|text| *text == texts[0] && text != before);
        if same {
            Ok(texts[0].clone())
        } else {
            Err(name.to_owned())
        }
    })
}

/// The code with which a server, asked on its own host, answers the holder of a token.
fn code(servers: &Servers, at: usize, token: &str) -> String {
    let review = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}"#;
    let path = "apis/authentication.k8s.io/v1/selfsubjectreviews";
    let url = format!("{}/{path}", servers.url(at));
    let bearer = format!("Authorization: Bearer {}", token.trim());
    let json = "Content-Type: application/json";
    let args = [
        "-sk",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "-H",
        &bearer,
        "-H",
        json,
        "-d",
        review,
        &url,
    ];
    servers.hosts[at].run("curl", &args).expect("an answer")
}

#[test]
fn tokens_are_replaced_on_every_server_and_the_old_ones_refused() {
    sandboxed(|dir| {
        let servers = Servers::start(dir, 3);
        let first = &servers.all[0].dir;
        let (old, old_agent) = (read(first.join("server-token")), read(first.join("agent-token")));
        for at in 0..3 {
            assert_eq!(code(&servers, at, &old), "201", "server {at} accepts the token");
        }
        let said = servers.coracle(1, &["trust", "rotate", "server-token"]).unwrap();
        assert_has(&said, &["server-token", "active", "the beginning"]);
        assert!(!said.contains("have not taken up"), "{said}");
        let new = changed_everywhere(&servers, "server-token", &old);
        for at in 0..3 {
            assert_eq!(
                code(&servers, at, &old),
                "401",
                "server {at} refuses the old token"
            );
            assert_eq!(code(&servers, at, &new), "201", "server {at} accepts the new one");
        }
        assert_eq!(
            read(first.join("agent-token")),
            old_agent,
            "nobody asked for that"
        );
        assert!(!said.contains(new.trim()), "it is nobody's to read there");

        // Only who may change the cluster may do this.
        let path = "/apis/coracle.dev/v1/trust";
        for who in [As::Anonymous, As::Token(new.trim())] {
            let step = format!("{path}/agent-token/rotate");
            servers.all[0]
                .call(&who, "POST", &step, "", "")
                .is(403, "Forbidden", &["trust"]);
            servers.all[0]
                .call(&who, "GET", path, "", "")
                .is(403, "Forbidden", &["trust"]);
        }
        let refused = servers
            .coracle(0, &["trust", "prepare", "agent-token"])
            .unwrap_err();
        assert_has(&refused, &["is changed in one step: rotate it"]);

        // With a grace both are good, until it is taken back. Machines join with the one and with the other.
        let graced = ["trust", "rotate", "agent-token", "--grace", "3600"];
        assert_has(&servers.coracle(2, &graced).unwrap(), &["retiring"]);
        let new_agent = changed_everywhere(&servers, "agent-token", &old_agent);
        let join = |name: &str, token: &str| {
            let host = servers.net.add(name, Place::Lan);
            let file = host.data().with_extension("token");
            std::fs::write(&file, token).expect("a token");
            let url = servers.url(1);
            (host, [url, file.display().to_string()])
        };
        for (name, token) in [("late", &old_agent), ("edge", &new_agent)] {
            let (host, [url, file]) = join(name, token);
            drop(Cluster::start_on(
                &host,
                "agent",
                &["--server", &url, "--token-file", &file],
            ));
        }
        assert_has(
            &servers.all[0].ok(&["get", "nodes", "-o", "name"]),
            &["node/late", "node/edge"],
        );
        servers.coracle(0, &["trust", "retire", "agent-token"]).unwrap();
        let (host, [url, file]) = join("stranger", &old_agent);
        let mut refused = host.launch("agent", &["--server", &url, "--token-file", &file]);
        assert!(!refused.wait().expect("its end").success());
        let log = read(host.data().with_extension("log"));
        assert_has(&log, &["does not accept this token", "agent-token"]);

        // A server that joins now gets what is true now, and keeps it.
        let mut servers = servers;
        servers.join(&[]);
        for name in ["server-token", "agent-token", "pki/trust.json"] {
            assert_eq!(
                read(servers.all[3].dir.join(name)),
                read(servers.all[0].dir.join(name)),
                "{name}"
            );
        }
        servers.all[3].kill();
        servers.all[3].restart();
        assert_eq!(code(&servers, 3, &old), "401");
        assert_eq!(code(&servers, 3, &new), "201");
    });
}

#[test]
fn another_key_signs_tokens_and_the_old_ones_are_good_until_it_is_retired() {
    sandboxed(|dir| {
        let servers = Servers::start(dir, 2);
        let key = "service-account-key";
        let trust = |step: &str| servers.coracle(1, &["trust", step, key]);
        let issue = || servers.all[0].ok(&["create", "token", "default", "--duration", "2h"]);
        let key_ids = |at: usize| {
            let set = servers.all[at].ok(&["get", "--raw", "/openid/v1/jwks"]);
            let set: serde_json::Value = serde_json::from_str(&set).expect("a key set");
            let keys = set["keys"].as_array().expect("keys").clone();
            keys.iter().map(|key| key["kid"].to_string()).collect::<Vec<_>>()
        };
        eventually("a service account", || {
            servers.all[0].try_ok(&["get", "serviceaccount", "default"])
        });
        servers.all[0].apply(&asking("kept", "default"));
        let kept = told(&servers.all[0], "kept", "token");
        let (old, first) = (issue(), key_ids(0));
        assert_eq!(first.len(), 1);
        assert_has(&trust("activate").unwrap_err(), &["prepare it first"]);
        trust("prepare").unwrap();
        for at in 0..2 {
            assert_eq!(
                key_ids(at).len(),
                2,
                "server {at} tells of the key before it signs"
            );
            assert_eq!(key_ids(at)[0], first[0]);
        }
        trust("activate").unwrap();
        let new = issue();
        for at in 0..2 {
            assert_ne!(key_ids(at)[0], first[0], "server {at} signs with the new key");
            assert_eq!(code(&servers, at, &old), "201", "what pods hold is good still");
            assert_eq!(code(&servers, at, &new), "201");
            assert_eq!(code(&servers, at, &kept), "201", "what Secrets keep, too");
        }
        assert_has(
            &trust("retire").unwrap_err(),
            &["pods may still hold tokens", "wait"],
        );
        servers.coracle(0, &["trust", "retire", key, "--force"]).unwrap();
        for at in 0..2 {
            assert_eq!(key_ids(at).len(), 1);
            assert_eq!(code(&servers, at, &old), "401");
            assert_eq!(code(&servers, at, &new), "201");
            assert_eq!(code(&servers, at, &kept), "401");
        }
        // What a Secret keeps has no end by which it would be replaced, so it is now.
        eventually("another token in the Secret", || {
            let token = told(&servers.all[0], "kept", "token");
            match code(&servers, 1, &token).as_str() {
                "201" => Ok(()),
                code => Err(code.to_owned()),
            }
        });
    });
}

/// Runs `coracle`, which must succeed, in the sandbox.
pub fn coracle(args: &[&str]) -> String {
    let output = Command::new(tools::coracle()).args(args).output();
    said(output.expect("coracle")).unwrap_or_else(|why| panic!("{args:?}: {why}"))
}

#[test]
fn a_witness_learns_no_key_and_a_backup_has_all_of_them() {
    sandboxed(|dir| {
        let servers = Servers::start(dir, 2);
        let (_host, witness) = servers.join_witness("witness");
        servers.coracle(0, &["trust", "rotate", "agent-token"]).unwrap();
        servers
            .coracle(1, &["trust", "prepare", "service-account-key"])
            .unwrap();
        servers.all[0].ok(&[
            "create",
            "configmap",
            "open",
            "--from-literal=a=written-in-the-open",
        ]);
        let document = read(servers.all[0].dir.join("pki/trust.json"));
        let parsed: serde_json::Value = serde_json::from_str(&document).expect("a document");
        let items = parsed["items"].as_object().expect("secrets").values();
        let items: Vec<_> = items
            .flat_map(|items| items.as_array().expect("keys").clone())
            .collect();
        assert_eq!(items.len(), 8, "one of each, and the key that is prepared");
        // It is the key that is not found, not the looking that finds nothing.
        let log = witness.dir.join("raft");
        eventually("what was written, in the witness's log", || {
            match holding(&log, "written-in-the-open").is_empty() {
                true => Err("not yet".to_owned()),
                false => Ok(()),
            }
        });
        for item in items {
            let key = item["key"].as_str().expect("a key").to_owned();
            let line = key.lines().find(|line| !line.starts_with('-')).expect("a line");
            assert_eq!(holding(&log, line), Vec::<PathBuf>::new());
        }

        let (file, folder) = (dir.join("cluster.backup"), dir.join("restored"));
        let (file, folder) = (file.display().to_string(), folder.display().to_string());
        servers.coracle(1, &["backup", &file]).unwrap();
        coracle(&["restore", &file, "--data-dir", &folder]);
        assert_eq!(read(dir.join("restored/pki/trust.json")), document);
        let token = read(servers.all[0].dir.join("agent-token"));
        assert_eq!(read(dir.join("restored/agent-token")), token);
        drop(servers);
        let restored = Cluster::start_as("server", folder.clone().into(), &[]);
        restored.ok(&["get", "configmap", "open"]);
        // It goes on where the lost cluster was.
        let said = coracle(&["trust", "activate", "service-account-key", "--data-dir", &folder]);
        assert_has(&said, &["retiring"]);
        drop(restored);
    });
}

/// What kubectl says with a kubeconfig that somebody keeps elsewhere.
fn with_copy(servers: &Servers, copy: &Path) -> Result<String, String> {
    let copy = copy.display().to_string();
    servers.all[0].try_ok(&["--kubeconfig", &copy, "get", "namespace", "default", "-o", "name"])
}

/// Everybody is understood: clients of every server, servers among themselves, and the node with its pod.
fn all_is_well(servers: &Servers, step: &str) {
    for (at, server) in servers.all.iter().enumerate() {
        eventually(&format!("an answer of server {at} after {step}"), || {
            server.try_ok(&["create", "configmap", &format!("{step}-{at}")])
        });
        eventually(&format!("the pod by way of server {at} after {step}"), || {
            server.exec("box", &["true"])
        });
    }
    let next = (servers.until_led(0) + 1) % servers.all.len();
    servers.hand_over(next);
    servers.all[next].ok(&["create", "configmap", &format!("{step}-led")]);
}

/// Waits until no node is a step behind.
pub fn nodes_have_taken_up(servers: &Servers) {
    eventually("every node has taken it up", || {
        let said = servers.coracle(0, &["trust", "list"])?;
        if said.contains("have not taken up") {
            Err(said)
        } else {
            Ok(())
        }
    });
}

#[test]
fn authorities_are_replaced_step_by_step_while_servers_nodes_and_pods_go_on() {
    sandboxed(|dir| {
        let mut servers = Servers::start(dir, 3);
        let edge = servers.net.add("edge", Place::Lan);
        let file = servers.token().replace("server-token", "agent-token");
        let args = ["--server", &servers.url(0), "--token-file", &file].map(str::to_owned);
        let agent = Cluster::start_on(&edge, "agent", &args.each_ref().map(String::as_str));
        agent.busybox();
        servers.all[0].ready();
        servers.all[0].apply(&idle_pod("box"));
        servers.all[0].pod_ready("box");
        let copy = dir.join("copy.kubeconfig");
        std::fs::copy(servers.all[0].dir.join("admin.kubeconfig"), &copy).expect("a copy");
        let certificates = |map: &str, key: &str| {
            let path = format!("{{.data.{}}}", key.replace('.', "\\."));
            let text = servers.all[0].field(map, &path).unwrap_or_default();
            text.matches("BEGIN CERTIFICATE").count()
        };
        let trust = |at: usize, step: &str| servers.coracle(at, &["trust", step, "authorities"]);
        let own = |name: &str| read(agent.dir.join("pki").join(name));
        let (agent_crt, serving) = (own("agent.crt"), read(servers.all[1].dir.join("pki/serving.crt")));

        // In no other order, and with nobody left behind.
        assert_has(
            &trust(0, "retire").unwrap_err(),
            &["prepare and activate another one first"],
        );
        assert_has(&trust(1, "prepare").unwrap(), &["next"]);
        assert_has(&trust(2, "retire").unwrap_err(), &["activate it first"]);
        nodes_have_taken_up(&servers);
        eventually("two authorities for pods", || {
            match certificates("configmap/kube-root-ca.crt", "ca.crt") {
                2 => Ok(()),
                other => Err(other.to_string()),
            }
        });
        assert_eq!(own("agent-ca.crt").matches("BEGIN CERTIFICATE").count(), 2);
        assert_eq!(own("agent.crt"), agent_crt, "the old one signs still");
        all_is_well(&servers, "prepare");

        servers.all[2].stop();
        let refused = servers.coracle(0, &["trust", "activate", "authorities"]);
        let trust = |at: usize, step: &str| servers.coracle(at, &["trust", step, "authorities"]);
        // It had taken up the step before it stopped, so nothing is in the way: the new ones sign.
        assert_has(&refused.unwrap(), &["retiring", "third"]);
        assert_has(
            &trust(1, "retire").unwrap_err(),
            &["not every server has taken up the last step: third"],
        );
        servers.all[2].restart();
        let serving = changed_serving(&servers, &serving);
        assert_eq!(serving, 3);
        nodes_have_taken_up(&servers);
        assert_ne!(own("agent.crt"), agent_crt, "the new one has signed");
        let metrics = servers.all[0].ok(&["get", "--raw", "/api/v1/nodes/edge/proxy/metrics"]);
        let ttl = "kubelet_certificate_manager_client_ttl_seconds ";
        let ttl = metrics
            .lines()
            .find_map(|line| line.strip_prefix(ttl)?.parse::<u64>().ok());
        assert!(ttl.is_some_and(|left| left > 86_400), "{metrics}");
        all_is_well(&servers, "activate");
        with_copy(&servers, &copy).expect("an old kubeconfig is good still");

        servers.coracle(0, &["trust", "retire", "authorities"]).unwrap();
        nodes_have_taken_up(&servers);
        all_is_well(&servers, "retire");
        let refused = with_copy(&servers, &copy).unwrap_err();
        assert_has(&refused, &["certificate"]);
        eventually("one authority for pods", || {
            let found = servers.all[0].field("configmap/kube-root-ca.crt", "{.data.ca\\.crt}")?;
            match found.matches("BEGIN CERTIFICATE").count() {
                1 => Ok(()),
                other => Err(other.to_string()),
            }
        });
        let map = servers.all[1].ok(&[
            "get",
            "configmap",
            "extension-apiserver-authentication",
            "-n",
            "kube-system",
            "-o",
            "yaml",
        ]);
        assert_eq!(
            map.matches("BEGIN CERTIFICATE").count(),
            2,
            "one of clients and one of front proxies"
        );
        assert_eq!(own("agent-ca.crt").matches("BEGIN CERTIFICATE").count(), 1);

        // From here on all is as ever: a server that starts again, and one that joins.
        servers.all[1].kill();
        servers.all[1].restart();
        servers.join(&[]);
        all_is_well(&servers, "join");
        let log = servers.all[0].log() + &agent.log();
        assert!(!log.contains("panicked"), "{log}");
    });
}

/// The certificates in a file of a server's folder.
fn certificates_in(server: &Cluster, name: &str) -> usize {
    read(server.dir.join(name)).matches("BEGIN CERTIFICATE").count()
}

#[test]
fn a_witness_follows_the_authorities_and_is_not_left_behind() {
    sandboxed(|dir| {
        let mut servers = Servers::start(dir, 2);
        let (host, mut witness) = servers.join_witness("witness");
        let key = "pki/peer-ca.key";
        let (peer_key, serving) = (
            read(witness.dir.join(key)),
            read(witness.dir.join("pki/serving.crt")),
        );
        let trust = |servers: &Servers, step: &str| servers.coracle(0, &["trust", step, "authorities"]);
        let taken_up = |servers: &Servers| {
            eventually("everybody has taken it up", || {
                match servers.coracle(1, &["trust", "list"])? {
                    said if said.contains("have not taken up") => Err(said),
                    _ => Ok(()),
                }
            });
        };
        trust(&servers, "prepare").unwrap();
        taken_up(&servers);
        for name in ["pki/client-ca.crt", "pki/peer-ca.crt", "pki/serving-ca.crt"] {
            assert_eq!(certificates_in(&witness, name), 2, "{name}");
        }
        assert_eq!(read(witness.dir.join(key)), peer_key, "the old one signs still");

        // One that is away is named, and the step is not made.
        witness.kill();
        trust(&servers, "activate").expect("it had taken up the step before");
        let refused = trust(&servers, "retire").unwrap_err();
        assert_has(
            &refused,
            &[
                "not every server has taken up the last step: witness",
                "coracle member remove",
            ],
        );
        servers.all[0].ok(&["create", "configmap", "without-the-witness"]);
        witness.restart();
        taken_up(&servers);
        assert_ne!(read(witness.dir.join(key)), peer_key, "the new one signs");
        assert_ne!(read(witness.dir.join("pki/serving.crt")), serving);
        trust(&servers, "retire").unwrap();
        taken_up(&servers);
        for name in ["pki/client-ca.crt", "pki/peer-ca.crt", "pki/serving-ca.crt"] {
            assert_eq!(certificates_in(&witness, name), 1, "{name}");
        }
        for secret in [
            "pki/client-ca.key",
            "pki/serving-ca.key",
            "pki/trust.json",
            "server-token",
        ] {
            assert!(!witness.dir.join(secret).exists(), "{secret}");
        }
        let new = servers.all[0].dir.join(key);
        assert_eq!(read(witness.dir.join(key)), read(new));

        // It votes: with it, either server goes on alone. So it does after a start.
        for lost in [0, 1] {
            servers.all[lost].kill();
            let name = format!("without-{lost}");
            eventually("a write with the witness's vote", || {
                servers.all[1 - lost].try_ok(&["create", "configmap", &name])
            });
            servers.all[lost].restart();
            servers.until_level(lost);
            witness.kill();
            witness.restart();
            servers.until_role(lost, "witness", "witness");
        }
        let log = witness.log();
        assert!(!log.contains("panicked"), "{log}");
        drop(host);
    });
}

/// How many servers have another serving certificate than the one that one of them had.
fn changed_serving(servers: &Servers, before: &str) -> usize {
    let all = servers.all.iter();
    all.filter(|server| read(server.dir.join("pki/serving.crt")) != before)
        .count()
}
