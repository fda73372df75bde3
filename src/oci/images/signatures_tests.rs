//! Images whose signatures a policy asks for, pulled from a registry that misbehaves.

use hostile_registry::{Fault, Hostile, digest};
use serde_json::{Value, json};

use super::pull_tests::{CONFIG, INDEX, MANIFEST, Store, plain_image};
use super::trust::signers::Signer;
use super::{Image, ImageError, ImportOptions, Voucher};

const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// Settings that want a signature by one of these for all images.
fn wants(signers: &[&Signer]) -> String {
    let keys: Vec<String> = signers.iter().map(|signer| signer.pem()).collect();
    json!({"policy": {"*": {"pulled": {"keys": keys}}}}).to_string()
}

/// An image in a repository of its own: its reference and digest.
fn published(registry: &Hostile, name: &str) -> (String, String) {
    let (reference, _) = plain_image(registry, name, name.as_bytes());
    let manifest = registry.content_of(name, "1");
    (reference, digest(&manifest))
}

/// One signature as a layer.
fn layer(registry: &Hostile, (payload, signature): (Vec<u8>, String)) -> Value {
    let mut layer = registry.blob(SIMPLE_SIGNING, &payload);
    layer["annotations"] = json!({"dev.cosignproject.cosign/signature": signature});
    layer
}

/// Leaves signatures where cosign does.
fn sign(registry: &Hostile, name: &str, digest: &str, layers: Vec<Value>) {
    let config = registry.blob(CONFIG, b"{}");
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    let tag = format!("{}.sig", digest.replace(':', "-"));
    registry.manifest(name, &tag, MANIFEST, &manifest);
}

/// Signs for a repository of that registry as cosign would.
fn sign_by(registry: &Hostile, signer: &Signer, name: &str, digest: &str) {
    let identity = format!("{}/{name}", registry.address);
    let layer = layer(registry, signer.cosign(&identity, digest));
    sign(registry, name, digest, vec![layer]);
}

/// The same, where bundles count.
fn wants_bundles(signers: &[&Signer]) -> String {
    let keys: Vec<String> = signers.iter().map(|signer| signer.pem()).collect();
    json!({"policy": {"*": {"pulled": {"keys": keys}, "bundles": true}}}).to_string()
}

/// Keeps a bundle as cosign does; the entry that tells of it.
fn referrer(registry: &Hostile, name: &str, subject: &str, bundle: &Value) -> Value {
    let kind = "application/vnd.dev.sigstore.bundle.v0.3+json";
    let layer = registry.blob(kind, bundle.to_string().as_bytes());
    let config = registry.blob("application/vnd.oci.empty.v1+json", b"{}");
    let states = json!({"dev.sigstore.bundle.content": "dsse-envelope",
        "dev.sigstore.bundle.predicateType": "https://sigstore.dev/cosign/sign/v1"});
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": kind, "config": config,
        "layers": [layer], "subject": {"mediaType": MANIFEST, "digest": subject, "size": 1}, "annotations": states});
    let (_, mut entry) = registry.manifest(name, "bundle", MANIFEST, &manifest);
    entry["artifactType"] = json!(kind);
    entry["annotations"] = states;
    entry
}

