//! Somebody elsewhere says whether users may.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::rest::As;
use crate::support::running::Running;
use crate::support::{Cluster, assert_has, eventually, has, sandboxed, tools, webhook};

const PLACE: &str = "127.0.0.1:9556";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";

/// The one who is asked, where it notes what it is asked, and the file that leads to it.
struct Judge {
    server: Running,
    folder: PathBuf,
    leads: PathBuf,
}

impl Judge {
    fn start(dir: &Path) -> Self {
        let folder = dir.join("judge");
        std::fs::create_dir_all(&folder).unwrap();
        let child = Command::new(tools::example("issuer"))
            .arg(PLACE)
            .arg(&folder)
            .arg("127.0.0.1")
            .stdin(Stdio::null())
            .spawn()
            .expect("the judge");
        webhook::bundle(&folder);
        let leads = dir.join("judge.kubeconfig");
        let url = format!("https://{PLACE}/authorize");
        std::fs::write(&leads, webhook::leading_to(&url, &folder.join("ca.crt"))).unwrap();
        let judge = Self {
            server: Running(child),
            folder,
            leads,
        };
        judge.says(&json!({}));
        judge
    }

    fn says(&self, verdicts: &Value) {
        std::fs::write(self.folder.join("verdicts"), verdicts.to_string()).unwrap();
    }

    fn asked(&self) -> usize {
        let text = std::fs::read_to_string(self.folder.join("requests")).unwrap_or_default();
        text.matches("/authorize").count()
    }

    /// A configuration in which it is asked first about what lies in `default`, then the server's own.
    fn first(&self) -> Value {
        let conditions = json!([
            {"expression": "has(request.resourceAttributes)"},
            {"expression": "has(request.resourceAttributes.namespace) && request.resourceAttributes.namespace == 'default'"},
        ]);
        json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration", "authorizers": [
            {"type": "Webhook", "name": "judge", "webhook": {"authorizedTTL": "10m", "unauthorizedTTL": "10m",
                "timeout": "5s", "subjectAccessReviewVersion": "v1", "failurePolicy": "Deny",
                "matchConditionSubjectAccessReviewVersion": "v1", "matchConditions": conditions,
                "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": self.leads}}},
            {"type": "Node", "name": "node"},
            {"type": "RBAC", "name": "rbac"},
        ]})
    }
}

fn get(cluster: &Cluster, token: &str, path: &str) -> crate::support::rest::Answer {
    cluster.call(&As::Token(token), "GET", path, "", "")
}

#[test]
fn a_webhook_allows_denies_or_leaves_it_to_roles() {
    sandboxed(|dir| {
        let judge = Judge::start(dir);
        judge.says(&json!({
            "system:serviceaccount:default:jane list configmaps": "allow",
            "system:serviceaccount:default:bob list secrets": "deny",
        }));
        let file = dir.join("authorization.yaml");
        std::fs::write(&file, judge.first().to_string()).unwrap();
        let settings = ["--authorization-config", file.to_str().unwrap()];
        let cluster = Cluster::start_as("server", dir.join("data"), &settings);
        let (jane, bob) = (cluster.account("jane"), cluster.editor("bob"));

        // Jane has no role: it is the judge who lets her. Bob has one, which the judge's no overrules.
        assert_eq!(get(&cluster, &jane, MAPS).code, 200);
        get(&cluster, &jane, SECRETS).is(403, "Forbidden", &["cannot list resource \"secrets\""]);
        get(&cluster, &bob, SECRETS).is(
            403,
            "Forbidden",
            &["cannot list resource \"secrets\"", "not today"],
        );
        assert_eq!(get(&cluster, &bob, MAPS).code, 200);
        // Watches, and questions about others, go the same way.
        let can = |what: &[&str], who: &str| {
            let who = format!("--as=system:serviceaccount:default:{who}");
            cluster.run_both(&[&["auth", "can-i"], what, &[&who]].concat())
        };
        assert_has(&can(&["list", "configmaps"], "jane"), &["yes"]);
        assert_has(&can(&["list", "secrets"], "bob"), &["no"]);
        // What was answered is remembered; what is none of its business is not asked.
        let before = judge.asked();
        assert_eq!(get(&cluster, &jane, MAPS).code, 200);
        assert_eq!(
            get(&cluster, &bob, "/api/v1/namespaces/kube-system/secrets").code,
            403
        );
        assert_eq!(get(&cluster, &bob, "/version").code, 200);
        assert_eq!(judge.asked(), before);

        // Without it, roles alone decide; the file is read while the server runs.
        let mut alone = judge.first();
        alone["authorizers"].as_array_mut().unwrap().remove(0);
        std::fs::write(&file, alone.to_string()).unwrap();
        eventually("roles alone", || match get(&cluster, &jane, MAPS).code {
            403 => Ok(()),
            code => Err(code.to_string()),
        });
        assert_eq!(get(&cluster, &bob, SECRETS).code, 200);
        std::fs::write(&file, alone.to_string().replace("RBAC", "ABAC")).unwrap();
        eventually("the refusal of nonsense", || {
            let failures =
                "apiserver_authorization_config_controller_automatic_reloads_total{status=\"failure\"} 1";
            has(&cluster.try_ok(&["get", "--raw", "/metrics"])?, &[failures])
        });
        assert_eq!(get(&cluster, &bob, SECRETS).code, 200);

        // One who cannot be asked, and whose silence means no, is an error and not an answer.
        std::fs::write(&file, judge.first().to_string()).unwrap();
        eventually("the judge again", || match get(&cluster, &jane, MAPS).code {
            200 => Ok(()),
            code => Err(code.to_string()),
        });
        let folder = judge.folder.clone();
        drop(judge.server);
        assert!(folder.exists());
        assert_eq!(get(&cluster, &jane, MAPS).code, 200, "it is remembered");
        let lost = get(&cluster, &bob, "/api/v1/namespaces/default/pods");
        lost.is(500, "InternalError", &["connection refused"]);
        // Those who may do everything go on.
        cluster.ok(&["get", "pods"]);
    });
}

