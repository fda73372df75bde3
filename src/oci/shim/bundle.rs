//! The bundle: what the runtime library is told about a container
//! (OCI runtime specification 1.0, `config.json`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use super::passwd::Identity;
use super::surroundings::{SHM, Surroundings};
use super::{devices, groups, huge_pages, propagation, rights, rootfs, seccomp, sub_paths};
use crate::spec::{ContainerSpec, Hook, Moment, Resources};

const MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The configuration of a container whose user is known; `processes` is the PID namespace that it joins.
///
/// # Errors
/// A part of the specification that cannot be met, in words.
pub(super) fn config(
    spec: &ContainerSpec,
    s: &Surroundings,
    user: &Identity,
    processes: Option<&Path>,
) -> Result<Value, String> {
    if spec.args.is_empty() {
        return Err("no command specified".to_owned());
    }
    let security = &spec.security;
    rights::check_added(security, s.capabilities)?;
    rights::check_apparmor(security)?;
    let capabilities = rights::capabilities(security, s.capabilities);
    let devices = devices::describe(&spec.devices)?;
    let unmasked = security.privileged || security.proc_mount == "Unmasked";
    let masked: &[&str] = if unmasked { &[] } else { &MASKED };
    let read_only: &[&str] = if unmasked { &[] } else { &READ_ONLY };
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": process(spec, user, &capabilities, s, spec.tty),
        "root": {"path": rootfs::place(&s.stage.join(&spec.id)), "readonly": security.read_only_root},
        "mounts": mounts(spec, s, devices.shown),
        "linux": {
            "namespaces": namespaces(s, processes),
            "cgroupsPath": format!("{}/{}", s.cgroup, spec.id),
            "resources": resources(&spec.resources, security.privileged, devices.rules),
            "devices": devices.made,
            "maskedPaths": masked,
            "readonlyPaths": read_only,
            "rootfsPropagation": propagation::of_all(&spec.mounts),
        },
    });
    if let Some(profile) = seccomp::profile(security, &capabilities)? {
        config["linux"]["seccomp"] = profile;
    }
    if !spec.hooks.is_empty() {
        config["hooks"] = hooks(&spec.hooks);
    }
    Ok(config)
}

/// Hooks by their moments, each list in its order.
fn hooks(all: &[Hook]) -> Value {
    let mut lists: BTreeMap<Moment, Vec<Value>> = BTreeMap::new();
    for hook in all {
        let mut described = json!({"path": hook.path, "args": hook.args, "env": hook.env});
        if let Some(seconds) = hook.timeout_seconds {
            described["timeout"] = seconds.into();
        }
        lists.entry(hook.moment).or_default().push(described);
    }
    json!(lists)
}

/// What new files lack, as with other runtimes: whatever the agent was started with.
const UMASK: u32 = 0o022;

/// What every process of the container has in common, the first and those run in it later.
fn process(
    spec: &ContainerSpec,
    user: &Identity,
    capabilities: &BTreeSet<String>,
    s: &Surroundings,
    tty: bool,
) -> Value {
    // Only root holds capabilities at once; another user gets them by file capabilities within the bound.
    let held = if user.uid == 0 {
        capabilities.clone()
    } else {
        BTreeSet::new()
    };
    // With containerd, the first group is among the others, too: it stays when a program changes its own.
    let others = user.groups.iter().filter(|group| **group != user.gid);
    let groups: Vec<u32> = std::iter::once(user.gid).chain(others.copied()).collect();
    let mut process = json!({
        "terminal": tty,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": groups, "umask": UMASK},
        "args": spec.args,
        "env": environment(spec, user, s, tty),
        "cwd": working_dir(spec),
        "capabilities": {"bounding": capabilities, "effective": held, "permitted": held},
        "oomScoreAdj": oom_score(&spec.resources, s),
    });
    // Left out rather than false: to the library, even a false one means that
    // seccomp is loaded last, when the capability to load it is gone.
    if spec.security.no_new_privileges {
        process["noNewPrivileges"] = true.into();
    }
    if !spec.security.apparmor.is_empty() {
        process["apparmorProfile"] = spec.security.apparmor.as_str().into();
    }
    process
}

/// The process description for running something else in a container.
pub(super) fn exec_process(
    spec: &ContainerSpec,
    s: &Surroundings,
    user: &Identity,
    args: &[String],
    tty: bool,
) -> Value {
    let mut process = process(
        spec,
        user,
        &rights::capabilities(&spec.security, s.capabilities),
        s,
        tty,
    );
    process["args"] = json!(args);
    process
}

