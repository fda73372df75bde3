//! What each verb does, whatever the kind.

use super::*;

#[tokio::test]
async fn an_object_lives_its_life() {
    let world = world().await;
    let made = world
        .create(MAPS, "default", config_map("a", json!({"k": "v"})))
        .await
        .unwrap();
    assert_eq!(text(&made, "/metadata/creationTimestamp"), "2026-01-02T03:04:05Z");
    assert_eq!(text(&made, "/metadata/uid").len(), 36);
    assert_eq!(made["metadata"]["managedFields"][0]["manager"], "test");
    assert_eq!(world.get(MAPS, "a").await.unwrap(), made);
    let again = world
        .create(MAPS, "default", config_map("a", json!({})))
        .await
        .unwrap_err();
    assert_eq!(again.message, "configmaps \"a\" already exists");

    let mut new = made.clone();
    new["data"]["k"] = "w".into();
    let changed = world.update(MAPS, "", new.clone()).await.unwrap();
    assert_ne!(
        text(&changed, "/metadata/resourceVersion"),
        text(&made, "/metadata/resourceVersion")
    );
    let stale = world.update(MAPS, "", new).await.unwrap_err();
    assert_eq!(stale.message, Status::stale("", "configmaps", "a").message);
    let same = world.update(MAPS, "", changed.clone()).await.unwrap();
    assert_eq!(same, changed, "a write that changes nothing makes no revision");

    let gone = world.delete(MAPS, "a", Options::default()).await.unwrap();
    assert_eq!(
        (gone["status"].as_str(), gone["details"]["kind"].as_str()),
        (Some("Success"), Some("configmaps"))
    );
    let missing = world.get(MAPS, "a").await.unwrap_err();
    assert_eq!(
        (missing.code, missing.message.as_str()),
        (404, "configmaps \"a\" not found")
    );
}

#[tokio::test]
async fn names_are_generated_and_namespaces_must_exist() {
    let world = world().await;
    let body = json!({"metadata": {"generateName": "a-"}});
    let first = world.create(MAPS, "default", body.clone()).await.unwrap();
    let second = world.create(MAPS, "default", body.clone()).await.unwrap();
    assert_ne!(text(&first, "/metadata/name"), text(&second, "/metadata/name"));
    assert_eq!(text(&first, "/metadata/name").len(), 7);
    let nowhere = world.create(MAPS, "nowhere", body).await.unwrap_err();
    assert_eq!(
        (nowhere.code, nowhere.message.as_str()),
        (404, "namespaces \"nowhere\" not found")
    );
    let bad = world
        .create(MAPS, "default", config_map("Bad_Name", json!({})))
        .await
        .unwrap_err();
    assert_eq!((bad.code, bad.reason.as_str()), (422, "Invalid"));
    let other = world
        .create(MAPS, "kube-system", config_map("a", json!({})))
        .await
        .unwrap_err();
    assert_eq!(other.code, 400);
}

