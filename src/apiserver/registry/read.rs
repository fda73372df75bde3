//! `get` and `list`: stored text handed out as it is, never parsed, except
//! where another form than the stored one is asked for.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use api::custom::CustomKind;
use api::kind::KindRef;
use api::object;
use api::request::{Reply, Request};
use api::status::Status;
use api::text::Text;
use bytes::Bytes;
use serde_json::Value;
use store::{Entry, ListQuery, Listing, StoreError};

use crate::conversion;

use super::filter::Filter;
use super::list_text::ListText;
use super::page::{self, At, Token};
use super::target::{Part, Target};
use super::{Core, refuse, scale, text};

/// How long a read waits for a revision that other servers know already.
const FRESH_WAIT: Duration = if cfg!(test) {
    Duration::from_millis(50)
} else {
    Duration::from_secs(3)
};

/// Whether every object of the kind is shown as it is stored, so that nothing needs to be looked at.
pub(super) fn shown_as_stored(kind: &KindRef) -> bool {
    kind.storage.is_none() && kind.custom().is_none()
}

/// Whether an object of the kind is read and written anew before it is shown.
pub(super) fn is_remade(kind: &KindRef) -> bool {
    let gained = |custom: &Arc<CustomKind>| custom.gained_defaults();
    kind.storage.is_some() || conversion::by_webhook(kind) || kind.custom().is_some_and(gained)
}

/// An object's text in the form that callers see.
///
/// # Errors
/// 500 when the stored text is damaged.
pub(super) fn served<'t>(text: &'t Bytes, kind: &KindRef) -> Result<Cow<'t, Bytes>, Status> {
    if is_remade(kind) {
        let mut value: Value = serde_json::from_slice(text).map_err(Status::internal)?;
        to_served(&mut value, kind);
        return Ok(Cow::Owned(value.to_string().into()));
    }
    if kind.custom().is_some() {
        return Ok(in_version(text, &kind.api_version()));
    }
    Ok(Cow::Borrowed(text))
}

/// An object in the form that callers see.
pub(super) fn to_served(value: &mut Value, kind: &KindRef) {
    if let Some(storage) = kind.storage {
        (storage.to_served)(value);
    } else if kind.custom().is_some() {
        object::set(value, &["apiVersion"], kind.api_version());
        // What has a default by now has it for old objects too.
        kind.fill(value);
    }
}

/// The text of a custom object in another version, which differs in its name alone. It stands at the very
/// beginning, where we put it.
fn in_version<'t>(text: &'t Bytes, api_version: &str) -> Cow<'t, Bytes> {
    const HEAD: &[u8] = b"{\"apiVersion\":\"";
    let Some(rest) = text.strip_prefix(HEAD) else {
        return Cow::Borrowed(text);
    };
    let end = rest.iter().position(|b| *b == b'"').unwrap_or(0);
    let (stored, tail) = rest.split_at_checked(end).unwrap_or((&[], rest));
    if stored == api_version.as_bytes() {
        return Cow::Borrowed(text);
    }
    Cow::Owned([HEAD, api_version.as_bytes(), tail].concat().into())
}

impl Core {
    /// Reads one object or one of its parts.
    pub(super) async fn get(&self, request: &Request) -> Result<Reply, Status> {
        let target = self.target(request)?;
        let part = target.part(request)?;
        if let Some(revision) =
            page::revision(request.options.resource_version.as_deref().unwrap_or_default())?
        {
            self.not_older_than(revision).await?;
        }
        let entry = self.entry(&target).await?.ok_or_else(|| target.not_found())?;
        let body = match part {
            Part::Scale => {
                let object = self.to_served(text::parse(&entry)?, &target.kind).await?;
                scale::view(&target.kind, &object)?.to_string().into()
            }
            _ => self.served(&entry.text, &target.kind).await?.into(),
        };
        Ok(Reply {
            code: 200,
            body,
            warnings: Vec::new(),
        })
    }

    /// The latest entry of an object.
    pub(super) async fn entry(&self, target: &Target) -> Result<Option<Arc<Entry>>, Status> {
        self.inner
            .store
            .get(&target.key(&target.name))
            .await
            .map_err(refuse::status)
    }

