//! From a container's spec to what its runtime is told. Pure but for the
//! sub-paths that [`crate::volumes::mounts`] makes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use oci::{Image, LogSpec, Resources, Security, User};

use crate::env::expand_all;
use crate::pods::spec;
use crate::runtime::{self, Launch};
use crate::volumes::MountPoint;

/// Where a `wasi:http` program listens if its container names no port.
const HTTP_PORT_DEFAULT: u16 = 8080;
/// `"true"`: a `wasi:http` program answers many requests with one instance.
pub const REUSE_ANNOTATION: &str = "coracle.dev/wasm-reuse";

/// Name of the termination message file in its folder.
pub const END_FILE: &str = "message";

/// What goes into a [`Launch`] besides the specs.
pub struct Parts<'a> {
    /// 64 hex digits.
    pub id: String,
    /// How often it was started before.
    pub attempt: u32,
    /// Its image.
    pub image: Image,
    /// Its environment without the image's.
    pub env: Vec<(String, String)>,
    /// Its volumes.
    pub mounts: Vec<MountPoint>,
    /// Folder of hosts, hostname and resolv.conf.
    pub etc: &'a Path,
    /// The pod's host name.
    pub hostname: String,
    /// Its log.
    pub log: LogSpec,
    /// Its termination message file.
    pub end: PathBuf,
}

/// Puts a launch together.
///
/// # Errors
/// The text behind `CreateContainerConfigError`.
pub fn launch(pod: &Pod, container: &Container, parts: Parts<'_>) -> Result<Launch, String> {
    let text = |list: &Option<Vec<String>>| expand_all(list.as_deref().unwrap_or_default(), &parts.env);
    let mut args = runtime::arguments(&parts.image, &text(&container.command), &text(&container.args));
    let user = user(pod, container, &parts.image)?;
    let wasm = parts.image.kind.is_wasm();
    let mut env = runtime::with_image_env(&parts.image, &parts.env);
    let mut mounts = parts.mounts;
    if wasm {
        // A Wasm artifact names no program: without this the first argument would be taken for it.
        if names_no_program(container, &parts.image) {
            args.insert(0, container.name.clone());
        }
        // What the shim does for OCI containers.
        if !env.iter().any(|(name, _)| name == "HOSTNAME") {
            env.push(("HOSTNAME".to_owned(), parts.hostname));
        }
    } else {
        add_etc(&mut mounts, parts.etc, spec::host_network(pod));
    }
    mounts.push(MountPoint {
        host: parts.end,
        path: end_path(container).to_owned(),
        read_only: false,
        propagation: String::new(),
    });
    Ok(Launch {
        title: format!("{}/{}/{}", spec::namespace(pod), spec::name(pod), container.name),
        pod_uid: spec::uid(pod).to_owned(),
        id: parts.id,
        name: container.name.clone(),
        attempt: parts.attempt,
        args,
        env,
        working_dir: container.working_dir.clone().unwrap_or_default(),
        user,
        mounts,
        resources: resources(container),
        security: security(pod, container),
        tty: container.tty.unwrap_or(false),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        log: parts.log,
        port: port(container),
        reuse: pod
            .metadata
            .annotations
            .as_ref()
            .and_then(|a| a.get(REUSE_ANNOTATION))
            .is_some_and(|v| v == "true"),
        image: parts.image,
    })
}

/// Whether neither the pod nor the image says what the first argument, the program's own name, is.
fn names_no_program(container: &Container, image: &Image) -> bool {
    let config = &image.config;
    let from_image = !config.entrypoint.is_empty() || (container.args.is_none() && !config.cmd.is_empty());
    container.command.as_ref().is_none_or(Vec::is_empty) && !from_image
}

/// `terminationMessagePath`.
fn end_path(container: &Container) -> &str {
    let path = container
        .termination_message_path
        .as_deref()
        .filter(|p| !p.is_empty());
    path.unwrap_or("/dev/termination-log")
}

fn port(container: &Container) -> u16 {
    let first = container.ports.iter().flatten().next();
    first
        .and_then(|p| u16::try_from(p.container_port).ok())
        .filter(|p| *p > 0)
        .unwrap_or(HTTP_PORT_DEFAULT)
}

