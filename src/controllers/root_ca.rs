//! `kube-root-ca.crt`: the certificate by which every pod knows the API server.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::sync::watch;

use crate::Reconciler;
use crate::plan::{Key, Plan, Write};
use crate::view::{View, is_going};

const NAME: &str = "kube-root-ca.crt";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using \
    internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is \
    guaranteed across distributions of Kubernetes clusters.";

/// Keeps a ConfigMap with the serving CA in every namespace; keyed by namespace.
pub struct RootCa {
    /// The CA's certificate in PEM; several while one takes another's place.
    pub certificate: watch::Receiver<String>,
}

impl Reconciler for RootCa {
    const NAME: &'static str = "root-ca-certificate-publisher";
    const QUEUE: &'static str = "root_ca_cert_publisher";

    fn reconcile(&self, key: &Key, view: &View, _now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        if view
            .namespaces
            .get("", &key.name)
            .is_none_or(|namespace| is_going(namespace.as_ref()))
        {
            return plan;
        }
        let data = BTreeMap::from([("ca.crt".to_owned(), self.certificate.borrow().clone())]);
        match view.root_cas.get(&key.name, NAME) {
            Some(map) if map.data.as_ref() == Some(&data) => {}
            Some(map) => {
                let mut new = (*map).clone();
                new.data = Some(data);
                plan.write(Write::update(&new));
            }
            None => plan.write(Write::create(&ConfigMap {
                metadata: ObjectMeta {
                    name: Some(NAME.to_owned()),
                    namespace: Some(key.name.clone()),
                    annotations: Some(BTreeMap::from([(
                        "kubernetes.io/description".to_owned(),
                        DESCRIPTION.to_owned(),
                    )])),
                    ..ObjectMeta::default()
                },
                data: Some(data),
                ..ConfigMap::default()
            })),
        }
        plan
    }
}
