//! What managers own, brought in line with schemas that have changed since: versions that are gone, and lists and maps
//! that have become one piece (structured-merge-diff `ReconcileFieldSetWithSchema`).

use serde_json::Value;

use super::managers::Managers;
use super::typed::{At, Shape, root};
use super::versions::Form;
use super::write::Write;
use crate::fields::{FieldSet, Path};
use crate::schema::{Node, Schema, TypeRef};

/// Forgets who owns fields of a version that is gone, and lets who owns parts of what is now one piece own that.
pub(super) fn managers(managers: &mut Managers, live: &Value, write: &Write<'_>) {
    let own = write.api_version;
    managers.0.retain(|_, owned| {
        owned.api_version == own || !matches!(write.versions.form(live, own, &owned.api_version), Form::Gone)
    });
    // The schemas of built-in kinds do not change while they are used.
    if !matches!(write.schema.root, TypeRef::Own(_)) {
        return;
    }
    for owned in managers.0.values_mut().filter(|owned| owned.api_version == own) {
        if let Some(whole) = collapsed(&owned.set, write.schema) {
            owned.set = whole;
        }
    }
}

/// The set with the paths of atoms in place of those below them; `None` if there are none below any.
fn collapsed(set: &FieldSet, schema: &Schema) -> Option<FieldSet> {
    let node = root(schema);
    let mut out = FieldSet::default();
    let mut any = false;
    for path in set.paths() {
        let atom = atom_above(&path, At::new(&node));
        any |= atom.is_some();
        out.insert(atom.and_then(|length| path.get(..length)).unwrap_or(&path));
    }
    any.then_some(out)
}

/// How many steps lead to an atom that the path goes into, if it goes into one.
fn atom_above(path: &Path, root: At<'_>) -> Option<usize> {
    let mut shape = root.shape();
    for (done, step) in path.iter().enumerate() {
        if done + 1 == path.len() {
            return None;
        }
        let at = shape.step(step);
        let composite = matches!(at.node, Node::Struct(_) | Node::Map(_) | Node::List(_));
        shape = at.shape();
        if composite && matches!(shape, Shape::Leaf) {
            return Some(done + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::custom::tests::kind;

    #[test]
    fn parts_of_what_has_become_one_piece_are_owned_as_one() {
        let items = json!({"type": "object", "properties": {"name": {"type": "string"}}});
        let schema = |map_type: &str| {
            let members = json!({"a": {"type": "string"}});
            kind(
                json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
                "list": {"type": "array", "items": items},
                "map": {"type": "object", "x-kubernetes-map-type": map_type, "properties": members}}}}}),
            )
            .schema()
        };
        let set = FieldSet::from_value(&json!({"f:spec": {"f:map": {"f:a": {}},
            "f:list": {"k:{\"name\":\"x\"}": {".": {}, "f:name": {}}}}}));
        let whole = collapsed(&set, &schema("atomic")).unwrap();
        assert_eq!(whole.to_value(), json!({"f:spec": {"f:map": {}, "f:list": {}}}));
        assert_eq!(collapsed(&whole, &schema("atomic")), None);
        let list = collapsed(&set, &schema("granular")).unwrap();
        assert_eq!(
            list.to_value(),
            json!({"f:spec": {"f:map": {"f:a": {}}, "f:list": {}}})
        );
    }
}
