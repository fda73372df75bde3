//! What a guest is given: from a container to be made to an instance of its program.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ::oci::{AppComponent, ImageKind, Stream};
use ::wasm::{
    AllowedHosts, AppPart, InstanceSpec, ListenAt, Membership, Mount, Network, Output, Program, ProgramKind,
    Stdin, WasmError,
};

use crate::logs::writer::LogWriter;
use crate::runtime::guest::GuestNetwork;
use crate::runtime::{Launch, PROVIDERS_ANNOTATION};

/// What a program is given when it runs for that container.
pub(super) fn instance_spec(
    program: &Program,
    launch: &Launch,
    network: Arc<GuestNetwork>,
    log: &Arc<LogWriter>,
    stdin: Stdin,
) -> InstanceSpec {
    let ip = network.pod_ip();
    let mut spec = InstanceSpec::new(launch.title.clone(), network);
    spec.args = if launch.args.is_empty() {
        vec![launch.name.clone()]
    } else {
        launch.args.clone()
    };
    spec.env = launch.env.clone();
    if program.kind() == ProgramKind::Http {
        spec.http_address = Some(SocketAddr::new(ip, launch.port));
        if !spec.env.iter().any(|(name, _)| name == "PORT") {
            spec.env.push(("PORT".to_owned(), launch.port.to_string()));
        }
    }
    let ports = launch.ports.iter();
    spec.listen = ports
        .map(|(name, port)| ListenAt {
            name: name.clone(),
            address: SocketAddr::new(ip, *port),
        })
        .collect();
    let mounts = launch.mounts.iter();
    spec.mounts = mounts
        .map(|m| Mount {
            host: m.host.clone(),
            inside: m.inside.clone(),
            guest: m.path.clone(),
            read_only: m.read_only,
        })
        .collect();
    spec.stdin = stdin;
    spec.stdout = Arc::new(LogOutput {
        log: log.clone(),
        stream: Stream::Stdout,
    });
    spec.stderr = Arc::new(LogOutput {
        log: log.clone(),
        stream: Stream::Stderr,
    });
    spec.memory_bytes_max = launch.resources.memory_limit_bytes;
    spec.cpu_millis_max = launch
        .resources
        .cpu_limit_millis
        .and_then(|m| u32::try_from(m).ok());
    spec.reuse = launch.reuse;
    spec.buckets = launch.buckets.clone();
    spec.allowed_hosts = launch.allowed_hosts.clone();
    spec.membership = Some(Membership {
        name: launch.name.clone(),
        // The programs of an application are called by requests alone.
        provides: matches!(launch.image.kind, ImageKind::Wasm { .. }),
        others: launch.beside.clone(),
        absent: launch.absent.clone(),
        chosen: launch.providers.clone(),
    });
    spec
}

/// One component of an application: the container's own settings, and what its image says.
pub(super) fn app_part(
    component: &AppComponent,
    program: &Program,
    launch: &Launch,
    network: Arc<GuestNetwork>,
    log: &Arc<LogWriter>,
) -> Result<AppPart, WasmError> {
    let mut spec = instance_spec(program, launch, network, log, Stdin::None);
    let given = component
        .env
        .iter()
        .filter(|(name, _)| !spec.env.iter().any(|(n, _)| n == *name));
    let given: Vec<_> = given.map(|(name, value)| (name.clone(), value.clone())).collect();
    spec.env.extend(given);
    spec.mounts.extend(component.files.as_ref().map(|folder| Mount {
        host: folder.clone(),
        inside: PathBuf::new(),
        guest: "/".to_owned(),
        read_only: true,
    }));
    let hosts = component.allowed_outbound_hosts.iter().map(String::as_str);
    // What the image asks for, as far as the pod lets it.
    let wanted = AllowedHosts::parse(hosts)?;
    spec.allowed_hosts = Some(match spec.allowed_hosts.take() {
        Some(granted) => granted.and(wanted),
        None => wanted,
    });
    Ok(AppPart {
        program: program.clone(),
        routes: component.routes.clone(),
        spec,
    })
}

/// What users read of a program that cannot be started.
pub(super) fn told(error: &WasmError) -> String {
    match error {
        WasmError::Ambiguous { interface, .. } => {
            format!("{error}, by the pod's annotation {PROVIDERS_ANNOTATION}: {interface}=CONTAINER")
        }
        other => other.to_string(),
    }
}

struct LogOutput {
    log: Arc<LogWriter>,
    stream: Stream,
}

impl Output for LogOutput {
    fn write(&self, bytes: &[u8]) {
        self.log.write(self.stream, bytes);
    }
}
