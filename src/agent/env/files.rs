//! Values of variables out of files that containers of the pod have written (KEP-3721). Pure.
//!
//! Such a file is a part of what a shell would understand: `NAME='value'`, with line breaks in the value perhaps and a
//! comment after it; lines of comments; blank ones.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, FileKeySelector};

/// A file of a volume: its name, and the file's path below it.
pub type FileName = (String, String);

/// The files that a container's variables come from, each once.
pub fn wanted(container: &Container) -> BTreeSet<FileName> {
    let sources = container
        .env
        .iter()
        .flatten()
        .filter_map(|env| env.value_from.as_ref());
    let files = sources.filter_map(|source| source.file_key_ref.as_ref());
    files.map(name_of).collect()
}

/// The file that is meant.
pub fn name_of(selector: &FileKeySelector) -> FileName {
    (selector.volume_name.clone(), selector.path.clone())
}

/// What a file says of a name; the first that it says. What comes after that is not read.
///
/// # Errors
/// A line before it that does not belong into such a file, in words for users.
pub fn value(text: &str, name: &str) -> Result<Option<String>, String> {
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let line = line.trim_start_matches([' ', '\t']);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |at: &str, what: &str| {
            Err(format!(
                "invalid environment variable format {at} line {}: {what}",
                number + 1
            ))
        };
        let Some((found, rest)) = line.split_once('=') else {
            return wrong("at", "missing '='");
        };
        if found.trim_end_matches([' ', '\t']).is_empty() {
            return wrong("at", "empty variable name");
        }
        if found.ends_with([' ', '\t']) {
            return wrong("at", "whitespace before '=' is not allowed");
        }
        // As to a shell, which sets nothing then.
        if rest.starts_with([' ', '\t']) {
            if found == name {
                return Ok(Some(String::new()));
            }
            continue;
        }
        let Some(mut rest) = rest.strip_prefix('\'') else {
            return wrong("at", "value must be enclosed in single quotes");
        };
        let mut value = String::new();
        let after = loop {
            if let Some((end, after)) = rest.split_once('\'') {
                value.push_str(end);
                break after.trim_start_matches([' ', '\t']);
            }
            value.push_str(rest);
            value.push('\n');
            match lines.next() {
                Some((_, line)) => rest = line,
                None => return wrong("starting at", "unclosed single quote"),
            }
        };
        if !after.is_empty() && !after.starts_with('#') {
            return wrong("at", "unexpected content after closing quote");
        }
        if found == name {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_in_quotes() {
        let text = "# comment\n\n  A='1'\nB='two\n# not a comment\nlines' # said so\nA='again'\nEMPTY=''\nSET= 'no'\n";
        let of = |name: &str| value(text, name).unwrap();
        assert_eq!(of("A").as_deref(), Some("1"));
        assert_eq!(of("B").as_deref(), Some("two\n# not a comment\nlines"));
        assert_eq!(of("EMPTY").as_deref(), Some(""));
        assert_eq!(of("SET").as_deref(), Some(""));
        assert_eq!(of("C"), None);
        assert_eq!(value("", "A"), Ok(None));
    }

    #[test]
    fn what_no_shell_would_take_is_named_with_its_line() {
        for (text, why) in [
            ("\nA", "at line 2: missing '='"),
            ("='x'", "at line 1: empty variable name"),
            ("A ='x'", "at line 1: whitespace before '=' is not allowed"),
            ("A=x", "at line 1: value must be enclosed in single quotes"),
            ("A='x'y", "at line 1: unexpected content after closing quote"),
            ("B='1'\nA='x\ny", "starting at line 2: unclosed single quote"),
        ] {
            let told = value(text, "Z").unwrap_err();
            assert_eq!(
                told,
                format!("invalid environment variable format {why}"),
                "{text:?}"
            );
        }
        // What comes before the mistake is good.
        assert_eq!(value("A='1'\nB", "A"), Ok(Some("1".to_owned())));
    }
}
