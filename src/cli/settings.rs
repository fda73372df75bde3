//! The settings of `up`, `server` and `agent`.
//!
//! One definition gives the flags, the keys of `--config FILE` and the help:
//! a flag `--pod-cidr` is the key `pod-cidr`. A flag wins over the file, the
//! file over the default; a key that is no flag is an error.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Deserialize;

use crate::config::{AddressPool, Addresses, Config, Listen, PodRouting, Ranges, ServiceProxy};

/// Where the state lives, shared by all verbs.
#[derive(clap::Args, Clone, Debug)]
pub struct DataDir {
    /// Folder for everything this node keeps
    #[arg(
        long,
        value_name = "DIR",
        env = "CORACLE_DATA_DIR",
        default_value = "/var/lib/coracle"
    )]
    pub data_dir: PathBuf,
}

/// How a node runs; every field is a flag and a key of the configuration file.
#[derive(clap::Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// Port, or ADDRESS:PORT, of the API [default: 6443 on the node's address and 127.0.0.1]
    #[arg(long, value_name = "[ADDR:]PORT")]
    pub listen: Option<Listen>,

    /// Range that pod addresses come from, and after a comma one of IPv6 [default: 10.64.0.0/10]
    #[arg(long, value_name = "CIDR[,CIDR]")]
    pub pod_cidr: Option<Ranges>,

    /// Range that Service addresses come from, and after a comma one of IPv6 [default: 10.43.0.0/16]
    #[arg(long, value_name = "CIDR[,CIDR]")]
    pub service_cidr: Option<Ranges>,

    /// Addresses for Services of type LoadBalancer, such as 192.0.2.100-192.0.2.120 or 192.0.2.128/28;
    /// several with commas between them
    #[arg(long, value_name = "RANGE", value_delimiter = ',')]
    pub load_balancer_pool: Vec<AddressPool>,

    /// Prefix length of each node's share of the pod range [default: 20]
    #[arg(long, value_name = "BITS")]
    pub node_cidr_mask_size: Option<u8>,

    /// Prefix length of each node's share of the pod range of IPv6 [default: 112]
    #[arg(long, value_name = "BITS")]
    pub node_cidr_mask_size_ipv6: Option<u8>,

    /// How pods of other nodes are reached: auto, routes or vxlan [default: auto, routes where there is
    /// a common network and vxlan elsewhere]
    #[arg(long, value_name = "HOW")]
    pub pod_routing: Option<PodRouting>,

    /// Who balances Services on this node: kernel or userspace [default: kernel]
    #[arg(long, value_name = "WHO")]
    pub service_proxy: Option<ServiceProxy>,

    /// Name of this node [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,

    /// Address of this node, and after a comma one of IPv6 [default: those that lead to the default route]
    #[arg(long, value_name = "ADDR[,ADDR]")]
    pub node_ip: Option<Addresses>,

    /// Address at which other machines reach this server [default: the node's]
    #[arg(long, value_name = "ADDR")]
    pub advertise_address: Option<IpAddr>,

    /// Further names and addresses by which clients reach this server, for its certificate; several with commas between
    /// them
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub tls_san: Vec<String>,

    /// Address of the cluster's DNS [default: tenth of the service range]
    #[arg(long, value_name = "ADDR")]
    pub cluster_dns: Option<IpAddr>,

    /// Domain of the cluster's names [default: cluster.local]
    #[arg(long, value_name = "DOMAIN")]
    pub cluster_domain: Option<String>,

    /// Seconds for which what was is kept for watches and lists, at least; twice that at most [default: 300]
    #[arg(long, value_name = "SECONDS")]
    pub compaction_interval: Option<u64>,

    /// Seconds without a heartbeat after which a node counts as lost [default: 40]
    #[arg(long, value_name = "SECONDS")]
    pub node_monitor_grace_period: Option<u64>,

    /// Lost nodes of a zone per second whose pods are given up [default: 0.1]
    #[arg(long, value_name = "RATE")]
    pub node_eviction_rate: Option<f64>,

    /// The same in a zone that is unhealthy and not small; in a small one none are [default: 0.01]
    #[arg(long, value_name = "RATE")]
    pub secondary_node_eviction_rate: Option<f64>,

    /// Share of a zone's nodes, 0 to 1, that must be lost for it to be unhealthy; at least three are [default: 0.55]
    #[arg(long, value_name = "SHARE")]
    pub unhealthy_zone_threshold: Option<f64>,

    /// Most nodes of a zone that counts as small [default: 50]
    #[arg(long, value_name = "COUNT")]
    pub large_cluster_size_threshold: Option<usize>,

    /// Seconds for which pods stay on a node that is not ready, unless they say themselves [default: 300]
    #[arg(long, value_name = "SECONDS")]
    pub default_not_ready_toleration_seconds: Option<u32>,

    /// Seconds for which pods stay on a node that cannot be reached, unless they say themselves [default: 300]
    #[arg(long, value_name = "SECONDS")]
    pub default_unreachable_toleration_seconds: Option<u32>,

    /// Seconds before a crashed container's first restart; doubles up to five minutes [default: 10]
    #[arg(long, value_name = "SECONDS")]
    pub crash_back_off: Option<u64>,

    /// Bytes that the store may take, history included, before writes that grow are refused; 0 for no limit
    /// [default: 2147483648]
    #[arg(long, value_name = "BYTES")]
    pub quota_bytes: Option<u64>,

    /// Most requests that only read and are carried out at once; with those that write they are the seats that
    /// priority levels share [default: 400]
    #[arg(long, value_name = "COUNT")]
    pub max_requests_inflight: Option<u32>,

    /// The same for requests that change something [default: 200]
    #[arg(long, value_name = "COUNT")]
    pub max_mutating_requests_inflight: Option<u32>,

    /// File with the policy of the audit log (audit.k8s.io/v1) [default: no log]
    #[arg(long, value_name = "FILE")]
    pub audit_policy_file: Option<PathBuf>,

    /// File that audit events go to, `-` for standard output [default: none]
    #[arg(long, value_name = "FILE")]
    pub audit_log_path: Option<PathBuf>,

    /// Megabytes at which the audit log is put aside [default: 100]
    #[arg(long, value_name = "MEGABYTES")]
    pub audit_log_maxsize: Option<u64>,

    /// Audit logs put aside that are kept; 0 for all [default: 0]
    #[arg(long, value_name = "COUNT")]
    pub audit_log_maxbackup: Option<usize>,

    /// Days that audit logs put aside are kept; 0 for ever [default: 0]
    #[arg(long, value_name = "DAYS")]
    pub audit_log_maxage: Option<u64>,

    /// File in kubeconfig format that names the server and authority of a webhook for audit events [default: none]
    #[arg(long, value_name = "FILE")]
    pub audit_webhook_config_file: Option<PathBuf>,

    /// Most events that are sent to the webhook together [default: 400]
    #[arg(long, value_name = "COUNT")]
    pub audit_webhook_batch_max_size: Option<usize>,

    /// Seconds that an event waits for others before it is sent [default: 30]
    #[arg(long, value_name = "SECONDS")]
    pub audit_webhook_batch_max_wait: Option<u64>,

    /// File with admission plugins' configuration (PodSecurity: defaults and exemptions) [default: none]
    #[arg(long, value_name = "FILE")]
    pub admission_control_config_file: Option<PathBuf>,

    /// File that says which resources are kept encrypted, and with which keys [default: none]
    #[arg(long, value_name = "FILE")]
    pub encryption_provider_config: Option<PathBuf>,

    /// File with an AuthorizationConfiguration: who says whether users may, in which order
    #[arg(long, value_name = "FILE")]
    pub authorization_config: Option<PathBuf>,

    /// File in the form of a kubeconfig that leads to a webhook which is asked by SubjectAccessReview in the mode
    /// Webhook
    #[arg(long, value_name = "FILE")]
    pub authorization_webhook_config_file: Option<PathBuf>,

    /// Seconds for which its yes is remembered [default: 300]
    #[arg(long, value_name = "SECONDS")]
    pub authorization_webhook_cache_authorized_ttl: Option<u64>,

    /// Seconds for which its no is remembered [default: 30]
    #[arg(long, value_name = "SECONDS")]
    pub authorization_webhook_cache_unauthorized_ttl: Option<u64>,

    /// Issuer of tokens (OIDC); more than one go into authentication-config
    #[arg(long, value_name = "URL")]
    pub oidc_issuer_url: Option<String>,

    /// Whom its tokens must be for
    #[arg(long, value_name = "NAME")]
    pub oidc_client_id: Option<String>,

    /// The claim that is the user's name [default: sub]
    #[arg(long, value_name = "CLAIM")]
    pub oidc_username_claim: Option<String>,

    /// What is put before it, `-` for nothing [default: the issuer and `#`, unless the claim is email]
    #[arg(long, value_name = "TEXT")]
    pub oidc_username_prefix: Option<String>,

    /// The claim that lists the user's groups [default: none]
    #[arg(long, value_name = "CLAIM")]
    pub oidc_groups_claim: Option<String>,

    /// What is put before each [default: nothing]
    #[arg(long, value_name = "TEXT")]
    pub oidc_groups_prefix: Option<String>,

    /// Who signed the issuer's certificate, PEM [default: whom the machine trusts]
    #[arg(long, value_name = "FILE")]
    pub oidc_ca_file: Option<PathBuf>,

    /// Who says whether users may, in this order: Node, RBAC, Webhook, AlwaysAllow, AlwaysDeny [default: Node,RBAC]
    #[arg(long, value_name = "MODES", value_delimiter = ',')]
    pub authorization_mode: Vec<String>,

    /// CLAIM=VALUE that tokens of the issuer must have; a list
    #[arg(long, value_name = "CLAIM=VALUE", value_delimiter = ',')]
    pub oidc_required_claim: Vec<String>,

    /// File with an AuthenticationConfiguration: issuers of tokens (OIDC), and who may ask without credentials
    #[arg(long, value_name = "FILE")]
    pub authentication_config: Option<PathBuf>,

    /// File in the form of a kubeconfig that leads to a webhook which knows tokens
    #[arg(long, value_name = "FILE")]
    pub authentication_token_webhook_config_file: Option<PathBuf>,

    /// Most pods on this node; give it a range of that size too [default: 4096]
    #[arg(long, value_name = "COUNT")]
    pub max_pods: Option<u32>,

    /// Most processes and threads of one pod; 0 for no limit [default: 4096]
    #[arg(long, value_name = "NUMBER")]
    pub pod_pids_limit: Option<u64>,

    /// Sysctls beyond the safe ones that pods may set, such as kernel.msg*,net.core.somaxconn [default: none]
    #[arg(long, value_name = "NAME,...")]
    pub allowed_unsafe_sysctls: Option<String>,

    /// Size at which a container's log is rotated, such as 10Mi [default: 10Mi]
    #[arg(long, value_name = "QUANTITY")]
    pub container_log_max_size: Option<String>,

    /// Files that are kept of a container's log, the current one included [default: 5]
    #[arg(long, value_name = "NUMBER")]
    pub container_log_max_files: Option<u32>,

    /// Below what the node evicts pods, such as memory.available<100Mi,nodefs.available<10%
    /// [default: Kubernetes' own thresholds]
    #[arg(long, value_name = "SIGNAL<AMOUNT,...")]
    pub eviction_hard: Option<String>,

    /// Seconds that a node goes on telling of pressure after it was relieved [default: 300]
    #[arg(long, value_name = "SECONDS")]
    pub eviction_pressure_transition_period: Option<u64>,

    /// Folder of pods that this machine runs by itself, a manifest in each file [default: none]
    #[arg(long, value_name = "FOLDER")]
    pub static_pod_path: Option<PathBuf>,

    /// Seconds that pods are given when this process is told to end; 0 leaves ordinary containers running
    /// [default: 0]
    #[arg(long, value_name = "SECONDS")]
    pub shutdown_grace_period: Option<u64>,

    /// Seconds of these that are kept for critical pods, which end last [default: 0]
    #[arg(long, value_name = "SECONDS")]
    pub shutdown_grace_period_critical_pods: Option<u64>,

    /// Seconds for which the server goes on answering after it was told to end, while it says that it is not ready, so
    /// that others stop asking it [default: 0]
    #[arg(long, value_name = "SECONDS")]
    pub shutdown_delay_duration: Option<u64>,

    /// Server to join (`agent` only), such as https://10.0.0.5:6443
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,

    /// Server whose cluster to join as a further server (`server` and `up`), such as https://10.0.0.5:6443
    #[arg(long, value_name = "URL")]
    pub join: Option<String>,

    /// Join as a witness (`server` only): vote and keep the log, so that two full servers go on when one is lost;
    /// a small machine will do
    #[arg(long)]
    pub witness: bool,

    /// File with the token to join with: the server's agent-token for `agent`, its server-token for --join
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Plain-HTTP registries, such as 127.0.0.1:5000; may be given several times
    #[arg(long, value_name = "HOST:PORT")]
    pub insecure_registry: Vec<String>,

    /// File with registries' mirrors, authorities and credentials, in the form of k3s's registries.yaml
    #[arg(long, value_name = "FILE")]
    pub registry_config: Option<PathBuf>,

    /// Seconds of a registry's silence after which it counts as gone [default: 30]
    #[arg(long, value_name = "SECONDS")]
    pub registry_timeout: Option<u64>,

    /// Percent of the disk in use from which unused images are removed [default: 85]
    #[arg(long, value_name = "PERCENT")]
    pub image_gc_high_threshold: Option<u8>,

    /// Percent of the disk in use down to which they are removed [default: 80]
    #[arg(long, value_name = "PERCENT")]
    pub image_gc_low_threshold: Option<u8>,

    /// Seconds that an unused image stays at least [default: 120]
    #[arg(long, value_name = "SECONDS")]
    pub image_minimum_gc_age: Option<u64>,

    /// Seconds between two looks at the disk for unused images [default: 300]
    #[arg(long, value_name = "SECONDS")]
    pub image_gc_period: Option<u64>,
}

