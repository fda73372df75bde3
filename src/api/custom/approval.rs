//! Groups of Kubernetes itself may be extended only with its approval, which an annotation names.

use serde_json::Value;

use crate::value::{get, text};

/// The annotation without which groups of Kubernetes itself may not be extended.
pub const ANNOTATION: &str = "api-approved.kubernetes.io";

/// What a definition's approval is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Approval {
    /// Its group needs none.
    Unneeded,
    /// It says nothing.
    Missing,
    /// What it says is no approval.
    Invalid(String),
    /// It does without, for the reason that it names.
    Bypassed(String),
    /// It is approved where this URL leads.
    Given(String),
}

/// Reads a definition's approval.
pub fn of(definition: &Value) -> Approval {
    let group = text(definition, "spec.group");
    let is_own =
        |domain: &str| group == domain || group.strip_suffix(domain).is_some_and(|g| g.ends_with('.'));
    if !is_own("k8s.io") && !is_own("kubernetes.io") {
        return Approval::Unneeded;
    }
    let said = get(definition, "metadata.annotations").get(ANNOTATION);
    match said.and_then(Value::as_str).unwrap_or_default() {
        "" => Approval::Missing,
        said if said.starts_with("https://") => Approval::Given(said.to_owned()),
        said if said.starts_with("unapproved") => Approval::Bypassed(said.to_owned()),
        said => Approval::Invalid(said.to_owned()),
    }
}

impl Approval {
    /// Status, reason and message of the condition `KubernetesAPIApprovalPolicyConformant`; none where no approval is
    /// needed.
    pub fn condition(&self) -> Option<(&'static str, &'static str, String)> {
        let needs = || self.refusal().unwrap_or_default();
        Some(match self {
            Self::Unneeded => return None,
            Self::Missing => ("False", "MissingAnnotation", needs()),
            Self::Invalid(_) => ("False", "InvalidAnnotation", needs()),
            Self::Bypassed(why) => ("False", "UnapprovedAnnotation", format!("not approved: {why:?}")),
            Self::Given(url) => ("True", "ApprovedAnnotation", format!("approved in {url}")),
        })
    }

    /// Why a definition may not be written like this.
    pub fn refusal(&self) -> Option<String> {
        let how = match self {
            Self::Missing => "",
            Self::Invalid(_) => " with either a URL or a reason starting with \"unapproved\"",
            _ => return None,
        };
        Some(format!(
            "protected groups must have approval annotation {ANNOTATION:?}{how}, see \
             https://github.com/kubernetes/enhancements/pull/1111"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn approvals_become_conditions() {
        for (group, said, expected) in [
            ("example.com", "", None),
            ("notk8s.io", "", None),
            ("x.k8s.io", "", Some(("False", "MissingAnnotation"))),
            ("k8s.io", "yes", Some(("False", "InvalidAnnotation"))),
            (
                "x.kubernetes.io",
                "unapproved, a trial",
                Some(("False", "UnapprovedAnnotation")),
            ),
            (
                "x.k8s.io",
                "https://example.com/1",
                Some(("True", "ApprovedAnnotation")),
            ),
        ] {
            let definition =
                json!({"metadata": {"annotations": {ANNOTATION: said}}, "spec": {"group": group}});
            let condition = of(&definition).condition();
            let told = condition.as_ref().map(|(status, reason, _)| (*status, *reason));
            assert_eq!(told, expected, "{group} {said}");
        }
    }
}
