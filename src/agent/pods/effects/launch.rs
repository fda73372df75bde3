//! From a container's spec to what its runtime is told. Pure but for the
//! sub-paths that [`crate::volumes::mounts`] makes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::wasm::AllowedHosts;
use k8s_openapi::api::core::v1::{Container, Pod};
use oci::{Image, LogSpec, Resources};

use crate::devices::Grant;
use crate::env::expand_all;
use crate::pods::confinement::{security, user};
use crate::pods::resources::of_container;
use crate::pods::{apparmor, spec, wasm_rules};
use crate::runtime::{self, ALLOWED_HOSTS_ANNOTATION, Launch, PROVIDERS_ANNOTATION};
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
    /// Bare id of the container whose processes it sees.
    pub target: Option<String>,
    /// Folder of seccomp profiles that pods name.
    pub seccomp: &'a Path,
    /// Buckets of `wasi:keyvalue` that it may open.
    pub buckets: Option<Arc<dyn ::wasm::Buckets>>,
    /// Other WebAssembly containers that run beside it, or will soon.
    pub beside: Vec<String>,
    /// Containers of which it is not known whether they are such.
    pub absent: Vec<(String, String)>,
    /// What comes with its devices.
    pub granted: Grant,
    /// The processors that it runs on; `None`: all.
    pub cpus: Option<String>,
}

/// Puts a launch together.
///
/// # Errors
/// The text behind `CreateContainerConfigError`.
pub fn launch(pod: &Pod, container: &Container, parts: Parts<'_>) -> Result<Launch, String> {
    let text = |list: &Option<Vec<String>>| expand_all(list.as_deref().unwrap_or_default(), &parts.env);
    let mut image = parts.image;
    if let Some(signal) = container.lifecycle.as_ref().and_then(|l| l.stop_signal.clone()) {
        image.config.stop_signal = signal;
    }
    let mut args = runtime::arguments(&image, &text(&container.command), &text(&container.args));
    let user = user(pod, container, &image)?;
    let wasm = image.kind.is_wasm();
    let mut env = runtime::with_image_env(&image, &parts.env);
    let mut mounts = parts.mounts;
    let (hooks, mut user) = (parts.granted.hooks.clone(), user);
    user.groups.extend(&parts.granted.groups);
    let devices = add_granted(parts.granted, &mut env, &mut mounts);
    if wasm {
        wasm_rules::check(pod, container)?;
        wasm_rules::check_devices(container, &devices, &hooks)?;
        // A Wasm artifact names no program: without this the first argument would be taken for it.
        if names_no_program(container, &image) {
            args.insert(0, container.name.clone());
        }
        // What the shim does for OCI containers.
        if !env.iter().any(|(name, _)| name == "HOSTNAME") {
            env.push(("HOSTNAME".to_owned(), parts.hostname));
        }
    } else {
        check_supported(pod, container)?;
        add_etc(&mut mounts, parts.etc, spec::host_network(pod));
    }
    mounts.push(MountPoint {
        host: parts.end,
        inside: PathBuf::new(),
        path: end_path(container).to_owned(),
        read_only: false,
        recursive: false,
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
        devices,
        hooks,
        resources: Resources {
            cpus: parts.cpus,
            ..of_container(container)
        },
        security: security(pod, container, parts.seccomp),
        tty: container.tty.unwrap_or(false),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        log: parts.log,
        port: port(container),
        ports: tcp_ports(container),
        reuse: spec::annotation(pod, REUSE_ANNOTATION) == Some("true"),
        buckets: parts.buckets,
        beside: parts.beside,
        absent: parts.absent,
        providers: providers(pod)?,
        allowed_hosts: allowed_hosts(pod)?,
        image,
        target: parts.target,
    })
}

/// What an annotation lists. None: it is not there.
fn listed<'a>(pod: &'a Pod, annotation: &str) -> Option<impl Iterator<Item = &'a str> + use<'a>> {
    let text = spec::annotation(pod, annotation)?;
    Some(text.split(',').map(str::trim).filter(|entry| !entry.is_empty()))
}

