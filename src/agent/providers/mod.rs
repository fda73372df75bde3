//! Credentials for registries from programs of this machine: the kubelet's image credential provider plugins.
//!
//! ```text
//! repository ─▶ providers whose `matchImages` cover it, in the file's order
//!                 ─▶ a token of the pod's service account, if it wants one (accounts)
//!                 ─▶ what one said lately (cache), else what its program says now (plugin)
//!                       ─▶ the entries that fit the repository, first provider first
//! ```

mod accounts;
mod cache;
mod config;
mod plugin;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base::Clock;
use oci::{Credentials, Turns};

pub use self::accounts::{Account, Accounts};

use self::accounts::{Told, told};
use self::cache::{Answer, Cache};
use self::config::Provider;
use crate::pods::effects::credentials::{covers, fitting};

/// What the machine's programs know about a repository.
#[derive(Default)]
pub struct Known {
    /// Credentials that fit it, the best first; and whose token they were given for, if for one.
    pub credentials: Vec<(Credentials, Option<Account>)>,
    /// What went wrong with those that were asked, fit for a user's eyes.
    pub failures: Vec<String>,
}

/// The programs that are asked.
#[derive(Default)]
pub struct Providers {
    all: Vec<Asked>,
}

struct Asked {
    provider: Provider,
    program: PathBuf,
    // A std mutex: nothing awaits while it is held.
    cache: Mutex<Cache>,
    /// One call for a repository at a time: a node that starts many pods of one image asks once.
    calls: Turns,
}

impl fmt::Debug for Providers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.all.iter().map(|asked| &asked.provider.name))
            .finish()
    }
}

impl Providers {
    /// Reads the configuration; the programs lie in `folder`, by their providers' names.
    ///
    /// # Errors
    /// When the file makes no sense, or a program is not there.
    pub fn load(file: &Path, folder: &Path) -> Result<Providers, String> {
        let named = |why: String| format!("{}: {why}", file.display());
        let text = std::fs::read_to_string(file).map_err(|error| named(error.to_string()))?;
        let mut all = Vec::new();
        for provider in config::parse(&text).map_err(named)? {
            let program = folder.join(&provider.name);
            if !program.is_file() {
                let program = program.display();
                return Err(named(format!("plugin binary executable {program} did not exist")));
            }
            all.push(Asked {
                provider,
                program,
                cache: Mutex::default(),
                calls: Turns::default(),
            });
        }
        Ok(Providers { all })
    }

    /// What the providers know about a repository: an image's normalised name without tag and digest. `accounts`
    /// answers for the pod that wants it.
    pub async fn ask(&self, repository: &str, accounts: &dyn Accounts, clock: &Arc<dyn Clock>) -> Known {
        let mut known = Known::default();
        let mut entries = Vec::new();
        for asked in self.all.iter().filter(|asked| asked.concerns(repository)) {
            let told = match asked.told(repository, accounts).await {
                Ok(Some(told)) => told,
                Ok(None) => continue,
                Err(why) => {
                    known.failures.push(why);
                    continue;
                }
            };
            match asked.answer(repository, &told, clock).await {
                Ok(answer) => {
                    let found = answer.credentials.into_iter();
                    entries.extend(found.map(|(place, one)| (place, (one, told.account.clone()))));
                }
                Err(why) => known.failures.push(why),
            }
        }
        known.credentials = fitting(repository, entries);
        known
    }
}

impl Asked {
    fn concerns(&self, repository: &str) -> bool {
        let images = &self.provider.match_images;
        images.iter().any(|place| covers(repository, place))
    }

    /// What it is told of the pod's account; `None` if it is not asked for such a pod.
    async fn told(&self, repository: &str, accounts: &dyn Accounts) -> Result<Option<Told>, String> {
        let Some(wanted) = &self.provider.tokens else {
            return Ok(Some(Told::default()));
        };
        let name = &self.provider.name;
        let why = |why| format!("credential provider plugin {name} for image {repository}: {why}");
        told(wanted, accounts).await.map_err(why)
    }

