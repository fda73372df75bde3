//! Reading bodies, but never more than wanted.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;

use crate::nodes::{Body, BoxError};

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is larger than allowed.
    #[error("the body is too large")]
    TooLarge,
    /// The connection broke.
    #[error(transparent)]
    Broken(BoxError),
}

/// The whole body, if it has at most `max` bytes.
pub async fn read(mut body: Body, max: usize) -> Result<Bytes, ReadError> {
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let bytes = frame.map_err(ReadError::Broken)?.into_data().unwrap_or_default();
        if first.len() + all.len() + bytes.len() > max {
            return Err(ReadError::TooLarge);
        }
        // Most bodies are one piece, which need not be copied.
        if first.is_empty() && all.is_empty() {
            first = bytes;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&bytes);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::watch::streamed;

    fn pieces(pieces: &[&'static str]) -> Body {
        let pieces: Vec<_> = pieces
            .iter()
            .map(|p| Ok(Bytes::from_static(p.as_bytes())))
            .collect();
        streamed(futures_util::stream::iter(pieces))
    }

    #[tokio::test]
    async fn bodies_are_joined_up_to_the_limit() {
        assert_eq!(read(pieces(&["ab", "c", "", "d"]), 4).await.unwrap(), "abcd");
        assert_eq!(read(pieces(&["ab"]), 2).await.unwrap(), "ab");
        assert_eq!(read(pieces(&[]), 0).await.unwrap(), "");
        assert!(matches!(
            read(pieces(&["ab", "c"]), 2).await,
            Err(ReadError::TooLarge)
        ));
    }
}
