//! Servers whose data are damaged or lost: named, never served, and made good by the others, or by a backup.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::said::said;
use crate::support::servers::Servers;
use crate::support::{Cluster, assert_has, eventually, sandboxed, tools};

/// Objects so large that both log and state have much of them on the disk.
const OBJECTS: usize = 60;
const BYTES: usize = 200_000;

fn object(name: &str) -> String {
    let value = format!("{name} ").repeat(BYTES / (name.len() + 1));
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{v: \"{value}\"}}\n")
}

/// Names and revisions of the ConfigMaps, as a server shows them.
fn shown(servers: &Servers, at: usize) -> Result<String, String> {
    let path = "jsonpath={range .items[*]}{.metadata.name}={.metadata.resourceVersion} {end}";
    servers.all[at].try_ok(&["get", "configmaps", "-o", path])
}

/// Files below a folder whose names end so and that begin so, the one with most in it first.
fn files(dir: &Path, ending: &str, beginning: &[u8]) -> Vec<(usize, PathBuf)> {
    let entries = std::fs::read_dir(dir).expect("a folder").flatten();
    let paths = entries.map(|entry| entry.path());
    let paths = paths.filter(|path| path.to_string_lossy().ends_with(ending));
    let content = |path: PathBuf| {
        let bytes = std::fs::read(&path).expect("a file");
        let length = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
        bytes.starts_with(beginning).then_some((length, path))
    };
    let mut files: Vec<_> = paths.filter_map(content).collect();
    files.sort();
    files.reverse();
    files
}

/// Changes some bytes in the middle of the file that has most in it.
fn damage(dir: &Path, ending: &str, beginning: &[u8]) -> PathBuf {
    let (length, path) = files(dir, ending, beginning).into_iter().next().expect("a file");
    assert!(length > 50_000, "{} has only {length} bytes", path.display());
    let mut bytes = std::fs::read(&path).expect("a file");
    bytes[length / 2..length / 2 + 8]
        .iter_mut()
        .for_each(|byte| *byte ^= 0x55);
    std::fs::write(&path, bytes).expect("a file");
    path
}

/// The id of a member, by its name.
fn id(servers: &Servers, name: &str) -> String {
    let members = servers.members(0).expect("members");
    let mut items = members["items"].as_array().into_iter().flatten();
    let member = items.find(|member| member["name"] == name).expect("a member");
    member["id"].as_str().expect("an id").to_owned()
}

#[test]
fn a_damaged_member_names_the_damage_serves_nothing_and_is_healed_by_the_others() {
    sandboxed(|dir| {
        let mut servers = Servers::start(dir, 3);
        servers.hand_over(0);
        for number in 0..OBJECTS {
            servers.all[0].apply(&object(&format!("large-{number}")));
        }
        let third = servers.all[2].dir.clone();
        // What a segment of the log in use begins with; one that was given back holds old entries, and nobody cares.
        for (folder, ending, beginning) in [("raft", ".log", &b"CORACLOG"[..]), ("state", ".sst", &[])] {
            let before = id(&servers, "third");
            eventually("the third has everything", || {
                match shown(&servers, 2)? == shown(&servers, 0)? {
                    true => Ok(()),
                    false => Err("not yet".to_owned()),
                }
            });
            // Ended in good order, it would have all in the state and hardly anything in the log.
            match folder {
                "raft" => servers.all[2].kill(),
                _ => servers.all[2].stop(),
            }
            let place = newest(&third, folder);
            let damaged = damage(&place, ending, beginning);
            servers.all[2].relaunch();
            let ended = eventually("its end", || servers.all[2].ended().ok_or("it runs".to_owned()));
            assert_eq!(ended.code(), Some(1), "{ended}");
            let log = servers.all[2].log();
            let told = log.lines().last().unwrap_or_default();
            let name = damaged.file_name().unwrap().to_str().unwrap();
            eprintln!("{} damaged: {told}", damaged.display());
            assert_has(told, &["coracle: ", name]);
            assert!(!log.contains("panicked"), "{log}");
            // The others go on, and nobody was told anything by the damaged one.
            servers.all[1].ok(&["create", "configmap", &format!("while-{folder}-is-damaged")]);

            servers.replace(2, 0);
            assert_ne!(id(&servers, "third"), before, "a new member");
            assert_eq!(shown(&servers, 2), shown(&servers, 0));
            assert!(shown(&servers, 2).unwrap().contains("large-0="));
        }
    });
}