    async fn answer(&self, repository: &str, told: &Told, clock: &Arc<dyn Clock>) -> Result<Answer, String> {
        let name = &self.provider.name;
        let remembered = || self.cache().find(repository, &told.whom, clock.monotonic());
        if let Some(answer) = remembered() {
            return Ok(answer);
        }
        let _turn = self.calls.take(&format!("{repository} {}", told.whom)).await;
        if let Some(answer) = remembered() {
            return Ok(answer);
        }
        let failed = |why: String| {
            format!("error execing credential provider plugin {name} for image {repository}: {why}")
        };
        let answer = plugin::call(&self.program, &self.provider, repository, told).await;
        let answer = answer.map_err(failed).inspect_err(|error| {
            tracing::warn!("failed getting credential from external registry credential provider: {error}");
        })?;
        let about = (repository, told.whom.as_str());
        self.cache()
            .keep(about, &answer, self.provider.cached_for, clock.monotonic());
        Ok(answer)
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use base::ManualClock;
    use jiff::Timestamp;

    use super::*;

    /// A folder with a program for each name and text, and a configuration that has them all for `r.io`.
    fn providers(dir: &Path, programs: &[(&str, &str)]) -> Providers {
        let mut config =
            "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n".to_owned();
        for (name, script) in programs {
            let path = dir.join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            config.push_str(&format!(
                "- name: {name}\n  matchImages: [r.io]\n  defaultCacheDuration: 1h\n  apiVersion: {}\n  \
                 args: [first, \"two words\"]\n  env: [{{name: COUNT, value: {}}}]\n",
                config::VERSION,
                dir.join(format!("{name}.calls")).display()
            ));
        }
        let file = dir.join("config.yaml");
        std::fs::write(&file, config).unwrap();
        Providers::load(&file, dir).unwrap()
    }

    fn saying(user: &str, kind: &str) -> String {
        format!(
            "cat >> $COUNT; echo \" $*\" >> $COUNT; echo '{{\"kind\":\"CredentialProviderResponse\",\
             \"apiVersion\":\"{}\",\"cacheKeyType\":\"{kind}\",\
             \"auth\":{{\"r.io\":{{\"username\":\"{user}\",\"password\":\"p\"}}}}}}'",
            config::VERSION
        )
    }

    /// A pod without a service account.
    struct Nobody;

    #[async_trait::async_trait]
    impl Accounts for Nobody {
        async fn account(&self) -> Result<Option<Account>, String> {
            Ok(None)
        }

        async fn token(&self, _: &Account, _: &str) -> Result<String, String> {
            unreachable!("there is no account")
        }
    }

    fn users(known: &Known) -> Vec<&str> {
        known
            .credentials
            .iter()
            .map(|(c, _)| c.username.as_str())
            .collect()
    }

    #[tokio::test]
    async fn programs_are_asked_in_their_order_and_what_they_said_is_kept() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        let broken = "echo no >&2; exit 3";
        let programs = [
            ("one", saying("a", "Registry")),
            ("bad", broken.to_owned()),
            ("two", saying("b", "Image")),
        ];
        let providers = providers(
            dir,
            &programs.each_ref().map(|(name, text)| (*name, text.as_str())),
        );
        let manual = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let clock: Arc<dyn Clock> = manual.clone();
        let known = providers.ask("r.io/team/app", &Nobody, &clock).await;
        assert_eq!(users(&known), ["a", "b"]);
        let failures =
            ["error execing credential provider plugin bad for image r.io/team/app: exit status 3"];
        assert_eq!(known.failures, failures);
        assert!(
            providers
                .ask("other.io/app", &Nobody, &clock)
                .await
                .credentials
                .is_empty()
        );
        // The one that speaks for the whole registry is not asked again, the other one is.
        assert_eq!(
            users(&providers.ask("r.io/other", &Nobody, &clock).await),
            ["a", "b"]
        );
        let calls = |name: &str| std::fs::read_to_string(dir.join(format!("{name}.calls"))).unwrap();
        let asked = |image: &str| {
            let request = format!(
                r#"{{"kind":"CredentialProviderRequest","apiVersion":"{}","image":"{image}"}}"#,
                config::VERSION
            );
            format!("{request} first two words\n")
        };
        assert_eq!(calls("one"), asked("r.io/team/app"));
        assert_eq!(calls("two"), asked("r.io/team/app") + &asked("r.io/other"));
        manual.advance(Duration::from_secs(3601));
        providers.ask("r.io/other", &Nobody, &clock).await;
        assert_eq!(calls("one").lines().count(), 2);
    }

    #[test]
    fn a_program_that_is_not_there_is_told_of_at_once() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("config.yaml");
        let text = format!(
            "{{apiVersion: kubelet.config.k8s.io/v1, kind: CredentialProviderConfig, providers: [{{name: none, \
             matchImages: [r.io], defaultCacheDuration: 0s, apiVersion: {}}}]}}",
            config::VERSION
        );
        std::fs::write(&file, text).unwrap();
        let error = Providers::load(&file, temp.path()).unwrap_err();
        assert!(error.contains("did not exist"), "{error}");
    }
}
