//! The one table of kinds. A kind is a file in this folder and a line in `TABLE`.

pub mod cells;
pub mod metadata;

mod addresses;
mod admission;
mod api_service;
mod binding;
mod cluster_role;
mod cluster_role_binding;
mod component_status;
mod config_map;
mod controller_revision;
mod cron_job;
mod csi_driver;
mod csi_node;
mod csi_storage_capacity;
mod csr;
mod custom_resource_definition;
mod daemon_set;
mod deployment;
mod devices;
mod early;
mod endpoint_slice;
mod endpoints;
mod event;
mod event_rules;
mod event_v1;
mod flowcontrol;
#[cfg(test)]
pub(crate) mod golden;
mod horizontal_pod_autoscaler;
mod horizontal_pod_autoscaler_v1;
mod ingress;
mod ingress_class;
mod job;
mod lease;
mod limit_range;
mod namespace;
mod network_policy;
mod node;
mod parts;
mod persistent_volume;
mod persistent_volume_claim;
mod pod;
mod pod_disruption_budget;
mod pod_template;
mod priority_class;
mod rbac;
mod replica_set;
mod replication_controller;
mod resource_quota;
mod reviews;
mod role;
mod role_binding;
mod runtime_class;
mod secret;
mod service;
mod service_account;
mod stateful_set;
mod storage_class;
mod volume_attachment;
mod volume_attributes_class;
pub(crate) mod warnings;
mod workload;

use crate::kind::Kind;

/// Every kind with a path of its own, in discovery's order of groups.
static TABLE: &[&Kind] = &[
    &binding::KIND,
    &component_status::KIND,
    &config_map::KIND,
    &endpoints::KIND,
    &event::KIND,
    &limit_range::KIND,
    &namespace::KIND,
    &node::KIND,
    &persistent_volume_claim::KIND,
    &persistent_volume::KIND,
    &pod::KIND,
    &pod_template::KIND,
    &replication_controller::KIND,
    &resource_quota::KIND,
    &secret::KIND,
    &service_account::KIND,
    &service::KIND,
    &api_service::KIND,
    &controller_revision::KIND,
    &daemon_set::KIND,
    &deployment::KIND,
    &replica_set::KIND,
    &stateful_set::KIND,
    &event_v1::KIND,
    &reviews::SELF_SUBJECT_REVIEW,
    &reviews::TOKEN_REVIEW,
    &reviews::LOCAL_SUBJECT_ACCESS_REVIEW,
    &reviews::SELF_SUBJECT_ACCESS_REVIEW,
    &reviews::SELF_SUBJECT_RULES_REVIEW,
    &reviews::SUBJECT_ACCESS_REVIEW,
    &horizontal_pod_autoscaler::KIND,
    &horizontal_pod_autoscaler_v1::KIND,
    &cron_job::KIND,
    &job::KIND,
    &csr::KIND,
    &ingress_class::KIND,
    &ingress::KIND,
    &addresses::IP_ADDRESS,
    &network_policy::KIND,
    &addresses::SERVICE_CIDR,
    &pod_disruption_budget::KIND,
    &cluster_role_binding::KIND,
    &cluster_role::KIND,
    &role_binding::KIND,
    &role::KIND,
    &csi_driver::KIND,
    &csi_node::KIND,
    &csi_storage_capacity::KIND,
    &storage_class::KIND,
    &volume_attachment::KIND,
    &volume_attributes_class::KIND,
    &admission::policies::MUTATING,
    &admission::bindings::MUTATING,
    &admission::webhooks::MUTATING,
    &admission::policies::VALIDATING,
    &admission::bindings::VALIDATING,
    &admission::webhooks::VALIDATING,
    &custom_resource_definition::KIND,
    &priority_class::KIND,
    &lease::KIND,
    &runtime_class::KIND,
    &endpoint_slice::KIND,
    &devices::classes::KIND,
    &devices::claims::CLAIM,
    &devices::claims::TEMPLATE,
    &devices::slices::KIND,
    &flowcontrol::schemas::KIND,
    &flowcontrol::levels::KIND,
];

