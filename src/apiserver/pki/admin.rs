//! The administrator's kubeconfig: made when the server first starts, made anew before its certificate ends or when it
//! leads elsewhere.

use std::net::{IpAddr, SocketAddr};

use client::kubeconfig::{Kubeconfig, Other};
use jiff::Timestamp;

use super::terms::RENEW_SECONDS;
use super::{Pki, PkiError, ca, files};
use crate::config::ServerConfig;

/// The user's name and its group, which may do everything.
const ADMIN: &str = "administrator's";
const USER: (&str, &str) = ("kubernetes-admin", "system:masters");

impl Pki {
    /// Writes `admin.kubeconfig`, unless it says all this already. It leads to this server first, then to the
    /// `others`; to those that it knew already where they are not told.
    ///
    /// # Errors
    /// When the certificate cannot be made, or the file not be written.
    pub fn write_admin(
        &self,
        config: &ServerConfig,
        port: u16,
        others: Option<Vec<Other>>,
        now: Timestamp,
    ) -> Result<(), PkiError> {
        let path = config.data_dir.join("admin.kubeconfig");
        let known = files::read(&path)?.and_then(|text| Kubeconfig::parse(&text, &self.dir).ok());
        let mut wanted = Kubeconfig {
            name: "coracle".into(),
            server: format!("https://{}", url_host(config, port)),
            others: others.unwrap_or_else(|| known.iter().flat_map(|old| old.others.clone()).collect()),
            ca_pem: self.now().serving_ca.bundle().to_owned(),
            ..Kubeconfig::default()
        };
        if let Some(old) = known.filter(|old| self.still_good(old, &wanted, now)) {
            self.note(ADMIN, &old.client_cert_pem);
            return Ok(());
        }
        let admin = self.client(USER.0, &[USER.1], now)?;
        (wanted.client_cert_pem, wanted.client_key_pem) = (admin.cert_pem, admin.key_pem);
        files::write_secret(&path, wanted.text().as_bytes())?;
        self.note(ADMIN, &wanted.client_cert_pem);
        Ok(())
    }

    /// Whether a kubeconfig written earlier still leads where it should, and will for a while.
    fn still_good(&self, old: &Kubeconfig, wanted: &Kubeconfig, now: Timestamp) -> bool {
        let ends = ca::ends(&old.client_cert_pem).unwrap_or_default();
        old.server == wanted.server
            && old.others == wanted.others
            && old.ca_pem.trim() == wanted.ca_pem.trim()
            && self.now().client_ca.issued(&old.client_cert_pem)
            && ends > now.as_second() + RENEW_SECONDS
    }
}

/// `host:port` for the kubeconfig: the advertised address when the server listens there.
fn url_host(config: &ServerConfig, port: u16) -> String {
    let local = |ip: &IpAddr| {
        config
            .listen
            .iter()
            .any(|a| a.ip() == *ip || a.ip().is_unspecified())
    };
    let ip = if local(&config.advertise) {
        config.advertise
    } else {
        config.listen.first().map_or(config.advertise, |a| a.ip())
    };
    SocketAddr::new(ip, port).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_anew_when_it_grows_old_or_leads_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let config = ServerConfig::new(dir.path());
        let now = Timestamp::now();
        let read = || std::fs::read_to_string(dir.path().join("admin.kubeconfig")).unwrap();
        let pki = Pki::open(&config, 6443, now).unwrap();
        let first = read();
        Pki::open(&config, 7443, now).unwrap();
        assert!(read().contains(":7443"));
        let other = Other {
            name: "coracle-two".into(),
            server: "https://10.0.0.2:7443".into(),
        };
        pki.write_admin(&config, 7443, Some(vec![other]), now).unwrap();
        let second = read();
        assert!(second.contains("https://10.0.0.2:7443"));
        let later = now + jiff::SignedDuration::from_hours(24 * 300);
        Pki::open(&config, 7443, now).unwrap();
        assert_eq!(read(), second, "what it knew, it keeps");
        Pki::open(&config, 7443, later).unwrap();
        assert!(read().contains("https://10.0.0.2:7443") && read() != second);
        assert_ne!(first, read());
    }
}
