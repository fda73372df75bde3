//! Certificates whose subject is taken over as somebody else wrote it.
//!
//! rcgen keeps a subject as a map with one value for each sort of attribute: of several groups it would keep the last.
//! So it makes a draft, of which everything but the subject is good, and this puts in the subject and signs anew.

use std::borrow::Cow;

use rcgen::SigningKey;
use x509_parser::asn1_rs::{Any, BitString, FromDer, Sequence, ToDer};

/// Where the subject is among the fields of a certificate (RFC 5280, TBSCertificate), after version, serial number,
/// algorithm, issuer and validity.
const SUBJECT: usize = 5;

/// A certificate (DER) with another subject (DER), signed by the authority whose `key` it is.
///
/// # Errors
/// When the draft is no certificate, or the key cannot sign.
pub(super) fn replaced(draft: &[u8], subject: &[u8], key: &impl SigningKey) -> Result<Vec<u8>, rcgen::Error> {
    let broken = || rcgen::Error::CouldNotParseCertificate;
    let parts = fields(draft).ok_or_else(broken)?;
    let [told, algorithm, _] = parts.as_slice() else {
        return Err(broken());
    };
    let mut told = fields(told).ok_or_else(broken)?;
    *told.get_mut(SUBJECT).ok_or_else(broken)? = subject;
    let told = sequence(&told).ok_or_else(broken)?;
    let signature = key.sign(&told)?;
    let signature = BitString::new(0, &signature).to_der_vec().map_err(|_| broken())?;
    sequence(&[&told, algorithm, &signature]).ok_or_else(broken)
}

/// The elements of a sequence, each with its tag and length.
fn fields(sequence: &[u8]) -> Option<Vec<&[u8]>> {
    let (_, whole) = Any::from_der(sequence).ok()?;
    let (mut rest, mut found) = (whole.data, Vec::new());
    while !rest.is_empty() {
        let (after, _) = Any::from_der(rest).ok()?;
        let (field, _) = rest.split_at(rest.len() - after.len());
        found.push(field);
        rest = after;
    }
    Some(found)
}

fn sequence(fields: &[&[u8]]) -> Option<Vec<u8>> {
    Sequence::new(Cow::Owned(fields.concat())).to_der_vec().ok()
}
