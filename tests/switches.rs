//! Versions of the API that are switched on and off (`--runtime-config`).

use std::process::Command;

use crate::support::said::said;
use crate::support::{Cluster, assert_has, eventually, sandboxed, tools};

const RANGE: &str = r#"
apiVersion: networking.k8s.io/v1beta1
kind: ServiceCIDR
metadata:
  name: more
spec:
  cidrs: [10.99.0.0/24]
"#;

fn versions(cluster: &Cluster) -> Vec<String> {
    let said = cluster.ok(&["api-versions"]);
    said.lines().map(str::to_owned).collect()
}

#[test]
fn versions_are_switched_on_and_off() {
    sandboxed(|dir| {
        let switches = "networking.k8s.io/v1beta1=true,batch/v1=false,autoscaling/v1=false";
        let mut cluster = Cluster::start(dir, &["--runtime-config", switches]);
        let served = versions(&cluster);
        let has = |version: &str| served.iter().any(|served| served == version);
        assert!(
            has("networking.k8s.io/v1beta1") && has("networking.k8s.io/v1"),
            "{served:?}"
        );
        assert!(has("autoscaling/v2") && !has("autoscaling/v1"), "{served:?}");
        assert!(!has("batch/v1") && !has("storage.k8s.io/v1beta1"), "{served:?}");
        let refused = cluster.refused(&["get", "--raw", "/apis/batch/v1/jobs"]);
        assert_has(&refused, &["could not find the requested resource"]);
        assert_has(
            &cluster.refused(&["get", "jobs"]),
            &["the server doesn't have a resource type \"jobs\""],
        );
        eventually("the services of what is served", || {
            let services = cluster.try_ok(&["get", "apiservices", "-o", "name"])?;
            match services.contains("v1beta1.networking.k8s.io") && !services.contains("v1.batch") {
                true => Ok(()),
                false => Err(services),
            }
        });

        // The early version is another name for the same objects.
        cluster.apply(RANGE);
        cluster.ok(&[
            "apply",
            "--server-side",
            "--field-manager=other",
            "-f",
            &file(&cluster, RANGE),
        ]);
        let early = cluster.ok(&[
            "get",
            "--raw",
            "/apis/networking.k8s.io/v1beta1/servicecidrs/more",
        ]);
        assert_has(&early, &["\"networking.k8s.io/v1beta1\"", "10.99.0.0/24"]);
        let stable = cluster.ok(&["get", "--raw", "/apis/networking.k8s.io/v1/servicecidrs/more"]);
        assert_has(
            &stable,
            &[
                "{\"apiVersion\":\"networking.k8s.io/v1\",",
                "\"manager\":\"other\"",
            ],
        );
        let listed = cluster.ok(&["get", "servicecidrs.v1beta1.networking.k8s.io"]);
        assert_has(&listed, &["CIDRS", "kubernetes", "more"]);
        let explained = [
            "explain",
            "servicecidr.spec",
            "--api-version=networking.k8s.io/v1beta1",
        ];
        assert_has(&cluster.ok(&explained), &["v1beta1", "cidrs"]);
        let wrong = RANGE
            .replace("name: more", "name: wrong")
            .replace("cidrs", "ranges");
        let why = cluster.feed(&["apply", "--validate=strict", "-f", "-"], &wrong);
        assert_has(&why.unwrap_err(), &["unknown field \"spec.ranges\""]);

        // Without the switch the objects are there still.
        cluster.stop();
        cluster.restart_with(&[]);
        let served = versions(&cluster);
        assert!(
            !served.iter().any(|served| served == "networking.k8s.io/v1beta1"),
            "{served:?}"
        );
        assert!(served.iter().any(|served| served == "batch/v1"), "{served:?}");
        cluster.ok(&["get", "servicecidr", "more"]);
        eventually("the service's end", || {
            let services = cluster.try_ok(&["get", "apiservices", "-o", "name"])?;
            match services.contains("v1beta1.networking.k8s.io") {
                true => Err(services),
                false => Ok(()),
            }
        });
    });
}

fn file(cluster: &Cluster, text: &str) -> String {
    let path = cluster.home().join("range.yaml");
    std::fs::write(&path, text).expect("a file");
    path.display().to_string()
}

#[test]
fn what_cannot_be_served_is_refused_by_name() {
    sandboxed(|dir| {
        let start = |switch: &str| {
            let folder = dir.join("refused").display().to_string();
            let args = ["server", "--data-dir", &folder, "--runtime-config", switch];
            let output = Command::new(tools::coracle()).args(args).output();
            said(output.expect("coracle")).expect_err("a refusal")
        };
        assert_has(
            &start("certificates.k8s.io/v1beta1=true"),
            &[
                "certificates.k8s.io/v1beta1 is not known here",
                "networking.k8s.io/v1beta1",
            ],
        );
        assert_has(&start("api/all=false"), &["invalid key with only api/all=false"]);
        assert_has(&start("batches/v1=true"), &["unknown api groups batches"]);
    });
}
