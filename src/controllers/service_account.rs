//! The ServiceAccount `default` of every namespace.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::Reconciler;
use crate::plan::{Key, Plan, Write};
use crate::view::{View, is_going};

/// Keeps the default account; keyed by namespace.
pub struct DefaultAccount;

impl Reconciler for DefaultAccount {
    const NAME: &'static str = "service-account-controller";
    const QUEUE: &'static str = "serviceaccount";

    fn reconcile(&self, key: &Key, view: &View, _now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let namespace = view.namespaces.get("", &key.name);
        if namespace.is_none_or(|namespace| is_going(namespace.as_ref()))
            || view.service_accounts.get(&key.name, "default").is_some()
        {
            return plan;
        }
        plan.write(Write::create(&ServiceAccount {
            metadata: ObjectMeta {
                name: Some("default".to_owned()),
                namespace: Some(key.name.clone()),
                ..ObjectMeta::default()
            },
            ..ServiceAccount::default()
        }));
        plan
    }
}
