//! Pods of Wasm programs.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::support::manifests::{command_pod, wasm_web};
use crate::support::{Cluster, assert_has, eventually, sandboxed, tools};

#[test]
fn a_command_gets_its_arguments_and_its_end_counts() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        for image in ["hello-cli", "hello-cli-module"] {
            let (good, bad) = (format!("{image}-good"), format!("{image}-bad"));
            let image = format!("local/{image}:1");
            cluster.apply(&command_pod(
                &good,
                &image,
                &["one", "two words", "--stderr", "to stderr"],
            ));
            assert_eq!(cluster.finished(&good), "Succeeded");
            assert_eq!(cluster.exit_code(&good), "0");
            let log = cluster.ok(&["logs", &good]);
            assert_has(
                &log,
                &[
                    "one two words",
                    "env: COLOUR=blue",
                    "to stderr",
                    &format!("env: HOSTNAME={good}"),
                ],
            );

            cluster.apply(&command_pod(
                &bad,
                &image,
                &["--write", "/dev/termination-log", "last words", "--exit", "7"],
            ));
            assert_eq!(cluster.finished(&bad), "Failed");
            assert_eq!(cluster.exit_code(&bad), "7");
            let reason = cluster.field(
                &format!("pod/{bad}"),
                "{.status.containerStatuses[0].state.terminated.reason}",
            );
            let words = "{.status.containerStatuses[0].state.terminated.message}";
            assert_eq!(cluster.field(&format!("pod/{bad}"), words).unwrap(), "last words");
            assert_eq!(reason.unwrap(), "Error");
            assert_has(&cluster.ok(&["get", "pod", &bad]), &["Error", "0/1"]);
            assert_has(&cluster.ok(&["get", "pod", &good]), &["Completed", "0/1"]);
        }
    });
}

/// Sends a line to an echo server; the greeting and the echo.
fn echo(ip: &str) -> Result<String, String> {
    let talk = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((ip, 8080))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"over there\n")?;
        let mut text = String::new();
        let mut buffer = [0; 256];
        while !text.contains("over there") {
            match stream.read(&mut buffer)? {
                0 => break,
                n => text.push_str(&String::from_utf8_lossy(&buffer[..n])),
            }
        }
        Ok(text)
    };
    talk().map_err(|error| error.to_string())
}

#[test]
fn two_servers_listen_on_the_port_the_host_listens_on() {
    sandboxed(|dir| {
        let host = TcpListener::bind("0.0.0.0:8080").unwrap();
        std::thread::spawn(move || {
            for stream in host.incoming() {
                let _ = stream.and_then(|mut stream| stream.write_all(b"hello from the host: over there\n"));
            }
        });
        let cluster = Cluster::stocked(dir, &[]);
        for name in ["echo-1", "echo-2"] {
            cluster.ok(&["run", name, "--image=local/tcp-echo:1", "--port=8080"]);
        }
        for name in ["echo-1", "echo-2"] {
            cluster.pod_ready(name);
            cluster.logged(name, None, &["listening on"]);
            let answer = eventually(name, || echo(&cluster.pod_ip(name)));
            assert_has(&answer, &[&format!("hello from {name}"), "over there"]);
        }
        assert_has(&echo("127.0.0.1").unwrap(), &["hello from the host"]);

        // From guest to guest, by name.
        cluster.ok(&[
            "expose",
            "pod",
            "echo-2",
            "--name=echo",
            "--port=90",
            "--target-port=8080",
        ]);
        cluster.apply(&command_pod(
            "caller",
            "local/tcp-echo:1",
            &["connect", "echo:90", "knock knock"],
        ));
        eventually("an answer to the guest", || {
            match cluster.finished("caller").as_str() {
                "Succeeded" => Ok(()),
                // The Service may have had no endpoints yet.
                _ => {
                    let why = cluster.ok(&["logs", "caller"]);
                    cluster.ok(&["delete", "pod", "caller", "--grace-period=0", "--force"]);
                    cluster.apply(&command_pod(
                        "caller",
                        "local/tcp-echo:1",
                        &["connect", "echo:90", "knock knock"],
                    ));
                    Err(why)
                }
            }
        });
        assert_has(
            &cluster.ok(&["logs", "caller"]),
            &["hello from echo-2", "knock knock"],
        );
    });
}

#[test]
fn a_truncated_program_says_what_is_wrong() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        let whole = std::fs::read(tools::guest("hello-http.wasm")).unwrap();
        let file = dir.join("cut.wasm");
        std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
        cluster.import(&file, &["--name", "local/cut:1"]);
        cluster.ok(&["run", "cut", "--image=local/cut:1"]);
        cluster.event("cut", "Failed", &["invalid wasm program"]);
        assert_eq!(
            cluster
                .field("pod/cut", "{.status.containerStatuses[0].ready}")
                .unwrap(),
            "false"
        );
        let waiting = "{.status.containerStatuses[0].state.waiting.message}{.status.containerStatuses[0].lastState.terminated.message}";
        assert_has(
            &cluster.field("pod/cut", waiting).unwrap(),
            &["invalid wasm program"],
        );
        // Nothing else suffers.
        cluster.ok(&["run", "good", "--image=local/hello-http:1"]);
        cluster.pod_ready("good");
    });
}

#[test]
fn a_deployment_of_programs_scales_and_heals() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        cluster.apply(&wasm_web("web", 2, false));
        cluster.deployed("web", 2);
        cluster.ok(&["scale", "deployment", "web", "--replicas=5"]);
        cluster.deployed("web", 5);
        let before = cluster.pods("app=web");
        let victim = before.first().unwrap();
        cluster.ok(&["delete", "pod", victim]);
        cluster.deployed("web", 5);
        let after = cluster.pods("app=web");
        assert!(
            after.len() == 5 && !after.contains(victim),
            "{victim} still among {after:?}"
        );
        cluster.ok(&["scale", "deployment", "web", "--replicas=0"]);
        eventually("no pods", || {
            let left = cluster.pods("app=web");
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("{left:?}"))
            }
        });
    });
}

/// A pod of the module that accepts connections.
fn accepting(name: &str, ports: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: local/accept:1
    ports: {ports}
"#
    )
}

#[test]
fn a_core_module_accepts_connections_on_its_ports() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        cluster.import_text("accept", include_str!("programs/accept.wat"));
        for name in ["one", "two"] {
            cluster.apply(&accepting(name, "[{name: talk, containerPort: 9000}]"));
        }
        for name in ["one", "two"] {
            cluster.pod_ready(name);
            let ip = cluster.pod_ip(name);
            for words in ["good day", "good night"] {
                let talk = || -> std::io::Result<String> {
                    let mut stream = TcpStream::connect((ip.as_str(), 9000))?;
                    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
                    stream.write_all(words.as_bytes())?;
                    stream.shutdown(std::net::Shutdown::Write)?;
                    let mut text = String::new();
                    stream.read_to_string(&mut text)?;
                    Ok(text)
                };
                let said = eventually(name, || talk().map_err(|error| error.to_string()));
                assert_eq!(said, format!("hello from a module\n{words}"), "{name}");
            }
        }
        // Without a port it has nothing to accept on, which it is told.
        cluster.apply(&accepting("portless", "[]"));
        assert_eq!(cluster.finished("portless"), "Failed");
        cluster.logged("portless", None, &["sock_accept", "names no TCP port"]);
        assert_eq!(cluster.exit_code("portless"), "11");
    });
}
