//! What a container may do holds for every process in it: its first one, and whatever is run there later by
//! `kubectl exec`, a probe or a hook.

use std::fs;

use crate::support::instances::instance_ids;
use crate::support::manifests::{BUSYBOX, IDLE};
use crate::support::running::processes;
use crate::support::{Cluster, assert_has, eventually, sandboxed};

/// Prints all that the kernel knows of a process' rights and place.
const FACTS: &str = "grep -E '^(Uid|Gid|Groups|Umask|NoNewPrivs|Seccomp|Cap...):' /proc/self/status; \
    cat /proc/self/oom_score_adj /proc/self/limits /proc/self/cgroup; pwd; env | sort; \
    for n in /proc/self/ns/*; do readlink $n; done";

/// A container `name` that tells its first process' facts, and its hook's into a file; its probe insists on seccomp
/// being as said.
fn container(name: &str, seccomp: u32, security: &str, memory: &str) -> String {
    format!(
        r#"
  - name: {name}
    image: {BUSYBOX}
    command: [sh, -c, "({FACTS}) > /facts/first; {IDLE}"]
    workingDir: /tmp
    env: [{{name: COLOUR, value: blue}}]
    resources: {{requests: {{memory: {memory}}}}}
    securityContext: {security}
    volumeMounts: [{{name: facts, mountPath: /facts, subPath: {name}}}]
    lifecycle: {{postStart: {{exec: {{command: [sh, -c, "({FACTS}) > /facts/hook"]}}}}}}
    readinessProbe: {{periodSeconds: 1, timeoutSeconds: 20, exec: {{command: [sh, -c, "grep -qE 'Seccomp:\\s{seccomp}$' /proc/self/status && ({FACTS}) > /facts/probe"]}}}}"#
    )
}

/// Containers of all sorts of rights. They write from different users into one volume.
fn pod() -> String {
    let limited = "{runAsUser: 1000, runAsGroup: 1001, allowPrivilegeEscalation: false, \
                   readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}";
    let containers = [
        container("plain", 2, "{}", "16Mi"),
        container("limited", 2, limited, "64Mi"),
        container(
            "able",
            2,
            "{capabilities: {add: [SYS_TIME], drop: [CHOWN]}}",
            "1Gi",
        ),
        container("free", 0, "{seccompProfile: {type: Unconfined}}", "16Mi"),
        container(
            "ruled",
            2,
            "{seccompProfile: {type: Localhost, localhostProfile: folders.json}}",
            "16Mi",
        ),
        container("privileged", 0, "{privileged: true}", "16Mi"),
    ];
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: many}}
spec:
  securityContext: {{fsGroup: 7, supplementalGroups: [8]}}
  containers:{}
  volumes: [{{name: facts, emptyDir: {{}}}}]
"#,
        containers.concat()
    )
}

/// A profile that refuses to make folders, with an errno of its own.
const PROFILE: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_NATIVE"],
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}"#;

/// What a container must be seen with, whoever looks.
const EXPECTED: [(&str, &[&str]); 6] = [
    (
        "plain",
        &[
            "Seccomp:\t2",
            "NoNewPrivs:\t0",
            "CapBnd:\t00000000a80425fb",
            "CapInh:\t0000000000000000",
        ],
    ),
    (
        "limited",
        &[
            "Seccomp:\t2",
            "NoNewPrivs:\t1",
            "CapBnd:\t0000000000000000",
            "Uid:\t1000\t1000\t1000\t1000",
            "Gid:\t1001\t1001\t1001\t1001",
            "Groups:\t7 8 1001",
        ],
    ),
    (
        "able",
        &[
            "Seccomp:\t2",
            "CapEff:\t00000000aa0425fa",
            "CapPrm:\t00000000aa0425fa",
        ],
    ),
    ("free", &["Seccomp:\t0", "CapEff:\t00000000a80425fb"]),
    ("ruled", &["Seccomp:\t2", "CapEff:\t00000000a80425fb"]),
    (
        "privileged",
        &["Seccomp:\t0", "NoNewPrivs:\t0", "Uid:\t0\t0\t0\t0"],
    ),
];

