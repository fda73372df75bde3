//! Pods that end while the server is away, on a node of fakes.

use serde_json::json;

use crate::testing::FakeNode;

#[tokio::test]
async fn what_ended_offline_stays_so_and_is_told_when_the_server_is_back() {
    let temp = tempfile::tempdir().unwrap();
    let node = FakeNode::start(temp.path());
    let spec = json!({"restartPolicy": "OnFailure", "containers": [{"name": "a", "image": "app:1"}]});
    node.assign("job", spec);
    node.until_phase("job", "Running", true).await;
    *node.api.away.lock().unwrap() = true;
    node.oci.end("a", 0);
    // The disk knows before the runtime forgets, and waits for nobody.
    node.until("its sandbox is gone", |node| {
        node.oci.calls().contains(&"close uid-job".to_owned())
    })
    .await;
    assert_eq!(node.kept_phase("uid-job").as_deref(), Some("Succeeded"));
    let node = node.restart().await;
    *node.api.away.lock().unwrap() = false;
    // The API still shows what it was told last.
    assert_eq!(node.pod("job")["status"]["phase"], "Running");
    node.refresh("job");
    node.until_phase("job", "Succeeded", false).await;
    assert_eq!(node.oci.creates(), 1, "{:?}", node.oci.calls());
}