/// Removes the files of a server that runs, which has them open: it notices nothing, and whoever starts from what
/// is left must.
#[test]
fn files_deleted_under_a_running_server_are_named_when_it_starts_and_do_no_harm() {
    sandboxed(|dir| {
        let mut servers = Servers::start(dir, 3);
        servers.hand_over(0);
        for number in 0..10 {
            servers.all[0].apply(&object(&format!("large-{number}")));
        }
        let third = servers.all[2].dir.clone();
        for (folder, ending) in [("raft", ".log"), ("state", ".sst")] {
            let before = id(&servers, "third");
            servers.until_level(2);
            let place = newest(&third, folder);
            let deleted: Vec<PathBuf> = files(&place, ending, &[])
                .into_iter()
                .map(|(_, path)| path)
                .collect();
            assert!(!deleted.is_empty(), "{}", place.display());
            for path in &deleted {
                std::fs::remove_file(path).expect("a file");
            }
            // It goes on, and so do the others: also when it leads.
            servers.hand_over(2);
            for number in 0..5 {
                let name = format!("without-{folder}-{number}");
                servers.all[2].apply(&object(&name));
                servers.all[0].ok(&["get", "configmap", &name]);
            }
            servers.all[2].kill();
            servers.all[2].relaunch();
            let ended = eventually("its end", || servers.all[2].ended().ok_or("it runs".to_owned()));
            assert_eq!(ended.code(), Some(1), "{ended}");
            let log = servers.all[2].log();
            let told = log.lines().last().unwrap_or_default();
            eprintln!("{folder} deleted: {told}");
            assert_has(told, &["coracle: ", folder]);
            assert!(!log.contains("panicked"), "{log}");

            servers.replace(2, 0);
            assert_ne!(id(&servers, "third"), before, "a new member");
            assert_eq!(shown(&servers, 2), shown(&servers, 0));
            let all = shown(&servers, 2).unwrap();
            assert_has(&all, &["large-0=", &format!("without-{folder}-4=")]);
        }
    });
}

/// A server whose log is gone, and that has nobody to tell it what was in it, does not begin from nothing.
#[test]
fn a_lone_server_whose_log_is_deleted_does_not_begin_anew() {
    sandboxed(|dir| {
        let mut lone = Cluster::start_as("server", dir.join("data"), &[]);
        lone.ok(&["create", "configmap", "precious"]);
        for (_, path) in files(&lone.dir.join("raft"), ".log", &[]) {
            std::fs::remove_file(path).expect("a file");
        }
        lone.ok(&["get", "configmap", "precious"]);
        lone.kill();
        for _ in 0..2 {
            lone.relaunch();
            let ended = eventually("its end", || lone.ended().ok_or("it runs".to_owned()));
            assert_eq!(ended.code(), Some(1), "{ended}");
            let log = lone.log();
            assert_has(
                log.lines().last().unwrap_or_default(),
                &["coracle: ", "raft", "the log is missing"],
            );
        }
    });
}

/// The state's folder has a number when it is another member's copy.
fn newest(data: &Path, name: &str) -> PathBuf {
    let entries = std::fs::read_dir(data).expect("a folder").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let newest = names.filter(|found| found.starts_with(name)).max();
    data.join(newest.expect("a folder of that name"))
}

#[test]
fn three_lost_servers_come_back_from_a_backup_on_one_machine() {
    sandboxed(|dir| {
        let mut servers = Servers::start(dir, 3);
        servers.all[1].ok(&["create", "configmap", "kept", "--from-literal=a=b"]);
        let before = shown(&servers, 2).unwrap();
        let file = dir.join("monday.backup").display().to_string();
        // On any server, not only on the one that leads.
        servers.hand_over(0);
        servers.coracle(2, &["backup", &file]).unwrap();
        servers.all[0].ok(&["create", "configmap", "later"]);
        let kubeconfig = servers.all[1].dir.join("admin.kubeconfig");
        let kubeconfig = std::fs::read_to_string(kubeconfig).unwrap();
        let lost = servers.members(0).unwrap();
        for at in 0..3 {
            servers.all[at].kill();
        }
        for at in 0..3 {
            servers.empty(at);
        }
        // The second machine has the address at which the kubeconfig finds it.
        let mut restore = Command::new(tools::coracle());
        restore
            .args(["restore", &file, "--data-dir"])
            .arg(&servers.all[1].dir);
        said(servers.hosts[1].output(&mut restore)).unwrap();
        servers.all[1].restart_with(&["--node-name".to_owned(), "second".to_owned()]);
        assert_eq!(shown(&servers, 1).unwrap(), before);
        let made_anew = std::fs::read_to_string(servers.all[1].dir.join("admin.kubeconfig")).unwrap();
        assert_eq!(made_anew.lines().find(|line| line.contains("authority")), {
            kubeconfig.lines().find(|line| line.contains("authority"))
        });

        for at in [0, 2] {
            servers.rejoin(at, 1);
        }
        servers.all[0].ok(&["create", "configmap", "after", "--from-literal=a=b"]);
        for at in 0..3 {
            let shown = eventually("the same everywhere", || match shown(&servers, at) {
                Ok(shown) if shown.contains("after=") => Ok(shown),
                other => Err(format!("{other:?}")),
            });
            assert!(shown.contains(&before) && !shown.contains("later="), "{shown}");
        }
        let members = servers.members(2).unwrap();
        assert_ne!(members["cluster"], lost["cluster"]);
        // Any of the three can be lost again.
        servers.all[1].kill();
        eventually("a write without the one that was restored", || {
            servers.all[0].try_ok(&["create", "configmap", "still"])
        });
        servers.all[1].restart();
    });
}
