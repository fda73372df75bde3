//! CronJob: a Job at set times.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{cells, job, warnings, workload};
use crate::kind::{Column, Kind, Subresource};
use crate::selector;
use crate::status::FieldError;
use crate::value::{Field, fill, fill_text, flag, get, get_mut, list, text};

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "batch",
    kind: "CronJob",
    plural: "cronjobs",
    singular: "cronjob",
    short_names: &["cj"],
    categories: &["all"],
    subresources: &[Subresource::status("CronJob")],
    storage_version_hash: "sd5LIXh4Fjs=",
    default,
    validate,
    validate_update: |new, _| validate(new),
    warnings: |new, old| {
        let mut said = workload::pod_names(new, old);
        if warnings::spec_changed(new, old) {
            job::spec_warnings(&Field::at(new, "spec.jobTemplate.spec"), &mut said);
        }
        said
    },
    columns: &[
        Column::NAME,
        Column::text("Schedule"),
        Column::text("Timezone"),
        Column::boolean("Suspend"),
        Column::integer("Active"),
        Column::text("Last Schedule"),
        Column::AGE,
        Column::text("Containers").wide(),
        Column::text("Images").wide(),
        Column::text("Selector").wide(),
    ],
    row,
    ..Kind::WITH_STATUS
};

fn default(cron: &mut Value) {
    let Some(spec) = get_mut(cron, "spec") else { return };
    fill_text(spec, "concurrencyPolicy", "Allow");
    fill(spec, "suspend", false);
    fill(spec, "successfulJobsHistoryLimit", 3);
    fill(spec, "failedJobsHistoryLimit", 1);
    if let Some(template) = get_mut(spec, "jobTemplate") {
        job::default_job_template(template);
    }
}

fn validate(cron: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(cron, "spec");
    let schedule = spec.get("schedule");
    if schedule.is_blank() {
        errors.push(schedule.required(""));
    } else if let Err(why) = fields_of(schedule.text()) {
        errors.push(schedule.invalid(why));
    }
    spec.get("startingDeadlineSeconds").non_negative(&mut errors);
    time_zone(&spec.get("timeZone"), &mut errors);
    spec.get("concurrencyPolicy")
        .one_of(&["Allow", "Forbid", "Replace"], &mut errors);
    let template = spec.get("jobTemplate.spec");
    job::validate_spec(&template, &mut errors);
    let (chosen, manual) = (template.get("selector"), template.get("manualSelector"));
    if chosen.is_set() {
        errors.push(chosen.invalid("`selector` will be auto-generated"));
    }
    if manual.flag() {
        errors.push(manual.not_supported(&["nil", "false"]));
    }
    for key in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        spec.get(key).non_negative(&mut errors);
    }
    let name = Field::at(cron, "metadata.name");
    // A Job's name is the CronJob's and eleven more characters, and must fit a label.
    if name.text().len() > 52 {
        errors.push(name.invalid("must be no more than 52 characters"));
    }
    errors
}

/// The time zone must be one of the world's, by its name.
fn time_zone(zone: &Field, errors: &mut Vec<FieldError>) {
    let name = zone.text();
    let why = if !zone.is_set() {
        return;
    } else if name.is_empty() {
        "timeZone must be nil or non-empty string".to_owned()
    } else if name.eq_ignore_ascii_case("local") {
        "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones".to_owned()
    } else if jiff::tz::TimeZone::get(name).is_err() {
        format!("unknown time zone {name}")
    } else {
        return;
    };
    errors.push(zone.invalid(why));
}

/// A schedule has five fields, or is a name such as `@daily`.
fn fields_of(schedule: &str) -> Result<(), String> {
    const NAMES: [&str; 8] = [
        "@yearly",
        "@annually",
        "@monthly",
        "@weekly",
        "@daily",
        "@midnight",
        "@hourly",
        "@every",
    ];
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if schedule.starts_with('@') {
        let known = fields.first().is_some_and(|f| NAMES.contains(f));
        return if known {
            Ok(())
        } else {
            Err(format!("unrecognized descriptor: {schedule}"))
        };
    }
    if fields.len() != 5 {
        return Err(format!(
            "expected exactly 5 fields, found {}: [{}]",
            fields.len(),
            fields.join(" ")
        ));
    }
    Ok(())
}

fn row(cron: &Value, now: Timestamp) -> Vec<Value> {
    let (containers, images) = cells::containers_and_images(cron, "spec.jobTemplate.spec.template.spec");
    let last = match text(cron, "status.lastScheduleTime") {
        "" => "<none>".to_owned(),
        time => cells::since(time, now),
    };
    vec![
        cells::name(cron),
        json!(text(cron, "spec.schedule")),
        json!(cells::or_none(text(cron, "spec.timeZone"))),
        json!(if flag(cron, "spec.suspend") {
            "True"
        } else {
            "False"
        }),
        json!(list(cron, "status.active").len()),
        json!(last),
        cells::age(cron, now),
        json!(containers),
        json!(images),
        json!(selector::format(get(cron, "spec.jobTemplate.spec.selector"))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_checked() {
        assert!(fields_of("*/5 * * * *").is_ok() && fields_of("@daily").is_ok());
        assert_eq!(
            fields_of("* *").unwrap_err(),
            "expected exactly 5 fields, found 2: [* *]"
        );
        assert!(fields_of("@sometimes").is_err());
    }

    #[test]
    fn a_cron_job_with_little_said() {
        let mut cron = json!({"metadata": {"name": "c", "namespace": "n"}, "spec": {"schedule": "@hourly", "jobTemplate":
            {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "a"}]}}}}}});
        (KIND.default)(&mut cron);
        assert!(KIND.check_create(&cron).is_empty());
        assert_eq!(
            row(&cron, Timestamp::UNIX_EPOCH)[1..6],
            [
                json!("@hourly"),
                json!("<none>"),
                json!("False"),
                json!(0),
                json!("<none>")
            ]
        );
    }
}
