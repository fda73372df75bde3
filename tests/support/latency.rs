//! How the API answers while something else goes on.

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Cluster;

/// The object that is read and written.
const OBJECT: &str = "/api/v1/namespaces/default/configmaps/latency";
/// Pairs of a GET and a PUT on one connection, one after another.
const PAIRS: usize = 25;

/// Reads and writes an object again and again for `time`, at least once.
/// Prints how long the API took; fails if any request fails.
pub fn probe(cluster: &Cluster, what: &str, time: Duration) {
    let (cert, key) = cluster.admin_files();
    let mut script = String::new();
    let url = format!("https://127.0.0.1:{}{OBJECT}", cluster.port);
    for pair in 0..PAIRS {
        let body = format!(
            r#"{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"latency\"}},\"data\":{{\"n\":\"{}-{pair}\"}}}}"#,
            what.replace(' ', "-")
        );
        for request in [
            "request = \"GET\"".to_owned(),
            format!("request = \"PUT\"\nheader = \"Content-Type: application/json\"\ndata = \"{body}\""),
        ] {
            let _ = writeln!(
                script,
                "url = \"{url}\"\ninsecure\nsilent\nshow-error\nmax-time = 60\noutput = \"/dev/null\"\n\
                 cert = \"{}\"\nkey = \"{}\"\nwrite-out = \"%{{http_code}} %{{time_total}}\\n\"\n{request}\nnext",
                cert.display(),
                key.display()
            );
        }
    }
    let file = cluster.home().join("latency.curl");
    std::fs::write(&file, script).expect("a script for curl");
    let mut took: Vec<f64> = Vec::new();
    let began = Instant::now();
    while took.is_empty() || began.elapsed() < time {
        let out = Command::new("curl")
            .arg("-K")
            .arg(&file)
            .stdin(Stdio::null())
            .output()
            .expect("curl");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let answers: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once(' ')).collect();
        assert_eq!(
            answers.len(),
            2 * PAIRS,
            "{what}: {text}{}",
            String::from_utf8_lossy(&out.stderr)
        );
        for (code, seconds) in answers {
            assert_eq!(code, "200", "{what}: the API failed");
            took.push(seconds.parse().expect("seconds"));
        }
    }
    took.sort_by(f64::total_cmp);
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize] * 1000.0;
    eprintln!(
        "API under {what}: {} requests, p50 {:.1} ms, p99 {:.1} ms, worst {:.1} ms",
        took.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

/// Makes the object that [`probe`] reads and writes.
pub fn prepare(cluster: &Cluster) {
    cluster.ok(&["create", "configmap", "latency", "--from-literal=n=0"]);
}