impl Settings {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// When it cannot be read, is not YAML, or has a key that is not a setting.
    pub fn from_file(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_saphyr::from_str(&text)
            .with_context(|| format!("{} is not a valid configuration", path.display()))
    }

    /// These settings where given, `other`'s where not.
    pub fn or(self, other: Self) -> Self {
        Self {
            listen: self.listen.or(other.listen),
            pod_cidr: self.pod_cidr.or(other.pod_cidr),
            service_cidr: self.service_cidr.or(other.service_cidr),
            load_balancer_pool: either(self.load_balancer_pool, other.load_balancer_pool),
            node_cidr_mask_size: self.node_cidr_mask_size.or(other.node_cidr_mask_size),
            node_cidr_mask_size_ipv6: self.node_cidr_mask_size_ipv6.or(other.node_cidr_mask_size_ipv6),
            pod_routing: self.pod_routing.or(other.pod_routing),
            service_proxy: self.service_proxy.or(other.service_proxy),
            node_name: self.node_name.or(other.node_name),
            node_ip: self.node_ip.or(other.node_ip),
            advertise_address: self.advertise_address.or(other.advertise_address),
            tls_san: either(self.tls_san, other.tls_san),
            cluster_dns: self.cluster_dns.or(other.cluster_dns),
            cluster_domain: self.cluster_domain.or(other.cluster_domain),
            compaction_interval: self.compaction_interval.or(other.compaction_interval),
            node_monitor_grace_period: self.node_monitor_grace_period.or(other.node_monitor_grace_period),
            node_eviction_rate: self.node_eviction_rate.or(other.node_eviction_rate),
            secondary_node_eviction_rate: self
                .secondary_node_eviction_rate
                .or(other.secondary_node_eviction_rate),
            unhealthy_zone_threshold: self.unhealthy_zone_threshold.or(other.unhealthy_zone_threshold),
            large_cluster_size_threshold: self
                .large_cluster_size_threshold
                .or(other.large_cluster_size_threshold),
            default_not_ready_toleration_seconds: self
                .default_not_ready_toleration_seconds
                .or(other.default_not_ready_toleration_seconds),
            default_unreachable_toleration_seconds: self
                .default_unreachable_toleration_seconds
                .or(other.default_unreachable_toleration_seconds),
            crash_back_off: self.crash_back_off.or(other.crash_back_off),
            quota_bytes: self.quota_bytes.or(other.quota_bytes),
            max_requests_inflight: self.max_requests_inflight.or(other.max_requests_inflight),
            max_mutating_requests_inflight: self
                .max_mutating_requests_inflight
                .or(other.max_mutating_requests_inflight),
            audit_policy_file: self.audit_policy_file.or(other.audit_policy_file),
            audit_log_path: self.audit_log_path.or(other.audit_log_path),
            audit_log_maxsize: self.audit_log_maxsize.or(other.audit_log_maxsize),
            audit_log_maxbackup: self.audit_log_maxbackup.or(other.audit_log_maxbackup),
            audit_log_maxage: self.audit_log_maxage.or(other.audit_log_maxage),
            audit_webhook_config_file: self.audit_webhook_config_file.or(other.audit_webhook_config_file),
            audit_webhook_batch_max_size: self
                .audit_webhook_batch_max_size
                .or(other.audit_webhook_batch_max_size),
            audit_webhook_batch_max_wait: self
                .audit_webhook_batch_max_wait
                .or(other.audit_webhook_batch_max_wait),
            admission_control_config_file: self
                .admission_control_config_file
                .or(other.admission_control_config_file),
            encryption_provider_config: self
                .encryption_provider_config
                .or(other.encryption_provider_config),
            authorization_mode: if self.authorization_mode.is_empty() {
                other.authorization_mode
            } else {
                self.authorization_mode
            },
            oidc_required_claim: if self.oidc_required_claim.is_empty() {
                other.oidc_required_claim
            } else {
                self.oidc_required_claim
            },
            shutdown_delay_duration: self.shutdown_delay_duration.or(other.shutdown_delay_duration),
            authorization_config: self.authorization_config.or(other.authorization_config),
            authorization_webhook_config_file: self
                .authorization_webhook_config_file
                .or(other.authorization_webhook_config_file),
            authorization_webhook_cache_authorized_ttl: self
                .authorization_webhook_cache_authorized_ttl
                .or(other.authorization_webhook_cache_authorized_ttl),
            authorization_webhook_cache_unauthorized_ttl: self
                .authorization_webhook_cache_unauthorized_ttl
                .or(other.authorization_webhook_cache_unauthorized_ttl),
            oidc_issuer_url: self.oidc_issuer_url.or(other.oidc_issuer_url),
            oidc_client_id: self.oidc_client_id.or(other.oidc_client_id),
            oidc_username_claim: self.oidc_username_claim.or(other.oidc_username_claim),
            oidc_username_prefix: self.oidc_username_prefix.or(other.oidc_username_prefix),
            oidc_groups_claim: self.oidc_groups_claim.or(other.oidc_groups_claim),
            oidc_groups_prefix: self.oidc_groups_prefix.or(other.oidc_groups_prefix),
            oidc_ca_file: self.oidc_ca_file.or(other.oidc_ca_file),
            authentication_config: self.authentication_config.or(other.authentication_config),
            authentication_token_webhook_config_file: self
                .authentication_token_webhook_config_file
                .or(other.authentication_token_webhook_config_file),
            max_pods: self.max_pods.or(other.max_pods),
            pod_pids_limit: self.pod_pids_limit.or(other.pod_pids_limit),
            allowed_unsafe_sysctls: self.allowed_unsafe_sysctls.or(other.allowed_unsafe_sysctls),
            container_log_max_size: self.container_log_max_size.or(other.container_log_max_size),
            container_log_max_files: self.container_log_max_files.or(other.container_log_max_files),
            eviction_hard: self.eviction_hard.or(other.eviction_hard),
            eviction_pressure_transition_period: self
                .eviction_pressure_transition_period
                .or(other.eviction_pressure_transition_period),
            static_pod_path: self.static_pod_path.or(other.static_pod_path),
            shutdown_grace_period: self.shutdown_grace_period.or(other.shutdown_grace_period),
            shutdown_grace_period_critical_pods: self
                .shutdown_grace_period_critical_pods
                .or(other.shutdown_grace_period_critical_pods),
            server: self.server.or(other.server),
            join: self.join.or(other.join),
            witness: self.witness || other.witness,
            token_file: self.token_file.or(other.token_file),
            insecure_registry: either(self.insecure_registry, other.insecure_registry),
            registry_config: self.registry_config.or(other.registry_config),
            registry_timeout: self.registry_timeout.or(other.registry_timeout),
            image_gc_high_threshold: self.image_gc_high_threshold.or(other.image_gc_high_threshold),
            image_gc_low_threshold: self.image_gc_low_threshold.or(other.image_gc_low_threshold),
            image_minimum_gc_age: self.image_minimum_gc_age.or(other.image_minimum_gc_age),
            image_gc_period: self.image_gc_period.or(other.image_gc_period),
        }
    }

