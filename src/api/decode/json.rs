//! A JSON scanner that keeps duplicate keys and complains in Go's words
//! (`encoding/json`), which is what clients of Kubernetes know.

use std::borrow::Cow;

use super::tree::{Entry, Tree};
use crate::depth::{SENT_MAX, TOO_DEEP};

const END: &str = "unexpected end of JSON input";

/// Parses one JSON document.
///
/// # Errors
/// Go's text.
pub(super) fn parse(text: &[u8]) -> Result<Tree<'_>, String> {
    let mut scanner = Scanner {
        text,
        at: 0,
        depth: 0,
    };
    let tree = scanner.value()?;
    match scanner.next_solid() {
        None => Ok(tree),
        Some(c) => Err(invalid(c, "after top-level value")),
    }
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
}

fn invalid(c: u8, context: &str) -> String {
    let shown = match c {
        b'\'' => "\\'".to_owned(),
        b'"' => "\"".to_owned(),
        b'\n' => "\\n".to_owned(),
        b'\r' => "\\r".to_owned(),
        b'\t' => "\\t".to_owned(),
        b'\\' => "\\\\".to_owned(),
        0x07 => "\\a".to_owned(),
        0x08 => "\\b".to_owned(),
        0x0b => "\\v".to_owned(),
        0x0c => "\\f".to_owned(),
        c if c < 0x20 || c == 0x7f => format!("\\x{c:02x}"),
        // Go shows the byte as the character of that number.
        c if (0x80..0xa1).contains(&c) || c == 0xad => format!("\\u00{c:02x}"),
        c => char::from(c).to_string(),
    };
    format!("invalid character '{shown}' {context}")
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// The next byte that is not white space, not consumed.
    fn next_solid(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.peek() {
            self.at += 1;
        }
        self.peek()
    }

    fn value(&mut self) -> Result<Tree<'a>, String> {
        match self.next_solid().ok_or(END)? {
            b'{' => self.nested(Self::object),
            b'[' => self.nested(Self::array),
            b'"' => self.string().map(Tree::String),
            b't' => self.literal("true").map(|()| Tree::Bool(true)),
            b'f' => self.literal("false").map(|()| Tree::Bool(false)),
            b'n' => self.literal("null").map(|()| Tree::Null),
            b'-' | b'0'..=b'9' => self.number(),
            c => Err(invalid(c, "looking for beginning of value")),
        }
    }

    fn nested(&mut self, inner: fn(&mut Self) -> Result<Tree<'a>, String>) -> Result<Tree<'a>, String> {
        self.depth += 1;
        if self.depth > SENT_MAX {
            return Err(TOO_DEEP.to_owned());
        }
        self.at += 1;
        let tree = inner(self)?;
        self.depth -= 1;
        Ok(tree)
    }

    fn object(&mut self) -> Result<Tree<'a>, String> {
        let mut entries = Vec::new();
        if self.next_solid() == Some(b'}') {
            self.at += 1;
            return Ok(Tree::Object(entries));
        }
        loop {
            match self.next_solid().ok_or(END)? {
                b'"' => {}
                c => return Err(invalid(c, "looking for beginning of object key string")),
            }
            let key = self.string()?;
            self.expect(b':', "after object key")?;
            let value = self.value()?;
            entries.push(Entry { key, line: 0, value });
            if self.comma_or(b'}', "after object key:value pair")? {
                return Ok(Tree::Object(entries));
            }
        }
    }

    fn array(&mut self) -> Result<Tree<'a>, String> {
        let mut items = Vec::new();
        if self.next_solid() == Some(b']') {
            self.at += 1;
            return Ok(Tree::Array(items));
        }
        loop {
            items.push(self.value()?);
            if self.comma_or(b']', "after array element")? {
                return Ok(Tree::Array(items));
            }
        }
    }

    fn expect(&mut self, wanted: u8, context: &str) -> Result<(), String> {
        match self.next_solid().ok_or(END)? {
            c if c == wanted => {
                self.at += 1;
                Ok(())
            }
            c => Err(invalid(c, context)),
        }
    }

    /// Consumes a comma (false) or the closing bracket (true).
    fn comma_or(&mut self, close: u8, context: &str) -> Result<bool, String> {
        let c = self.next_solid().ok_or(END)?;
        if c != b',' && c != close {
            return Err(invalid(c, context));
        }
        self.at += 1;
        Ok(c == close)
    }

    fn literal(&mut self, word: &'static str) -> Result<(), String> {
        for wanted in word.bytes() {
            match self.peek().ok_or(END)? {
                c if c == wanted => self.at += 1,
                c => {
                    let context = format!("in literal {word} (expecting '{}')", char::from(wanted));
                    return Err(invalid(c, &context));
                }
            }
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Tree<'a>, String> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits("in numeric literal")?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        let digits = self.text.get(start..self.at).unwrap_or_default();
        Ok(Tree::Number(String::from_utf8_lossy(digits)))
    }

    fn digits(&mut self, context: &str) -> Result<(), String> {
        match self.peek().ok_or(END)? {
            b'0'..=b'9' => {}
            c => return Err(invalid(c, context)),
        }
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        Ok(())
    }

    /// A string, its opening quote still ahead. Borrowed from the text when nothing is escaped.
    fn string(&mut self) -> Result<Cow<'a, str>, String> {
        self.at += 1;
        let start = self.at;
        let rest = self.text.get(start..).unwrap_or_default();
        let length = rest.iter().position(|c| matches!(c, b'"' | b'\\' | ..0x20));
        let (raw, rest) = rest.split_at(length.ok_or(END)?);
        self.at += raw.len();
        match rest.first() {
            Some(b'\\') => self.escaped(start),
            Some(b'"') => {
                self.at += 1;
                // What is well formed, which almost all is, is looked through many bytes at a time.
                Ok(match std::str::from_utf8(raw) {
                    Ok(text) => Cow::Borrowed(text),
                    Err(_) => String::from_utf8_lossy(raw),
                })
            }
            other => Err(invalid(other.copied().unwrap_or_default(), "in string literal")),
        }
    }

    fn escaped(&mut self, start: usize) -> Result<Cow<'a, str>, String> {
        let mut out = self.text.get(start..self.at).unwrap_or_default().to_vec();
        loop {
            let c = self.peek().ok_or(END)?;
            self.at += 1;
            match c {
                b'"' => return Ok(Cow::Owned(String::from_utf8_lossy(&out).into_owned())),
                b'\\' => {
                    let made = self.escape()?;
                    out.extend_from_slice(made.encode_utf8(&mut [0; 4]).as_bytes());
                }
                c if c < 0x20 => return Err(invalid(c, "in string literal")),
                c => out.push(c),
            }
        }
    }

    fn escape(&mut self) -> Result<char, String> {
        let c = self.peek().ok_or(END)?;
        self.at += 1;
        Ok(match c {
            b'"' | b'\\' | b'/' => char::from(c),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            c => return Err(invalid(c, "in string escape code")),
        })
    }

    /// The character of `\uXXXX`, or of two of them that make a surrogate pair.
    fn unicode(&mut self) -> Result<char, String> {
        let first = self.hex4()?;
        if let 0xd800..0xdc00 = first
            && self.text.get(self.at..self.at + 2) == Some(b"\\u")
        {
            let before = self.at;
            self.at += 2;
            let second = self.hex4()?;
            if let 0xdc00..0xe000 = second {
                let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = before;
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&mut self) -> Result<u32, String> {
        let mut code = 0;
        for _ in 0..4 {
            let c = self.peek().ok_or(END)?;
            let digit = char::from(c).to_digit(16);
            code = code * 16 + digit.ok_or_else(|| invalid(c, "in \\u hexadecimal character escape"))?;
            self.at += 1;
        }
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn complains_in_gos_words() {
        for (text, error) in [
            ("", "unexpected end of JSON input"),
            ("{\"a\":", "unexpected end of JSON input"),
            ("x", "invalid character 'x' looking for beginning of value"),
            (
                "{a:1}",
                "invalid character 'a' looking for beginning of object key string",
            ),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            (
                "{\"a\":1 \"b\":2}",
                "invalid character '\"' after object key:value pair",
            ),
            (
                "{\"a\":1,}",
                "invalid character '}' looking for beginning of object key string",
            ),
            ("[1 2]", "invalid character '2' after array element"),
            ("{} x", "invalid character 'x' after top-level value"),
            ("tru1", "invalid character '1' in literal true (expecting 'e')"),
            ("\"a\nb\"", "invalid character '\\n' in string literal"),
            ("\"\\q\"", "invalid character 'q' in string escape code"),
            (
                "\"\\u12x4\"",
                "invalid character 'x' in \\u hexadecimal character escape",
            ),
            ("-a", "invalid character 'a' in numeric literal"),
            (
                "1.x",
                "invalid character 'x' after decimal point in numeric literal",
            ),
            ("1ex", "invalid character 'x' in exponent of numeric literal"),
            ("01", "invalid character '1' after top-level value"),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn keeps_duplicates_and_digits() {
        let tree = parse(br#"{"a":1.0,"a":2}"#).unwrap();
        let Tree::Object(entries) = &tree else { panic!() };
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].value, Tree::Number("1.0".into()));
        assert_eq!(tree.into_value(), serde_json::json!({"a": 2}));
    }

    #[test]
    fn joins_surrogates_and_replaces_lone_ones() {
        assert_eq!(parse(br#""\ud83d\ude00""#).unwrap(), Tree::String("😀".into()));
        assert_eq!(parse(br#""\ud83dx""#).unwrap(), Tree::String("\u{fffd}x".into()));
        assert_eq!(parse(b"\"\xff\"").unwrap(), Tree::String("\u{fffd}".into()));
    }

    #[test]
    fn refuses_to_nest_without_end() {
        let deep = "[".repeat(100_000);
        assert_eq!(parse(deep.as_bytes()).unwrap_err(), "exceeded max depth");
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn agrees_with_serde_json(text in r#"[\[\]{}:,"a-c0-9.e \\u-]{0,40}"#) {
            let ours = parse(text.as_bytes()).map(Tree::into_value).ok();
            if let Ok(theirs) = serde_json::from_str::<serde_json::Value>(&text) {
                prop_assert_eq!(ours, Some(theirs));
            }
        }
    }
}
