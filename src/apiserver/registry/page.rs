//! Pages of a list: continue tokens, and which options go together
//! (apimachinery `apis/meta/internalversion/validation`, apiserver `storage/continue.go`).

use api::decode;
use api::request::Options;
use api::status::{FieldError, Status};
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::{DecodeError, Engine as _};
use serde::{Deserialize, Serialize};

use crate::numbers;

/// Where the next page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// The revision of the whole list; `None` reads the latest, so pages may not fit together.
    pub revision: Option<u64>,
    /// The last key of the page before, without the collection's prefix.
    pub after: String,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    #[serde(default)]
    v: String,
    #[serde(default)]
    rv: i64,
    #[serde(default)]
    start: String,
}

const VERSION: &str = "meta.k8s.io/v1";
/// The option that says how `resourceVersion` is meant.
const MATCH: &str = "resourceVersionMatch";

impl Token {
    /// The text that clients send back.
    pub fn text(&self) -> String {
        let rv = self.revision.and_then(|r| i64::try_from(r).ok()).unwrap_or(-1);
        // A key followed by NUL is the first key after it, which is how Kubernetes says "after".
        let wire = Wire {
            v: VERSION.into(),
            rv,
            start: format!("{}\0", self.after),
        };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&wire).unwrap_or_default())
    }

    /// Reads a token.
    ///
    /// # Errors
    /// 400 for one that we did not write.
    pub fn parse(text: &str) -> Result<Self, Status> {
        let bad = |why: &str| {
            Status::bad_request(format!("invalid continue token: continue key is not valid{why}"))
        };
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|error| {
            bad(&format!(
                ": illegal base64 data at input byte {}",
                place(text, &error)
            ))
        })?;
        decode::well_formed(&bytes).map_err(|error| bad(&format!(": {error}")))?;
        let wire: Wire = serde_json::from_slice(&bytes).map_err(|error| bad(&format!(": {error}")))?;
        if wire.v != VERSION {
            return Err(bad(&format!(
                ": server does not recognize this encoded version {}",
                wire.v
            )));
        }
        if wire.rv == 0 {
            return Err(bad(
                ": incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
            ));
        }
        if wire.start.is_empty() {
            return Err(bad(": encoded start key empty (version meta.k8s.io/v1)"));
        }
        let after = wire.start.strip_suffix('\0').unwrap_or_default();
        // A token leads to a place in its own collection and nowhere else.
        if after.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(bad(&format!(": {}", wire.start)));
        }
        Ok(Self {
            revision: u64::try_from(wire.rv).ok(),
            after: after.to_owned(),
        })
    }
}

/// Where a text ceases to be base64.
fn place(text: &str, error: &DecodeError) -> usize {
    match error {
        DecodeError::InvalidByte(at, _)
        | DecodeError::InvalidLastSymbol(at, _)
        | DecodeError::InvalidLength(at) => *at,
        // There is none where it is read.
        DecodeError::InvalidPadding => text.find('=').unwrap_or_default(),
    }
}

/// 410 for a token whose revision has been compacted away; with it a token that goes on from the same place with
/// whatever there is now.
pub(super) fn token_expired(token: Token) -> Status {
    let mut status = Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list \
         without the continue parameter, or use the continue token in this response to retrieve the remainder of \
         the results. Continuing with the provided token results in an inconsistent list - objects that were created, \
         modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    let latest = Token {
        revision: None,
        ..token
    };
    status.continue_token = latest.text();
    status
}

/// Which state of a collection is to be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// The latest one.
    Latest,
    /// The latest one, which must not be older than this revision.
    NotOlderThan(u64),
    /// Exactly the one at this revision.
    Exactly(u64),
}

/// Reads `resourceVersion` and `resourceVersionMatch` of a list.
///
/// # Errors
/// 400 or 422 for options that do not go together.
pub(super) fn list_at(options: &Options) -> Result<At, Status> {
    let given = options.resource_version.as_deref().unwrap_or_default();
    let how = options.resource_version_match.as_str();
    let mut errors = match_errors(options, given, how);
    if options.send_initial_events.is_some() {
        errors.push(FieldError::forbidden(
            "sendInitialEvents",
            "sendInitialEvents is forbidden for list",
        ));
    }
    if !errors.is_empty() {
        return Err(Status::invalid("meta.k8s.io", "ListOptions", "", &errors));
    }
    if !options.continue_token.is_empty() && !matches!(given, "" | "0") {
        return Err(Status::bad_request(
            "specifying resource version is not allowed when using continue",
        ));
    }
    let revision = revision(given)?;
    Ok(match (revision, how) {
        (None, _) => At::Latest,
        (Some(revision), "Exact") => At::Exactly(revision),
        // A page of a given size of "some state" is a page of exactly that state, as before there was a choice.
        (Some(revision), "") if options.limit > 0 && revision > 0 => At::Exactly(revision),
        (Some(revision), _) => At::NotOlderThan(revision),
    })
}