    /// The complete configuration these settings ask for.
    ///
    /// # Errors
    /// When two settings contradict each other; the text says which and what to do.
    pub fn into_config(self, data_dir: PathBuf) -> anyhow::Result<Config> {
        let mut config = Config::new(data_dir);
        config.safety = self.safety()?;
        config.authentication = self.authentication();
        config.authorization = self.authorization();
        self.limit(&mut config)?;
        self.images(&mut config);
        self.pace(&mut config)?;
        if let Some(listen) = self.listen {
            config.listen = listen;
        }
        if let Some(cidr) = self.pod_cidr {
            config.pod_cidr = cidr;
        }
        if let Some(cidr) = self.service_cidr {
            config.service_cidr = cidr;
        }
        config.load_balancer_pools = self.load_balancer_pool;
        if let Some(bits) = self.node_cidr_mask_size {
            config.node_cidr_mask_size = bits;
        }
        if let Some(bits) = self.node_cidr_mask_size_ipv6 {
            config.node_cidr_mask_size_ipv6 = bits;
        }
        if let Some(who) = self.service_proxy {
            config.service_proxy = who;
        }
        if let Some(how) = self.pod_routing {
            config.pod_routing = how;
        }
        if let Some(name) = self.node_name {
            config.node_name = name;
        }
        config.node_ip = self.node_ip;
        config.advertise_address = self.advertise_address;
        config.tls_sans = self.tls_san;
        config.cluster_dns = self.cluster_dns;
        if let Some(domain) = self.cluster_domain {
            config.cluster_domain = domain;
        }
        if let Some(seconds) = self.compaction_interval {
            config.compaction_interval = std::time::Duration::from_secs(seconds.max(1));
        }
        if let Some(seconds) = self.node_monitor_grace_period {
            config.node_monitor_grace_period = std::time::Duration::from_secs(seconds);
        }
        if let Some(bytes) = self.quota_bytes {
            config.quota_bytes = bytes;
        }
        if let Some(seconds) = self.shutdown_delay_duration {
            config.shutdown_delay = std::time::Duration::from_secs(seconds);
        }
        if let Some(count) = self.max_requests_inflight {
            config.inflight.reading = count.into();
        }
        if let Some(count) = self.max_mutating_requests_inflight {
            config.inflight.mutating = count.into();
        }
        if let Some(pods) = self.max_pods {
            config.max_pods = pods;
        }
        if let Some(seconds) = self.default_not_ready_toleration_seconds {
            config.not_ready_toleration_seconds = seconds;
        }
        if let Some(seconds) = self.default_unreachable_toleration_seconds {
            config.unreachable_toleration_seconds = seconds;
        }
        if let Some(seconds) = self.crash_back_off {
            config.crash_back_off = std::time::Duration::from_secs(seconds);
        }
        config.server = self.server;
        config.join = self.join;
        config.witness = self.witness;
        config.token_file = self.token_file;
        if let Err(why) = config.check() {
            bail!(why);
        }
        Ok(config)
    }

