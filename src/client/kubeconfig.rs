//! The kubeconfig file: how kubectl and our own commands find a server and prove who they are.

use std::fmt::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use crate::http::HttpConfig;
use crate::tls::Credentials;

/// What a kubeconfig's current context says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kubeconfig {
    /// Name of the cluster, the context and the user, when written.
    pub name: String,
    /// The server's URL, such as `https://10.0.0.5:6443`.
    pub server: String,
    /// The serving CA's certificates, PEM; empty for none.
    pub ca_pem: String,
    /// The client's certificate chain, PEM; empty for none.
    pub client_cert_pem: String,
    /// The client's key, PEM; empty for none.
    pub client_key_pem: String,
    /// A bearer token; empty for none.
    pub token: String,
    /// The context's namespace; empty for `default`.
    pub namespace: String,
    /// The name to expect in the server's certificate; empty for the URL's host.
    pub tls_server_name: String,
}

/// Why a kubeconfig cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// A file could not be read or written.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// The text is not a kubeconfig.
    #[error("not a kubeconfig: {0}")]
    Malformed(String),
}

impl Kubeconfig {
    /// Reads a kubeconfig file and the files it names.
    ///
    /// # Errors
    /// When a file cannot be read or makes no sense.
    pub fn read(path: &Path) -> Result<Self, KubeconfigError> {
        let folder = path.parent().unwrap_or(Path::new("."));
        Self::parse(&text_of(path)?, folder)
    }

    /// Reads kubeconfig text; files it names are relative to `folder`.
    ///
    /// # Errors
    /// When a named file cannot be read or the text makes no sense.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, KubeconfigError> {
        let malformed = |what: String| KubeconfigError::Malformed(what);
        let file: File = serde_saphyr::from_str(text).map_err(|e| malformed(e.to_string()))?;
        let missing = |what: &str, name: &str| malformed(format!("there is no {what} {name:?}"));
        let name = &file.current_context;
        let context = find(&file.contexts, name)
            .ok_or_else(|| missing("context", name))?
            .context
            .clone();
        let cluster = file.clusters.iter().find(|c| c.name == context.cluster);
        let cluster = &cluster
            .ok_or_else(|| missing("cluster", &context.cluster))?
            .cluster;
        let user = file
            .users
            .iter()
            .find(|u| u.name == context.user)
            .map(|u| u.user.clone())
            .unwrap_or_default();
        let pem = |data: &str, path: &str| either(data, path, folder);
        Ok(Self {
            name: name.clone(),
            server: cluster.server.clone(),
            ca_pem: pem(
                &cluster.certificate_authority_data,
                &cluster.certificate_authority,
            )?,
            client_cert_pem: pem(&user.client_certificate_data, &user.client_certificate)?,
            client_key_pem: pem(&user.client_key_data, &user.client_key)?,
            token: match user.token_file.as_str() {
                "" => user.token,
                file => text_of(&folder.join(file))?.trim().to_owned(),
            },
            namespace: context.namespace,
            tls_server_name: cluster.tls_server_name.clone(),
        })
    }

    /// The text of a kubeconfig that says the same, with everything in it and no file beside it.
    pub fn text(&self) -> String {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let name = quoted(if self.name.is_empty() {
            "coracle"
        } else {
            &self.name
        });
        let mut out = String::from("apiVersion: v1\nkind: Config\npreferences: {}\nclusters:\n");
        let mut line = |indent: usize, key: &str, value: &str| {
            if !value.is_empty() {
                let _ = writeln!(out, "{:indent$}{key}: {value}", "");
            }
        };
        let data = |pem: &str| {
            if pem.is_empty() {
                String::new()
            } else {
                BASE64.encode(pem)
            }
        };
        let optional = |text: &str| {
            if text.is_empty() {
                String::new()
            } else {
                quoted(text)
            }
        };
        line(0, "- name", &name);
        line(2, "cluster", " ");
        line(4, "server", &quoted(&self.server));
        line(4, "certificate-authority-data", &data(&self.ca_pem));
        line(4, "tls-server-name", &optional(&self.tls_server_name));
        line(0, "contexts", " ");
        line(0, "- name", &name);
        line(2, "context", " ");
        line(4, "cluster", &name);
        line(4, "user", &name);
        line(4, "namespace", &optional(&self.namespace));
        line(0, "current-context", &name);
        line(0, "users", " ");
        line(0, "- name", &name);
        let empty =
            self.client_cert_pem.is_empty() && self.client_key_pem.is_empty() && self.token.is_empty();
        line(2, "user", if empty { "{}" } else { " " });
        line(4, "client-certificate-data", &data(&self.client_cert_pem));
        line(4, "client-key-data", &data(&self.client_key_pem));
        line(4, "token", &optional(&self.token));
        out.replace(":  \n", ":\n")
    }

    /// Writes the file, readable by its owner only, in one step.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), KubeconfigError> {
        let written = base::files::replace(path, self.text().as_bytes(), 0o600, true);
        written.map_err(|error| KubeconfigError::Io {
            path: path.display().to_string(),
            error,
        })
    }

    /// What an [`HttpApi`](crate::HttpApi) needs.
    pub fn http_config(&self) -> HttpConfig {
        HttpConfig {
            server: self.server.clone(),
            ca_pem: self.ca_pem.clone(),
            credentials: Credentials {
                cert_pem: self.client_cert_pem.clone(),
                key_pem: self.client_key_pem.clone(),
                token: self.token.clone(),
            },
            server_name: self.tls_server_name.clone(),
            ..HttpConfig::default()
        }
    }
}

