//! `/openapi/v2` and `/openapi/v3`: made when asked for, known by their hashes.
//!
//! The documents are large and seldom asked for (clients keep them by hash), so
//! none stays in memory; only the small index and the hashes do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use api::kind::KindRef;
use api::openapi::{self, Place};
use api::status::Status;
use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;

use crate::aggregation::openapi::merge_v2;
use crate::aggregation::{Others, Shown};
use crate::http::negotiate;
use crate::pki::fingerprint;
use crate::served::ServedKinds;

const JSON: &str = "application/json";
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const V3_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";

/// An OpenAPI document, or the news that the client's copy is still good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The text; `None` when the client has it already.
    pub body: Option<Bytes>,
    /// Media type.
    pub content_type: &'static str,
    /// Entity tag, without quotes.
    pub etag: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Which {
    V2Json,
    V2Protobuf,
    V3Index,
    /// A document at its place below `/openapi/v3/`.
    V3 {
        place: String,
        protobuf: bool,
    },
}

impl Which {
    fn of(path: &str, headers: &HeaderMap) -> Option<Self> {
        let path = path.trim_matches('/').strip_prefix("openapi/")?;
        match path {
            "v2" if wants_protobuf(headers, 2) => Some(Which::V2Protobuf),
            "v2" => Some(Which::V2Json),
            "v3" => Some(Which::V3Index),
            path => {
                let place = path
                    .strip_prefix("v3/")
                    .filter(|text| Place::parse(text).is_some())?;
                Some(Which::V3 {
                    place: place.to_owned(),
                    protobuf: wants_protobuf(headers, 3),
                })
            }
        }
    }

    /// Where the document is now, if it is not what that hash stands for any more.
    fn moved(&self, kinds: &[KindRef], hash: &str) -> Option<String> {
        let Which::V3 { place, .. } = self else {
            return None;
        };
        let now = openapi::v3_hash(kinds, Place::parse(place)?);
        (now != hash).then(|| format!("/openapi/v3/{place}?hash={now}"))
    }

    fn make(&self, kinds: &[KindRef], others: &[Shown]) -> Option<Bytes> {
        match self {
            Which::V2Json => Some(v2(kinds, others).to_string().into()),
            Which::V2Protobuf => Some(openapi::v2_protobuf(&v2(kinds, others))),
            Which::V3Index => Some(v3_index(kinds, others)),
            Which::V3 { place, protobuf } => {
                let document = openapi::v3_document(kinds, Place::parse(place)?)?;
                Some(match protobuf {
                    true => openapi::v3_protobuf(&document),
                    false => document.to_string().into(),
                })
            }
        }
    }
}

/// The v2 document with what others say of themselves.
fn v2(kinds: &[KindRef], others: &[Shown]) -> Value {
    let mut document = openapi::v2(kinds);
    for (other, said) in others {
        let text = said.as_ref().map_or(&[][..], |said| &said.openapi_v2);
        if let Ok(theirs) = serde_json::from_slice(text) {
            merge_v2(&mut document, theirs, &other.root());
        }
    }
    document
}

/// The index with the documents of others, which are asked for from them.
fn v3_index(kinds: &[KindRef], others: &[Shown]) -> Bytes {
    let mut index = openapi::v3_index(kinds);
    for (other, said) in others {
        let place = format!("apis/{}", other.group_version());
        match said
            .as_ref()
            .map(|said| said.openapi_v3.as_str())
            .filter(|url| !url.is_empty())
        {
            Some(url) => index["paths"][place] = serde_json::json!({"serverRelativeURL": url}),
            None => api::value::remove(&mut index["paths"], &place),
        }
    }
    index.to_string().into()
}

/// Older kubectl asks for the v2 document in this form and takes no other.
fn wants_protobuf(headers: &HeaderMap, version: u8) -> bool {
    let form = format!("application/com.github.proto-openapi.spec.v{version}");
    let first = negotiate::accepted(headers).into_iter().find_map(|range| {
        let protobuf = range.media.starts_with(&form) && range.media.ends_with("+protobuf");
        let json = matches!(range.media, "application/json" | "*/*" | "application/*");
        (protobuf || json).then_some(protobuf)
    });
    first.unwrap_or(false)
}

/// The state of the served kinds, hashes of documents, and the text of those that are small.
type Known = HashMap<Which, (u64, String, Option<Bytes>)>;

/// OpenAPI documents over a table of kinds.
pub struct OpenApi {
    kinds: Arc<ServedKinds>,
    others: Arc<Others>,
    // A std mutex: nothing awaits while it is held.
    known: Arc<Mutex<Known>>,
}

