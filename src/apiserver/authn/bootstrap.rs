//! Bootstrap tokens: Secrets of type `bootstrap.kubernetes.io/token` in `kube-system`, with which new machines
//! introduce themselves. Pure.

use api::object;
use api::request::User;
use api::tokens::BOOTSTRAP_TYPE;
use api::value::text;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::groups::add_authenticated;

const GROUP: &str = "system:bootstrappers";

/// The id and the secret of a token of the form `abcdef.0123456789abcdef`; `None` for any other.
pub(super) fn parts(token: &str) -> Option<(&str, &str)> {
    let plain = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    let (id, secret) = token.split_once('.')?;
    (plain(id, 6) && plain(secret, 16)).then_some((id, secret))
}

/// The name of a token's Secret.
pub(super) fn secret_name(id: &str) -> String {
    format!("bootstrap-token-{id}")
}

/// Whose a token is by its Secret.
///
/// # Errors
/// Why it is nobody's.
pub(super) fn user(stored: &Value, id: &str, secret: &str, now: Timestamp) -> Result<User, String> {
    let data = |key: &str| {
        let bytes = STANDARD
            .decode(text(stored, &format!("data.{key}")))
            .unwrap_or_default();
        String::from_utf8(bytes).unwrap_or_default()
    };
    if text(stored, "type") != BOOTSTRAP_TYPE || object::is_deleting(stored) {
        return Err("its Secret is no bootstrap token, or is going".to_owned());
    }
    // By digest, so that the time it takes tells nothing of where they differ.
    let same = Sha256::digest(data("token-secret")) == Sha256::digest(secret);
    if !same || data("token-id") != id {
        return Err("its Secret says otherwise".to_owned());
    }
    let expiration = data("expiration");
    let expired = expiration
        .parse::<Timestamp>()
        .map(|until| until <= now)
        .unwrap_or(true);
    if !expiration.is_empty() && expired {
        return Err("it has expired".to_owned());
    }
    if data("usage-bootstrap-authentication") != "true" {
        return Err("it is not for authentication".to_owned());
    }
    let mut groups = vec![GROUP.to_owned()];
    for group in data("auth-extra-groups")
        .split(',')
        .map(str::trim)
        .filter(|group| !group.is_empty())
    {
        if !is_bootstrap_group(group) {
            return Err(format!("{group:?} is no group of bootstrap tokens"));
        }
        groups.push(group.to_owned());
    }
    let name = format!("system:bootstrap:{id}");
    add_authenticated(&name, &mut groups);
    Ok(User {
        name,
        groups,
        ..User::default()
    })
}

/// `system:bootstrappers:` and something that ends in a letter or digit.
fn is_bootstrap_group(group: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    group.strip_prefix("system:bootstrappers:").is_some_and(|rest| {
        rest.len() <= 256
            && rest.bytes().all(|b| plain(b) || b == b':' || b == b'-')
            && rest.bytes().next_back().is_some_and(plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn stored(more: &[(&str, &str)]) -> Value {
        let mut data = json!({});
        let basics = [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
            (
                "auth-extra-groups",
                "system:bootstrappers:kubeadm:default-node-token",
            ),
        ];
        for (key, value) in basics.iter().chain(more) {
            data[*key] = STANDARD.encode(value).into();
        }
        json!({"type": BOOTSTRAP_TYPE, "metadata": {"name": "bootstrap-token-abcdef"}, "data": data})
    }

    #[test]
    fn a_token_is_good_as_its_secret_says() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let ask = |stored: &Value, secret: &str| user(stored, "abcdef", secret, now);
        let good = "0123456789abcdef";
        let found = ask(&stored(&[]), good).unwrap();
        let groups = [
            GROUP,
            "system:bootstrappers:kubeadm:default-node-token",
            "system:authenticated",
        ];
        assert_eq!(found, User::new("system:bootstrap:abcdef", &groups));
        assert!(ask(&stored(&[("expiration", "2026-01-01T00:00:01Z")]), good).is_ok());
        for bad in [
            ("expiration", "2026-01-01T00:00:00Z"),
            ("expiration", "tomorrow"),
            ("usage-bootstrap-authentication", "false"),
            ("token-id", "zzzzzz"),
            ("auth-extra-groups", "system:masters"),
        ] {
            assert!(ask(&stored(&[bad]), good).is_err(), "{bad:?}");
        }
        assert!(ask(&stored(&[]), "0123456789abcdee").is_err());
        let mut other = stored(&[]);
        other["type"] = "Opaque".into();
        assert!(ask(&other, good).is_err());
    }

    #[test]
    fn tokens_have_one_form() {
        assert_eq!(
            parts("abcdef.0123456789abcdef"),
            Some(("abcdef", "0123456789abcdef"))
        );
        for bad in [
            "abcdef",
            "abcde.0123456789abcdef",
            "ABCDEF.0123456789abcdef",
            "abcdef.0123456789abcde",
        ] {
            assert_eq!(parts(bad), None, "{bad}");
        }
    }
}
