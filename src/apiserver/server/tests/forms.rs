//! Answers in the form that a client asks for.

use http::{Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::{post, start};

const METADATA: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

async fn bytes(response: Response<Incoming>) -> bytes::Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test]
async fn answers_take_the_form_that_was_asked_for() {
    let fixture = start().await;
    let table = (
        "accept",
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
    );
    let response = fixture
        .plain("GET", "/api/v1/namespaces?includeObject=None", &[table])
        .await;
    let table: Value =
        serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(
        (&table["kind"], &table["rows"][0]["cells"][0]),
        (&"Table".into(), &"default".into())
    );
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let large = json!({"metadata": {"name": "large"}, "data": {"a": "b".repeat(200_000)}});
    post(&fixture.admin(), "/api/v1/namespaces/default/configmaps", &large).await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let zipped = fixture.plain("GET", maps, &[("accept-encoding", "gzip")]).await;
    assert_eq!(zipped.headers()[header::CONTENT_ENCODING], "gzip");
    assert!(zipped.headers().contains_key("audit-id"));
    let refused = fixture.plain("GET", roles, &[("accept", "text/html")]).await;
    assert_eq!(refused.status(), 406);
    // Events are written one after the other, for which YAML has no form.
    let watch = "/api/v1/namespaces?watch=1&timeoutSeconds=1";
    let refused = fixture
        .plain("GET", watch, &[("accept", "application/yaml")])
        .await;
    assert_eq!(refused.status(), 406);
    let why: Value = serde_json::from_slice(&bytes(refused).await).unwrap();
    assert_eq!(
        why["message"],
        "only the following media types are accepted: application/json;stream=watch"
    );
    let large = fixture
        .plain("POST", "/api/v1/namespaces", &[("content-length", "9999999")])
        .await;
    assert_eq!(large.status(), 413);
    fixture.stop().await;
}

#[tokio::test]
async fn metadata_alone_can_be_read_and_watched() {
    let fixture = start().await;
    let accept = [("accept", METADATA)];
    let is_partial = |object: &Value| {
        assert_eq!(
            (
                &object["kind"],
                &object["apiVersion"],
                &object["metadata"]["name"]
            ),
            (
                &json!("PartialObjectMetadata"),
                &json!("meta.k8s.io/v1"),
                &json!("default")
            )
        );
        assert!(object["spec"].is_null() && object["status"].is_null(), "{object}");
    };
    let one = fixture.plain("GET", "/api/v1/namespaces/default", &accept).await;
    is_partial(&serde_json::from_slice(&bytes(one).await).unwrap());
    let path =
        "/api/v1/namespaces?watch=1&resourceVersion=0&timeoutSeconds=1&fieldSelector=metadata.name%3Ddefault";
    let lines = bytes(fixture.plain("GET", path, &accept).await).await;
    let first = lines.split(|byte| *byte == b'\n').next().unwrap();
    let event: Value = serde_json::from_slice(first).unwrap();
    assert_eq!(event["type"], "ADDED");
    is_partial(&event["object"]);
    fixture.stop().await;
}

#[tokio::test]
async fn what_has_no_columns_gives_no_table() {
    let fixture = start().await;
    for (method, path) in [
        ("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews"),
        ("GET", "/apis/apps/v1/namespaces/default/deployments/a/scale"),
    ] {
        let refused = fixture.plain(method, path, &[("accept", TABLE)]).await;
        assert_eq!(refused.status(), StatusCode::NOT_ACCEPTABLE, "{path}");
        let status: Value = serde_json::from_slice(&bytes(refused).await).unwrap();
        assert_eq!(status["reason"], "NotAcceptable");
    }
    fixture.stop().await;
}

#[tokio::test]
async fn documents_that_a_client_has_are_not_sent_again() {
    let fixture = start().await;
    for path in ["/openapi/v3/apis/apps/v1", "/openapi/v2"] {
        let first = fixture.plain("GET", path, &[]).await;
        let tag = first.headers()[header::ETAG].to_str().unwrap().to_owned();
        assert!(!bytes(first).await.is_empty());
        let again = fixture.plain("GET", path, &[("if-none-match", &tag)]).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{path}");
        assert!(bytes(again).await.is_empty(), "{path}");
        let other = fixture
            .plain("GET", path, &[("if-none-match", "\"other\"")])
            .await;
        assert_eq!(other.status(), StatusCode::OK, "{path}");
    }
    fixture.stop().await;
}
