//! Rules for requests and limits, of containers and of pods as a whole.

use std::collections::BTreeMap;

use super::claims;
use crate::names;
use crate::quantity::Quantity;
use crate::status::FieldError;
use crate::value::Field;

/// What a container can be given, huge pages and what others define apart.
const OF_CONTAINERS: [&str; 3] = ["cpu", "ephemeral-storage", "memory"];

/// The other resources that have a name of their own; they are counted, not given.
const COUNTED: [&str; 10] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
    "storage",
];

/// The prefix of huge pages of one size.
const HUGE: &str = "hugepages-";

/// Rules for the requests and limits of a container of the pod of that spec.
pub fn of_container(resources: &Field, spec: &Field, errors: &mut Vec<FieldError>) {
    check(resources, container_name, errors);
    claims::used(resources, spec, errors);
}

/// Rules for what a pod as a whole asks for, and may use.
pub fn of_pod(spec: &Field, errors: &mut Vec<FieldError>) {
    let resources = spec.get("resources");
    if !resources.is_set() {
        return;
    }
    if resources.get("claims").is_set() {
        let why = "claims cannot be set for Resources at pod-level";
        errors.push(resources.get("claims").forbidden(why));
    }
    check(&resources, pod_name, errors);
    at_least_its_containers(spec, &resources, errors);
}

fn check(resources: &Field, name_rule: fn(&str, &Field, &mut Vec<FieldError>), errors: &mut Vec<FieldError>) {
    let limits = amounts(resources, "limits", name_rule, errors);
    let requests = amounts(resources, "requests", name_rule, errors);
    for (name, request) in &requests {
        compare(resources, name, request, limits.get(name), errors);
    }
    let any = |wanted: fn(&str) -> bool| limits.keys().chain(requests.keys()).any(|name| wanted(name));
    if any(|name| name.starts_with(HUGE)) && !any(|name| matches!(name, "cpu" | "memory")) {
        errors.push(resources.forbidden("HugePages require cpu or memory"));
    }
}

/// A request is at most the limit, and the limit itself for what cannot be overcommitted.
fn compare(
    resources: &Field,
    name: &str,
    request: &Quantity,
    limit: Option<&Quantity>,
    errors: &mut Vec<FieldError>,
) {
    let exact = name.starts_with(HUGE) || !is_native(name);
    let why = match limit {
        None if exact => {
            let why = "Limit must be set for non overcommitable resources";
            errors.push(FieldError::required(resources.path_of("limits"), why));
            return;
        }
        Some(limit) if exact && request != limit => format!("must be equal to {name} limit of {limit}"),
        Some(limit) if request > limit => format!("must be less than or equal to {name} limit of {limit}"),
        _ => return,
    };
    errors.push(FieldError::invalid(
        resources.path_of("requests"),
        request.to_string(),
        why,
    ));
}

/// Whether a resource is one of Kubernetes' own; others cannot be overcommitted.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn amounts<'a>(
    resources: &Field<'a>,
    key: &str,
    name_rule: fn(&str, &Field, &mut Vec<FieldError>),
    errors: &mut Vec<FieldError>,
) -> BTreeMap<&'a str, Quantity> {
    let mut all = BTreeMap::new();
    for (name, at) in resources.entries(key) {
        name_rule(name, &at, errors);
        let Some(quantity) = amount(name, &at, errors) else {
            continue;
        };
        if let Some(size) = name.strip_prefix(HUGE)
            && !quantity.is_multiple_of(&size.parse().unwrap_or_default())
        {
            let why = format!("{quantity} is not positive integer multiple of {name}");
            errors.push(FieldError::invalid(&at.path, quantity.to_string(), why));
        }
        all.insert(name, quantity);
    }
    all
}

