//! What the agent's settings mean to each of its parts.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use network::{NetworkConfig, Ranges};
use oci::{ContainersConfig, ImageError, ImagesConfig, Registries};

use super::error::AgentError;
use crate::config::AgentConfig;
use crate::providers::Providers;

/// Of the image store.
pub(super) fn images_config(config: &AgentConfig) -> Result<ImagesConfig, ImageError> {
    let settings = &config.images;
    Ok(ImagesConfig {
        dir: config.data_dir.join("images"),
        registries: Registries::load(settings.registry_config.as_deref(), &settings.insecure_registries)?,
        silence_max: settings.registry_silence,
    })
}

/// Programs that know credentials for registries.
pub(super) fn providers(config: &AgentConfig) -> Result<Providers, AgentError> {
    match &config.images.credential_providers {
        None => Ok(Providers::default()),
        Some((file, folder)) => Providers::load(file, folder).map_err(AgentError::Config),
    }
}

/// Of the container store.
pub(super) fn containers_config(config: &AgentConfig) -> ContainersConfig {
    ContainersConfig {
        dir: config.data_dir.join("containers"),
        instance_id: config.instance_id.clone(),
        program: config.program.clone(),
    }
}

/// Refuses settings that contradict themselves.
pub(super) fn check(config: &AgentConfig) -> Result<(), AgentError> {
    if config.node_name.is_empty() {
        return Err(AgentError::Config("the node has no name".to_owned()));
    }
    // A range that is not one would otherwise surface minutes later.
    network_config(config, config.node_cidr.as_deref().unwrap_or(&config.pod_cidr)).map(drop)
}

fn v4(ip: IpAddr, what: &str) -> Result<Ipv4Addr, AgentError> {
    match ip {
        IpAddr::V4(ip) => Ok(ip),
        IpAddr::V6(_) => Err(AgentError::Config(format!("{what} {ip} is not an IPv4 address"))),
    }
}

/// Of the pod network, for this range of the node's.
pub(super) fn network_config(config: &AgentConfig, node_cidr: &str) -> Result<NetworkConfig, AgentError> {
    let cidr = |text: &str| {
        text.parse::<Ranges>()
            .map_err(|error| AgentError::Config(format!("ranges of addresses: {error}")))
    };
    Ok(NetworkConfig {
        instance_id: config.instance_id.clone(),
        data_dir: config.data_dir.clone(),
        pod_cidr: cidr(&config.pod_cidr)?,
        node_cidr: cidr(node_cidr)?,
        service_cidr: cidr(&config.service_cidr)?,
        node_name: config.node_name.clone(),
        node_ip: v4(config.node_ip, "the node's address")?,
        node_ip6: match config.node_ip6 {
            Some(IpAddr::V6(ip)) => Some(ip),
            _ => None,
        },
        routing: config.pod_routing,
        proxy: config.service_proxy,
        dns_ip: v4(config.dns_ip, "the address of DNS")?,
        domain: config.domain.clone(),
        resolv_conf: PathBuf::from("/etc/resolv.conf"),
    })
}
