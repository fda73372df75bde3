//! How many objects there are, counted when somebody asks.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use store::Store;

use crate::served::ServedKinds;
use crate::stored;

#[derive(Clone, Debug, EncodeLabelSet)]
struct Resource {
    group: &'static str,
    resource: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet)]
struct Short {
    resource: String,
}

#[derive(Clone, Debug, EncodeLabelSet)]
struct Cluster {
    storage_cluster_id: &'static str,
}

/// Counts what a store holds of the kinds that are served.
pub struct Objects {
    /// Where they are.
    pub store: Store,
    /// Of which kinds.
    pub kinds: Arc<ServedKinds>,
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Objects")
    }
}

impl Objects {
    /// Number and bytes of the objects of each resource, by group and plural.
    fn counted(&self) -> BTreeMap<(&'static str, &'static str), (u64, u64)> {
        let mut counted = BTreeMap::new();
        // Kinds in several versions, or forms, are kept as one; what cannot be removed is not kept at all.
        for kind in self.kinds.all().iter().filter(|kind| kind.has_verb("delete")) {
            let (group, _) = kind.stored_as();
            let count = || self.store.count(&stored::prefix(group, kind.plural, ""));
            counted.entry((group, kind.plural)).or_insert_with(count);
        }
        counted
    }
}

impl Collector for Objects {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counted = self.counted();
        let long = |value: fn(&(u64, u64)) -> u64| {
            let each = counted.iter();
            each.map(move |((group, resource), found)| (Resource { group, resource }, value(found)))
        };
        let short = |group: &str, resource: &str| Short {
            resource: match group {
                "" => resource.to_owned(),
                group => format!("{resource}.{group}"),
            },
        };
        gauges(
            &mut encoder,
            "apiserver_resource_objects",
            "Number of stored objects at the time of last check split by kind",
            long(|found| found.0),
        )?;
        gauges(
            &mut encoder,
            "apiserver_storage_objects",
            "[DEPRECATED, consider using apiserver_resource_objects instead] Number of stored objects at the \
             time of last check split by kind",
            counted
                .iter()
                .map(|((group, resource), found)| (short(group, resource), found.0)),
        )?;
        gauges(
            &mut encoder,
            "apiserver_resource_size_estimate_bytes",
            "Estimated size of stored objects in database",
            long(|found| found.1),
        )?;
        let cluster = Cluster {
            storage_cluster_id: "etcd-0",
        };
        gauges(
            &mut encoder,
            "apiserver_storage_size_bytes",
            "Size of the storage database file physically allocated in bytes",
            [(cluster, self.store.size_bytes())],
        )
    }
}

fn gauges<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (L, u64)>,
) -> Result<(), std::fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
