//! The parts of a server that can be unwell, under Kubernetes' names.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base::{OnError, Tasks};
use serde_json::Value;
use store::Store;
use tokio::sync::watch;

use crate::aggregation::{Others, Remote};
use crate::config::ServerConfig;
use crate::health::{Check, Health};
use crate::http::Departure;
use crate::lookup::Lookup;
use crate::mirror::Followers;
use crate::served::ServedKinds;
use crate::vault::Vault;

/// How often it is tried whether log lines can be written, and for how long they may not be.
const LOG_EVERY: Duration = Duration::from_secs(60);
const LOG_BLOCKED_MAX: Duration = Duration::from_secs(120);

/// Group, plural, namespace and name of an object.
type Place = (&'static str, &'static str, &'static str, &'static str);

const RBAC: &str = "rbac.authorization.k8s.io";
const NETWORKING: &str = "networking.k8s.io";
const DEFINITIONS: &str = "apiextensions.k8s.io";
const REGISTRATION: &str = "apiregistration.k8s.io";

/// What is made once, by this server or by the one that leads, and the objects by which one sees that it was. Only
/// what clients may count on from the first request: nobody waits for flow control's objects (until they are there its
/// mandatory ones hold).
const STEPS: [(&str, &[Place]); 5] = [
    (
        "poststarthook/start-system-namespaces-controller",
        &[
            ("", "namespaces", "", "default"),
            ("", "namespaces", "", "kube-node-lease"),
            ("", "namespaces", "", "kube-public"),
            ("", "namespaces", "", "kube-system"),
        ],
    ),
    (
        "poststarthook/rbac/bootstrap-roles",
        &[
            (RBAC, "clusterroles", "", "cluster-admin"),
            (RBAC, "clusterrolebindings", "", "cluster-admin"),
            (RBAC, "clusterrolebindings", "", "system:public-info-viewer"),
        ],
    ),
    (
        "poststarthook/scheduling/bootstrap-system-priority-classes",
        &[
            (
                "scheduling.k8s.io",
                "priorityclasses",
                "",
                "system-cluster-critical",
            ),
            ("scheduling.k8s.io", "priorityclasses", "", "system-node-critical"),
        ],
    ),
    (
        "poststarthook/bootstrap-controller",
        &[("", "services", "default", "kubernetes")],
    ),
    (
        "poststarthook/start-kubernetes-service-cidr-controller",
        &[(NETWORKING, "servicecidrs", "", "kubernetes")],
    ),
];

/// What the parts of a server of the API look at.
pub(super) struct Around<'a> {
    pub vault: &'a Vault,
    pub lookup: &'a Arc<dyn Lookup>,
    pub kinds: &'a Arc<ServedKinds>,
    pub others: &'a Arc<Others>,
    pub departure: &'a Arc<Departure>,
    pub cut_off: &'a watch::Receiver<bool>,
    pub followers: &'a Followers,
    /// Whether the addresses of Services were found in order, or put there, once.
    pub addresses: &'a Arc<AtomicBool>,
    /// Whether there was an APIService, once, for everything that is served here.
    pub registered: &'a Arc<AtomicBool>,
}

/// The parts of a server of the API: those of every server, its steps, and the plugins that keep keys.
pub(super) fn of_server(config: &ServerConfig, around: Around<'_>, tasks: &Tasks) -> Health {
    let health = of_every_server(around.vault, around.departure, tasks);
    let cut_off = around.cut_off.clone();
    let ready: Check = Arc::new(move || match *cut_off.borrow() {
        true => Err("this server has lost contact with the others".to_owned()),
        false => Ok(()),
    });
    health.add("etcd-readiness", true, ready);
    let followers = around.followers.clone();
    health.add("informer-sync", true, Arc::new(move || followers.check()));
    for (name, places) in STEPS {
        let lookup = around.lookup.clone();
        health.add_step(name, Arc::new(move || are_there(&*lookup, places)));
    }
    let (lookup, kinds) = (around.lookup.clone(), around.kinds.clone());
    let synced: Check = Arc::new(move || definitions_are_served(&*lookup, &kinds));
    health.add_step("poststarthook/crd-informer-synced", synced);
    let (lookup, others) = (around.lookup.clone(), around.others.clone());
    let registered: Check = Arc::new(move || others_are_known(&*lookup, &others));
    health.add_step("poststarthook/apiservice-registration-controller", registered);
    let repaired = is_set(
        around.addresses,
        "the addresses of services were not looked at yet",
    );
    health.add_step("poststarthook/start-service-ip-repair-controllers", repaired);
    let registered = is_set(
        around.registered,
        "there may be no APIServices yet for what is served here",
    );
    health.add_step("autoregister-completion", registered);
    if config.encryption.is_some() {
        let vault = around.vault.clone();
        health.add("kms-providers", false, Arc::new(move || vault.health()));
    }
    health
}

