//! Services are told what was wrong with their addresses.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base::{Clock, Tasks};
use client::{Client, Recorder};
use store::{Expect, Op};

use super::*;
use crate::registry::services::records;
use crate::registry::{REPAIRS, services};
use crate::stored;

const RECORDS: (&str, &str) = ("networking.k8s.io", "ipaddresses");
const RANGES: (&str, &str) = ("networking.k8s.io", "servicecidrs");
const EVENTS: (&str, &str) = ("", "events");

impl World {
    /// Begins to keep the addresses of Services in order, and waits until they were for the first time.
    async fn keeps_addresses(&self) {
        let clock: Arc<dyn Clock> = self.clock.clone();
        let user = User::new("repairs", &["system:masters"]);
        let client = Client::new(Arc::new(self.core.clone()), user);
        let recorder = Recorder::new(client, REPAIRS, "", clock, &Tasks::new());
        let settled = Arc::<AtomicBool>::default();
        let keep = self
            .core
            .clone()
            .keep_service_addresses(recorder, settled.clone());
        tokio::spawn(keep);
        while !settled.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn service(&self, name: &str, ip: &str) -> Result<Value, Status> {
        let service = json!({
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"clusterIP": ip, "ports": [{"port": 80}]},
        });
        self.create(SERVICES, "default", service).await
    }

    /// What a Service was told for that reason.
    async fn told(&self, name: &str, reason: &str) -> Value {
        for _ in 0..2_000 {
            let events = self.list(EVENTS, Options::default()).await.unwrap();
            let mut events = events["items"].as_array().unwrap().iter();
            let of = |event: &&Value| event["reason"] == reason && event["involvedObject"]["name"] == name;
            if let Some(event) = events.find(of) {
                assert_eq!(event["type"], "Warning");
                return event.clone();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{name} was never told of {reason}")
    }
}

/// The record of an address for a Service, whatever is there.
fn record(world: &World, ip: &str, service: &Value) -> Op {
    let claim = services::claim(&world.core, &records::ip_key(ip), service).unwrap();
    let Op::Put { key, record, .. } = claim else {
        panic!("{claim:?}")
    };
    Op::Put {
        key,
        record,
        expect: Expect::Any,
    }
}

fn removal(key: String) -> Op {
    Op::Delete {
        key,
        expect: Expect::Present,
    }
}

#[tokio::test]
async fn a_service_hears_that_another_took_its_address() {
    let world = world().await;
    let ip = "10.43.0.50";
    let first = world.service("first", ip).await.unwrap();
    let refused = world.service("second", ip).await.unwrap_err();
    assert!(
        refused.message.contains("provided IP is already allocated"),
        "{refused}"
    );
    // Without its record the address is free.
    world.delete(RECORDS, ip, Options::default()).await.unwrap();
    let second = world.service("second", ip).await.unwrap();
    world.keeps_addresses().await;
    // The first one's record goes, and in the same moment the second's comes: too late to write it again.
    let ops = vec![
        record(&world, ip, &first),
        removal(records::ip_key(ip)),
        record(&world, ip, &second),
    ];
    world.core.store().commit(ops).await.unwrap();
    let event = world.told("first", "ClusterIPAlreadyAllocated").await;
    assert_eq!(
        event["message"],
        "Cluster IP [IPv4]:10.43.0.50 was assigned to multiple services; please recreate service"
    );
    let record = world.get(RECORDS, ip).await.unwrap();
    assert_eq!(record["spec"]["parentRef"]["name"], "second");

    // One that nobody else has is written again.
    world.service("third", "10.43.0.51").await.unwrap();
    world
        .delete(RECORDS, "10.43.0.51", Options::default())
        .await
        .unwrap();
    let event = world.told("third", "ClusterIPNotAllocated").await;
    assert_eq!(
        event["message"],
        "Cluster IP [IPv4]: 10.43.0.51 is not allocated; repairing"
    );
    world.get(RECORDS, "10.43.0.51").await.unwrap();
}

#[tokio::test]
async fn what_was_lost_while_nobody_looked_comes_back() {
    let world = world().await;
    let ip = "10.43.0.60";
    world.service("till", ip).await.unwrap();
    world.delete(RECORDS, ip, Options::default()).await.unwrap();
    world.keeps_addresses().await;
    world.told("till", "ClusterIPNotAllocated").await;
    let record = world.get(RECORDS, ip).await.unwrap();
    assert_eq!(record["spec"]["parentRef"]["name"], "till");
}

#[tokio::test]
async fn a_service_hears_that_its_range_is_gone() {
    let world = world().await;
    world.keeps_addresses().await;
    let range = json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.50.0.0/28"]}});
    world.create(RANGES, "", range).await.unwrap();
    let mut made = false;
    for _ in 0..2_000 {
        made = world.service("far", "10.50.0.7").await.is_ok();
        if made {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(made, "the range never became ready");
    // Its finalizer keeps it while it is used, as long as nobody is careless.
    let key = stored::key(RANGES.0, RANGES.1, "", "more");
    world.core.store().commit(vec![removal(key)]).await.unwrap();
    let event = world.told("far", "ClusterIPOutOfRange").await;
    assert_eq!(
        event["message"],
        "Cluster IP [IPv4]: 10.50.0.7 is not within any configured Service CIDR; please recreate service"
    );
}
