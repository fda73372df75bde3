//! StorageObjectInUseProtection: volumes and claims stay while somebody uses them; and
//! PersistentVolumeClaimResize: which claims may grow.

use api::object;
use api::quantity::Quantity;
use api::status::Status;
use api::value;
use serde_json::Value;

use super::plugin::{Operation, Plugin, Review, World};

/// Kinds that stay while they are used, and what holds them; controllers take it away.
const PROTECTED: [(&str, &str, &str); 3] = [
    ("", "persistentvolumes", "kubernetes.io/pv-protection"),
    ("", "persistentvolumeclaims", "kubernetes.io/pvc-protection"),
    (
        "storage.k8s.io",
        "volumeattributesclasses",
        "kubernetes.io/vac-protection",
    ),
];

/// Adds the finalizers.
pub struct StorageObjectInUseProtection;
/// Refuses what cannot grow.
pub struct PersistentVolumeClaimResize;

impl Plugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn admit(&self, review: &mut Review<'_>, _: &dyn World) -> Result<(), Status> {
        if review.operation != Operation::Create {
            return Ok(());
        }
        let found = PROTECTED
            .iter()
            .find(|(group, plural, _)| review.is(group, plural));
        if let (Some((_, _, finalizer)), Some(object)) = (found, review.object.as_deref_mut()) {
            object::add_finalizer(object, finalizer);
        }
        Ok(())
    }
}

impl Plugin for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn validate(&self, review: &Review<'_>, world: &dyn World) -> Result<(), Status> {
        let concerns = review.is("", "persistentvolumeclaims") && review.operation == Operation::Update;
        let (Some(new), Some(old), true) = (review.object.as_deref(), review.old, concerns) else {
            return Ok(());
        };
        if size(new) <= size(old) {
            return Ok(());
        }
        if value::text(old, "status.phase") != "Bound" {
            return Err(review.forbid("Only bound persistent volume claims can be expanded"));
        }
        if may_grow(new, old, world) {
            return Ok(());
        }
        Err(review.forbid(
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must \
             support resize",
        ))
    }
}

fn size(claim: &Value) -> Quantity {
    Quantity::from_json(value::get(claim, "spec.resources.requests.storage")).unwrap_or_default()
}

fn may_grow(new: &Value, old: &Value, world: &dyn World) -> bool {
    let class = class_of(new);
    if class.is_empty() || class != class_of(old) {
        return false;
    }
    let found = world.find("storage.k8s.io", "storageclasses", "", class);
    found.is_some_and(|class| value::flag(&class, "allowVolumeExpansion"))
}

/// The storage class that a claim names; empty for none.
pub fn class_of(claim: &Value) -> &str {
    let old = object::annotation(claim, "volume.beta.kubernetes.io/storage-class");
    old.unwrap_or_else(|| value::text(claim, "spec.storageClassName"))
}

#[cfg(test)]
mod tests {
    use api::request::User;
    use serde_json::json;

    use super::super::testing::{Fixed, creation};
    use super::*;

    fn claim(size: &str, phase: &str) -> Value {
        json!({"metadata": {"name": "c"}, "status": {"phase": phase},
            "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": size}}}})
    }

    fn grow(new: &str, phase: &str, expands: bool) -> Result<(), String> {
        let class = json!({"metadata": {"name": "fast"}, "allowVolumeExpansion": expands});
        let world = Fixed::new(vec![("storage.k8s.io", "storageclasses", class)]);
        let (user, old, mut new) = (User::default(), claim("1Gi", phase), claim(new, phase));
        let mut review = creation("", "persistentvolumeclaims", &user, &mut new);
        (review.operation, review.old) = (Operation::Update, Some(&old));
        PersistentVolumeClaimResize
            .validate(&review, &world)
            .map_err(|s| s.message)
    }

    #[test]
    fn claims_grow_when_they_are_bound_and_their_class_allows_it() {
        grow("2Gi", "Bound", true).unwrap();
        grow("1024Mi", "Pending", false).unwrap();
        assert_eq!(
            grow("2Gi", "Pending", true).unwrap_err(),
            "persistentvolumeclaims \"c\" is forbidden: Only bound persistent volume claims can be expanded"
        );
        assert!(
            grow("2Gi", "Bound", false)
                .unwrap_err()
                .ends_with("must support resize")
        );
    }

    #[test]
    fn what_is_made_is_held_once() {
        let user = User::default();
        for (group, plural, finalizer) in PROTECTED {
            let mut made = json!({"metadata": {"name": "v"}});
            for _ in 0..2 {
                let mut review = creation(group, plural, &user, &mut made);
                StorageObjectInUseProtection
                    .admit(&mut review, &Fixed::new(Vec::new()))
                    .unwrap();
            }
            assert_eq!(made["metadata"]["finalizers"], json!([finalizer]));
        }
    }
}
