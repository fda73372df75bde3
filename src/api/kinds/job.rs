//! Job: pods that run to their end.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{cells, ingress_class, metadata, pod, warnings, workload};
use crate::duration;
use crate::kind::{Column, Dependents, Kind, Subresource};
use crate::selector::{self, LabelSelector};
use crate::status::FieldError;
use crate::value::{Field, fill, fill_text, flag, get, get_mut, has, int, list, object_mut, set, text};

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "batch",
    kind: "Job",
    plural: "jobs",
    singular: "job",
    categories: &["all"],
    subresources: &[Subresource::status("Job")],
    storage_version_hash: "mudhfqk/qZY=",
    dependents: Dependents::Kept(
        "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or \
         set propagationPolicy=Orphan to suppress this warning",
    ),
    default,
    prepare_create: |job| {
        metadata::create_without_status(job);
        own_selector(job);
    },
    validate,
    validate_update,
    warnings: |new, old| {
        let mut said = workload::pod_names(new, old);
        if warnings::spec_changed(new, old) {
            spec_warnings(&Field::at(new, "spec"), &mut said);
        }
        said
    },
    field_names: &["status.successful"],
    fields: |job| {
        vec![(
            "status.successful",
            int(job, "status.succeeded").unwrap_or(0).to_string(),
        )]
    },
    columns: &[
        Column::NAME,
        Column::text("Status"),
        Column::text("Completions"),
        Column::text("Duration"),
        Column::AGE,
        Column::text("Containers").wide(),
        Column::text("Images").wide(),
        Column::text("Selector").wide(),
    ],
    row,
    ..Kind::WITH_STATUS
};

fn default(job: &mut Value) {
    if let Some(spec) = get_mut(job, "spec") {
        pod::default_template(spec);
        default_spec(spec);
    }
}

fn default_spec(spec: &mut Value) {
    if !has(spec, "completions") && !has(spec, "parallelism") {
        set(spec, "completions", 1);
    }
    fill(spec, "parallelism", 1);
    fill(spec, "backoffLimit", 6);
    fill_text(spec, "completionMode", "NonIndexed");
    fill(spec, "suspend", false);
    fill(spec, "manualSelector", false);
    let replacement = if has(spec, "podFailurePolicy") {
        "Failed"
    } else {
        "TerminatingOrFailed"
    };
    fill_text(spec, "podReplacementPolicy", replacement);
}

/// The labels by which a Job knows its pods.
fn own_labels(job: &Value) -> Value {
    let (uid, name) = (text(job, "metadata.uid"), text(job, "metadata.name"));
    let mut labels = Map::new();
    for prefix in ["", "batch.kubernetes.io/"] {
        labels.insert(format!("{prefix}controller-uid"), uid.into());
        labels.insert(format!("{prefix}job-name"), name.into());
    }
    labels.into()
}

/// Unless told otherwise, a Job picks its pods by its own uid.
fn own_selector(job: &mut Value) {
    let uid = text(job, "metadata.uid").to_owned();
    if flag(job, "spec.manualSelector") || uid.is_empty() {
        return;
    }
    let own = own_labels(job);
    if let Some(labels) = object_mut(job, "spec.template.metadata.labels") {
        labels.extend(
            own.as_object()
                .into_iter()
                .flatten()
                .map(|(k, v)| (k.clone(), v.clone())),
        );
    }
    if let Some(wanted) = object_mut(job, "spec.selector.matchLabels") {
        wanted.insert("batch.kubernetes.io/controller-uid".to_owned(), uid.into());
    }
}

/// Longest name of who manages a Job, bytes.
const MANAGER_MAX: usize = 63;
/// The most pods at a time whose numbers still fit in the status.
const INDEXED_PARALLELISM_MAX: i64 = 100_000;

fn validate(job: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(job, "spec");
    let selector = spec.get("selector");
    let matches = |labels: &Value| LabelSelector::from_json(selector.value).matches(labels);
    if !flag(job, "spec.manualSelector") && selector.is_set() && !matches(&own_labels(job)) {
        errors.push(selector.invalid("`selector` not auto-generated"));
    }
    validate_spec(&spec, &mut errors);
    if selector.is_set() {
        selector::validate(&selector, &mut errors);
    } else {
        errors.push(selector.required(""));
    }
    let labels = spec.get("template.metadata.labels");
    if !matches(labels.value) {
        errors.push(workload::not_selected(&labels));
    }
    errors
}

