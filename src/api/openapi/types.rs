//! Which Rust type describes which kind: the source of names, types and
//! descriptions in the OpenAPI documents.

use k8s_openapi::Resource;
use k8s_openapi::api as k8s;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions;
use k8s_openapi::apimachinery::pkg::apis::meta;
use k8s_openapi::apimachinery::pkg::version;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration;
use schemars::{JsonSchema, SchemaGenerator};

/// Adds the definitions of the types that every document has.
pub(super) fn add_common(generator: &mut SchemaGenerator) {
    generator.subschema_for::<meta::v1::DeleteOptions>();
    generator.subschema_for::<meta::v1::Status>();
    generator.subschema_for::<meta::v1::ListMeta>();
    generator.subschema_for::<meta::v1::Patch>();
    generator.subschema_for::<meta::v1::APIResourceList>();
    generator.subschema_for::<meta::v1::APIGroup>();
    generator.subschema_for::<meta::v1::APIGroupList>();
    generator.subschema_for::<meta::v1::APIVersions>();
    generator.subschema_for::<meta::v1::WatchEvent<k8s::core::v1::ConfigMap>>();
    generator.subschema_for::<version::Info>();
}

fn is<T: Resource>(group: &str, version: &str, kind: &str) -> bool {
    T::GROUP == group && T::VERSION == version && T::KIND == kind
}

fn name_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> String {
    generator.subschema_for::<T>();
    T::schema_name().into_owned()
}

macro_rules! kinds {
    ($($($module:ident)::+ { $($kind:ident)* })*) => {
        /// Adds the definition of a kind's type with all that it refers to, and returns its name.
        pub(super) fn add(
            generator: &mut SchemaGenerator,
            group: &str,
            version: &str,
            kind: &str,
        ) -> Option<String> {
            $({
                use $($module)::+::{$($kind),*};
                $(
                    if is::<$kind>(group, version, kind) {
                        return Some(name_of::<$kind>(generator));
                    }
                )*
            })*
            None
        }
    };
}

kinds! {
    k8s::core::v1 {
        Binding ComponentStatus ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolume
        PersistentVolumeClaim Pod PodTemplate ReplicationController ResourceQuota Secret Service
        ServiceAccount
    }
    k8s::apps::v1 { ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet }
    k8s::events::v1 { Event }
    k8s::authentication::v1 { SelfSubjectReview TokenRequest TokenReview }
    k8s::authorization::v1 {
        LocalSubjectAccessReview SelfSubjectAccessReview SelfSubjectRulesReview SubjectAccessReview
    }
    k8s::autoscaling::v1 { HorizontalPodAutoscaler Scale }
    k8s::autoscaling::v2 { HorizontalPodAutoscaler }
    k8s::batch::v1 { CronJob Job }
    k8s::certificates::v1 { CertificateSigningRequest }
    k8s::coordination::v1 { Lease }
    k8s::discovery::v1 { EndpointSlice }
    k8s::networking::v1 { IPAddress Ingress IngressClass NetworkPolicy ServiceCIDR }
    k8s::node::v1 { RuntimeClass }
    k8s::policy::v1 { Eviction PodDisruptionBudget }
    k8s::rbac::v1 { ClusterRole ClusterRoleBinding Role RoleBinding }
    k8s::scheduling::v1 { PriorityClass }
    k8s::storage::v1 {
        CSIDriver CSINode CSIStorageCapacity StorageClass VolumeAttachment VolumeAttributesClass
    }
    k8s::admissionregistration::v1 {
        MutatingAdmissionPolicy MutatingAdmissionPolicyBinding MutatingWebhookConfiguration
        ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding ValidatingWebhookConfiguration
    }
    k8s::resource::v1 { DeviceClass ResourceClaim ResourceClaimTemplate ResourceSlice }
    k8s::admissionregistration::v1beta1 { MutatingAdmissionPolicy MutatingAdmissionPolicyBinding }
    k8s::admissionregistration::v1alpha1 { MutatingAdmissionPolicy MutatingAdmissionPolicyBinding }
    k8s::networking::v1beta1 { IPAddress ServiceCIDR }
    k8s::resource::v1beta2 { DeviceClass ResourceClaim ResourceClaimTemplate ResourceSlice }
    k8s::storage::v1beta1 { VolumeAttributesClass }
    k8s::flowcontrol::v1 { FlowSchema PriorityLevelConfiguration }
    apiextensions::v1 { CustomResourceDefinition }
    apiregistration::v1 { APIService }
}
