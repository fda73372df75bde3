//! CertificateApproval, CertificateSigning, CertificateSubjectRestriction: who
//! may approve and sign, and which subjects no client may ask for.

use api::certificate_request::CertificateRequest;
use api::status::Status;
use api::value;

use crate::authz::Attributes;

use super::plugin::{Operation, Plugin, Review, World};

const GROUP: &str = "certificates.k8s.io";
const REQUESTS: &str = "certificatesigningrequests";

/// May the user approve for this signer?
pub struct CertificateApproval;
/// May the user sign for this signer?
pub struct CertificateSigning;
/// No client certificate for `system:masters`.
pub struct CertificateSubjectRestriction;

impl Plugin for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn validate(&self, review: &Review<'_>, world: &dyn World) -> Result<(), Status> {
        if !review.is_part(GROUP, REQUESTS, "approval") {
            return Ok(());
        }
        allowed(review, world, "approve")
    }
}

impl Plugin for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    fn validate(&self, review: &Review<'_>, world: &dyn World) -> Result<(), Status> {
        if !review.is_part(GROUP, REQUESTS, "status") {
            return Ok(());
        }
        let (Some(new), Some(old)) = (review.object.as_deref(), review.old) else {
            return Ok(());
        };
        let same = |path: &str| value::get(new, path) == value::get(old, path);
        if same("status.certificate") && same("status.conditions") {
            return Ok(());
        }
        allowed(review, world, "sign")
    }
}

/// The user needs the verb on the signer or on all signers of its domain.
fn allowed(review: &Review<'_>, world: &dyn World, verb: &str) -> Result<(), Status> {
    let signer = review
        .old
        .map(|old| value::text(old, "spec.signerName"))
        .unwrap_or_default();
    let domain = signer.split('/').next().unwrap_or_default();
    let may = [signer.to_owned(), format!("{domain}/*")]
        .into_iter()
        .any(|name| {
            world.allows(&Attributes {
                user: review.user.clone(),
                verb: verb.to_owned(),
                resource_request: true,
                group: GROUP.to_owned(),
                version: "*".to_owned(),
                resource: "signers".to_owned(),
                name,
                ..Attributes::default()
            })
        });
    if may {
        return Ok(());
    }
    Err(review.forbid(&format!(
        "user not permitted to {verb} requests with signerName {signer:?}"
    )))
}

impl Plugin for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn validate(&self, review: &Review<'_>, _: &dyn World) -> Result<(), Status> {
        if !review.is(GROUP, REQUESTS) || review.operation != Operation::Create {
            return Ok(());
        }
        let Some(new) = review.object.as_deref() else {
            return Ok(());
        };
        if value::text(new, "spec.signerName") != "kubernetes.io/kube-apiserver-client" {
            return Ok(());
        }
        // What cannot be read has been refused by then.
        let groups = CertificateRequest::of(new).map(|request| request.organizations);
        if groups
            .unwrap_or_default()
            .iter()
            .any(|group| group == "system:masters")
        {
            return Err(review.forbid(
                "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use api::request::User;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use rcgen::{CertificateParams, DnType, KeyPair};
    use serde_json::json;

    use super::super::testing::{Fixed, creation};
    use super::*;

    #[test]
    fn nobody_asks_for_the_masters_group() {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "system:masters");
        let csr = params
            .serialize_request(&KeyPair::generate().unwrap())
            .unwrap()
            .pem()
            .unwrap();
        let mut object = json!({"metadata": {"name": "r"}, "spec": {
            "signerName": "kubernetes.io/kube-apiserver-client", "request": STANDARD.encode(csr)}});
        let user = User::default();
        let review = creation(GROUP, REQUESTS, &user, &mut object);
        let status = CertificateSubjectRestriction
            .validate(&review, &Fixed::new(Vec::new()))
            .unwrap_err();
        assert!(
            status
                .message
                .ends_with("with system:masters group is not allowed"),
            "{status}"
        );
    }

    #[test]
    fn approving_needs_the_verb_on_the_signer() {
        let user = User::default();
        let old = json!({"spec": {"signerName": "example.com/a"}});
        let mut new = old.clone();
        let mut review = creation(GROUP, REQUESTS, &user, &mut new);
        (review.subresource, review.name, review.old) = ("approval", "r", Some(&old));
        let mut world = Fixed::new(Vec::new());
        let status = CertificateApproval.validate(&review, &world).unwrap_err();
        assert_eq!(
            status.message,
            "certificatesigningrequests.certificates.k8s.io \"r\" is forbidden: user not permitted to approve requests \
             with signerName \"example.com/a\""
        );
        world.allowed = vec!["approve"];
        assert!(CertificateApproval.validate(&review, &world).is_ok());
    }
}
