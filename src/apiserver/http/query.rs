//! Query parameters, read as Kubernetes' option types read them.

use api::request::{Options, PatchType, Verb};
use api::status::{FieldError, Status};

use super::path::decode;
use crate::numbers;
use crate::registry::options_kind;

/// Decoded `key=value` pairs in the order in which they were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads what follows the `?`. Pairs with broken escapes are left out, as Go does.
    pub fn parse(text: &str) -> Self {
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(key, true)?, decode(value, true)?))
        };
        Self(
            text.split('&')
                .filter(|p| !p.is_empty())
                .filter_map(pair)
                .collect(),
        )
    }

    /// The first value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, value)| value.as_str())
    }

    /// Every value of a key.
    pub fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(k, _)| k == key)
            .map(|(_, value)| value.as_str())
    }

    /// Whether a switch is on: present, and neither `false` nor `0`.
    pub fn flag(&self, key: &str) -> bool {
        self.get(key)
            .is_some_and(|value| !value.eq_ignore_ascii_case("false") && value != "0")
    }

    /// A number; 400 when it is none. An empty text is none either.
    pub fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, Status> {
        let Some(text) = self.get(key) else {
            return Ok(None);
        };
        let wrong = |_| Status::bad_request(numbers::not_signed(text));
        text.parse().map(Some).map_err(wrong)
    }

    /// A number of which only those above zero mean something: what is below counts as zero.
    fn whole(&self, key: &str) -> Result<Option<u64>, Status> {
        let number: Option<i64> = self.number(key)?;
        Ok(number.map(|number| u64::try_from(number).unwrap_or(0)))
    }
}

/// The options of a request for `verb`, from its query and its user agent.
pub fn options(query: &Query, verb: Verb, user_agent: &str) -> Result<Options, Status> {
    let text = |key: &str| query.get(key).unwrap_or_default().to_owned();
    let mut options = Options {
        label_selector: text("labelSelector"),
        field_selector: text("fieldSelector"),
        limit: query.whole("limit")?.unwrap_or_default(),
        continue_token: text("continue"),
        resource_version: query
            .get("resourceVersion")
            .filter(|v| !v.is_empty())
            .map(str::to_owned),
        resource_version_match: text("resourceVersionMatch"),
        allow_watch_bookmarks: query.flag("allowWatchBookmarks"),
        send_initial_events: query
            .get("sendInitialEvents")
            .map(|_| query.flag("sendInitialEvents")),
        timeout_seconds: query.whole("timeoutSeconds")?,
        dry_run: query.get("dryRun").is_some(),
        field_manager: text("fieldManager"),
        field_validation: text("fieldValidation"),
        force: query.flag("force"),
        grace_period_seconds: query.number("gracePeriodSeconds")?,
        propagation_policy: text("propagationPolicy"),
        ..Options::default()
    };
    let errors = wrong(query, verb, &options);
    if !errors.is_empty() {
        return Err(Status::invalid("meta.k8s.io", options_kind(verb), "", &errors));
    }
    // Apply demands that the manager be named; everyone else is known by their program's name.
    if options.field_manager.is_empty() && verb != Verb::Patch(PatchType::Apply) {
        options.field_manager = manager(user_agent);
    }
    if query.get("orphanDependents").is_some() && options.propagation_policy.is_empty() {
        let orphans = query.flag("orphanDependents");
        options.propagation_policy = if orphans { "Orphan" } else { "Background" }.into();
    }
    Ok(options)
}

fn wrong(query: &Query, verb: Verb, options: &Options) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let patches = matches!(verb, Verb::Patch(how) if how != PatchType::Apply);
    if patches && query.get("force").is_some() {
        errors.push(FieldError::forbidden(
            "force",
            "may not be specified for non-apply patch",
        ));
    }
    let tried: Vec<&str> = query.all("dryRun").collect();
    if tried.iter().any(|value| *value != "All") {
        errors.push(FieldError::not_supported("dryRun", tried, &["All"]));
    }
    if query.get("orphanDependents").is_some() && !options.propagation_policy.is_empty() {
        errors.push(FieldError::invalid(
            "propagationPolicy",
            options.propagation_policy.as_str(),
            "orphanDependents and deletionPropagation cannot be both set",
        ));
    }
    let validation = &options.field_validation;
    if !["", "Ignore", "Warn", "Strict"].contains(&validation.as_str()) {
        let supported = ["", "Ignore", "Strict", "Warn"];
        errors.push(FieldError::not_supported(
            "fieldValidation",
            validation.as_str(),
            &supported,
        ));
    }
    errors
}

/// A user agent's first word: `kubectl` of `kubectl/v1.33.1 (linux/amd64)`.
fn manager(user_agent: &str) -> String {
    let word = user_agent.split('/').next().unwrap_or_default();
    let printable: String = word.chars().filter(|c| !c.is_control()).take(128).collect();
    if printable.is_empty() {
        "unknown".to_owned()
    } else {
        printable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_numbers_and_texts() {
        let query = Query::parse(
            "watch=1&limit=500&labelSelector=app%3Dweb%2Cx+in+(a)&sendInitialEvents=false&resourceVersion=0&force=fAlse",
        );
        assert!(query.flag("watch") && !query.flag("force"));
        let options = options(&query, Verb::List, "kubectl/v1.33.1 (linux/amd64)").unwrap();
        assert_eq!(options.limit, 500);
        assert_eq!(options.label_selector, "app=web,x in (a)");
        assert_eq!(options.send_initial_events, Some(false));
        assert_eq!(options.resource_version.as_deref(), Some("0"));
        assert_eq!(options.timeout_seconds, None);
        assert_eq!(options.field_manager, "kubectl");
    }

    #[test]
    fn nonsense_is_refused() {
        for (text, said) in [
            (
                "limit=many",
                r#"strconv.ParseInt: parsing "many": invalid syntax"#,
            ),
            ("limit=", r#"strconv.ParseInt: parsing "": invalid syntax"#),
            (
                "timeoutSeconds=9223372036854775808",
                r#"strconv.ParseInt: parsing "9223372036854775808": value out of range"#,
            ),
        ] {
            let status = options(&Query::parse(text), Verb::List, "").unwrap_err();
            assert_eq!((status.code, status.message.as_str()), (400, said));
        }
        let bad = Query::parse("dryRun=Some");
        let status = options(&bad, Verb::Create, "").unwrap_err();
        assert_eq!(
            status.message,
            r#"CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: ["Some"]: supported values: "All""#
        );
        let forced =
            |how| options(&Query::parse("force=true"), Verb::Patch(how), "").map_err(|status| status.message);
        assert_eq!(
            forced(PatchType::Merge).unwrap_err(),
            r#"PatchOptions.meta.k8s.io "" is invalid: force: Forbidden: may not be specified for non-apply patch"#
        );
        assert!(forced(PatchType::Apply).unwrap().force);
        assert_eq!(Query::parse("a=%zz&b=1"), Query(vec![("b".into(), "1".into())]));
    }
}
