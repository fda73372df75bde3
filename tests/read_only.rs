//! A file system that becomes read-only under a running server, as Linux makes one that has met an error.
//!
//! Nobody can remount what is open for writing, so the file system is told of an error, which ext4 can be for tests. Such a
//! one stays as it is until it is unmounted, checked and mounted again.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::rest::Answer;
use crate::support::said::said;
use crate::support::sandbox::run;
use crate::support::{Cluster, assert_has, eventually, sandboxed, tools};

/// Size of the disk below the log.
const BYTES: &str = "256M";

/// A disk in a file, mounted at a folder.
struct Disk {
    image: PathBuf,
    place: PathBuf,
}

impl Disk {
    fn mount(dir: &Path, place: &Path) -> Self {
        let (image, place) = (dir.join("log.img"), place.to_owned());
        std::fs::create_dir_all(&place).expect("a folder");
        run("truncate", &["-s", BYTES, text(&image)]);
        // Without a journal: that would be given up with the file system, and replayed by the check.
        run("mkfs.ext4", &["-q", "-O", "^has_journal", text(&image)]);
        let disk = Self { image, place };
        disk.attach();
        disk
    }

    fn attach(&self) {
        run(
            "mount",
            &[
                "-o",
                "loop,errors=remount-ro",
                text(&self.image),
                text(&self.place),
            ],
        );
    }

    /// Lets the file system meet an error: from then on it takes nothing.
    fn fail(&self) {
        let source = Command::new("findmnt")
            .args(["-no", "SOURCE"])
            .arg(&self.place)
            .output();
        let device = said(source.expect("findmnt")).expect("a mounted disk");
        let name = device.trim().trim_start_matches("/dev/");
        let trigger = format!("/sys/fs/ext4/{name}/trigger_fs_error");
        std::fs::write(&trigger, "a test").unwrap_or_else(|error| panic!("{trigger}: {error}"));
    }

    /// What an administrator does, once nobody uses it.
    fn mend(&self) {
        run("umount", &[text(&self.place)]);
        let checked = Command::new("e2fsck")
            .args(["-f", "-y"])
            .arg(&self.image)
            .output();
        let code = checked.expect("e2fsck").status.code();
        assert!(matches!(code, Some(0..=2)), "e2fsck ended with {code:?}");
        self.attach();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.place).status();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// Whether this kernel can do it, said aloud where not, which under CI is a failure.
fn possible() -> bool {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let possible =
        known.split_whitespace().any(|word| word == "ext4") && Path::new("/dev/loop-control").exists();
    assert!(
        possible || std::env::var_os("CI").is_none(),
        "CI must have ext4 and loop devices in its kernel"
    );
    if !possible {
        eprintln!("SKIPPED a read-only file system: the kernel has no ext4, or no loop devices");
    }
    possible
}

fn write(cluster: &Cluster, name: &str) -> Answer {
    let body = format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}}}}"#);
    cluster.post("/api/v1/namespaces/default/configmaps", &body)
}

#[test]
fn a_log_whose_file_system_becomes_read_only_stops_writes_and_nothing_else() {
    sandboxed(|dir| {
        if !possible() {
            return;
        }
        let data = dir.join("data");
        let disk = Disk::mount(dir, &data.join("raft"));
        // Without its version the folder would pass for somebody else's.
        std::fs::write(data.join("version"), "1\n").unwrap();
        let mut cluster = Cluster::start_as("server", data, &[]);
        let names: Vec<String> = (0..20).map(|number| format!("before-{number}")).collect();
        for name in &names {
            assert_eq!(write(&cluster, name).code, 201);
        }
        let pid = cluster.pid();
        disk.fail();
        let words = [
            "the store cannot write now",
            "Read-only file system",
            "reads go on",
        ];
        let refusal = eventually("a refusal", || match write(&cluster, "refused") {
            answer if answer.code == 503 => Ok(answer),
            answer => Err(answer.body.to_string()),
        });
        refusal.is(503, "ServiceUnavailable", &words);
        let mut status = Command::new(tools::coracle());
        let status = said(
            status
                .args(["status", "--data-dir"])
                .arg(&cluster.dir)
                .output()
                .unwrap(),
        );
        assert_has(&status.unwrap(), &["cannot write", "Read-only file system"]);
        let all_there = |cluster: &Cluster| {
            let there = cluster.ok(&["get", "configmaps", "-o", "name"]);
            let missing = names
                .iter()
                .find(|name| !there.lines().any(|line| line == format!("configmap/{name}")));
            assert_eq!(missing, None, "it was acknowledged");
        };
        all_there(&cluster);
        assert_eq!(cluster.pid(), pid);
        assert!(cluster.ended().is_none(), "{}", cluster.log());

        // It ends in good order, and starts on what is mended.
        cluster.stop();
        disk.mend();
        cluster.restart();
        all_there(&cluster);
        assert_eq!(write(&cluster, "after").code, 201);
        assert!(!cluster.log().contains("panicked"), "{}", cluster.log());
        drop(cluster);
        drop(disk);
    });
}
