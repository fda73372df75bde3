//! Where Services get their addresses from: ServiceCIDRs, and an IPAddress for each that is taken.

use serde_json::json;

use crate::support::{Cluster, assert_has, eventually, has, sandboxed};

const READY: &str = r#"{.status.conditions[?(@.type=="Ready")].status}"#;

#[test]
fn ranges_are_added_used_and_removed() {
    sandboxed(|dir| {
        let cluster = Cluster::start_as("server", dir.join("data"), &[]);
        cluster.until("servicecidr/kubernetes", READY, "True");
        assert_eq!(
            cluster
                .field("servicecidr/kubernetes", "{.spec.cidrs[*]}")
                .unwrap(),
            "10.43.0.0/16"
        );
        let refused = service(&cluster, "early", "10.50.0.7").unwrap_err();
        assert_has(
            &refused,
            &[
                "spec.clusterIPs: Invalid value: [\"10.50.0.7\"]: failed to allocate IP 10.50.0.7: \
               the provided network does not match the current range",
            ],
        );
        cluster.apply(&range("more", "10.50.0.0/28"));
        cluster.until("servicecidr/more", READY, "True");
        service(&cluster, "given", "10.50.0.7").unwrap();
        it_does_not_go_while_needed(&cluster);
        records_are_mended(&cluster);
        clusters_own_range_may_be_small(&cluster);
    });
}

fn range(name: &str, cidr: &str) -> String {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": name},
        "spec": {"cidrs": [cidr]}})
    .to_string()
}

/// Makes a Service; `ip` may be empty.
fn service(cluster: &Cluster, name: &str, ip: &str) -> Result<String, String> {
    let mut service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"ports": [{"port": 80}]}});
    if !ip.is_empty() {
        service["spec"]["clusterIP"] = ip.into();
    }
    cluster.feed(&["create", "-f", "-"], &service.to_string())
}

fn it_does_not_go_while_needed(cluster: &Cluster) {
    cluster.ok(&["delete", "servicecidr", "more", "--wait=false"]);
    cluster.until("servicecidr/more", READY, "False");
    let why = cluster.field(
        "servicecidr/more",
        "{.status.conditions[0].reason}: {.status.conditions[0].message}",
    );
    assert_has(
        &why.unwrap(),
        &[
            "Terminating: There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new \
           ServiceCIDR",
        ],
    );
    let refused = service(cluster, "late", "10.50.0.8").unwrap_err();
    assert_has(
        &refused,
        &["the provided network does not match the current range"],
    );
    cluster.ok(&["delete", "service", "given"]);
    eventually("the end of the range", || {
        match cluster.try_ok(&["get", "servicecidr", "more"]) {
            Err(why) => has(&why, &["NotFound"]),
            Ok(there) => Err(there),
        }
    });
}

fn records_are_mended(cluster: &Cluster) {
    let owner = "{.spec.parentRef.resource}/{.spec.parentRef.namespace}/{.spec.parentRef.name}";
    service(cluster, "kept", "10.43.0.77").unwrap();
    assert_eq!(
        cluster.field("ipaddress/10.43.0.77", owner).unwrap(),
        "services/default/kept"
    );
    cluster.ok(&["delete", "ipaddress", "10.43.0.77"]);
    cluster.until("ipaddress/10.43.0.77", owner, "services/default/kept");
    let told = [
        "get",
        "events",
        "--field-selector",
        "involvedObject.name=kept,reason=ClusterIPNotAllocated",
    ];
    eventually("that it is told of", || {
        has(
            &cluster.ok(&told),
            &[
                "Warning",
                "Cluster IP [IPv4]: 10.43.0.77 is not allocated; repairing",
            ],
        )
    });
    assert_has(
        &service(cluster, "twin", "10.43.0.77").unwrap_err(),
        &["provided IP is already allocated"],
    );
    // What others write down for themselves is theirs, and taken all the same.
    let foreign = json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "metadata": {"name": "10.43.0.78"},
        "spec": {"parentRef": {"group": "example.com", "resource": "boats", "name": "b"}}});
    cluster.apply(&foreign.to_string());
    assert_has(
        &service(cluster, "other", "10.43.0.78").unwrap_err(),
        &["provided IP is already allocated"],
    );
    cluster.ok(&["delete", "service", "kept"]);
    eventually("the end of the record", || {
        match cluster.try_ok(&["get", "ipaddress", "10.43.0.77"]) {
            Err(why) => has(&why, &["NotFound"]),
            Ok(there) => Err(there),
        }
    });
}

/// While the cluster's own range goes, further ones are what there is.
fn clusters_own_range_may_be_small(cluster: &Cluster) {
    cluster.apply(&range("tiny", "10.51.0.0/30"));
    cluster.until("servicecidr/tiny", READY, "True");
    cluster.ok(&["delete", "servicecidr", "kubernetes", "--wait=false"]);
    cluster.until("servicecidr/kubernetes", READY, "False");
    for name in ["one", "two"] {
        service(cluster, name, "").unwrap();
        assert_has(
            &cluster
                .field(&format!("service/{name}"), "{.spec.clusterIP}")
                .unwrap(),
            &["10.51.0."],
        );
    }
    assert_has(
        &service(cluster, "three", "").unwrap_err(),
        &["failed to allocate a serviceIP: range is full"],
    );
}