    pub(super) async fn not_older_than(&self, revision: u64) -> Result<(), Status> {
        let store = &self.inner.store;
        if revision <= store.revision() {
            return Ok(());
        }
        match tokio::time::timeout(FRESH_WAIT, store.reached(revision)).await {
            Ok(reached) => reached.map_err(refuse::status),
            Err(_) => Err(refuse::too_large(revision, store.revision())),
        }
    }

    /// Reads a collection.
    pub(super) async fn list(&self, request: &Request) -> Result<Reply, Status> {
        let target = self.target(request)?;
        let page = self.page(&target, request).await?;
        let head = page.head(&target.kind).into_bytes();
        let items = self.items(page.entries, &target.kind).await?;
        Ok(Reply {
            code: 200,
            body: Text::of_pieces(ListText { head, items }),
            warnings: Vec::new(),
        })
    }

    /// The entries that a list asks for.
    pub(super) async fn page(&self, target: &Target, request: &Request) -> Result<Page, Status> {
        let options = &request.options;
        let filter = Filter::new(&target.kind, options, &request.name)?;
        let mut at = page::list_at(options)?;
        let collection = target.prefix();
        let mut query = ListQuery::prefix(target.prefix_of(filter.exact_name()));
        let mut continued = None;
        if !options.continue_token.is_empty() {
            let token = Token::parse(&options.continue_token)?;
            at = token.revision.map_or(At::Latest, At::Exactly);
            query.after = Some(format!("{collection}{}", token.after));
            continued = Some(token);
        }
        match at {
            At::Latest => {}
            At::NotOlderThan(revision) => self.not_older_than(revision).await?,
            At::Exactly(revision) => query.revision = Some(revision),
        }
        // A state of "any age" is served whole, whatever the limit, as Kubernetes' cache does.
        let limit = if at == At::NotOlderThan(0) {
            0
        } else {
            usize::try_from(options.limit).unwrap_or(0)
        };
        let everything = filter.is_everything();
        if everything {
            query.limit = limit;
        }
        let listing = self
            .inner
            .store
            .list(query)
            .await
            .map_err(|e| expired(e, at, continued))?;
        Ok(cut(listing, &filter, limit, collection.len()))
    }
}

fn expired(error: StoreError, at: At, continued: Option<Token>) -> Status {
    match (error, at, continued) {
        (StoreError::Compacted { .. }, _, Some(token)) => page::token_expired(token),
        (StoreError::Compacted { .. }, At::Exactly(_), None) => {
            Status::expired("The resourceVersion for the provided list is too old.")
        }
        (error, ..) => refuse::status(error),
    }
}

/// One page of a list.
pub(super) struct Page {
    pub revision: u64,
    pub entries: Vec<Arc<Entry>>,
    /// Where the next page begins; `None` for the last one.
    next: Option<Token>,
    /// How many objects the next pages hold, where that is known.
    remaining: Option<u64>,
}

impl Page {
    /// The list's text up to its first item.
    pub fn head(&self, kind: &KindRef) -> String {
        let mut metadata = serde_json::json!({ "resourceVersion": self.revision.to_string() });
        if let Some(next) = &self.next {
            metadata["continue"] = next.text().into();
        }
        if let Some(remaining) = self.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
        format!(
            "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"items\":[",
            kind.list_kind(),
            kind.api_version()
        )
    }
}

fn cut(listing: Listing, filter: &Filter, limit: usize, prefix_len: usize) -> Page {
    let Listing {
        revision,
        mut entries,
        mut more,
        remaining,
    } = listing;
    let everything = filter.is_everything();
    if !everything {
        entries.retain(|entry| filter.matches(entry));
        more = limit > 0 && entries.len() > limit;
        if more {
            entries.truncate(limit);
        }
    }
    let last = entries.last().and_then(|entry| entry.key.get(prefix_len..));
    let next = last.filter(|_| more).map(|after| Token {
        revision: Some(revision),
        after: after.to_owned(),
    });
    let remaining = Some(remaining).filter(|_| everything && next.is_some());
    Page {
        revision,
        entries,
        next,
        remaining,
    }
}