/// Refuses ConfigMaps of those who may not bless them.
fn only_blessed(cluster: &Cluster) {
    let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]});
    let asks = "authorizer.group('').resource('configmaps').namespace('default').check('bless').allowed()";
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "blessed"}, "spec": {"matchConstraints": {"resourceRules": [rule]},
            "matchConditions": [{"name": "these", "expression": "object.metadata.name.startsWith('b-')"}],
            "validations": [{"expression": asks, "message": "not blessed"}]}});
    cluster.apply(&policy.to_string());
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "blessed"}, "spec": {"policyName": "blessed", "validationActions": ["Deny"]}});
    cluster.apply(&binding.to_string());
}

#[test]
fn expressions_wait_for_the_webhook() {
    sandboxed(|dir| {
        let judge = Judge::start(dir);
        judge.says(&json!({
            "system:serviceaccount:default:jane create configmaps": "allow",
            "system:serviceaccount:default:jane bless configmaps": "allow",
        }));
        let file = dir.join("authorization.yaml");
        std::fs::write(&file, judge.first().to_string()).unwrap();
        let settings = ["--authorization-config", file.to_str().unwrap()];
        let cluster = Cluster::start_as("server", dir.join("data"), &settings);
        let (jane, bob) = (cluster.account("jane"), cluster.editor("bob"));
        only_blessed(&cluster);
        let make = |token: &str, name: &str| {
            let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
            let (of, body) = (As::Token(token), map.to_string());
            cluster.call(&of, "POST", MAPS, "application/json", &body)
        };
        let mut tries = 0;
        eventually("the policy", || {
            tries += 1;
            let answer = make(&bob, &format!("b-{tries}"));
            match answer.code {
                422 => has(&answer.body.to_string(), &["not blessed"]),
                code => Err(code.to_string()),
            }
        });
        // Nobody has asked about Jane before: what the expression needs to know is asked for.
        let asked = judge.asked();
        assert_eq!(make(&jane, "b-of-jane").code, 201);
        assert_eq!(
            judge.asked(),
            asked + 2,
            "whether she may create, and whether she may bless"
        );
        let metrics = cluster.ok(&["get", "--raw", "/metrics"]);
        assert_has(
            &metrics,
            &[
                "apiserver_authorization_decisions_total{type=\"Webhook\",name=\"judge\",decision=\"allowed\"} 2",
                "apiserver_authorization_webhook_evaluations_total{name=\"judge\",result=\"success\"}",
                "authentication_attempts{result=\"success\"}",
            ],
        );
        // Who asks for the rules that they have is told that there may be others.
        let rules = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": "default"}});
        let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
        let review = cluster.call(
            &As::Token(&jane),
            "POST",
            path,
            "application/json",
            &rules.to_string(),
        );
        let status = &review.body["status"];
        assert_eq!(
            (&status["incomplete"], &status["evaluationError"]),
            (
                &json!(true),
                &json!("webhook authorizer does not support user rule resolution")
            )
        );
    });
}

