//! Versions before v1 of kinds that have v1's shape: off, unless a server is told otherwise (`runtime-config`). Objects
//! are kept as v1, and obey its rules.

use serde_json::Value;

use super::{addresses, admission, devices, volume_attributes_class};
use crate::kind::{Kind, Storage};

/// An earlier version of a kind, which differs from v1 in its name alone.
macro_rules! like_v1 {
    ($group:literal, $version:literal, $kind:expr) => {{
        static KIND: Kind = Kind {
            version: $version,
            storage: Some(Storage {
                group: $group,
                version: "v1",
                to_stored: |object| name(object, concat!($group, "/v1")),
                to_served: |object| name(object, concat!($group, "/", $version)),
            }),
            ..$kind
        };
        &KIND
    }};
}

/// All of them; of each group, the version that Kubernetes prefers first.
pub(super) static TABLE: &[&Kind] = &[
    like_v1!("networking.k8s.io", "v1beta1", addresses::IP_ADDRESS),
    like_v1!("networking.k8s.io", "v1beta1", addresses::SERVICE_CIDR),
    like_v1!("storage.k8s.io", "v1beta1", volume_attributes_class::KIND),
    like_v1!(
        "admissionregistration.k8s.io",
        "v1beta1",
        admission::policies::MUTATING
    ),
    like_v1!(
        "admissionregistration.k8s.io",
        "v1beta1",
        admission::bindings::MUTATING
    ),
    like_v1!(
        "admissionregistration.k8s.io",
        "v1alpha1",
        admission::policies::MUTATING
    ),
    like_v1!(
        "admissionregistration.k8s.io",
        "v1alpha1",
        admission::bindings::MUTATING
    ),
    like_v1!("resource.k8s.io", "v1beta2", devices::classes::KIND),
    like_v1!("resource.k8s.io", "v1beta2", devices::claims::CLAIM),
    like_v1!("resource.k8s.io", "v1beta2", devices::claims::TEMPLATE),
    like_v1!("resource.k8s.io", "v1beta2", devices::slices::KIND),
];

fn name(object: &mut Value, api_version: &str) {
    if let Some(object) = object.as_object_mut() {
        object.insert("apiVersion".to_owned(), api_version.into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds;
    use crate::schema::Schemas;

    #[test]
    fn each_has_the_schema_and_the_place_of_its_v1() {
        let schema = |kind: &Kind| Schemas::builtin().for_kind(kind.group, kind.version, kind.kind);
        for kind in TABLE {
            let v1 = kinds::find(kind.group, "v1", kind.plural).expect(kind.plural);
            assert_eq!(kind.stored_as(), (v1.group, "v1"));
            assert_eq!(
                (kind.namespaced, kind.verbs, kind.columns.len()),
                (v1.namespaced, v1.verbs, v1.columns.len())
            );
            let (early, stable) = (schema(kind).expect(kind.plural), schema(v1).unwrap());
            assert_eq!(format!("{:?}", early.root), format!("{:?}", stable.root));
            assert!(
                kinds::find(kind.group, kind.version, kind.plural).is_none(),
                "{kind:?} is off"
            );
        }
    }

    #[test]
    fn only_the_name_of_the_version_changes() {
        let kind = TABLE.iter().find(|kind| kind.plural == "ipaddresses").unwrap();
        let storage = kind.storage.unwrap();
        let served =
            json!({"apiVersion": "networking.k8s.io/v1beta1", "kind": "IPAddress", "spec": {"a": 1}});
        let mut object = served.clone();
        (storage.to_stored)(&mut object);
        assert_eq!(object["apiVersion"], "networking.k8s.io/v1");
        (storage.to_served)(&mut object);
        assert_eq!(object, served);
    }
}
