//! An orderly upgrade: the node's process ends and another begins, and nobody who connects to a Wasm pod is refused.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::manifests::{BUSYBOX, IDLE, service};
use crate::support::running::processes;
use crate::support::{Cluster, assert_has, eventually, sandboxed};

/// Asks once, over a connection of its own; what came back, or how it failed.
fn ask(ip: &str, port: u16, path: &str) -> Result<String, String> {
    let talk = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((ip, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    match talk() {
        Ok(text) if text.starts_with("HTTP/1.1 200") => Ok(text),
        other => Err(format!("{path} of {ip}:{port}: {other:?}")),
    }
}

/// Has a text echoed, a while after the connection was made; the greeting that came before it.
fn echo(ip: &str, text: &str, pause: Duration) -> Result<String, String> {
    let talk = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((ip, 8080))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        std::thread::sleep(pause);
        stream.write_all(text.as_bytes())?;
        let mut heard = String::new();
        while !heard.ends_with(text) {
            let mut part = [0; 256];
            match stream.read(&mut part)? {
                0 => return Err(std::io::Error::other(format!("closed after {heard:?}"))),
                length => heard.push_str(&String::from_utf8_lossy(&part[..length])),
            }
        }
        Ok(heard)
    };
    talk().map_err(|error| format!("{text} to {ip}: {error}"))
}

/// Asks again and again until it is told to end; how often it was answered, and what went wrong.
fn ask_on(
    end: &Arc<AtomicBool>,
    ask: impl Fn() -> Result<String, String> + Send + 'static,
) -> JoinHandle<(usize, Vec<String>)> {
    let end = end.clone();
    std::thread::spawn(move || {
        let (mut good, mut bad) = (0, Vec::new());
        while !end.load(Ordering::Relaxed) {
            match ask() {
                Ok(_) => good += 1,
                Err(why) => bad.push(why),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        (good, bad)
    })
}

#[test]
fn nobody_is_refused_by_an_upgrade() {
    sandboxed(|dir| {
        let mut cluster = Cluster::stocked(dir, &[]);
        let guest = "{name: guest, image: local/hello-http:1, ports: [{containerPort: 8080}]}";
        let plain = format!("{{name: plain, image: \"{BUSYBOX}\", command: [sh, -c, {IDLE:?}]}}");
        for (name, containers) in [
            ("alone", guest.to_owned()),
            ("mixed", format!("{guest}, {plain}")),
        ] {
            cluster.apply(&format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  containers: \
                 [{containers}]\n"
            ));
        }
        cluster.apply(&service("alone"));
        // One that listens itself.
        let echoing = "{name: guest, image: local/tcp-echo:1}";
        for (name, containers) in [
            ("echo", echoing.to_owned()),
            ("mixed-echo", format!("{echoing}, {plain}")),
        ] {
            cluster.apply(&format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  containers: [{containers}]\n"
            ));
        }
        let ips = ["alone", "mixed"].map(|name| {
            cluster.pod_ready(name);
            cluster.pod_ip(name)
        });
        let balanced = cluster.cluster_ip("alone");
        eventually("the Service", || ask(&balanced, 80, "/"));
        let echoing = ["echo", "mixed-echo"].map(|name| {
            cluster.pod_ready(name);
            let ip = cluster.pod_ip(name);
            eventually("the echo", || echo(&ip, "ready", Duration::ZERO));
            ip
        });

        let end = Arc::new(AtomicBool::new(false));
        let asked = |ip: &String, port| {
            let ip = ip.clone();
            ask_on(&end, move || ask(&ip, port, "/"))
        };
        let echoed = |ip: &String| {
            let ip = ip.clone();
            ask_on(&end, move || echo(&ip, "on and on", Duration::ZERO))
        };
        let asking = [
            asked(&ips[0], 8080),
            asked(&ips[1], 8080),
            asked(&balanced, 80),
            echoed(&echoing[0]),
            echoed(&echoing[1]),
        ];
        // Begun before the end, and answered: nobody is cut off.
        let slow = ips
            .clone()
            .map(|ip| std::thread::spawn(move || ask(&ip, 8080, "/sleep?ms=1500")));
        let slow_echo = echoing
            .clone()
            .map(|ip| std::thread::spawn(move || echo(&ip, "slow", Duration::from_millis(1500))));
        std::thread::sleep(Duration::from_millis(300));
        cluster.stop();
        for slow in slow_echo {
            assert_has(&slow.join().unwrap().unwrap(), &["hello from", "slow"]);
        }
        for slow in slow {
            assert_has(&slow.join().unwrap().unwrap(), &["slept"]);
        }
        // While there is no agent they wait.
        let waiting = ips
            .clone()
            .map(|ip| std::thread::spawn(move || ask(&ip, 8080, "/")));
        let echo_waiting = echoing
            .clone()
            .map(|ip| std::thread::spawn(move || echo(&ip, "in between", Duration::ZERO)));
        std::thread::sleep(Duration::from_millis(500));
        assert!(echo_waiting.iter().all(|one| !one.is_finished()));
        assert!(waiting.iter().all(|one| !one.is_finished()));
        assert_eq!(processes(&["hold", "handover.sock"]).len(), 1);
        cluster.restart();
        cluster.ready();
        for one in waiting {
            assert_has(&one.join().unwrap().unwrap(), &["hello from"]);
        }
        for one in echo_waiting {
            assert_has(&one.join().unwrap().unwrap(), &["hello from", "in between"]);
        }
        for name in ["alone", "mixed", "echo", "mixed-echo"] {
            cluster.pod_ready(name);
        }
        std::thread::sleep(Duration::from_secs(1));
        end.store(true, Ordering::Relaxed);
        for one in asking {
            let (good, bad) = one.join().unwrap();
            assert!(
                bad.is_empty(),
                "{} of {} failed: {:?}",
                bad.len(),
                bad.len() + good,
                bad.first()
            );
            assert!(good > 20, "{good} answers");
        }
        // What was there to hold is held no more, and the same addresses answer.
        assert_eq!(processes(&["hold", "handover.sock"]), Vec::<i32>::new());
        assert_eq!(cluster.pod_ip("alone"), ips[0]);
    });
}