/// The name files, unless the pod mounts something of its own there.
fn add_etc(mounts: &mut Vec<MountPoint>, etc: &Path, host_network: bool) {
    for name in ["hosts", "hostname", "resolv.conf"] {
        let path = format!("/etc/{name}");
        let taken = mounts.iter().any(|m| m.path == path);
        // On the host's network the name is the host's too.
        let unwanted = host_network && name == "hostname";
        if !(taken || unwanted) {
            let host = etc.join(name);
            mounts.push(MountPoint {
                host,
                path,
                read_only: false,
                propagation: String::new(),
            });
        }
    }
}

fn amount(list: Option<&BTreeMap<String, Text>>, name: &str) -> Option<Quantity> {
    list?
        .get(name)?
        .0
        .parse::<Quantity>()
        .ok()
        .filter(|q| !q.is_zero())
}

fn resources(container: &Container) -> Resources {
    let resources = container.resources.as_ref();
    let limits = resources.and_then(|r| r.limits.as_ref());
    let requests = resources.and_then(|r| r.requests.as_ref());
    let positive = |n: i64| u64::try_from(n).ok();
    let millis = |list, name| amount(list, name).and_then(|q| positive(q.milli()));
    let bytes = |list, name| amount(list, name).and_then(|q| positive(q.value()));
    Resources {
        cpu_request_millis: millis(requests, "cpu").or_else(|| millis(limits, "cpu")),
        cpu_limit_millis: millis(limits, "cpu"),
        memory_request_bytes: bytes(requests, "memory").or_else(|| bytes(limits, "memory")),
        memory_limit_bytes: bytes(limits, "memory"),
        pids_limit: None,
    }
}

/// The sum over the containers that run together: a limit only where each has one.
pub fn pod_resources(pod: &Pod) -> Resources {
    let running = spec::containers(pod).filter(|(role, _)| *role != spec::Role::Init);
    let all: Vec<Resources> = running.map(|(_, c)| resources(c)).collect();
    let sum = |of: fn(&Resources) -> Option<u64>| all.iter().filter_map(of).reduce(u64::saturating_add);
    let limit = |of: fn(&Resources) -> Option<u64>| {
        all.iter()
            .map(of)
            .try_fold(0, |a: u64, b| Some(a.saturating_add(b?)))
    };
    let has_init = spec::init_containers(pod).any(|(role, _)| role == spec::Role::Init);
    // An init container may need more than the others together; it has its own limits.
    let limit = |of| if has_init { None } else { limit(of) };
    Resources {
        cpu_request_millis: sum(|r| r.cpu_request_millis),
        memory_request_bytes: sum(|r| r.memory_request_bytes),
        cpu_limit_millis: limit(|r| r.cpu_limit_millis),
        memory_limit_bytes: limit(|r| r.memory_limit_bytes),
        pids_limit: None,
    }
}

