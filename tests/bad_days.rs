//! Full disks, wrong folders, damaged files, taken ports: a clear message,
//! nothing lost, and service again as soon as it can be.
//!
//! Jumps of the wall clock are not tried here: it is one clock for the whole
//! machine (time namespaces shift the monotonic clocks alone), so setting it
//! would hit everything else that runs. What depends on it is tested with a
//! clock that tests can set, beside the code.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use crate::support::manifests::{BUSYBOX, busybox_pod, idle_pod};
use crate::support::program::ROOMY;
use crate::support::rest::Answer;
use crate::support::running::Running;
use crate::support::{Cluster, PATIENCE, assert_has, eventually, has, sandboxed, tools};

/// Runs `coracle up` until it is ready or has ended; what it said, if it ended.
fn attempt(program: &mut Command, data: &Path, args: &[&str]) -> Result<Child, String> {
    let log = data.with_extension("attempt.log");
    let file = std::fs::File::create(&log).expect("a log");
    program
        .arg("up")
        .arg("--data-dir")
        .arg(data)
        .args(ROOMY)
        .args(args)
        .env("CORACLE_LOG", "info");
    let mut child = program
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(file)
        .spawn()
        .expect("coracle");
    let stdout = child.stdout.take().expect("stdout");
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    match receiver.recv_timeout(PATIENCE) {
        Ok(_ready) => Ok(child),
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("coracle neither starts nor ends"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            let status = child.wait().expect("its end");
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            assert_eq!(
                status.code(),
                Some(1),
                "it did not end by itself: {status} {said}"
            );
            assert!(!said.contains("panicked"), "{said}");
            Err(said)
        }
    }
}

/// What `coracle up` says when it cannot start.
fn refusal(data: &Path, args: &[&str]) -> String {
    match attempt(&mut Command::new(tools::coracle()), data, args) {
        Err(said) => said,
        Ok(child) => {
            end(child);
            panic!("{} was not refused", data.display())
        }
    }
}

fn end(mut child: Child) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("SIGTERM");
    child.wait().expect("its end");
}

fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).status().expect(program);
    assert!(status.success(), "{program} {args:?}");
}

