//! What can be said of a policy's expressions before any request: fields that the kinds it matches, or its parameters,
//! do not have, and operators that do not go with those that they have
//! (`status.typeChecking` of a ValidatingAdmissionPolicy). Pure.

use serde_json::{Map, Value, json};

use crate::cel::{Program, Type};
use crate::kind::KindRef;
use crate::schema::{Node, Scalar, Schema, TypeRef};
use crate::value::{get, list, text};

/// Most kinds that one policy is checked against (apiserver `policy/validating/typechecking.go`).
const KINDS_MAX: usize = 10;
/// Deeper fields are taken as they come: some types contain themselves.
const DEPTH_MAX: usize = 14;
/// The variables that expressions of webhooks and policies may use, each where it has a meaning.
pub const VARIABLES: [&str; 7] = [
    "object",
    "oldObject",
    "request",
    "params",
    "authorizer",
    "namespaceObject",
    "variables",
];

/// `typeChecking` of a policy, when these kinds are served.
pub fn check(policy: &Value, served: &[KindRef]) -> Value {
    let mut kinds: Vec<(String, Value)> = Vec::new();
    for kind in matched(policy, served).take(KINDS_MAX) {
        if let Ok(schema) = kind.schema() {
            let version = kind.api_version();
            kinds.push((format!("{version}, Kind={}", kind.kind), shape(&schema)));
        }
    }
    let params = parameters(policy, served);
    let mut warnings = Vec::new();
    for (place, rule) in list(policy, "spec.validations").iter().enumerate() {
        for part in ["expression", "messageExpression"] {
            if let Some(warning) = warning(text(rule, part), &kinds, params.as_ref()) {
                let path = format!("spec.validations[{place}].{part}");
                warnings.push(json!({"fieldRef": path, "warning": warning}));
            }
        }
    }
    match warnings.is_empty() {
        true => json!({}),
        false => json!({"expressionWarnings": warnings}),
    }
}

/// The kinds that a policy names without a wildcard.
fn matched<'k>(policy: &Value, served: &'k [KindRef]) -> impl Iterator<Item = &'k KindRef> {
    let rules = list(policy, "spec.matchConstraints.resourceRules").to_vec();
    served.iter().filter(move |kind| {
        rules.iter().any(|rule| {
            let names = |path: &str, wanted: &str| list(rule, path).iter().any(|item| item == wanted);
            names("apiGroups", kind.group)
                && names("apiVersions", kind.version)
                && names("resources", kind.plural)
        })
    })
}

/// The shape of a policy's parameters, if their kind is served.
fn parameters(policy: &Value, served: &[KindRef]) -> Option<Value> {
    let kind = get(policy, "spec.paramKind");
    let is = |one: &&KindRef| one.kind == text(kind, "kind") && one.api_version() == text(kind, "apiVersion");
    let schema = served.iter().find(is)?.schema().ok()?;
    Some(shape(&schema))
}

