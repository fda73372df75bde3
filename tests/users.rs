//! Who is asking, by what others know: bootstrap tokens, issuers of tokens, a webhook, and nobody.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::PublicKeyData;
use serde_json::{Value, json};

use crate::support::rest::As;
use crate::support::running::Running;
use crate::support::{Cluster, assert_has, eventually, sandboxed, tools, webhook};

const ISSUER: &str = "https://127.0.0.1:9555";
const WHOAMI: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const QUESTION: &str = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}"#;

/// Who the holder of a token is; the code when nobody.
fn whoami(cluster: &Cluster, token: &str) -> Result<Value, u16> {
    let answer = cluster.call(&As::Token(token), "POST", WHOAMI, "application/json", QUESTION);
    match answer.code {
        201 => Ok(answer.body["status"]["userInfo"].clone()),
        code => Err(code),
    }
}

#[test]
fn bootstrap_tokens_introduce_machines_until_they_expire() {
    sandboxed(|dir| {
        let cluster = Cluster::start_as("server", dir.join("data"), &[]);
        let token = "abcdef.0123456789abcdef";
        assert_eq!(whoami(&cluster, token), Err(401));
        let secret = |expiration: &str| {
            json!({"apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
                "metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"},
                "stringData": {"token-id": "abcdef", "token-secret": "0123456789abcdef",
                    "expiration": expiration, "usage-bootstrap-authentication": "true",
                    "usage-bootstrap-signing": "true",
                    "auth-extra-groups": "system:bootstrappers:workers"}})
            .to_string()
        };
        cluster.apply(&secret("2999-01-01T00:00:00Z"));
        let user = eventually("the token", || {
            whoami(&cluster, token).map_err(|code| code.to_string())
        });
        assert_eq!(user["username"], "system:bootstrap:abcdef");
        assert_eq!(
            user["groups"],
            json!([
                "system:bootstrappers",
                "system:bootstrappers:workers",
                "system:authenticated"
            ])
        );
        assert_eq!(whoami(&cluster, "abcdef.0123456789abcdee"), Err(401));
        // It signs what the cluster says of itself.
        cluster.ok(&[
            "create",
            "configmap",
            "cluster-info",
            "-n",
            "kube-public",
            "--from-literal=kubeconfig=k",
        ]);
        let path = [
            "get",
            "configmap",
            "cluster-info",
            "-n",
            "kube-public",
            "-o",
            "jsonpath={.data}",
        ];
        eventually("the signature", || {
            crate::support::has(&cluster.try_ok(&path)?, &["jws-kubeconfig-abcdef"])
        });
        cluster.apply(&secret("2020-01-01T00:00:00Z"));
        eventually("the token's end", || match whoami(&cluster, token) {
            Err(401) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        eventually("the Secret's end", || {
            match cluster.try_ok(&["get", "secret", "bootstrap-token-abcdef", "-n", "kube-system"]) {
                Ok(said) => Err(said),
                Err(why) => crate::support::has(&why, &["NotFound"]),
            }
        });
    });
}

/// A key of the issuer.
struct Key {
    id: &'static str,
    pair: rcgen::KeyPair,
}

impl Key {
    fn new(id: &'static str) -> Self {
        let pair = rcgen::KeyPair::generate().expect("a key");
        Self { id, pair }
    }

    fn public(&self) -> Value {
        let point = self.pair.der_bytes();
        let half = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(&point[range]);
        json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.id,
            "x": half(1..33), "y": half(33..65)})
    }

    /// A token with claims of the issuer's, and more.
    fn token(&self, more: &Value) -> String {
        let mut claims = json!({"iss": ISSUER, "aud": "coracle", "sub": "jane", "exp": 32_503_680_000_i64});
        for (key, value) in more.as_object().expect("an object") {
            claims[key] = value.clone();
        }
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.id.to_owned());
        let key = EncodingKey::from_ec_pem(self.pair.serialize_pem().as_bytes()).expect("a key");
        jsonwebtoken::encode(&header, &claims, &key).expect("a token")
    }
}