#[test]
fn modes_are_named_by_settings() {
    sandboxed(|dir| {
        let judge = Judge::start(dir);
        judge.says(&json!({"system:serviceaccount:default:jane list configmaps": "allow"}));
        let settings = [
            "--authorization-mode",
            "Node,RBAC,Webhook",
            "--authorization-webhook-config-file",
            judge.leads.to_str().unwrap(),
            "--authorization-webhook-cache-authorized-ttl",
            "1",
        ];
        let cluster = Cluster::start_as("server", dir.join("data"), &settings);
        let (jane, bob) = (cluster.account("jane"), cluster.editor("bob"));
        assert_eq!(get(&cluster, &jane, MAPS).code, 200);
        // Whom a role lets in, nobody asks about.
        let before = judge.asked();
        assert_eq!(get(&cluster, &bob, MAPS).code, 200);
        assert_eq!(judge.asked(), before);
        judge.says(&json!({}));
        eventually("the end of what was remembered", || {
            match get(&cluster, &jane, MAPS).code {
                403 => Ok(()),
                code => Err(code.to_string()),
            }
        });
        // Nobody answers, and that is no opinion: the refusal says what went wrong.
        drop(judge.server);
        assert_eq!(get(&cluster, &bob, MAPS).code, 200);
    });
}

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
/// A signer that this cluster knows nothing of.
const SIGNER: &str = "example.com/boats";

/// A request for a certificate, and one as somebody might sign it, both in base64.
fn boat(dir: &Path) -> [String; 2] {
    let line = "openssl req -new -newkey rsa:2048 -nodes -subj /CN=boat -keyout boat.key -out boat.csr && \
                openssl req -x509 -key boat.key -subj /CN=boat -days 1 -out boat.crt";
    let done = Command::new("sh").args(["-c", line]).current_dir(dir).output();
    crate::support::said::said(done.expect("openssl")).expect("a request");
    ["boat.csr", "boat.crt"].map(|name| STANDARD.encode(std::fs::read(dir.join(name)).expect(name)))
}

/// Changes part of the request `boat`, as the holder of a token.
fn change(
    cluster: &Cluster,
    token: &str,
    part: &str,
    by: impl FnOnce(&mut Value),
) -> crate::support::rest::Answer {
    let path = format!("{REQUESTS}/boat");
    let mut object = cluster.call(&As::Admin, "GET", &path, "", "").body;
    by(&mut object["status"]);
    let (path, body) = (format!("{path}/{part}"), object.to_string());
    cluster.call(&As::Token(token), "PUT", &path, "application/json", &body)
}

#[test]
fn certificates_are_approved_and_signed_by_whom_the_webhook_lets() {
    sandboxed(|dir| {
        let judge = Judge::start(dir);
        let may = |who: &str, what: &str| {
            (
                format!("system:serviceaccount:default:{who} {what}"),
                json!("allow"),
            )
        };
        let verdicts = [
            may("jane", "update certificatesigningrequests"),
            may("jane", "approve signers"),
            may("bob", "update certificatesigningrequests"),
            may("bob", "sign signers"),
        ];
        judge.says(&Value::Object(verdicts.into_iter().collect()));
        let file = dir.join("authorization.yaml");
        let mut asked_always = judge.first();
        asked_always["authorizers"][0]["webhook"]["matchConditions"] = json!([]);
        std::fs::write(&file, asked_always.to_string()).unwrap();
        let settings = ["--authorization-config", file.to_str().unwrap()];
        let cluster = Cluster::start_as("server", dir.join("data"), &settings);
        let (jane, bob) = (cluster.account("jane"), cluster.account("bob"));
        let [request, certificate] = boat(dir);
        let object = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"name": "boat"}, "spec": {"request": request, "signerName": SIGNER,
            "usages": ["digital signature", "client auth"]}});
        cluster.apply(&object.to_string());

        let approve = |status: &mut Value| {
            status["conditions"] = json!([{"type": "Approved", "status": "True", "reason": "Seaworthy",
                "message": "it floats"}]);
        };
        // Both may change the request; the rest is decided while it is admitted.
        let denied = format!("user not permitted to approve requests with signerName \"{SIGNER}\"");
        change(&cluster, &bob, "approval", approve).is(403, "Forbidden", &[&denied]);
        let asked = judge.asked();
        let approved = change(&cluster, &jane, "approval", approve);
        assert_eq!(approved.code, 200, "{}", approved.body);
        // Whether she may change it, and whether she may approve for the signer, or for all of its domain.
        assert!(
            judge.asked() >= asked + 2,
            "it was asked {}",
            judge.asked() - asked
        );

        let sign = |status: &mut Value| status["certificate"] = certificate.clone().into();
        let denied = format!("user not permitted to sign requests with signerName \"{SIGNER}\"");
        change(&cluster, &jane, "status", sign).is(403, "Forbidden", &[&denied]);
        let signed = change(&cluster, &bob, "status", sign);
        assert_eq!(signed.code, 200, "{}", signed.body);
        cluster.until("csr/boat", "{.status.certificate}", &certificate);
    });
}
