//! AdmissionReview: the question to a webhook and its answer (`admission.k8s.io`). Pure.

use api::status::Status;
use api::value::{entries, fill_number, flag, get, has, list, text};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::admission::dynamic::subject::Objects;

const GROUP: &str = "admission.k8s.io";

/// What a webhook answered.
#[derive(Debug, PartialEq)]
pub struct Answer {
    /// `None` when it lets the request pass, else what it has against it.
    pub denied: Option<Value>,
    /// The JSON patch it wants applied; `None` for none.
    pub patch: Option<Value>,
    /// What the caller is to be warned of.
    pub warnings: Vec<String>,
    /// Audit annotations, without the webhook's name.
    pub annotations: Vec<(String, String)>,
}

/// The question, as it is sent. `request` has everything but the objects.
pub fn question(version: &str, uid: &str, request: &Value, objects: Objects<'_>) -> Bytes {
    let mut request = request.clone();
    request["uid"] = uid.into();
    request["object"] = objects.new_or_null().clone();
    request["oldObject"] = objects.old_or_null().clone();
    let review = json!({
        "kind": "AdmissionReview", "apiVersion": format!("{GROUP}/{version}"), "request": request,
    });
    review.to_string().into()
}

/// Reads the answer to the question with that UID.
///
/// # Errors
/// What is wrong with it, in Kubernetes' words.
pub fn answer(version: &str, uid: &str, mutating: bool, body: &[u8]) -> Result<Answer, String> {
    let review: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let response = get(&review, "response");
    // The older version promised neither, and old webhooks keep to that.
    if version == "v1" {
        identified(&review, uid)?;
    }
    if !response.is_object() {
        return Err("webhook response was absent".to_owned());
    }
    let pairs = entries(response, "auditAnnotations");
    let texts = list(response, "warnings").iter().filter_map(Value::as_str);
    let denied = !flag(response, "allowed");
    Ok(Answer {
        denied: denied.then(|| get(response, "status").clone()),
        patch: patch(response, version, mutating)?,
        warnings: texts.map(str::to_owned).collect(),
        annotations: pairs
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect(),
    })
}

fn identified(review: &Value, uid: &str) -> Result<(), String> {
    let shown = |api_version: &str, kind: &str| format!("{api_version}, Kind={kind}");
    let wanted = shown(&format!("{GROUP}/v1"), "AdmissionReview");
    let (api_version, kind) = (text(review, "apiVersion"), text(review, "kind"));
    let api_version = if api_version.is_empty() { "/" } else { api_version };
    let found = shown(api_version, kind);
    if found != wanted {
        return Err(format!("expected webhook response of {wanted}, got {found}"));
    }
    let given = text(review, "response.uid");
    if has(review, "response") && given != uid {
        return Err(format!("expected response.uid={uid:?}, got {given:?}"));
    }
    Ok(())
}

fn patch(response: &Value, version: &str, mutating: bool) -> Result<Option<Value>, String> {
    let (encoded, kind) = (text(response, "patch"), get(response, "patchType"));
    if !mutating {
        return match (encoded.is_empty(), kind.is_null()) {
            _ if version != "v1" => Ok(None),
            (false, _) => Err("validating webhook may not return response.patch".to_owned()),
            (true, false) => Err("validating webhook may not return response.patchType".to_owned()),
            (true, true) => Ok(None),
        };
    }
    match (encoded.is_empty(), kind.as_str()) {
        (true, None) => return Ok(None),
        (true, Some(_)) if version != "v1" => return Ok(None),
        (true, Some(_)) => {
            return Err("webhook returned response.patchType but not response.patch".to_owned());
        }
        (false, None) if version == "v1" => {
            return Err("webhook returned response.patch but not response.patchType".to_owned());
        }
        (false, Some(other)) if other != "JSONPatch" => {
            return Err(format!(
                "webhook returned invalid response.patchType of {other:?}"
            ));
        }
        (false, _) => {}
    }
    let undecodable = |why: String| format!("received undecodable patch in webhook response: {why}");
    let bytes = STANDARD.decode(encoded);
    let bytes = bytes.map_err(|error| undecodable(error.to_string()))?;
    let patch: Value = serde_json::from_slice(&bytes).map_err(|error| undecodable(error.to_string()))?;
    let empty = patch.as_array().is_some_and(Vec::is_empty);
    Ok(Some(patch).filter(|_| !empty))
}

