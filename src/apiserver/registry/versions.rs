//! Stored objects in the version that is asked for, and the other way round. Kinds whose versions differ in more
//! than their names ask a webhook; nobody else waits here.

use std::borrow::Cow;
use std::sync::Arc;

use api::kind::KindRef;
use api::object;
use api::status::Status;
use bytes::Bytes;
use serde_json::Value;
use store::Entry;

use crate::conversion;
use crate::written::AskedForms;

use super::list_text::Items;
use super::target::Target;
use super::{Core, read};

/// How often a computation may want to see forms that it did not want before. What it wants depends on what it was
/// shown: twice at most, since states of an object follow from one another, before and after.
const FORM_ROUNDS_MAX: usize = 4;

impl Core {
    /// An object's text in the form that callers see.
    ///
    /// # Errors
    /// 500 when the stored text is damaged or a webhook does not convert it.
    pub(super) async fn served(&self, text: &Bytes, kind: &KindRef) -> Result<Bytes, Status> {
        if !conversion::by_webhook(kind) {
            return read::served(text, kind).map(Cow::into_owned);
        }
        // Boxed, so that those who need no webhook need no room for asking one.
        let mut all = Box::pin(self.served_all(&[text], kind)).await?;
        let one = all.pop().map(Cow::into_owned);
        one.ok_or_else(|| Status::internal("nothing was converted"))
    }

    /// As [`Core::served`], made once for all who watch the object.
    ///
    /// # Errors
    /// As [`Core::served`].
    pub(super) async fn shown(&self, text: &Bytes, kind: &KindRef) -> Result<Bytes, Status> {
        if !read::is_remade(kind) {
            return self.served(text, kind).await;
        }
        let forms = &self.inner.forms;
        if let Some(made) = forms.find(text, kind) {
            return Ok(made);
        }
        let made = self.served(text, kind).await?;
        forms.keep(text, kind.clone(), &made);
        Ok(made)
    }

    /// Texts of many objects in the form that callers see, most of them as they are: a webhook is asked once for
    /// all of them.
    ///
    /// # Errors
    /// As [`Core::served`].
    pub(super) async fn served_all<'t>(
        &self,
        texts: &[&'t Bytes],
        kind: &KindRef,
    ) -> Result<Vec<Cow<'t, Bytes>>, Status> {
        let Some(custom) = kind.custom().filter(|_| conversion::by_webhook(kind)) else {
            return texts.iter().map(|text| read::served(text, kind)).collect();
        };
        let version = kind.api_version();
        let parse = |text: &&Bytes| serde_json::from_slice::<Value>(text).map_err(Status::internal);
        let objects = texts.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let outbound = self.inner.dynamic.outbound();
        let mut objects = conversion::to_version(outbound, custom, objects, &version).await?;
        let shown = objects.iter_mut().map(|object| {
            kind.fill(object);
            Cow::Owned(object.to_string().into())
        });
        Ok(shown.collect())
    }

    /// A list's objects in the form that callers see.
    ///
    /// # Errors
    /// As [`Core::served`].
    pub(super) async fn items(&self, entries: Vec<Arc<Entry>>, kind: &KindRef) -> Result<Items, Status> {
        if read::shown_as_stored(kind) {
            return Ok(Items::Stored(entries));
        }
        let texts: Vec<&Bytes> = entries.iter().map(|entry| &entry.text).collect();
        let shown = self.served_all(&texts, kind).await?;
        Ok(Items::Shown(shown.into_iter().map(Cow::into_owned).collect()))
    }

    /// A stored object in the form that callers see.
    ///
    /// # Errors
    /// 500 when a webhook does not convert it.
    pub(super) async fn to_served(&self, mut value: Value, kind: &KindRef) -> Result<Value, Status> {
        if let Some(custom) = kind.custom().filter(|_| conversion::by_webhook(kind)) {
            let outbound = self.inner.dynamic.outbound();
            let version = kind.api_version();
            let asked = conversion::to_version(outbound, custom, vec![value], &version);
            let made = Box::pin(asked).await?;
            value = made.into_iter().next().unwrap_or_default();
        }
        read::to_served(&mut value, kind);
        Ok(value)
    }

    /// An object as it is to be stored, where its versions differ in more than their names.
    ///
    /// # Errors
    /// 500 when a webhook does not convert it.
    pub(super) async fn to_stored(&self, target: &Target, value: Value) -> Result<Value, Status> {
        let Some(custom) = target
            .kind
            .custom()
            .filter(|_| conversion::by_webhook(&target.kind))
        else {
            return Ok(value);
        };
        let (mut value, outbound) = (value, self.inner.dynamic.outbound());
        object::set(&mut value, &["apiVersion"], target.api_version.as_str());
        let made = conversion::to_version(outbound, custom, vec![value], &target.stored_version).await?;
        made.into_iter()
            .next()
            .ok_or_else(|| Status::internal("nothing was converted"))
    }

    /// What is computed from objects in the versions in which their fields' managers wrote them: as often as it wants
    /// to see a form that a webhook has not told yet. A webhook that fails fails it too if its forms are a `must`;
    /// else it counts as one that changes no names.
    ///
    /// # Errors
    /// Those of the computation; 500 when a webhook does not convert.
    pub(super) async fn with_forms<T>(
        &self,
        must: bool,
        compute: impl Fn(&AskedForms<'_>) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let forms = AskedForms::new(&self.inner.kinds);
        for _ in 0..FORM_ROUNDS_MAX {
            let made = compute(&forms);
            let missing = forms.missing();
            if missing.is_empty() {
                return made;
            }
            for (object, target) in missing {
                let shown = self.to_served(object.clone(), &target).await;
                if must && let Err(failed) = shown {
                    return Err(failed);
                }
                forms.tell(&object, &target, shown.ok());
            }
        }
        compute(&forms)
    }
}