fn user(pod: &Pod, container: &Container, image: &Image) -> Result<User, String> {
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

fn security(pod: &Pod, container: &Container) -> Security {
    let (own, whole) = (
        container.security_context.as_ref(),
        spec::spec(pod).security_context.as_ref(),
    );
    let capabilities = own.and_then(|s| s.capabilities.clone()).unwrap_or_default();
    let profile = own
        .and_then(|s| s.seccomp_profile.as_ref())
        .or(whole.and_then(|s| s.seccomp_profile.as_ref()));
    let seccomp = match profile {
        Some(p) if p.type_ == "Localhost" => p.localhost_profile.clone().unwrap_or_default(),
        Some(p) => p.type_.clone(),
        None => "RuntimeDefault".to_owned(),
    };
    Security {
        privileged: own.and_then(|s| s.privileged).unwrap_or(false),
        add_capabilities: capabilities.add.unwrap_or_default(),
        drop_capabilities: capabilities.drop.unwrap_or_default(),
        read_only_root: own.and_then(|s| s.read_only_root_filesystem).unwrap_or(false),
        no_new_privileges: own.and_then(|s| s.allow_privilege_escalation) == Some(false),
        seccomp,
        proc_mount: own.and_then(|s| s.proc_mount.clone()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use oci::{ImageConfig, ImageKind};
    use serde_json::json;

    use super::*;

    fn image(user: &str) -> Image {
        let config = ImageConfig {
            user: user.to_owned(),
            entrypoint: vec!["/app".to_owned()],
            ..Default::default()
        };
        let kind = ImageKind::Oci { layers: vec![] };
        Image {
            references: vec![],
            digest: String::new(),
            id: String::new(),
            size_bytes: 0,
            config,
            kind,
        }
    }

    fn made(spec: serde_json::Value, image: Image) -> Result<Launch, String> {
        let pod: Pod = serde_json::from_value(
            json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": spec}),
        )
        .unwrap();
        let container = spec::main_containers(&pod).next().unwrap();
        let env = vec![("A".to_owned(), "1".to_owned())];
        let (id, attempt, mounts) = ("ab".to_owned(), 2, vec![]);
        let hostname = "p".to_owned();
        let (etc, log, end) = (
            Path::new("/etc-of-pod"),
            LogSpec {
                path: "/log".into(),
                bytes_max: 1,
                files_max: 2,
            },
            PathBuf::from("/end"),
        );
        launch(
            &pod,
            container,
            Parts {
                id,
                attempt,
                image,
                env,
                mounts,
                etc,
                hostname,
                log,
                end,
            },
        )
    }

    #[test]
    fn a_plain_container() {
        let spec = json!({"containers": [{"name": "c", "args": ["$(A)"], "ports": [{"containerPort": 81}],
            "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}, "requests": {"cpu": "1"}}}]});
        let launch = made(spec, image("")).unwrap();
        assert_eq!(launch.args, ["/app", "1"]);
        assert_eq!((launch.port, launch.title.as_str()), (81, "ns/p/c"));
        assert_eq!(launch.resources.cpu_request_millis, Some(1000));
        assert_eq!(launch.resources.cpu_limit_millis, Some(1500));
        assert_eq!(launch.resources.memory_limit_bytes, Some(64 << 20));
        let paths: Vec<&str> = launch.mounts.iter().map(|m| m.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "/etc/hosts",
                "/etc/hostname",
                "/etc/resolv.conf",
                "/dev/termination-log"
            ]
        );
        assert_eq!(launch.security.seccomp, "RuntimeDefault");
    }

    #[test]
    fn a_wasm_program_learns_its_names() {
        let made = |entrypoint: Vec<String>| {
            let kind = ImageKind::Wasm {
                module: PathBuf::new(),
                digest: String::new(),
            };
            let mut image = Image { kind, ..image("") };
            image.config.entrypoint = entrypoint;
            made(json!({"containers": [{"name": "c", "args": ["x"]}]}), image).unwrap()
        };
        let launch = made(vec![]);
        assert_eq!(launch.args, ["c", "x"]);
        assert!(launch.env.contains(&("HOSTNAME".to_owned(), "p".to_owned())));
        assert_eq!(made(vec!["/app.wasm".to_owned()]).args, ["/app.wasm", "x"]);
    }

    #[test]
    fn users_and_the_non_root_policy() {
        let spec = |context: serde_json::Value| {
            json!({"securityContext": {"runAsNonRoot": true, "fsGroup": 7, "supplementalGroups": [8]},
                   "containers": [{"name": "c", "securityContext": context}]})
        };
        let user = made(spec(json!({"runAsUser": 5})), image("")).unwrap().user;
        assert_eq!((user.uid, user.groups), (Some(5), vec![8, 7]));
        assert!(made(spec(json!({})), image("1000:1000")).is_ok());
        let who = "(pod: \"p_ns(u)\", container: c)";
        let error = |context, user| made(spec(context), image(user)).unwrap_err();
        assert_eq!(
            error(json!({"runAsUser": 0}), ""),
            format!("container's runAsUser breaks non-root policy {who}")
        );
        let text = format!("container has runAsNonRoot and image will run as root {who}");
        assert_eq!(error(json!({}), ""), text);
        assert!(error(json!({}), "nobody").contains("non-numeric user (nobody)"));
    }

    #[test]
    fn pods_are_limited_where_every_container_is() {
        let limited = json!({"name": "a", "resources": {"limits": {"memory": "1Mi"}}});
        let pod = |containers: serde_json::Value| -> Pod {
            serde_json::from_value(json!({"spec": {"containers": containers}})).unwrap()
        };
        let both = pod_resources(&pod(json!([limited, limited])));
        assert_eq!(both.memory_limit_bytes, Some(2 << 20));
        let one = pod_resources(&pod(json!([limited, {"name": "b"}])));
        assert_eq!(
            (one.memory_limit_bytes, one.memory_request_bytes),
            (None, Some(1 << 20))
        );
    }
}
