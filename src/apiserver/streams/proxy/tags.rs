//! The tags of an HTML text, as far as their links are concerned.

use std::ops::Range;

/// Which attributes of which elements are links.
const LINKS: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["formaction", "src", "usemap"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];
/// Elements whose text is no markup.
const RAW: &[&str] = &["script", "style", "textarea", "title", "xmp"];

/// A tag that was found whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Tag {
    /// Its length, from `<` to `>`.
    pub end: usize,
    /// Where in it the values of links are.
    pub links: Vec<Range<usize>>,
    /// The element whose text follows, if that text is no markup.
    pub raw: Option<&'static str>,
}

/// The tag, comment or declaration that `text` begins with; `None` while its end is missing. `text` begins with `<`.
pub fn first(text: &[u8]) -> Option<Tag> {
    let bare = |end| Tag {
        end,
        links: Vec::new(),
        raw: None,
    };
    match text.get(1)? {
        b'!' if b"<!--".starts_with(text.get(..4).unwrap_or(text)) => {
            let from = text.get(4..)?;
            find(from, b"-->").map(|at| bare(at + 7))
        }
        b'a'..=b'z' | b'A'..=b'Z' => element(text),
        b'!' | b'?' | b'/' => find(text, b">").map(|at| bare(at + 1)),
        // A lone `<` is text.
        _ => Some(bare(1)),
    }
}

/// Where `needle` begins, letters of either case alike.
pub fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len().max(1))
        .position(|at| at.eq_ignore_ascii_case(needle))
}

fn element(text: &[u8]) -> Option<Tag> {
    let mut at = Cursor { text, at: 1 };
    let name = at.take(|c| !c.is_ascii_whitespace() && !matches!(c, b'/' | b'>'))?;
    let is = |known: &str| {
        text.get(name.clone())
            .is_some_and(|n| n.eq_ignore_ascii_case(known.as_bytes()))
    };
    let wanted = LINKS
        .iter()
        .find(|(known, _)| is(known))
        .map_or(&[][..], |(_, keys)| keys);
    let raw = RAW.iter().copied().find(|known| is(known));
    let mut links = Vec::new();
    loop {
        at.take(|c| c.is_ascii_whitespace() || c == b'/')?;
        if at.peek()? == b'>' {
            let end = at.at + 1;
            return Some(Tag { end, links, raw });
        }
        let key = at.take(|c| !c.is_ascii_whitespace() && !matches!(c, b'/' | b'>' | b'='))?;
        at.take(|c| c.is_ascii_whitespace())?;
        if at.peek()? != b'=' {
            // A key without a value; one that could not be read at all (`="`) is passed over.
            at.at += usize::from(key.is_empty());
            continue;
        }
        at.at += 1;
        at.take(|c| c.is_ascii_whitespace())?;
        let value = at.value()?;
        let key = text.get(key).unwrap_or_default();
        if wanted
            .iter()
            .any(|known| key.eq_ignore_ascii_case(known.as_bytes()))
        {
            links.push(value);
        }
    }
}

struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Goes on while `fits`; `None` when the text ends before something else comes.
    fn take(&mut self, fits: impl Fn(u8) -> bool) -> Option<Range<usize>> {
        let from = self.at;
        while fits(self.peek()?) {
            self.at += 1;
        }
        Some(from..self.at)
    }

    fn value(&mut self) -> Option<Range<usize>> {
        let quote = self.peek()?;
        if !matches!(quote, b'"' | b'\'') {
            return self.take(|c| !c.is_ascii_whitespace() && c != b'>');
        }
        self.at += 1;
        let value = self.take(|c| c != quote)?;
        self.at += 1;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first tag, and the values of its links.
    fn read(text: &str) -> Option<(&str, Vec<&str>)> {
        let tag = first(text.as_bytes())?;
        let links = tag.links.iter().map(|range| &text[range.clone()]).collect();
        Some((&text[..tag.end], links))
    }

    #[test]
    fn links_are_found_where_they_are() {
        for (text, tag, links) in [
            ("<a href=\"/x\">y", "<a href=\"/x\">", vec!["/x"]),
            (
                "<A HREF = '/x' title=\">\">",
                "<A HREF = '/x' title=\">\">",
                vec!["/x"],
            ),
            ("<a href=/x>", "<a href=/x>", vec!["/x"]),
            ("<img alt src=/i/><p>", "<img alt src=/i/>", vec!["/i/"]),
            (
                "<img src='a' usemap=#b >",
                "<img src='a' usemap=#b >",
                vec!["a", "#b"],
            ),
            ("<p href=/x>", "<p href=/x>", vec![]),
            ("<!-- <a href=/x> -->z", "<!-- <a href=/x> -->", vec![]),
            ("<!doctype html>z", "<!doctype html>", vec![]),
            ("</a>z", "</a>", vec![]),
            ("< a", "<", vec![]),
            ("<a =\"/x\">", "<a =\"/x\">", vec![]),
        ] {
            assert_eq!(read(text), Some((tag, links)), "{text}");
        }
        for cut in [
            "<",
            "<a",
            "<a href",
            "<a href=",
            "<a href=\"/x",
            "<a href=\"/x\"",
            "<!--",
            "<!-- a --",
            "</a",
        ] {
            assert_eq!(read(cut), None, "{cut}");
        }
    }

    #[test]
    fn scripts_are_no_markup() {
        assert_eq!(first(b"<SCRIPT src=/x>").unwrap().raw, Some("script"));
        assert_eq!(first(b"<b>").unwrap().raw, None);
    }
}
