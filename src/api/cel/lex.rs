//! Text → tokens.

use super::error::Error;

/// A token and the byte at which it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub at: usize,
    pub kind: Kind,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    Name(String),
    /// An operator or a bracket.
    Sign(&'static str),
    End,
}

/// Longest first, so that `<=` is not `<`.
const SIGNS: &[&str] = &[
    "&&", "||", "<=", ">=", "==", "!=", "?", ":", "<", ">", "!", "-", "+", "*", "/", "%", "(", ")", "[", "]",
    "{", "}", ",", ".",
];

/// All tokens of a text, `End` last.
pub fn lex(source: &str) -> Result<Vec<Token>, Error> {
    let mut lexer = Lexer { source, at: 0 };
    let mut out = Vec::new();
    loop {
        lexer.skip();
        let at = lexer.at;
        let kind = lexer.next()?;
        let end = kind == Kind::End;
        out.push(Token { at, kind });
        if end {
            return Ok(out);
        }
    }
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        self.source.get(self.at..).unwrap_or_default()
    }

    fn error(&self, text: &str) -> Error {
        Error::new(self.at, format!("Syntax error: {text}"))
    }

    /// White space and comments.
    fn skip(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches([' ', '\t', '\n', '\r', '\u{c}']);
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with("//") {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    fn take(&mut self, accept: impl Fn(u8) -> bool) -> &'s str {
        let rest = self.rest();
        let end = rest.bytes().position(|b| !accept(b)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    fn next(&mut self) -> Result<Kind, Error> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Ok(Kind::End);
        };
        let dotted = first == '.' && rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
        if first.is_ascii_digit() || dotted {
            return self.number();
        }
        if let Some(text) = self.quoted()? {
            return Ok(text);
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let name = self.take(|b| b.is_ascii_alphanumeric() || b == b'_');
            return Ok(Kind::Name(name.to_owned()));
        }
        if first == '`' {
            return self.escaped_name();
        }
        match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            Some(sign) => {
                self.at += sign.len();
                Ok(Kind::Sign(sign))
            }
            None => Err(self.error(&format!("token recognition error at: '{first}'"))),
        }
    }

    /// A field whose name is no identifier, between backquotes.
    fn escaped_name(&mut self) -> Result<Kind, Error> {
        let inner = self.rest().get(1..).unwrap_or_default();
        let end = inner.find('`').ok_or_else(|| self.error("unclosed `"))?;
        let name = inner.get(..end).unwrap_or_default().to_owned();
        self.at += end + 2;
        Ok(Kind::Name(name))
    }

    fn number(&mut self) -> Result<Kind, Error> {
        let begin = self.at;
        if self.rest().starts_with("0x") || self.rest().starts_with("0X") {
            self.at += 2;
            let digits = self.take(|b| b.is_ascii_hexdigit());
            return self.whole(u64::from_str_radix(digits, 16).ok(), begin);
        }
        self.take(|b| b.is_ascii_digit());
        let fraction =
            self.rest().starts_with('.') && self.rest().as_bytes().get(1).is_some_and(u8::is_ascii_digit);
        if fraction {
            self.at += 1;
            self.take(|b| b.is_ascii_digit());
        }
        let exponent = self.rest().starts_with(['e', 'E']);
        if exponent {
            self.at += 1;
            if self.rest().starts_with(['+', '-']) {
                self.at += 1;
            }
            self.take(|b| b.is_ascii_digit());
        }
        let text = self.source.get(begin..self.at).unwrap_or_default();
        if fraction || exponent {
            let number = text
                .parse()
                .map_err(|_| Error::new(begin, "Syntax error: invalid double literal"))?;
            return Ok(Kind::Double(number));
        }
        self.whole(text.parse().ok(), begin)
    }

    fn whole(&mut self, number: Option<u64>, begin: usize) -> Result<Kind, Error> {
        let invalid = || Error::new(begin, "Syntax error: invalid int literal");
        let number = number.ok_or_else(invalid)?;
        if self.rest().starts_with(['u', 'U']) {
            self.at += 1;
            return Ok(Kind::Uint(number));
        }
        // The one number whose magnitude does not fit is read by the parser together with its sign.
        i64::try_from(number).map(Kind::Int).or_else(|_| {
            if number == 1 << 63 {
                Ok(Kind::Uint(number))
            } else {
                Err(invalid())
            }
        })
    }

    /// A text or bytes, if one begins here.
    fn quoted(&mut self) -> Result<Option<Kind>, Error> {
        let rest = self.rest();
        let prefix = rest.bytes().take_while(|b| b"rRbB".contains(b)).count().min(2);
        let (marks, body) = rest.split_at_checked(prefix).unwrap_or(("", rest));
        let Some(quote) = ["\"\"\"", "'''", "\"", "'"]
            .into_iter()
            .find(|q| body.starts_with(q))
        else {
            return Ok(None);
        };
        let raw = marks.contains(['r', 'R']);
        let bytes = marks.contains(['b', 'B']);
        let inner = body.get(quote.len()..).unwrap_or_default();
        let end = closing(inner, quote, raw).ok_or_else(|| self.error("unterminated string"))?;
        let text = inner.get(..end).unwrap_or_default();
        let read = if raw {
            text.as_bytes().to_vec()
        } else {
            unescape(text, bytes).map_err(|why| self.error(&why))?
        };
        self.at += prefix + 2 * quote.len() + end;
        if bytes {
            return Ok(Some(Kind::Bytes(read)));
        }
        let text = String::from_utf8(read).map_err(|_| self.error("invalid UTF-8"))?;
        Ok(Some(Kind::Text(text)))
    }
}

/// Where the text before the closing quote ends.
fn closing(inner: &str, quote: &str, raw: bool) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in inner.char_indices() {
        if !escaped && inner.get(at..)?.starts_with(quote) {
            return Some(at);
        }
        if c == '\n' && quote.len() == 1 {
            return None;
        }
        escaped = !escaped && c == '\\' && !raw;
    }
    None
}

fn unescape(text: &str, bytes: bool) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let escape = rest.next().ok_or("unterminated escape")?;
        let simple = match escape {
            'a' => Some(7),
            'b' => Some(8),
            'f' => Some(12),
            'n' => Some(b'\n'),
            'r' => Some(b'\r'),
            't' => Some(b'\t'),
            'v' => Some(11),
            '\\' | '\'' | '"' | '`' | '?' => u8::try_from(escape).ok(),
            _ => None,
        };
        if let Some(byte) = simple {
            out.push(byte);
            continue;
        }
        let (digits, radix) = match escape {
            'x' | 'X' => (take(&mut rest, 2), 16),
            'u' => (take(&mut rest, 4), 16),
            'U' => (take(&mut rest, 8), 16),
            '0'..='3' => (escape.to_string() + &take(&mut rest, 2), 8),
            _ => return Err(format!("unable to unescape string, unknown escape \\{escape}")),
        };
        let code = u32::from_str_radix(&digits, radix).map_err(|_| "unable to unescape string".to_owned())?;
        if bytes && matches!(escape, 'x' | 'X' | '0'..='3') {
            out.push(u8::try_from(code).map_err(|_| "unable to unescape string".to_owned())?);
        } else {
            let c = char::from_u32(code).ok_or("unable to unescape string")?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    Ok(out)
}

fn take(rest: &mut std::str::Chars<'_>, count: usize) -> String {
    rest.by_ref().take(count).collect()
}
