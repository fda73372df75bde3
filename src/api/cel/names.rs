//! What things are called in expressions: words that are no names, and properties whose names had to be escaped.

use serde_json::Value;

/// Words that cannot be names of variables.
pub fn is_reserved(word: &str) -> bool {
    matches!(
        word,
        "true"
            | "false"
            | "null"
            | "in"
            | "as"
            | "break"
            | "const"
            | "continue"
            | "else"
            | "for"
            | "function"
            | "if"
            | "import"
            | "let"
            | "loop"
            | "package"
            | "namespace"
            | "return"
            | "var"
            | "void"
            | "while"
    )
}

/// The property that an escaped field name stands for, such as `a-b` for `a__dash__b`.
pub fn unescape(name: &str) -> String {
    if !name.contains("__") {
        return name.to_owned();
    }
    if let Some(word) = name.strip_prefix("__").and_then(|n| n.strip_suffix("__"))
        && is_reserved(word)
    {
        return word.to_owned();
    }
    let mut out = name
        .replace("__dot__", ".")
        .replace("__dash__", "-")
        .replace("__slash__", "/");
    out = out.replace("__underscores__", "__");
    out
}

/// The schema of a member: of the property of that name, or of every one.
pub fn member<'a>(schema: Option<&'a Value>, name: &str) -> Option<&'a Value> {
    let schema = schema?;
    let own = schema.get("properties").and_then(|p| p.get(name));
    own.or_else(|| schema.get("additionalProperties").filter(|s| s.is_object()))
}