/// Whether something was done, which its task says by that flag.
fn is_set(flag: &Arc<AtomicBool>, otherwise: &'static str) -> Check {
    let flag = flag.clone();
    Arc::new(move || match flag.load(Ordering::Relaxed) {
        true => Ok(()),
        false => Err(format!("not finished: {otherwise}")),
    })
}

/// The parts whose state every server tells, a witness as well.
pub(super) fn of_every_server(store: &Store, departure: &Arc<Departure>, tasks: &Tasks) -> Health {
    let health = Health::new();
    health.add("log", false, log(tasks));
    let (store, departure) = (store.clone(), departure.clone());
    let storage: Check = Arc::new(move || {
        store
            .watch("/health/", store.revision())
            .map(drop)
            .map_err(|error| error.to_string())
    });
    health.add("etcd", false, storage);
    let stopping: Check = Arc::new(move || match departure.has_begun() {
        true => Err("process is shutting down".to_owned()),
        false => Ok(()),
    });
    health.add("shutdown", true, stopping);
    health
}

/// Whether log lines can be written: whoever writes one waits for the stream, and so for whoever blocks it.
fn log(tasks: &Tasks) -> Check {
    let (began, verified) = (Instant::now(), Arc::<AtomicU64>::default());
    tasks.spawn(
        "see whether log lines can be written",
        OnError::Log,
        flush(began, verified.clone()),
    );
    Arc::new(move || {
        let verified = Duration::from_millis(verified.load(Ordering::Relaxed));
        match began.elapsed().saturating_sub(verified) < LOG_BLOCKED_MAX {
            true => Ok(()),
            false => Err("logging blocked".to_owned()),
        }
    })
}

/// Flushes the log again and again, and notes when it could, in milliseconds after the beginning.
async fn flush(began: Instant, verified_ms: Arc<AtomicU64>) {
    loop {
        let flushed = tokio::task::spawn_blocking(|| std::io::stderr().lock().flush());
        if flushed.await.is_ok() {
            let now_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            verified_ms.store(now_ms, Ordering::Relaxed);
        }
        tokio::time::sleep(LOG_EVERY).await;
    }
}

fn are_there(lookup: &dyn Lookup, places: &[Place]) -> Result<(), String> {
    let missing = places
        .iter()
        .find(|(group, plural, namespace, name)| lookup.find(group, plural, namespace, name).is_none());
    match missing {
        None => Ok(()),
        Some((_, plural, _, name)) => Err(format!("not finished: {plural} {name:?} not made yet")),
    }
}

/// Whether requests for what others serve go to them.
fn others_are_known(lookup: &dyn Lookup, others: &Others) -> Result<(), String> {
    for found in lookup.selected(REGISTRATION, "apiservices", "", "", "") {
        let service: Value = serde_json::from_slice(&found.text).unwrap_or_default();
        let Some(remote) = Remote::of(&service) else {
            continue;
        };
        if others.serving(&remote.group, &remote.version).is_none() {
            return Err(format!("not finished: {} not registered yet", remote.name));
        }
    }
    Ok(())
}

/// Whether what is defined, and was accepted, is served.
fn definitions_are_served(lookup: &dyn Lookup, kinds: &ServedKinds) -> Result<(), String> {
    for found in lookup.selected(DEFINITIONS, "customresourcedefinitions", "", "", "") {
        let definition: Value = serde_json::from_slice(&found.text).unwrap_or_default();
        let is_established =
            |condition: &Value| condition["type"] == "Established" && condition["status"] == "True";
        if !api::value::list(&definition, "status.conditions")
            .iter()
            .any(is_established)
        {
            continue;
        }
        let (group, plural) = (
            api::value::text(&definition, "spec.group"),
            api::value::text(&definition, "spec.names.plural"),
        );
        let versions = api::value::list(&definition, "spec.versions").iter();
        let mut served = versions.filter(|version| version["served"] == true);
        let is_missing = |version: &Value| {
            kinds
                .find(group, api::value::text(version, "name"), plural)
                .is_none()
        };
        if served.any(is_missing) {
            return Err(format!("not finished: {plural}.{group} not served yet"));
        }
    }
    Ok(())
}
