//! Objects in the versions in which somebody wrote them: who owns a field owns it as it is called there.

use serde_json::Value;

use crate::schema::SchemaRef;

/// An object as a version shows it.
pub enum Form {
    /// As it is, or close enough: its fields have the same names.
    Same,
    /// So, and by this schema.
    Other(Value, SchemaRef),
    /// Not at all: there is no such version any more.
    Gone,
}

/// The versions of a kind.
pub trait Versions: Sync {
    /// An object of one version (`from`, an `apiVersion`) as another shows it.
    fn form(&self, object: &Value, from: &str, to: &str) -> Form;
}

/// A kind whose versions, whatever they are called, show objects alike.
pub struct OneVersion;

impl Versions for OneVersion {
    fn form(&self, _object: &Value, _from: &str, _to: &str) -> Form {
        Form::Same
    }
}

impl std::fmt::Debug for dyn Versions + '_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Versions")
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::apply::{Write, apply, update_managed_fields};
    use crate::schema::Schemas;
    use crate::{kinds, object};

    const V1: &str = "autoscaling/v1";
    const V2: &str = "autoscaling/v2";

    /// The two versions of HorizontalPodAutoscaler, of which v2 is kept.
    struct Scalers;

    impl Versions for Scalers {
        fn form(&self, object: &Value, from: &str, to: &str) -> Form {
            let storage = kinds::find("autoscaling", "v1", "horizontalpodautoscalers")
                .unwrap()
                .storage;
            let mut shown = object.clone();
            match (from, to) {
                (V1, V2) => (storage.unwrap().to_stored)(&mut shown),
                (V2, V1) => (storage.unwrap().to_served)(&mut shown),
                _ => return Form::Gone,
            }
            Form::Other(shown, schema(to))
        }
    }

    fn schema(api_version: &str) -> SchemaRef {
        let (group, version) = object::split_api_version(api_version);
        let schemas = Schemas::builtin();
        schemas
            .for_kind(group, version, "HorizontalPodAutoscaler")
            .unwrap()
    }

    fn write<'a>(manager: &'a str, api_version: &'a str, schema: &'a SchemaRef) -> Write<'a> {
        Write {
            manager,
            api_version,
            subresource: "",
            now: Timestamp::UNIX_EPOCH,
            schema,
            reset: &[],
            versions: &Scalers,
        }
    }

    fn scaler(api_version: &str, spec: Value) -> Value {
        json!({"apiVersion": api_version, "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "a", "namespace": "b", "uid": "u"}, "spec": spec})
    }

    fn metrics(percent: i64) -> Value {
        json!([{"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": percent}}}])
    }

    fn target() -> Value {
        json!({"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"})
    }

    /// An object that `old` made in v1, as v2 shows it.
    fn made_in_v1() -> Value {
        let first = schema(V1);
        let new = scaler(
            V1,
            json!({"maxReplicas": 3, "scaleTargetRef": target(), "targetCPUUtilizationPercentage": 50}),
        );
        let made = update_managed_fields(None, new, &write("old", V1, &first));
        match Scalers.form(&made, V1, V2) {
            Form::Other(shown, _) => shown,
            _ => panic!("v2 shows it"),
        }
    }

    fn owner<'v>(object: &'v Value, manager: &str) -> &'v Value {
        let all = object::get_list(object, &["metadata", "managedFields"]);
        let found = all.iter().find(|entry| entry["manager"] == manager);
        found.map_or(&Value::Null, |entry| &entry["fieldsV1"]["f:spec"])
    }

    #[test]
    fn a_field_is_lost_in_the_version_in_which_it_was_owned() {
        let live = made_in_v1();
        assert!(owner(&live, "old")["f:targetCPUUtilizationPercentage"].is_object());
        let mut new = live.clone();
        new["spec"]["metrics"] = metrics(60);
        let second = schema(V2);
        let new = update_managed_fields(Some(&live), new, &write("new", V2, &second));
        assert!(owner(&new, "old")["f:targetCPUUtilizationPercentage"].is_null());
        assert!(owner(&new, "old")["f:maxReplicas"].is_object());
        assert!(owner(&new, "new")["f:metrics"].is_object());
    }

    #[test]
    fn who_owns_it_in_another_version_is_asked_first() {
        let live = made_in_v1();
        let second = schema(V2);
        let config = json!({"apiVersion": V2, "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "a", "namespace": "b"}, "spec": {"metrics": metrics(60)}});
        let by = write("applier", V2, &second);
        let conflict = apply(Some(&live), config.clone(), &by, false).unwrap_err();
        assert_eq!(
            conflict.message,
            "Apply failed with 1 conflict: conflict with \"old\" using autoscaling/v1: \
             .spec.targetCPUUtilizationPercentage"
        );
        let forced = apply(Some(&live), config, &by, true).unwrap();
        assert!(owner(&forced, "old")["f:targetCPUUtilizationPercentage"].is_null());
    }

    #[test]
    fn versions_that_are_gone_own_nothing() {
        let mut live = made_in_v1();
        live["metadata"]["managedFields"][0]["apiVersion"] = json!("autoscaling/v2beta2");
        let mut new = live.clone();
        new["spec"]["maxReplicas"] = json!(4);
        let second = schema(V2);
        let new = update_managed_fields(Some(&live), new, &write("new", V2, &second));
        assert!(owner(&new, "old").is_null());
        assert!(owner(&new, "new")["f:maxReplicas"].is_object());
    }
}
