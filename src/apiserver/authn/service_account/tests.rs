//! Tokens good and bad, and the keys that sign them.

use super::*;
use crate::config::ServerConfig;
use crate::lookup::tests::Fixed;
use crate::pki::{Secret, Step};
use crate::tokens::BoundObject;
use base::ManualClock;
use std::time::Duration;

fn spec() -> TokenSpec {
    TokenSpec {
        namespace: "a".into(),
        name: "bot".into(),
        uid: "sa-1".into(),
        audiences: vec![],
        expiration_seconds: 3600,
        bound: Some(BoundObject {
            kind: "Pod".into(),
            name: "web".into(),
            uid: "pod-1".into(),
        }),
        node: Some(("n1".into(), "node-1".into())),
    }
}

fn object(name: &str, uid: &str) -> Value {
    json!({"metadata": {"namespace": "a", "name": name, "uid": uid}})
}

fn tokens(lookup: Fixed) -> (tempfile::TempDir, Arc<ManualClock>, ServiceAccounts) {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(jiff::Timestamp::now()));
    let pki = Pki::open(&ServerConfig::new(dir.path()), 6443, clock.now()).unwrap();
    let tokens = ServiceAccounts::new(Arc::new(pki), "https://issuer", Arc::new(lookup), clock.clone());
    (dir, clock, tokens)
}

#[test]
fn a_token_is_good_until_it_ends() {
    let lookup = Fixed::default()
        .with("", "serviceaccounts", object("bot", "sa-1"))
        .with("", "pods", object("web", "pod-1"));
    let (_dir, clock, tokens) = tokens(lookup);
    let issued = tokens.issue(&spec()).unwrap();
    let (user, audiences) = tokens
        .authenticate(&issued.token, &[], &Notes::default())
        .unwrap();
    assert_eq!(user.name, "system:serviceaccount:a:bot");
    assert_eq!(
        user.groups,
        [
            "system:serviceaccounts",
            "system:serviceaccounts:a",
            "system:authenticated"
        ]
    );
    assert_eq!(user.extra["authentication.kubernetes.io/pod-name"], ["web"]);
    assert_eq!(audiences, ["https://issuer"]);
    assert!(
        tokens
            .authenticate(&issued.token, &["vault".to_owned()], &Notes::default())
            .is_err()
    );
    clock.advance(Duration::from_secs(3601));
    assert_eq!(
        tokens
            .authenticate(&issued.token, &[], &Notes::default())
            .unwrap_err(),
        "service account token has expired"
    );
}

#[test]
fn a_token_dies_with_its_pod() {
    let lookup = Fixed::default()
        .with("", "serviceaccounts", object("bot", "sa-1"))
        .with("", "pods", object("web", "another"));
    let (_dir, _, tokens) = tokens(lookup);
    let issued = tokens.issue(&spec()).unwrap();
    assert!(
        tokens
            .authenticate(&issued.token, &[], &Notes::default())
            .unwrap_err()
            .contains("made anew")
    );
    let free = TokenSpec {
        bound: None,
        node: None,
        ..spec()
    };
    assert!(
        tokens
            .authenticate(&tokens.issue(&free).unwrap().token, &[], &Notes::default())
            .is_ok()
    );
    let stranger = TokenSpec {
        uid: "sa-2".into(),
        bound: None,
        ..spec()
    };
    assert!(
        tokens
            .authenticate(&tokens.issue(&stranger).unwrap().token, &[], &Notes::default())
            .is_err()
    );
}