    /// How fast lost nodes are emptied.
    fn pace(&self, config: &mut Config) -> anyhow::Result<()> {
        let pace = &mut config.eviction_pace;
        let fields = [
            ("node-eviction-rate", self.node_eviction_rate, &mut pace.rate),
            (
                "secondary-node-eviction-rate",
                self.secondary_node_eviction_rate,
                &mut pace.secondary_rate,
            ),
            (
                "unhealthy-zone-threshold",
                self.unhealthy_zone_threshold,
                &mut pace.unhealthy_share,
            ),
        ];
        for (flag, given, field) in fields {
            let Some(given) = given else { continue };
            if !given.is_finite() || given < 0.0 {
                bail!("--{flag} {given} is no number of 0 or more");
            }
            *field = given;
        }
        if pace.unhealthy_share > 1.0 {
            bail!("--unhealthy-zone-threshold is a share of the nodes, between 0 and 1");
        }
        pace.small_zone_max = self.large_cluster_size_threshold.unwrap_or(pace.small_zone_max);
        Ok(())
    }

    /// Where images come from and how long they stay.
    fn images(&self, config: &mut Config) {
        let (images, seconds) = (&mut config.images, std::time::Duration::from_secs);
        images.insecure_registries.clone_from(&self.insecure_registry);
        images.registry_config.clone_from(&self.registry_config);
        if let Some(silence) = self.registry_timeout {
            images.registry_silence = seconds(silence.max(1));
        }
        if let Some(percent) = self.image_gc_high_threshold {
            images.gc_high_percent = percent;
        }
        if let Some(percent) = self.image_gc_low_threshold {
            images.gc_low_percent = percent;
        }
        if let Some(age) = self.image_minimum_gc_age {
            images.gc_age_min = seconds(age);
        }
        if let Some(period) = self.image_gc_period {
            images.gc_period = seconds(period.max(1));
        }
    }

