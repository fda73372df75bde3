//! What a driver's CSIDriver object says of how its volumes are used. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::storage::v1::{CSIDriver, TokenRequest};

use super::wanted::Wanted;
use crate::pods::spec;

/// Before everything that is said of the pod.
const PREFIX: &str = "csi.storage.k8s.io/";

/// The rules of one driver; those of a driver without an object are the defaults.
pub(super) struct Rules(pub Option<CSIDriver>);

impl Rules {
    /// Whether the driver has volumes of that sort.
    ///
    /// # Errors
    /// The kubelet's text.
    pub fn check(&self, wanted: &Wanted) -> Result<(), String> {
        let Some(driver) = &self.0 else {
            return match wanted.is_persistent() {
                true => Ok(()),
                // Whoever has pods' own volumes says so.
                false => Err(unsupported(wanted, "Ephemeral", "Persistent")),
            };
        };
        let sort = if wanted.is_persistent() {
            "Persistent"
        } else {
            "Ephemeral"
        };
        let sorts = driver.spec.volume_lifecycle_modes.as_deref().unwrap_or_default();
        let default = sorts.is_empty() && sort == "Persistent";
        match default || sorts.iter().any(|known| known == sort) {
            true => Ok(()),
            false => Err(unsupported(wanted, sort, &sorts.join(", "))),
        }
    }

    /// Whether a volume is attached before it is mounted.
    pub fn is_attached(&self) -> bool {
        api::csi::is_attached(self.0.as_ref())
    }

    /// Whether what is shown has to be shown anew from time to time.
    pub fn is_republished(&self) -> bool {
        let driver = self.0.as_ref();
        driver.is_some_and(|driver| driver.spec.requires_republish == Some(true))
    }

    /// The tokens that it wants of a pod.
    pub fn tokens(&self) -> &[TokenRequest] {
        let driver = self.0.as_ref();
        driver
            .and_then(|driver| driver.spec.token_requests.as_deref())
            .unwrap_or_default()
    }

    /// What it is told of the pod.
    pub fn about(&self, pod: &Pod, wanted: &Wanted) -> BTreeMap<String, String> {
        let asked = self
            .0
            .as_ref()
            .is_some_and(|driver| driver.spec.pod_info_on_mount == Some(true));
        if !asked {
            return BTreeMap::new();
        }
        let account = spec::spec(pod)
            .service_account_name
            .as_deref()
            .unwrap_or_default();
        let own = if wanted.is_persistent() { "false" } else { "true" };
        let said = [
            ("pod.name", spec::name(pod)),
            ("pod.namespace", spec::namespace(pod)),
            ("pod.uid", spec::uid(pod)),
            ("serviceAccount.name", account),
            ("ephemeral", own),
        ];
        said.into_iter()
            .map(|(key, value)| (format!("{PREFIX}{key}"), value.to_owned()))
            .collect()
    }

    /// Whether the pod's group gets the volume's files.
    pub fn gives_to_group(&self, wanted: &Wanted) -> bool {
        if wanted.read_only || wanted.block {
            return false;
        }
        let policy = self
            .0
            .as_ref()
            .and_then(|driver| driver.spec.fs_group_policy.as_deref());
        match policy {
            Some("None") => false,
            Some("File") => true,
            _ => {
                let once = |mode: &String| mode == "ReadWriteOnce" || mode == "ReadWriteOncePod";
                !wanted.fs_type.is_empty() && wanted.modes.iter().any(once)
            }
        }
    }
}

/// The key under which a driver finds a pod's tokens.
pub(super) fn tokens_key() -> String {
    format!("{PREFIX}serviceAccount.tokens")
}

fn unsupported(wanted: &Wanted, sort: &str, known: &str) -> String {
    format!(
        "volume mode {sort:?} not supported by driver {} (only supports [{known:?}])",
        wanted.driver
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rules(spec: serde_json::Value) -> Rules {
        Rules(Some(
            serde_json::from_value(json!({"metadata": {"name": "d"}, "spec": spec})).unwrap(),
        ))
    }

    fn persistent(fs_type: &str, mode: &str) -> Wanted {
        Wanted {
            volume: "pv".to_owned(),
            driver: "d".to_owned(),
            fs_type: fs_type.to_owned(),
            modes: vec![mode.to_owned()],
            ..Wanted::default()
        }
    }

    #[test]
    fn a_driver_has_the_volumes_it_says_it_has() {
        let own = Wanted {
            driver: "d".to_owned(),
            ..Wanted::default()
        };
        let lasting = persistent("", "ReadWriteOnce");
        assert!(Rules(None).check(&lasting).is_ok());
        assert!(Rules(None).check(&own).is_err());
        assert!(rules(json!({})).check(&lasting).is_ok());
        let error = rules(json!({})).check(&own).unwrap_err();
        assert!(
            error.starts_with("volume mode \"Ephemeral\" not supported by driver d"),
            "{error}"
        );
        let only_own = rules(json!({"volumeLifecycleModes": ["Ephemeral"]}));
        assert!(only_own.check(&own).is_ok());
        assert!(only_own.check(&lasting).is_err());
    }

    #[test]
    fn files_are_given_to_groups_as_the_policy_says() {
        let default = rules(json!({}));
        assert!(default.gives_to_group(&persistent("ext4", "ReadWriteOnce")));
        assert!(!default.gives_to_group(&persistent("", "ReadWriteOnce")));
        assert!(!default.gives_to_group(&persistent("ext4", "ReadWriteMany")));
        assert!(rules(json!({"fsGroupPolicy": "File"})).gives_to_group(&persistent("", "ReadWriteMany")));
        assert!(
            !rules(json!({"fsGroupPolicy": "None"})).gives_to_group(&persistent("ext4", "ReadWriteOnce"))
        );
    }
}
