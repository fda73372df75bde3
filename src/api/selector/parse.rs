//! The text forms of selectors.

use std::collections::BTreeSet;

use super::requirement::{FieldTerm, Operator, Requirement};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Symbol(&'a str),
    End,
}

impl<'a> Token<'a> {
    fn text(self) -> &'a str {
        match self {
            Token::Word(s) | Token::Symbol(s) => s,
            Token::End => "",
        }
    }

    /// A word that stands where a key or a value belongs; `in` and `notin` are words there.
    fn word(self) -> Option<&'a str> {
        match self {
            Token::Word(s) => Some(s),
            _ => None,
        }
    }
}

const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];

fn tokens(mut rest: &str) -> Vec<Token<'_>> {
    let mut all = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        if rest.is_empty() {
            all.push(Token::End);
            return all;
        }
        if let Some(symbol) = SYMBOLS.iter().find(|s| rest.starts_with(**s)) {
            let (head, tail) = rest.split_at(symbol.len());
            all.push(Token::Symbol(head));
            rest = tail;
            continue;
        }
        let end = rest
            .find(|c: char| "=!(),>< \t\r\n".contains(c))
            .unwrap_or(rest.len());
        let (head, tail) = rest.split_at(end);
        all.push(Token::Word(head));
        rest = tail;
    }
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        self.tokens.get(self.at).copied().unwrap_or(Token::End)
    }

    fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let absent = self.peek() == Token::Symbol("!");
        if absent {
            self.next();
        }
        let token = self.next();
        let key = token
            .word()
            .ok_or_else(|| format!("found '{}', expected: identifier", token.text()))?;
        if absent {
            return Requirement::new(key, Operator::DoesNotExist, BTreeSet::new());
        }
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return Requirement::new(key, Operator::Exists, BTreeSet::new());
        }
        let operator = self.operator()?;
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => BTreeSet::from([self.exact_value()?]),
        };
        Requirement::new(key, operator, values)
    }

    fn operator(&mut self) -> Result<Operator, String> {
        let token = self.next();
        Ok(match token.text() {
            "=" | "==" => Operator::Equals,
            "!=" => Operator::NotEquals,
            "in" => Operator::In,
            "notin" => Operator::NotIn,
            ">" => Operator::GreaterThan,
            "<" => Operator::LessThan,
            other => return Err(format!("found '{other}', expected: in, notin, =, ==, !=, gt, lt")),
        })
    }

    /// What follows `=`: a word, or nothing, which is the empty value.
    fn exact_value(&mut self) -> Result<String, String> {
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return Ok(String::new());
        }
        let token = self.next();
        token
            .word()
            .map(str::to_owned)
            .ok_or_else(|| format!("found '{}', expected: identifier", token.text()))
    }

    /// What follows `in`: `(a, b)`; empty places are empty values.
    fn values(&mut self) -> Result<BTreeSet<String>, String> {
        let open = self.next();
        if open != Token::Symbol("(") {
            return Err(format!("found '{}' expected: '('", open.text()));
        }
        let mut values = BTreeSet::new();
        loop {
            match self.next() {
                Token::Word(word) => {
                    values.insert(word.to_owned());
                    match self.next() {
                        Token::Symbol(",") => {}
                        Token::Symbol(")") => return Ok(values),
                        other => return Err(format!("found '{}', expected: ',' or ')'", other.text())),
                    }
                    if self.peek() == Token::Symbol(")") {
                        values.insert(String::new());
                    }
                }
                Token::Symbol(")") => {
                    if values.is_empty() {
                        values.insert(String::new());
                    }
                    return Ok(values);
                }
                Token::Symbol(",") => {
                    values.insert(String::new());
                }
                other => {
                    // What may come first may also be the end.
                    let end = if values.is_empty() { " ')'" } else { "" };
                    return Err(format!(
                        "found '{}', expected: ',',{end} or identifier",
                        other.text()
                    ));
                }
            }
        }
    }
}

/// The requirements of a label selector's text.
pub fn selector(text: &str) -> Result<Vec<Requirement>, String> {
    let mut parser = Parser {
        tokens: tokens(text),
        at: 0,
    };
    let mut all = Vec::new();
    match parser.peek() {
        Token::End => return Ok(all),
        Token::Word(_) | Token::Symbol("!") => {}
        other => {
            let found = other.text();
            return Err(format!(
                "found '{found}', expected: !, identifier, or 'end of string'"
            ));
        }
    }
    loop {
        all.push(
            parser
                .requirement()
                .map_err(|e| format!("unable to parse requirement: {e}"))?,
        );
        match parser.next() {
            Token::End => return Ok(all),
            Token::Symbol(",") => {
                if parser.peek().word().is_none() && parser.peek() != Token::Symbol("!") {
                    return Err(format!(
                        "found '{}', expected: identifier after ','",
                        parser.peek().text()
                    ));
                }
            }
            other => {
                return Err(format!(
                    "found '{}', expected: ',' or 'end of string'",
                    other.text()
                ));
            }
        }
    }
}

/// The terms of a field selector's text.
pub fn field_terms(text: &str) -> Result<Vec<FieldTerm>, String> {
    let mut terms = Vec::new();
    for part in split_unescaped(text) {
        if part.is_empty() {
            continue;
        }
        let (field, equal, value) = split_term(part)
            .ok_or_else(|| format!("invalid selector: '{text}'; can't understand '{part}'"))?;
        terms.push(FieldTerm {
            field: field.to_owned(),
            value: unescape(value)?,
            equal,
        });
    }
    Ok(terms)
}

/// Splits at commas that no backslash precedes.
fn split_unescaped(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                parts.push(text.get(start..i).unwrap_or(""));
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(text.get(start..).unwrap_or(""));
    parts
}

fn split_term(part: &str) -> Option<(&str, bool, &str)> {
    for (i, _) in part.char_indices() {
        let rest = part.get(i..)?;
        for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
            if let Some(value) = rest.strip_prefix(operator) {
                return Some((part.get(..i)?, equal, value));
            }
        }
    }
    None
}

fn unescape(value: &str) -> Result<String, String> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                Some(c) => return Err(format!("invalid field selector: invalid escape sequence: \\{c}")),
                None => return Err("invalid field selector: invalid escape sequence: \\".to_owned()),
            },
            '=' | ',' => {
                return Err(format!(
                    "invalid field selector: unescaped rune in value: {value}"
                ));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}
