//! A pod's quality-of-service class.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::spec;

type Amounts = Option<BTreeMap<String, Quantity>>;

/// `Guaranteed`, `Burstable` or `BestEffort`. Quantities are compared as
/// written: the API server stores them in canonical form.
pub fn class(pod: &Pod) -> &'static str {
    if let Some(class) = pod.status.as_ref().and_then(|s| s.qos_class.as_deref()) {
        match class {
            "Guaranteed" => return "Guaranteed",
            "Burstable" => return "Burstable",
            "BestEffort" => return "BestEffort",
            _ => {}
        }
    }
    let resources: Vec<_> = spec::containers(pod)
        .map(|(_, c)| c.resources.clone().unwrap_or_default())
        .collect();
    let any = |amounts: &Amounts| {
        ["cpu", "memory"]
            .iter()
            .any(|name| amount(amounts, name).is_some())
    };
    if !resources.iter().any(|r| any(&r.requests) || any(&r.limits)) {
        return "BestEffort";
    }
    let guaranteed = resources.iter().all(|r| {
        ["cpu", "memory"].iter().all(|name| {
            let limit = amount(&r.limits, name);
            limit.is_some() && (amount(&r.requests, name).is_none() || amount(&r.requests, name) == limit)
        })
    });
    if guaranteed { "Guaranteed" } else { "Burstable" }
}

fn amount<'a>(amounts: &'a Amounts, name: &str) -> Option<&'a str> {
    // A zero is as good as nothing.
    amounts
        .as_ref()?
        .get(name)
        .map(|q| q.0.as_str())
        .filter(|text| *text != "0")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};

    use super::*;

    fn amounts(cpu: &str, memory: &str) -> Amounts {
        let list = [("cpu", cpu), ("memory", memory)]
            .into_iter()
            .filter(|(_, v)| !v.is_empty());
        Some(
            list.map(|(k, v)| (k.to_owned(), Quantity(v.to_owned())))
                .collect(),
        )
    }

    fn pod(requests: Amounts, limits: Amounts) -> Pod {
        let resources = Some(ResourceRequirements {
            requests,
            limits,
            ..ResourceRequirements::default()
        });
        let containers = vec![Container {
            resources,
            ..Container::default()
        }];
        Pod {
            spec: Some(PodSpec {
                containers,
                ..PodSpec::default()
            }),
            ..Pod::default()
        }
    }

    #[test]
    fn classes() {
        assert_eq!(class(&pod(None, None)), "BestEffort");
        assert_eq!(class(&pod(amounts("0", ""), None)), "BestEffort");
        assert_eq!(class(&pod(amounts("1", ""), None)), "Burstable");
        assert_eq!(class(&pod(None, amounts("1", "1Gi"))), "Guaranteed");
        assert_eq!(
            class(&pod(amounts("1", "1Gi"), amounts("1", "1Gi"))),
            "Guaranteed"
        );
        assert_eq!(
            class(&pod(amounts("500m", "1Gi"), amounts("1", "1Gi"))),
            "Burstable"
        );
    }
}
