//! A control plane inside another program: no port to find, no certificate to
//! read, the ordinary `kube` client on top.
//!
//! ```sh
//! cargo run --example embed
//! ```

use std::collections::BTreeMap;

use coracle::{Config, Node, Role};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, ObjectMeta, PostParams};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut config = Config::new(folder.path().join("data"));
    // Port 0 takes any free one; this program does not need to know which.
    config.listen.port = 0;
    config.listen.address = Some([127, 0, 0, 1].into());
    let node = Node::start(config, Role::Server).await?;

    let admin = api::request::User::new("embedder", &["system:masters"]);
    let service = node
        .service(admin)
        .ok_or_else(|| anyhow::anyhow!("no control plane here"))?;
    let client = kube::Client::new(service, "default");

    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let greeting = ConfigMap {
        metadata: ObjectMeta {
            name: Some("greeting".to_owned()),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(
            "text".to_owned(),
            "Hello from inside".to_owned(),
        )])),
        ..ConfigMap::default()
    };
    maps.create(&PostParams::default(), &greeting).await?;
    for map in maps.list(&ListParams::default()).await? {
        println!(
            "{}: {:?}",
            map.metadata.name.unwrap_or_default(),
            map.data.unwrap_or_default()
        );
    }
    node.shutdown().await;
    Ok(())
}
