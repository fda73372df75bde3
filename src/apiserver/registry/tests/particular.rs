//! What kinds have of their own: graceful ends, addresses, scales, reviews, admission.

use super::*;

#[tokio::test]
async fn pods_end_gracefully() {
    let world = world().await.with_account().await;
    world.create(PODS, "default", pod("a")).await.unwrap();
    let gone = world.delete(PODS, "a", Options::default()).await.unwrap();
    assert_eq!(gone["kind"], "Pod", "a pod without a node goes at once");
    assert_eq!(world.get(PODS, "a").await.unwrap_err().code, 404);

    world.create(PODS, "default", pod("b")).await.unwrap();
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "b"},
                         "target": {"kind": "Node", "name": "n1"}});
    let mut bind = request(Verb::Create, PODS, "default", "b");
    bind.subresource = "binding".into();
    bind.body = binding.to_string().into();
    assert_eq!(world.reply(bind.clone()).await.unwrap().code, 201);
    assert_eq!(world.reply(bind).await.unwrap_err().code, 409);
    let told = world.delete(PODS, "b", Options::default()).await.unwrap();
    assert_eq!(told["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(text(&told, "/metadata/deletionTimestamp"), "2026-01-02T03:04:35Z");
    let pending = world.delete(PODS, "b", Options::default()).await.unwrap();
    assert_eq!(
        pending["metadata"]["resourceVersion"],
        told["metadata"]["resourceVersion"]
    );
    let now = Options {
        grace_period_seconds: Some(0),
        ..Options::default()
    };
    world.delete(PODS, "b", now).await.unwrap();
    assert_eq!(world.get(PODS, "b").await.unwrap_err().code, 404);
}

#[tokio::test]
async fn services_get_addresses_of_their_own() {
    let world = world().await;
    let service = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
               "spec": {"type": "NodePort", "selector": {"a": "b"}, "ports": [{"port": 80}]}})
    };
    let a = world.create(SERVICES, "default", service("a")).await.unwrap();
    let b = world.create(SERVICES, "default", service("b")).await.unwrap();
    let ip = text(&a, "/spec/clusterIP");
    assert!(
        ip.starts_with("10.43.") && ip != text(&b, "/spec/clusterIP"),
        "{ip}"
    );
    assert_eq!(a["spec"]["clusterIPs"], json!([ip]));
    assert_eq!(a["spec"]["ipFamilies"], json!(["IPv4"]));
    let port = a["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    assert!((30000..=32767).contains(&port) && Some(port) != b["spec"]["ports"][0]["nodePort"].as_u64());
    let mut taken = service("c");
    taken["spec"]["clusterIP"] = ip.as_str().into();
    let refused = world
        .create(SERVICES, "default", taken.clone())
        .await
        .unwrap_err();
    assert!(
        refused.message.contains("provided IP is already allocated"),
        "{refused}"
    );
    let mut plain = service("a");
    plain["spec"]["type"] = "ClusterIP".into();
    let plain = world.update(SERVICES, "", plain).await.unwrap();
    assert_eq!(plain["spec"]["clusterIP"], ip.as_str());
    assert_eq!(plain["spec"]["ports"][0].get("nodePort"), None);
    world.delete(SERVICES, "a", Options::default()).await.unwrap();
    world.create(SERVICES, "default", taken).await.unwrap();
    world.core.bootstrap().await.unwrap();
    let api = world.get(SERVICES, "kubernetes").await.unwrap();
    assert_eq!(api["spec"]["clusterIP"], "10.43.0.1");
    let slice = world
        .get(("discovery.k8s.io", "endpointslices"), "kubernetes")
        .await
        .unwrap();
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["10.0.0.5"]));
}

