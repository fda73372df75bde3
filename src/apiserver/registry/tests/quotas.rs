//! Quotas beside the store: what is counted is what was written.

use super::*;

const MAPS: (&str, &str) = ("", "configmaps");
const QUOTAS: (&str, &str) = ("", "resourcequotas");

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "default"}})
}

/// A world with room for three ConfigMaps, none of which is there.
async fn small() -> World {
    let world = world().await;
    let quota =
        json!({"metadata": {"name": "q", "namespace": "default"}, "spec": {"hard": {"configmaps": "3"}}});
    world.create(QUOTAS, "default", quota).await.unwrap();
    tokio::spawn(world.core.clone().keep_quotas());
    world.uses("0").await;
    world
}

impl World {
    async fn used(&self) -> Value {
        self.get(QUOTAS, "q").await.unwrap()["status"]["used"]["configmaps"].clone()
    }

    /// Waits until so many are counted.
    async fn uses(&self, wanted: &str) {
        while self.used().await != wanted {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn only_what_is_written_is_counted() {
    let world = small().await;
    world.create(MAPS, "default", map("a")).await.unwrap();
    assert_eq!(world.used().await, "1", "counted in the same step");
    let again = world.create(MAPS, "default", map("a")).await.unwrap_err();
    assert_eq!((again.code, world.used().await), (409, json!("1")));
    let mut dry = request(Verb::Create, MAPS, "default", "");
    dry.options.dry_run = true;
    dry.body = map("b").to_string().into();
    world.call(dry).await.unwrap();
    assert_eq!(world.used().await, "1");
    world.create(MAPS, "default", map("b")).await.unwrap();
    world.create(MAPS, "default", map("c")).await.unwrap();
    let full = world.create(MAPS, "default", map("d")).await.unwrap_err();
    assert_eq!(
        full.message,
        "configmaps \"d\" is forbidden: exceeded quota: q, requested: configmaps=1, used: configmaps=3, limited: \
         configmaps=3"
    );
    world
        .call(request(Verb::Delete, MAPS, "default", "a"))
        .await
        .unwrap();
    world.uses("2").await;
}

#[tokio::test]
async fn those_who_come_together_share_what_is_left() {
    let world = small().await;
    let names: Vec<String> = (0..10).map(|n| format!("m-{n}")).collect();
    let all = names.iter().map(|name| world.create(MAPS, "default", map(name)));
    let made = futures_util::future::join_all(all).await;
    assert_eq!(made.iter().filter(|result| result.is_ok()).count(), 3);
    assert_eq!(world.used().await, "3");
}