#[test]
fn whatever_runs_in_a_container_is_confined_as_its_first_process() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        let profiles = cluster.dir.join("seccomp");
        fs::create_dir_all(&profiles).unwrap();
        fs::write(profiles.join("folders.json"), PROFILE).unwrap();
        cluster.apply(&pod());
        cluster.pod_ready("many");
        let run = |container: &str, script: &str| {
            cluster.try_ok(&["exec", "many", "-c", container, "--", "sh", "-c", script])
        };
        let mut wrong = Vec::new();
        for (container, expected) in EXPECTED {
            let of = |who: &str| run(container, &format!("cat /facts/{who}")).unwrap();
            let first = of("first");
            assert_has(&first, expected);
            assert_has(&first, &["Umask:\t0022", "COLOUR=blue", "\n/tmp\n"]);
            let exec = run(container, FACTS).unwrap();
            for (who, facts) in [("exec", exec), ("hook", of("hook")), ("probe", of("probe"))] {
                let other = first
                    .lines()
                    .zip(facts.lines())
                    .filter(|(first, later)| first != later);
                wrong.extend(
                    other.map(|(first, later)| format!("{container}, {who}: {first} became {later}")),
                );
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));

        // Without memory, the process that the containers are children of goes after all of them.
        let score = |text: String| text.trim().parse::<i32>().unwrap();
        let own = |(container, _): (&str, _)| score(run(container, "cat /proc/1/oom_score_adj").unwrap());
        let least = EXPECTED.map(own).into_iter().min();
        // While a probe enters, the beginning of its process is a copy of the shim, and its score the shim's own.
        let shim = processes(&["shim", "pod"]).into_iter().min().expect("a shim");
        eventually("the shim's score", || {
            let shim = score(fs::read_to_string(format!("/proc/{shim}/oom_score_adj")).unwrap());
            match Some(shim) < least {
                true => Ok(()),
                false => Err(format!("{least:?}, the shim: {shim}")),
            }
        });

        // Profiles bite: the default one, and one's own.
        assert_has(&run("plain", "unshare -U true").unwrap_err(), &["not permitted"]);
        assert_has(&run("ruled", "mkdir /tmp/x").unwrap_err(), &["No space left"]);
        run("free", "unshare -U true && mkdir /tmp/x").unwrap();
        run("privileged", "mkdir /tmp/x && mount -t tmpfs x /tmp/x").unwrap();
        cluster.ok(&["delete", "pod", "many", "--timeout=60s"]);
    });
}

/// System calls by number, as the machine that runs this has them, their arguments, and what they must fail with; 0: they
/// must not.
const CALLS: [(&str, [u32; 2], &str, i32); 8] = [
    ("keyctl", [250, 219], "0, -3, 0", 1),
    ("unshare, a namespace of users", [272, 97], "0x10000000", 1),
    (
        "clone, a namespace of users",
        [56, 220],
        "0x10000011, 0, 0, 0, 0",
        1,
    ),
    ("clone3, whose flags cannot be seen", [435, 435], "0, 0", 38),
    (
        "socket, to the host of a virtual machine",
        [41, 198],
        "40, 1, 0",
        1,
    ),
    ("io_uring_setup", [425, 425], "0, 0", 1),
    ("what there is not yet", [600, 600], "0", 38),
    ("socket, ordinary", [41, 198], "2, 1, 0", 0),
];