fn find<'a>(contexts: &'a [NamedContext], name: &str) -> Option<&'a NamedContext> {
    contexts.iter().find(|c| c.name == name)
}

fn text_of(path: &Path) -> Result<String, KubeconfigError> {
    std::fs::read_to_string(path).map_err(|error| KubeconfigError::Io {
        path: path.display().to_string(),
        error,
    })
}

fn either(data: &str, path: &str, folder: &Path) -> Result<String, KubeconfigError> {
    match (data, path) {
        ("", "") => Ok(String::new()),
        ("", path) => text_of(&folder.join(path)),
        (data, _) => {
            let bytes = BASE64
                .decode(data)
                .map_err(|e| KubeconfigError::Malformed(e.to_string()))?;
            String::from_utf8(bytes).map_err(|e| KubeconfigError::Malformed(e.to_string()))
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    contexts: Vec<NamedContext>,
    #[serde(default)]
    users: Vec<NamedUser>,
    #[serde(default)]
    current_context: String,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct Cluster {
    server: String,
    certificate_authority: String,
    certificate_authority_data: String,
    tls_server_name: String,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Deserialize, Default, Clone)]
#[serde(default)]
struct Context {
    cluster: String,
    user: String,
    namespace: String,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    #[serde(default)]
    user: UserEntry,
}

#[derive(Deserialize, Default, Clone)]
#[serde(rename_all = "kebab-case", default)]
struct UserEntry {
    client_certificate: String,
    client_certificate_data: String,
    client_key: String,
    client_key_data: String,
    token: String,
    #[serde(rename = "tokenFile")]
    token_file: String,
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let config = Kubeconfig {
            name: "edge".into(),
            server: "https://127.0.0.1:6443".into(),
            ca_pem: "-----BEGIN CERTIFICATE-----\nAA==\n".into(),
            client_cert_pem: "cert".into(),
            client_key_pem: "key".into(),
            namespace: "shop".into(),
            ..Kubeconfig::default()
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.kubeconfig");
        config.write(&path).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(Kubeconfig::read(&path).unwrap(), config);
        assert!(
            config
                .text()
                .contains("\nclusters:\n- name: \"edge\"\n  cluster:\n    server:"),
            "{}",
            config.text()
        );
    }

    #[test]
    fn files_beside_it_are_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.crt"), "CA").unwrap();
        std::fs::write(folder.path().join("token"), "secret\n").unwrap();
        let text = "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts:\n- name: c\n  context: {cluster: k, user: u}\n\
                    clusters:\n- name: k\n  cluster:\n    server: https://h:1\n    certificate-authority: ca.crt\n\
                    users:\n- name: u\n  user:\n    tokenFile: token\n";
        let config = Kubeconfig::parse(text, folder.path()).unwrap();
        assert_eq!((config.ca_pem.as_str(), config.token.as_str()), ("CA", "secret"));
        let Err(error) = Kubeconfig::parse("current-context: x", folder.path()) else {
            panic!("accepted")
        };
        assert_eq!(error.to_string(), "not a kubeconfig: there is no context \"x\"");
    }
}
