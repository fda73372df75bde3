//! A second machine: hosts that join a server on another one, and are reached over the connection
//! that they dialled.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::support::hosts::{Host, Hosts, Place};
use crate::support::manifests::{busybox_pod, idle_pod, oci_web, wasm_web};
use crate::support::running::Running;
use crate::support::sandbox::NODE_IP;
use crate::support::{Cluster, assert_has, eventually, has, sandboxed};

/// What the other scenarios stand on: who reaches whom, cables, and power.
#[test]
fn hosts_are_machines_of_their_own() {
    sandboxed(|dir| {
        let hosts = Hosts::start(dir);
        let (near, far, behind) = (
            hosts.add("near", Place::Lan),
            hosts.add("far", Place::Far),
            hosts.add("behind", Place::BehindNat),
        );
        let _serving = [&near, &far, &behind, &hosts.first()].map(serve_name);
        let first = hosts.first();
        for from in [&near, &far, &behind] {
            eventually("a way to the first host", || ask(from, &first));
        }
        for to in [&near, &far] {
            assert_eq!(eventually("a way out", || ask(&first, to)), to.name);
        }
        assert!(ask(&first, &behind).is_err(), "nobody outside may begin");
        assert_eq!(near.run("hostname", &[]).unwrap(), "near\n");

        near.cut();
        assert!(ask(&first, &near).is_err());
        near.mend();
        eventually("a mended cable", || ask(&first, &near));

        near.power_off();
        near.power_on();
        assert!(ask(&first, &near).is_err(), "nothing runs after a power cut");
        let _again = serve_name(&near);
        eventually("a host that is back", || ask(&first, &near));
    });
}

/// Starts a web server that answers with the host's name.
fn serve_name(host: &Arc<Host>) -> Running {
    let name = &host.name;
    let script = format!(
        "mkdir -p /tmp/www-{name}; echo {name} > /tmp/www-{name}/index.html; exec busybox httpd -f -p 8000 -h /tmp/www-{name}"
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]).stdin(Stdio::null());
    Running(host.inside(|| command.spawn()).expect("busybox httpd"))
}

fn ask(from: &Arc<Host>, to: &Arc<Host>) -> Result<String, String> {
    let url = format!("http://{}:8000/", to.ip);
    let said = from.run("curl", &["-sS", "-f", "--max-time", "2", &url])?;
    Ok(said.trim().to_owned())
}

/// A server on the first host, alone, and how others join it.
fn server(hosts: &Hosts) -> Cluster {
    Cluster::start_on(&hosts.first(), "server", &[])
}

fn url() -> String {
    format!("https://{NODE_IP}:6443")
}

fn token(server: &Cluster) -> String {
    server.dir.join("agent-token").display().to_string()
}

/// Joins a host that runs nothing yet, and gives it images.
fn join(host: &Arc<Host>, server: &Cluster) -> Cluster {
    let agent = Cluster::start_on(
        host,
        "agent",
        &["--server", &url(), "--token-file", &token(server)],
    );
    agent.busybox();
    agent.guests();
    server.until(
        &format!("node/{}", host.name),
        "{.status.conditions[?(@.type==\"Ready\")].status}",
        "True",
    );
    agent
}

#[test]
fn a_host_joins_with_one_command_and_is_reached_over_its_own_connection() {
    sandboxed(|dir| joined_and_reached(dir, Place::Lan));
}

#[test]
fn a_host_behind_nat_is_as_good_as_any_other() {
    sandboxed(|dir| joined_and_reached(dir, Place::BehindNat));
}

fn joined_and_reached(dir: &Path, place: Place) {
    let hosts = Hosts::start(dir);
    let edge = hosts.add("edge", place);
    let server = server(&hosts);
    let agent = join(&edge, &server);
    let requests = server.ok(&["get", "certificatesigningrequests", "--no-headers"]);
    assert_has(&requests, &["Approved,Issued"]);

    server.apply(&idle_pod("box"));
    server.apply(&wasm_web("web", 2, false));
    server.apply(&oci_web("plain", 1));
    server.pod_ready("box");
    server.deployed("web", 2);
    server.deployed("plain", 1);
    assert_eq!(server.field("pod/box", "{.spec.nodeName}").unwrap(), "edge");
    eventually("an answer through the Service", || {
        server.wget("box", "http://web/")
    });

    commands(&server);
    logs(&server);
    copies(&server, dir);
    ports(&server);
    proxies(&server);

    drop(agent);
    edge.assert_clean();
}