/// What [`ALLOWED_HOSTS_ANNOTATION`] says.
fn allowed_hosts(pod: &Pod) -> Result<Option<AllowedHosts>, String> {
    let hosts = listed(pod, ALLOWED_HOSTS_ANNOTATION).map(AllowedHosts::parse);
    let hosts = hosts.transpose();
    hosts.map_err(|error| format!("annotation {ALLOWED_HOSTS_ANNOTATION}: {error}"))
}

/// What [`PROVIDERS_ANNOTATION`] says.
fn providers(pod: &Pod) -> Result<Vec<(String, String)>, String> {
    let entries = listed(pod, PROVIDERS_ANNOTATION).into_iter().flatten();
    let pairs = entries.map(|entry| {
        let pair = entry.split_once('=');
        let pair = pair.map(|(interface, name)| (interface.trim().to_owned(), name.trim().to_owned()));
        pair.ok_or_else(|| format!("annotation {PROVIDERS_ANNOTATION}: {entry:?} is not INTERFACE=CONTAINER"))
    });
    pairs.collect()
}

/// Adds what comes with devices: what the pod says itself counts more. The devices are what is left.
fn add_granted(
    granted: Grant,
    env: &mut Vec<(String, String)>,
    mounts: &mut Vec<MountPoint>,
) -> Vec<oci::Device> {
    for (name, value) in granted.env {
        if !env.iter().any(|(known, _)| *known == name) {
            env.push((name, value));
        }
    }
    for mount in granted.mounts {
        if !mounts.iter().any(|known| known.path == mount.path) {
            mounts.push(MountPoint {
                host: mount.host.into(),
                inside: PathBuf::new(),
                path: mount.path,
                read_only: mount.read_only,
                recursive: false,
                propagation: String::new(),
            });
        }
    }
    granted.devices
}

/// Whether neither the pod nor the image says what the first argument, the program's own name, is.
fn names_no_program(container: &Container, image: &Image) -> bool {
    let config = &image.config;
    let from_image = !config.entrypoint.is_empty() || (container.args.is_none() && !config.cmd.is_empty());
    container.command.as_ref().is_none_or(Vec::is_empty) && !from_image
}