/// The refusal that a webhook's `status` comes to.
pub fn denial(hook: &str, given: &Value) -> Status {
    let mut given = given.clone();
    fill_number(&mut given, "code", 400);
    let read = serde_json::from_value(given);
    let mut status: Status = read.unwrap_or_else(|_| Status::new(400, "", ""));
    let denied = format!("admission webhook {hook:?} denied the request");
    status.message = match (status.message.as_str(), status.reason.as_str()) {
        ("", "") => format!("{denied} without explanation"),
        ("", reason) => format!("{denied}: {reason}"),
        (message, _) => format!("{denied}: {message}"),
    };
    status.code = status.code.max(400);
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mutating: bool, response: Value) -> Result<Answer, String> {
        let review =
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
        answer("v1", "u1", mutating, review.to_string().as_bytes())
    }

    #[test]
    fn answers_are_checked() {
        let patch = STANDARD.encode(r#"[{"op":"add","path":"/a","value":1}]"#);
        let good = json!({"uid": "u1", "allowed": true, "patch": patch, "patchType": "JSONPatch",
            "warnings": ["careful"], "auditAnnotations": {"k": "v"}});
        let said = read(true, good).unwrap();
        assert_eq!(said.patch, Some(json!([{"op": "add", "path": "/a", "value": 1}])));
        assert_eq!((said.denied, said.warnings), (None, vec!["careful".to_owned()]));
        for (mutating, response, why) in [
            (
                true,
                json!({"uid": "u2", "allowed": true}),
                "expected response.uid=\"u1\", got \"u2\"",
            ),
            (
                true,
                json!({"uid": "u1", "allowed": true, "patch": patch}),
                "webhook returned response.patch but not response.patchType",
            ),
            (
                false,
                json!({"uid": "u1", "allowed": true, "patch": patch}),
                "validating webhook may not return response.patch",
            ),
            (true, Value::Null, "webhook response was absent"),
        ] {
            assert_eq!(read(mutating, response).unwrap_err(), why);
        }
        let nothing = answer("v1", "u1", true, b"{}").unwrap_err();
        assert_eq!(
            nothing,
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind="
        );
        let old = answer("v1beta1", "u1", true, br#"{"response": {"allowed": true}}"#).unwrap();
        assert_eq!(old.denied, None);
    }

    #[test]
    fn denials_say_who_and_why() {
        let why = denial(
            "a.b.c",
            &json!({"message": "no", "code": 200, "reason": "Forbidden"}),
        );
        assert_eq!((why.code, why.reason.as_str()), (400, "Forbidden"));
        assert_eq!(why.message, "admission webhook \"a.b.c\" denied the request: no");
        assert_eq!(
            denial("a.b.c", &Value::Null).message,
            "admission webhook \"a.b.c\" denied the request without explanation"
        );
        assert_eq!(denial("a.b.c", &json!({"code": 403})).code, 403);
    }

    proptest::proptest! {
        #[test]
        fn damaged_answers_are_refused_or_read(seed: u64) {
            let random = base::SeededRandom::new(seed);
            let patch = STANDARD.encode(r#"[{"op":"add","path":"/a","value":1}]"#);
            let whole = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": {
                "uid": "u1", "allowed": false, "patch": patch, "patchType": "JSONPatch", "warnings": ["w"],
                "status": {"code": 403, "message": "no", "details": {"causes": [{"message": "m"}]}},
                "auditAnnotations": {"k": "v"}}});
            let mut body = whole.to_string().into_bytes();
            random.damage(&mut body);
            for mutating in [true, false] {
                if let Ok(said) = answer("v1", "u1", mutating, &body) {
                    let given = said.denied.map(|given| denial("a.b.c", &given));
                    assert!(given.is_none_or(|status| status.code >= 400));
                }
            }
        }
    }
}
