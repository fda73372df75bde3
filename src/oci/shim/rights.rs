//! What a container may do: its capabilities, and the system calls that it may make.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::spec::Security;

/// What containerd gives a container that asks for nothing.
const CAPABILITIES: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// Every capability of Linux 6, by its number.
const ALL_CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// System calls that the default profile refuses, by the capability that
/// allows them again; the empty one never does. These are the calls that
/// docker's documentation lists as blocked.
const REFUSED: [(&str, &[&str]); 10] = [
    (
        "",
        &[
            "add_key",
            "create_module",
            "get_kernel_syms",
            "io_uring_enter",
            "io_uring_register",
            "io_uring_setup",
            "keyctl",
            "nfsservctl",
            "query_module",
            "request_key",
            "sysfs",
            "_sysctl",
            "uselib",
            "userfaultfd",
            "ustat",
            "vm86",
            "vm86old",
        ],
    ),
    (
        "SYS_ADMIN",
        &[
            "bpf",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setns",
            "swapoff",
            "swapon",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    ("SYS_MODULE", &["delete_module", "finit_module", "init_module"]),
    ("SYS_BOOT", &["kexec_file_load", "kexec_load", "reboot"]),
    (
        "SYS_TIME",
        &["clock_adjtime", "clock_settime", "settimeofday", "stime"],
    ),
    (
        "SYS_PTRACE",
        &[
            "kcmp",
            "pidfd_getfd",
            "process_madvise",
            "process_vm_readv",
            "process_vm_writev",
        ],
    ),
    ("SYS_RAWIO", &["ioperm", "iopl"]),
    ("SYS_PACCT", &["acct"]),
    (
        "SYS_NICE",
        &["get_mempolicy", "mbind", "move_pages", "set_mempolicy"],
    ),
    ("DAC_READ_SEARCH", &["open_by_handle_at"]),
];

/// The seccomp profile of a container with these capabilities, as the runtime specification writes it.
///
/// # Errors
/// A profile that is not there or cannot be read, in words.
pub(super) fn seccomp(security: &Security, capabilities: &BTreeSet<String>) -> Result<Option<Value>, String> {
    match security.seccomp.as_str() {
        _ if security.privileged => Ok(None),
        "" | "Unconfined" => Ok(None),
        "RuntimeDefault" => Ok(Some(default_profile(capabilities))),
        path => profile_of(path).map(Some),
    }
}

/// A container's capabilities, of those that can be `had`: a bit for each, by its number.
pub(super) fn capabilities(security: &Security, had: u64) -> BTreeSet<String> {
    let name = |text: &String| text.trim_start_matches("CAP_").to_uppercase();
    let all = |list: &[String]| list.iter().any(|c| name(c) == "ALL");
    let mut set: BTreeSet<String> = if security.privileged || all(&security.add_capabilities) {
        // All that this machine has to give: as with containerd, who may not have all of them itself.
        let numbered = (0_u32..).zip(ALL_CAPABILITIES);
        let had = numbered.filter(|(number, _)| had >> number & 1 == 1);
        had.map(|(_, name)| name.to_owned()).collect()
    } else if all(&security.drop_capabilities) {
        BTreeSet::new()
    } else {
        CAPABILITIES.iter().map(|c| (*c).to_owned()).collect()
    };
    if !security.privileged {
        for dropped in &security.drop_capabilities {
            set.remove(&name(dropped));
        }
    }
    set.extend(security.add_capabilities.iter().map(name).filter(|c| c != "ALL"));
    set.into_iter().map(|c| format!("CAP_{c}")).collect()
}

/// A seccomp profile from a file, as the runtime specification writes it.
fn profile_of(path: &str) -> Result<Value, String> {
    let text =
        std::fs::read(path).map_err(|error| format!("cannot load seccomp profile {path:?}: {error}"))?;
    serde_json::from_slice(&text).map_err(|error| format!("cannot load seccomp profile {path:?}: {error}"))
}

fn default_profile(capabilities: &BTreeSet<String>) -> Value {
    let refused: Vec<&str> = REFUSED
        .iter()
        .filter(|(capability, _)| !capabilities.contains(&format!("CAP_{capability}")))
        .flat_map(|(_, calls)| calls.iter().copied())
        .collect();
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_NATIVE"],
        "syscalls": [{"names": refused, "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(add: &[&str], drop: &[&str]) -> BTreeSet<String> {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        let security = Security {
            add_capabilities: list(add),
            drop_capabilities: list(drop),
            ..Security::default()
        };
        capabilities(&security, u64::MAX)
    }

    #[test]
    fn capabilities_follow_kubernetes_rules() {
        assert_eq!(of(&[], &[]).len(), CAPABILITIES.len());
        let one: Vec<String> = of(&["NET_BIND_SERVICE"], &["ALL"]).into_iter().collect();
        assert_eq!(one, ["CAP_NET_BIND_SERVICE"]);
        assert!(of(&["SYS_TIME"], &[]).contains("CAP_SYS_TIME"));
        assert!(!of(&[], &["CHOWN"]).contains("CAP_CHOWN"));
        assert_eq!(of(&["ALL"], &[]).len(), ALL_CAPABILITIES.len());
    }

    #[test]
    fn nobody_gets_what_the_machine_has_not() {
        let privileged = Security {
            privileged: true,
            ..Security::default()
        };
        let given: Vec<String> = capabilities(&privileged, 1 | 1 << 21).into_iter().collect();
        assert_eq!(given, ["CAP_CHOWN", "CAP_SYS_ADMIN"]);
    }

    #[test]
    fn the_default_profile_gives_way_to_capabilities() {
        let refused = |capabilities: &BTreeSet<String>| {
            let security = Security {
                seccomp: "RuntimeDefault".into(),
                ..Security::default()
            };
            let profile = seccomp(&security, capabilities).unwrap().unwrap();
            let names = profile["syscalls"][0]["names"].as_array().cloned();
            names.unwrap_or_default().contains(&json!("mount"))
        };
        assert!(refused(&of(&[], &[])));
        assert!(!refused(&of(&["SYS_ADMIN"], &[])));
    }

    #[test]
    fn privileged_containers_have_no_profile() {
        let security = Security {
            privileged: true,
            seccomp: "RuntimeDefault".into(),
            ..Security::default()
        };
        assert_eq!(seccomp(&security, &of(&["ALL"], &[])), Ok(None));
    }
}
