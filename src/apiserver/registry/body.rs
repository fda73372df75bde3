//! Request bodies as objects, and what delete options say wherever they stand.

use api::decode::{self, FieldValidation};
use api::request::{Options, Request, Verb};
use api::schema::{Gvk, Schema, Schemas};
use api::status::{FieldError, Status};
use api::value;
use serde_json::Value;

/// What may become of dependents.
const POLICIES: [&str; 3] = ["Foreground", "Background", "Orphan"];
const BOTH: &str = "orphanDependents and deletionPropagation cannot be both set";
/// The longest field manager name.
const MANAGER_MAX: usize = 128;

/// The kind of the options that a request has.
pub(crate) fn options_kind(verb: Verb) -> &'static str {
    match verb {
        Verb::Create => "CreateOptions",
        Verb::Update => "UpdateOptions",
        Verb::Patch(_) => "PatchOptions",
        Verb::Delete | Verb::DeleteCollection => "DeleteOptions",
        Verb::Get | Verb::List | Verb::Watch => "ListOptions",
    }
}

/// Decodes the body as an object of that schema; the texts are warnings.
///
/// # Errors
/// As [`decode::decode`]; 422 for a field manager that makes no sense.
pub(super) fn object(request: &Request, schema: &Schema, gvk: &Gvk) -> Result<(Value, Vec<String>), Status> {
    manager(request)?;
    let validation = FieldValidation::parse(&request.options.field_validation)?;
    decode::decode(&request.body, &request.content_type, schema, validation, gvk)
}

/// Checks the field manager's name.
///
/// # Errors
/// 422 when it is too long or not printable.
pub(super) fn manager(request: &Request) -> Result<(), Status> {
    let name = &request.options.field_manager;
    let mut errors = Vec::new();
    if name.len() > MANAGER_MAX {
        errors.push(FieldError::too_long("fieldManager", MANAGER_MAX));
    }
    for (at, letter) in name.char_indices().filter(|(_, letter)| !is_printed(*letter)) {
        let why = format!("invalid character U+{:04X} (at position {at})", u32::from(letter));
        errors.push(FieldError::invalid("fieldManager", name.as_str(), why));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Status::invalid(
            "meta.k8s.io",
            options_kind(request.verb),
            "",
            &errors,
        ))
    }
}

/// Whether a letter shows; of all spaces only the ordinary one does.
fn is_printed(letter: char) -> bool {
    letter == ' ' || !(letter.is_control() || letter.is_whitespace())
}