#[tokio::test]
async fn lists_come_in_pages() {
    let world = world().await;
    for n in 0..5 {
        let mut map = config_map(&format!("m{n}"), json!({}));
        map["metadata"]["labels"] = json!({"odd": (n % 2).to_string()});
        world.create(MAPS, "default", map).await.unwrap();
    }
    let all = world.list(MAPS, Options::default()).await.unwrap();
    assert_eq!(all["items"].as_array().unwrap().len(), 5);
    assert_eq!(all["kind"], "ConfigMapList");
    let mut options = Options {
        limit: 2,
        ..Options::default()
    };
    let mut seen = Vec::new();
    let mut remaining = Vec::new();
    loop {
        let page = world.list(MAPS, options.clone()).await.unwrap();
        assert_eq!(
            page["metadata"]["resourceVersion"],
            all["metadata"]["resourceVersion"]
        );
        seen.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|i| text(i, "/metadata/name")),
        );
        remaining.push(page["metadata"]["remainingItemCount"].as_u64());
        options.continue_token = text(&page, "/metadata/continue");
        if options.continue_token.is_empty() {
            break;
        }
        // What is written meanwhile belongs to no page of this list.
        world
            .create(MAPS, "default", json!({"metadata": {"generateName": "m9"}}))
            .await
            .unwrap();
    }
    assert_eq!(seen, ["m0", "m1", "m2", "m3", "m4"]);
    assert_eq!(remaining, [Some(3), Some(1), None]);
    let odd = Options {
        label_selector: "odd=1".into(),
        limit: 1,
        ..Options::default()
    };
    let page = world.list(MAPS, odd).await.unwrap();
    assert_eq!(page["items"][0]["metadata"]["name"], "m1");
    assert!(
        page["metadata"].get("remainingItemCount").is_none() && !text(&page, "/metadata/continue").is_empty()
    );
    let one = Options {
        field_selector: "metadata.name=m3".into(),
        ..Options::default()
    };
    assert_eq!(
        world.list(MAPS, one).await.unwrap()["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn watches_show_what_their_selectors_choose() {
    let world = world().await;
    let mut map = config_map("a", json!({}));
    map["metadata"]["labels"] = json!({"app": "web"});
    world.create(MAPS, "default", map.clone()).await.unwrap();
    let mut watch = request(Verb::Watch, MAPS, "default", "");
    watch.options.label_selector = "app=web".into();
    watch.options.allow_watch_bookmarks = true;
    watch.options.send_initial_events = Some(true);
    watch.options.resource_version_match = "NotOlderThan".into();
    let mut events = world.core.watch(watch).await.unwrap();
    let mut next = async || {
        let event = events.next().await.unwrap().unwrap();
        let object: Value = serde_json::from_slice(&event.object).unwrap();
        (event.kind, object)
    };
    assert_eq!(next().await.0, EventKind::Added);
    let (kind, bookmark) = next().await;
    assert_eq!(kind, EventKind::Bookmark);
    assert_eq!(
        bookmark["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    map["data"] = json!({"x": "y"});
    world.update(MAPS, "", map.clone()).await.unwrap();
    assert_eq!(next().await.0, EventKind::Modified);
    map["metadata"]["labels"]["app"] = "db".into();
    let left = world.update(MAPS, "", map.clone()).await.unwrap();
    let (kind, object) = next().await;
    assert_eq!(
        (kind, object["metadata"]["labels"]["app"].as_str()),
        (EventKind::Deleted, Some("web"))
    );
    assert_eq!(
        object["metadata"]["resourceVersion"],
        left["metadata"]["resourceVersion"]
    );
    map["metadata"]["labels"]["app"] = "web".into();
    world.update(MAPS, "", map).await.unwrap();
    assert_eq!(next().await.0, EventKind::Added);
    world.delete(MAPS, "a", Options::default()).await.unwrap();
    assert_eq!(next().await.0, EventKind::Deleted);
}

#[tokio::test]
async fn patches_change_what_they_name() {
    let world = world().await;
    world
        .create(MAPS, "default", config_map("a", json!({"k": "v", "l": "m"})))
        .await
        .unwrap();
    let merged = world
        .patch(
            PatchType::Merge,
            MAPS,
            "a",
            json!({"data": {"k": null, "n": "o"}}),
        )
        .await
        .unwrap();
    assert_eq!(merged["data"], json!({"l": "m", "n": "o"}));
    let patch = json!([{"op": "replace", "path": "/data/l", "value": "q"}]);
    let patched = world.patch(PatchType::Json, MAPS, "a", patch).await.unwrap();
    assert_eq!(patched["data"]["l"], "q");
    let strategic = json!({"metadata": {"labels": {"x": "y"}}});
    let patched = world
        .patch(PatchType::Strategic, MAPS, "a", strategic)
        .await
        .unwrap();
    assert_eq!(patched["metadata"]["labels"]["x"], "y");
    let stale = json!({"metadata": {"resourceVersion": "1"}, "data": {"l": "r"}});
    assert_eq!(
        world
            .patch(PatchType::Merge, MAPS, "a", stale)
            .await
            .unwrap_err()
            .code,
        409
    );
    let missing = world
        .patch(PatchType::Merge, MAPS, "none", json!({}))
        .await
        .unwrap_err();
    assert_eq!(missing.code, 404);
}

#[tokio::test]
async fn applying_makes_and_changes() {
    let world = world().await;
    let map = config_map("a", json!({"k": "v", "l": "m"}));
    let mut request = request(Verb::Patch(PatchType::Apply), MAPS, "default", "a");
    request.body = map.to_string().into();
    let made = world.reply(request.clone()).await.unwrap();
    assert_eq!(made.code, 201);
    assert_eq!(value(&made)["metadata"]["managedFields"][0]["operation"], "Apply");
    let same = world.reply(request.clone()).await.unwrap();
    assert_eq!((same.code, value(&same)), (200, value(&made)));
    request.options.field_manager = "other".into();
    request.body = config_map("a", json!({"k": "w"})).to_string().into();
    let conflict = world.reply(request.clone()).await.unwrap_err();
    assert_eq!((conflict.code, conflict.reason.as_str()), (409, "Conflict"));
    request.options.force = true;
    assert_eq!(
        world.call(request.clone()).await.unwrap()["data"],
        json!({"k": "w", "l": "m"})
    );
    request.options.field_manager.clear();
    assert_eq!(world.reply(request).await.unwrap_err().code, 422);
}

#[tokio::test]
async fn finalizers_and_preconditions_hold_a_deletion_up() {
    let world = world().await;
    let made = world
        .create(MAPS, "default", config_map("a", json!({})))
        .await
        .unwrap();
    let wrong = Options {
        precondition_uid: Some("other".into()),
        ..Options::default()
    };
    assert_eq!(world.delete(MAPS, "a", wrong).await.unwrap_err().code, 409);
    let foreground = Options {
        propagation_policy: "Foreground".into(),
        ..Options::default()
    };
    let mut kept = world.delete(MAPS, "a", foreground).await.unwrap();
    assert_eq!(kept["metadata"]["uid"], made["metadata"]["uid"]);
    assert_eq!(kept["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    kept["metadata"]["finalizers"] = json!([]);
    world.update(MAPS, "", kept).await.unwrap();
    assert_eq!(world.get(MAPS, "a").await.unwrap_err().code, 404);
}

#[tokio::test]
async fn dry_runs_change_nothing() {
    let world = world().await;
    let mut ask = request(Verb::Create, MAPS, "default", "");
    ask.options.dry_run = true;
    ask.body = config_map("a", json!({})).to_string().into();
    assert_eq!(world.reply(ask).await.unwrap().code, 201);
    assert_eq!(world.get(MAPS, "a").await.unwrap_err().code, 404);
    world
        .create(MAPS, "default", config_map("b", json!({})))
        .await
        .unwrap();
    let dry = Options {
        dry_run: true,
        ..Options::default()
    };
    world.delete(MAPS, "b", dry).await.unwrap();
    assert!(world.get(MAPS, "b").await.is_ok());
    let mut all = request(Verb::DeleteCollection, MAPS, "default", "");
    all.options.label_selector = "x=y".into();
    world.call(all.clone()).await.unwrap();
    assert!(world.get(MAPS, "b").await.is_ok());
    all.options.label_selector.clear();
    assert_eq!(
        world.call(all).await.unwrap()["items"].as_array().unwrap().len(),
        1
    );
    assert_eq!(world.get(MAPS, "b").await.unwrap_err().code, 404);
}

#[tokio::test]
async fn clients_are_told_what_is_odd_about_what_is_taken() {
    let world = world().await;
    let write = async |verb: Verb, resource, name: &str, body: Value| {
        let mut request = request(verb, resource, "default", name);
        request.body = body.to_string().into();
        world.reply(request).await.unwrap()
    };
    let service = json!({"metadata": {"name": "s"},
        "spec": {"ports": [{"port": 80}], "trafficDistribution": "PreferClose"}});
    let close = "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"";
    let made = write(Verb::Create, SERVICES, "", service).await;
    assert_eq!(made.warnings, [close]);
    let patch = json!({"spec": {"externalName": "a.example"}});
    let patched = write(Verb::Patch(PatchType::Merge), SERVICES, "s", patch).await;
    assert_eq!(
        patched.warnings,
        [
            "spec.externalName is ignored when spec.type is not \"ExternalName\"",
            close
        ]
    );
    let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1"});
    let mut map = config_map("m", json!({}));
    map["metadata"]["ownerReferences"] = json!([owner, owner]);
    let rest = "; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please \
                fix your requests; duplicate UID(s) observed: 1";
    let twice = ".metadata.ownerReferences contains duplicate entries";
    let made = write(Verb::Create, MAPS, "", map.clone()).await;
    assert_eq!(made.warnings, [format!("{twice}{rest}")]);
    assert_eq!(value(&made)["metadata"]["ownerReferences"], json!([owner]));
    let patch = json!({"metadata": {"ownerReferences": [owner, owner]}});
    let patched = write(Verb::Patch(PatchType::Merge), MAPS, "m", patch).await;
    assert_eq!(
        patched.warnings,
        [format!("{twice} after mutating admission happens{rest}")]
    );
}

#[tokio::test]
async fn racing_writers_all_get_through() {
    let world = Arc::new(world().await);
    world
        .create(MAPS, "default", config_map("a", json!({})))
        .await
        .unwrap();
    let writers: Vec<_> = (0..8)
        .map(|n| {
            let world = world.clone();
            tokio::spawn(async move {
                let patch = json!({"data": {format!("k{n}"): "v"}});
                world.patch(PatchType::Merge, MAPS, "a", patch).await.map(drop)
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    let data = world.get(MAPS, "a").await.unwrap()["data"].clone();
    assert_eq!(data.as_object().unwrap().len(), 8);
}
