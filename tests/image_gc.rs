//! Images that no pod uses go when the disk fills up, before any pod has to.

use std::path::Path;

use crate::support::manifests::BUSYBOX;
use crate::support::{Cluster, eventually, has, sandbox, sandboxed};

/// An image of a pod, of a client that asks nothing of its disk.
const USED: &str = "local/hello-http:1";
const LARGE: &str = "local/large:1";

/// A node whose data folder has a disk of its own, 1 GiB large, and a pod of a small image that runs.
fn on_a_small_disk(dir: &Path, args: &[&str]) -> Cluster {
    let data = dir.join("data");
    std::fs::create_dir_all(&data).expect("a folder");
    let data = data.display().to_string();
    sandbox::run(
        "mount",
        &["-t", "tmpfs", "-o", "size=1g,mode=0700", "tmpfs", &data],
    );
    let cluster = Cluster::stocked(dir, args);
    cluster.ok(&["run", "modest", "--image", USED]);
    cluster.pod_ready("modest");
    cluster
}

/// Imports an image that takes more than half of the disk.
fn import_large(cluster: &Cluster, dir: &Path) {
    let (root, archive) = (dir.join("large"), dir.join("large.tar"));
    std::fs::create_dir_all(&root).expect("a folder");
    std::fs::File::create(root.join("large"))
        .and_then(|file| file.set_len(640 << 20))
        .expect("a file");
    let text = |path: &Path| path.display().to_string();
    sandbox::run("tar", &["-C", &text(&root), "-cf", &text(&archive), "."]);
    cluster.import(&archive, &["--name", LARGE, "--entrypoint", "/large"]);
    std::fs::remove_file(archive).expect("the archive");
}

/// Waits until the images that nobody uses have gone, and the one that somebody uses has not.
fn only_used_ones_stay(cluster: &Cluster, gone: &[&str]) {
    eventually("room on the disk", || {
        let images = cluster.image(&["list"])?;
        match gone.iter().find(|name| images.contains(**name)) {
            Some(name) => Err(format!("{name} is still there:\n{images}")),
            None => has(&images, &[USED]),
        }
    });
    assert_eq!(cluster.field("pod/modest", "{.status.phase}").unwrap(), "Running");
    // A further pod of the image that stayed begins as ever.
    cluster.ok(&["run", "another", "--image", USED, "--image-pull-policy=Never"]);
    cluster.pod_ready("another");
}

fn end(cluster: Cluster, dir: &Path) {
    cluster.ok(&["delete", "pods", "--all"]);
    drop(cluster);
    sandbox::run("umount", &["-l", &dir.join("data").display().to_string()]);
}

#[test]
fn unused_images_go_when_the_disk_fills_up() {
    sandboxed(|dir| {
        let args = [
            "--image-gc-high-threshold=55",
            "--image-gc-low-threshold=30",
            "--image-minimum-gc-age=2",
            "--image-gc-period=1",
        ];
        let cluster = on_a_small_disk(dir, &args);
        // There is room, and so they stay, unused and old enough as they are.
        std::thread::sleep(std::time::Duration::from_secs(6));
        has(&cluster.image(&["list"]).unwrap(), &[BUSYBOX, USED]).unwrap();
        import_large(&cluster, dir);
        only_used_ones_stay(&cluster, &[LARGE]);
        end(cluster, dir);
    });
}

#[test]
fn a_node_short_of_disk_gives_up_images_before_pods() {
    sandboxed(|dir| {
        let args = [
            "--eviction-hard",
            "imagefs.available<45%",
            "--eviction-pressure-transition-period=1",
            "--node-name=small",
        ];
        let cluster = on_a_small_disk(dir, &args);
        import_large(&cluster, dir);
        cluster.event(
            "small",
            "EvictionThresholdMet",
            &["Attempting to reclaim ephemeral-storage"],
        );
        only_used_ones_stay(&cluster, &[LARGE, BUSYBOX]);
        let pressure = "{.status.conditions[?(@.type==\"DiskPressure\")].status}";
        cluster.until("node/small", pressure, "False");
        let evicted = cluster.ok(&[
            "get",
            "events",
            "--field-selector",
            "reason=Evicted",
            "-o",
            "name",
        ]);
        assert_eq!(evicted, "");
        end(cluster, dir);
    });
}
