//! A VolumeAttributesClass stays as long as a claim or a volume has it, or is to have it.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use crate::Reconciler;
use crate::finalizers::with_finalizer;
use crate::plan::{Key, Plan, Write};
use crate::view::{View, is_going};

/// What keeps a class.
const FINALIZER: &str = "kubernetes.io/vac-protection";

/// Marks every class, and takes the mark from those that are deleted once nobody has them; keyed by class.
pub(super) struct UsedClasses;

impl Reconciler for UsedClasses {
    const NAME: &'static str = "volumeattributesclass-protection-controller";

    fn reconcile(&self, key: &Key, view: &View, _now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let Some(class) = view.attributes_classes.get("", &key.name) else {
            return plan;
        };
        let going = is_going(class.as_ref());
        if going && is_used(&key.name, view) {
            return plan;
        }
        if let Some(new) = with_finalizer(class.as_ref(), FINALIZER, !going) {
            plan.write(Write::update(&new));
        }
        plan
    }
}

fn is_used(class: &str, view: &View) -> bool {
    let claims = view.claims.list();
    let volumes = view.volumes.list();
    claims
        .iter()
        .any(|claim| of_claim(claim).any(|used| used == class))
        || volumes.iter().any(|volume| of_volume(volume) == Some(class))
}

/// The classes that a claim has, wants, or is being changed to.
fn of_claim(claim: &PersistentVolumeClaim) -> impl Iterator<Item = &str> {
    let status = claim.status.as_ref();
    let wanted = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_attributes_class_name.as_deref());
    let current = status.and_then(|status| status.current_volume_attributes_class_name.as_deref());
    let modified = status
        .and_then(|status| status.modify_volume_status.as_ref())
        .and_then(|modified| modified.target_volume_attributes_class_name.as_deref());
    [wanted, current, modified].into_iter().flatten()
}

fn of_volume(volume: &PersistentVolume) -> Option<&str> {
    volume.spec.as_ref()?.volume_attributes_class_name.as_deref()
}

/// The deleted classes, which a claim or volume that changed may have let go of.
pub(super) fn going_classes<T>(_: &T, view: &View) -> Vec<Key> {
    let classes = view.attributes_classes.list().into_iter();
    let going = classes.filter(|class| is_going(class.as_ref()));
    going.map(|class| Key::of(class.as_ref())).collect()
}

#[cfg(test)]
mod tests {
    use client::Cache;
    use serde_json::{Value, json};

    use super::*;

    fn finalizers(view: &View) -> Option<Value> {
        let plan = UsedClasses.reconcile(&Key::new("", "fast"), view, Timestamp::UNIX_EPOCH);
        match plan.writes.first() {
            Some(Write::Update(_, body)) => Some(body["metadata"]["finalizers"].clone()),
            Some(_) => panic!("no update"),
            None => None,
        }
    }

    fn view(class: Value) -> View {
        View {
            attributes_classes: Cache::fixed([serde_json::from_value(class).unwrap()]),
            ..View::empty()
        }
    }

    #[test]
    fn a_class_stays_while_somebody_has_it() {
        let made = json!({"metadata": {"name": "fast"}, "driverName": "d", "parameters": {"a": "b"}});
        assert_eq!(finalizers(&view(made.clone())), Some(json!([FINALIZER])));
        let mut going = made;
        going["metadata"]["finalizers"] = json!([FINALIZER]);
        assert_eq!(finalizers(&view(going.clone())), None, "it is marked already");
        going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        for (spec, status) in [
            (json!({"volumeAttributesClassName": "fast"}), json!({})),
            (json!({}), json!({"currentVolumeAttributesClassName": "fast"})),
            (
                json!({}),
                json!({"modifyVolumeStatus": {"status": "Pending", "targetVolumeAttributesClassName": "fast"}}),
            ),
        ] {
            let view = view(going.clone());
            let claim = json!({"metadata": {"name": "c", "namespace": "d"}, "spec": spec, "status": status});
            view.claims.apply(serde_json::from_value(claim).unwrap());
            assert_eq!(finalizers(&view), None);
            assert_eq!(going_classes(&(), &view), [Key::new("", "fast")]);
            view.claims.remove("d", "c");
            assert_eq!(finalizers(&view), Some(json!([])));
        }
        let view = view(going);
        let volume = json!({"metadata": {"name": "v"}, "spec": {"volumeAttributesClassName": "fast"}});
        view.volumes.apply(serde_json::from_value(volume).unwrap());
        assert_eq!(finalizers(&view), None);
    }
}
