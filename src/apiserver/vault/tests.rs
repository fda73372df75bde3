use std::sync::Arc;

use bytes::Bytes;
use store::{Expect, Header, Record, StoreConfig};

use super::kms::testing::{Script, Scripted, unplugged};
use super::*;

const SECRET: &str = "/core/secrets/shop/password";

fn file(keys: &[(&str, &str)], identity: bool) -> String {
    let named = |(name, secret): &(&str, &str)| format!("{{name: {name}, secret: {secret}}}");
    let keys: Vec<String> = keys.iter().map(named).collect();
    let identity = if identity { ", {identity: {}}" } else { "" };
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: \
         [secrets]\n  providers: [{{aesgcm: {{keys: [{}]}}}}{identity}]\n",
        keys.join(", ")
    )
}

const OLD: (&str, &str) = ("old", "AAAAAAAAAAAAAAAAAAAAAA==");
const NEW: (&str, &str) = ("new", "AQAAAAAAAAAAAAAAAAAAAA==");

fn put(key: &str, text: &str) -> Vec<Op> {
    vec![Op::Put {
        key: key.into(),
        record: Record {
            header: Header::default(),
            text: Bytes::from(format!(
                "{{\"apiVersion\":\"v1\",\"metadata\":{{\"resourceVersion\":\"\"}},\"v\":\"{text}\"}}"
            )),
            revision_at: 50,
            ttl_seconds: None,
        },
        expect: Expect::Any,
    }]
}

async fn vault(dir: &std::path::Path) -> Vault {
    let vault = Vault::open(Store::open(StoreConfig::new(dir)).await.unwrap());
    vault.configure(Configuration::parse(&file(&[OLD], false), &unplugged).unwrap());
    vault
}

fn text(entry: &Arc<Entry>) -> String {
    String::from_utf8(entry.text.to_vec()).unwrap()
}

#[tokio::test]
async fn secrets_are_plain_for_those_who_ask_and_sealed_in_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let vault = vault(dir.path()).await;
    let mut watch = vault.watch("/core/", vault.revision()).unwrap();
    let outcome = vault.commit(put(SECRET, "hunter2")).await.unwrap().remove(0);
    let Outcome::Put(written) = outcome else {
        panic!("{outcome:?}")
    };
    let shown = format!(
        "{{\"apiVersion\":\"v1\",\"metadata\":{{\"resourceVersion\":\"{}\"}},\"v\":\"hunter2\"}}",
        written.revision
    );
    assert_eq!(text(&written), shown);
    assert_eq!(text(&vault.get(SECRET).await.unwrap().unwrap()), shown);
    assert_eq!(text(&vault.peek(SECRET).unwrap()), shown);
    assert_eq!(text(&vault.peek_prefix("/core/secrets/").1[0]), shown);
    let listing = vault.list(ListQuery::prefix("/core/secrets/")).await.unwrap();
    assert_eq!(text(&listing.entries[0]), shown);
    assert_eq!(text(&watch.next().await.unwrap().unwrap().entry), shown);
    let kept = text(&Store::peek(&vault, SECRET).unwrap());
    assert!(kept.contains("aesgcm:old") && !kept.contains("hunter2"), "{kept}");
    vault.commit(put("/core/configmaps/a/b", "open")).await.unwrap();
    assert!(text(&Store::peek(&vault, "/core/configmaps/a/b").unwrap()).contains("open"));
    vault.close().await;
}

#[tokio::test]
async fn keys_change_while_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let vault = vault(dir.path()).await;
    vault.commit(put(SECRET, "hunter2")).await.unwrap();
    assert!(!vault.is_stale(SECRET));
    vault.configure(Configuration::parse(&file(&[NEW, OLD], true), &unplugged).unwrap());
    assert!(vault.is_stale(SECRET), "worth writing again");
    assert!(
        text(&vault.peek(SECRET).unwrap()).contains("hunter2"),
        "the old key still reads"
    );
    vault.commit(put(SECRET, "hunter2")).await.unwrap();
    assert!(text(&Store::peek(&vault, SECRET).unwrap()).contains("aesgcm:new"));
    vault.configure(Configuration::parse(&file(&[OLD], false), &unplugged).unwrap());
    let error = vault.get(SECRET).await.unwrap_err().to_string();
    assert!(error.contains("aesgcm:new"), "{error}");
    assert_eq!(vault.peek(SECRET), None);
    vault.close().await;
}

/// The vault's plugin plays this script.
async fn with_plugin(vault: &Vault, script: &Arc<Script>) {
    let text = file(&[OLD], false).replace(
        "aesgcm",
        "kms: {apiVersion: v2, name: p, endpoint: \"unix:///p\"}}, {aesgcm",
    );
    let plug = |told: &ToldKms| {
        let remote = Box::new(Scripted(script.clone()));
        let clock = vault.clock.clone();
        Ok(Arc::new(Kms::new(told.clone(), remote, Series::default(), clock)))
    };
    let configuration = Configuration::parse(&text, &plug).unwrap();
    *vault.next() = Some(Arc::new(configuration));
    vault.prepare().await;
}

#[tokio::test]
async fn a_plugin_keeps_the_keys() {
    let dir = tempfile::tempdir().unwrap();
    let vault = vault(dir.path()).await;
    let script = Arc::<Script>::default();
    vault
        .commit(put("/core/secrets/shop/old", "by the old key"))
        .await
        .unwrap();
    with_plugin(&vault, &script).await;
    assert!(vault.health().is_err());
    let away = vault
        .commit(put(SECRET, "hunter2"))
        .await
        .unwrap_err()
        .to_string();
    assert!(away.contains("has encrypted no key yet"), "{away}");
    script.key(Some("one"));
    vault.configuration().plugins().for_each(|kms| kms.look_soon());
    vault.look().await;
    assert_eq!(vault.health(), Ok(()));
    vault.commit(put(SECRET, "hunter2")).await.unwrap();
    let kept = text(&Store::peek(&vault, SECRET).unwrap());
    assert!(kept.contains("kms:p") && !kept.contains("hunter2"), "{kept}");
    assert!(text(&vault.peek(SECRET).unwrap()).contains("hunter2") && !vault.is_stale(SECRET));
    assert!(text(&vault.peek("/core/secrets/shop/old").unwrap()).contains("by the old key"));
    assert!(vault.is_stale("/core/secrets/shop/old"));
    // After a restart, seeds are known before anybody asks.
    with_plugin(&vault, &script).await;
    assert!(text(&vault.peek(SECRET).unwrap()).contains("hunter2"));
    // With the plugin away nobody can read, and who waits is told why.
    let revision = vault.revision() - 2;
    script.key(None);
    with_plugin(&vault, &script).await;
    assert_eq!(vault.peek(SECRET), None);
    let why = vault.get(SECRET).await.unwrap_err().to_string();
    assert!(
        why.contains("failed to decrypt DEK, error: nobody there"),
        "{why}"
    );
    // Once it is back, so is what was missing; an event waits for it where it may, and is not lost where it may not.
    let mut watch = vault.watch(SECRET, revision).unwrap();
    assert!(watch.try_next().is_none());
    script.key(Some("two"));
    let event = watch.next().await.unwrap().unwrap();
    assert!(text(&event.entry).contains("hunter2"));
    assert!(text(&vault.peek(SECRET).unwrap()).contains("hunter2"));
    vault.close().await;
}