/// Rules for an amount of a resource: not negative, and whole where parts make no sense.
pub fn amount(name: &str, at: &Field, errors: &mut Vec<FieldError>) -> Option<Quantity> {
    let quantity = match Quantity::from_json(at.value) {
        Ok(quantity) => quantity,
        Err(why) => {
            errors.push(at.invalid(why.to_string()));
            return None;
        }
    };
    let shown = quantity.to_string();
    if quantity.is_negative() {
        errors.push(FieldError::invalid(
            &at.path,
            shown.as_str(),
            "must be greater than or equal to 0",
        ));
    }
    let counted = !is_native(name) || (COUNTED.contains(&name) && name != "storage");
    if counted && !quantity.is_whole() {
        errors.push(FieldError::invalid(&at.path, shown, "must be an integer"));
    }
    Some(quantity)
}

/// Whether a quota can be about it: what containers get, requested or limited, and what is counted.
pub fn is_quota_name(name: &str) -> bool {
    let bare = name.strip_prefix("requests.").or(name.strip_prefix("limits."));
    let of_containers = OF_CONTAINERS.contains(&bare.unwrap_or(name));
    let stored = name == "requests.storage";
    let huge = bare.unwrap_or(name).starts_with(HUGE) && !name.starts_with("limits.");
    of_containers || stored || huge || (name != "storage" && COUNTED.contains(&name))
}

/// Rules for the name of any resource; says whether it is one.
pub fn resource_name(name: &str, at: &Field, errors: &mut Vec<FieldError>) -> bool {
    let wrong = names::is_qualified_name(name);
    if !wrong.is_empty() {
        let wrong = wrong
            .into_iter()
            .map(|why| FieldError::invalid(&at.path, name, why));
        errors.extend(wrong);
        return false;
    }
    if !name.contains('/') && name != "storage" && !is_quota_name(name) {
        let why = "must be a standard resource type or fully qualified";
        errors.push(FieldError::invalid(&at.path, name, why));
        return false;
    }
    true
}

/// Rules for the name of a resource that a container can be given.
pub fn container_name(name: &str, at: &Field, errors: &mut Vec<FieldError>) {
    resource_name(name, at, errors);
    let why = if !name.contains('/') {
        if OF_CONTAINERS.contains(&name) || name.starts_with(HUGE) {
            return;
        }
        "must be a standard resource for containers"
    } else if is_native(name) || !name.starts_with("requests.") {
        return;
    } else {
        "doesn't follow extended resource name standard"
    };
    errors.push(FieldError::invalid(&at.path, name, why));
}

fn pod_name(name: &str, at: &Field, errors: &mut Vec<FieldError>) {
    let known = ["cpu", "memory"];
    if resource_name(name, at, errors) && !known.contains(&name) && !name.starts_with(HUGE) {
        errors.push(FieldError::not_supported(&at.path, name, &known));
    }
}

/// A pod asks for no less than its containers do together, and none of them may use more than it.
fn at_least_its_containers(spec: &Field, resources: &Field, errors: &mut Vec<FieldError>) {
    let mut asked: BTreeMap<&str, Quantity> = BTreeMap::new();
    for container in spec.items("containers") {
        for (name, at) in container.entries("resources.requests") {
            *asked.entry(name).or_default() += Quantity::from_json(at.value).unwrap_or_default();
        }
    }
    let requests = resources.get("requests");
    for (name, sum) in asked {
        let given = requests.value.get(name).map(Quantity::from_json);
        let given = given.and_then(Result::ok).unwrap_or_default();
        if sum > given {
            let why = format!("must be greater than or equal to aggregate container requests of {sum}");
            let path = format!("{}[{name}]", requests.path);
            errors.push(FieldError::invalid(path, given.to_string(), why));
        }
    }
    let limits = resources.get("limits");
    for (i, container) in spec.items("containers").iter().enumerate() {
        for (name, at) in container.entries("resources.limits") {
            let (Ok(own), Some(Ok(whole))) = (
                Quantity::from_json(at.value),
                limits.value.get(name).map(Quantity::from_json),
            ) else {
                continue;
            };
            if own > whole {
                let path = format!("{}.containers[{i}][{name}].limits", resources.path);
                let why = format!("must be less than or equal to pod limits of {whole}");
                errors.push(FieldError::invalid(path, own.to_string(), why));
            }
        }
    }
}