fn issuer(dir: &Path) -> (Running, PathBuf) {
    let folder = dir.join("issuer");
    std::fs::create_dir_all(&folder).unwrap();
    let child = Command::new(tools::example("issuer"))
        .arg("127.0.0.1:9555")
        .arg(&folder)
        .arg("127.0.0.1")
        .stdin(Stdio::null())
        .spawn()
        .expect("the issuer");
    webhook::bundle(&folder);
    let discovery = json!({"issuer": ISSUER, "jwks_uri": format!("{ISSUER}/keys")});
    std::fs::write(folder.join("discovery"), discovery.to_string()).unwrap();
    (Running(child), folder)
}

#[test]
fn issuers_elsewhere_and_a_webhook_know_users() {
    sandboxed(|dir| {
        let (_issuer, folder) = issuer(dir);
        let authority = std::fs::read_to_string(folder.join("ca.crt")).unwrap();
        let (first, second) = (Key::new("first"), Key::new("second"));
        std::fs::write(folder.join("keys"), json!({"keys": [first.public()]}).to_string()).unwrap();
        std::fs::write(folder.join("token"), "a-token-of-old").unwrap();
        std::fs::write(folder.join("user"), r#"{"username": "olga", "groups": ["ops"]}"#).unwrap();

        let config = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
            "jwt": [{
                "issuer": {"url": ISSUER, "audiences": ["coracle"], "certificateAuthority": authority},
                "claimValidationRules": [{"expression": "!has(claims.tier) || claims.tier != 'trial'", "message": "no trials"}],
                "claimMappings": {
                    "username": {"expression": "'oidc:' + claims.sub"},
                    "groups": {"claim": "groups", "prefix": "oidc:"},
                },
                "userValidationRules": [{"expression": "!user.username.startsWith('system:')"}],
            }],
            "anonymous": {"enabled": true, "conditions": [{"path": "/livez"}, {"path": "/readyz"}, {"path": "/healthz"}]},
        });
        let file = dir.join("authentication.yaml");
        std::fs::write(&file, config.to_string()).unwrap();
        let hook = dir.join("webhook.yaml");
        let asked = webhook::leading_to(&format!("{ISSUER}/review"), &folder.join("ca.crt"));
        std::fs::write(&hook, asked).unwrap();
        let settings = [
            "--authentication-config",
            file.to_str().unwrap(),
            "--authentication-token-webhook-config-file",
            hook.to_str().unwrap(),
        ];
        let cluster = Cluster::start_as("server", dir.join("data"), &settings);

        let jane = whoami(&cluster, &first.token(&json!({"groups": ["dev"]}))).unwrap();
        assert_eq!(jane["username"], "oidc:jane");
        assert_eq!(jane["groups"], json!(["oidc:dev", "system:authenticated"]));
        for bad in [
            json!({"tier": "trial"}),
            json!({"aud": "somebody else"}),
            json!({"exp": 1_000_000}),
            json!({"iss": "https://127.0.0.1:9556"}),
        ] {
            assert_eq!(whoami(&cluster, &first.token(&bad)), Err(401), "{bad}");
        }
        // A key that is not known is asked for; one that was taken back is good no more.
        let renewed = second.token(&json!({}));
        assert_eq!(whoami(&cluster, &renewed), Err(401));
        std::fs::write(
            folder.join("keys"),
            json!({"keys": [second.public()]}).to_string(),
        )
        .unwrap();
        eventually("the new key", || {
            whoami(&cluster, &renewed).map_err(|code| code.to_string())
        });
        assert_eq!(whoami(&cluster, &first.token(&json!({}))), Err(401));

        let olga = whoami(&cluster, "a-token-of-old").unwrap();
        assert_eq!(
            (&olga["username"], &olga["groups"][0]),
            (&json!("olga"), &json!("ops"))
        );
        assert_eq!(whoami(&cluster, "a-token-of-nobody"), Err(401));
        let asked = || {
            std::fs::read_to_string(folder.join("requests"))
                .unwrap()
                .matches("/review")
                .count()
        };
        let before = asked();
        whoami(&cluster, "a-token-of-old").unwrap();
        assert_eq!(asked(), before, "what was answered is remembered for a while");
        reviewed(&cluster, &renewed);

        assert_eq!(cluster.call(&As::Anonymous, "GET", "/livez", "", "").code, 200);
        assert_eq!(cluster.call(&As::Anonymous, "GET", "/version", "", "").code, 401);

        // What the file says now holds without a restart; nonsense changes nothing.
        let mut other = config;
        other["anonymous"]["conditions"] = json!([{"path": "/version"}]);
        other["jwt"][0]["claimMappings"]["username"]["expression"] = "'renamed:' + claims.sub".into();
        std::fs::write(&file, other.to_string()).unwrap();
        eventually("the other file", || {
            match cluster.call(&As::Anonymous, "GET", "/version", "", "").code {
                200 => Ok(()),
                code => Err(code.to_string()),
            }
        });
        assert_eq!(cluster.call(&As::Anonymous, "GET", "/healthz", "", "").code, 401);
        assert_eq!(whoami(&cluster, &renewed).unwrap()["username"], "renamed:jane");
        std::fs::write(&file, "nonsense").unwrap();
        eventually("the refusal of nonsense", || {
            let failures =
                "apiserver_authentication_config_controller_automatic_reloads_total{status=\"failure\"} 1";
            crate::support::has(&cluster.try_ok(&["get", "--raw", "/metrics"])?, &[failures])
        });
        assert_eq!(whoami(&cluster, &renewed).unwrap()["username"], "renamed:jane");
    });
}

