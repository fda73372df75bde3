//! The files that give a pod its name: `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf`.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use api::cidr::Addresses;
use k8s_openapi::api::core::v1::Pod;

use crate::config::AgentConfig;
use crate::pods::spec;

/// Longest host name the kernel takes.
const HOSTNAME_BYTES_MAX: usize = 63;

/// The pod's host name: its own wish, else its name, cut to what the kernel takes.
pub fn hostname(pod: &Pod, node_name: &str) -> String {
    if spec::host_network(pod) {
        return node_name.to_owned();
    }
    let s = spec::spec(pod);
    let wish = s
        .hostname_override
        .as_deref()
        .or(s.hostname.as_deref())
        .filter(|h| !h.is_empty());
    let name = wish.unwrap_or_else(|| spec::name(pod));
    let cut = name.get(..HOSTNAME_BYTES_MAX.min(name.len())).unwrap_or(name);
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// Longest host name of all, a domain included.
const FQDN_BYTES_MAX: usize = 64;

/// The name that the kernel is given: the host name, or with `setHostnameAsFQDN` the whole domain name.
///
/// # Errors
/// The kubelet's text about a name that is too long for the kernel.
pub fn kernel_hostname(pod: &Pod, config: &AgentConfig) -> Result<String, String> {
    let hostname = hostname(pod, &config.node_name);
    let wanted = spec::spec(pod).set_hostname_as_fqdn == Some(true) && !spec::host_network(pod);
    let Some(fqdn) = fqdn(pod, &hostname, &config.domain).filter(|_| wanted) else {
        return Ok(hostname);
    };
    if fqdn.len() > FQDN_BYTES_MAX {
        return Err(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {fqdn} is too long \
             ({FQDN_BYTES_MAX} characters is the max, {} characters requested)",
            fqdn.len()
        ));
    }
    Ok(fqdn)
}

/// The pod's name in the domain of its headless Service, if it is in one.
fn fqdn(pod: &Pod, hostname: &str, domain: &str) -> Option<String> {
    let subdomain = spec::spec(pod).subdomain.as_deref().filter(|s| !s.is_empty())?;
    let namespace = spec::namespace(pod);
    Some(format!("{hostname}.{subdomain}.{namespace}.svc.{domain}"))
}

/// Names and contents of the pod's files.
pub fn of_pod(pod: &Pod, ip: Addresses, config: &AgentConfig) -> Vec<(&'static str, String)> {
    let hostname = hostname(pod, &config.node_name);
    vec![
        ("hosts", hosts(pod, ip, &hostname, &config.domain)),
        ("hostname", format!("{hostname}\n")),
        ("resolv.conf", resolv_conf(pod, config)),
    ]
}

fn hosts(pod: &Pod, ip: Addresses, hostname: &str, domain: &str) -> String {
    let aliases = aliases(pod);
    if spec::host_network(pod) {
        let own = fs::read_to_string("/etc/hosts").unwrap_or_default();
        return format!("# Kubernetes-managed hosts file (host network).\n{own}{aliases}");
    }
    let names = match fqdn(pod, hostname, domain) {
        Some(fqdn) => format!("{fqdn}\t{hostname}"),
        None => hostname.to_owned(),
    };
    let own: String = ip.iter().map(|ip| format!("{ip}\t{names}\n")).collect();
    format!(
        "# Kubernetes-managed hosts file.\n\
         127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         fe00::0\tip6-mcastprefix\n\
         fe00::1\tip6-allnodes\n\
         fe00::2\tip6-allrouters\n\
         {own}{aliases}"
    )
}

/// The names that the pod's hosts file gives beyond those of every pod: its own and its `hostAliases`.
pub fn aliases_of(pod: &Pod, ip: Addresses, node_name: &str) -> Vec<(String, IpAddr)> {
    let own = hostname(pod, node_name);
    let mut all: Vec<(String, IpAddr)> = ip.iter().map(|ip| (own.clone(), ip)).collect();
    for alias in spec::spec(pod).host_aliases.iter().flatten() {
        let Ok(ip) = alias.ip.parse::<IpAddr>() else {
            continue;
        };
        all.extend(alias.hostnames.iter().flatten().map(|name| (name.clone(), ip)));
    }
    all
}

fn aliases(pod: &Pod) -> String {
    let list = spec::spec(pod).host_aliases.as_deref().unwrap_or_default();
    if list.is_empty() {
        return String::new();
    }
    let line = |alias: &k8s_openapi::api::core::v1::HostAlias| {
        format!(
            "{}\t{}\n",
            alias.ip,
            alias.hostnames.as_deref().unwrap_or_default().join("\t")
        )
    };
    format!(
        "\n# Entries added by HostAliases.\n{}",
        list.iter().map(line).collect::<String>()
    )
}