/// A small disk of its own at a folder.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: &Path, mebibytes: u32) -> Self {
        std::fs::create_dir_all(path).expect("a folder");
        run(
            "mount",
            &[
                "-t",
                "tmpfs",
                "-o",
                &format!("size={mebibytes}m,mode=0700"),
                "tmpfs",
                path.to_str().expect("a path"),
            ],
        );
        Self(path.to_owned())
    }

    fn fill(&self) {
        // Ends when there is no space left, which is what is wanted.
        let _ = Command::new("dd")
            .args(["if=/dev/zero", "bs=64k", "status=none"])
            .arg(format!("of={}", self.ballast().display()))
            .stderr(Stdio::null())
            .status();
    }

    fn empty(&self) {
        std::fs::remove_file(self.ballast()).expect("the ballast");
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_folder_that_cannot_be_used_is_named_with_the_reason() {
    sandboxed(|dir| {
        let file = dir.join("file");
        std::fs::write(&file, "precious").unwrap();
        assert_has(
            &refusal(&file, &[]),
            &["coracle: ", file.to_str().unwrap(), "not a folder"],
        );
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");

        let foreign = dir.join("foreign");
        std::fs::create_dir(&foreign).unwrap();
        std::fs::write(foreign.join("PG_VERSION"), "17").unwrap();
        assert_has(
            &refusal(&foreign, &[]),
            &["not a data folder of Coracle", "--data-dir"],
        );
        assert_eq!(std::fs::read_dir(&foreign).unwrap().count(), 1);

        let newer = dir.join("newer");
        std::fs::create_dir(&newer).unwrap();
        std::fs::write(newer.join("version"), "7\n").unwrap();
        assert_has(&refusal(&newer, &[]), &["has format 7", "use a newer coracle"]);
        std::fs::write(newer.join("version"), "").unwrap();
        assert_has(
            &refusal(&newer, &[]),
            &["version is damaged", "not a format number"],
        );
        std::fs::write(newer.join("version"), "1\n").unwrap();
        std::fs::write(newer.join("instance-id"), "../../etc").unwrap();
        assert_has(
            &refusal(&newer, &[]),
            &["instance-id is damaged", "not eight hex digits"],
        );

        let disk = Disk::mount(&dir.join("read-only"), 8);
        run("mount", &["-o", "remount,ro", disk.0.to_str().unwrap()]);
        assert_has(&refusal(&disk.0, &[]), &["cannot use", "Read-only file system"]);

        // Root may do anything, unless it gives that up.
        let closed = dir.join("closed");
        std::fs::create_dir(&closed).unwrap();
        run("chown", &["65534:65534", closed.to_str().unwrap()]);
        run("chmod", &["0700", closed.to_str().unwrap()]);
        let mut humble = Command::new("setpriv");
        humble
            .args(["--bounding-set", "-dac_override,-dac_read_search", "--"])
            .arg(tools::coracle());
        let said = attempt(&mut humble, &closed, &[]).map(end).unwrap_err();
        assert_has(&said, &["cannot use", "Permission denied"]);
    });
}

#[test]
fn a_taken_port_or_folder_is_told_with_the_way_out() {
    sandboxed(|dir| {
        let listener = std::net::TcpListener::bind("127.0.0.1:6443").unwrap();
        assert_has(&refusal(&dir.join("data"), &[]), &["6443", "--listen"]);
        drop(listener);
        let cluster = Cluster::start(dir, &[]);
        let said = refusal(&dir.join("data"), &["--listen", "7443"]);
        assert_has(&said, &["is in use by process", &cluster.pid().to_string()]);
        assert_has(&refusal(&dir.join("other"), &[]), &["6443", "--listen"]);
        let said = refusal(&dir.join("third"), &["--listen", "7443", "--tls-san", "no name"]);
        assert_has(&said, &["tls-san", "neither an address nor a name"]);
        cluster.ready();
    });
}

/// Everything small that a node keeps, relative to its data folder.
fn small_files(data: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![data.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, kind) = (entry.path(), entry.file_type().expect("a kind"));
            let name = entry.file_name().to_string_lossy().into_owned();
            // Log and state have tests of their own, in `store`; images' content is named by its digest.
            if kind.is_dir()
                && ![
                    "raft",
                    "state",
                    "layers",
                    "modules",
                    "netns",
                    "volumes",
                    "logs",
                    "containers",
                ]
                .contains(&name.as_str())
            {
                left.push(path);
            } else if kind.is_file() && name != "lock" {
                found.push(path.strip_prefix(data).expect("below").to_owned());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_damaged_file_is_made_anew_or_named() {
    sandboxed(|dir| {
        let mut cluster = Cluster::stocked(dir, &[]);
        cluster.ok(&["create", "configmap", "kept", "--from-literal=a=b"]);
        cluster.apply(&idle_pod("oci"));
        cluster.ok(&["run", "wasm", "--image=local/hello-http:1"]);
        cluster.pod_ready("oci");
        cluster.pod_ready("wasm");
        cluster.stop();
        let files = small_files(&cluster.dir);
        assert!(files.len() > 15, "{files:?}");
        for file in files {
            let path = cluster.dir.join(&file);
            // What belongs to a pod's run goes with it: every start makes new ones.
            let Ok(whole) = std::fs::read(&path) else {
                continue;
            };
            for (how, damaged) in [
                ("cut", whole[..whole.len() / 2].to_vec()),
                ("garbled", vec![0xff; whole.len().max(1)]),
            ] {
                std::fs::write(&path, &damaged).unwrap();
                match attempt(&mut Command::new(tools::coracle()), &cluster.dir, &[]) {
                    Ok(child) => {
                        let kept = cluster.field("configmap/kept", "{.data.a}");
                        let log = std::fs::read_to_string(cluster.dir.with_extension("attempt.log")).unwrap();
                        end(child);
                        eprintln!("{} {how}: starts", file.display());
                        assert!(!log.contains("panicked"), "{}: {log}", file.display());
                        // Its own way in may have been what was damaged, and made anew.
                        assert_eq!(kept.as_deref(), Ok("b"), "{} {how}", file.display());
                    }
                    Err(said) => {
                        let told = said.lines().last().unwrap_or_default();
                        eprintln!("{} {how}: {told}", file.display());
                        let name = file.file_name().unwrap().to_str().unwrap();
                        assert_has(told, &["coracle: ", name]);
                    }
                }
                std::fs::write(&path, &whole).unwrap();
            }
        }
        cluster.restart();
        cluster.ready();
        cluster.pod_ready("oci");
        cluster.pod_ready("wasm");
    });
}

fn write(cluster: &Cluster, name: &str, bytes: usize) -> Answer {
    let value = "x".repeat(bytes);
    let body = format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}},"data":{{"v":"{value}"}}}}"#
    );
    cluster.post("/api/v1/namespaces/default/configmaps", &body)
}

/// Writes ConfigMaps until one is refused; the names of those that were
/// acknowledged, and the refusal.
fn write_until_refused(cluster: &Cluster) -> (Vec<String>, Answer) {
    let mut done = Vec::new();
    for n in 0..2000 {
        let name = format!("full-{n}");
        let answer = write(cluster, &name, 200_000);
        if answer.code != 201 {
            return (done, answer);
        }
        done.push(name);
    }
    panic!("the disk never got full");
}

