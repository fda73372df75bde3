//! Whom policies trust.

use super::signers::Signer;
use super::*;

fn policy(text: &str) -> Result<Policy, String> {
    let policy: Policy = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    policy.check().map(|()| policy)
}

fn name(text: &str) -> Reference {
    reference::parse(text).unwrap()
}

fn imported(reference: &str) -> Voucher {
    Voucher::Import {
        reference: reference.to_owned(),
    }
}

/// What that signer's signature is remembered as.
fn signed(by: &Signer, identity: &str) -> Voucher {
    let (payload, signature) = by.cosign(identity, "sha256:0");
    let keys = Keys::try_from(by.pem()).unwrap();
    let asked = Asked {
        name: &name(identity),
        digest: "sha256:0",
        keys: keys.all().collect(),
        bundles: false,
    };
    asked.check(&payload, &signature).unwrap()
}

/// A policy that wants that signature for `lan:5000/team`.
fn wants(signer: &Signer, more: &str) -> Policy {
    let pem = signer.pem().replace('\n', "\n      ");
    policy(&format!(
        "lan:5000/team:\n  pulled:\n    keys:\n    - |\n      {pem}\n{more}"
    ))
    .unwrap()
}

#[test]
fn the_longest_beginning_counts_up_to_a_slash() {
    let text = "{'*': {pulled: refuse}, docker.io: {pulled: accept}, docker.io/library/busybox: {pulled: refuse}, \
                'lan:5000/team': {pulled: accept}}";
    let policy = policy(text).unwrap();
    for (image, accepted) in [
        ("busybox", false),
        ("busyboxes", true),
        ("docker.io/other/busybox:1", true),
        ("quay.io/app", false),
        ("lan:5000/team/deep/app", true),
        ("lan:5000/team", true),
        ("lan:5000/teams/app", false),
        ("lan:5000/app", false),
    ] {
        assert_eq!(policy.signers(&name(image)).is_ok(), accepted, "{image}");
        assert_eq!(policy.admits(&name(image), &[]).is_ok(), accepted, "{image}");
    }
    let why = policy.admits(&name("quay.io/app"), &[]).unwrap_err().to_string();
    assert_eq!(why, "the policy for \"*\" refuses images from registries");
    assert!(Policy::default().admits(&name("quay.io/app"), &[]).is_ok());
}

#[test]
fn a_signature_is_remembered_for_its_key_and_name() {
    let (one, other) = (Signer::p256(), Signer::ed25519());
    let before = wants(&one, "");
    let app = name("lan:5000/team/app:1");
    let known = [signed(&one, "lan:5000/team/app")];
    assert!(before.admits(&app, &known).is_ok());
    assert!(before.signers(&app).unwrap().is_some());
    for vouchers in [
        vec![],
        vec![signed(&other, "lan:5000/team/app")],
        vec![signed(&one, "lan:5000/team/else")],
    ] {
        let why = before.admits(&app, &vouchers).unwrap_err();
        assert!(matches!(why, ImageError::Untrusted(_)), "{why}");
    }
    // Another key is wanted from now on, or the same for more names.
    assert!(wants(&other, "").admits(&app, &known).is_err());
    let text = format!("{{'*': {{pulled: {{keys: [{:?}]}}}}}}", one.pem());
    let wider = policy(&text).unwrap();
    assert!(wider.admits(&app, &known).is_ok());
    assert!(wider.admits(&name("busybox"), &known).is_err());
}

#[test]
fn a_signature_without_a_name_counts_where_the_policy_says_so() {
    let (one, other) = (Signer::p256(), Signer::ed25519());
    let app = name("lan:5000/team/app:1");
    let nameless = |by: &Signer| match signed(by, "lan:5000/team/app") {
        Voucher::Signature { key, .. } => Voucher::Signature {
            key,
            identity: String::new(),
        },
        other => other,
    };
    let (strict, lenient) = (wants(&one, ""), wants(&one, "  bundles: true\n"));
    assert!(strict.admits(&app, &[nameless(&one)]).is_err());
    assert!(lenient.admits(&app, &[nameless(&one)]).is_ok());
    assert!(lenient.admits(&app, &[nameless(&other)]).is_err());
    // What has a name is still for that name alone.
    assert!(
        lenient
            .admits(&app, &[signed(&one, "lan:5000/team/else")])
            .is_err()
    );
    assert!(!strict.signers(&app).unwrap().unwrap().bundles);
    assert!(lenient.signers(&app).unwrap().unwrap().bundles);
}

#[test]
fn imports_are_trusted_by_name_unless_the_policy_says_no() {
    let signer = Signer::p256();
    let app = name("lan:5000/team/app:1");
    let known = [imported("lan:5000/team/app:1")];
    assert!(wants(&signer, "").admits(&app, &known).is_ok());
    assert!(
        wants(&signer, "")
            .admits(&name("lan:5000/team/app:2"), &known)
            .is_err()
    );
    assert!(
        wants(&signer, "  trust_imports: false\n")
            .admits(&app, &known)
            .is_err()
    );
    let closed = policy("{'*': {pulled: refuse}}").unwrap();
    assert!(closed.admits(&app, &known).is_ok());
    assert!(closed.admits(&app, &[]).is_err());
    assert!(closed.signers(&app).is_err());
    let shut = policy("{'*': {pulled: refuse, trust_imports: false}}").unwrap();
    assert!(shut.admits(&app, &known).is_err());
}

#[test]
fn what_would_never_count_is_an_error_that_names_it() {
    for (text, words) in [
        (
            "{busybox: {pulled: accept}}",
            "\"busybox\" begins no image's name",
        ),
        ("{'lan.x/app:1': {pulled: refuse}}", "without a tag"),
        ("{'https://lan.x': {pulled: refuse}}", "begins no image's name"),
        ("{'lan.x/': {pulled: refuse}}", "begins no image's name"),
        ("{'*.lan.x': {pulled: refuse}}", "begins no image's name"),
        ("{lan.x: {pulled: {keys: []}}}", "has no keys"),
        ("{lan.x: {pulled: {keys: [/no/such.pub]}}}", "/no/such.pub"),
        ("{lan.x: {pulled: perhaps}}", "perhaps"),
        ("{lan.x: {pulled: accept, key: x}}", "key"),
        ("{lan.x: {trust_imports: true}}", "pulled"),
    ] {
        let why = policy(text).err().unwrap_or_else(|| panic!("{text} is accepted"));
        assert!(why.contains(words), "{text}: {why}");
    }
}

#[test]
fn keys_come_from_files_too() {
    let (one, other) = (Signer::p256(), Signer::ed25519());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("both.pub");
    std::fs::write(&file, one.pem() + &other.pem()).unwrap();
    let policy = policy(&format!("{{lan.x: {{pulled: {{keys: [{}]}}}}}}", file.display())).unwrap();
    for signer in [&one, &other] {
        assert!(
            policy
                .admits(&name("lan.x/app"), &[signed(signer, "lan.x/app")])
                .is_ok()
        );
    }
    assert_eq!(policy.signers(&name("lan.x/app")).unwrap().unwrap().keys.len(), 2);
}