/// The options of a deletion: those of the body, where there is one, else those of the query.
///
/// # Errors
/// 400 for a malformed body, 422 for options that make no sense.
pub(super) fn delete_options(request: &Request) -> Result<Options, Status> {
    let mut options = request.options.clone();
    let mut errors = Vec::new();
    if !request.body.is_empty() {
        // The body is all there is: what the query says of deletions counts no more.
        options.grace_period_seconds = None;
        options.propagation_policy.clear();
        options.dry_run = false;
        errors.extend(from_body(request, &mut options)?);
    }
    let policy = options.propagation_policy.as_str();
    if !policy.is_empty() && !POLICIES.contains(&policy) {
        let known = POLICIES.into_iter().chain(["nil"]).collect::<Vec<_>>();
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

/// Takes over what the body says; returns what is wrong with it.
fn from_body(request: &Request, options: &mut Options) -> Result<Vec<FieldError>, Status> {
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
    let mut errors = Vec::new();
    let policy = value::text(&body, "propagationPolicy");
    let orphan = value::get(&body, "orphanDependents").as_bool();
    match (policy, orphan) {
        ("", Some(true)) => options.propagation_policy = "Orphan".into(),
        ("", Some(false)) => options.propagation_policy = "Background".into(),
        ("", None) => {}
        (policy, orphan) => {
            options.propagation_policy = policy.to_owned();
            if orphan.is_some() {
                errors.push(FieldError::invalid("propagationPolicy", policy, BOTH));
            }
        }
    }
    let text = |path: &str| Some(value::text(&body, path).to_owned()).filter(|t| !t.is_empty());
    if let Some(uid) = text("preconditions.uid") {
        options.precondition_uid = Some(uid);
    }
    if let Some(version) = text("preconditions.resourceVersion") {
        options.precondition_resource_version = Some(version);
    }
    let tried = value::list(&body, "dryRun");
    options.dry_run |= !tried.is_empty();
    if tried.iter().any(|value| value != "All") {
        errors.push(FieldError::not_supported("dryRun", tried.to_vec(), &["All"]));
    }
    Ok(errors)
}

#[cfg(test)]
mod tests {
    use api::request::{ResourceRef, User};
    use base::SeededRandom;

    use super::*;

    /// The same in each encoding, in whose name it may come.
    const BODIES: [&[u8]; 3] = [
        br#"{"kind":"DeleteOptions","apiVersion":"apps/v1","gracePeriodSeconds":5,"propagationPolicy":"Orphan"}"#,
        b"kind: DeleteOptions\ngracePeriodSeconds: 5\npropagationPolicy: Orphan\n",
        b"k8s\0\n\x13\n\x02v1\x12\rDeleteOptions\x12\x04\x08\x05\x18\x01",
    ];
    const FORMS: [&str; 3] = [
        "application/json",
        "application/yaml",
        "application/vnd.kubernetes.protobuf",
    ];

    fn read(body: &[u8], content_type: &str) -> Result<Options, Status> {
        let resource = ResourceRef::new("apps", "v1", "deployments");
        let mut request = Request::new(User::anonymous(), Verb::Delete, resource, "default", "a");
        request.options.propagation_policy = "Background".into();
        request.body = body.to_vec().into();
        request.content_type = content_type.to_owned();
        delete_options(&request)
    }

    #[test]
    fn options_of_deletions_come_in_three_encodings() {
        for (body, content_type) in BODIES.into_iter().zip(FORMS) {
            let options = read(body, content_type).unwrap();
            assert_eq!(options.grace_period_seconds, Some(5), "{content_type}");
            assert_eq!(options.propagation_policy, "Orphan");
        }
        assert_eq!(read(b"[", "application/json").unwrap_err().code, 400);
        assert_eq!(read(b"x", "text/plain").unwrap_err().code, 415);
        assert_eq!(read(b"{}", "").unwrap().propagation_policy, "");
        assert_eq!(read(b"", "").unwrap().propagation_policy, "Background");
    }

    #[test]
    fn managers_have_names_that_can_be_read() {
        let of = |verb, name: &str| {
            let resource = ResourceRef::new("", "v1", "pods");
            let mut request = Request::new(User::anonymous(), verb, resource, "default", "a");
            request.options.field_manager = name.to_owned();
            manager(&request).map_err(|status| status.message)
        };
        assert_eq!(of(Verb::Create, "kubectl edit"), Ok(()));
        for (verb, name, why) in [
            (
                Verb::Update,
                "é\t",
                "UpdateOptions.meta.k8s.io \"\" is invalid: fieldManager: Invalid value: \"é\\t\": invalid \
                 character U+0009 (at position 2)",
            ),
            (
                Verb::Create,
                &"x".repeat(129),
                "CreateOptions.meta.k8s.io \"\" is invalid: fieldManager: Too long: may not be more than 128 bytes",
            ),
        ] {
            assert_eq!(of(verb, name).unwrap_err(), why);
        }
    }

    #[test]
    fn options_of_deletions_must_make_sense() {
        for (body, why) in [
            (
                r#"{"orphanDependents":false,"propagationPolicy":"Orphan"}"#,
                "propagationPolicy: Invalid value: \"Orphan\": orphanDependents and deletionPropagation cannot be both \
                 set",
            ),
            (
                r#"{"propagationPolicy":"Foo"}"#,
                "propagationPolicy: Unsupported value: \"Foo\": supported values: \"Foreground\", \"Background\", \
                 \"Orphan\", \"nil\"",
            ),
            (
                r#"{"dryRun":["Some"]}"#,
                "dryRun: Unsupported value: [\"Some\"]: supported values: \"All\"",
            ),
        ] {
            let refused = read(body.as_bytes(), "application/json").unwrap_err();
            assert_eq!(refused.code, 422);
            assert_eq!(
                refused.message,
                format!("DeleteOptions.meta.k8s.io \"\" is invalid: {why}")
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn damaged_options_are_refused_or_read(seed: u64) {
            let random = SeededRandom::new(seed);
            let mut body = random.one_of(&BODIES).map(|body| body.to_vec()).unwrap_or_default();
            random.damage(&mut body);
            for form in FORMS {
                let _ = read(&body, form);
            }
        }
    }
}