    /// What pods may use of the machine, and when they have to go.
    fn limit(&self, config: &mut Config) -> anyhow::Result<()> {
        let limits = &mut config.limits;
        if let Some(pids) = self.pod_pids_limit {
            limits.pod_pids = pids;
        }
        if let Some(names) = &self.allowed_unsafe_sysctls {
            limits.sysctls = names.split(',').map(|name| name.trim().to_owned()).collect();
        }
        if let Some(text) = &self.container_log_max_size {
            let size = text.parse::<api::quantity::Quantity>();
            let size = size.with_context(|| format!("--container-log-max-size {text}"))?;
            limits.log_bytes = u64::try_from(size.value()).unwrap_or(0);
        }
        if let Some(files) = self.container_log_max_files {
            limits.log_files = files;
        }
        if let Some(text) = &self.eviction_hard {
            let thresholds = text.parse();
            limits.eviction_hard = thresholds.with_context(|| format!("--eviction-hard {text}"))?;
        }
        if let Some(seconds) = self.eviction_pressure_transition_period {
            limits.pressure_lasts = std::time::Duration::from_secs(seconds);
        }
        config.static_pod_path.clone_from(&self.static_pod_path);
        let seconds = |seconds: Option<u64>| std::time::Duration::from_secs(seconds.unwrap_or(0));
        config.shutdown = agent::ShutdownGrace {
            total: seconds(self.shutdown_grace_period),
            critical: seconds(self.shutdown_grace_period_critical_pods),
        };
        Ok(())
    }
}

