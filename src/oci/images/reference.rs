//! References as docker's tools read them.

use oci_spec::distribution::{ParseError, Reference};

use super::ImageError;

/// Reads a reference; `busybox` means `docker.io/library/busybox:latest`.
pub(super) fn parse(reference: &str) -> Result<Reference, ImageError> {
    reference
        .parse()
        .map_err(|error: ParseError| ImageError::InvalidName {
            reference: reference.to_owned(),
            reason: match error {
                ParseError::ReferenceInvalidFormat => "invalid reference format".to_owned(),
                other => other.to_string(),
            },
        })
}

/// The normalised reference under which the same content is known by its digest alone.
pub(super) fn by_digest(reference: &Reference, digest: &str) -> String {
    let (registry, repository) = (reference.registry().to_owned(), reference.repository().to_owned());
    Reference::with_digest(registry, repository, digest.to_owned()).whole()
}

/// A reference without its tag and its digest.
pub(super) fn repository(reference: &Reference) -> String {
    format!("{}/{}", reference.registry(), reference.repository())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_digests() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let both = parse(&format!("example.com:5000/team/app:1@{digest}")).unwrap();
        assert_eq!((both.tag(), both.digest()), (Some("1"), Some(digest.as_str())));
        assert_eq!(
            by_digest(&both, &digest),
            format!("example.com:5000/team/app@{digest}")
        );
        assert_eq!(
            parse("busybox").unwrap().whole(),
            "docker.io/library/busybox:latest"
        );
        for whole in [
            "r.io:1/app:2".to_owned(),
            format!("r.io:1/app@{digest}"),
            format!("r.io:1/app:2@{digest}"),
        ] {
            assert_eq!(repository(&parse(&whole).unwrap()), "r.io:1/app");
        }
        assert!(parse("Not_A_Name!").is_err());
        assert!(parse(&format!("x/{}", "a".repeat(300))).is_err());
    }
}