fn commands(server: &Cluster) {
    assert_eq!(
        server.exec("box", &["echo", "over the link"]).unwrap(),
        "over the link\n"
    );
    let back = server
        .feed(&["exec", "-i", "box", "--", "cat"], "dear pod")
        .unwrap();
    assert_eq!(back, "dear pod");
    let code = server
        .run(&["exec", "box", "--", "sh", "-c", "exit 7"])
        .status
        .code();
    assert_eq!(code, Some(7));
    // `script` is the terminal that kubectl wants to see.
    let mut terminal = Command::new("script");
    let line = "kubectl exec -it box -- sh -c 'test -t 0 && echo a terminal of $(tput cols 2>/dev/null || echo some) columns'";
    terminal
        .args(["-q", "-e", "-c", line, "/dev/null"])
        .stdin(Stdio::null());
    let out = server.dress(&mut terminal).output().expect("script");
    assert_has(&String::from_utf8_lossy(&out.stdout), &["a terminal"]);
}

fn logs(server: &Cluster) {
    let script =
        "read line; echo it says $line; n=0; while [ $n -lt 3 ]; do n=$((n+1)); echo line $n; sleep 1; done";
    let pod = busybox_pod("talker", "Never", script).replace("    command:", "    stdin: true\n    command:");
    server.apply(&pod);
    server.pod_ready("talker");
    let said = server
        .feed(&["attach", "-i", "talker"], "hello\n")
        .unwrap_or_default();
    assert_has(&said, &["it says hello"]);
    // Followed until the container ends, which ends the command.
    let followed = server.ok(&["logs", "-f", "talker"]);
    assert_has(&followed, &["it says hello", "line 1", "line 3"]);
    assert_eq!(server.ok(&["logs", "--tail=1", "talker"]), "line 3\n");
}

fn copies(server: &Cluster, dir: &Path) {
    let (there, back) = (dir.join("letter"), dir.join("answer"));
    std::fs::write(&there, vec![7; 300_000]).unwrap();
    server.ok(&["cp", there.to_str().unwrap(), "box:/tmp/letter"]);
    server.ok(&["cp", "box:/tmp/letter", back.to_str().unwrap()]);
    assert_eq!(std::fs::read(&back).unwrap(), vec![7; 300_000]);
}

fn ports(server: &Cluster) {
    let mut forward = server.kubectl(&["port-forward", "deployment/plain", "18080:8080"]);
    let mut forward = forward.stdout(Stdio::null()).spawn().unwrap();
    let url = "http://127.0.0.1:18080/";
    assert_has(
        &eventually("the forwarded port", || server.curl(url)),
        &["hello from plain-"],
    );
    assert_has(&server.curl(url).unwrap(), &["hello from plain-"]);
    forward.kill().unwrap();
    forward.wait().unwrap();
}