fn match_errors(options: &Options, given: &str, how: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if how.is_empty() {
        return errors;
    }
    if given.is_empty() {
        errors.push(FieldError::forbidden(
            MATCH,
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        ));
    }
    if !options.continue_token.is_empty() {
        errors.push(FieldError::forbidden(
            MATCH,
            "resourceVersionMatch is forbidden when continue is provided",
        ));
    }
    if !matches!(how, "Exact" | "NotOlderThan") {
        errors.push(FieldError::not_supported(
            MATCH,
            how,
            &["Exact", "NotOlderThan", ""],
        ));
    }
    if how == "Exact" && given == "0" {
        let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
        errors.push(FieldError::forbidden(MATCH, why));
    }
    errors
}

/// Reads a resource version; `None` for an empty one.
///
/// # Errors
/// 400 for anything but a decimal number.
pub(super) fn revision(text: &str) -> Result<Option<u64>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits).map(Some).ok_or_else(|| {
        let why = numbers::not_unsigned(text);
        let error = FieldError::invalid("resourceVersion", text, why);
        Status::bad_request(format!("invalid resource version: {error}"))
    })
}

/// Checks the options of a watch; says whether it begins with the current state.
///
/// # Errors
/// 422 for options that do not go together.
pub(super) fn watch_begins_with_state(options: &Options) -> Result<bool, Status> {
    let given = options.resource_version.as_deref().unwrap_or_default();
    let how = options.resource_version_match.as_str();
    let errors = watch_errors(options, how);
    if !errors.is_empty() {
        return Err(Status::invalid("meta.k8s.io", "ListOptions", "", &errors));
    }
    Ok(options.send_initial_events.unwrap_or(matches!(given, "" | "0")))
}

fn watch_errors(options: &Options, how: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let asked = options.send_initial_events.is_some();
    let mut forbid = |why: &str| errors.push(FieldError::forbidden(MATCH, why));
    if asked && how != "NotOlderThan" {
        forbid("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
    }
    if how.is_empty() {
        return errors;
    }
    if !asked {
        forbid("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided");
    }
    if how != "NotOlderThan" {
        errors.push(FieldError::not_supported(MATCH, how, &["NotOlderThan"]));
    }
    if !options.continue_token.is_empty() {
        let why = "resourceVersionMatch is forbidden when continue is provided";
        errors.push(FieldError::forbidden(MATCH, why));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_as_they_were() {
        for revision in [Some(7), None] {
            let token = Token {
                revision,
                after: "default/web-1".into(),
            };
            assert_eq!(Token::parse(&token.text()).unwrap(), token);
        }
        for (text, why) in [
            ("nonsense!", "illegal base64 data at input byte 8"),
            ("e30=", "illegal base64 data at input byte 3"),
            ("Zm9v", "invalid character 'o' in literal false (expecting 'a')"),
            ("e30", "server does not recognize this encoded version "),
        ] {
            let said = format!("invalid continue token: continue key is not valid: {why}");
            let status = Token::parse(text).unwrap_err();
            assert_eq!((status.code, status.message), (400, said));
        }
        let outside = Token {
            revision: Some(1),
            after: "../secrets/x".into(),
        };
        assert_eq!(Token::parse(&outside.text()).unwrap_err().code, 400);
    }

    proptest::proptest! {
        /// A token that was tampered with leads nowhere but to a place in its collection.
        #[test]
        fn damaged_tokens_are_refused_or_read(seed: u64) {
            let random = base::SeededRandom::new(seed);
            let token = Token { revision: Some(7), after: "default/web-1".into() };
            let mut wire = URL_SAFE_NO_PAD.decode(token.text()).expect("base64");
            random.damage(&mut wire);
            let mut text = URL_SAFE_NO_PAD.encode(wire).into_bytes();
            if seed % 2 == 0 {
                random.damage(&mut text);
            }
            if let Ok(token) = Token::parse(&String::from_utf8_lossy(&text)) {
                proptest::prop_assert!(!token.after.split('/').any(|part| matches!(part, "" | "." | "..")));
            }
        }
    }

    fn at(version: Option<&str>, how: &str, limit: u64) -> Result<At, u16> {
        let options = Options {
            resource_version: version.map(str::to_owned),
            resource_version_match: how.into(),
            limit,
            ..Options::default()
        };
        list_at(&options).map_err(|s| s.code)
    }

    #[test]
    fn versions_and_matches_go_together_as_documented() {
        assert_eq!(at(None, "", 0), Ok(At::Latest));
        assert_eq!(at(Some("0"), "", 5), Ok(At::NotOlderThan(0)));
        assert_eq!(at(Some("7"), "", 0), Ok(At::NotOlderThan(7)));
        assert_eq!(at(Some("7"), "", 5), Ok(At::Exactly(7)));
        assert_eq!(at(Some("7"), "NotOlderThan", 5), Ok(At::NotOlderThan(7)));
        assert_eq!(at(Some("7"), "Exact", 0), Ok(At::Exactly(7)));
        assert_eq!(at(Some("0"), "Exact", 0), Err(422));
        assert_eq!(at(None, "Exact", 0), Err(422));
        assert_eq!(at(Some("7"), "Roughly", 0), Err(422));
        assert_eq!(at(Some("x"), "", 0), Err(400));
        let large = revision("18446744073709551616").unwrap_err();
        assert!(large.message.ends_with("value out of range"), "{}", large.message);
    }
}