#[test]
fn a_new_key_signs_and_the_old_ones_tokens_are_good_until_it_is_retired() {
    let lookup = Fixed::default().with("", "serviceaccounts", object("bot", "sa-1"));
    let (_dir, clock, tokens) = tokens(lookup);
    let free = TokenSpec {
        bound: None,
        node: None,
        ..spec()
    };
    let issue = || tokens.issue(&free).unwrap().token;
    let good = |token: &str| tokens.authenticate(token, &[], &Notes::default()).is_ok();
    let keys = || {
        let set = tokens.key_set();
        let ids = set["keys"].as_array().unwrap().iter();
        ids.map(|key| key["kid"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let signer = |token: &str| jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
    let step = |step: Step, force| {
        let trust = tokens.pki.now().trust.clone();
        let next = trust.after(step, &[Secret::ServiceAccountKey], force, clock.now());
        assert!(tokens.pki.take_up(&next.unwrap()).unwrap());
    };
    let old = issue();
    assert!(good(&old) && keys() == [signer(&old)]);
    step(Step::Prepare, false);
    let still_old = issue();
    assert_eq!(signer(&still_old), signer(&old));
    assert_eq!(keys().len(), 2, "others can fetch the new key before it signs");
    step(Step::Activate, false);
    let new = issue();
    assert_ne!(signer(&new), signer(&old));
    assert_eq!(keys()[0], signer(&new));
    assert!(good(&old) && good(&still_old) && good(&new));
    step(Step::Retire, true);
    assert!(good(&new) && keys() == [signer(&new)]);
    // Also one that was good a moment ago, and is remembered as such.
    let refused = tokens.authenticate(&old, &[], &Notes::default()).unwrap_err();
    assert!(refused.contains("no key that is trusted"), "{refused}");
}

#[test]
fn forged_tokens_are_refused() {
    let lookup = Fixed::default().with("", "serviceaccounts", object("bot", "sa-1"));
    let (_dir, _, ours) = tokens(lookup.clone());
    let (_other, _, theirs) = tokens(lookup);
    let free = TokenSpec {
        bound: None,
        node: None,
        ..spec()
    };
    let forged = theirs.issue(&free).unwrap().token;
    assert!(ours.authenticate(&forged, &[], &Notes::default()).is_err());
    let token = ours.issue(&free).unwrap().token;
    let mut parts: Vec<&str> = token.split('.').collect();
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    parts[0] = &none;
    parts[2] = "";
    assert!(
        ours.authenticate(&parts.join("."), &[], &Notes::default())
            .is_err()
    );
    assert!(ours.authenticate("", &[], &Notes::default()).is_err());
}

fn kept_spec() -> KeptSpec {
    KeptSpec {
        namespace: "a".into(),
        account: "bot".into(),
        uid: "sa-1".into(),
        secret: "key".into(),
    }
}

fn holding(token: &str) -> Value {
    use base64::engine::general_purpose::STANDARD;
    let mut secret = object("key", "secret-1");
    secret["data"] = json!({ "token": STANDARD.encode(token) });
    secret
}

#[test]
fn a_kept_token_is_good_while_its_secret_holds_it() {
    let account = || Fixed::default().with("", "serviceaccounts", object("bot", "sa-1"));
    let (_dir, clock, mut tokens) = tokens(account());
    let token = tokens.issue_kept(&kept_spec()).unwrap();
    let body = token.split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).unwrap()).unwrap();
    assert_eq!(
        claims,
        json!({
            "iss": "kubernetes/serviceaccount",
            "kubernetes.io/serviceaccount/namespace": "a",
            "kubernetes.io/serviceaccount/secret.name": "key",
            "kubernetes.io/serviceaccount/service-account.name": "bot",
            "kubernetes.io/serviceaccount/service-account.uid": "sa-1",
            "sub": "system:serviceaccount:a:bot",
        })
    );
    let mut with = |lookup: Fixed| {
        tokens.lookup = Arc::new(lookup);
        tokens.authenticate(&token, &[], &Notes::default())
    };
    assert_eq!(
        with(account()).unwrap_err(),
        "service account token has been invalidated"
    );
    let refused = with(account().with("", "secrets", holding("another"))).unwrap_err();
    assert_eq!(refused, "service account token does not match server's copy");
    let anew = Fixed::default().with("", "serviceaccounts", object("bot", "sa-2"));
    let refused = with(anew.with("", "secrets", holding(&token))).unwrap_err();
    assert_eq!(refused, "service account UID (sa-2) does not match claim (sa-1)");
    let mut marked = holding(&token);
    marked["metadata"]["labels"] = json!({"kubernetes.io/legacy-token-invalid-since": "2026-01-01"});
    let refused = with(account().with("", "secrets", marked)).unwrap_err();
    assert!(
        refused.contains("a/key for service account a/bot has been marked invalid"),
        "{refused}"
    );

    let (user, audiences) = with(account().with("", "secrets", holding(&token))).unwrap();
    assert_eq!(
        (user.name.as_str(), user.uid.as_str()),
        ("system:serviceaccount:a:bot", "sa-1")
    );
    assert!(user.extra.is_empty() && audiences == ["https://issuer"]);
    assert!(
        tokens
            .authenticate(&token, &["vault".to_owned()], &Notes::default())
            .is_err()
    );
    clock.advance(Duration::from_secs(400 * 86_400));
    assert!(
        tokens.authenticate(&token, &[], &Notes::default()).is_ok(),
        "it has no end"
    );

    for step in [Step::Prepare, Step::Activate, Step::Retire] {
        assert!(!tokens.has_lost_its_key(&token), "before {step:?}");
        let trust = tokens.pki.now().trust.clone();
        let next = trust.after(step, &[Secret::ServiceAccountKey], true, clock.now());
        tokens.pki.take_up(&next.unwrap()).unwrap();
    }
    assert!(tokens.has_lost_its_key(&token) && tokens.authenticate(&token, &[], &Notes::default()).is_err());
    assert!(
        !tokens.has_lost_its_key("nonsense"),
        "what somebody else has put there is theirs"
    );
}
