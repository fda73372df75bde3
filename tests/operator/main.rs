//! An operator as people write them with kube-rs, run as an ordinary program against the cluster that KUBECONFIG
//! names: a kind of its own, a finalizer, a status, and objects that it applies.
//!
//! A `Greeting` becomes a ConfigMap of the same name with its text, as often as the spec says. It tells in its status
//! what it has seen, and cleans up before it lets a Greeting go.
//!
//! ```sh
//! cargo run --manifest-path tests/operator/Cargo.toml
//! kubectl apply -f - <<< '{"apiVersion": "example.coracle.dev/v1", "kind": "Greeting",
//!     "metadata": {"name": "hello"}, "spec": {"text": "Hello", "times": 2}}'
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ObjectMeta, Patch, PatchParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::watcher;
use kube::{Client, CustomResource, CustomResourceExt, Resource, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

const MANAGER: &str = "greeting-operator";
const FINALIZER: &str = "example.coracle.dev/farewell";
const PATIENCE: Duration = Duration::from_secs(60);

/// What is to be said.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "example.coracle.dev",
    version = "v1",
    kind = "Greeting",
    namespaced,
    status = "GreetingStatus",
    shortname = "gr",
    printcolumn = r#"{"name":"Said","type":"integer","jsonPath":".status.said"}"#
)]
struct GreetingSpec {
    /// The words.
    text: String,
    /// How often they are said.
    #[schemars(range(min = 1, max = 10))]
    times: u32,
}

/// What has been said.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
struct GreetingStatus {
    said: u32,
    observed_generation: i64,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("the finalizer: {0}")]
    Finalizer(#[source] Box<kube::runtime::finalizer::Error<Error>>),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = Client::try_default().await?;
    define(&client).await?;
    println!("ready");
    let greetings: Api<Greeting> = Api::all(client.clone());
    let maps: Api<ConfigMap> = Api::all(client.clone());
    Controller::new(greetings, watcher::Config::default().streaming_lists())
        .owns(maps, watcher::Config::default())
        .shutdown_on_signal()
        .run(
            reconcile,
            |_, _, _| Action::requeue(Duration::from_secs(1)),
            Arc::new(client),
        )
        .for_each(|outcome| async move {
            match outcome {
                Ok((greeting, _)) => println!("reconciled {}", greeting.name),
                Err(error) => eprintln!("failed: {error}"),
            }
        })
        .await;
    Ok(())
}

/// Applies the definition and waits until it is served.
async fn define(client: &Client) -> anyhow::Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let ours = Greeting::crd();
    let name = ours.name_any();
    definitions
        .patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&ours))
        .await?;
    let served = await_condition(definitions, &name, conditions::is_crd_established());
    tokio::time::timeout(PATIENCE, served).await??;
    Ok(())
}

async fn reconcile(greeting: Arc<Greeting>, client: Arc<Client>) -> Result<Action, Error> {
    let namespace = greeting.namespace().unwrap_or_default();
    let greetings: Api<Greeting> = Api::namespaced((*client).clone(), &namespace);
    let work = |event| async {
        match event {
            Event::Apply(greeting) => say(&client, &greeting).await,
            Event::Cleanup(greeting) => farewell(&client, &greeting).await,
        }
    };
    finalizer(&greetings, FINALIZER, greeting, work)
        .await
        .map_err(|error| Error::Finalizer(Box::new(error)))
}

async fn say(client: &Client, greeting: &Greeting) -> Result<Action, Error> {
    let (name, namespace) = (greeting.name_any(), greeting.namespace().unwrap_or_default());
    let words = vec![greeting.spec.text.as_str(); greeting.spec.times as usize];
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            owner_references: greeting.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([("text".to_owned(), words.join(" "))])),
        ..ConfigMap::default()
    };
    let apply = PatchParams::apply(MANAGER).force();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    maps.patch(&name, &apply, &Patch::Apply(&map)).await?;
    let status = json!({
        "apiVersion": Greeting::api_version(&()), "kind": Greeting::kind(&()),
        "status": GreetingStatus {
            said: greeting.spec.times,
            observed_generation: greeting.metadata.generation.unwrap_or_default(),
        },
    });
    let greetings: Api<Greeting> = Api::namespaced(client.clone(), &namespace);
    greetings
        .patch_status(&name, &apply, &Patch::Apply(&status))
        .await?;
    Ok(Action::await_change())
}

/// Leaves a word behind before the greeting goes.
async fn farewell(client: &Client, greeting: &Greeting) -> Result<Action, Error> {
    let name = format!("{}-said", greeting.name_any());
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([("text".to_owned(), "Farewell".to_owned())])),
        ..ConfigMap::default()
    };
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &greeting.namespace().unwrap_or_default());
    maps.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&map))
        .await?;
    Ok(Action::await_change())
}
