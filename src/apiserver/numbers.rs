//! What Go says of texts that are no numbers, or too large ones.

/// The words of `strconv.ParseInt`.
pub fn not_signed(text: &str) -> String {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    said("ParseInt", text, digits)
}

/// The words of `strconv.ParseUint`, which knows no signs.
pub fn not_unsigned(text: &str) -> String {
    said("ParseUint", text, text)
}

fn said(function: &str, text: &str, digits: &str) -> String {
    let whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let why = if whole {
        "value out of range"
    } else {
        "invalid syntax"
    };
    format!("strconv.{function}: parsing {text:?}: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_large_is_not_malformed() {
        let large = "99999999999999999999";
        assert!(not_signed(large).ends_with("value out of range"));
        assert!(not_signed("-99999999999999999999").ends_with("value out of range"));
        assert!(not_unsigned(large).ends_with("value out of range"));
        assert_eq!(
            not_unsigned("+1"),
            r#"strconv.ParseUint: parsing "+1": invalid syntax"#
        );
        assert!(not_signed("").ends_with("invalid syntax"));
    }
}