fn assert_all_there(cluster: &Cluster, written: &[String]) {
    let there = cluster.ok(&["get", "configmaps", "-o", "name"]);
    for name in written {
        assert!(
            there.lines().any(|line| line == format!("configmap/{name}")),
            "{name} was acknowledged"
        );
    }
}

/// A full disk under a part of the store: writes are refused with the reason,
/// reads and watches go on, and the same process writes again once there is room.
fn a_full_disk_only_stops_writes(dir: &Path, folder: &str, apart: Option<&Path>) {
    let disk = Disk::mount(&dir.join(folder), 400);
    let _apart = apart.map(|path| Disk::mount(path, 400));
    // Without its version the folder would pass for somebody else's.
    std::fs::write(dir.join("data/version"), "1\n").unwrap();
    let mut cluster = Cluster::start(dir, &[]);
    let pid = cluster.pid();
    cluster.ok(&["create", "configmap", "before", "--from-literal=a=b"]);
    let mut watch = Watching::start(&cluster);
    disk.fill();
    let (written, refusal) = write_until_refused(&cluster);
    eprintln!(
        "{folder} is full after {} more writes: {}",
        written.len(),
        refusal.message()
    );
    let words = [
        "the store cannot write now",
        "No space left on device",
        "reads go on",
    ];
    refusal.is(503, "ServiceUnavailable", &words);
    // It stays so, for small writes too, and everything can be read.
    eventually("refusals of small writes", || {
        match write(&cluster, "small", 10) {
            answer if answer.code == 503 => Ok(()),
            answer => Err(answer.body.to_string()),
        }
    });
    assert_eq!(cluster.field("configmap/before", "{.data.a}").unwrap(), "b");
    assert_all_there(&cluster, &written);
    disk.empty();
    eventually("a write", || match write(&cluster, "after", 10) {
        answer if answer.code == 201 => Ok(()),
        answer => Err(answer.body.to_string()),
    });
    watch.until("after");
    assert_eq!(cluster.pid(), pid, "it went on by itself");
    assert_has(&cluster.log(), &["the store takes writes again"]);
    assert!(!cluster.log().contains("panicked"), "{}", cluster.log());
    // What was acknowledged before and after is on the disk.
    cluster.kill();
    cluster.restart();
    cluster.ready();
    assert_all_there(&cluster, &written);
    assert_all_there(&cluster, &["before".into(), "after".into()]);
    drop(cluster);
    drop(disk);
}

/// A watch of ConfigMaps that must never break off.
struct Watching {
    _client: Running,
    lines: mpsc::Receiver<String>,
}

impl Watching {
    fn start(cluster: &Cluster) -> Self {
        let mut child = cluster.stream("/api/v1/namespaces/default/configmaps?watch=1");
        let stdout = child.stdout.take().expect("stdout");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self {
            _client: Running(child),
            lines,
        }
    }

