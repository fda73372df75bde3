//! Finding or pulling a container's image.

use std::sync::Arc;

use api::status::Status;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Container, Pod, Secret, ServiceAccount, ServiceAccountTokenProjection};
use oci::{Attempt, Credentials, Image, ImageError, Images};

use super::access::{Access, Holder, access, hash, shown};
use super::{PodContext, credentials};
use tokio::sync::OnceCell;

use crate::env::References;
use crate::pods::spec;
use crate::pods::state::{ImageRef, PULL_FAILED, UNTRUSTED};
use crate::providers::{Account, Accounts};
use crate::volumes::tokens::request;

/// What went wrong: reason and message for the container's status.
type Failure = (String, String);

/// Finds or pulls the image as the container's policy says. `launched`: it ran
/// here before, so a registry out of reach must not keep it from coming back.
///
/// # Errors
/// Reason and message.
pub async fn fetch(
    context: Arc<PodContext>,
    pod: Arc<Pod>,
    container: &str,
    launched: bool,
) -> Result<ImageRef, Failure> {
    let missing = || {
        (
            PULL_FAILED.to_owned(),
            "the container is gone from the pod".to_owned(),
        )
    };
    let (_, spec) = spec::container(&pod, container).ok_or_else(missing)?;
    let fetch = Fetch {
        context: &context,
        pod: &pod,
        container: &spec,
        launched,
        attempts: OnceCell::new(),
    };
    let image = fetch.run().await?;
    let found = ImageRef {
        name: spec::image(&spec).to_owned(),
        id: image_id(&image),
        wasm: image.kind.is_wasm(),
    };
    context.set_image(container, image);
    Ok(found)
}

/// Finds or pulls the image of something that only names one.
///
/// # Errors
/// Reason and message.
pub async fn fetch_for(context: &PodContext, pod: &Pod, container: &Container) -> Result<Image, Failure> {
    let fetch = Fetch {
        context,
        pod,
        container,
        launched: false,
        attempts: OnceCell::new(),
    };
    fetch.run().await
}

/// `repository@digest` where the image came from somewhere, else its id.
fn image_id(image: &Image) -> String {
    let by_digest = image.references.iter().find(|r| r.contains("@sha256:"));
    by_digest.cloned().unwrap_or_else(|| {
        let name = image
            .references
            .first()
            .map(|r| repository(r))
            .unwrap_or_default();
        if name.is_empty() {
            image.id.clone()
        } else {
            format!("{name}@{}", image.digest)
        }
    })
}

/// A reference without its tag.
fn repository(reference: &str) -> &str {
    match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => reference,
    }
}

/// The places that a secret names, with what it holds for each.
fn held(secret: &Secret) -> impl Iterator<Item = (String, (Credentials, Holder))> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let meta = &secret.metadata;
    let (namespace, name, uid) = (text(&meta.namespace), text(&meta.name), text(&meta.uid));
    credentials::of_secret(secret).map(move |(place, found)| {
        let holder = Holder::Secret {
            namespace: namespace.clone(),
            name: name.clone(),
            uid: uid.clone(),
            hash: hash(&found),
        };
        (place, (found, holder))
    })
}

/// A refusal, with what went wrong where there might have been better credentials.
fn explained(error: ImageError, failures: &[String]) -> ImageError {
    match error {
        ImageError::Denied(why) if !failures.is_empty() => {
            ImageError::Denied(format!("{why}; {}", failures.join("; ")))
        }
        error => error,
    }
}

/// An image that is asked for, by its normalised name.
struct Asked<'a> {
    reference: &'a str,
    /// Without tag and digest.
    repository: &'a str,
}

struct Fetch<'a> {
    context: &'a PodContext,
    pod: &'a Pod,
    container: &'a Container,
    launched: bool,
    /// What the pod can show; looked up when it is needed first.
    attempts: OnceCell<Attempts>,
}

/// With what a pod may ask for its image.
#[derive(Default)]
struct Attempts {
    all: Vec<(Credentials, Holder)>,
    /// What went wrong with programs that might have known more.
    failures: Vec<String>,
}

