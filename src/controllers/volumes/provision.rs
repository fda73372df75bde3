//! Asking for a volume to be made.

use api::storage::{STORAGE_PROVISIONER, STORAGE_PROVISIONER_BETA, note};
use client::EventType;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::json;

use crate::plan::{Plan, Write};

/// Names in the claim who is to make its volume, and says that it is waited for.
pub(super) fn ask(claim: &PersistentVolumeClaim, name: &str, class: Option<&StorageClass>, plan: &mut Plan) {
    let Some(class) = class else {
        let text = format!("storageclass.storage.k8s.io {name:?} not found");
        return plan.tell(claim, EventType::Warning, "ProvisioningFailed", text);
    };
    let provisioner = class.provisioner.as_str();
    if provisioner.starts_with("kubernetes.io/") {
        // Those were part of Kubernetes once; `no-provisioner` never made anything.
        let text = format!("no volume plugin matched name: {provisioner}");
        return plan.tell(claim, EventType::Warning, "ProvisioningFailed", text);
    }
    if note(&claim.metadata, STORAGE_PROVISIONER) != provisioner {
        let notes = json!({STORAGE_PROVISIONER: provisioner, STORAGE_PROVISIONER_BETA: provisioner});
        plan.write(Write::merge(claim, json!({"metadata": {"annotations": notes}})));
    }
    let text = format!(
        "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by \
         the system administrator. If volume creation is delayed, please verify that the provisioner is running \
         and correctly registered."
    );
    plan.tell(claim, EventType::Normal, "ExternalProvisioning", text);
}