#[tokio::test]
async fn deployments_scale() {
    let world = world().await;
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}},
                 "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let kind = ("apps", "deployments");
    let made = world.create(kind, "default", deployment).await.unwrap();
    assert_eq!(made["metadata"]["generation"], 1);
    let mut read = request(Verb::Get, kind, "default", "web");
    read.subresource = "scale".into();
    let mut scale = world.call(read).await.unwrap();
    assert_eq!(scale["spec"]["replicas"], 2);
    assert_eq!(scale["status"]["selector"], "app=web");
    scale["spec"]["replicas"] = 5.into();
    assert_eq!(
        world.update(kind, "scale", scale).await.unwrap()["spec"]["replicas"],
        5
    );
    let now = world.get(kind, "web").await.unwrap();
    assert_eq!(
        (
            now["spec"]["replicas"].as_i64(),
            now["metadata"]["generation"].as_i64()
        ),
        (Some(5), Some(2))
    );
    let mut status = now.clone();
    status["status"] = json!({"replicas": 5, "observedGeneration": 2});
    status["spec"]["replicas"] = 9.into();
    let after = world.update(kind, "status", status).await.unwrap();
    assert_eq!(
        (
            after["spec"]["replicas"].as_i64(),
            after["status"]["replicas"].as_i64()
        ),
        (Some(5), Some(5))
    );
}

#[tokio::test]
async fn namespaces_end_when_they_are_empty() {
    let world = world().await;
    let kind = ("", "namespaces");
    let made = world
        .create(kind, "", json!({"metadata": {"name": "shop"}}))
        .await
        .unwrap();
    assert_eq!(made["spec"]["finalizers"], json!(["kubernetes"]));
    let ending = world.delete(kind, "shop", Options::default()).await.unwrap();
    assert_eq!(ending["status"]["phase"], "Terminating");
    let late = world
        .create(MAPS, "shop", json!({"metadata": {"name": "a"}}))
        .await
        .unwrap_err();
    assert!(
        late.message
            .ends_with("in namespace shop because it is being terminated"),
        "{late}"
    );
    let mut done = ending;
    done["spec"] = json!({});
    world.update(kind, "finalize", done).await.unwrap();
    assert_eq!(world.get(kind, "shop").await.unwrap_err().code, 404);
    let immortal = world
        .delete(kind, "default", Options::default())
        .await
        .unwrap_err();
    assert!(
        immortal.message.ends_with("this namespace may not be deleted"),
        "{immortal}"
    );
}

#[tokio::test]
async fn tokens_and_reviews_are_answered() {
    let world = world().await.with_account().await;
    let mut ask = request(Verb::Create, ACCOUNTS, "default", "default");
    ask.subresource = "token".into();
    ask.body =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": []}})
            .to_string()
            .into();
    let token = world.call(ask.clone()).await.unwrap();
    assert_eq!(token["status"]["token"], "default/default/None");
    let account = world.get(ACCOUNTS, "default").await.unwrap();
    assert_eq!(token["metadata"]["uid"], account["metadata"]["uid"]);
    // Whoever means an account that was there before gets nothing for the one that is there now.
    for (uid, code) in [(account["metadata"]["uid"].clone(), 201), (json!("gone"), 409)] {
        ask.body = json!({"metadata": {"uid": uid}, "spec": {"audiences": []}})
            .to_string()
            .into();
        let asked = world.reply(ask.clone()).await;
        let told = asked.map_or_else(
            |status| (status.code, status.message),
            |reply| (reply.code, String::new()),
        );
        assert_eq!(told.0, code, "{}", told.1);
        let conflict = "Operation cannot be fulfilled on TokenRequest.authentication.k8s.io \"default\": the UID in the token \
                        request (gone) does not match the UID of the service account (";
        assert!(code == 201 || told.1.starts_with(conflict), "{}", told.1);
    }
    let review = json!({"spec": {"token": "good"}});
    let review = world
        .create(("authentication.k8s.io", "tokenreviews"), "", review)
        .await
        .unwrap();
    assert_eq!(review["status"]["user"]["username"], "eve");
    let ask = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    let kind = ("authorization.k8s.io", "selfsubjectaccessreviews");
    assert_eq!(
        world.create(kind, "", ask).await.unwrap()["status"]["allowed"],
        true
    );
    let me = world
        .create(("authentication.k8s.io", "selfsubjectreviews"), "", json!({}))
        .await
        .unwrap();
    assert_eq!(me["status"]["userInfo"]["username"], "admin");
}

#[tokio::test]
async fn a_pod_gets_what_admission_adds() {
    let world = world().await.with_account().await;
    let made = world.create(PODS, "default", pod("a")).await.unwrap();
    assert_eq!(made["spec"]["serviceAccountName"], "default");
    assert_eq!(made["spec"]["priority"], 0);
    assert_eq!(made["spec"]["tolerations"].as_array().unwrap().len(), 2);
    assert!(text(&made, "/spec/volumes/0/name").starts_with("kube-api-access-"));
    assert_eq!(made["status"]["phase"], "Pending");
}

