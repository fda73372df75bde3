//! How images come to a node.

use crate::support::images::{Form, busybox_archive, wasm_archive};
use crate::support::manifests::command_pod;
use crate::support::registry::{self, Registry};
use crate::support::{Cluster, assert_has, sandboxed, tools};

#[test]
fn wasm_is_found_in_every_form_of_artifact() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &[]);
        let program = tools::guest("hello-cli.wasm");
        for (form, name) in [
            (Form::Artifact, "artifact"),
            (Form::Runwasi, "runwasi"),
            (Form::Platform, "platform"),
        ] {
            let image = format!("local/{name}:1");
            let archive = wasm_archive(dir, &image, &program, form);
            assert_has(&cluster.import(&archive, &[]), &[&image]);
            assert_has(&cluster.image(&["list"]).unwrap(), &[&image, "wasm"]);
            cluster.apply(&command_pod(name, &image, &["as", name]));
            assert_eq!(cluster.finished(name), "Succeeded", "{form:?}");
            assert_has(
                &cluster.ok(&["logs", name]),
                &[&format!("as {name}"), "env: COLOUR=blue"],
            );
        }
    });
}

#[test]
fn images_are_pulled_from_a_registry() {
    sandboxed(|dir| {
        let registry = Registry::start(dir);
        let cluster = Cluster::start(dir, &[]);
        let program = tools::guest("hello-cli.wasm");
        for (form, name) in [
            (Form::Artifact, "artifact"),
            (Form::Runwasi, "runwasi"),
            (Form::Platform, "platform"),
        ] {
            let archive = wasm_archive(dir, &format!("{name}:1"), &program, form);
            let image = registry.push(&archive, &format!("programs/{name}:1"));
            cluster.apply(&command_pod(name, &image, &["pulled"]));
            assert_eq!(cluster.finished(name), "Succeeded", "{form:?}");
            cluster.event(name, "Pulled", &["Successfully pulled image", &image]);
        }
        let image = registry.push(&busybox_archive(dir, "busybox:1"), "tools/busybox:1");
        cluster.ok(&[
            "run",
            "shell",
            &format!("--image={image}"),
            "--restart=Never",
            "--command",
            "--",
            "sh",
            "-c",
            "echo $FROM_IMAGE",
        ]);
        assert_eq!(cluster.finished("shell"), "Succeeded");
        assert_has(&cluster.ok(&["logs", "shell"]), &["yes"]);
        let id = cluster
            .field("pod/shell", "{.status.containerStatuses[0].imageID}")
            .unwrap();
        assert_has(&id, &["127.0.0.1:5000/tools/busybox@sha256:"]);

        // What the registry does not have, and then does.
        let missing = format!("{}/tools/late:1", registry.address);
        cluster.ok(&[
            "run",
            "late",
            &format!("--image={missing}"),
            "--restart=Never",
            "--",
            "sh",
            "-c",
            "true",
        ]);
        cluster.event("late", "Failed", &["Error: ErrImagePull"]);
        cluster.event(
            "late",
            "Failed",
            &[&format!("Failed to pull image \"{missing}\"")],
        );
        cluster.event(
            "late",
            "BackOff",
            &[&format!("Back-off pulling image \"{missing}\"")],
        );
        cluster.until(
            "pod/late",
            "{.status.containerStatuses[0].state.waiting.reason}",
            "ImagePullBackOff",
        );
        assert_has(&cluster.ok(&["get", "pod", "late"]), &["ImagePullBackOff"]);
        registry.push(&busybox_archive(dir, "late:1"), "tools/late:1");
        assert_eq!(cluster.finished("late"), "Succeeded");
    });
}

#[test]
fn a_policy_says_when_to_pull() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &[]);
        cluster.busybox();
        cluster.ok(&[
            "run",
            "never",
            "--image=local/absent:1",
            "--image-pull-policy=Never",
        ]);
        cluster.until(
            "pod/never",
            "{.status.containerStatuses[0].state.waiting.reason}",
            "ErrImageNeverPull",
        );
        cluster.event(
            "never",
            "ErrImageNeverPull",
            &["is not present with pull policy of Never"],
        );
        // kubectl itself would refuse this name.
        cluster.apply("{apiVersion: v1, kind: Pod, metadata: {name: odd}, spec: {containers: [{name: main, image: Not_A_Name!}]}}");
        cluster.until(
            "pod/odd",
            "{.status.containerStatuses[0].state.waiting.reason}",
            "InvalidImageName",
        );
    });
}

#[test]
fn images_are_listed_and_removed_while_the_node_runs_or_not() {
    sandboxed(|dir| {
        let mut cluster = Cluster::start(dir, &[]);
        cluster.busybox();
        let archive = wasm_archive(
            dir,
            "local/program:1",
            &tools::guest("hello-cli.wasm"),
            Form::Artifact,
        );
        cluster.import(&archive, &[]);
        cluster.import(&archive, &["--name", "local/other:2"]);
        let docker = dir.join("docker.tar");
        let target = format!("docker-archive:{}:local/docker:3", docker.display());
        registry::copy(&busybox_archive(dir, "local/box:1"), &target);
        cluster.import(&docker, &[]);
        let list = cluster.image(&["list"]).unwrap();
        assert_has(
            &list,
            &[
                "NAME",
                "local/busybox:1",
                "oci",
                "local/program:1",
                "local/other:2",
                "local/docker:3",
                "wasm",
            ],
        );

        cluster.stop();
        cluster.image(&["remove", "local/other:2"]).unwrap();
        assert_has(
            &cluster.image(&["remove", "local/other:2"]).unwrap_err(),
            &["local/other:2"],
        );
        let list = cluster.image(&["list"]).unwrap();
        assert_has(&list, &["local/program:1"]);
        assert!(!list.contains("local/other:2"), "{list}");

        let junk = dir.join("junk");
        std::fs::write(&junk, "neither tar nor wasm").unwrap();
        let why = cluster
            .image(&["import", junk.to_str().unwrap(), "--name", "local/junk:1"])
            .unwrap_err();
        assert_has(
            &why,
            &[
                "cannot import",
                "not an image, a root file system tar or a .wasm file",
            ],
        );
    });
}
