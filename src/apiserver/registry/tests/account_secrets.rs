//! Secrets that keep a token of a service account.

use std::time::Duration;

use super::*;

const SECRETS: (&str, &str) = ("", "secrets");

fn secret(name: &str, account: &str) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "default", "annotations": {"kubernetes.io/service-account.name": account},
        },
        "type": "kubernetes.io/service-account-token",
    })
}

/// Asks until the answer is as wanted.
async fn until(world: &World, name: &str, wanted: impl Fn(&Result<Value, Status>) -> bool) -> Value {
    for _ in 0..10_000 {
        let found = world.get(SECRETS, name).await;
        if wanted(&found) {
            return found.unwrap_or_default();
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    panic!("{name} never became what it should")
}

#[tokio::test]
async fn they_are_filled_renewed_and_removed() {
    let world = world().await.with_account().await;
    tokio::spawn(world.core.clone().keep_account_secrets());
    let is_whole = |found: &Result<Value, Status>| {
        let data = found.as_ref().map(|secret| secret["data"].clone());
        data.is_ok_and(|data| data["token"].is_string() && data["token"] != "b2xk")
    };
    world
        .create(SECRETS, "default", secret("key", "default"))
        .await
        .unwrap();
    let whole = until(&world, "key", is_whole).await;
    let account = world.get(ACCOUNTS, "default").await.unwrap();
    assert_eq!(whole["data"]["namespace"], "ZGVmYXVsdA==");
    let annotations = &whole["metadata"]["annotations"];
    assert_eq!(
        annotations["kubernetes.io/service-account.uid"],
        account["metadata"]["uid"]
    );

    // A token whose key is gone ("old", as the double has it) is made anew.
    let mut stale = whole.clone();
    stale["data"]["token"] = "b2xk".into();
    world.update(SECRETS, "", stale).await.unwrap();
    let again = until(&world, "key", is_whole).await;
    assert_eq!(again["data"]["token"], whole["data"]["token"]);

    // One that names nobody goes, and others with their account; those of another type stay.
    world
        .create(SECRETS, "default", secret("stray", "nobody"))
        .await
        .unwrap();
    let gone = |found: &Result<Value, Status>| found.as_ref().is_err_and(Status::is_not_found);
    until(&world, "stray", gone).await;
    let mut plain = secret("plain", "default");
    plain["type"] = "Opaque".into();
    world.create(SECRETS, "default", plain).await.unwrap();
    world
        .delete(ACCOUNTS, "default", Options::default())
        .await
        .unwrap();
    until(&world, "key", gone).await;
    world.get(SECRETS, "plain").await.unwrap();
}