/// Refuses by name what this node cannot give any container.
fn check_supported(pod: &Pod, container: &Container) -> Result<(), String> {
    let own_users = spec::spec(pod).host_users == Some(false);
    if own_users
        && container
            .volume_devices
            .as_ref()
            .is_some_and(|list| !list.is_empty())
    {
        let text = "volumeDevices: a pod with users of its own (`hostUsers: false`) cannot open devices of the machine";
        return Err(text.to_owned());
    }
    if apparmor::demands_default(pod, container) && !oci::apparmor::has_default() {
        let text = "appArmorProfile: this node has no profile for RuntimeDefault, since apparmor_parser, which gives it \
                    to the kernel, is not installed; install it, or load a profile and name it by Localhost";
        return Err(text.to_owned());
    }
    let mut mounts = container.volume_mounts.iter().flatten();
    match mounts.find(|m| m.mount_propagation.as_deref() == Some("Bidirectional")) {
        Some(mount) if own_users => Err(format!(
            "mountPropagation of {:?}: what is mounted by a pod with users of its own (`hostUsers: false`) shows \
             nowhere else, so it cannot be Bidirectional",
            mount.mount_path
        )),
        _ => Ok(()),
    }
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

/// Ports of TCP and their names; one without a name goes by its number.
fn tcp_ports(container: &Container) -> Vec<(String, u16)> {
    let ports = container.ports.iter().flatten();
    let tcp = ports.filter(|p| p.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"));
    let numbered = tcp.filter_map(|p| Some((p, u16::try_from(p.container_port).ok()?)));
    numbered
        .map(|(p, number)| (p.name.clone().unwrap_or_else(|| number.to_string()), number))
        .collect()
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
                inside: PathBuf::new(),
                path,
                read_only: false,
                recursive: false,
                propagation: String::new(),
            });
        }
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
            vouchers: vec![],
            pulled_by: Default::default(),
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
                target: None,
                seccomp: Path::new("/profiles"),
                buckets: None,
                beside: vec![],
                absent: vec![],
                granted: Grant::default(),
                cpus: None,
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
    fn who_provides_an_interface_is_annotated() {
        let said = |text: &str| {
            let pod = json!({"metadata": {"annotations": {PROVIDERS_ANNOTATION: text}}});
            providers(&serde_json::from_value(pod).unwrap())
        };
        let pair = |one: &str, other: &str| (one.to_owned(), other.to_owned());
        let both = [pair("a:b/c@1.0.0", "x"), pair("a:b/d", "y")];
        assert_eq!(said("a:b/c@1.0.0=x, a:b/d = y,").unwrap(), both);
        assert!(said("").unwrap().is_empty() && providers(&Pod::default()).unwrap().is_empty());
        assert!(
            said("a:b/c")
                .unwrap_err()
                .contains("\"a:b/c\" is not INTERFACE=CONTAINER")
        );
    }

    #[test]
    fn where_guests_may_connect_to_is_annotated() {
        let said = |text: &str| {
            let pod = json!({"metadata": {"annotations": {ALLOWED_HOSTS_ANNOTATION: text}}});
            allowed_hosts(&serde_json::from_value(pod).unwrap())
        };
        let hosts = ["http://api:8080", "tcp://10.0.0.0/8:5432"];
        let hosts = AllowedHosts::parse(hosts).unwrap();
        assert_eq!(
            said("http://api:8080, tcp://10.0.0.0/8:5432,").unwrap(),
            Some(hosts)
        );
        assert_eq!(
            said("").unwrap(),
            Some(AllowedHosts::parse([]).unwrap()),
            "nowhere"
        );
        assert_eq!(allowed_hosts(&Pod::default()).unwrap(), None, "anywhere");
        let why = said("api").unwrap_err();
        assert!(
            why.contains(ALLOWED_HOSTS_ANNOTATION) && why.contains("\"api\""),
            "{why}"
        );
    }

    #[test]
    fn ports_of_tcp_by_name_or_number() {
        let spec = json!({"containers": [{"name": "c", "ports": [{"containerPort": 90, "name": "web"},
            {"containerPort": 53, "protocol": "UDP"}, {"containerPort": 91, "protocol": "TCP"}]}]});
        let ports = made(spec, image("")).unwrap().ports;
        assert_eq!(ports, [("web".to_owned(), 90), ("91".to_owned(), 91)]);
    }

    #[test]
    fn what_no_container_can_have_is_named() {
        let with = |rest: serde_json::Value| {
            let mut container = json!({"name": "c"});
            container
                .as_object_mut()
                .unwrap()
                .extend(rest.as_object().cloned().unwrap());
            made(json!({"containers": [container], "hostUsers": false}), image("")).map(drop)
        };
        let shared =
            json!({"volumeMounts": [{"name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional"}]});
        assert!(with(shared).unwrap_err().contains("mountPropagation of \"/v\""));
        let device = json!({"volumeDevices": [{"name": "v", "devicePath": "/dev/v"}]});
        assert!(with(device).unwrap_err().starts_with("volumeDevices:"));
        let apparmor = |kind: &str| json!({"securityContext": {"appArmorProfile": {"type": kind}}});
        match with(apparmor("RuntimeDefault")) {
            Ok(()) => assert!(oci::apparmor::has_default()),
            Err(why) => assert!(
                why.starts_with("appArmorProfile: this node has no profile"),
                "{why}"
            ),
        }
        assert_eq!(with(apparmor("Unconfined")), Ok(()));
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
}
