//! The paths of an OpenAPI document: for each kind its collection, its objects
//! and what lies below them, with Kubernetes' action and kind extensions.

use serde_json::{Map, Value};

use super::definitions::{Definitions, part_version};
use super::form::Form;
use super::groups;
use super::names::gvk;
use super::names::{capitalised, group_title, version_tag, with_article};
use super::operations::{Answer, Operation};
use super::parameters::{self, DELETE, FORCE, LIST, Parameter, WRITE};
use crate::kind::{Kind, KindRef, Subresource};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
/// What a proxy passes on.
const PROXY_METHODS: &[&str] = &["delete", "get", "head", "options", "patch", "post", "put"];
const INSTEAD: &str = "deprecated: use the 'watch' parameter with a list operation instead";

/// All paths of `kinds`.
pub(super) fn paths(kinds: &[KindRef], definitions: &Definitions, form: Form) -> Map<String, Value> {
    let mut out = groups::paths(kinds, form);
    for kind in kinds.iter().filter(|kind| !kind.plural.is_empty()) {
        let scribe = Scribe {
            kind,
            definitions,
            form,
        };
        scribe.write(&mut out);
    }
    out
}

/// A path's parameters and operations, each by its method.
type Place<'a> = (Vec<Parameter>, Vec<(&'a str, Operation)>);

struct Scribe<'a> {
    kind: &'a KindRef,
    definitions: &'a Definitions,
    form: Form,
}