/// So many runs, and so many at a time, that the status may not hold all that have failed.
const INDEXED_COMPLETIONS_SAFE: i64 = 100_000;
const INDEXED_PARALLELISM_SAFE: i64 = 10_000;

/// Warnings about a Job's spec.
pub fn spec_warnings(spec: &Field, said: &mut Vec<String>) {
    let number = |key: &str| spec.get(key).int().unwrap_or(0);
    if spec.get("completionMode").text() == "Indexed"
        && number("completions") > INDEXED_COMPLETIONS_SAFE
        && number("parallelism") > INDEXED_PARALLELISM_SAFE
    {
        said.push(format!(
            "{}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
             Kubernetes might not be able to track completedIndexes when a big number of indexes fail",
            spec.path
        ));
    }
    pod::template_warnings(&spec.get("template"), said);
}

/// Rules for a Job's spec, its selector excepted.
pub fn validate_spec(spec: &Field, errors: &mut Vec<FieldError>) {
    for key in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "maxFailedIndexes",
        "backoffLimitPerIndex",
    ] {
        spec.get(key).non_negative(errors);
    }
    let manager = spec.get("managedBy");
    if manager.is_set() {
        errors.extend(ingress_class::prefixed_path(&manager));
        if manager.text().len() > MANAGER_MAX {
            errors.push(FieldError::too_long(&manager.path, MANAGER_MAX));
        }
    }
    let mode = spec.get("completionMode");
    mode.one_of_if_set(&["NonIndexed", "Indexed"], errors);
    if mode.text() == "Indexed" {
        indexed(spec, errors);
    } else {
        for key in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if spec.get(key).is_set() {
                errors.push(spec.get(key).invalid("requires indexed completion mode"));
            }
        }
        if spec.get("successPolicy").is_set() {
            errors.push(
                spec.get("successPolicy")
                    .invalid("requires indexed completion mode"),
            );
        }
    }
    if spec.get("maxFailedIndexes").is_set() && !spec.get("backoffLimitPerIndex").is_set() {
        let why = "when maxFailedIndexes is specified";
        errors.push(spec.get("backoffLimitPerIndex").required(why));
    }
    replacement(spec, errors);
    pod::validate_template(&spec.get("template"), errors);
    restart_policy(spec, errors);
}

fn indexed(spec: &Field, errors: &mut Vec<FieldError>) {
    let (completions, parallelism) = (spec.get("completions"), spec.get("parallelism"));
    let failed = spec.get("maxFailedIndexes");
    if !completions.is_set() {
        errors.push(completions.required("when completion mode is Indexed"));
    }
    if parallelism.int().is_some_and(|n| n > INDEXED_PARALLELISM_MAX) {
        errors.push(parallelism.invalid(format!(
            "must be less than or equal to {INDEXED_PARALLELISM_MAX} when completion mode is Indexed"
        )));
    }
    if failed.int() > completions.int() && completions.is_set() {
        errors.push(failed.invalid("must be less than or equal to completions"));
    }
}

fn replacement(spec: &Field, errors: &mut Vec<FieldError>) {
    let (policy, failure) = (spec.get("podReplacementPolicy"), spec.get("podFailurePolicy"));
    let known: &[&str] = if failure.is_set() {
        &["Failed"]
    } else {
        &["Failed", "TerminatingOrFailed"]
    };
    policy.one_of_if_set(known, errors);
}

fn restart_policy(spec: &Field, errors: &mut Vec<FieldError>) {
    let policy = spec.get("template.spec.restartPolicy");
    match policy.text() {
        "Always" | "" => errors.push(policy.required("valid values: \"OnFailure\", \"Never\"")),
        "Never" => {}
        "OnFailure" if spec.get("podFailurePolicy").is_set() => {
            errors.push(policy.invalid("only \"Never\" is supported when podFailurePolicy is specified"));
        }
        "OnFailure" => {}
        _ => errors.push(policy.not_supported(&["OnFailure", "Never"])),
    }
}

fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(new, "spec");
    validate_spec(&spec, &mut errors);
    let (completions, parallelism) = (spec.get("completions"), spec.get("parallelism"));
    if text(new, "spec.completionMode") != "Indexed" {
        completions.immutable(old, &mut errors);
    } else if completions.value != get(old, "spec.completions") && completions.value != parallelism.value {
        errors.push(completions.invalid("can only be modified in tandem with spec.parallelism"));
    }
    Field::at(new, "spec.selector").immutable(old, &mut errors);
    // Where a suspended job that never ran goes may still change; nothing else of its pods may.
    if !flag(old, "spec.suspend") || has(old, "status.startTime") {
        Field::at(new, "spec.template").immutable(old, &mut errors);
    }
    for key in [
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        spec.get(key).immutable(old, &mut errors);
    }
    errors
}

fn row(job: &Value, now: Timestamp) -> Vec<Value> {
    let (containers, images) = cells::containers_and_images(job, "spec.template.spec");
    vec![
        cells::name(job),
        json!(status(job)),
        json!(completions(job)),
        json!(run_time(job, now)),
        cells::age(job, now),
        json!(containers),
        json!(images),
        json!(selector::format(get(job, "spec.selector"))),
    ]
}

fn status(job: &Value) -> &'static str {
    let holds = |kind: &str| {
        list(job, "status.conditions")
            .iter()
            .any(|c| text(c, "type") == kind && text(c, "status") == "True")
    };
    let first = |kinds: &[&'static str]| kinds.iter().find(|k| holds(k)).copied();
    if let Some(ended) = first(&["Complete", "Failed"]) {
        return ended;
    }
    if has(job, "metadata.deletionTimestamp") {
        return "Terminating";
    }
    first(&["Suspended", "FailureTarget", "SuccessCriteriaMet"]).unwrap_or("Running")
}

fn completions(job: &Value) -> String {
    let done = int(job, "status.succeeded").unwrap_or(0);
    let parallelism = int(job, "spec.parallelism").unwrap_or(0);
    match int(job, "spec.completions") {
        Some(wanted) => format!("{done}/{wanted}"),
        None if parallelism > 1 => format!("{done}/1 of {parallelism}"),
        None => format!("{done}/1"),
    }
}

fn run_time(job: &Value, now: Timestamp) -> String {
    let time = |path: &str| text(job, path).parse::<Timestamp>().ok();
    match (time("status.startTime"), time("status.completionTime")) {
        (None, _) => String::new(),
        (Some(start), end) => duration::human(end.unwrap_or(now).duration_since(start)),
    }
}

/// Defaults of a pod template inside a job template.
pub fn default_job_template(template: &mut Value) {
    fill(template, "spec", Value::Object(Map::new()));
    if let Some(spec) = get_mut(template, "spec") {
        pod::default_template(spec);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Value {
        let mut job = json!({"metadata": {"name": "j", "namespace": "n", "uid": "u-1"},
            "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "a"}]}}}});
        (KIND.default)(&mut job);
        (KIND.prepare_create)(&mut job);
        job
    }

    #[test]
    fn a_job_picks_its_own_pods() {
        let job = job();
        assert_eq!(
            job["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"],
            "u-1"
        );
        assert_eq!(job["spec"]["template"]["metadata"]["labels"]["job-name"], "j");
        assert_eq!(job["spec"]["backoffLimit"], 6);
        let texts: Vec<String> = KIND.check_create(&job).iter().map(ToString::to_string).collect();
        assert_eq!(texts, [""; 0]);
    }

    #[test]
    fn pods_of_a_job_end() {
        let mut job = job();
        job["spec"]["template"]["spec"]["restartPolicy"] = json!("Always");
        assert_eq!(
            validate(&job)[0].to_string(),
            "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""
        );
    }

    #[test]
    fn rows_are_those_of_kubectl() {
        let mut job = job();
        job["status"] = json!({"succeeded": 1, "startTime": "2024-01-01T00:00:00Z", "completionTime": "2024-01-01T00:00:07Z",
            "conditions": [{"type": "Complete", "status": "True"}]});
        assert_eq!(row(&job, Timestamp::UNIX_EPOCH)[1..4], ["Complete", "1/1", "7s"]);
    }
}