#[tokio::test]
async fn events_are_one_thing_in_two_forms() {
    let world = world().await;
    let old = json!({"metadata": {"name": "e", "namespace": "default"}, "reason": "Started", "message": "it runs",
                     "involvedObject": {"kind": "Pod", "name": "a", "namespace": "default"}, "type": "Normal", "count": 2});
    world.create(("", "events"), "default", old).await.unwrap();
    let kind = ("events.k8s.io", "events");
    let new = world.get(kind, "e").await.unwrap();
    assert_eq!(
        (new["apiVersion"].as_str(), new["note"].as_str()),
        (Some("events.k8s.io/v1"), Some("it runs"))
    );
    assert_eq!(new["regarding"]["name"], "a");
    let list = world
        .list(
            kind,
            Options {
                field_selector: "regarding.name=a".into(),
                ..Options::default()
            },
        )
        .await;
    assert_eq!(list.unwrap()["items"][0]["note"], "it runs");
    let patch = json!({"note": "it still runs"});
    let refused = world.patch(PatchType::Merge, kind, "e", patch).await.unwrap_err();
    assert!(
        refused.message.contains("field is immutable"),
        "{}",
        refused.message
    );
    // Its older form may still be counted up and reworded.
    let patch = json!({"message": "it still runs"});
    let older = ("", "events");
    world.patch(PatchType::Merge, older, "e", patch).await.unwrap();
    assert_eq!(world.get(kind, "e").await.unwrap()["note"], "it still runs");
}

#[tokio::test]
async fn certificate_requests_remember_who_asked() {
    let world = world().await;
    let kind = ("certificates.k8s.io", "certificatesigningrequests");
    let pem = include_str!("../../../api/kinds/golden/request.pem");
    let request = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pem);
    let body = json!({"metadata": {"name": "r"}, "spec": {"request": request, "username": "somebody",
                      "signerName": "example.com/a", "usages": ["client auth"]}});
    let mut made = world.create(kind, "", body).await.unwrap();
    assert_eq!(made["spec"]["username"], "admin");
    assert_eq!(made["spec"]["groups"], json!(["system:masters"]));
    made["status"] = json!({"conditions": [{"type": "Approved", "status": "True", "reason": "r"}]});
    let plain = world.update(kind, "", made.clone()).await.unwrap();
    assert_eq!(plain["status"].get("conditions"), None);
    made["metadata"] = plain["metadata"].clone();
    let approved = world.update(kind, "approval", made).await.unwrap();
    assert_eq!(approved["status"]["conditions"][0]["type"], "Approved");
}

#[tokio::test]
async fn nobody_grants_more_than_they_hold() {
    let rbac = crate::rbac::Rbac::with_defaults();
    let binding =
        r#"{"roleRef":{"kind":"ClusterRole","name":"admin"},"subjects":[{"kind":"User","name":"eve"}]}"#;
    rbac.take("rolebindings", "default", "b", Some(binding.as_bytes()));
    let world = world_of(Arc::new(rbac)).await;
    let role = |resource: &str| {
        let rule = json!({"verbs": ["get"], "apiGroups": [""], "resources": [resource]});
        let mut ask = request(
            Verb::Create,
            ("rbac.authorization.k8s.io", "roles"),
            "default",
            "",
        );
        ask.user = User::new("eve", &["system:authenticated"]);
        ask.body = json!({"metadata": {"name": resource}, "rules": [rule]})
            .to_string()
            .into();
        ask
    };
    world.call(role("pods")).await.unwrap();
    let refused = world.call(role("nodes")).await.unwrap_err();
    assert_eq!(refused.code, 403);
    assert!(
        refused
            .message
            .contains("is attempting to grant RBAC permissions not currently held"),
        "{refused}"
    );
    let mut other = role("pods");
    other.namespace = "kube-system".into();
    assert!(
        world
            .call(other)
            .await
            .unwrap_err()
            .message
            .contains("cannot create resource \"roles\"")
    );
}

