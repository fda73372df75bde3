//! Deployments of both sorts behind Services, asked from everywhere.

use crate::support::manifests::{idle_pod, oci_web, wasm_web};
use crate::support::pod::{all_answer, asked_from_everywhere};
use crate::support::{Cluster, assert_has, eventually, sandboxed};

#[test]
fn a_wasm_deployment_answers_through_its_service() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        cluster.apply(&wasm_web("web", 3, false));
        cluster.apply(&idle_pod("oci-client"));
        let wasm_ip = cluster.wasm_client();
        cluster.pod_ready("oci-client");
        cluster.deployed("web", 3);
        asked_from_everywhere(&cluster, "web", "oci-client", &wasm_ip);
    });
}

#[test]
fn an_oci_deployment_answers_through_its_service() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        cluster.apply(&oci_web("web", 3));
        cluster.apply(&idle_pod("oci-client"));
        let wasm_ip = cluster.wasm_client();
        cluster.pod_ready("oci-client");
        cluster.deployed("web", 3);
        asked_from_everywhere(&cluster, "web", "oci-client", &wasm_ip);
        // One of the replicas through the Service that leads to itself as well.
        let replicas = cluster.pods("app=web");
        let one = replicas.first().unwrap();
        let address = format!("http://{}/", cluster.cluster_ip("web"));
        all_answer("a replica asks its own Service", &replicas, || {
            cluster.wget(one, &address)
        });
    });
}

#[test]
fn an_unready_replica_gets_no_traffic() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        cluster.apply(&wasm_web("web", 3, true));
        let url = format!("http://{}/", cluster.cluster_ip("web"));
        let replicas = eventually("three running replicas", || {
            let running = cluster.ok(&[
                "get",
                "pods",
                "-l",
                "app=web",
                "--field-selector=status.phase=Running",
                "-o",
                "name",
            ]);
            if running.lines().count() == 3 {
                Ok(cluster.pods("app=web"))
            } else {
                Err(running)
            }
        });
        // Nobody is ready: a connection fails at once (7), instead of hanging until curl gives up (28).
        assert_has(&cluster.curl(&url).unwrap_err(), &["curl: (7)"]);

        let mark_ready = |pod: &str| {
            let ip = cluster.pod_ip(pod);
            cluster
                .curl(&format!("http://{ip}:8080/write?path=/state/ready&text=yes"))
                .unwrap();
            cluster.pod_ready(pod);
        };
        let mut ready = replicas.clone();
        let unready = ready.pop_last().unwrap();
        ready.iter().for_each(|pod| mark_ready(pod));
        all_answer("the ready ones", &ready, || cluster.curl(&url));
        for _ in 0..60 {
            let answer = cluster.curl(&url).unwrap();
            assert!(!answer.contains(&unready), "{unready} is not ready but answered");
        }
        cluster.until(
            &format!("pod/{unready}"),
            "{.status.containerStatuses[0].ready}",
            "false",
        );
        cluster.event(
            &unready,
            "Unhealthy",
            &["Readiness probe failed: HTTP probe failed with statuscode: 503"],
        );

        mark_ready(&unready);
        all_answer("all three", &replicas, || cluster.curl(&url));
    });
}

#[test]
fn names_follow_services() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        cluster.apply(&idle_pod("client"));
        cluster.pod_ready("client");
        let lookup = |name: &str| cluster.exec("client", &["nslookup", name]);
        assert_has(
            &lookup("kubernetes.default.svc.cluster.local").unwrap(),
            &["10.43.0.1"],
        );
        assert!(lookup("late.default.svc.cluster.local").is_err());

        // A Service of another namespace, made later: found by its name there, gone with it.
        cluster.ok(&["create", "namespace", "shop"]);
        cluster.ok(&[
            "create",
            "service",
            "clusterip",
            "late",
            "--tcp=80:8080",
            "-n",
            "shop",
        ]);
        let ip = cluster.ok(&[
            "get",
            "service",
            "late",
            "-n",
            "shop",
            "-o",
            "jsonpath={.spec.clusterIP}",
        ]);
        let found = |name: &str, ip: &str| {
            eventually(name, || crate::support::has(&lookup(name)?, &[ip]));
        };
        found("late.shop.svc.cluster.local", &ip);
        cluster.ok(&["delete", "service", "late", "-n", "shop"]);
        eventually("the name's end", || match lookup("late.shop.svc.cluster.local") {
            Err(_) => Ok(()),
            Ok(said) => Err(said),
        });

        // A headless Service's name leads to its pods.
        cluster.ok(&[
            "create",
            "service",
            "clusterip",
            "client",
            "--clusterip=None",
            "--tcp=80:80",
        ]);
        found("client.default.svc.cluster.local", &cluster.pod_ip("client"));
    });
}
