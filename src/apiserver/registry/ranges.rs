//! The ranges that Services get their addresses from: those of the cluster, and of every further ServiceCIDR.

use api::object;
use api::value;
use serde_json::Value;

use super::addresses::ServiceRange;
use super::{Core, text};
use crate::stored;

/// The ranges that addresses are handed out from now, the cluster's own first.
pub(super) fn open(core: &Core) -> Vec<ServiceRange> {
    let inner = &core.inner;
    let prefix = stored::prefix("networking.k8s.io", "servicecidrs", "");
    let (_, entries) = inner.store.peek_prefix(&prefix);
    let live: Vec<Value> = entries
        .iter()
        .filter_map(|entry| text::parse(entry).ok())
        .collect();
    usable(&inner.service_ranges, &live)
}

/// The ranges of those ServiceCIDRs that are ready and stay, in the order of the configured ones and then of names.
/// A cluster that has no ServiceCIDR yet has what was configured.
fn usable(configured: &[ServiceRange], live: &[Value]) -> Vec<ServiceRange> {
    if live.is_empty() {
        return configured.to_vec();
    }
    let stays = |range: &&Value| object::deletion_timestamp(range).is_none() && is_ready(range);
    let cidrs = live
        .iter()
        .filter(stays)
        .flat_map(|range| value::list(range, "spec.cidrs"));
    let mut ranges: Vec<ServiceRange> = Vec::new();
    for range in cidrs.filter_map(|cidr| ServiceRange::parse(cidr.as_str()?)) {
        if !ranges.contains(&range) {
            ranges.push(range);
        }
    }
    let place = |range: &ServiceRange| {
        configured
            .iter()
            .position(|own| own == range)
            .unwrap_or(usize::MAX)
    };
    ranges.sort_by_key(place);
    ranges
}

/// One without the condition has only just been made.
fn is_ready(range: &Value) -> bool {
    let mut conditions = value::list(range, "status.conditions").iter();
    conditions.all(|condition| condition["type"] != "Ready" || condition["status"] == "True")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ranges_are_used_while_they_are_ready_and_stay() {
        let configured = ServiceRange::parse_all("10.43.0.0/16").unwrap();
        let range = |cidr: &str, ready: &str, gone: Value| {
            json!({"metadata": {"deletionTimestamp": gone}, "spec": {"cidrs": [cidr]},
                   "status": {"conditions": [{"type": "Ready", "status": ready}]}})
        };
        let texts = |live: &[Value]| -> Vec<String> {
            usable(&configured, live)
                .iter()
                .map(ToString::to_string)
                .collect()
        };
        assert_eq!(texts(&[]), ["10.43.0.0/16"]);
        let live = [
            range("10.9.0.0/24", "True", Value::Null),
            range("10.8.0.0/24", "False", Value::Null),
            range("10.7.0.0/24", "True", json!("2026-01-02T03:04:05Z")),
            range("10.43.0.0/16", "True", Value::Null),
            json!({"spec": {"cidrs": ["fd00::/112"]}}),
        ];
        assert_eq!(texts(&live), ["10.43.0.0/16", "10.9.0.0/24", "fd00::/112"]);
    }
}
