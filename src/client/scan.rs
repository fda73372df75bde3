//! Finding the parts of JSON text without reading what is in them, so that a
//! watch event can be taken apart, and managed fields left out, at the cost of
//! one pass over the bytes. Malformed text yields no parts, never a panic.

use std::ops::Range;

struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|b| b.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        self.space();
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// Skips a string and returns what is between its quotes, escapes untouched.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.eat(b'"')?;
        let start = self.at;
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return self.text.get(start..self.at - 1);
                }
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
    }

    fn value(&mut self) -> Option<Range<usize>> {
        self.space();
        let start = self.at;
        match self.peek()? {
            b'"' => drop(self.string()?),
            b'{' | b'[' => self.nested()?,
            _ => {
                while self
                    .peek()
                    .is_some_and(|b| !b.is_ascii_whitespace() && !b",]}".contains(&b))
                {
                    self.at += 1;
                }
            }
        }
        Some(start..self.at)
    }

    fn nested(&mut self) -> Option<()> {
        let mut depth = 0usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Some(());
            }
        }
    }
}

/// One member of an object.
pub(crate) struct Member<'a> {
    /// The key between its quotes.
    pub key: &'a [u8],
    /// Where the key's opening quote is.
    pub start: usize,
    /// Where the value is.
    pub value: Range<usize>,
}

/// The members of the object that `text` is.
pub(crate) fn members(text: &[u8]) -> impl Iterator<Item = Member<'_>> {
    let mut cursor = Cursor { text, at: 0 };
    let mut open = cursor.eat(b'{').is_some();
    std::iter::from_fn(move || {
        if !open {
            return None;
        }
        cursor.space();
        let start = cursor.at;
        let key = cursor.string()?;
        cursor.eat(b':')?;
        let value = cursor.value()?;
        open = cursor.eat(b',').is_some();
        Some(Member { key, start, value })
    })
}

/// Where the elements of the array that `text` is lie in it.
pub(crate) fn elements(text: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut cursor = Cursor { text, at: 0 };
    let mut open = cursor.eat(b'[').is_some();
    std::iter::from_fn(move || {
        if !open {
            return None;
        }
        cursor.space();
        if cursor.peek()? == b']' {
            return None;
        }
        let value = cursor.value()?;
        open = cursor.eat(b',').is_some();
        Some(value)
    })
}

/// The value of a member of an object.
pub(crate) fn member<'a>(text: &'a [u8], key: &str) -> Option<&'a [u8]> {
    members(text)
        .find(|m| m.key == key.as_bytes())
        .and_then(|m| text.get(m.value))
}

/// An object's text without its `metadata.managedFields`.
pub(crate) fn without_managed_fields(text: &[u8]) -> Option<Vec<u8>> {
    let metadata = members(text).find(|m| m.key == b"metadata")?.value;
    let inner = text.get(metadata.clone())?;
    let mut previous_end = None;
    for member in members(inner) {
        if member.key != b"managedFields" {
            previous_end = Some(member.value.end);
            continue;
        }
        // Cut from the end of the member before, comma included; else up to the next member.
        let cut = match previous_end {
            Some(end) => end..member.value.end,
            None => {
                let after = inner.get(member.value.end..)?;
                let comma = after
                    .iter()
                    .position(|b| !b.is_ascii_whitespace())
                    .filter(|i| after[*i] == b',');
                member.start..member.value.end + comma.map_or(0, |i| i + 1)
            }
        };
        let mut out = Vec::with_capacity(text.len() - cut.len());
        out.extend_from_slice(text.get(..metadata.start + cut.start)?);
        out.extend_from_slice(text.get(metadata.start + cut.end..)?);
        return Some(out);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_and_elements_are_found() {
        let text = br#" { "type":"ADDED", "object" : {"a":"}\"]","b":[1,{"c":2}]}, "n": -1.5e3 } "#;
        let found: Vec<_> = members(text).map(|m| (m.key, &text[m.value])).collect();
        assert_eq!(found[0], (&b"type"[..], &b"\"ADDED\""[..]));
        assert_eq!(found[1].1, br#"{"a":"}\"]","b":[1,{"c":2}]}"#);
        assert_eq!(found[2].1, b"-1.5e3");
        let list = b"[ {\"a\":1} ,2, \"x\" ]";
        assert_eq!(
            elements(list).map(|r| &list[r]).collect::<Vec<_>>(),
            [&b"{\"a\":1}"[..], b"2", b"\"x\""]
        );
        assert_eq!(elements(b"[]").count(), 0);
        assert_eq!(members(b"{}").count(), 0);
    }

    #[test]
    fn managed_fields_are_cut_wherever_they_stand() {
        for (given, wanted) in [
            (
                r#"{"metadata":{"name":"a","managedFields":[{"x":"]"}],"uid":"u"},"s":1}"#,
                r#"{"name":"a","uid":"u"}"#,
            ),
            (
                r#"{"metadata":{"managedFields":[] , "uid":"u"}}"#,
                r#"{"uid":"u"}"#,
            ),
            (r#"{"metadata":{"managedFields":[1]}}"#, "{}"),
        ] {
            let cut = without_managed_fields(given.as_bytes()).unwrap();
            let value: serde_json::Value = serde_json::from_slice(&cut).unwrap();
            assert_eq!(value["metadata"].to_string(), wanted);
        }
        assert_eq!(without_managed_fields(br#"{"metadata":{"name":"a"}}"#), None);
    }

    #[test]
    fn malformed_text_yields_nothing_and_ends() {
        let text = br#"{"metadata":{"managedFields":[{"a":"\"}]},"b":[1,2]}"#;
        for end in 0..text.len() {
            let cut = &text[..end];
            let _ = members(cut).count() + elements(cut).count();
            let _ = without_managed_fields(cut);
        }
        assert_eq!(members(b"[1]").count(), 0);
        let _ = members(b"{\"a\":]]}").count();
    }
}
