//! Rules for security contexts, of pods and of containers.

use std::collections::BTreeSet;

use serde_json::Value;

use super::paths;
use crate::status::FieldError;
use crate::value::Field;

/// The longest path that the kernel takes, bytes.
const PATH_MAX: usize = 4095;

/// Rules for a pod's security context.
pub fn pod(spec: &Field, errors: &mut Vec<FieldError>) {
    let context = spec.get("securityContext");
    for key in ["fsGroup", "runAsUser", "runAsGroup"] {
        user_id(&context.get(key), errors);
    }
    for group in context.items("supplementalGroups") {
        user_id(&group, errors);
    }
    let shared = spec.get("shareProcessNamespace");
    if spec.get("hostPID").flag() && shared.flag() {
        errors.push(FieldError::invalid(
            context.path_of("shareProcessNamespace"),
            true,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        ));
    }
    sysctls(spec, &context, errors);
    context
        .get("fsGroupChangePolicy")
        .one_of_if_set(&["Always", "OnRootMismatch"], errors);
    seccomp(&context.get("seccompProfile"), errors);
    app_armor(&context.get("appArmorProfile"), errors);
    context
        .get("supplementalGroupsPolicy")
        .one_of_if_set(&["Merge", "Strict"], errors);
    context
        .get("seLinuxChangePolicy")
        .one_of_if_set(&["MountOption", "Recursive"], errors);
}

/// Rules for a container's security context; `host_users` says that the pod has no user namespace of its own.
pub fn container(context: &Field, host_users: bool, errors: &mut Vec<FieldError>) {
    if !context.is_set() {
        return;
    }
    user_id(&context.get("runAsUser"), errors);
    user_id(&context.get("runAsGroup"), errors);
    let mount = context.get("procMount");
    mount.one_of_if_set(&["Default", "Unmasked"], errors);
    if host_users && mount.text() == "Unmasked" {
        errors.push(mount.invalid("`hostUsers` must be false to use `Unmasked`"));
    }
    seccomp(&context.get("seccompProfile"), errors);
    let escalation = context.get("allowPrivilegeEscalation");
    if escalation.value == &Value::Bool(false) {
        let no = |why: &str| FieldError::invalid(&context.path, context.value.clone(), why);
        if context.get("privileged").flag() {
            errors.push(no(
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            ));
        }
        let added = context.items("capabilities.add");
        if added.iter().any(|c| c.text() == "CAP_SYS_ADMIN") {
            errors.push(no(
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            ));
        }
    }
    app_armor(&context.get("appArmorProfile"), errors);
}

/// Rules for a user or group number.
fn user_id(field: &Field, errors: &mut Vec<FieldError>) {
    let max = i64::from(i32::MAX);
    if field.int().is_some_and(|id| !(0..=max).contains(&id)) {
        errors.push(field.invalid(format!("must be between 0 and {max}, inclusive")));
    }
}

fn sysctls(spec: &Field, context: &Field, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for sysctl in context.items("sysctls") {
        let name = sysctl.get("name");
        if name.is_blank() {
            errors.push(name.required(""));
        } else if !is_sysctl(name.text()) {
            errors.push(name.invalid(
                "must have at most 253 characters and match regex \
                 ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
            ));
        } else if seen.contains(name.text()) {
            errors.push(name.duplicate());
        }
        let shared = match name.text().replace('/', ".") {
            dotted if dotted.starts_with("net.") => "hostNetwork",
            dotted
                if ["kernel.shm", "kernel.msg", "fs.mqueue."]
                    .iter()
                    .any(|p| dotted.starts_with(p)) =>
            {
                "hostIPC"
            }
            dotted if dotted == "kernel.sem" => "hostIPC",
            _ => "",
        };
        if !shared.is_empty() && spec.get(shared).flag() {
            errors.push(name.invalid(format!("may not be specified when '{shared}' is true")));
        }
        seen.insert(name.text());
    }
}

fn is_sysctl(name: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let inside = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(b);
    let segment = |s: &str| {
        let bytes = s.as_bytes();
        edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(inside)
    };
    name.len() <= 253 && name.split(['.', '/']).all(segment)
}

const PROFILES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];

fn seccomp(profile: &Field, errors: &mut Vec<FieldError>) {
    if !profile.is_set() {
        return;
    }
    let (kind, local) = (profile.get("type"), profile.get("localhostProfile"));
    if kind.is_blank() {
        errors.push(kind.required("type is required when seccompProfile is set"));
    } else {
        kind.one_of(&PROFILES, errors);
    }
    if kind.text() != "Localhost" {
        if local.is_set() {
            let why = "can only be set when seccomp type is Localhost";
            errors.push(FieldError::invalid(&local.path, profile.value.clone(), why));
        }
    } else if local.is_set() {
        paths::descending_path(&local, errors);
    } else {
        errors.push(local.required("must be set when seccomp type is Localhost"));
    }
}

fn app_armor(profile: &Field, errors: &mut Vec<FieldError>) {
    if !profile.is_set() {
        return;
    }
    let (kind, local) = (profile.get("type"), profile.get("localhostProfile"));
    match kind.text() {
        "Localhost" => {
            let text = local.text();
            if text.trim() != text {
                errors.push(local.invalid("must not be padded with whitespace"));
            } else if text.is_empty() {
                errors.push(local.required("must be set when AppArmor type is Localhost"));
            }
            if text.len() > PATH_MAX {
                errors.push(FieldError::too_long(&local.path, PATH_MAX));
            }
        }
        "RuntimeDefault" | "Unconfined" if local.is_set() => {
            errors.push(local.invalid("can only be set when AppArmor type is Localhost"));
        }
        "RuntimeDefault" | "Unconfined" => {}
        "" => errors.push(kind.required("type is required when appArmorProfile is set")),
        _ => errors.push(kind.not_supported(&PROFILES)),
    }
}
