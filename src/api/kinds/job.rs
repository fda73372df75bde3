//! Job: pods that run to their end.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{cells, metadata, pod};
use crate::duration;
use crate::kind::{Column, Kind, Subresource};
use crate::selector;
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
    default,
    prepare_create: |job| {
        metadata::create_without_status(job);
        own_selector(job);
    },
    validate,
    validate_update,
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

/// Unless told otherwise, a Job picks its pods by its own uid.
fn own_selector(job: &mut Value) {
    let (uid, name) = (
        text(job, "metadata.uid").to_owned(),
        text(job, "metadata.name").to_owned(),
    );
    if flag(job, "spec.manualSelector") || uid.is_empty() {
        return;
    }
    if let Some(labels) = object_mut(job, "spec.template.metadata.labels") {
        for prefix in ["", "batch.kubernetes.io/"] {
            labels.insert(format!("{prefix}controller-uid"), uid.clone().into());
            labels.insert(format!("{prefix}job-name"), name.clone().into());
        }
    }
    if let Some(wanted) = object_mut(job, "spec.selector.matchLabels") {
        wanted.insert("batch.kubernetes.io/controller-uid".to_owned(), uid.into());
    }
}

fn validate(job: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(job, "spec");
    validate_spec(&spec, &mut errors);
    let selector = spec.get("selector");
    if !selector.is_set() {
        errors.push(selector.required(""));
    } else {
        selector::validate(&selector, &mut errors);
        let labels = spec.get("template.metadata.labels");
        if !selector::LabelSelector::from_json(selector.value).matches(labels.value) {
            errors.push(labels.invalid("`selector` does not match template `labels`"));
        }
    }
    errors
}

/// Rules for a Job's spec, its selector excepted.
pub fn validate_spec(spec: &Field, errors: &mut Vec<FieldError>) {
    for key in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
    ] {
        spec.get(key).non_negative(errors);
    }
    let mode = spec.get("completionMode");
    mode.one_of_if_set(&["Indexed", "NonIndexed"], errors);
    if mode.text() == "Indexed" && !spec.get("completions").is_set() {
        errors.push(
            spec.get("completions")
                .required("when completion mode is Indexed"),
        );
    }
    pod::validate_template(&spec.get("template"), errors);
    let policy = spec.get("template.spec.restartPolicy");
    if !matches!(policy.text(), "OnFailure" | "Never") {
        errors.push(policy.required("valid values: \"OnFailure\", \"Never\""));
    }
}

fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = validate(new);
    for key in [
        "spec.completions",
        "spec.selector",
        "spec.completionMode",
        "spec.podFailurePolicy",
    ] {
        Field::at(new, key).immutable(old, &mut errors);
    }
    // Where a suspended job that never ran goes may still change; nothing else of its pods may.
    if !flag(old, "spec.suspend") || has(old, "status.startTime") {
        Field::at(new, "spec.template").immutable(old, &mut errors);
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