fn working_dir(spec: &ContainerSpec) -> &str {
    [
        spec.working_dir.as_str(),
        spec.image.config.working_dir.as_str(),
        "/",
    ]
    .into_iter()
    .find(|dir| !dir.is_empty())
    .unwrap_or("/")
}

fn environment(spec: &ContainerSpec, user: &Identity, s: &Surroundings, tty: bool) -> Vec<String> {
    let mut env = vec![
        (
            "PATH".to_owned(),
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        ),
        ("HOSTNAME".to_owned(), s.pod.hostname.clone()),
        ("HOME".to_owned(), user.home.clone()),
    ];
    if tty {
        env.push(("TERM".to_owned(), "xterm".to_owned()));
    }
    for (name, value) in &spec.env {
        env.retain(|(known, _)| known != name);
        env.push((name.clone(), value.clone()));
    }
    env.into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

/// Kubernetes' scores: guaranteed pods go last, best-effort pods first, the
/// others by the share of the machine's memory that they asked for. No lower than can be given.
pub(super) fn oom_score(resources: &Resources, s: &Surroundings) -> i32 {
    let score = match s.pod.qos.as_str() {
        "Guaranteed" => -997,
        "BestEffort" => 1000,
        _ => {
            let asked = resources.memory_request_bytes.unwrap_or(0);
            let share = (u128::from(asked) * 1000) / u128::from(memory_bytes().max(1));
            (1000 - i32::try_from(share).unwrap_or(1000)).clamp(2, 999)
        }
    };
    score.max(s.oom_score_min)
}

fn memory_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// UTS, IPC and network are the shim's own, which are the pod's.
fn namespaces(s: &Surroundings, processes: Option<&Path>) -> Value {
    let mut list = vec![json!({"type": "mount"})];
    match processes {
        Some(path) => list.push(json!({"type": "pid", "path": path})),
        None if !s.pod.host_pid => list.push(json!({"type": "pid"})),
        None => {}
    }
    if !groups::kills_one_by_one() {
        list.push(json!({"type": "cgroup"}));
    }
    if let Some(users) = &s.users {
        list.push(json!({"type": "user", "path": users.path()}));
    }
    list.into()
}

/// `devices` are the rules for what the container may use beyond what every one may.
fn resources(limits: &Resources, privileged: bool, devices: Vec<Value>) -> Value {
    const PERIOD: u64 = 100_000;
    let mut cpu = json!({"shares": limits.cpu_shares()});
    if let Some(millis) = limits.cpu_limit_millis.filter(|m| *m > 0) {
        cpu["period"] = PERIOD.into();
        cpu["quota"] = (millis * PERIOD / 1000).max(1000).into();
    }
    if let Some(cpus) = &limits.cpus {
        cpu["cpus"] = cpus.as_str().into();
    }
    let all_others = json!({"allow": privileged, "access": "rwm"});
    let rules: Vec<Value> = std::iter::once(all_others).chain(devices).collect();
    let mut all = json!({"cpu": cpu, "devices": rules});
    if let Some(bytes) = limits.memory_limit_bytes.filter(|b| *b > 0) {
        all["memory"] = json!({"limit": bytes});
    }
    let huge = huge_pages::limits(&limits.huge_pages);
    if !huge.is_empty() {
        all["hugepageLimits"] = huge.into();
    }
    if let Some(pids) = limits.pids_limit.filter(|p| *p > 0) {
        all["pids"] = json!({"limit": pids});
    }
    all
}

/// `devices` are those that are shown as files.
fn mounts(spec: &ContainerSpec, s: &Surroundings, devices: Vec<Value>) -> Value {
    let shm = match s.pod.host_ipc {
        true => std::path::PathBuf::from("/dev/shm"),
        false => s.stage.join(SHM),
    };
    let sys_option = if spec.security.privileged { "rw" } else { "ro" };
    let mut list = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}),
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]}),
        json!({"destination": "/dev/shm", "type": "bind", "source": shm,
            "options": ["rbind", "rprivate", "nosuid", "noexec", "nodev"]}),
        json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
            "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", sys_option]}),
    ];
    list.extend(groups::mounts(
        &s.stage,
        &format!("{}/{}", s.cgroup, spec.id),
        sys_option,
    ));
    for (number, mount) in spec.mounts.iter().enumerate() {
        let source = match sub_paths::has_place(mount, s.users.as_ref()) {
            false => mount.host.clone(),
            true => sub_paths::place(&s.stage.join(&spec.id), number),
        };
        let access = match (mount.read_only, mount.recursive) {
            (true, true) => "rro",
            (true, false) => "ro",
            (false, _) => "rw",
        };
        list.push(json!({
            "destination": mount.path, "type": "bind", "source": source,
            "options": ["rbind", access],
        }));
    }
    list.extend(devices);
    list.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::{Image, ImageConfig, ImageKind};
    use crate::spec::{LogSpec, PodSpec, Security, User};

    fn spec(security: Security) -> ContainerSpec {
        ContainerSpec {
            pod_uid: "u".into(),
            id: "c".into(),
            name: "app".into(),
            attempt: 0,
            image: Image {
                references: vec![],
                digest: String::new(),
                id: String::new(),
                size_bytes: 0,
                config: ImageConfig::default(),
                kind: ImageKind::Oci { layers: vec![] },
                vouchers: vec![],
                pulled_by: Default::default(),
            },
            args: vec!["/bin/sh".into()],
            env: vec![("PATH".into(), "/bin".into())],
            working_dir: String::new(),
            user: User::default(),
            mounts: vec![],
            devices: vec![],
            hooks: vec![],
            resources: Resources::default(),
            security,
            tty: false,
            stdin: false,
            stdin_once: false,
            log: LogSpec {
                path: "/x".into(),
                bytes_max: 0,
                files_max: 1,
            },
            target: None,
        }
    }

    fn surroundings() -> Surroundings {
        let pod = PodSpec {
            qos: "Burstable".into(),
            hostname: "h".into(),
            ..PodSpec::default()
        };
        Surroundings {
            dir: "/pod".into(),
            stage: "/pod".into(),
            users: None,
            machine: sys::mounts::current().unwrap(),
            cgroup: "/coracle-x/podu".into(),
            pod,
            capabilities: u64::MAX,
            oom_score_min: -998,
            pid_holder: None,
        }
    }

    #[test]
    fn the_pods_environment_wins_and_an_empty_command_is_refused() {
        let config = config(
            &spec(Security::default()),
            &surroundings(),
            &Identity::default(),
            None,
        )
        .unwrap();
        let env = config["process"]["env"].as_array().unwrap();
        assert!(env.contains(&json!("PATH=/bin")) && env.contains(&json!("HOSTNAME=h")));
        assert_eq!(config["linux"]["cgroupsPath"], "/coracle-x/podu/c");
        let mut empty = spec(Security::default());
        empty.args.clear();
        assert!(super::config(&empty, &surroundings(), &Identity::default(), None).is_err());
    }

    #[test]
    fn hooks_are_listed_by_their_moments() {
        let mut with = spec(Security::default());
        let hook = |moment: &str, path: &str, timeout_seconds| Hook {
            moment: Moment::of(moment).unwrap(),
            path: path.into(),
            args: vec!["x".into()],
            env: vec![],
            timeout_seconds,
        };
        with.hooks = vec![
            hook("createContainer", "/a", None),
            hook("poststop", "/b", Some(3)),
            hook("createContainer", "/c", None),
        ];
        let config = config(&with, &surroundings(), &Identity::default(), None).unwrap();
        let paths = |moment: &str| -> Vec<Value> {
            config["hooks"][moment]
                .as_array()
                .unwrap()
                .iter()
                .map(|hook| hook["path"].clone())
                .collect()
        };
        assert_eq!(
            (paths("createContainer"), paths("poststop")),
            (vec![json!("/a"), json!("/c")], vec![json!("/b")])
        );
        assert_eq!(config["hooks"]["poststop"][0]["timeout"], 3);
        assert_eq!(Moment::of("whenever"), None);
    }

    #[test]
    fn processes_are_shared_with_the_pod_or_with_one_container() {
        let pid = |joined: Option<&str>, host_pid| {
            let mut s = surroundings();
            s.pod.host_pid = host_pid;
            let list = namespaces(&s, joined.map(Path::new));
            let mut list = list.as_array().unwrap().iter();
            list.find(|n| n["type"] == "pid").map(|n| n["path"].clone())
        };
        assert_eq!(pid(None, false), Some(Value::Null));
        assert_eq!(pid(None, true), None);
        assert_eq!(pid(Some("/of/7"), false), Some(json!("/of/7")));
    }
}
