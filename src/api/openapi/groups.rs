//! The paths at which the API says what it serves.

use serde_json::{Map, Value, json};

use super::form::Form;
use super::names::{capitalised, group_tag, group_title, version_tag};
use super::operations::{Answer, Operation};
use super::place::Place;
use crate::kind::KindRef;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Those of the groups and versions of `kinds`; the whole document (v2) has those of all groups besides.
pub(super) fn paths(kinds: &[KindRef], form: Form) -> Map<String, Value> {
    let told = |place: &Place<'_>| form == Form::V2 || matches!(place, Place::Version(..));
    let places = Place::all(kinds).into_iter().filter(told);
    places.flat_map(|place| of_place(place, form)).collect()
}

/// The path that tells what is at a place.
pub(super) fn of_place(place: Place<'_>, form: Form) -> Map<String, Value> {
    let meta = |name: &str| format!("{META}.{name}");
    let (id, tag, description, schema) = match place {
        Place::Core => (
            "getCoreAPIVersions".to_owned(),
            "core".to_owned(),
            "get available API versions",
            meta("APIVersions"),
        ),
        Place::Groups => (
            "getAPIVersions".to_owned(),
            "apis".to_owned(),
            "get available API versions",
            meta("APIGroupList"),
        ),
        Place::Code => (
            "getCodeVersion".to_owned(),
            "version".to_owned(),
            "get the version information for this server",
            "io.k8s.apimachinery.pkg.version.Info".to_owned(),
        ),
        Place::Group(group) => (
            format!("get{}APIGroup", group_title(group)),
            group_tag(group),
            "get information of a group",
            meta("APIGroup"),
        ),
        Place::Version(group, version) => (
            format!("get{}{}APIResources", group_title(group), capitalised(version)),
            version_tag(group, version),
            "get available resources",
            meta("APIResourceList"),
        ),
    };
    let operation = Operation {
        action: "",
        id,
        description: description.to_owned(),
        target: None,
        tag,
        body: None,
        answer: Answer::Object(schema),
        parameters: Vec::new(),
        custom: false,
    };
    Map::from_iter([(format!("/{place}/"), json!({"get": operation.write(form)}))])
}
