//! The paths of an OpenAPI document: for each kind its collection, its objects
//! and what lies below them, with Kubernetes' action and kind extensions.

use serde_json::{Map, Value, json};

use super::Form;
use super::definitions::{Definitions, gvk, part_version};
use crate::kind::{Kind, KindRef, Subresource};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
/// The last one is for built-in kinds: lists of custom ones have no merge keys.
const PATCH_TYPES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];
const READ_TYPES: &[&str] = &["application/json", "application/yaml"];

type Parameter = (&'static str, &'static str);

const LIST: &[Parameter] = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const WRITE: &[Parameter] = &[
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
];
const FORCE: &[Parameter] = &[("force", "boolean")];
const DELETE: &[Parameter] = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];

/// All paths of `kinds`.
pub(super) fn paths(kinds: &[KindRef], definitions: &Definitions, form: Form) -> Map<String, Value> {
    let mut out = Map::new();
    for kind in kinds.iter().filter(|kind| !kind.plural.is_empty()) {
        let scribe = Scribe {
            kind,
            definitions,
            form,
        };
        let root = if kind.group.is_empty() {
            "/api".to_owned()
        } else {
            format!("/apis/{}", kind.group)
        };
        let root = format!("{root}/{}", kind.version);
        let place = if kind.namespaced {
            "/namespaces/{namespace}"
        } else {
            ""
        };
        let collection = format!("{root}{place}/{}", kind.plural);
        if kind.namespaced && kind.has_verb("list") {
            out.insert(format!("{root}/{}", kind.plural), scribe.everywhere());
        }
        if ["list", "create", "deletecollection"]
            .iter()
            .any(|verb| kind.has_verb(verb))
        {
            out.insert(collection.clone(), scribe.collection());
        }
        if ["get", "update", "patch", "delete"]
            .iter()
            .any(|verb| kind.has_verb(verb))
        {
            out.insert(format!("{collection}/{{name}}"), scribe.item());
        }
        for part in kind.subresources {
            out.insert(format!("{collection}/{{name}}/{}", part.name), scribe.part(part));
        }
    }
    out
}

/// One operation, before it is written down.
struct Operation<'a> {
    action: &'a str,
    verb: &'a str,
    target: Value,
    body: Option<String>,
    answer: Option<String>,
    parameters: Vec<Parameter>,
    part: &'a str,
}

struct Scribe<'a> {
    kind: &'a KindRef,
    definitions: &'a Definitions,
    form: Form,
}

