//! The query of a request.

/// Names and values, decoded, in their order.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(text: &str) -> Query {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Query(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(name, value)| (decode(name), decode(value)))
                .collect(),
        )
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
            .filter(|v| !v.is_empty())
    }

    pub(super) fn all(&self, name: &str) -> Vec<String> {
        self.0
            .iter()
            .filter(|(n, _)| n == name)
            .map(|(_, value)| value.clone())
            .collect()
    }

    /// A flag: there, and not `false` or `0`.
    pub(super) fn is(&self, name: &str) -> bool {
        self.0
            .iter()
            .any(|(n, value)| n == name && value != "false" && value != "0")
    }
}

fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let pair = [bytes.next().unwrap_or(b'%'), bytes.next().unwrap_or(b'%')];
                let digits = std::str::from_utf8(&pair)
                    .ok()
                    .and_then(|t| u8::from_str_radix(t, 16).ok());
                out.push(digits.unwrap_or(b'?'));
            }
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let query = Query::parse("command=sh&command=-c&command=echo+a%26b&stdin&tty=false&x=%");
        assert_eq!(query.all("command"), ["sh", "-c", "echo a&b"]);
        assert!(query.is("stdin") && !query.is("tty") && !query.is("stdout"));
        assert_eq!((query.get("x"), query.get("y")), (Some("?"), None));
    }
}