/// `/etc/resolv.conf` as `dnsPolicy` and `dnsConfig` want it.
fn resolv_conf(pod: &Pod, config: &AgentConfig) -> String {
    let policy = spec::spec(pod).dns_policy.as_deref().unwrap_or("ClusterFirst");
    let cluster = match policy {
        "ClusterFirst" => !spec::host_network(pod),
        "ClusterFirstWithHostNet" => true,
        _ => false,
    };
    let mut dns = if cluster {
        Resolver {
            servers: vec![config.dns_ip.to_string()],
            search: network::dns::search_domains(spec::namespace(pod), &config.domain),
            options: vec![format!("ndots:{}", network::dns::NDOTS)],
        }
    } else if policy == "None" {
        Resolver::default()
    } else {
        Resolver::parse(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
    };
    if let Some(own) = &spec::spec(pod).dns_config {
        dns.add(own.nameservers.iter().flatten(), own.searches.iter().flatten());
        for option in own.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            dns.options.retain(|o| o.split(':').next() != Some(name.as_str()));
            let value = option.value.as_deref().filter(|v| !v.is_empty());
            dns.options
                .push(value.map_or_else(|| name.clone(), |v| format!("{name}:{v}")));
        }
    }
    dns.text()
}

#[derive(Default)]
struct Resolver {
    servers: Vec<String>,
    search: Vec<String>,
    options: Vec<String>,
}

impl Resolver {
    fn parse(text: &str) -> Resolver {
        let mut found = Resolver::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => found.servers.extend(words.next().map(str::to_owned)),
                Some("search" | "domain") => found.search = words.map(str::to_owned).collect(),
                Some("options") => found.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        found
    }

    fn add<'a>(
        &mut self,
        servers: impl Iterator<Item = &'a String>,
        search: impl Iterator<Item = &'a String>,
    ) {
        let join = |list: &mut Vec<String>, more: &mut dyn Iterator<Item = &'a String>| {
            for item in more {
                if !list.contains(item) {
                    list.push(item.clone());
                }
            }
        };
        join(&mut self.servers, &mut servers.into_iter());
        join(&mut self.search, &mut search.into_iter());
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if !self.search.is_empty() {
            text.push_str(&format!("search {}\n", self.search.join(" ")));
        }
        for server in &self.servers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            text.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        text
    }
}

/// Writes one file in place, so that a container that has it mounted sees the change.
///
/// # Errors
/// The disk.
pub fn write(dir: &Path, name: &str, text: &str) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let path = dir.join(name);
    if fs::read_to_string(&path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config() -> AgentConfig {
        AgentConfig::new("n1", "/nowhere".into(), "00000000", [192, 0, 2, 1].into())
    }

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "web-0", "namespace": "ns"}, "spec": spec}))
            .unwrap()
    }

    #[test]
    fn host_names() {
        assert_eq!(hostname(&pod(json!({"containers": []})), "n1"), "web-0");
        assert_eq!(
            hostname(&pod(json!({"containers": [], "hostname": "db"})), "n1"),
            "db"
        );
        assert_eq!(
            hostname(&pod(json!({"containers": [], "hostNetwork": true})), "n1"),
            "n1"
        );
        let mut long = pod(json!({"containers": []}));
        long.metadata.name = Some(format!("{}-x", "a".repeat(62)));
        assert_eq!(hostname(&long, "n1"), "a".repeat(62));
    }

    #[test]
    fn the_kernel_may_be_given_the_whole_name() {
        let with =
            |subdomain: &str| json!({"containers": [], "subdomain": subdomain, "setHostnameAsFQDN": true});
        let name = |spec| kernel_hostname(&pod(spec), &config());
        assert_eq!(name(with("sub")).unwrap(), "web-0.sub.ns.svc.cluster.local");
        assert_eq!(name(with("")).unwrap(), "web-0");
        let error = name(with(&"s".repeat(50))).unwrap_err();
        assert!(
            error.contains("is too long (64 characters is the max, 77 characters requested)"),
            "{error}"
        );
    }

    #[test]
    fn hosts_file() {
        let pod = pod(json!({"containers": [], "subdomain": "sub",
            "hostAliases": [{"ip": "192.0.2.9", "hostnames": ["a", "b"]}]}));
        let text = hosts(&pod, [10, 64, 0, 5].into(), "web-0", "cluster.local");
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"));
        let end = "10.64.0.5\tweb-0.sub.ns.svc.cluster.local\tweb-0\n\n\
                   # Entries added by HostAliases.\n192.0.2.9\ta\tb\n";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn resolver_files() {
        let first = resolv_conf(&pod(json!({"containers": []})), &config());
        let expected = "search ns.svc.cluster.local svc.cluster.local cluster.local\n\
                        nameserver 10.43.0.10\noptions ndots:5\n";
        assert_eq!(first, expected);
        let own = resolv_conf(
            &pod(json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {
                "nameservers": ["192.0.2.53"], "searches": ["x.test"],
                "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}})),
            &config(),
        );
        assert_eq!(
            own,
            "search x.test\nnameserver 192.0.2.53\noptions ndots:2 edns0\n"
        );
        let more = json!({"containers": [], "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]}});
        assert!(resolv_conf(&pod(more), &config()).ends_with("options ndots:1\n"));
    }
}