impl Fetch<'_> {
    async fn run(&self) -> Result<Image, Failure> {
        let name = spec::image(self.container);
        let reference = Images::normalize(name).map_err(|error| self.invalid(&error))?;
        let repository = Images::repository(name).map_err(|error| self.invalid(&error))?;
        let asked = Asked {
            reference: &reference,
            repository: &repository,
        };
        let local = self
            .context
            .node
            .images
            .find(&reference)
            .await
            .map_err(|error| self.failed(&error))?;
        // What the policy does not let in is asked for as if it were not here.
        let admits = |image: Image| {
            self.context
                .node
                .images
                .admits(&reference, &image)
                .map(|()| image)
        };
        let local = local.map(admits);
        match (spec::pull_policy(self.container), local) {
            ("Always", local) => self.pull(&asked, local.and_then(Result::ok)).await,
            (_, Some(Ok(image))) if self.launched || self.may_use(&asked, &image).await => {
                self.present();
                Ok(image)
            }
            ("Never", Some(Err(error))) => Err(self.failed(&error)),
            // That it is there is nobody's business who may not have it.
            ("Never", None | Some(Ok(_))) => {
                let message = format!("Container image {name:?} is not present with pull policy of Never");
                self.warn("ErrImageNeverPull", message.clone());
                self.warn("Failed", "Error: ErrImageNeverPull");
                Err(("ErrImageNeverPull".to_owned(), message))
            }
            (_, _) => self.pull(&asked, None).await,
        }
    }

    /// Whether the pod may use an image without having pulled it.
    async fn may_use(&self, asked: &Asked<'_>, image: &Image) -> bool {
        let node = &self.context.node;
        let may = match access(&node.config.images.verification, image, asked.repository) {
            Access::Open => return true,
            Access::To(may) => may,
        };
        let has = self.attempts(asked).await.all.iter().map(|(_, holder)| holder);
        let Some((holder, is_new)) = shown(has, &may) else {
            return false;
        };
        let reference = asked.reference;
        if is_new && let Err(error) = node.images.note(&image.digest, reference, &holder.note()).await {
            // It will be found out once more.
            tracing::warn!(%error, reference, "who may use an image was not noted");
        }
        true
    }

    fn present(&self) {
        let name = spec::image(self.container);
        let message =
            format!("Container image {name:?} already present on machine and can be accessed by the pod");
        self.tell("Pulled", message);
    }

    async fn pull(&self, asked: &Asked<'_>, local: Option<Image>) -> Result<Image, Failure> {
        let (node, name) = (&self.context.node, spec::image(self.container));
        self.tell("Pulling", format!("Pulling image {name:?}"));
        let begin = node.clock.monotonic();
        let known = self.attempts(asked).await;
        let with = |(credentials, holder): &(Credentials, Holder)| Attempt {
            credentials: Some(credentials.clone()),
            note: Some(holder.note()),
        };
        let mut attempts: Vec<Attempt> = known.all.iter().map(with).collect();
        if attempts.is_empty() {
            attempts.push(Attempt {
                credentials: None,
                note: Some(Holder::Everybody.note()),
            });
        }
        match (node.images.pull(asked.reference, &attempts).await, local) {
            (Ok(image), _) => {
                let took = api::go::duration_in_milliseconds(node.clock.monotonic().saturating_sub(begin));
                self.tell(
                    "Pulled",
                    format!(
                        "Successfully pulled image {name:?} in {took} ({took} including waiting). \
                         Image size: {} bytes.",
                        image.size_bytes
                    ),
                );
                Ok(image)
            }
            (Err(ImageError::Registry(error)), Some(image)) if self.launched => {
                self.warn("Failed", format!("Failed to pull image {name:?}: {error}"));
                self.present();
                Ok(image)
            }
            (Err(error), _) => Err(self.failed(&explained(error, &known.failures))),
        }
    }

    /// What the pod's secrets, and then the programs of this machine, know about the image.
    async fn attempts(&self, asked: &Asked<'_>) -> &Attempts {
        let look = async {
            let node = &self.context.node;
            let mut all = self.of_secrets(asked.reference).await;
            let known = node.providers.ask(asked.repository, self, &node.clock).await;
            all.extend(known.credentials.into_iter().map(|(credentials, account)| {
                let holder = account.map_or(Holder::Everybody, |account| Holder::Account {
                    namespace: account.namespace,
                    name: account.name,
                    uid: account.uid,
                });
                (credentials, holder)
            }));
            Attempts {
                all,
                failures: known.failures,
            }
        };
        self.attempts.get_or_init(|| look).await
    }

    async fn of_secrets(&self, reference: &str) -> Vec<(Credentials, Holder)> {
        let named = spec::spec(self.pod).image_pull_secrets.iter().flatten();
        let names: Vec<String> = named.map(|r| r.name.clone()).filter(|n| !n.is_empty()).collect();
        let wanted = References {
            secrets: names.iter().cloned().collect(),
            ..References::default()
        };
        if wanted.secrets.is_empty() {
            return Vec::new();
        }
        match self
            .context
            .node
            .objects
            .fetch(spec::namespace(self.pod), &wanted)
            .await
        {
            Ok(objects) => {
                let missing: Vec<&str> = wanted
                    .secrets
                    .iter()
                    .map(String::as_str)
                    .filter(|name| !objects.secrets.contains_key(*name))
                    .collect();
                if !missing.is_empty() {
                    let text = format!(
                        "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                        missing.join(", ")
                    );
                    self.warn("FailedToRetrieveImagePullSecret", text);
                }
                let found = names.iter().filter_map(|name| objects.secrets.get(name));
                credentials::fitting(reference, found.flat_map(|secret| held(secret)))
            }
            Err(error) => {
                self.warn("FailedToRetrieveImagePullSecret", error);
                Vec::new()
            }
        }
    }

    fn invalid(&self, error: &ImageError) -> Failure {
        let name = spec::image(self.container);
        let message = format!("Failed to apply default image tag {name:?}: {error}");
        self.warn("InspectFailed", message.clone());
        self.warn("Failed", "Error: InvalidImageName");
        ("InvalidImageName".to_owned(), message)
    }

    /// Tells of a pull that failed, in the kubelet's words.
    fn failed(&self, error: &ImageError) -> Failure {
        let name = spec::image(self.container);
        let (reason, said, message) = match error {
            ImageError::Untrusted(why) => (
                UNTRUSTED,
                format!("{UNTRUSTED}: {why}"),
                format!("image pull failed for {name} because the signature validation failed: {why}"),
            ),
            error => {
                let whole = Images::normalize(name).unwrap_or_else(|_| name.to_owned());
                let message = format!("failed to pull and unpack image {whole:?}: {error}");
                (PULL_FAILED, message.clone(), message)
            }
        };
        self.warn("Failed", format!("Failed to pull image {name:?}: {said}"));
        self.warn("Failed", format!("Error: {reason}"));
        (reason.to_owned(), message)
    }

    fn tell(&self, reason: &str, message: impl Into<String>) {
        self.context
            .tell(self.pod, Some(&self.container.name), reason, message);
    }

    fn warn(&self, reason: &str, message: impl Into<String>) {
        self.context
            .warn(self.pod, Some(&self.container.name), reason, message);
    }
}