impl Scribe<'_> {
    fn write(&self, out: &mut Map<String, Value>) {
        let kind = self.kind;
        let root = if kind.group.is_empty() {
            format!("/api/{}", kind.version)
        } else {
            format!("/apis/{}/{}", kind.group, kind.version)
        };
        let place = if kind.namespaced {
            "/namespaces/{namespace}"
        } else {
            ""
        };
        let collection = format!("{place}/{}", kind.plural);
        let object = format!("{collection}/{{name}}");
        let mut add = |path: String, place| self.add(out, path, place);
        if kind.namespaced && kind.has_verb("list") {
            add(format!("{root}/{}", kind.plural), self.everywhere());
        }
        add(format!("{root}{collection}"), self.collection());
        add(format!("{root}{object}"), self.object());
        for part in kind.subresources {
            let path = format!("{root}{object}/{}", part.name);
            match self.schema_of(part) {
                Some(schema) => add(path, self.part(part, schema)),
                None => {
                    add(path.clone(), self.stream(part, false));
                    if part.name == "proxy" {
                        add(format!("{path}/{{path}}"), self.stream(part, true));
                    }
                }
            }
        }
        // Custom kinds never had these paths.
        if kind.has_verb("watch") && kind.custom().is_none() {
            if kind.namespaced {
                add(format!("{root}/watch/{}", kind.plural), self.watch_everywhere());
            }
            add(format!("{root}/watch{collection}"), self.watch_collection());
            add(format!("{root}/watch{object}"), self.watch_object());
        }
    }

    fn add(&self, out: &mut Map<String, Value>, path: String, (mut parameters, operations): Place<'_>) {
        if operations.is_empty() {
            return;
        }
        let in_path = |name: &str| path.contains(&format!("{{{name}}}"));
        let fixed = [
            ("name", parameters::NAME),
            ("namespace", parameters::NAMESPACE),
            ("path", parameters::PATH),
        ];
        let fixed = fixed.into_iter().filter(|(name, _)| in_path(name));
        let mut written: Vec<Value> = fixed.map(|(_, p)| p.write("path", self.form)).collect();
        if operations
            .iter()
            .all(|(_, operation)| operation.action != "connect")
        {
            parameters.push(parameters::PRETTY);
        }
        written.extend(parameters.iter().map(|p| p.write("query", self.form)));
        let mut item = Map::new();
        for (method, operation) in operations {
            item.insert(method.to_owned(), operation.write(self.form));
        }
        item.insert("parameters".to_owned(), written.into());
        out.insert(path, Value::Object(item));
    }

    fn everywhere(&self) -> Place<'static> {
        let mut list = self.list();
        list.id = self.id("list", "ForAllNamespaces", false);
        (Vec::new(), vec![("get", list)])
    }

    fn collection(&self) -> Place<'static> {
        let mut operations = Vec::new();
        if self.kind.has_verb("list") {
            operations.push(("get", self.list()));
        }
        if self.kind.has_verb("create") {
            operations.extend(self.change("create", self.own(), self.name(), ""));
        }
        if self.kind.has_verb("deletecollection") {
            let id = self.id("deleteCollection", "", self.kind.namespaced);
            let about = format!("delete collection of {}", self.kind.kind);
            let parameters = LIST.iter().chain(DELETE).cloned().collect();
            operations.push(("delete", self.deletion("deletecollection", id, about, parameters)));
        }
        (Vec::new(), operations)
    }

    fn object(&self) -> Place<'static> {
        let verbs = ["get", "update", "patch"].into_iter();
        let mut operations: Vec<_> = verbs
            .filter(|verb| self.kind.has_verb(verb))
            .filter_map(|verb| self.change(verb, self.own(), self.name(), ""))
            .collect();
        if self.kind.has_verb("delete") {
            let id = self.id("delete", "", self.kind.namespaced);
            let about = format!("delete {}", with_article(self.kind.kind));
            operations.push(("delete", self.deletion("delete", id, about, DELETE.to_vec())));
        }
        (Vec::new(), operations)
    }

    fn part(&self, part: &Subresource, schema: String) -> Place<'static> {
        let (group, version) = part_version(self.kind, part.group, part.version);
        let target = gvk(group, version, part.kind);
        let change = |verb: &&str| self.change(verb, target.clone(), Some(schema.clone()), part.name);
        (Vec::new(), part.verbs.iter().filter_map(change).collect())
    }

    /// A connection to what runs: no objects go over it.
    fn stream(&self, part: &Subresource, with_path: bool) -> Place<'static> {
        let (kind, name) = (self.kind.kind, part.name);
        let end = capitalised(name) + if with_path { "WithPath" } else { "" };
        if name == "log" {
            let id = self.id("read", name, self.kind.namespaced);
            let about = format!("read log of the specified {kind}");
            let read = self.operation("get", id, about, Answer::Text);
            return (
                parameters::of_options("core.v1.PodLogOptions"),
                vec![("get", read)],
            );
        }
        let methods = match name {
            "proxy" => PROXY_METHODS,
            _ => &["get", "post"],
        };
        let connect = |method: &'static str| {
            let title = capitalised(method);
            let id = self.titled("connect", &title, &end);
            let about = format!("connect {} requests to {name} of {kind}", method.to_uppercase());
            let target = gvk(self.kind.group, self.kind.version, part.kind);
            let operation = Operation {
                target: Some(target),
                ..self.operation("connect", id, about, Answer::Text)
            };
            (method, operation)
        };
        let options = parameters::of_options(&format!("core.v1.{}", part.kind));
        (options, methods.iter().copied().map(connect).collect())
    }

    fn watch_everywhere(&self) -> Place<'static> {
        let id = self.id("watch", "ListForAllNamespaces", false);
        self.watch("watchlist", id, self.watch_text())
    }

    fn watch_collection(&self) -> Place<'static> {
        let id = self.id("watch", "List", self.kind.namespaced);
        self.watch("watchlist", id, self.watch_text())
    }

    fn watch_object(&self) -> Place<'static> {
        let about = format!(
            "watch changes to an object of kind {}. {INSTEAD}, filtered to a single item with the 'fieldSelector' \
             parameter.",
            self.kind.kind
        );
        self.watch("watch", self.id("watch", "", self.kind.namespaced), about)
    }

    fn watch_text(&self) -> String {
        format!(
            "watch individual changes to a list of {}. {INSTEAD}.",
            self.kind.kind
        )
    }

    fn watch(&self, action: &'static str, id: String, about: String) -> Place<'static> {
        let answer = Answer::Listed(format!("{META}.WatchEvent"));
        let operation = self.operation(action, id, about, answer);
        (LIST.to_vec(), vec![("get", operation)])
    }

    fn list(&self) -> Operation {
        let id = self.id("list", "", self.kind.namespaced);
        let about = format!("list or watch objects of kind {}", self.kind.kind);
        let answer = self.name().map(|name| Answer::Listed(format!("{name}List")));
        Operation {
            parameters: LIST.to_vec(),
            ..self.operation("list", id, about, answer.unwrap_or(Answer::Text))
        }
    }

    fn deletion(
        &self,
        action: &'static str,
        id: String,
        about: String,
        parameters: Vec<Parameter>,
    ) -> Operation {
        let returned = self
            .name()
            .filter(|_| self.kind.returns_deleted && action == "delete");
        let answer = Answer::Object(returned.unwrap_or_else(|| format!("{META}.Status")));
        Operation {
            body: Some(format!("{META}.DeleteOptions")),
            parameters,
            ..self.operation(action, id, about, answer)
        }
    }

    /// Creating, reading, replacing or patching one object, or a part of it.
    fn change(
        &self,
        verb: &str,
        target: Value,
        schema: Option<String>,
        part: &str,
    ) -> Option<(&'static str, Operation)> {
        let (method, name, body, about) = match verb {
            "get" => ("get", "read", None, "read"),
            "create" => ("post", "create", schema.clone(), "create"),
            "update" => ("put", "replace", schema.clone(), "replace"),
            "patch" => (
                "patch",
                "patch",
                Some(format!("{META}.Patch")),
                "partially update",
            ),
            _ => return None,
        };
        let mut parameters = match verb {
            "get" => Vec::new(),
            _ => WRITE.to_vec(),
        };
        parameters.extend((verb == "patch").then_some(FORCE));
        let id = self.id(name, part, self.kind.namespaced);
        let about = format!("{about} {}", self.object_text(verb, part));
        let answer = schema.map_or(Answer::Text, Answer::Object);
        let operation = Operation {
            target: Some(target),
            body,
            parameters,
            ..self.operation(method, id, about, answer)
        };
        Some((method, operation))
    }

    fn object_text(&self, verb: &str, part: &str) -> String {
        let object = match verb {
            "create" => with_article(self.kind.kind),
            _ => format!("the specified {}", self.kind.kind),
        };
        match part {
            "" => object,
            part => format!("{part} of {object}"),
        }
    }

    /// An operation on objects of this kind, without body and parameters.
    fn operation(&self, action: &'static str, id: String, description: String, answer: Answer) -> Operation {
        Operation {
            action,
            id,
            description,
            target: Some(self.own()),
            tag: version_tag(self.kind.group, self.kind.version),
            body: None,
            answer,
            parameters: Vec::new(),
            custom: self.kind.custom().is_some(),
        }
    }

    /// The name of the kind's schema.
    fn name(&self) -> Option<String> {
        let Kind {
            group, version, kind, ..
        } = &**self.kind;
        self.definitions.name(group, version, kind).map(str::to_owned)
    }

    /// The schema of a subresource's bodies; none of what is a stream.
    fn schema_of(&self, part: &Subresource) -> Option<String> {
        if part.name == "log" {
            return None;
        }
        let (group, version) = part_version(self.kind, part.group, part.version);
        self.definitions
            .name(group, version, part.kind)
            .map(str::to_owned)
    }

    fn own(&self) -> Value {
        gvk(self.kind.group, self.kind.version, self.kind.kind)
    }

    /// Such as `readAppsV1NamespacedDeploymentScale`.
    fn id(&self, verb: &str, part: &str, namespaced: bool) -> String {
        let (verb, collection) = match verb {
            "deleteCollection" => ("delete", "Collection"),
            verb => (verb, ""),
        };
        if namespaced == self.kind.namespaced {
            return self.titled(verb, collection, &capitalised(part));
        }
        let (group, version) = (group_title(self.kind.group), capitalised(self.kind.version));
        format!("{verb}{group}{version}{}{part}", self.kind.kind)
    }

    /// Such as `connectCoreV1GetNamespacedPodExec`, `Get` being the `middle` and `Exec` the `end`.
    fn titled(&self, verb: &str, middle: &str, end: &str) -> String {
        let (group, version) = (group_title(self.kind.group), capitalised(self.kind.version));
        let scope = if self.kind.namespaced { "Namespaced" } else { "" };
        format!("{verb}{group}{version}{middle}{scope}{}{end}", self.kind.kind)
    }
}
