//! CertificateSigningRequest: asks for a certificate.

use crate::kind::{Column, Kind, PART_VERBS, Subresource};

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "certificates.k8s.io",
    kind: "CertificateSigningRequest",
    plural: "certificatesigningrequests",
    singular: "certificatesigningrequest",
    short_names: &["csr"],
    subresources: &[
        Subresource::new("approval", "CertificateSigningRequest", PART_VERBS),
        Subresource::status("CertificateSigningRequest"),
    ],
    storage_version_hash: "95fRKMXA+00=",
    reset_fields: &["spec", "status"],
    reset_fields_status: &["spec", "status.conditions"],
    field_names: &["spec.signerName"],
    columns: &[
        Column::NAME,
        Column::AGE,
        Column::text("SignerName"),
        Column::text("Requestor"),
        Column::text("RequestedDuration"),
        Column::text("Condition"),
    ],
    ..Kind::CLUSTER
};