#[tokio::test]
async fn who_may_only_change_creates_nothing() {
    let rbac = crate::rbac::Rbac::with_defaults();
    let role = r#"{"rules":[{"verbs":["update","patch"],"apiGroups":["coordination.k8s.io"],"resources":["leases"]}]}"#;
    let binding = r#"{"roleRef":{"kind":"Role","name":"r"},"subjects":[{"kind":"User","name":"eve"}]}"#;
    rbac.take("roles", "default", "r", Some(role.as_bytes()));
    rbac.take("rolebindings", "default", "b", Some(binding.as_bytes()));
    let world = world_of(Arc::new(rbac)).await;
    let leases = ("coordination.k8s.io", "leases");
    let written = |verb: Verb, user: User| {
        let mut ask = request(verb, leases, "default", "l");
        ask.user = user;
        ask.options.field_manager = "eve".into();
        ask.body = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"},
                          "spec": {"holderIdentity": "eve"}})
        .to_string()
        .into();
        ask
    };
    let eve = || User::new("eve", &["system:authenticated"]);
    for verb in [Verb::Update, Verb::Patch(PatchType::Apply)] {
        let refused = world.call(written(verb, eve())).await.unwrap_err();
        assert_eq!(refused.code, 403);
        assert!(
            refused.message.contains("cannot create resource \"leases\""),
            "{refused}"
        );
    }
    let admin = User::new("admin", &["system:masters"]);
    world.call(written(Verb::Update, admin)).await.unwrap();
    world
        .call(written(Verb::Patch(PatchType::Apply), eve()))
        .await
        .unwrap();
}

#[tokio::test]
async fn evictions_and_debug_containers() {
    let world = world().await.with_account().await;
    let made = world.create(PODS, "default", pod("a")).await.unwrap();
    let mut debug = made.clone();
    debug["spec"]["ephemeralContainers"] = json!([{"name": "d", "image": "i"}]);
    debug["spec"]["nodeName"] = "elsewhere".into();
    let debugged = world.update(PODS, "ephemeralcontainers", debug).await.unwrap();
    assert_eq!(debugged["spec"]["ephemeralContainers"][0]["name"], "d");
    assert_eq!(debugged["spec"].get("nodeName"), None);
    let mut evict = request(Verb::Create, PODS, "default", "a");
    evict.subresource = "eviction".into();
    evict.body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}})
        .to_string()
        .into();
    let reply = world.reply(evict.clone()).await.unwrap();
    assert_eq!(
        (reply.code, value(&reply)["status"].as_str()),
        (201, Some("Success"))
    );
    assert_eq!(world.reply(evict).await.unwrap_err().code, 404);
}

#[tokio::test]
async fn fields_are_owned_in_the_version_in_which_they_were_written() {
    let world = world().await;
    let scalers = ("autoscaling", "horizontalpodautoscalers");
    let target = json!({"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"});
    let scaler = json!({"metadata": {"name": "a"}, "spec": {"maxReplicas": 3, "scaleTargetRef": target,
        "targetCPUUtilizationPercentage": 50}});
    world.create(scalers, "default", scaler).await.unwrap();
    let owned = |object: &Value, version: &str| {
        let all = object["metadata"]["managedFields"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let found = all.into_iter().find(|entry| entry["apiVersion"] == version);
        found.unwrap_or_default()["fieldsV1"]["f:spec"].clone()
    };
    let first = world.get(scalers, "a").await.unwrap();
    assert!(owned(&first, "autoscaling/v1")["f:targetCPUUtilizationPercentage"].is_object());

    let mut patch = request(Verb::Patch(PatchType::Merge), scalers, "default", "a");
    patch.resource = ResourceRef::new("autoscaling", "v2", "horizontalpodautoscalers");
    patch.options.field_manager = "other".into();
    let cpu = json!({"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}});
    patch.body = json!({"spec": {"metrics": [{"type": "Resource", "resource": cpu}]}})
        .to_string()
        .into();
    let patched = world.call(patch).await.unwrap();
    let before = owned(&patched, "autoscaling/v1");
    assert!(before["f:targetCPUUtilizationPercentage"].is_null(), "{before}");
    assert!(before["f:maxReplicas"].is_object(), "{before}");
    assert!(owned(&patched, "autoscaling/v2")["f:metrics"].is_object());
}
