//! The text of a list: a head, and the objects' texts where they lie.

use std::sync::Arc;

use api::text::Pieces;
use bytes::Bytes;
use store::Entry;

/// A list's text in pieces: its head, then every item with what stands before it.
pub(super) struct ListText {
    /// Up to and with the bracket that opens the items.
    pub head: Vec<u8>,
    /// The objects.
    pub items: Items,
}

/// The objects of a list.
pub(super) enum Items {
    /// As they are stored. Holding the entries costs a reference each, which the store's answer has counted already.
    Stored(Vec<Arc<Entry>>),
    /// In another form.
    Shown(Vec<Bytes>),
}

const COMMA: &[u8] = b",";
const END: &[u8] = b"]}";

impl Items {
    fn len(&self) -> usize {
        match self {
            Self::Stored(entries) => entries.len(),
            Self::Shown(texts) => texts.len(),
        }
    }

    fn text(&self, number: usize) -> Option<&[u8]> {
        match self {
            Self::Stored(entries) => entries.get(number).map(|entry| entry.text.as_ref()),
            Self::Shown(texts) => texts.get(number).map(Bytes::as_ref),
        }
    }
}

impl Pieces for ListText {
    /// The head, the first item, a comma, the second item … and the end.
    fn piece(&self, number: usize) -> Option<&[u8]> {
        let Some(after_head) = number.checked_sub(1) else {
            return Some(&self.head);
        };
        // Without items only the end is left.
        let last = (2 * self.items.len()).saturating_sub(1);
        match after_head {
            place if place > last => None,
            place if place == last => Some(END),
            place if place % 2 == 1 => Some(COMMA),
            place => self.items.text(place / 2),
        }
    }

    fn bytes(&self) -> usize {
        let texts = (0..self.items.len()).filter_map(|number| self.items.text(number));
        let commas = self.items.len().saturating_sub(1) * COMMA.len();
        self.head.len() + texts.map(<[u8]>::len).sum::<usize>() + commas + END.len()
    }
}

#[cfg(test)]
mod tests {
    use api::text::Text;

    use super::*;

    fn list(texts: &[&'static str]) -> Text {
        let shown = texts.iter().map(|text| Bytes::from_static(text.as_bytes()));
        Text::of_pieces(ListText {
            head: b"{\"items\":[".to_vec(),
            items: Items::Shown(shown.collect()),
        })
    }

    #[test]
    fn items_stand_between_commas() {
        for (texts, expected) in [
            (&[][..], r#"{"items":[]}"#),
            (&["1"], r#"{"items":[1]}"#),
            (&["1", "2", "{}"], r#"{"items":[1,2,{}]}"#),
        ] {
            let list = list(texts);
            assert_eq!(list.whole(), expected);
            assert_eq!(list.len(), expected.len());
        }
    }
}