fn proxies(server: &Cluster) {
    let plain = server.pods("app=plain").pop_first().unwrap();
    let wasm = server.pods("app=web").pop_first().unwrap();
    let pods = "/api/v1/namespaces/default/pods";
    let services = "/api/v1/namespaces/default/services";
    let raw = |path: &str| server.try_ok(&["get", "--raw", path]);
    assert_has(&raw(&format!("{pods}/{plain}:8080/proxy/")).unwrap(), &[&plain]);
    assert_has(
        &raw(&format!("{pods}/{plain}/proxy/index.html")).unwrap(),
        &[&plain],
    );
    raw(&format!("{pods}/{wasm}/proxy/")).unwrap();
    assert_has(&raw(&format!("{services}/plain/proxy/")).unwrap(), &[&plain]);
    assert_has(
        &raw(&format!("{services}/http:plain:80/proxy/")).unwrap(),
        &[&plain],
    );
    assert_has(
        &raw(&format!("{pods}/{plain}:8081/proxy/")).unwrap_err(),
        &["error trying to reach service"],
    );
    let node = "/api/v1/nodes/edge/proxy";
    assert_eq!(raw(&format!("{node}/healthz")).unwrap(), "ok");
    assert_has(&raw(&format!("{node}/pods")).unwrap(), &["\"PodList\"", &plain]);
    server.ok(&["scale", "deployment", "plain", "--replicas=0"]);
    eventually("no endpoint", || match raw(&format!("{services}/plain/proxy/")) {
        Err(why) if why.contains("no endpoints available for service") => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn joining_says_what_is_wrong_and_waits_for_what_may_come() {
    sandboxed(|dir| {
        let hosts = Hosts::start(dir);
        let (edge, twin) = (hosts.add("edge", Place::Lan), hosts.add("twin", Place::Lan));
        let mut server = server(&hosts);
        let good = std::fs::read_to_string(token(&server)).unwrap();
        let parts: Vec<&str> = good.trim().split('.').collect();
        let [version, hash, role, secret] = parts[..] else {
            panic!("{good}")
        };
        let other = |text: &str| text.chars().rev().collect::<String>();
        for (token, says) in [
            (
                format!("{version}.{hash}.{role}.{}x", other(secret)),
                "does not accept this token",
            ),
            (
                format!("{version}.{}.{role}.{secret}", other(hash)),
                "certificate authority is not the one",
            ),
            ("nonsense".to_owned(), "this is not an agent token"),
        ] {
            let file = dir.join("token");
            std::fs::write(&file, token).unwrap();
            assert_has(
                &refused(
                    &edge,
                    &["--server", &url(), "--token-file", file.to_str().unwrap()],
                ),
                &[says],
            );
        }

        // Nobody answers: it says so, goes on trying, and joins when the server is back.
        server.stop();
        let mut waiting = edge.launch("agent", &["--server", &url(), "--token-file", &token(&server)]);
        eventually("its word", || {
            has(&log(&edge), &["cannot join yet, trying again"])
        });
        server.restart();
        server.until(
            "node/edge",
            "{.status.conditions[?(@.type==\"Ready\")].status}",
            "True",
        );

        // The name is taken while that node exists, and free when it was deleted.
        let name = [
            "--server",
            &url(),
            "--token-file",
            &token(&server),
            "--node-name",
            "edge",
        ];
        assert_has(
            &refused(&twin, &name),
            &["node \"edge\" is another machine", "kubectl delete node edge"],
        );
        waiting.kill().unwrap();
        waiting.wait().unwrap();
        server.ok(&["delete", "node", "edge"]);
        let joined = Cluster::start_on(&twin, "agent", &name);
        server.until(
            "node/edge",
            "{.status.addresses[?(@.type==\"InternalIP\")].address}",
            &twin.ip,
        );
        drop(joined);
    });
}

/// Starts an agent that must end by itself; what it said.
fn refused(host: &Arc<Host>, args: &[&str]) -> String {
    let status = host.launch("agent", args).wait().unwrap();
    assert!(!status.success(), "it was not refused");
    log(host)
}

fn log(host: &Arc<Host>) -> String {
    std::fs::read_to_string(host.data().with_extension("log")).unwrap_or_default()
}

#[test]
fn the_link_comes_back_after_the_cable_the_server_and_the_agent() {
    sandboxed(|dir| {
        let hosts = Hosts::start(dir);
        let edge = hosts.add("edge", Place::BehindNat);
        let mut server = server(&hosts);
        let mut agent = join(&edge, &server);
        server.apply(&idle_pod("box"));
        server.pod_ready("box");
        let run = || server.exec("box", &["echo", "here"]);
        assert_eq!(run().unwrap(), "here\n");
        edge.cut();
        assert!(
            server
                .try_ok(&["exec", "box", "--request-timeout=3s", "--", "true"])
                .is_err()
        );
        edge.mend();
        eventually("the link after the cable", || server.exec("box", &["true"]));
        server.kill();
        server.restart();
        eventually("the link after the server", || server.exec("box", &["true"]));
        agent.kill();
        agent.restart();
        eventually("the link after the agent", || server.exec("box", &["true"]));
        assert_eq!(
            server
                .field("pod/box", "{.status.containerStatuses[0].restartCount}")
                .unwrap(),
            "0"
        );
    });
}
