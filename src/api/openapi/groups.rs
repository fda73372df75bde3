//! The paths at which the API says what it serves.

use serde_json::{Map, Value, json};

use super::Form;
use super::names::{capitalised, group_tag, group_title, version_tag};
use super::operations::{Answer, Operation};
use crate::kind::KindRef;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Those of the groups and versions of `kinds`; the whole document (v2) has those of all groups besides.
pub(super) fn paths(kinds: &[KindRef], form: Form) -> Map<String, Value> {
    let mut out = Map::new();
    let mut add = |path: &str, id: String, tag: String, about: &str, schema: String| {
        let operation = Operation {
            action: "",
            id,
            description: about.to_owned(),
            target: None,
            tag,
            body: None,
            answer: Answer::Object(schema),
            parameters: Vec::new(),
            custom: false,
        };
        out.insert(path.to_owned(), json!({"get": operation.write(form)}));
    };
    for (group, version) in super::group_versions(kinds) {
        let (title, is_core) = (group_title(group), group.is_empty());
        let root = if is_core {
            "/api/".to_owned()
        } else {
            format!("/apis/{group}/")
        };
        add(
            &format!("{root}{version}/"),
            format!("get{title}{}APIResources", capitalised(version)),
            version_tag(group, version),
            "get available resources",
            format!("{META}.APIResourceList"),
        );
        if form == Form::V2 && !is_core {
            let id = format!("get{title}APIGroup");
            let schema = format!("{META}.APIGroup");
            add(&root, id, group_tag(group), "get information of a group", schema);
        }
    }
    if form == Form::V2 {
        let about = "get available API versions";
        let versions = format!("{META}.APIVersions");
        add(
            "/api/",
            "getCoreAPIVersions".into(),
            "core".into(),
            about,
            versions,
        );
        let groups = format!("{META}.APIGroupList");
        add("/apis/", "getAPIVersions".into(), "apis".into(), about, groups);
        let code = "io.k8s.apimachinery.pkg.version.Info".to_owned();
        let about = "get the version information for this server";
        add(
            "/version/",
            "getCodeVersion".into(),
            "version".into(),
            about,
            code,
        );
    }
    out
}
