//! The kubeconfig file: how kubectl and our own commands find a server and prove who they are.

use std::fmt::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use crate::http::HttpConfig;
use crate::tls::Credentials;

/// Another server of the cluster that a kubeconfig's current context leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// Name of its context, and of its cluster when written.
    pub name: String,
    /// Its URL.
    pub server: String,
}

/// What a kubeconfig's current context says, and what leads to the same cluster besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kubeconfig {
    /// Name of the cluster, the context and the user, when written.
    pub name: String,
    /// The server's URL, such as `https://10.0.0.5:6443`.
    pub server: String,
    /// The cluster's other servers: contexts of the same user whose clusters have the same authority. Other clients
    /// take only the current one, unless told otherwise.
    pub others: Vec<Other>,
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
        let cluster = file
            .cluster(&context.cluster)
            .ok_or_else(|| missing("cluster", &context.cluster))?;
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
            others: file.others(&context, cluster),
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
        let name = match self.name.as_str() {
            "" => "coracle",
            name => name,
        };
        let own = std::iter::once((name, &self.server));
        let all = own.chain(
            self.others
                .iter()
                .map(|other| (other.name.as_str(), &other.server)),
        );
        let mut out = Lines(String::from(
            "apiVersion: v1\nkind: Config\npreferences: {}\nclusters:\n",
        ));
        for (name, server) in all.clone() {
            out.line(0, "- name", &quoted(name));
            out.line(2, "cluster", " ");
            out.line(4, "server", &quoted(server));
            out.line(4, "certificate-authority-data", &encoded(&self.ca_pem));
            out.line(4, "tls-server-name", &quoted(&self.tls_server_name));
        }
        out.line(0, "contexts", " ");
        for (context, _) in all {
            out.line(0, "- name", &quoted(context));
            out.line(2, "context", " ");
            out.line(4, "cluster", &quoted(context));
            out.line(4, "user", &quoted(name));
            out.line(4, "namespace", &quoted(&self.namespace));
        }
        out.line(0, "current-context", &quoted(name));
        out.line(0, "users", " ");
        out.line(0, "- name", &quoted(name));
        let empty =
            self.client_cert_pem.is_empty() && self.client_key_pem.is_empty() && self.token.is_empty();
        out.line(2, "user", if empty { "{}" } else { " " });
        out.line(4, "client-certificate-data", &encoded(&self.client_cert_pem));
        out.line(4, "client-key-data", &encoded(&self.client_key_pem));
        out.line(4, "token", &quoted(&self.token));
        out.0.replace(":  \n", ":\n")
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
            others: self.others.iter().map(|other| other.server.clone()).collect(),
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

/// YAML, line by line; what has no value is left out.
struct Lines(String);

impl Lines {
    fn line(&mut self, indent: usize, key: &str, value: &str) {
        if !value.is_empty() {
            let _ = writeln!(self.0, "{:indent$}{key}: {value}", "");
        }
    }
}

fn quoted(text: &str) -> String {
    match text {
        "" => String::new(),
        text => serde_json::Value::from(text).to_string(),
    }
}

fn encoded(pem: &str) -> String {
    BASE64.encode(pem)
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

impl File {
    fn cluster(&self, name: &str) -> Option<&Cluster> {
        let found = self.clusters.iter().find(|cluster| cluster.name == name);
        found.map(|found| &found.cluster)
    }

    /// The other servers that `context`, which leads to `cluster`, might as well lead to.
    fn others(&self, context: &Context, cluster: &Cluster) -> Vec<Other> {
        let mut others: Vec<Other> = Vec::new();
        let same_user = self
            .contexts
            .iter()
            .filter(|named| named.context.user == context.user);
        for named in same_user {
            let Some(other) = self.cluster(&named.context.cluster) else {
                continue;
            };
            let known = other.server == cluster.server || others.iter().any(|o| o.server == other.server);
            if !known && other.trusts_as(cluster) {
                others.push(Other {
                    name: named.name.clone(),
                    server: other.server.clone(),
                });
            }
        }
        others
    }
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

impl Cluster {
    /// Whether both have the same authority of their own. What the system's authorities vouch for may be anybody.
    fn trusts_as(&self, other: &Self) -> bool {
        let authority = |cluster: &Self| {
            (
                cluster.certificate_authority.clone(),
                cluster.certificate_authority_data.clone(),
            )
        };
        authority(self) == authority(other)
            && authority(self) != Default::default()
            && self.tls_server_name == other.tls_server_name
    }
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
            others: vec![Other {
                name: "edge-two".into(),
                server: "https://127.0.0.2:6443".into(),
            }],
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
    fn another_cluster_or_another_user_is_no_other_server() {
        let text = "current-context: a\nusers: []\nclusters:\n\
                    - {name: a, cluster: {server: 'https://a', certificate-authority-data: eA==}}\n\
                    - {name: b, cluster: {server: 'https://b', certificate-authority-data: eA==}}\n\
                    - {name: c, cluster: {server: 'https://c', certificate-authority-data: eQ==}}\n\
                    - {name: d, cluster: {server: 'https://d', certificate-authority-data: eA==, tls-server-name: d}}\n\
                    contexts:\n\
                    - {name: a, context: {cluster: a, user: me}}\n- {name: a2, context: {cluster: a, user: me}}\n\
                    - {name: b, context: {cluster: b, user: me}}\n- {name: b2, context: {cluster: b, user: me}}\n\
                    - {name: c, context: {cluster: c, user: me}}\n- {name: d, context: {cluster: d, user: me}}\n\
                    - {name: e, context: {cluster: gone, user: me}}\n- {name: f, context: {cluster: b, user: you}}\n";
        let config = Kubeconfig::parse(text, Path::new(".")).unwrap();
        let b = Other {
            name: "b".into(),
            server: "https://b".into(),
        };
        assert_eq!(config.others, [b]);
        assert_eq!(config.http_config().others, ["https://b"]);
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
