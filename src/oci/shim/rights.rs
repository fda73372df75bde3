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

/// A capability as the tables here have it.
fn plain(text: &str) -> String {
    text.trim_start_matches("CAP_").to_uppercase()
}

/// Whether a capability is among those that can be `had`; `None`: there is no such capability.
fn is_had(name: &str, had: u64) -> Option<bool> {
    let number = ALL_CAPABILITIES.iter().position(|known| *known == name)?;
    Some(had >> number & 1 == 1)
}

/// Refuses what a container asks for by its name and cannot be given. A privileged one asks for nothing by name.
///
/// # Errors
/// The capability that there is none of, or that this machine has not itself.
pub(super) fn check_added(security: &Security, had: u64) -> Result<(), String> {
    let added = security.add_capabilities.iter().map(|text| plain(text));
    for name in added.filter(|name| name != "ALL" && !security.privileged) {
        match is_had(&name, had) {
            Some(true) => {}
            None => return Err(format!("unknown capability \"CAP_{name}\"")),
            Some(false) => {
                return Err(format!(
                    "capability \"CAP_{name}\" cannot be added: this node was started without it and so has none to \
                     give; take it from the container's securityContext.capabilities.add, or give it to the node"
                ));
            }
        }
    }
    Ok(())
}

/// A container's capabilities, of those that can be `had`: a bit for each, by its number.
pub(super) fn capabilities(security: &Security, had: u64) -> BTreeSet<String> {
    let all = |list: &[String]| list.iter().any(|c| plain(c) == "ALL");
    // What this machine has to give: as with containerd, who may not have all of them itself.
    let had = |names: &[&str]| -> BTreeSet<String> {
        let had = names.iter().filter(|name| is_had(name, had) == Some(true));
        had.map(|name| (*name).to_owned()).collect()
    };
    if security.privileged {
        return named(had(&ALL_CAPABILITIES));
    }
    let mut set = if all(&security.add_capabilities) {
        had(&ALL_CAPABILITIES)
    } else if all(&security.drop_capabilities) {
        BTreeSet::new()
    } else {
        had(&CAPABILITIES)
    };
    for dropped in &security.drop_capabilities {
        set.remove(&plain(dropped));
    }
    set.extend(
        security
            .add_capabilities
            .iter()
            .map(|text| plain(text))
            .filter(|c| c != "ALL"),
    );
    named(set)
}

fn named(set: BTreeSet<String>) -> BTreeSet<String> {
    set.into_iter().map(|name| format!("CAP_{name}")).collect()
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
    fn what_cannot_be_added_is_named() {
        let adding = |name: &str, privileged| Security {
            privileged,
            add_capabilities: vec![name.to_owned()],
            ..Security::default()
        };
        let (all, without_resource) = (u64::MAX, !(1 << 24));
        for name in ["SYS_RESOURCE", "CAP_SYS_RESOURCE", "sys_resource"] {
            assert_eq!(check_added(&adding(name, false), all), Ok(()));
            let why = check_added(&adding(name, false), without_resource).unwrap_err();
            assert!(
                why.starts_with("capability \"CAP_SYS_RESOURCE\" cannot be added"),
                "{why}"
            );
        }
        assert_eq!(
            check_added(&adding("FLY", false), all),
            Err("unknown capability \"CAP_FLY\"".to_owned())
        );
        // All that there are, whatever that is.
        assert_eq!(check_added(&adding("ALL", false), without_resource), Ok(()));
        assert_eq!(
            check_added(&adding("SYS_RESOURCE", true), without_resource),
            Ok(())
        );
        let given = capabilities(&adding("SYS_RESOURCE", true), without_resource);
        assert!(!given.contains("CAP_SYS_RESOURCE"));
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
