//! ConversionReview: the question to a conversion webhook and its answer (`apiextensions.k8s.io`). Pure.

use api::object;
use api::value::{get, get_mut, text};
use bytes::Bytes;
use serde_json::{Map, Value, json};

const GROUP: &str = "apiextensions.k8s.io";

/// The question, as it is sent.
pub fn question(spoken: &str, uid: &str, objects: &[&Value], version: &str) -> Bytes {
    let review = json!({
        "kind": "ConversionReview", "apiVersion": format!("{GROUP}/{spoken}"),
        "request": {"uid": uid, "desiredAPIVersion": version, "objects": objects},
    });
    review.to_string().into()
}

/// The converted objects that an answer holds.
///
/// # Errors
/// What the webhook says against it, or what is wrong with its answer.
pub fn answer(spoken: &str, uid: &str, body: &[u8]) -> Result<Vec<Value>, String> {
    let mut review: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let wanted = format!("{GROUP}/v1, Kind=ConversionReview");
    let found = format!("{}, Kind={}", text(&review, "apiVersion"), text(&review, "kind"));
    if spoken == "v1" && found != wanted {
        return Err(format!("expected webhook response of {wanted}, got {found}"));
    }
    if !get(&review, "response").is_object() {
        return Err("no response provided".to_owned());
    }
    let given = text(&review, "response.uid");
    if spoken == "v1" && given != uid {
        return Err(format!("expected response.uid={uid:?}, got {given:?}"));
    }
    let (status, message) = (
        text(&review, "response.result.status"),
        text(&review, "response.result.message"),
    );
    if status != "Success" {
        return Err(match message {
            "" => format!("response.result.status was '{status}', not 'Success'"),
            message => message.to_owned(),
        });
    }
    let converted = get_mut(&mut review, "response.convertedObjects").map(Value::take);
    match converted {
        Some(Value::Array(objects)) => Ok(objects),
        _ => Ok(Vec::new()),
    }
}

/// The converted objects if they are what was asked for, each with the metadata of its original, of which a
/// webhook may change labels and annotations alone.
///
/// # Errors
/// What is wrong with them.
pub fn accept(sent: &[&Value], made: Vec<Value>, version: &str) -> Result<Vec<Value>, String> {
    if made.len() != sent.len() {
        return Err(format!(
            "returned {} objects, expected {}",
            made.len(),
            sent.len()
        ));
    }
    let pairs = sent.iter().zip(made).enumerate();
    pairs
        .map(|(place, (original, mut converted))| {
            let wrong = |why: String| format!("returned invalid converted object at index {place}: {why}");
            same(original, &converted, version).map_err(wrong)?;
            restore(original, &mut converted).map_err(wrong)?;
            Ok(converted)
        })
        .collect()
}

fn same(original: &Value, converted: &Value, version: &str) -> Result<(), String> {
    let given = object::api_version(converted);
    if given != version {
        return Err(format!(
            "invalid groupVersion (expected {version}, received {given})"
        ));
    }
    let (kind, given) = (object::kind(original), object::kind(converted));
    if given != kind {
        return Err(format!("invalid kind (expected {kind}, received {given})"));
    }
    for (key, shown) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
        let path = &["metadata", key];
        let (was, is) = (object::get_str(original, path), object::get_str(converted, path));
        if was != is {
            return Err(format!("must have the same {shown}: {was} != {is}"));
        }
    }
    Ok(())
}

fn restore(original: &Value, converted: &mut Value) -> Result<(), String> {
    let made = object::get_map(converted, &["metadata"]);
    let mut metadata: Map<String, Value> = object::get_map(original, &["metadata"]).clone();
    for key in ["labels", "annotations"] {
        metadata.remove(key);
        match made.get(key) {
            None | Some(Value::Null) => {}
            Some(Value::Object(pairs)) if pairs.values().all(Value::is_string) => {
                metadata.insert(key.to_owned(), Value::Object(pairs.clone()));
            }
            Some(_) => return Err(format!("metadata.{key}: it is no map of texts")),
        }
    }
    object::set(converted, &["metadata"], Value::Object(metadata));
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_damaged_answer_gives_no_object_another_name(seed: u64) {
            let old = thing("e/v1", json!({}));
            let said = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": {
                "uid": "u1", "result": {"status": "Success"}, "convertedObjects": [thing("e/v2", json!({}))]}});
            let mut bytes = said.to_string().into_bytes();
            base::SeededRandom::new(seed).damage(&mut bytes);
            let made = answer("v1", "u1", &bytes).and_then(|made| accept(&[&old], made, "e/v2"));
            for object in made.unwrap_or_default() {
                let of = |key: &str| (object["metadata"][key].clone(), old["metadata"][key].clone());
                for (is, was) in [of("name"), of("uid"), of("resourceVersion")] {
                    prop_assert_eq!(is, was);
                }
            }
        }
    }

    fn thing(version: &str, extra: Value) -> Value {
        let mut metadata = json!({"name": "a", "uid": "u", "resourceVersion": "7", "labels": {"x": "y"}});
        if let (Some(metadata), Value::Object(extra)) = (metadata.as_object_mut(), extra) {
            metadata.extend(extra);
        }
        json!({"apiVersion": version, "kind": "Thing", "metadata": metadata})
    }

    #[test]
    fn what_comes_back_is_checked_and_keeps_its_metadata() {
        let old = thing("e/v1", json!({}));
        let asked: Value = serde_json::from_slice(&question("v1", "u1", &[&old], "e/v2")).unwrap();
        assert_eq!(
            asked["request"],
            json!({"uid": "u1", "desiredAPIVersion": "e/v2", "objects": [old]})
        );
        let new = thing(
            "e/v2",
            json!({"labels": {"z": "w"}, "resourceVersion": "99", "generation": 9}),
        );
        let made = accept(&[&old], vec![new], "e/v2").unwrap();
        assert_eq!(
            made[0]["metadata"],
            json!({"name": "a", "uid": "u", "resourceVersion": "7", "labels": {"z": "w"}})
        );
        for (made, why) in [
            (vec![], "returned 0 objects, expected 1"),
            (
                vec![thing("e/v1", json!({}))],
                "returned invalid converted object at index 0: invalid groupVersion (expected e/v2, received e/v1)",
            ),
            (
                vec![thing("e/v2", json!({"name": "b"}))],
                "returned invalid converted object at index 0: must have the same name: a != b",
            ),
        ] {
            assert_eq!(accept(&[&old], made, "e/v2").unwrap_err(), why);
        }
    }

    #[test]
    fn a_refusal_is_told() {
        let of = |response: Value| {
            let review = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": response});
            answer("v1", "u1", review.to_string().as_bytes())
        };
        assert_eq!(
            of(json!({"uid": "u1", "result": {"status": "Failure", "message": "too old"}})),
            Err("too old".to_owned())
        );
        assert_eq!(
            of(json!({"uid": "u1", "result": {"status": "Failure"}})),
            Err("response.result.status was 'Failure', not 'Success'".to_owned())
        );
        assert_eq!(
            of(json!({"uid": "u2", "result": {"status": "Success"}})),
            Err("expected response.uid=\"u1\", got \"u2\"".to_owned())
        );
        assert_eq!(
            of(json!({"uid": "u1", "result": {"status": "Success"}, "convertedObjects": [1]})),
            Ok(vec![json!(1)])
        );
    }
}
