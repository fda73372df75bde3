//! What lasts: history, restarts, and what clients build on it.

use super::*;

#[tokio::test]
async fn caches_recorders_and_typed_clients_stand_on_it() {
    use client::{Cache, Client, EventType, Recorder, Selectors};
    use k8s_openapi::api::core::v1::{ConfigMap, Event};

    let world = world().await;
    let tasks = base::Tasks::new();
    let client = Client::new(
        Arc::new(world.core.clone()),
        User::new("system:kube-scheduler", &[]),
    );
    world
        .create(MAPS, "default", config_map("a", json!({})))
        .await
        .unwrap();
    let cache: Cache<ConfigMap> = Cache::start(&client, Selectors::namespace("default"), &tasks);
    cache.synced().await;
    assert!(
        cache
            .get("default", "a")
            .is_some_and(|map| map.metadata.managed_fields.is_none())
    );
    let mut map: ConfigMap = client.get("default", "a").await.unwrap();
    map.data = Some([("k".to_owned(), "v".to_owned())].into());
    let written = client.update(&map).await.unwrap();
    let revision = written.metadata.resource_version.unwrap().parse().unwrap();
    cache.wait_revision(revision).await;
    assert_eq!(cache.get("default", "a").unwrap().data, map.data);
    client
        .delete::<ConfigMap>("default", "a", &Default::default())
        .await
        .unwrap();
    while cache.get("default", "a").is_some() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }

    let clock = Arc::new(ManualClock::new("2026-01-02T03:04:05Z".parse().unwrap()));
    let recorder = Recorder::new(client.clone(), "kubelet", "n1", clock, &tasks);
    for _ in 0..3 {
        recorder.event(
            &client::reference(&map),
            EventType::Warning,
            "Failed",
            "it failed",
        );
    }
    let counted = async {
        loop {
            let events = client
                .list::<Event>(&Selectors::namespace("default"))
                .await
                .unwrap()
                .items;
            if events.first().and_then(|e| e.count) == Some(3) {
                return events;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    let events = tokio::time::timeout(std::time::Duration::from_secs(5), counted)
        .await
        .unwrap();
    assert_eq!((events.len(), events[0].reason.as_deref()), (1, Some("Failed")));
    tasks.shutdown().await;
}

#[tokio::test]
async fn old_versions_are_listed_until_they_are_compacted() {
    let world = world().await;
    for name in ["a", "b"] {
        world
            .create(MAPS, "default", config_map(name, json!({})))
            .await
            .unwrap();
    }
    let first = world
        .list(
            MAPS,
            Options {
                limit: 1,
                ..Options::default()
            },
        )
        .await
        .unwrap();
    let version = text(&first, "/metadata/resourceVersion");
    world
        .create(MAPS, "default", config_map("c", json!({})))
        .await
        .unwrap();
    let exact = Options {
        resource_version: Some(version.clone()),
        resource_version_match: "Exact".into(),
        ..Options::default()
    };
    assert_eq!(
        world.list(MAPS, exact.clone()).await.unwrap()["items"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let future = Options {
        resource_version: Some("999999".into()),
        ..Options::default()
    };
    let late = world.list(MAPS, future).await.unwrap_err();
    assert_eq!((late.code, late.reason.as_str()), (504, "Timeout"));
    world
        .create(MAPS, "default", config_map("d", json!({})))
        .await
        .unwrap();
    let store = world.core.store();
    store.compact(store.revision()).await.unwrap();
    assert_eq!(world.list(MAPS, exact).await.unwrap_err().code, 410);
    let next = Options {
        continue_token: text(&first, "/metadata/continue"),
        ..Options::default()
    };
    let expired = world.list(MAPS, next).await.unwrap_err();
    assert_eq!((expired.code, expired.reason.as_str()), (410, "Expired"));
    let again = expired.to_value();
    let rest = Options {
        continue_token: text(&again, "/metadata/continue"),
        ..Options::default()
    };
    let rest = world.list(MAPS, rest).await.unwrap();
    let names: Vec<String> = rest["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| text(i, "/metadata/name"))
        .collect();
    assert_eq!(
        names,
        ["b", "c", "d"],
        "from where the first page ended, as it is now"
    );
}

#[tokio::test]
async fn a_restart_finds_everything_and_repairs_addresses() {
    let folder = tempfile::tempdir().unwrap();
    let open = async || {
        let store = Store::open(StoreConfig::new(folder.path())).await.unwrap();
        let config = CoreConfig::new([10, 0, 0, 5].into(), 6443);
        Core::new(store, config, Arc::new(AllowAll), Arc::new(NoTokens)).unwrap()
    };
    let core = open().await;
    core.bootstrap().await.unwrap();
    let key = "/networking.k8s.io/ipaddresses/10.43.0.1";
    let lose = store::Op::Delete {
        key: key.into(),
        expect: store::Expect::Present,
    };
    core.store().commit(vec![lose]).await.unwrap();
    core.store().close().await;
    drop(core);
    let core = open().await;
    let before = core.store().revision();
    core.bootstrap().await.unwrap();
    assert_eq!(
        core.store().revision(),
        before + 1,
        "nothing but the lost record is written"
    );
    assert!(core.store().peek(key).is_some());
    core.store().close().await;
}
