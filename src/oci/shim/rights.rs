//! What a container may do: its capabilities, and the AppArmor profile it is under.

use std::collections::BTreeSet;

use crate::apparmor;
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

/// Refuses an AppArmor profile that nobody has loaded.
///
/// # Errors
/// In containerd's words.
pub(super) fn check_apparmor(security: &Security) -> Result<(), String> {
    let name = &security.apparmor;
    // Where it cannot be asked, the kernel says it when the container starts.
    if name.is_empty() || apparmor::is_loaded(name) != Some(false) {
        return Ok(());
    }
    Err(format!(
        "failed to generate apparmor spec opts: apparmor profile not found {name}"
    ))
}

fn named(set: BTreeSet<String>) -> BTreeSet<String> {
    set.into_iter().map(|name| format!("CAP_{name}")).collect()
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
}