fn untrusted(result: Result<Image, ImageError>) -> String {
    match result {
        Err(ImageError::Untrusted(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn asked(registry: &Hostile, part: &str) -> usize {
    registry
        .requests()
        .iter()
        .filter(|request| request.contains(part))
        .count()
}

#[tokio::test]
async fn a_signed_image_is_let_in_and_remembered() {
    for signer in [Signer::p256(), Signer::ed25519()] {
        let (registry, stranger) = (Hostile::start(), Signer::p256());
        let store = Store::with(&wants(&[&stranger, &signer])).await;
        let (reference, digest) = published(&registry, "team/app");
        sign_by(&registry, &signer, "team/app", &digest);
        let image = store.pull(&reference).await.unwrap();
        let [Voucher::Signature { identity, .. }] = &image.vouchers[..] else {
            panic!("{image:?}")
        };
        assert_eq!(*identity, format!("{}/team/app", registry.address));
        // Known from now on, by digest too, whatever becomes of the signature.
        let before = asked(&registry, ".sig");
        store.pull(&reference).await.unwrap();
        let by_digest = format!("{}/team/app@{digest}", registry.address);
        let found = store.images.find(&by_digest).await.unwrap().unwrap();
        store.images.admits(&by_digest, &found).unwrap();
        assert_eq!(asked(&registry, ".sig"), before);
        // Until its key counts no more.
        let store = store.again(&wants(&[&stranger])).await;
        let found = store.images.find(&reference).await.unwrap().unwrap();
        assert!(store.images.admits(&reference, &found).is_err());
        let why = untrusted(store.pull(&reference).await);
        assert!(
            why.contains("signature 1: it is by none of the policy's keys"),
            "{why}"
        );
    }
}

#[tokio::test]
async fn what_is_not_signed_leaves_nothing_behind() {
    let (registry, signer) = (Hostile::start(), Signer::p256());
    let store = Store::with(&wants(&[&signer])).await;
    let (plain, plain_digest) = published(&registry, "plain");
    let why = untrusted(store.pull(&plain).await);
    let tag = format!("{}.sig", plain_digest.replace(':', "-"));
    assert!(why.contains("is not signed") && why.contains(&tag), "{why}");
    let (forged, forged_digest) = published(&registry, "forged");
    sign_by(&registry, &Signer::p256(), "forged", &forged_digest);
    let why = untrusted(store.pull(&forged).await);
    assert!(why.contains("by none of the policy's keys"), "{why}");
    // Rightly signed, for another repository.
    let (moved, moved_digest) = published(&registry, "moved");
    let other = layer(
        &registry,
        signer.cosign("elsewhere.example.com/moved", &moved_digest),
    );
    sign(&registry, "moved", &moved_digest, vec![other]);
    let why = untrusted(store.pull(&moved).await);
    assert!(why.contains("it signs elsewhere.example.com/moved"), "{why}");
    assert_eq!(
        asked(&registry, "/plain/blobs/"),
        0,
        "no content of what is refused is fetched"
    );
    assert!(store.left().is_empty(), "{:?}", store.left());
    assert!(store.images.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn one_good_signature_among_bad_ones_suffices() {
    let (registry, signer) = (Hostile::start(), Signer::p256());
    let store = Store::with(&wants(&[&signer])).await;
    let (reference, digest) = published(&registry, "app");
    let identity = format!("{}/app", registry.address);
    let good = || layer(&registry, signer.cosign(&identity, &digest));
    let huge = layer(&registry, signer.signed(&vec![b' '; 100_000]));
    let mut lies = layer(&registry, signer.signed(&vec![b' '; 100_001]));
    lies["size"] = json!(10);
    let mut missing = good();
    missing["digest"] = json!(format!("sha256:{}", "0".repeat(64)));
    let mut escape = good();
    escape["digest"] = json!("sha256:../../manifests/1");
    let mut bare = good();
    bare["annotations"] = Value::Null;
    let mut odd = good();
    odd["mediaType"] = json!("application/json");
    let bad = vec![huge, lies, missing, escape, bare, odd];
    sign(&registry, "app", &digest, bad.clone());
    let why = untrusted(store.pull(&reference).await);
    for words in [
        "signature 1: it signs 100000 bytes, 65536 are allowed",
        "signature 2: the answer has more than 65536 bytes",
        "signature 3: what it signs is not there",
    ] {
        assert!(why.contains(words), "{why}");
    }
    sign(&registry, "app", &digest, [bad, vec![good()]].concat());
    store.pull(&reference).await.unwrap();
    // What is far behind is not looked for.
    let (many, many_digest) = published(&registry, "many");
    let stranger = Signer::p256();
    let identity = format!("{}/many", registry.address);
    let mut layers = vec![layer(&registry, stranger.cosign(&identity, &many_digest)); 40];
    layers.push(layer(&registry, signer.cosign(&identity, &many_digest)));
    sign(&registry, "many", &many_digest, layers);
    untrusted(store.pull(&many).await);
}

#[tokio::test]
async fn the_signature_of_an_index_is_for_what_goes_by_its_name() {
    let (registry, signer) = (Hostile::start(), Signer::p256());
    let store = Store::with(&wants(&[&signer])).await;
    let (_, inner) = published(&registry, "app");
    let size = registry.content_of("app", "1").len();
    let index =
        json!({"schemaVersion": 2, "manifests": [{"mediaType": MANIFEST, "digest": inner, "size": size}]});
    let (reference, index) = registry.manifest("app", "2", INDEX, &index);
    sign_by(&registry, &signer, "app", index["digest"].as_str().unwrap());
    store.pull(&reference).await.unwrap();
    let by_digest = format!("{}/app@{inner}", registry.address);
    untrusted(store.pull(&by_digest).await);
}

#[tokio::test]
async fn a_registry_in_trouble_is_not_a_missing_signature() {
    let (registry, signer) = (Hostile::start(), Signer::p256());
    let store = Store::with(&wants(&[&signer])).await;
    let (reference, digest) = published(&registry, "app");
    sign_by(&registry, &signer, "app", &digest);
    registry.fail(".sig", &vec![Fault::Status(503, None); 4]);
    let error = store.pull(&reference).await.unwrap_err();
    assert!(matches!(error, ImageError::Registry(_)), "{error}");
    registry.fail(".sig", &[Fault::OtherBytes]);
    let why = untrusted(store.pull(&reference).await);
    assert!(why.contains("cannot be read"), "{why}");
    store.pull(&reference).await.unwrap();
}

#[tokio::test]
async fn a_policy_that_comes_later_holds_for_what_is_here() {
    let (registry, signer) = (Hostile::start(), Signer::p256());
    let store = Store::with("").await;
    let (reference, digest) = published(&registry, "app");
    let image = store.pull(&reference).await.unwrap();
    store.images.admits(&reference, &image).unwrap();
    assert_eq!(asked(&registry, ".sig"), 0, "without a policy nobody asks");

    let store = store.again(&wants(&[&signer])).await;
    assert!(store.images.admits(&reference, &image).is_err());
    untrusted(store.pull(&reference).await);
    sign_by(&registry, &signer, "app", &digest);
    let layers = asked(&registry, "/app/blobs/");
    let image = store.pull(&reference).await.unwrap();
    store.images.admits(&reference, &image).unwrap();
    // The configuration and the signature; the layer is here.
    assert_eq!(asked(&registry, "/app/blobs/"), layers + 2);

    let refuses = store.again("policy: {'*': {pulled: refuse}}").await;
    let before = registry.requests().len();
    let why = untrusted(refuses.pull(&reference).await);
    assert!(why.contains("refuses images from registries"), "{why}");
    assert!(refuses.images.admits(&reference, &image).is_err());
    assert_eq!(registry.requests().len(), before, "it is not even asked for");
}

#[tokio::test]
async fn what_was_imported_by_hand_is_trusted_unless_the_policy_says_no() {
    let store = Store::with("policy: {'*': {pulled: refuse}}").await;
    let program = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(program.path(), b"\0asm\x01\0\0\0").unwrap();
    let options = ImportOptions {
        name: Some("local/app:1".to_owned()),
        ..ImportOptions::default()
    };
    store.images.import(program.path(), options).await.unwrap();
    let image = store.images.find("local/app:1").await.unwrap().unwrap();
    store.images.admits("local/app:1", &image).unwrap();
    assert!(store.images.admits("local/app:2", &image).is_err());
    let store = store
        .again("policy: {'*': {pulled: refuse, trust_imports: false}}")
        .await;
    assert!(store.images.admits("local/app:1", &image).is_err());
}

#[tokio::test]
async fn a_bundle_that_refers_to_an_image_counts_where_the_policy_says_so() {
    let (registry, signer, stranger) = (Hostile::start(), Signer::p256(), Signer::ed25519());
    let (reference, digest) = published(&registry, "team/app");
    let good = referrer(&registry, "team/app", &digest, &signer.bundle(&digest));
    registry.refer("team/app", &digest, std::slice::from_ref(&good));

    // It names no repository, so it has to be asked for.
    let strict = Store::with(&wants(&[&signer])).await;
    let why = untrusted(strict.pull(&reference).await);
    assert!(why.contains("bundles: true"), "{why}");
    assert_eq!(asked(&registry, "/referrers/"), 0);

    let store = Store::with(&wants_bundles(&[&stranger, &signer])).await;
    let image = store.pull(&reference).await.unwrap();
    let [Voucher::Signature { identity, .. }] = &image.vouchers[..] else {
        panic!("{image:?}")
    };
    assert_eq!(identity, "");
    let listed = "/v2/team/app/referrers/";
    let query = "?artifactType=application%2Fvnd.dev.sigstore.bundle.v0.3%2Bjson";
    assert_eq!(asked(&registry, listed), 1);
    assert_eq!(asked(&registry, query), 1);
    // Known from now on, as long as the policy lets it count.
    store.pull(&reference).await.unwrap();
    assert_eq!(asked(&registry, listed), 1);
    let store = store.again(&wants(&[&signer])).await;
    let found = store.images.find(&reference).await.unwrap().unwrap();
    assert!(store.images.admits(&reference, &found).is_err());

    // Where the registry keeps no list, whoever signs keeps it under a tag.
    let (tagged, tagged_digest) = published(&registry, "tagged");
    let entry = referrer(
        &registry,
        "tagged",
        &tagged_digest,
        &signer.bundle(&tagged_digest),
    );
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
    registry.manifest("tagged", &tagged_digest.replace(':', "-"), INDEX, &index);
    let store = Store::with(&wants_bundles(&[&signer])).await;
    store.pull(&tagged).await.unwrap();

    // A signature of the other sort is enough, and first.
    let (classic, classic_digest) = published(&registry, "classic");
    sign_by(&registry, &signer, "classic", &classic_digest);
    store.pull(&classic).await.unwrap();
    assert_eq!(asked(&registry, "/classic/referrers/"), 0);
}

#[tokio::test]
async fn bundles_that_do_not_count_say_why() {
    let (registry, signer) = (Hostile::start(), Signer::p256());
    let store = Store::with(&wants_bundles(&[&signer])).await;
    let (reference, digest) = published(&registry, "app");
    let why = untrusted(store.pull(&reference).await);
    assert!(why.contains("no bundle that refers to it"), "{why}");

    let entry = |bundle: &Value| referrer(&registry, "app", &digest, bundle);
    let forged = entry(&Signer::p256().bundle(&digest));
    let moved = entry(&signer.bundle(&format!("sha256:{}", "0".repeat(64))));
    let mut missing = entry(&signer.bundle(&digest));
    missing["digest"] = json!(format!("sha256:{}", "1".repeat(64)));
    let mut escape = missing.clone();
    escape["digest"] = json!("sha256:../../blobs/1");
    // What says itself that it is something else is not even looked at.
    let mut attests = entry(&signer.bundle(&digest));
    attests["annotations"]["dev.sigstore.bundle.predicateType"] = json!("https://spdx.dev/Document");
    let mut other = entry(&signer.bundle(&digest));
    other["artifactType"] = json!("application/spdx+json");
    registry.refer(
        "app",
        &digest,
        &[attests, other, forged.clone(), moved.clone(), missing.clone()],
    );
    let why = untrusted(store.pull(&reference).await);
    for words in [
        "bundle 1: it is by none of the policy's keys",
        "bundle 2: it signs something else than",
        "bundle 3: it is listed, and not there",
    ] {
        assert!(why.contains(words), "{why}");
    }
    assert!(store.left().is_empty(), "{:?}", store.left());
    let good = entry(&signer.bundle(&digest));
    registry.refer("app", &digest, &[forged, moved, missing, escape, good]);
    // Trouble is not a missing signature.
    registry.fail("/referrers/", &vec![Fault::Status(503, None); 4]);
    let error = store.pull(&reference).await.unwrap_err();
    assert!(matches!(error, ImageError::Registry(_)), "{error}");
    store.pull(&reference).await.unwrap();
}