#[test]
fn a_container_calls_what_is_on_the_list() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        // With the machine's programs, one of which makes calls by their numbers.
        let folders = ["/usr", "/lib", "/lib64"].map(std::path::Path::new);
        let folders = folders.iter().filter(|folder| folder.is_dir()).enumerate();
        let (mounts, volumes): (Vec<String>, Vec<String>) = folders
            .map(|(at, folder)| {
                let folder = folder.display();
                (
                    format!("{{name: v{at}, mountPath: {folder}, readOnly: true}}"),
                    format!("{{name: v{at}, hostPath: {{path: {folder}}}}}"),
                )
            })
            .unzip();
        cluster.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: caller}}\nspec:\n  containers:\n  - {{name: main, image: \
             \"{BUSYBOX}\", command: [sh, -c, {IDLE:?}], volumeMounts: [{}]}}\n  volumes: [{}]\n",
            mounts.join(", "),
            volumes.join(", ")
        ));
        cluster.pod_ready("caller");
        let mine = usize::from(cfg!(target_arch = "aarch64"));
        let lines = CALLS.map(|(_, numbers, arguments, _)| {
            format!(
                "$r = syscall({}, {arguments}); print((($r < 0) ? $! + 0 : 0), qq(\\n));",
                numbers[mine]
            )
        });
        let script = lines.concat();
        let said = cluster.exec("caller", &["/usr/bin/perl", "-e", &script]).unwrap();
        let said: Vec<i32> = said.lines().map(|line| line.parse().unwrap()).collect();
        let expected = CALLS.map(|(.., errno)| errno);
        assert_eq!(said, expected, "{CALLS:?}");
        // Threads, pipes, signals and files of ordinary programs.
        let ordinary = "x=$(echo a | tr a b) && (sleep 0.1 & wait) && kill -0 $$ && chroot / true && linux64 true && \
                        echo $x > /tmp/f && mv /tmp/f /tmp/g && chmod 600 /tmp/g && cat /tmp/g";
        assert_eq!(
            cluster.exec("caller", &["sh", "-c", ordinary]).unwrap().trim(),
            "b"
        );
        cluster.ok(&["delete", "pod", "caller", "--timeout=60s"]);
    });
}

#[test]
fn what_cannot_be_given_is_named() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        let adding = |name: &str, capability: &str| {
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  containers:\n  - {{name: main, image: \
                 \"{BUSYBOX}\", command: [sh, -c, {IDLE:?}], securityContext: {{capabilities: {{add: [{capability}]}}}}}}\n"
            )
        };
        cluster.apply(&adding("unknown", "FLY"));
        cluster.event("unknown", "Failed", &["Error: unknown capability \"CAP_FLY\""]);
        let waiting = "{.status.containerStatuses[0].state.waiting.reason}";
        cluster.until("pod/unknown", waiting, "CreateContainerError");
        // Which ones a machine lacks is its own affair; each is either given or named.
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let held = status
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:\t"))
            .unwrap();
        let has_it = u64::from_str_radix(held, 16).unwrap() >> 24 & 1 == 1;
        cluster.apply(&adding("resourceful", "SYS_RESOURCE"));
        match has_it {
            true => cluster.pod_ready("resourceful"),
            false => {
                let why = "capability \"CAP_SYS_RESOURCE\" cannot be added: this node was started without it";
                cluster.event("resourceful", "Failed", &[why]);
            }
        }
        // Paths of the kernel's that are hidden, unless a pod with users of its own asks to see them.
        cluster.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: open}}\nspec:\n  hostUsers: false\n  containers:\n  \
             - {{name: masked, image: \"{BUSYBOX}\", command: [sh, -c, {IDLE:?}]}}\n  - {{name: main, image: \
             \"{BUSYBOX}\", command: [sh, -c, {IDLE:?}], securityContext: {{procMount: Unmasked}}}}\n"
        ));
        cluster.pod_ready("open");
        let mounts =
            |container: &str| cluster.ok(&["exec", "open", "-c", container, "--", "cat", "/proc/mounts"]);
        assert_has(&mounts("masked"), &[" /proc/keys ", " /proc/sys "]);
        let seen = mounts("main");
        assert!(
            !seen.contains(" /proc/keys ") && !seen.contains(" /proc/sys "),
            "{seen}"
        );

        // What the kernel does not enforce is refused.
        if !fs::read_to_string("/sys/module/apparmor/parameters/enabled")
            .is_ok_and(|text| text.starts_with('Y'))
        {
            cluster.apply(&format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: armoured}}\nspec:\n  securityContext: {{appArmorProfile: \
                 {{type: RuntimeDefault}}}}\n  containers: [{{name: main, image: \"{BUSYBOX}\", command: [\"true\"]}}]\n"
            ));
            cluster.until(
                "pod/armoured",
                "{.status.phase} {.status.reason}",
                "Failed AppArmor",
            );
            let words = "Pod was rejected: Cannot enforce AppArmor: AppArmor is not enabled on the host";
            assert_eq!(cluster.field("pod/armoured", "{.status.message}").unwrap(), words);
        }
    });
}

