//! Making and removing what a pod's containers share: network, name files, shim.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use api::cidr::Addresses;
use k8s_openapi::api::core::v1::Pod;
use network::{HostPort, Protocol};
use oci::Resources;

use super::PodContext;
use crate::context::Link;
use crate::files;
use crate::pods::resources::of_pod;
use crate::pods::spec;
use crate::pods::status::qos_class;
use crate::runtime::Sandbox;

/// Makes the sandbox; may be repeated. `wanted` is the address the pod had before.
///
/// # Errors
/// The text for the event.
pub async fn make(
    context: Arc<PodContext>,
    pod: Arc<Pod>,
    wasm_only: bool,
    wanted: Option<IpAddr>,
) -> Result<Addresses, String> {
    let made = attempt(&context, &pod, wasm_only, wanted).await;
    made.inspect_err(|error| {
        let message = format!("Failed to create pod sandbox: {error}");
        context.warn(&pod, None, "FailedCreatePodSandBox", message);
    })
}

async fn attempt(
    context: &PodContext,
    pod: &Pod,
    wasm_only: bool,
    wanted: Option<IpAddr>,
) -> Result<Addresses, String> {
    let node = &context.node;
    let host_network = spec::host_network(pod);
    super::runtime_class::check(context, pod).await?;
    let users = own_users(context, pod, wasm_only).await?;
    let link = if host_network {
        Link {
            ip: node.config.node_ips(),
            netns: None,
            loopback: Addresses::from(IpAddr::from(Ipv4Addr::LOCALHOST))
                .and(Some(Ipv6Addr::LOCALHOST.into())),
        }
    } else {
        node.net.attach(spec::uid(pod), wasm_only, wanted).await?
    };
    write_files(context, pod, link.ip).await?;
    let sandbox = describe(context, pod, &link, users)?;
    node.runtimes
        .wasm
        .open_pod(&sandbox)
        .await
        .map_err(|e| e.to_string())?;
    if !wasm_only {
        node.runtimes
            .oci
            .open_pod(&sandbox)
            .await
            .map_err(|e| e.to_string())?;
    }
    let ip = sandbox.ip;
    if !host_network {
        node.balancing.set_host_ports(spec::uid(pod), host_ports(pod, ip));
    }
    context.set_sandbox(Some(sandbox));
    Ok(ip)
}

/// The first of the users that the pod has for itself, if it wants its own, with the namespace they are in. Guests
/// of the Wasm host are nobody's processes and need none.
async fn own_users(context: &PodContext, pod: &Pod, wasm_only: bool) -> Result<Option<u32>, String> {
    let node = &context.node;
    if spec::spec(pod).host_users != Some(false) || wasm_only {
        return Ok(None);
    }
    let first = node.users.take(spec::uid(pod))?;
    let made = node.net.prepare(spec::uid(pod), first).await;
    made.map_err(|error| format!("hostUsers: false: {error}"))?;
    Ok(Some(first))
}

/// Where ports of the node lead to for the sake of a pod.
fn host_ports(pod: &Pod, ips: Addresses) -> Vec<HostPort> {
    let number = |port: i32| u16::try_from(port).ok().filter(|port| *port > 0);
    let lead = |(ip, port): (IpAddr, &api::pod::HostPort)| {
        let address = port.ip.parse::<IpAddr>().ok()?;
        Some(HostPort {
            address: Some(address).filter(|address| !address.is_unspecified()),
            protocol: Protocol::parse(Some(&port.protocol))?,
            port: number(port.port)?,
            target: (ip, number(port.container_port)?).into(),
        })
    };
    let ports = api::pod::host_ports(spec::spec(pod));
    let all = ips.iter().flat_map(|ip| ports.iter().map(move |port| (ip, port)));
    all.filter_map(lead).collect()
}

async fn write_files(context: &PodContext, pod: &Pod, ip: Addresses) -> Result<(), String> {
    let config = &context.node.config;
    let files = files::of_pod(pod, ip, config);
    let dir = context.node.paths.etc(spec::uid(pod));
    let write = move || {
        files
            .into_iter()
            .try_for_each(|(name, text)| files::write(&dir, name, &text))
    };
    let written = tokio::task::spawn_blocking(write)
        .await
        .map_err(|e| e.to_string())?;
    written.map_err(|e| e.to_string())
}

fn describe(context: &PodContext, pod: &Pod, link: &Link, users: Option<u32>) -> Result<Sandbox, String> {
    let (config, s) = (&context.node.config, spec::spec(pod));
    let security = s.security_context.as_ref();
    let sysctls = security.and_then(|c| c.sysctls.as_deref()).unwrap_or_default();
    let mut search = network::dns::search_domains(spec::namespace(pod), &config.domain);
    search.extend(
        s.dns_config
            .iter()
            .flat_map(|dns| dns.searches.iter().flatten().cloned()),
    );
    Ok(Sandbox {
        uid: spec::uid(pod).to_owned(),
        namespace: spec::namespace(pod).to_owned(),
        name: spec::name(pod).to_owned(),
        hostname: files::kernel_hostname(pod, config)?,
        ip: link.ip,
        netns: link.netns.clone(),
        users,
        loopback: link.loopback,
        host_network: spec::host_network(pod),
        host_pid: s.host_pid.unwrap_or(false),
        host_ipc: s.host_ipc.unwrap_or(false),
        share_pid: s.share_process_namespace.unwrap_or(false),
        sysctls: sysctls
            .iter()
            .map(|s| (s.name.clone(), s.value.clone()))
            .collect(),
        resources: Resources {
            pids_limit: Some(config.limits.pod_pids).filter(|most| *most > 0),
            ..of_pod(pod)
        },
        qos: qos_class(pod).to_owned(),
        search,
        aliases: files::aliases_of(pod, link.ip, &config.node_name),
    })
}

/// Removes the sandbox; repeating it, or doing it without one, is no error.
///
/// # Errors
/// The text for the log; it is tried again.
pub async fn remove(context: Arc<PodContext>, pod: Arc<Pod>) -> Result<(), String> {
    let (node, uid) = (&context.node, spec::uid(&pod));
    node.runtimes
        .wasm
        .close_pod(uid)
        .await
        .map_err(|e| e.to_string())?;
    node.runtimes
        .oci
        .close_pod(uid)
        .await
        .map_err(|e| e.to_string())?;
    // Before the address is another pod's.
    node.balancing.set_host_ports(uid, Vec::new());
    node.net.detach(uid).await?;
    node.users.give_back(uid);
    node.devices.release(uid);
    node.cpus.release(uid);
    context.set_sandbox(None);
    Ok(())
}
