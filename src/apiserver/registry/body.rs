//! Request bodies as objects, and what delete options say wherever they stand.

use api::decode::{self, FieldValidation};
use api::request::{Options, Request};
use api::schema::{Gvk, Schema, Schemas};
use api::status::{FieldError, Status};
use api::value;
use serde_json::Value;

/// The longest field manager name.
const MANAGER_MAX: usize = 128;

/// Decodes the body as an object of that schema; the texts are warnings.
///
/// # Errors
/// As [`decode::decode`]; 422 for a field manager that makes no sense.
pub(super) fn object(request: &Request, schema: &Schema, gvk: &Gvk) -> Result<(Value, Vec<String>), Status> {
    manager(&request.options)?;
    let validation = FieldValidation::parse(&request.options.field_validation)?;
    decode::decode(&request.body, &request.content_type, schema, validation, gvk)
}

/// Checks the field manager's name.
///
/// # Errors
/// 422 when it is too long or not printable.
pub(super) fn manager(options: &Options) -> Result<(), Status> {
    let name = &options.field_manager;
    let mut errors = Vec::new();
    if name.len() > MANAGER_MAX {
        errors.push(FieldError::too_long("fieldManager", MANAGER_MAX));
    }
    if name.chars().any(char::is_control) {
        let why = "should only contain printable characters";
        errors.push(FieldError::invalid("fieldManager", name.as_str(), why));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Status::invalid("meta.k8s.io", "CreateOptions", "", &errors))
    }
}

/// The options of a deletion: those of the body, where there is one, else those of the query.
///
/// # Errors
/// 400 for a malformed body, 422 for options that make no sense.
pub(super) fn delete_options(request: &Request) -> Result<Options, Status> {
    let mut options = request.options.clone();
    if !request.body.is_empty() {
        from_body(request, &mut options)?;
    }
    let mut errors = Vec::new();
    let known = ["Background", "Foreground", "Orphan"];
    let policy = options.propagation_policy.as_str();
    if !policy.is_empty() && !known.contains(&policy) {
        errors.push(FieldError::not_supported("propagationPolicy", policy, &known));
    }
    if let Some(seconds) = options.grace_period_seconds.filter(|s| *s < 0) {
        // Kubernetes takes a negative period for 1 second.
        tracing::debug!(seconds, "a negative grace period is taken for one second");
        options.grace_period_seconds = Some(1);
    }
    if errors.is_empty() {
        Ok(options)
    } else {
        Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", &errors))
    }
}

fn from_body(request: &Request, options: &mut Options) -> Result<(), Status> {
    let schema = Schemas::builtin()
        .for_kind("", "v1", "DeleteOptions")
        .ok_or_else(|| Status::internal("no schema for DeleteOptions"))?;
    let gvk = Gvk::new("", "v1", "DeleteOptions");
    let (body, _) = decode::decode(
        &request.body,
        &request.content_type,
        &schema,
        FieldValidation::Ignore,
        &gvk,
    )?;
    if let Some(seconds) = value::int(&body, "gracePeriodSeconds") {
        options.grace_period_seconds = Some(seconds);
    }
    let policy = value::text(&body, "propagationPolicy");
    let orphan = value::get(&body, "orphanDependents").as_bool();
    match (policy, orphan) {
        ("", Some(true)) => options.propagation_policy = "Orphan".into(),
        ("", Some(false)) => options.propagation_policy = "Background".into(),
        ("", None) => {}
        (_, Some(_)) => {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            let error = FieldError::invalid("propagationPolicy", policy, why);
            return Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", &[error]));
        }
        (policy, None) => options.propagation_policy = policy.to_owned(),
    }
    let text = |path: &str| Some(value::text(&body, path).to_owned()).filter(|t| !t.is_empty());
    if let Some(uid) = text("preconditions.uid") {
        options.precondition_uid = Some(uid);
    }
    if let Some(version) = text("preconditions.resourceVersion") {
        options.precondition_resource_version = Some(version);
    }
    options.dry_run |= !value::list(&body, "dryRun").is_empty();
    Ok(())
}
