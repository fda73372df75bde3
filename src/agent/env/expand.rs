//! `$(NAME)` in commands, arguments, environment and sub-paths.

/// Replaces `$(NAME)` by what `lookup` gives; an unknown name stays as
/// written, `$$` stands for `$` (Kubernetes' `third_party/forked/golang/expansion`).
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// The first name that `text` refers to and `lookup` does not know.
pub fn missing(text: &str, lookup: impl Fn(&str) -> bool) -> Option<String> {
    let unknown = std::cell::RefCell::new(None);
    expand(text, |name| {
        if !lookup(name) {
            unknown.borrow_mut().get_or_insert_with(|| name.to_owned());
        }
        Some(String::new())
    });
    unknown.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let lookup = |name: &str| (name == "A").then(|| "1".to_owned());
        for (text, expected) in [
            ("$(A)", "1"),
            ("x-$(A)-$(A)y", "x-1-1y"),
            ("$(B)", "$(B)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$A", "$A"),
            ("$(A", "$(A"),
            ("a$", "a$"),
            ("$$", "$"),
            ("$()", "$()"),
            ("ü$(A)ü", "ü1ü"),
        ] {
            assert_eq!(expand(text, lookup), expected, "{text}");
        }
        assert_eq!(missing("$(A)/$(C)", |n| n == "A"), Some("C".to_owned()));
        assert_eq!(missing("$(A)", |n| n == "A"), None);
    }
}