/// A profile that refuses one folder.
const LOCAL: &str = "profile coracle-test-tight flags=(attach_disconnected) { capability, file, network, signal, \
                     deny /tmp/closed/** w, }";

/// How older manifests name profiles; the container's name follows.
const NOTE: &str = "container.apparmor.security.beta.kubernetes.io";

/// Gives the kernel a profile, or takes it back with `--remove`.
fn parse(profile: &str, how: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("profile");
    fs::write(&file, profile).unwrap();
    let status = std::process::Command::new("/sbin/apparmor_parser")
        .args([how, "--skip-cache"])
        .arg(&file)
        .status();
    assert!(status.unwrap().success(), "{profile}");
}

#[test]
fn profiles_of_apparmor_hold() {
    let enforced =
        fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'));
    if !enforced || !fs::exists("/sbin/apparmor_parser").unwrap() {
        eprintln!(
            "SKIPPED profiles_of_apparmor_hold: the kernel has no AppArmor, or apparmor_parser is not installed"
        );
        return;
    }
    sandboxed(|dir| {
        let mut cluster = Cluster::start(dir, &[]);
        cluster.busybox();
        cluster.ready();
        let container = |name: &str, security: &str| {
            format!(
                "\n  - {{name: {name}, image: \"{BUSYBOX}\", command: [sh, -c, {IDLE:?}], securityContext: {security}}}"
            )
        };
        let profile = |kind: &str| format!("{{appArmorProfile: {{type: {kind}}}}}");
        let containers = [
            container("silent", "{}"),
            container("default", &profile("RuntimeDefault")),
            container("free", &profile("Unconfined")),
            container("privileged", "{privileged: true}"),
            container("able", "{capabilities: {add: [SYS_ADMIN]}}"),
            container(
                "tight",
                &profile("Localhost, localhostProfile: coracle-test-tight"),
            ),
            container("noted", "{}"),
        ];
        parse(LOCAL, "--replace");
        cluster.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: many\n  annotations: {{{NOTE}/noted: \
             localhost/coracle-test-tight}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:{}\n",
            containers.concat()
        ));
        cluster.pod_ready("many");
        let run = |container: &str, script: &str| {
            cluster.try_ok(&["exec", "many", "-c", container, "--", "sh", "-c", script])
        };
        let own = format!("coracle-{} (enforce)\n", instance_ids(dir)[0]);
        for (container, expected) in [
            ("silent", own.as_str()),
            ("default", &own),
            ("free", "unconfined\n"),
            ("privileged", "unconfined\n"),
            ("able", &own),
            ("tight", "coracle-test-tight (enforce)\n"),
            ("noted", "coracle-test-tight (enforce)\n"),
        ] {
            // Of its first process, and of one that is run there.
            for who in ["1", "self"] {
                let found = run(container, &format!("cat /proc/{who}/attr/current")).unwrap();
                assert_eq!(found, expected, "{container}, {who}");
            }
        }
        run(
            "default",
            "echo x > /tmp/file && kill -0 1 && mkdir /tmp/closed && echo x > /tmp/closed/file",
        )
        .unwrap();
        // What its capability permits, the profile refuses.
        let mounted = run("able", "mount -t tmpfs none /tmp").unwrap_err();
        assert_has(&mounted, &["ermission denied"]);
        let closed = run("tight", "mkdir /tmp/closed && echo x > /tmp/closed/file").unwrap_err();
        assert_has(&closed, &["Permission denied"]);

        // One that nobody has loaded is named.
        let foreign = container(
            "main",
            &profile("Localhost, localhostProfile: coracle-test-unknown"),
        );
        cluster.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: other}}\nspec:\n  containers:{foreign}\n"
        ));
        let text = "failed to generate apparmor spec opts: apparmor profile not found coracle-test-unknown";
        cluster.event("other", "Failed", &[text]);
        cluster.ok(&["delete", "pods", "--all", "--timeout=60s"]);
        parse(LOCAL, "--remove");
        cluster.stop();
        cluster.down().unwrap();
        let left = fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap();
        assert!(!left.contains("coracle-"), "{left}");
    });
}
