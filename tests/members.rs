//! Several servers: joining, answering for one another, and outliving each other.

use std::path::{Path, PathBuf};

use apiserver::peers::{PeerDialer, PeerTls};
use apiserver::pki::Ca;
use store::{Dialer, Peer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::hosts::Place;
use crate::support::manifests::idle_pod;
use crate::support::rest::As;
use crate::support::said::said;
use crate::support::sandbox::run;
use crate::support::servers::Servers;
use crate::support::{Cluster, assert_has, eventually, sandboxed};

#[test]
fn servers_join_and_answer_for_one_another() {
    sandboxed(|dir| {
        let servers = Servers::start(dir, 3);
        for (at, server) in servers.all.iter().enumerate() {
            server.ok(&["create", "configmap", &format!("by-{at}"), "--from-literal=a=b"]);
        }
        for server in &servers.all {
            let found = server.ok(&["get", "configmaps", "-o", "name"]);
            assert_has(&found, &["configmap/by-0", "configmap/by-1", "configmap/by-2"]);
        }
        // Every server's address leads to the API.
        let path = "{.subsets[*].addresses[*].ip}";
        let ips: Vec<&str> = servers.hosts.iter().map(|host| host.ip.as_str()).collect();
        servers.all[1].until("endpoints/kubernetes", path, &ips.join(" "));
        let slice = "endpointslice/kubernetes";
        servers.all[2].until(slice, "{.endpoints[*].addresses[0]}", &ips.join(" "));

        // History is forgotten on all of them when somebody says so, and each makes its files smaller.
        let old = servers.all[2]
            .field("configmap/by-0", "{.metadata.resourceVersion}")
            .unwrap();
        let at_old = format!("/api/v1/configmaps?resourceVersion={old}&resourceVersionMatch=Exact");
        servers.all[2].ok(&["get", "--raw", &at_old]);
        let said = servers.coracle(1, &["store", "compact"]).unwrap();
        assert_has(&said, &["forgot what was before revision"]);
        for server in &servers.all {
            eventually("a word that it is gone", || {
                match server.try_ok(&["get", "--raw", &at_old]) {
                    Err(why) if why.contains("too old") => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            });
        }
        let said = servers
            .coracle(0, &["store", "compact", "999999999"])
            .unwrap_err();
        assert_has(&said, &["revision 999999999 has not happened yet"]);
        let said = servers.coracle(2, &["store", "defragment"]).unwrap();
        assert_has(&said, &["first: ", "second: ", "third: ", "of files"]);
        let said = servers
            .coracle(2, &["store", "defragment", "fourth"])
            .unwrap_err();
        assert_has(&said, &["no server is named \"fourth\""]);
        for verb in ["compact", "defragment"] {
            let path = format!("/apis/coracle.dev/v1/store/{verb}");
            let refused = servers.all[0].call(&As::Anonymous, "POST", &path, "", "");
            refused.is(403, "Forbidden", &["store"]);
        }
    });
}

#[test]
fn a_dead_server_is_replaced_and_what_would_lose_the_majority_is_refused() {
    sandboxed(|dir| {
        let mut servers = Servers::start(dir, 3);
        servers.hand_over(1);
        assert_has(
            &servers.coracle(0, &["member", "remove", "second"]).unwrap_err(),
            &["leads", "hand leadership to another one first"],
        );
        let status = servers.coracle(2, &["status"]).unwrap();
        assert_has(
            &status,
            &[
                "NAME",
                "LAG",
                "DISK FREE",
                "first",
                "second",
                "third",
                "voter",
                "yes",
            ],
        );

        servers.all[2].kill();
        // At once, when nobody could have missed it yet.
        let refused = servers.coracle(0, &["member", "remove", "first"]).unwrap_err();
        assert_has(&refused, &["only 1 of 2 voters would be reachable"]);
        assert_has(&refused, &["2 are needed to go on"]);
        let status = servers.coracle(0, &["status"]).unwrap();
        assert_has(&status, &["unreachable"]);

        servers.coracle(0, &["member", "remove", "third"]).unwrap();
        eventually("a word that it is not there any more", || {
            match servers.coracle(0, &["member", "remove", "third"]) {
                Err(why) if why.contains("not found") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        servers.all[0].ok(&["create", "configmap", "meanwhile"]);
        servers.join(&[]);
        servers.all[3].ok(&["get", "configmap", "meanwhile"]);
        let members = servers.coracle(3, &["member", "list"]).unwrap();
        assert_has(&members, &["first", "second", "fourth", "192.0.2.13:6443"]);
        assert!(!members.contains("third"), "{members}");

        // Whoever was removed is told so, and stops.
        let args = ["--node-name", "third"];
        let mut child = servers.hosts[2].launch("server", &args);
        let ended = child.wait().expect("its end");
        assert!(!ended.success());
        assert_has(
            &servers.all[2].log(),
            &[
                "this server was removed from the cluster",
                "empty its data folder",
            ],
        );
    });
}

#[test]
fn who_may_not_join_is_told_why() {
    sandboxed(|dir| {
        let servers = Servers::start(dir, 2);
        let host = servers.net.add("other", Place::Lan);
        let (url, token) = (servers.url(0), servers.token());
        let refused = |data: &Path, args: &[&str]| {
            let mut command = std::process::Command::new(crate::support::tools::coracle());
            command.arg("server").arg("--data-dir").arg(data).args(args);
            crate::support::said::said(host.output(&mut command)).expect_err("a refusal")
        };
        let data = host.data();
        let join = ["--join", &url, "--token-file", &token];
        assert_has(&refused(&data, &join[..2]), &["--token-file", "server-token"]);
        let agents = servers.all[0].dir.join("agent-token").display().to_string();
        assert_has(
            &refused(&data, &["--join", &url, "--token-file", &agents]),
            &["holds no server token"],
        );
        let named = [&join[..], &["--node-name", "second"]].concat();
        assert_has(
            &refused(&data, &named),
            &[
                "a server named second is a member already",
                "member remove second",
            ],
        );
        let taken = [&join[..], &["--advertise-address", &servers.hosts[1].ip]].concat();
        assert_has(&refused(&data, &taken), &["belongs to the member second"]);
        let port = [&join[..], &["--listen", "7443"]].concat();
        assert_has(&refused(&data, &port), &["--listen 6443"]);
        let range = [&join[..], &["--pod-cidr", "10.200.0.0/16"]].concat();
        assert_has(
            &refused(&data, &range),
            &["--pod-cidr 10.200.0.0/16 is not what the cluster has"],
        );
        // The token of a cluster that this is not, and a secret that is wrong.
        let text = std::fs::read_to_string(&token).unwrap();
        let parts: Vec<&str> = text.trim().split('.').collect();
        let forged = |hash: &str, secret: &str| {
            let file = dir.join("forged-token");
            std::fs::write(&file, format!("coracle1.{hash}.server.{secret}")).unwrap();
            file.display().to_string()
        };
        let fresh = dir.join("fresh");
        let wrong = forged(&"a".repeat(64), parts[3]);
        assert_has(
            &refused(&fresh, &["--join", &url, "--token-file", &wrong]),
            &["not the one that the token names"],
        );
        let wrong = forged(parts[1], &"b".repeat(64));
        assert_has(
            &refused(&fresh, &["--join", &url, "--token-file", &wrong]),
            &["does not accept this token"],
        );
        // A folder of another cluster stays what it is.
        let lone = servers.net.add("lone", Place::Lan);
        drop(Cluster::start_on(&lone, "server", &[]));
        assert_has(&refused(&lone.data(), &join), &["belongs to another cluster"]);
    });
}

#[test]
fn strangers_and_garbage_do_no_harm() {
    sandboxed(|dir| {
        let servers = Servers::start(dir, 2);
        let members = servers.members(0).unwrap();
        let number = |value: &serde_json::Value| u64::from_str_radix(value.as_str().unwrap(), 16).unwrap();
        let cluster = number(&members["cluster"]);
        let first = &members["items"][0];
        let peer = Peer {
            id: number(&first["id"]),
            name: "first".to_owned(),
            address: first["address"].as_str().unwrap().to_owned(),
            witness: false,
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let dial = |authority: &Path, cluster: u64| {
            let now = jiff::Timestamp::now();
            let ca = Ca::open(authority, "peer-ca", "coracle-peer-ca", now).unwrap();
            let dialer = PeerDialer::default();
            dialer.introduce(
                PeerTls::new(&ca, &[ca.der().clone()], cluster, 0xbad, now)
                    .unwrap()
                    .into(),
            );
            runtime.block_on(dialer.dial(&peer))
        };
        let foreign = dir.join("foreign");
        std::fs::create_dir(&foreign).unwrap();
        assert!(dial(&foreign, cluster).is_err());
        let own = servers.all[0].dir.join("pki");
        assert!(
            dial(&own, cluster ^ 1).is_err(),
            "it takes this server for one of another cluster"
        );
        let refused = "refused a connection that claims to be another server's";
        eventually("the refusal in the log", || {
            match servers.all[0].log().contains(refused) {
                true => Ok(()),
                false => Err("not yet".to_owned()),
            }
        });

        // With a certificate of this cluster, and nothing sensible to say.
        let genuine = servers.all[0].dir.join("pki");
        for garbage in [
            vec![0u8; 4096],
            b"CORACPER garbage of another sort ....................".to_vec(),
        ] {
            let mut stream = dial(&genuine, cluster).expect("a connection");
            runtime.block_on(async {
                stream.write_all(&garbage).await.unwrap();
                stream.flush().await.unwrap();
                let mut rest = Vec::new();
                // However it ends, it ends.
                let _ = stream.read_to_end(&mut rest).await;
                assert!(rest.is_empty());
            });
        }
        assert_has(
            &servers.all[0].log(),
            &["closed the connection of another server", "greeting"],
        );
        servers.all[1].ok(&["create", "configmap", "unharmed"]);
        servers.all[0].ok(&["get", "configmap", "unharmed"]);
    });
}

#[test]
fn nodes_are_reached_from_every_server_and_move_over() {
    sandboxed(|dir| {
        let mut servers = Servers::start(dir, 3);
        let edge = servers.net.add("edge", Place::Lan);
        let token = servers.all[0].dir.join("agent-token").display().to_string();
        let url = servers.url(0);
        let mut agent = Cluster::start_on(&edge, "agent", &["--server", &url, "--token-file", &token]);
        agent.busybox();
        servers.all[1].ready();
        servers.all[1].apply(&idle_pod("box"));
        servers.all[2].pod_ready("box");
        for server in &servers.all {
            let said = eventually("exec by way of each server", || {
                server.exec("box", &["echo", "here"])
            });
            assert_eq!(said, "here\n");
        }

        let contexts = || servers.all[0].ok(&["config", "get-contexts", "-o", "name"]);
        eventually("a kubeconfig that leads to every server", || match contexts() {
            all if all == "coracle\ncoracle-second\ncoracle-third\n" => Ok(()),
            other => Err(other),
        });

        // The server that the node was told of is gone, and the node restarts: it remembers the others.
        servers.all[0].kill();
        eventually("exec without the first server", || {
            servers.all[1].exec("box", &["true"])
        });
        // Its kubeconfig leads to the others, too.
        assert_has(
            &servers.coracle(0, &["member", "list"]).unwrap(),
            &["second", "third"],
        );
        servers.all[0].ok(&["--context", "coracle-third", "get", "pod", "box"]);
        agent.kill();
        agent.restart();
        servers.until_led(1);
        servers.all[1].apply(&idle_pod("second-box"));
        servers.all[2].pod_ready("second-box");
        eventually("exec in the new pod", || {
            servers.all[2].exec("second-box", &["true"])
        });

        // And the first one is told of everything when it is back.
        servers.all[0].restart();
        eventually("exec by way of the first server", || {
            servers.all[0].exec("second-box", &["true"])
        });
    });
}

#[test]
fn servers_that_run_pods_are_reached_from_each_other() {
    sandboxed(|dir| {
        let servers = Servers::start_as(dir, "up", 2);
        let on = |name: &str, node: &str| {
            idle_pod(name).replace("spec:\n  ", &format!("spec:\n  nodeName: {node}\n  "))
        };
        for (at, name) in ["first", "second"].into_iter().enumerate() {
            servers.all[at].busybox();
            servers.all[at].until(
                &format!("node/{name}"),
                "{.status.conditions[?(@.type==\"Ready\")].status}",
                "True",
            );
            servers.all[1 - at].apply(&on(&format!("on-{name}"), name));
        }
        for server in &servers.all {
            for pod in ["on-first", "on-second"] {
                server.pod_ready(pod);
                eventually("exec", || server.exec(pod, &["true"]));
            }
        }
    });
}

/// The one name that all servers have.
const NAME: &str = "api.example.test";

/// Has a name lead to every server, for the programs in the sandbox: a mount in its own mount namespace.
fn name_all(servers: &Servers, dir: &Path) {
    let lines = servers.hosts.iter().map(|host| format!("{} {NAME}\n", host.ip));
    let file = dir.join("hosts");
    std::fs::write(
        &file,
        format!("127.0.0.1 localhost\n{}", lines.collect::<String>()),
    )
    .expect("a file");
    run("mount", &["--bind", file.to_str().expect("a path"), "/etc/hosts"]);
}

/// A kubeconfig that leads to that name.
fn by_name(servers: &Servers) -> PathBuf {
    let text = std::fs::read_to_string(servers.all[0].dir.join("admin.kubeconfig")).expect("a kubeconfig");
    let file = servers.all[0].home().join("by-name.kubeconfig");
    let text = text.replace(&servers.url(0), &format!("https://{NAME}:6443"));
    assert!(text.contains(NAME), "{text}");
    std::fs::write(&file, text).expect("a file");
    file
}

#[test]
fn kubectl_moves_over_by_itself_where_all_servers_have_one_name() {
    sandboxed(|dir| {
        let mut servers = Servers::start(dir, 3);
        for at in 0..3 {
            let name = servers.hosts[at].name.clone();
            servers.all[at].stop();
            servers.all[at].restart_with(&["--node-name", &name, "--tls-san", NAME].map(str::to_owned));
            servers.until_level(at);
        }
        name_all(&servers, dir);
        let kubeconfig = by_name(&servers);
        let kubectl = |servers: &Servers, args: &[&str]| {
            let mut command = servers.all[0].kubectl(args);
            said(command.env("KUBECONFIG", &kubeconfig).output().expect("kubectl"))
        };
        kubectl(&servers, &["create", "configmap", "by-name"]).expect("a write when all is well");
        for at in 0..3 {
            servers.all[at].kill();
            // While nobody leads any server says so; whichever kubectl has found.
            eventually("a write without one of them", || {
                kubectl(&servers, &["create", "configmap", &format!("without-{at}")])
            });
            let found = kubectl(&servers, &["get", "configmaps", "-o", "name"]).expect("a list");
            assert_has(&found, &["configmap/by-name", &format!("configmap/without-{at}")]);
            servers.all[at].restart();
            servers.until_level(at);
        }
    });
}
