//! Who may use an image that is on this machine already (KEP-2535): whoever can show what somebody pulled it with.
//! Otherwise a pod without any secret could run what another one's secret has brought here. Pure.

use oci::{Credentials, Image};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::credentials::covers;

/// Of which images on this machine a pod has to show that it could pull them (the kubelet's
/// `imagePullCredentialsVerificationPolicy`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Verification {
    /// Of none.
    Never,
    /// Of all that were ever pulled here; not of those that were imported.
    #[default]
    Pulled,
    /// Of all but those that were imported and are covered by one of these places, each perhaps with `*` at its end.
    Unlisted(Vec<String>),
    /// Of all.
    Always,
}

impl Verification {
    /// Reads the policy by its name, and the list that goes with one of them.
    ///
    /// # Errors
    /// When there is no such policy, or the list does not belong to it; in words for whoever wrote it.
    pub fn parse(policy: &str, list: Vec<String>) -> Result<Verification, String> {
        let listed = policy == "NeverVerifyAllowlistedImages";
        if listed == list.is_empty() {
            return Err(match listed {
                true => "NeverVerifyAllowlistedImages needs a list of images".to_owned(),
                false => "a list of images goes with NeverVerifyAllowlistedImages".to_owned(),
            });
        }
        match policy {
            "NeverVerify" => Ok(Verification::Never),
            "NeverVerifyPreloadedImages" => Ok(Verification::Pulled),
            "NeverVerifyAllowlistedImages" => Ok(Verification::Unlisted(list)),
            "AlwaysVerify" => Ok(Verification::Always),
            other => Err(format!(
                "there is no policy {other:?}: NeverVerify, NeverVerifyPreloadedImages, NeverVerifyAllowlistedImages, \
                 AlwaysVerify"
            )),
        }
    }

    /// Whether it has to be shown of that image.
    fn concerns(&self, image: &Image, repository: &str) -> bool {
        let was_pulled = !image.pulled_by.is_empty();
        match self {
            Verification::Never => false,
            Verification::Pulled => was_pulled,
            Verification::Unlisted(list) => was_pulled || !list.iter().any(|place| listed(repository, place)),
            Verification::Always => true,
        }
    }
}

/// Whether a place of the list covers a repository: it is it, or the beginning of it before a `*`.
fn listed(repository: &str, place: &str) -> bool {
    match place.strip_suffix("/*") {
        Some(beginning) => covers(repository, &format!("{beginning}/")),
        None => repository == place,
    }
}

/// What an image was pulled with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Holder {
    /// What every pod of this node has: nothing, or credentials of the machine.
    Everybody,
    /// Credentials in a secret.
    #[serde(rename_all = "camelCase")]
    Secret {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
        /// What stands for the credentials.
        hash: String,
    },
    /// A token of a service account.
    #[serde(rename_all = "camelCase")]
    Account {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
}

impl Holder {
    /// As it is noted of an image.
    pub fn note(&self) -> String {
        // Strings alone: they can always be written.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether who has this one now is who had `before` then: the same secret, whatever is in it by now, or the same
    /// credentials in any secret.
    fn is(&self, before: &Holder) -> bool {
        match (self, before) {
            (
                Holder::Secret {
                    namespace,
                    name,
                    uid,
                    hash,
                },
                Holder::Secret {
                    namespace: in_namespace,
                    name: called,
                    uid: with_uid,
                    hash: with_hash,
                },
            ) => hash == with_hash || (namespace, name, uid) == (in_namespace, called, with_uid),
            _ => self == before,
        }
    }
}

/// What stands for credentials where they are noted.
pub fn hash(credentials: &Credentials) -> String {
    let Credentials { username, password } = credentials;
    let digest = Sha256::digest(serde_json::json!([username, password]).to_string());
    format!("{digest:x}")
}

/// Whether a pod may use an image.
#[derive(Debug, PartialEq, Eq)]
pub enum Access {
    /// Whatever it has.
    Open,
    /// If it has one of these.
    To(Vec<Holder>),
}

/// Who may use an image of the machine under the name of that repository.
pub fn access(policy: &Verification, image: &Image, repository: &str) -> Access {
    if !policy.concerns(image, repository) {
        return Access::Open;
    }
    let notes = image.pulled_by.get(repository).into_iter().flatten();
    // What a later version noted says nothing here.
    let holders: Vec<Holder> = notes.filter_map(|note| serde_json::from_str(note).ok()).collect();
    match holders.contains(&Holder::Everybody) {
        true => Access::Open,
        false => Access::To(holders),
    }
}

/// The first of what a pod has that is among what may be used, and whether it is worth a note: what a secret holds
/// may have changed, or another secret may hold the same.
pub fn shown<'a>(has: impl IntoIterator<Item = &'a Holder>, may: &[Holder]) -> Option<(&'a Holder, bool)> {
    let mut has = has.into_iter();
    let found = has.find(|holder| may.iter().any(|before| holder.is(before)))?;
    Some((found, !may.contains(found)))
}