#[async_trait]
impl Accounts for Fetch<'_> {
    async fn account(&self) -> Result<Option<Account>, String> {
        let name = spec::spec(self.pod).service_account_name.as_deref();
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        let namespace = spec::namespace(self.pod);
        let found = self
            .context
            .node
            .client
            .get::<ServiceAccount>(namespace, name)
            .await;
        let why = |error: Status| {
            format!(
                "failed to get service account {namespace}/{name}: {}",
                error.message
            )
        };
        let meta = found.map_err(why)?.metadata;
        Ok(Some(Account {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: meta.uid.unwrap_or_default(),
            annotations: meta.annotations.unwrap_or_default(),
        }))
    }

    async fn token(&self, account: &Account, audience: &str) -> Result<String, String> {
        let wanted = ServiceAccountTokenProjection {
            audience: Some(audience.to_owned()),
            ..ServiceAccountTokenProjection::default()
        };
        let token = request(&self.context.node.client, self.pod, &wanted).await;
        let Account { namespace, name, .. } = account;
        let why = |error: Status| {
            format!(
                "error getting service account token {namespace}/{name}: {}",
                error.message
            )
        };
        token.map(|(text, _)| text).map_err(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories() {
        assert_eq!(repository("localhost:5000/app"), "localhost:5000/app");
        assert_eq!(repository("localhost:5000/app:1"), "localhost:5000/app");
    }

    #[test]
    fn a_refusal_tells_of_providers_that_failed() {
        let failures = ["plugin a failed".to_owned()];
        let told = explained(ImageError::Denied("no".to_owned()), &failures);
        assert_eq!(told.to_string(), "no; plugin a failed");
        let other = explained(ImageError::Registry("away".to_owned()), &failures);
        assert_eq!(other.to_string(), "away");
    }
}
