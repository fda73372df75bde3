//! When what lasts ends although nothing is wrong with it: a connection, a watch, a command's streams, an agent's link.
//! The server stops; or who signed the client's certificate is trusted no more, so that it shall come again with one
//! that counts.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::authn::CertificateUser;
use crate::pki::{Signer, Signers};

/// See the module. Shared by a connection and all that is asked over it.
pub struct Until {
    stop: CancellationToken,
    /// By whom the client's certificate was signed, and who is trusted. `None` for a client without one that proves
    /// anything: a token is looked at with each request.
    signed: Option<(Signer, Signers)>,
}

/// Why something ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The server stops.
    Stop,
    /// The client's certificate proves nothing any more.
    Distrusted,
}

impl Until {
    /// Of a connection with that certificate.
    pub fn new(stop: CancellationToken, certificate: &CertificateUser, trusted: Signers) -> Arc<Self> {
        let signed = match certificate {
            CertificateUser::Known { by, .. } | CertificateUser::FrontProxy { by, .. } => {
                Some((*by, trusted))
            }
            CertificateUser::Nobody | CertificateUser::Unproven => None,
        };
        Arc::new(Self { stop, signed })
    }

    /// Of a caller in this process.
    pub fn stopped(stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self { stop, signed: None })
    }

    /// Returns when it is time.
    pub async fn over(&self) -> End {
        tokio::select! {
            () = self.stop.cancelled() => End::Stop,
            () = self.distrusted() => End::Distrusted,
        }
    }

    async fn distrusted(&self) {
        if let Some((by, trusted)) = &self.signed {
            let lost = |trusted: &Arc<[Signer]>| !trusted.contains(by);
            // It fails when the server ends.
            if trusted.clone().wait_for(lost).await.map(drop).is_ok() {
                return;
            }
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use api::request::User;
    use futures_util::FutureExt;
    use tokio::sync::watch;

    use super::*;

    fn known(by: Signer) -> CertificateUser {
        CertificateUser::Known {
            user: User::default(),
            ends: i64::MAX,
            by,
        }
    }

    #[test]
    fn only_what_the_retired_authority_has_signed_ends() {
        let (old, new) = ([1; 32], [2; 32]);
        let (said, trusted) = watch::channel(Arc::<[Signer]>::from([old, new]));
        let stop = CancellationToken::new();
        let until = |certificate| Until::new(stop.clone(), &certificate, trusted.clone());
        let proxy = CertificateUser::FrontProxy { ends: 0, by: old };
        let all = [
            until(known(old)),
            until(proxy),
            until(known(new)),
            until(CertificateUser::Nobody),
            until(CertificateUser::Unproven),
            Until::stopped(stop.clone()),
        ];
        let over = || all.each_ref().map(|until| until.over().now_or_never());
        assert_eq!(over(), [None; 6]);
        said.send_replace(Arc::from([new]));
        let distrusted = Some(End::Distrusted);
        assert_eq!(over(), [distrusted, distrusted, None, None, None, None]);
        drop(said);
        assert_eq!(over()[2], None, "nobody says so any more");
        stop.cancel();
        assert!(over()[2..].iter().all(|end| *end == Some(End::Stop)));
    }
}