#[cfg(test)]
mod tests {
    use oci::{ImageConfig, ImageKind};

    use super::*;

    const REPOSITORY: &str = "r.io/team/app";

    fn secret(name: &str, uid: &str, hash: &str) -> Holder {
        Holder::Secret {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            hash: hash.to_owned(),
        }
    }

    fn image(holders: &[Holder]) -> Image {
        let notes: Vec<String> = holders.iter().map(Holder::note).collect();
        let pulled_by = (!notes.is_empty()).then(|| (REPOSITORY.to_owned(), notes));
        Image {
            references: Vec::new(),
            digest: String::new(),
            id: String::new(),
            size_bytes: 0,
            config: ImageConfig::default(),
            kind: ImageKind::Oci { layers: Vec::new() },
            vouchers: Vec::new(),
            pulled_by: pulled_by.into_iter().collect(),
        }
    }

    #[test]
    fn what_was_pulled_is_for_whoever_could() {
        let policy = Verification::default();
        let of = |holders: &[Holder]| access(&policy, &image(holders), REPOSITORY);
        assert_eq!(of(&[]), Access::Open);
        let (mine, other) = (secret("mine", "1", "a"), secret("other", "2", "b"));
        assert_eq!(of(&[mine.clone(), Holder::Everybody]), Access::Open);
        assert_eq!(of(std::slice::from_ref(&mine)), Access::To(vec![mine.clone()]));
        // Under another name nobody has shown anything.
        let pulled = image(std::slice::from_ref(&mine));
        assert_eq!(access(&policy, &pulled, "r.io/other"), Access::To(Vec::new()));
        let may = [mine.clone()];
        let told = |has: Holder| shown(&[other.clone(), has], &may).map(|(_, new)| new);
        assert_eq!(told(mine.clone()), Some(false));
        assert_eq!(told(secret("mine", "1", "changed")), Some(true));
        assert_eq!(told(secret("elsewhere", "7", "a")), Some(true));
        // Of the same name, but made anew.
        assert_eq!(told(secret("mine", "3", "c")), None);
        assert_eq!(shown(&[], &may), None);
    }

    #[test]
    fn policies() {
        let parse = |name: &str, list: &[&str]| {
            Verification::parse(name, list.iter().map(|place| (*place).to_owned()).collect())
        };
        let open = |policy: &Verification, holders: &[Holder]| {
            access(policy, &image(holders), REPOSITORY) == Access::Open
        };
        let mine = [secret("mine", "1", "a")];
        assert!(open(&parse("NeverVerify", &[]).unwrap(), &mine));
        assert!(!open(&parse("AlwaysVerify", &[]).unwrap(), &[]));
        for (place, is_open) in [
            ("r.io/team/app", true),
            ("r.io/team/*", true),
            ("r.io/te", false),
            ("r.io/other/*", false),
        ] {
            let policy = parse("NeverVerifyAllowlistedImages", &[place]).unwrap();
            assert_eq!(
                (open(&policy, &[]), open(&policy, &mine)),
                (is_open, false),
                "{place}"
            );
        }
        assert!(parse("NeverVerifyAllowlistedImages", &[]).is_err());
        assert!(
            parse("AlwaysVerify", &["r.io/app"])
                .unwrap_err()
                .contains("goes with")
        );
        assert!(
            parse("Sometimes", &[])
                .unwrap_err()
                .contains("no policy \"Sometimes\"")
        );
    }

    #[test]
    fn credentials_are_not_noted_themselves() {
        let of = |username: &str, password: &str| {
            hash(&Credentials {
                username: username.to_owned(),
                password: password.to_owned(),
            })
        };
        assert_eq!(of("a", "b").len(), 64);
        assert_ne!(of("a", "bc"), of("ab", "c"));
    }
}
