//! Registration and heartbeat against an API of a few objects.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::request::User;
use base::SystemClock;
use client::Client;
use oci::{Images, ImagesConfig};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::heartbeat::Heart;
use super::machine::Machine;
use super::register::{kept, register};
use crate::config::AgentConfig;
use crate::paths::Paths;
use crate::testing::FakeApi;

fn config(dir: &Path) -> AgentConfig {
    let mut config = AgentConfig::new("n1", dir.to_owned(), "00000000", [192, 0, 2, 1].into());
    config.timing.heartbeat = Duration::from_millis(20);
    config
}

fn client(api: &Arc<FakeApi>) -> Client {
    Client::new(api.clone(), User::new("system:node:n1", &["system:nodes"]))
}

#[tokio::test]
async fn a_node_registers_and_waits_for_its_range() {
    let temp = tempfile::tempdir().unwrap();
    let api = Arc::new(FakeApi::default());
    let (config, machine, paths) = (
        config(temp.path()),
        Machine::read(temp.path()),
        Paths::new(temp.path()),
    );
    assert_eq!(kept(&paths, "n1"), None);
    let controller = api.clone();
    let allocate = async {
        let mut node = loop {
            match controller.get("nodes//n1") {
                Some(node) => break node,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        assert_eq!(node["metadata"]["labels"]["kubernetes.io/os"], "linux");
        node["spec"]["podCIDR"] = json!("10.64.16.0/20");
        controller.put("nodes", node);
    };
    let client = client(&api);
    let (cidr, ()) = tokio::join!(register(&config, &machine, &client, &paths), allocate);
    assert_eq!(cidr, "10.64.16.0/20");
    assert_eq!(kept(&paths, "n1").unwrap().pod_cidr, cidr);
    assert_eq!(kept(&paths, "other"), None);
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never came to this: {what}");
}

#[tokio::test]
async fn the_heart_beats() {
    let temp = tempfile::tempdir().unwrap();
    let api = Arc::new(FakeApi::default());
    api.put("nodes", json!({"metadata": {"name": "n1", "uid": "u-n1"}}));
    let images = ImagesConfig::new(temp.path().join("images"));
    let (trouble, seen) = watch::channel(Some("the network is not up".to_owned()));
    let heart = Heart {
        config: config(temp.path()),
        machine: Machine::read(temp.path()),
        client: client(&api),
        clock: Arc::new(SystemClock::new()),
        images: Images::open(images).await.unwrap(),
        devices: watch::Sender::default().subscribe(),
        pressure: watch::Sender::default().subscribe(),
        trouble: seen,
    };
    let beating = tokio::spawn(heart.run());
    let renewed = |api: &FakeApi| {
        api.get("leases/kube-node-lease/n1")
            .map(|lease| lease["spec"]["renewTime"].clone())
    };
    until("there is a lease", || renewed(&api).is_some()).await;
    let lease = api.get("leases/kube-node-lease/n1").unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], "n1");
    assert_eq!(lease["metadata"]["ownerReferences"][0]["uid"], "u-n1");
    let first = renewed(&api);
    until("the lease is renewed", || renewed(&api) != first).await;
    let ready = |api: &FakeApi| -> Value {
        let conditions = api.get("nodes//n1").unwrap()["status"]["conditions"].clone();
        let found = conditions
            .as_array()
            .into_iter()
            .flatten()
            .find(|c| c["type"] == "Ready")
            .cloned();
        found.unwrap_or_default()
    };
    until("it says that it is not ready", || {
        ready(&api)["message"] == "the network is not up"
    })
    .await;
    trouble.send_replace(None);
    until("it says that it is", || ready(&api)["status"] == "True").await;
    // Somebody deletes the Node and the Lease: both come back.
    api.objects.lock().unwrap().clear();
    until("the node is back", || api.get("nodes//n1").is_some()).await;
    until("the lease is back", || renewed(&api).is_some()).await;
    beating.abort();
}