/// The first list, unless it says nothing.
fn either<T>(first: Vec<T>, second: Vec<T>) -> Vec<T> {
    if first.is_empty() { second } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(yaml: &str) -> anyhow::Result<Settings> {
        Ok(serde_saphyr::from_str(yaml)?)
    }

    #[test]
    fn file_keys_are_flag_names() {
        let settings = parse("pod-cidr: 10.80.0.0/16\nnode-cidr-mask-size: 24\nlisten: 7443\n").unwrap();
        assert_eq!(settings.pod_cidr.unwrap().to_string(), "10.80.0.0/16");
        assert_eq!(settings.node_cidr_mask_size, Some(24));
        assert_eq!(settings.listen.unwrap().port, 7443);
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let error = format!("{:#}", parse("pod-cdir: 10.80.0.0/16\n").unwrap_err());
        assert!(error.contains("pod-cdir"), "{error}");
    }

    #[test]
    fn limits_are_checked() {
        let with = |yaml: &str| parse(yaml).unwrap().into_config("/x".into());
        let config = with("container-log-max-size: 1Mi\neviction-hard: nodefs.available<20%\n").unwrap();
        assert_eq!(config.limits.log_bytes, 1 << 20);
        assert_eq!(config.limits.eviction_hard.to_string(), "nodefs.available<20%");
        let error = |yaml| format!("{:#}", with(yaml).unwrap_err());
        assert!(error("container-log-max-size: much\n").contains("--container-log-max-size much"));
        assert!(error("container-log-max-files: 1\n").contains("--container-log-max-files 1"));
        assert!(error("eviction-hard: memory.free<1Gi\n").contains("memory.free"));
    }

    #[test]
    fn flags_win_over_the_file() {
        let flags = Settings {
            node_name: Some("flag".into()),
            ..Settings::default()
        };
        let file = Settings {
            node_name: Some("file".into()),
            cluster_domain: Some("edge.local".into()),
            ..Settings::default()
        };
        let merged = flags.or(file);
        assert_eq!(merged.node_name.as_deref(), Some("flag"));
        assert_eq!(merged.cluster_domain.as_deref(), Some("edge.local"));
    }
}
