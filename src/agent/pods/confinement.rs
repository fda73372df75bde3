//! Who a container runs as and what it may do, from the security contexts of
//! pod and container. Pure.

use std::path::Path;

use k8s_openapi::api::core::v1::{Container, Pod};
use oci::{Image, Security, User};

use super::{apparmor, spec};

/// Who a container runs as.
///
/// # Errors
/// When it would run as root against its policy.
pub fn user(pod: &Pod, container: &Container, image: &Image) -> Result<User, String> {
    let (own, whole) = (
        container.security_context.as_ref(),
        spec::spec(pod).security_context.as_ref(),
    );
    let number = |n: Option<i64>| n.and_then(|n| u32::try_from(n).ok());
    let uid = own
        .and_then(|s| s.run_as_user)
        .or(whole.and_then(|s| s.run_as_user));
    let gid = own
        .and_then(|s| s.run_as_group)
        .or(whole.and_then(|s| s.run_as_group));
    let must = own
        .and_then(|s| s.run_as_non_root)
        .or(whole.and_then(|s| s.run_as_non_root))
        .unwrap_or(false);
    let wasm = image.kind.is_wasm();
    if must && !wasm {
        check_not_root(pod, container, uid, &image.config.user)?;
    }
    let groups = whole
        .and_then(|s| s.supplemental_groups.as_deref())
        .unwrap_or_default()
        .iter()
        .copied();
    let groups = groups
        .chain(whole.and_then(|s| s.fs_group))
        .filter_map(|n| number(Some(n)));
    Ok(User {
        uid: number(uid),
        gid: number(gid),
        groups: groups.collect(),
        only_given_groups: whole.and_then(|s| s.supplemental_groups_policy.as_deref()) == Some("Strict"),
        must_not_be_root: must,
    })
}

/// The kubelet's `verifyRunAsNonRoot`.
fn check_not_root(
    pod: &Pod,
    container: &Container,
    uid: Option<i64>,
    image_user: &str,
) -> Result<(), String> {
    let who = format!("(pod: {:?}, container: {})", spec::full_name(pod), container.name);
    match uid {
        Some(0) => return Err(format!("container's runAsUser breaks non-root policy {who}")),
        Some(_) => return Ok(()),
        None => {}
    }
    let name = image_user.split(':').next().unwrap_or_default();
    match (name, name.parse::<u32>()) {
        ("", _) | (_, Ok(0)) => Err(format!(
            "container has runAsNonRoot and image will run as root {who}"
        )),
        (_, Ok(_)) => Ok(()),
        (name, Err(_)) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {who}"
        )),
    }
}

/// What a container may do; `profiles` is the folder of seccomp profiles that pods name.
pub fn security(pod: &Pod, container: &Container, profiles: &Path) -> Security {
    let (own, whole) = (
        container.security_context.as_ref(),
        spec::spec(pod).security_context.as_ref(),
    );
    let capabilities = own.and_then(|s| s.capabilities.clone()).unwrap_or_default();
    let profile = own
        .and_then(|s| s.seccomp_profile.as_ref())
        .or(whole.and_then(|s| s.seccomp_profile.as_ref()));
    let seccomp = match profile {
        Some(p) if p.type_ == "Localhost" => {
            let name = p.localhost_profile.as_deref().unwrap_or_default();
            profiles.join(name).display().to_string()
        }
        Some(p) => p.type_.clone(),
        None => "RuntimeDefault".to_owned(),
    };
    let named = apparmor::wanted(pod, container);
    let privileged = own.and_then(|s| s.privileged).unwrap_or(false);
    Security {
        privileged,
        add_capabilities: capabilities.add.unwrap_or_default(),
        drop_capabilities: capabilities.drop.unwrap_or_default(),
        read_only_root: own.and_then(|s| s.read_only_root_filesystem).unwrap_or(false),
        no_new_privileges: own.and_then(|s| s.allow_privilege_escalation) == Some(false),
        seccomp,
        apparmor: named
            .as_ref()
            .and_then(|profile| profile.localhost_profile.clone())
            .unwrap_or_default(),
        apparmor_default: !privileged && named.as_ref().is_none_or(apparmor::is_default),
        proc_mount: own.and_then(|s| s.proc_mount.clone()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(context: Value) -> Pod {
        serde_json::from_value(
            json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": {
            "securityContext": {"runAsNonRoot": true, "fsGroup": 7, "supplementalGroups": [8]},
            "containers": [{"name": "c", "securityContext": context}]}}),
        )
        .unwrap()
    }

    fn made(context: Value, image_user: &str) -> Result<User, String> {
        let pod = pod(context);
        let image = Image {
            references: vec![],
            digest: String::new(),
            id: String::new(),
            size_bytes: 0,
            config: oci::ImageConfig {
                user: image_user.to_owned(),
                ..Default::default()
            },
            kind: oci::ImageKind::Oci { layers: vec![] },
            vouchers: vec![],
            pulled_by: Default::default(),
        };
        user(&pod, &spec::spec(&pod).containers[0], &image)
    }

    #[test]
    fn users_and_the_non_root_policy() {
        let user = made(json!({"runAsUser": 5}), "").unwrap();
        assert_eq!((user.uid, user.groups), (Some(5), vec![8, 7]));
        assert!(made(json!({}), "1000:1000").is_ok());
        let who = "(pod: \"p_ns(u)\", container: c)";
        let error = |context, user| made(context, user).unwrap_err();
        assert_eq!(
            error(json!({"runAsUser": 0}), ""),
            format!("container's runAsUser breaks non-root policy {who}")
        );
        let text = format!("container has runAsNonRoot and image will run as root {who}");
        assert_eq!(error(json!({}), ""), text);
        assert!(error(json!({}), "nobody").contains("non-numeric user (nobody)"));
    }

    #[test]
    fn profiles_are_files_of_the_node() {
        let local = json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "audit.json"},
            "appArmorProfile": {"type": "Localhost", "localhostProfile": "tight"}});
        let pod = pod(local);
        let made = security(&pod, &spec::spec(&pod).containers[0], Path::new("/node/seccomp"));
        assert_eq!(made.seccomp, "/node/seccomp/audit.json");
        assert_eq!((made.apparmor.as_str(), made.apparmor_default), ("tight", false));
    }
}