    /// Waits until it tells of an object.
    fn until(&mut self, name: &str) {
        let wanted = format!(r#""name":"{name}""#);
        while !self
            .lines
            .recv_timeout(PATIENCE)
            .expect("the watch goes on")
            .contains(&wanted)
        {}
    }
}

#[test]
fn a_full_disk_under_the_log_stops_writes_and_nothing_else() {
    sandboxed(|dir| a_full_disk_only_stops_writes(dir, "data/raft", None));
}

#[test]
fn a_full_disk_under_the_state_stops_writes_and_nothing_else() {
    sandboxed(|dir| {
        // The log has a disk of its own, so that it is the state that meets the end of the other.
        let data = dir.join("data");
        a_full_disk_only_stops_writes(dir, "data", Some(&data.join("raft")));
    });
}

#[test]
fn a_full_disk_under_the_node_is_told_and_survived() {
    sandboxed(|dir| {
        let data = dir.join("data");
        // 512 MiB is more than any of these needs; a disk must be small to be filled quickly.
        let disks: Vec<(&str, Disk)> = ["images", "pods", "containers", "network", "cwasm"]
            .map(|name| (name, Disk::mount(&data.join(name), 64)))
            .into();
        // These disks are not the node's to judge: nothing is evicted here.
        // (An older start left the folder: without its version it would pass for a foreign one.)
        std::fs::write(data.join("version"), "1\n").unwrap();
        let cluster = Cluster::stocked(dir, &["--eviction-hard", "memory.available<1Mi"]);
        cluster.ok(&["run", "steady", "--image=local/hello-http:1"]);
        cluster.pod_ready("steady");
        let disk = |name: &str| &disks.iter().find(|(known, _)| *known == name).expect("a disk").1;

        disk("images").fill();
        let file = tools::guest("tcp-echo.wasm");
        let refused = cluster
            .image(&["import", file.to_str().unwrap(), "--name", "local/late:1"])
            .unwrap_err();
        assert_has(&refused, &["No space left on device"]);
        disk("images").empty();
        cluster.import(&file, &["--name", "local/late:1"]);

        for (name, reason) in [
            ("pods", "FailedCreatePodSandBox"),
            ("containers", "FailedCreatePodSandBox"),
            ("network", ""),
        ] {
            disk(name).fill();
            let pod = format!("on-{name}");
            cluster.apply(&busybox_pod(&pod, "Never", "echo fine"));
            if !reason.is_empty() {
                cluster.event(&pod, reason, &["No space left on device"]);
            }
            // The rest of the node goes on.
            let ip = cluster.pod_ip("steady");
            assert_has(&cluster.curl(&format!("http://{ip}:8080/")).unwrap(), &["hello"]);
            cluster.ok(&["get", "pods"]);
            disk(name).empty();
            assert_eq!(cluster.finished(&pod), "Succeeded", "{name}");
        }

        disk("cwasm").fill();
        cluster.ok(&["run", "uncached", "--image=local/late:1"]);
        cluster.until("pod/uncached", "{.status.phase}", "Running");
        has(&cluster.log(), &["cannot keep a compiled wasm program"]).unwrap();
        disk("cwasm").empty();
        assert!(!cluster.log().contains("panicked"), "{}", cluster.log());
    });
}

#[test]
fn a_full_disk_at_the_first_start_is_told() {
    sandboxed(|dir| {
        let data = dir.join("data");
        let disk = Disk::mount(&data, 1);
        disk.fill();
        std::fs::rename(disk.ballast(), dir.join("data/images")).unwrap();
        let said = refusal(&data, &[]);
        assert_has(&said, &["coracle: ", "No space left on device"]);
        drop(disk);
        std::fs::write(data.join("version"), "1\n").unwrap();
        let pki = Disk::mount(&data.join("pki"), 1);
        pki.fill();
        assert_has(&refusal(&data, &[]), &["pki", "No space left on device"]);
        pki.empty();
        let cluster = Cluster::start(dir, &[]);
        cluster.ready();
    });
}

#[test]
fn a_node_short_of_disk_says_so_and_gives_up_who_fills_it() {
    sandboxed(|dir| {
        let disk = Disk::mount(&dir.join("data"), 1024);
        let arguments = [
            "--eviction-hard",
            "nodefs.available<30%",
            "--eviction-pressure-transition-period",
            "1",
        ];
        let cluster = Cluster::stocked(dir, &arguments);
        let node = cluster.ok(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
        let node = format!("node/{node}");
        let pressure = "{.status.conditions[?(@.type==\"DiskPressure\")].status}";
        cluster.until(&node, pressure, "False");
        cluster.ok(&["run", "modest", "--image=local/hello-http:1"]);
        cluster.pod_ready("modest");
        cluster.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: greedy}}\nspec:\n  containers:\n  - name: main\n    image: {BUSYBOX}\n    \
             command: [sh, -c, \"dd if=/dev/zero of=/scratch/f bs=1M count=850; sleep 1000\"]\n    \
             volumeMounts: [{{name: scratch, mountPath: /scratch}}]\n  volumes: [{{name: scratch, emptyDir: {{}}}}]\n"
        ));
        cluster.event(
            "greedy",
            "Evicted",
            &["The node was low on resource: ephemeral-storage. Threshold quantity: "],
        );
        assert_eq!(cluster.finished("greedy"), "Failed");
        assert_eq!(
            cluster.field("pod/greedy", "{.status.reason}").unwrap(),
            "Evicted"
        );
        let name = node.trim_start_matches("node/");
        cluster.event(
            name,
            "EvictionThresholdMet",
            &["Attempting to reclaim ephemeral-storage"],
        );
        // Its volume has gone with it; the other pod has not.
        cluster.until(&node, pressure, "False");
        assert_eq!(cluster.field("pod/modest", "{.status.phase}").unwrap(), "Running");

        // Filled by somebody else: no pod comes in until there is room again.
        disk.fill();
        cluster.until(&node, pressure, "True");
        cluster.until(
            &node,
            "{.spec.taints[?(@.key==\"node.kubernetes.io/disk-pressure\")].effect}",
            "NoSchedule",
        );
        cluster.ok(&["run", "late", "--image=local/hello-http:1"]);
        cluster.event("late", "FailedScheduling", &["untolerated taint"]);
        disk.empty();
        cluster.until(&node, pressure, "False");
        cluster.pod_ready("late");
        cluster.ok(&["delete", "pods", "--all"]);
        drop(cluster);
    });
}
