//! Admission: what is added to objects, and what is refused, beyond a kind's
//! own rules. Plugins decide and never do: they see the request and, through
//! [`World`], what is stored; they change only the object in their hands.

mod certificates;
pub mod configuration;
mod default_class;
pub mod dynamic;
mod lifecycle;
mod limit_ranger;
pub mod metrics;
mod node_restriction;
mod node_taint;
mod node_tokens;
mod plugin;
mod pod_security;
pub mod policies;
mod priority;
pub(crate) mod quota;
mod resize;
mod runtime_class;
mod service_account;
pub(crate) mod storage;
mod tolerations;
mod topology_labels;
pub mod webhooks;

pub use plugin::{Operation, Plugin, Review, World};
pub use pod_security::{Level, PodSecuritySettings, Policy as PodSecurityPolicy, Standard, Version};
pub use tolerations::TolerationSeconds;

/// What plugins are told when the server starts.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// For how long new pods tolerate nodes that are not ready or unreachable.
    pub toleration: TolerationSeconds,
    /// What pods may do where no label says so, and who is exempt.
    pub pod_security: PodSecuritySettings,
}

/// The plugins, in the order in which Kubernetes runs them. ResourceQuota comes after everybody, also after those whom
/// users configured, and commits together with what it counts: see `registry::quota`.
pub fn plugins(settings: &Settings) -> Vec<Box<dyn Plugin>> {
    vec![
        Box::new(lifecycle::NamespaceLifecycle),
        Box::new(limit_ranger::LimitRanger),
        Box::new(service_account::ServiceAccount),
        Box::new(node_restriction::NodeRestriction),
        Box::new(node_taint::TaintNodesByCondition),
        Box::new(pod_security::PodSecurity(settings.pod_security.clone())),
        Box::new(priority::Priority),
        Box::new(tolerations::DefaultTolerationSeconds(settings.toleration)),
        Box::new(default_class::DefaultStorageClass),
        Box::new(storage::StorageObjectInUseProtection),
        Box::new(storage::PersistentVolumeClaimResize),
        Box::new(runtime_class::RuntimeClass),
        Box::new(default_class::DefaultIngressClass),
        Box::new(topology_labels::PodTopologyLabels),
        Box::new(certificates::CertificateApproval),
        Box::new(certificates::CertificateSigning),
        Box::new(certificates::CertificateSubjectRestriction),
        Box::new(resize::NodeDeclaredFeatureValidator),
        Box::new(resize::PodResizeValidator),
    ]
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
