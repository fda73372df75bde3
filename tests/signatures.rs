//! Which images a node's policy lets in.

use std::path::Path;

use crate::support::cosign::Signer;
use crate::support::images::{Form, busybox_archive, wasm_archive};
use crate::support::manifests::{BUSYBOX, command_pod};
use crate::support::registry::Registry;
use crate::support::{Cluster, eventually, has, sandboxed, tools};

/// Writes the settings of registries: a policy of these rules.
fn write_policy(file: &Path, rules: &[String]) {
    let text = format!("policy:\n  {}\n", rules.join("\n  "));
    std::fs::write(file, text).expect("the settings of registries");
}

/// A rule that wants a signature.
fn signed(names: &str, by: &Signer) -> String {
    format!("\"{names}\": {{pulled: {{keys: [{}]}}}}", by.public().display())
}

/// Runs `true` in an ordinary container, from the image on the machine if there is one.
fn run(cluster: &Cluster, pod: &str, image: &str) {
    let image = format!("--image={image}");
    cluster.ok(&["run", pod, &image, "--restart=Never", "--command", "--", "true"]);
}

/// Waits until a pod is told to be refused, and why.
fn refused(cluster: &Cluster, pod: &str, image: &str, why: &str) {
    let failed = format!("Failed to pull image \"{image}\": SignatureValidationFailed: ");
    cluster.event(pod, "Failed", &[&failed, why, "Error: SignatureValidationFailed"]);
    let words = format!("image pull failed for {image} because the signature validation failed: ");
    let message = "{.status.containerStatuses[0].state.waiting.message}";
    eventually(&format!("the status of {pod}"), || {
        has(&cluster.field(&format!("pod/{pod}"), message)?, &[&words, why])
    });
}

#[test]
fn only_what_is_signed_runs_where_the_policy_says_so() {
    sandboxed(|dir| {
        let registry = Registry::start(dir);
        let (team, stranger) = (Signer::new(dir, "team"), Signer::new(dir, "stranger"));
        let config = dir.join("registries.yaml");
        write_policy(&config, &[signed(&format!("{}/team", registry.address), &team)]);
        let cluster = Cluster::start(dir, &["--registry-config", config.to_str().unwrap()]);
        let archive = busybox_archive(dir, "busybox:1");

        let good = registry.push(&archive, "team/good:1");
        team.sign(&good);
        run(&cluster, "good", &good);
        assert_eq!(cluster.finished("good"), "Succeeded");

        let forged = registry.push(&archive, "team/forged:1");
        stranger.sign(&forged);
        run(&cluster, "forged", &forged);
        refused(&cluster, "forged", &forged, "it is by none of the policy's keys");

        let form = Form::Artifact;
        let program = wasm_archive(dir, "program:1", &tools::guest("hello-cli.wasm"), form);
        let program = registry.push(&program, "team/program:1");
        cluster.apply(&command_pod("program", &program, &["signed"]));
        refused(&cluster, "program", &program, " is not signed: ");
        team.sign(&program);
        assert_eq!(cluster.finished("program"), "Succeeded");

        let free = registry.push(&archive, "free/busybox:1");
        run(&cluster, "free", &free);
        assert_eq!(cluster.finished("free"), "Succeeded");
    });
}

#[test]
fn a_verdict_outlives_the_registry_and_another_policy_is_asked_anew() {
    sandboxed(|dir| {
        let registry = Registry::start(dir);
        let team = Signer::new(dir, "team");
        let config = dir.join("registries.yaml");
        write_policy(&config, &[signed(&format!("{}/team", registry.address), &team)]);
        let mut cluster = Cluster::start(dir, &["--registry-config", config.to_str().unwrap()]);
        let archive = busybox_archive(dir, "busybox:1");
        let checked = registry.push(&archive, "team/busybox:1");
        team.sign(&checked);
        let unchecked = registry.push(&archive, "free/busybox:1");
        for (pod, image) in [("checked", &checked), ("unchecked", &unchecked)] {
            run(&cluster, pod, image);
            assert_eq!(cluster.finished(pod), "Succeeded");
        }

        drop(registry);
        cluster.stop();
        cluster.restart();
        run(&cluster, "offline", &checked);
        assert_eq!(cluster.finished("offline"), "Succeeded");

        cluster.stop();
        write_policy(&config, &[signed("*", &team)]);
        cluster.restart();
        let registry = Registry::start(dir);
        run(&cluster, "again", &unchecked);
        refused(&cluster, "again", &unchecked, " is not signed: ");
        team.sign(&unchecked);
        assert_eq!(cluster.finished("again"), "Succeeded");
        drop(registry);

        // What an administrator brings needs nobody's signature, even where nothing may be pulled.
        cluster.stop();
        write_policy(&config, &["\"*\": {pulled: refuse}".to_owned()]);
        cluster.restart();
        cluster.busybox();
        run(&cluster, "imported", BUSYBOX);
        assert_eq!(cluster.finished("imported"), "Succeeded");
        run(&cluster, "pulled", &checked);
        refused(&cluster, "pulled", &checked, "refuses images from registries");
    });
}
