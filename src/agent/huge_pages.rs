//! Huge pages: the names of their resources, and which of them a volume is made of. Pure.

use std::collections::{BTreeMap, BTreeSet};

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};

use crate::eviction::signals::binary;
use crate::pods::spec;

/// Before a page's size, in resources' names.
const RESOURCE: &str = "hugepages-";
/// A volume's medium: huge pages of whatever size its pod asks for.
const MEDIUM: &str = "HugePages";

/// The resource of pages of so many bytes: `hugepages-2Mi`.
pub fn resource(page: u64) -> String {
    format!("{RESOURCE}{}", binary(page))
}

/// The bytes of a page of that resource.
fn page_of(resource: &str) -> Option<u64> {
    bytes(resource.strip_prefix(RESOURCE)?)
}

fn bytes(text: &str) -> Option<u64> {
    let quantity: Quantity = text.parse().ok()?;
    u64::try_from(quantity.value()).ok().filter(|bytes| *bytes > 0)
}

/// Most bytes in pages of each size that a container may use.
pub fn limits(resources: Option<&ResourceRequirements>) -> BTreeMap<u64, u64> {
    let limits = resources.and_then(|r| r.limits.as_ref());
    let found = limits
        .into_iter()
        .flatten()
        .filter_map(|(name, amount)| Some((page_of(name)?, bytes(&amount.0).unwrap_or(0))));
    found.collect()
}

/// The size of the pages that a volume of that medium is made of; `None`: it is another medium.
///
/// # Errors
/// When no container of the pod asks for such pages, or for pages of several sizes; in the kubelet's words.
pub fn of_medium(medium: &str, pod: &Pod) -> Option<Result<u64, String>> {
    let rest = medium.strip_prefix(MEDIUM)?;
    let asked: BTreeSet<u64> = spec::containers(pod)
        .flat_map(|(_, container)| limits(container.resources.as_ref()).into_keys())
        .collect();
    let missing = || {
        format!(
            "medium {medium}: hugePages storage requested, but there is no resource request for huge pages"
        )
    };
    let several = || format!("medium: {medium} can't be used if container requests multiple huge page sizes");
    match (rest.strip_prefix('-'), asked.first()) {
        (Some(size), _) => match bytes(size) {
            Some(page) => Some(asked.contains(&page).then_some(page).ok_or_else(missing)),
            None => Some(Err(format!("medium {medium}: {size:?} is no size of huge pages"))),
        },
        // `HugePagesX` is nothing that there is.
        (None, _) if !rest.is_empty() => None,
        (None, None) => Some(Err(missing())),
        (None, Some(_)) if asked.len() > 1 => Some(Err(several())),
        (None, Some(page)) => Some(Ok(*page)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(limits: &[serde_json::Value]) -> Pod {
        let containers: Vec<_> = limits
            .iter()
            .map(|limits| json!({"name": "c", "resources": {"limits": limits}}))
            .collect();
        serde_json::from_value(json!({"spec": {"containers": containers}})).unwrap()
    }

    #[test]
    fn resources_are_named_by_the_size_of_a_page() {
        assert_eq!(
            [2 << 20, 1 << 30, 64 << 10].map(resource),
            ["hugepages-2Mi", "hugepages-1Gi", "hugepages-64Ki"]
        );
        let pod = pod(&[json!({"memory": "1Gi", "hugepages-2Mi": "4Mi", "hugepages-1Gi": "0"})]);
        let limits = limits(spec::spec(&pod).containers[0].resources.as_ref());
        assert_eq!(limits, [(2 << 20, 4 << 20), (1 << 30, 0)].into());
    }

    #[test]
    fn a_volume_is_of_pages_that_its_pod_asks_for() {
        let small = json!({"hugepages-2Mi": "4Mi"});
        let large = json!({"hugepages-1Gi": "1Gi"});
        let one = pod(std::slice::from_ref(&small));
        assert_eq!(of_medium("HugePages", &one), Some(Ok(2 << 20)));
        assert_eq!(of_medium("HugePages-2Mi", &one), Some(Ok(2 << 20)));
        assert_eq!((of_medium("Memory", &one), of_medium("", &one)), (None, None));
        let why = of_medium("HugePages-1Gi", &one).unwrap().unwrap_err();
        assert!(
            why.contains("there is no resource request for huge pages"),
            "{why}"
        );
        assert!(of_medium("HugePages", &pod(&[])).unwrap().is_err());
        let both = pod(&[small, large]);
        let why = of_medium("HugePages", &both).unwrap().unwrap_err();
        assert!(why.contains("multiple huge page sizes"), "{why}");
        assert_eq!(of_medium("HugePages-1Gi", &both), Some(Ok(1 << 30)));
    }
}