impl Scribe<'_> {
    fn name(&self) -> Option<String> {
        let Kind {
            group, version, kind, ..
        } = &**self.kind;
        self.definitions.name(group, version, kind).map(str::to_owned)
    }

    fn own(&self) -> Value {
        gvk(self.kind.group, self.kind.version, self.kind.kind)
    }

    fn list_name(&self) -> Option<String> {
        self.name().map(|name| format!("{name}List"))
    }

    fn simple<'a>(&self, action: &'a str, verb: &'a str) -> Operation<'a> {
        let (target, part) = (self.own(), "");
        Operation {
            action,
            verb,
            target,
            body: None,
            answer: self.name(),
            parameters: Vec::new(),
            part,
        }
    }

    fn list(&self) -> Operation<'static> {
        Operation {
            answer: self.list_name(),
            parameters: LIST.to_vec(),
            ..self.simple("list", "list")
        }
    }

    fn everywhere(&self) -> Value {
        let list = Operation {
            part: "ForAllNamespaces",
            ..self.list()
        };
        self.place([("get", list)], false, false)
    }

    fn collection(&self) -> Value {
        let mut operations = Vec::new();
        if self.kind.has_verb("list") {
            operations.push(("get", self.list()));
        }
        if self.kind.has_verb("create") {
            let create = self.simple("post", "create");
            operations.push((
                "post",
                Operation {
                    body: self.name(),
                    parameters: WRITE.to_vec(),
                    ..create
                },
            ));
        }
        if self.kind.has_verb("deletecollection") {
            let delete = self.simple("deletecollection", "deleteCollection");
            let parameters = LIST.iter().chain(DELETE).copied().collect();
            let (body, answer) = (
                Some(format!("{META}.DeleteOptions")),
                Some(format!("{META}.Status")),
            );
            operations.push((
                "delete",
                Operation {
                    body,
                    answer,
                    parameters,
                    ..delete
                },
            ));
        }
        self.place(operations, self.kind.namespaced, false)
    }

    fn item(&self) -> Value {
        let mut operations = Vec::new();
        for verb in ["get", "update", "patch"]
            .into_iter()
            .filter(|verb| self.kind.has_verb(verb))
        {
            operations.extend(self.change(verb, self.own(), self.name(), ""));
        }
        if self.kind.has_verb("delete") {
            let delete = self.simple("delete", "delete");
            let (body, answer) = (
                Some(format!("{META}.DeleteOptions")),
                Some(format!("{META}.Status")),
            );
            operations.push((
                "delete",
                Operation {
                    body,
                    answer,
                    parameters: DELETE.to_vec(),
                    ..delete
                },
            ));
        }
        self.place(operations, self.kind.namespaced, true)
    }

    /// Reading, replacing or patching one object or a part of it.
    fn change<'a>(
        &self,
        verb: &str,
        target: Value,
        schema: Option<String>,
        part: &'a str,
    ) -> Option<(&'static str, Operation<'a>)> {
        let (method, action, name, body, parameters) = match verb {
            "get" => ("get", "get", "read", None, Vec::new()),
            "update" => ("put", "put", "replace", schema.clone(), WRITE.to_vec()),
            "patch" => {
                let body = Some(format!("{META}.Patch"));
                (
                    "patch",
                    "patch",
                    "patch",
                    body,
                    WRITE.iter().chain(FORCE).copied().collect(),
                )
            }
            "create" => ("post", "post", "create", schema.clone(), WRITE.to_vec()),
            _ => return None,
        };
        Some((
            method,
            Operation {
                action,
                verb: name,
                target,
                body,
                answer: schema,
                parameters,
                part,
            },
        ))
    }

    fn part(&self, part: &Subresource) -> Value {
        let (group, version) = part_version(self.kind, part.group, part.version);
        let schema = self
            .definitions
            .name(group, version, part.kind)
            .map(str::to_owned);
        let target = gvk(group, version, part.kind);
        let operations: Vec<_> = part
            .verbs
            .iter()
            .filter_map(|verb| {
                let mut made = self.change(verb, target.clone(), schema.clone(), part.name)?;
                // Streams have no schema: they are connections.
                if schema.is_none() {
                    made.1 = Operation {
                        action: "connect",
                        verb: "connect",
                        body: None,
                        ..made.1
                    };
                }
                Some(made)
            })
            .collect();
        self.place(operations, self.kind.namespaced, true)
    }

    fn place<'a>(
        &self,
        operations: impl IntoIterator<Item = (&'a str, Operation<'a>)>,
        namespaced: bool,
        named: bool,
    ) -> Value {
        let mut item = Map::new();
        for (method, operation) in operations {
            let written = self.write(operation, namespaced);
            item.insert(method.to_owned(), written);
        }
        let mut parameters = Vec::new();
        if named {
            parameters.push(self.parameter("name", "string", "path"));
        }
        if namespaced {
            parameters.push(self.parameter("namespace", "string", "path"));
        }
        parameters.push(self.parameter("pretty", "string", "query"));
        item.insert("parameters".to_owned(), Value::Array(parameters));
        Value::Object(item)
    }

    fn parameter(&self, name: &str, of: &str, place: &str) -> Value {
        let mut made = match self.form {
            Form::V2 => json!({"name": name, "in": place, "type": of, "uniqueItems": true}),
            Form::V3 => json!({"name": name, "in": place, "schema": {"type": of, "uniqueItems": true}}),
        };
        if place == "path" {
            made["required"] = true.into();
        }
        made
    }

    fn write(&self, operation: Operation<'_>, namespaced: bool) -> Value {
        let Operation {
            action,
            verb,
            target,
            body,
            answer,
            parameters,
            part,
        } = operation;
        let tag = tag(self.kind);
        let mut parameters: Vec<Value> = parameters
            .iter()
            .map(|(name, of)| self.parameter(name, of, "query"))
            .collect();
        let mut made = json!({
            "description": format!("{verb} {}{}", self.kind.kind, if part.is_empty() { String::new() } else { format!(" {part}") }),
            "operationId": self.operation_id(verb, part, namespaced),
            "tags": [tag],
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": target,
        });
        let media: &[&str] = match (action, self.kind.custom(), PATCH_TYPES.split_last()) {
            ("patch", Some(_), Some((_, ours))) => ours,
            ("patch", ..) => &PATCH_TYPES,
            _ => &["*/*"],
        };
        if let Some(body) = body {
            let schema = self.form.reference(&body);
            match self.form {
                Form::V2 => {
                    made["consumes"] = json!(media);
                    let required = action != "delete" && action != "deletecollection";
                    let mut written = json!({"name": "body", "in": "body", "schema": schema});
                    if required {
                        written["required"] = true.into();
                    }
                    parameters.push(written);
                }
                Form::V3 => made["requestBody"] = json!({"content": content(media, &schema)}),
            }
        }
        if !parameters.is_empty() {
            made["parameters"] = parameters.into();
        }
        let mut ok = json!({"description": "OK"});
        match (self.form, answer.map(|name| self.form.reference(&name))) {
            (Form::V2, Some(schema)) => ok["schema"] = schema,
            (Form::V3, Some(schema)) => ok["content"] = content(READ_TYPES, &schema),
            _ => {}
        }
        if self.form == Form::V2 {
            made["produces"] = json!(READ_TYPES);
        }
        made["responses"] = json!({"200": ok, "401": {"description": "Unauthorized"}});
        made
    }

    /// Such as `readAppsV1NamespacedDeploymentScale`.
    fn operation_id(&self, verb: &str, part: &str, namespaced: bool) -> String {
        let group = self.kind.group.strip_suffix(".k8s.io").unwrap_or(self.kind.group);
        let group = if group.is_empty() { "core" } else { group };
        let group: String = group.split('.').map(capitalised).collect();
        let collection = if verb == "deleteCollection" {
            "Collection"
        } else {
            ""
        };
        let verb = if collection.is_empty() { verb } else { "delete" };
        let scope = if namespaced { "Namespaced" } else { "" };
        let (version, kind) = (capitalised(self.kind.version), self.kind.kind);
        format!(
            "{verb}{group}{version}{collection}{scope}{kind}{}",
            capitalised(part)
        )
    }
}

fn content(media: &[&str], schema: &Value) -> Value {
    Value::Object(
        media
            .iter()
            .map(|media| ((*media).to_owned(), json!({"schema": schema})))
            .collect(),
    )
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}

/// Such as `core_v1` and `rbacAuthorization_v1`.
fn tag(kind: &Kind) -> String {
    let group = kind.group.strip_suffix(".k8s.io").unwrap_or(kind.group);
    let mut words = group.split('.');
    let first = words
        .next()
        .filter(|word| !word.is_empty())
        .unwrap_or("core")
        .to_owned();
    let rest: String = words.map(capitalised).collect();
    format!("{first}{rest}_{}", kind.version)
}