#[test]
fn an_issuer_is_named_by_settings() {
    sandboxed(|dir| {
        let (_issuer, folder) = issuer(dir);
        let key = Key::new("first");
        std::fs::write(folder.join("keys"), json!({"keys": [key.public()]}).to_string()).unwrap();
        let authority = folder.join("ca.crt");
        let settings = [
            "--oidc-issuer-url",
            ISSUER,
            "--oidc-client-id",
            "coracle",
            "--oidc-groups-claim",
            "groups",
            "--oidc-groups-prefix",
            "oidc:",
            "--oidc-required-claim",
            "tier=gold",
            "--oidc-ca-file",
            authority.to_str().unwrap(),
        ];
        let cluster = Cluster::start_as("server", dir.join("data"), &settings);
        let jane = whoami(&cluster, &key.token(&json!({"tier": "gold", "groups": ["dev"]}))).unwrap();
        assert_eq!(jane["username"], format!("{ISSUER}#jane"));
        assert_eq!(jane["groups"], json!(["oidc:dev", "system:authenticated"]));
        assert_eq!(whoami(&cluster, &key.token(&json!({"tier": "trial"}))), Err(401));
        // Who is refused before their body was read is told so, however large it is.
        let large = "x".repeat(2_000_000);
        let refused = cluster.call(&As::Token("wrong"), "POST", WHOAMI, "application/json", &large);
        refused.is(401, "Unauthorized", &["Unauthorized"]);
    });
}

/// Others may ask whose a token is.
fn reviewed(cluster: &Cluster, token: &str) {
    let review =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
    let answer = cluster.post("/apis/authentication.k8s.io/v1/tokenreviews", &review.to_string());
    assert_eq!(
        answer.body["status"]["user"]["username"], "oidc:jane",
        "{answer:?}"
    );
    let other = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token, "audiences": ["vault"]}});
    let answer = cluster.post("/apis/authentication.k8s.io/v1/tokenreviews", &other.to_string());
    assert!(answer.body["status"]["authenticated"].is_null(), "{answer:?}");
    assert_has(
        answer.body["status"]["error"].as_str().unwrap_or_default(),
        &["audiences"],
    );
}
