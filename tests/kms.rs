//! Keys that a plugin keeps: what lies in the data folder, keys that change while the server runs, and a plugin that
//! goes away.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::encryption::{PASSWORD, configure, holding, make, reads, start};
use crate::support::rest::As;
use crate::support::running::Running;
use crate::support::{Cluster, eventually, has, sandboxed, tools};

/// The plugin's program, and what it knows.
struct Plugin {
    folder: PathBuf,
    socket: PathBuf,
}

impl Plugin {
    fn new(dir: &Path) -> Self {
        let folder = dir.join("kms");
        fs::create_dir_all(folder.join("keys")).expect("a folder");
        for key in ["one", "two"] {
            fs::write(folder.join("keys").join(key), format!("the secret of {key}")).expect("a key");
        }
        let plugin = Self {
            socket: dir.join("kms.sock"),
            folder,
        };
        plugin.writes_with("one");
        plugin
    }

    fn writes_with(&self, key: &str) {
        fs::write(self.folder.join("key"), key).expect("the key's name");
    }

    fn start(&self) -> Running {
        let child = Command::new(tools::example("kms"))
            .args([&self.socket, &self.folder])
            .stdin(Stdio::null())
            .spawn();
        let running = Running(child.expect("the plugin"));
        eventually("its socket", || match self.socket.exists() {
            true => Ok(()),
            false => Err("not there".to_owned()),
        });
        running
    }

    fn provider(&self, more: &str) -> String {
        let socket = self.socket.display();
        format!("kms: {{apiVersion: v2, name: cupboard, endpoint: \"unix://{socket}\"{more}}}")
    }

    fn calls(&self, call: &str) -> usize {
        let calls = fs::read_to_string(self.folder.join("calls")).unwrap_or_default();
        calls.lines().filter(|line| *line == call).count()
    }
}

fn health(cluster: &Cluster) -> u16 {
    cluster
        .call(&As::Admin, "GET", "/readyz/kms-providers", "", "")
        .code
}

fn until_healthy(cluster: &Cluster, wanted: u16) {
    eventually(&format!("{wanted} of kms-providers"), || match health(cluster) {
        code if code == wanted => Ok(()),
        code => Err(code.to_string()),
    });
}

#[test]
fn the_keys_of_secrets_lie_with_a_plugin() {
    sandboxed(|dir| {
        let (plugin, file, data) = (Plugin::new(dir), dir.join("encryption.yaml"), dir.join("data"));
        configure(&file, &[&plugin.provider("")]);
        let running = plugin.start();
        let mut cluster = start(dir, &file);
        until_healthy(&cluster, 200);
        make(&cluster, "login");
        reads(&cluster, "login");
        assert_eq!(plugin.calls("encrypt one"), 1, "one seed for all objects");
        assert!(!holding(&data.join("raft"), "kms:cupboard").is_empty());
        cluster.stop();
        let encoded = STANDARD.encode(PASSWORD);
        for text in [PASSWORD, encoded.as_str(), &encoded[..24]] {
            assert_eq!(holding(&data, text), Vec::<PathBuf>::new());
        }
        cluster.relaunch();
        eventually("the server", || cluster.try_ok(&["get", "secret", "login"]));
        reads(&cluster, "login");
        assert_eq!(plugin.calls("decrypt one"), 1, "seeds stay in memory");
        let metrics = cluster.ok(&["get", "--raw", "/metrics"]);
        let asked = "apiserver_envelope_encryption_kms_operations_latency_seconds_count{provider_name=\"cupboard\",\
                     method_name=\"/v2.KeyManagementService/Decrypt\",grpc_status_code=\"OK\"} 1";
        has(
            &metrics,
            &[asked, "apiserver_envelope_encryption_key_id_hash_total{"],
        )
        .expect("its metrics");

        // The plugin goes away: what is known goes on, and a server that starts without it waits for it.
        drop(running);
        reads(&cluster, "login");
        make(&cluster, "beside");
        cluster.stop();
        cluster.relaunch();
        until_healthy(&cluster, 500);
        eventually("a refusal", || {
            match cluster.try_ok(&["get", "secret", "login"]) {
                Ok(said) => Err(said),
                Err(why) => has(
                    &why,
                    &["failed to decrypt DEK, error: rpc error: code = Unavailable"],
                ),
            }
        });
        cluster.ok(&["get", "configmaps"]);
        let _running = plugin.start();
        until_healthy(&cluster, 200);
        reads(&cluster, "login");
        reads(&cluster, "beside");

        // An older version of the plugins' API is refused, and changes nothing.
        configure(&file, &[&plugin.provider("").replace("v2", "v1")]);
        eventually("a refusal", || {
            has(
                &cluster.log(),
                &["KMSv1 is deprecated and not served here: use v2"],
            )
        });
        reads(&cluster, "login");
        // What a plugin sealed is not readable without it, and not lost.
        configure(&file, &["identity: {}"]);
        eventually("the missing plugin's name", || {
            match cluster.try_ok(&["get", "secret", "login"]) {
                Ok(said) => Err(said),
                Err(why) => has(&why, &["encrypted with kms:cupboard", "name it there again"]),
            }
        });
        configure(&file, &["identity: {}", &plugin.provider("")]);
        eventually("the plugin", || cluster.try_ok(&["get", "secret", "login"]));
        reads(&cluster, "login");
    });
}

#[test]
fn a_plugins_key_changes_while_the_server_runs() {
    sandboxed(|dir| {
        let (plugin, file, data) = (Plugin::new(dir), dir.join("encryption.yaml"), dir.join("data"));
        configure(&file, &[&plugin.provider("")]);
        let _running = plugin.start();
        let mut cluster = start(dir, &file);
        make(&cluster, "before");
        plugin.writes_with("two");
        // Whoever reads the file anew asks the plugin at once, and else within a minute.
        configure(&file, &[&plugin.provider(""), "identity: {}"]);
        eventually("a seed under the other key", || {
            match plugin.calls("encrypt two") {
                0 => Err("none".to_owned()),
                _ => Ok(()),
            }
        });
        reads(&cluster, "before");
        // Writing everything anew leaves nothing under the old key, which may then go.
        eventually("the other key", || {
            let all = cluster.ok(&["get", "secrets", "-o", "json"]);
            cluster.feed(&["replace", "-f", "-"], &all)?;
            make(&cluster, "after");
            cluster.try_ok(&["delete", "secret", "after"])
        });
        fs::remove_file(plugin.folder.join("keys/one")).expect("the old key");
        cluster.stop();
        cluster.relaunch();
        until_healthy(&cluster, 200);
        reads(&cluster, "before");
        assert!(!holding(&data.join("raft"), "\"key\":\"two\"").is_empty());
        // A plugin that is not well is not taken for one that is there.
        fs::write(plugin.folder.join("healthz"), "out of paper").expect("its health");
        configure(&file, &[&plugin.provider(", timeout: 2s"), "identity: {}"]);
        eventually("the plugin's own words", || {
            has(&cluster.log(), &["got unexpected healthz status: out of paper"])
        });
        // What was configured before goes on.
        make(&cluster, "later");
        reads(&cluster, "later");
    });
}
