//! Rules that hold for pods of one operating system.

use crate::status::FieldError;
use crate::value::Field;

/// What no Windows pod may have in its spec; the names in the security context follow.
const NOT_OF_WINDOWS_PODS: [&str; 4] = ["hostUsers", "hostPID", "hostIPC", "shareProcessNamespace"];

const NOT_IN_WINDOWS_POD_CONTEXTS: [&str; 11] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "seLinuxChangePolicy",
];

const NOT_IN_WINDOWS_CONTEXTS: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

/// Rules for `os`, and for what a pod of that system may not have.
pub fn check(spec: &Field, errors: &mut Vec<FieldError>) {
    let os = spec.get("os");
    if !os.is_set() {
        return;
    }
    match os.get("name").text() {
        "" => errors.push(os.get("name").required("cannot be empty")),
        "linux" => linux(spec, errors),
        "windows" => windows(spec, errors),
        name => errors.push(FieldError::not_supported(&os.path, name, &["linux", "windows"])),
    }
}

fn contexts<'a>(spec: &Field<'a>) -> Vec<Field<'a>> {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let all = lists.into_iter().flat_map(|list| spec.items(list));
    all.map(|container| container.get("securityContext")).collect()
}

fn linux(spec: &Field, errors: &mut Vec<FieldError>) {
    let pod = spec.get("securityContext");
    forbid(
        &pod,
        &["windowsOptions"],
        "windows options cannot be set for a linux pod",
        errors,
    );
    for context in contexts(spec) {
        forbid(
            &context,
            &["windowsOptions"],
            "windows options cannot be set for a linux pod",
            errors,
        );
    }
}

fn windows(spec: &Field, errors: &mut Vec<FieldError>) {
    const WHY: &str = "cannot be set for a windows pod";
    forbid(
        &spec.get("securityContext"),
        &NOT_IN_WINDOWS_POD_CONTEXTS,
        WHY,
        errors,
    );
    forbid(spec, &NOT_OF_WINDOWS_PODS, WHY, errors);
    for context in contexts(spec) {
        forbid(&context, &NOT_IN_WINDOWS_CONTEXTS, WHY, errors);
    }
}

fn forbid(holder: &Field, keys: &[&str], why: &str, errors: &mut Vec<FieldError>) {
    let set = keys.iter().map(|key| holder.get(key)).filter(Field::is_set);
    errors.extend(set.map(|field| field.forbidden(why)));
}