/// Kinds that only subresources carry.
static PARTS: &[&Kind] = &[
    &parts::SCALE,
    &parts::EVICTION,
    &parts::TOKEN_REQUEST,
    &parts::POD_EXEC_OPTIONS,
    &parts::POD_ATTACH_OPTIONS,
    &parts::POD_PORT_FORWARD_OPTIONS,
    &parts::POD_PROXY_OPTIONS,
    &parts::NODE_PROXY_OPTIONS,
    &parts::SERVICE_PROXY_OPTIONS,
];

/// Every kind with a path of its own.
pub fn all() -> &'static [&'static Kind] {
    TABLE
}

/// Earlier versions of some of them, which are off unless a server is told otherwise.
pub fn early() -> &'static [&'static Kind] {
    early::TABLE
}

/// The kind with that path.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    TABLE
        .iter()
        .copied()
        .find(|k| k.plural == plural && k.group == group && k.version == version)
}

/// The kind of that name, kinds that only subresources carry included.
pub fn find_kind(group: &str, version: &str, kind: &str) -> Option<&'static Kind> {
    TABLE
        .iter()
        .chain(PARTS)
        .copied()
        .find(|k| k.kind == kind && k.group == group && k.version == version)
}

/// The kind of an object, by its `apiVersion` and `kind`.
pub fn of(object: &serde_json::Value) -> Option<&'static Kind> {
    let (group, version) = crate::object::split_api_version(crate::value::text(object, "apiVersion"));
    find_kind(group, version, crate::value::text(object, "kind"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_path_and_by_name() {
        for kind in all() {
            assert!(std::ptr::eq(
                find(kind.group, kind.version, kind.plural).unwrap(),
                *kind
            ));
            assert!(std::ptr::eq(
                find_kind(kind.group, kind.version, kind.kind).unwrap(),
                *kind
            ));
            assert_eq!(kind.singular, kind.kind.to_lowercase(), "{kind:?}");
        }
        assert!(find_kind("autoscaling", "v1", "Scale").is_some());
        assert!(find("", "v1", "nothings").is_none());
    }

    #[test]
    fn kinds_of_subresources_are_known() {
        for kind in all() {
            for sub in kind.subresources {
                let (group, version) = if sub.version.is_empty() {
                    (kind.group, kind.version)
                } else {
                    (sub.group, sub.version)
                };
                assert!(
                    find_kind(group, version, sub.kind).is_some(),
                    "{kind:?} {}",
                    sub.name
                );
            }
        }
    }

    #[test]
    fn rows_have_a_cell_for_each_column_even_for_an_empty_object() {
        let empty = serde_json::json!({});
        for kind in all() {
            let cells = (kind.row)(&empty, jiff::Timestamp::UNIX_EPOCH);
            assert_eq!(cells.len(), kind.columns.len(), "{kind:?}");
        }
    }

    #[test]
    fn columns_are_those_that_kubernetes_prints() {
        let column = |column: &crate::kind::Column| {
            let named = if column.format == "name" { "=" } else { "" };
            let wide = if column.priority > 0 { "+" } else { "" };
            format!("{}/{}{named}{wide}", column.name, column.cell.name())
        };
        let written = include_str!("golden/columns.txt").lines();
        let mut known = 0;
        for line in written.filter(|line| !line.starts_with('#')) {
            let (path, columns) = line.split_once(' ').unwrap();
            let (place, plural) = path.rsplit_once('/').unwrap();
            let place = place
                .strip_prefix("/apis/")
                .or(place.strip_prefix("/api/"))
                .unwrap();
            let (group, version) = crate::object::split_api_version(place);
            let kind = find(group, version, plural).unwrap_or_else(|| panic!("{path}"));
            let ours: Vec<String> = kind.columns.iter().map(column).collect();
            assert_eq!(ours.join(","), columns, "{path}");
            known += 1;
        }
        let listed = all().iter().filter(|kind| kind.has_verb("list")).count();
        assert_eq!(known, listed);
    }

    #[test]
    fn fields_come_in_the_order_of_their_names() {
        for kind in all() {
            let labels: Vec<&str> = (kind.fields)(&serde_json::json!({}))
                .into_iter()
                .map(|(k, _)| k)
                .collect();
            let kept: Vec<&str> = kind
                .field_names
                .iter()
                .map(|name| kind.field_label(name).unwrap())
                .collect();
            assert_eq!(labels, kept, "{kind:?}");
        }
    }
}
