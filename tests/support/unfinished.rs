//! Requests that have begun and do not end until they are told to.

use std::io::Write;
use std::process::{Child, Command, Stdio};

use super::Cluster;

/// A ConfigMap on its way to the namespace `default`: the server has begun to read it.
pub struct Unfinished(Child);

impl Unfinished {
    /// Begins it, as the holder of a token.
    pub fn begin(cluster: &Cluster, token: &str) -> Self {
        let url = format!(
            "https://127.0.0.1:{}/api/v1/namespaces/default/configmaps",
            cluster.port
        );
        let child = Command::new("curl")
            .args([
                "-sS",
                "-k",
                "-X",
                "POST",
                "-T",
                "-",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
            ])
            .args(["-H", "Content-Type: application/json"])
            .args(["-H", &format!("Authorization: Bearer {token}")])
            .arg(url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("curl");
        let mut one = Self(child);
        one.say("{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", ");
        one
    }

    fn say(&mut self, text: &str) {
        let stdin = self.0.stdin.as_mut().expect("stdin");
        stdin.write_all(text.as_bytes()).expect("curl reads");
        stdin.flush().expect("curl reads");
    }

    /// Sends the rest; the answer's code.
    pub fn end(mut self) -> String {
        self.say("\"metadata\": {\"generateName\": \"slow-\"}}");
        drop(self.0.stdin.take());
        let out = self.0.wait_with_output().expect("curl");
        String::from_utf8_lossy(&out.stdout).into_owned()
    }
}