fn warning(source: &str, kinds: &[(String, Value)], params: Option<&Value>) -> Option<String> {
    let program = Program::compile(source, &VARIABLES).ok()?;
    let lines = kinds.iter().filter_map(|(name, shape)| {
        let mut names = vec![("object", Type::of(shape)), ("oldObject", Type::of(shape))];
        names.extend(params.map(|shape| ("params", Type::of(shape))));
        let why = program.judge(source, &names).err()?;
        Some(format!("{name}: {why}"))
    });
    let lines: Vec<String> = lines.collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// A schema as expressions are checked against it.
fn shape(schema: &Schema) -> Value {
    of_type(&schema.root, 0)
}

fn of_type(kind: &TypeRef, depth: usize) -> Value {
    let kind = kind.get();
    let fields = kind.fields.iter();
    let fields: Map<String, Value> = fields
        .map(|field| (field.name.to_string(), of_node(&field.node, depth + 1)))
        .collect();
    let mut out = json!({"type": "object", "properties": fields});
    if kind.preserve_unknown {
        out["x-kubernetes-preserve-unknown-fields"] = true.into();
    }
    out
}

fn of_node(node: &Node, depth: usize) -> Value {
    match node {
        _ if depth > DEPTH_MAX => json!({}),
        Node::Any => json!({}),
        Node::Scalar(scalar) => match scalar {
            Scalar::String => json!({"type": "string"}),
            Scalar::Bool => json!({"type": "boolean"}),
            Scalar::Int32 | Scalar::Int64 => json!({"type": "integer"}),
            Scalar::Double => json!({"type": "number"}),
            // Texts with a meaning, which expressions may take for what they mean.
            _ => json!({}),
        },
        Node::Struct(kind) => of_type(kind, depth),
        Node::Map(of) => json!({"type": "object", "additionalProperties": of_node(of, depth + 1)}),
        Node::List(of) => json!({"type": "array", "items": of_node(of, depth + 1)}),
    }
}

/// What a policy's status says after a check, for that generation of it.
pub fn status(policy: &Value, served: &[KindRef]) -> Value {
    let generation = get(policy, "metadata.generation");
    json!({"observedGeneration": generation, "typeChecking": check(policy, served)})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds;

    #[test]
    fn fields_that_parameters_do_not_have_are_named() {
        let served: Vec<KindRef> = kinds::all().iter().map(|kind| KindRef::BuiltIn(kind)).collect();
        let mut policy = json!({"spec": {"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "matchConstraints": {"resourceRules": [
                {"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}]},
            "validations": [{"expression": "params.data['most'] != '' && object.spec.replicas < 5"},
                {"expression": "object.spec.replicas <= params.most"}]}});
        assert_eq!(
            check(&policy, &served),
            json!({"expressionWarnings": [{"fieldRef": "spec.validations[1].expression", "warning":
                "apps/v1, Kind=Deployment: ERROR: <input>:1:31: undefined field 'most'\n | object.spec.replicas <= params.most\n | ..............................^"}]})
        );
        // What nobody serves may have any fields.
        policy["spec"]["paramKind"]["kind"] = "Limit".into();
        assert_eq!(check(&policy, &served), json!({}));
    }

    #[test]
    fn operators_that_fit_no_deployment_are_named() {
        let served: Vec<KindRef> = kinds::all().iter().map(|kind| KindRef::BuiltIn(kind)).collect();
        let warning = |expression: &str| {
            let policy = json!({"spec": {"matchConstraints": {"resourceRules": [
                {"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}]},
                "validations": [{"expression": expression}]}});
            let warnings = check(&policy, &served);
            let warning = warnings["expressionWarnings"][0]["warning"].as_str();
            warning.map(|text| text.lines().next().unwrap_or_default().to_owned())
        };
        assert_eq!(
            warning("object.spec.replicas > '1'").unwrap(),
            "apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_>_' applied to '(int, string)'"
        );
        for fine in [
            "object.spec.replicas > 1 && object.metadata.name.startsWith('a') && !object.spec.paused",
            "object.metadata.creationTimestamp > timestamp('2026-01-01T00:00:00Z') || object.metadata.creationTimestamp != ''",
            "object.spec.strategy.rollingUpdate.maxSurge == 1 || object.spec.strategy.rollingUpdate.maxSurge == '25%'",
        ] {
            assert_eq!(warning(fine), None, "{fine}");
        }
    }

    #[test]
    fn fields_that_no_deployment_has_are_named() {
        let served: Vec<KindRef> = kinds::all().iter().map(|kind| KindRef::BuiltIn(kind)).collect();
        let mut policy = json!({"metadata": {"generation": 3}, "spec": {"matchConstraints": {"resourceRules": [
            {"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}]},
            "validations": [{"expression": "object.spec.replicas > 1 && object.spec.template.spec.containers.all(c, c.image != '')"},
                {"expression": "object.replicas > 1", "messageExpression": "'no ' + object.metadata.name"}]}});
        assert_eq!(
            check(&policy, &served),
            json!({"expressionWarnings": [{"fieldRef": "spec.validations[1].expression", "warning":
                "apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'replicas'\n | object.replicas > 1\n | ......^"}]})
        );
        policy["spec"]["matchConstraints"]["resourceRules"][0]["apiGroups"] = json!(["*"]);
        assert_eq!(
            status(&policy, &served),
            json!({"observedGeneration": 3, "typeChecking": {}})
        );
        policy["spec"]["matchConstraints"]["resourceRules"][0] = json!({"apiGroups": ["apiextensions.k8s.io"], "apiVersions": ["v1"], "resources": ["customresourcedefinitions"]});
        assert!(
            check(&policy, &served)["expressionWarnings"].is_array(),
            "a type that contains itself"
        );
    }
}