impl OpenApi {
    /// Documents about those kinds, and about what others serve.
    pub fn new(kinds: Arc<ServedKinds>, others: Arc<Others>) -> Self {
        Self {
            kinds,
            others,
            known: Arc::default(),
        }
    }

    /// Where a document is that a client asks for by a hash which stands for an earlier one.
    pub fn moved(&self, path: &str, hash: &str) -> Option<String> {
        Which::of(path, &HeaderMap::new())?.moved(&self.kinds.all(), hash)
    }

    /// The document at that path; `None` when there is none.
    pub async fn answer(&self, path: &str, headers: &HeaderMap) -> Result<Option<Answer>, Status> {
        let Some(which) = Which::of(path, headers) else {
            return Ok(None);
        };
        let content_type = match which {
            Which::V2Protobuf => V2_PROTOBUF,
            Which::V3 { protobuf: true, .. } => V3_PROTOBUF,
            _ => JSON,
        };
        // Read before the kinds are, so that a change in between makes the document anew next time.
        // Both only grow, so their sum names the state of both.
        let state = self.kinds.state() + self.others.state();
        let known = self.lock().get(&which).cloned();
        if let Some((_, etag, body)) = known.filter(|(of, ..)| *of == state) {
            let unchanged = holds(headers, &etag);
            if unchanged || body.is_some() {
                return Ok(Some(Answer {
                    body: body.filter(|_| !unchanged),
                    content_type,
                    etag,
                }));
            }
        }
        let (kinds, others, asked) = (self.kinds.all(), self.others.all(), which.clone());
        // Tens of milliseconds of work: not on a thread that serves others.
        let made = tokio::task::spawn_blocking(move || {
            let body = asked.make(&kinds, &others)?;
            let etag = fingerprint(&body).to_uppercase();
            // Making it took many times its own size, all of which is free now.
            sys::process::trim_memory();
            Some((body, etag))
        });
        let Some((body, etag)) = made.await.map_err(Status::internal)? else {
            return Ok(None);
        };
        let kept = (which == Which::V3Index).then(|| body.clone());
        self.lock().insert(which, (state, etag.clone(), kept));
        let body = (!holds(headers, &etag)).then_some(body);
        Ok(Some(Answer {
            body,
            content_type,
            etag,
        }))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Whether the client says that it has the document with that tag.
pub fn holds(headers: &HeaderMap, etag: &str) -> bool {
    let values = headers
        .get_all(http::header::IF_NONE_MATCH)
        .iter()
        .filter_map(|v| v.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(','));
    !etag.is_empty() && tags.any(|tag| tag.trim().trim_start_matches("W/").trim_matches('"') == etag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::{ACCEPT, IF_NONE_MATCH};

    #[test]
    fn old_kubectl_gets_protobuf_and_others_json() {
        let mut headers = HeaderMap::new();
        assert_eq!(Which::of("/openapi/v2", &headers), Some(Which::V2Json));
        let protobuf = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
        headers.insert(ACCEPT, protobuf.parse().unwrap());
        assert_eq!(Which::of("/openapi/v2", &headers), Some(Which::V2Protobuf));
        let named = |protobuf| Which::V3 {
            place: "apis/apps/v1".into(),
            protobuf,
        };
        let apps = "/openapi/v3/apis/apps/v1";
        assert_eq!(Which::of(apps, &headers), Some(named(false)));
        let protobuf = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf";
        headers.insert(ACCEPT, protobuf.parse().unwrap());
        assert_eq!(Which::of(apps, &headers), Some(named(true)));
        assert_eq!(Which::of("/openapi/v4", &headers), None);
        assert_eq!(Which::of("/openapi/v3/apis/apps/v1/more", &headers), None);
    }

    #[test]
    fn an_old_hash_leads_to_the_new_one() {
        let kinds: Vec<KindRef> = api::kinds::all()
            .iter()
            .map(|kind| KindRef::from(*kind))
            .collect();
        let apps = Which::of("/openapi/v3/apis/apps/v1", &HeaderMap::new()).unwrap();
        let now = openapi::v3_hash(&kinds, Place::Version("apps", "v1"));
        assert_eq!(apps.moved(&kinds, &now), None);
        let there = format!("/openapi/v3/apis/apps/v1?hash={now}");
        assert_eq!(apps.moved(&kinds, "0"), Some(there));
        assert_eq!(Which::V2Json.moved(&kinds, "0"), None);
    }

    #[test]
    fn a_tag_is_recognised() {
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, r#""A", W/"B""#.parse().unwrap());
        assert!(
            holds(&headers, "A") && holds(&headers, "B") && !holds(&headers, "C") && !holds(&headers, "")
        );
    }
}
