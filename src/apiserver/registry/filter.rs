//! Which entries of a collection a caller wants to see.

use api::kind::Kind;
use api::request::Options;
use api::selector::{FieldSelector, LabelSelector, Labels};
use api::status::Status;
use store::Entry;

/// Label and field selectors, and the one name of a watch of a single object.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    labels: LabelSelector,
    fields: FieldSelector,
    name: String,
    namespaced: bool,
}

impl Filter {
    /// The filter that the options ask for; a `name` narrows it to that object.
    ///
    /// # Errors
    /// 400 for a selector that makes no sense.
    pub fn new(kind: &Kind, options: &Options, name: &str) -> Result<Self, Status> {
        let labels = LabelSelector::parse(&options.label_selector).map_err(Status::bad_request)?;
        let mut fields = FieldSelector::parse(&options.field_selector)
            .and_then(|fields| fields.for_kind(kind))
            .map_err(Status::bad_request)?;
        if !name.is_empty() && !fields.is_everything() && fields.exact_name() != Some(name) {
            return Err(Status::bad_request(
                "fieldSelector metadata.name doesn't match requested name",
            ));
        }
        if kind.storage.is_some() {
            fields
                .terms
                .iter_mut()
                .for_each(|term| stored_label(&mut term.field));
        }
        Ok(Self {
            labels,
            fields,
            name: name.to_owned(),
            namespaced: kind.namespaced,
        })
    }

    /// Whether it lets everything through.
    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything() && self.name.is_empty()
    }

    /// The only name that can pass, if there is one.
    pub fn exact_name(&self) -> Option<&str> {
        Some(self.name.as_str())
            .filter(|name| !name.is_empty())
            .or_else(|| self.fields.exact_name())
    }

    /// Whether an entry passes.
    pub fn matches(&self, entry: &Entry) -> bool {
        let seen = Seen {
            entry,
            namespaced: self.namespaced,
        };
        (self.name.is_empty() || seen.name() == self.name)
            && self.labels.matches(&entry.header.labels)
            && (self.fields.is_everything() || self.fields.matches(&seen))
    }
}

/// Entries carry the fields of the form in which they are stored: the names that
/// events.k8s.io has for them become those of core events.
fn stored_label(label: &mut String) {
    if let Some(rest) = label.strip_prefix("regarding.") {
        *label = format!("involvedObject.{rest}");
    } else if label == "reportingController" {
        *label = "reportingComponent".to_owned();
    }
}

/// An entry as field selectors see it.
struct Seen<'a> {
    entry: &'a Entry,
    namespaced: bool,
}

impl Seen<'_> {
    fn name(&self) -> &str {
        self.entry.key.rsplit('/').next().unwrap_or_default()
    }
}

impl Labels for Seen<'_> {
    fn value_of(&self, key: &str) -> Option<&str> {
        match key {
            "metadata.name" => Some(self.name()),
            "metadata.namespace" if self.namespaced => self.entry.key.rsplit('/').nth(1),
            "metadata.namespace" => Some(""),
            // A field that is not in the header is empty.
            _ => Some(self.entry.header.fields.value_of(key).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use store::Header;

    use super::*;

    fn entry(key: &str, labels: &[(&str, &str)], fields: &[(&str, &str)]) -> Entry {
        let own = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        Entry {
            key: key.into(),
            revision: 1,
            created: 1,
            header: Header {
                labels: own(labels),
                fields: own(fields),
                ..Header::default()
            },
            text: bytes::Bytes::new(),
            revision_at: 0,
            expires_ms: None,
        }
    }

    fn filter(labels: &str, fields: &str, name: &str) -> Filter {
        let kind = api::kinds::find("", "v1", "pods").unwrap();
        let options = Options {
            label_selector: labels.into(),
            field_selector: fields.into(),
            ..Options::default()
        };
        Filter::new(kind, &options, name).unwrap()
    }

    #[test]
    fn selectors_and_names_must_all_agree() {
        let pod = entry(
            "/core/pods/shop/web",
            &[("app", "web")],
            &[("spec.nodeName", "n1")],
        );
        assert!(filter("", "", "").is_everything());
        assert!(filter("app=web", "spec.nodeName=n1,metadata.name=web", "").matches(&pod));
        assert!(
            filter(
                "",
                "metadata.namespace=shop,status.phase=,metadata.name=web",
                "web"
            )
            .matches(&pod)
        );
        assert!(!filter("app=db", "", "").matches(&pod));
        assert!(!filter("", "spec.nodeName!=n1", "").matches(&pod));
        assert!(!filter("", "", "we").matches(&pod));
        assert_eq!(filter("", "metadata.name=web", "").exact_name(), Some("web"));
    }

    #[test]
    fn unknown_fields_are_refused() {
        let kind = api::kinds::find("", "v1", "pods").unwrap();
        let options = Options {
            field_selector: "spec.colour=red".into(),
            ..Options::default()
        };
        let status = Filter::new(kind, &options, "").unwrap_err();
        assert_eq!(
            (status.code, status.message.as_str()),
            (400, "field label not supported: spec.colour")
        );
    }
}
