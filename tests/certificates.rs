//! Certificates by `certificates.k8s.io`: requests that openssl made, approved and denied with kubectl.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::rest::As;
use crate::support::said::said;
use crate::support::{Cluster, assert_has, eventually, sandboxed};

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const SERVING: &str = "kubernetes.io/kubelet-serving";
const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const OF_CLIENTS: [&str; 2] = ["digital signature", "client auth"];
const OF_SERVERS: [&str; 3] = ["digital signature", "key encipherment", "server auth"];

#[test]
fn certificates_are_asked_for_approved_and_used() {
    sandboxed(|dir| {
        let cluster = Cluster::start_as("server", dir.join("data"), &[]);
        let desk = Desk {
            cluster: &cluster,
            dir,
        };
        a_person_gets_one_and_uses_it(&desk);
        what_is_denied_is_never_signed(&desk);
        approving_needs_a_right_on_the_signer(&desk);
        nodes_get_some_to_serve_with(&desk);
        what_is_no_request_is_refused(&desk);
    });
}

/// Where certificates are asked for.
struct Desk<'a> {
    cluster: &'a Cluster,
    dir: &'a Path,
}

impl Desk<'_> {
    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A key `NAME.key` and a request `NAME.csr` for that subject (openssl's `-subj`), with what extensions the lines
    /// of a section of openssl's configuration name.
    fn request(&self, name: &str, subject: &str, extensions: &str) -> String {
        let config =
            format!("[req]\ndistinguished_name=dn\nreq_extensions=wishes\n[dn]\n[wishes]\n{extensions}\n");
        std::fs::write(self.file("req.cnf"), config).unwrap();
        let line = format!(
            "openssl req -new -newkey rsa:2048 -nodes -config req.cnf -subj '{subject}' -keyout {name}.key -out {name}.csr"
        );
        let done = Command::new("sh")
            .args(["-c", &line])
            .current_dir(self.dir)
            .output();
        said(done.expect("openssl")).expect("a request");
        std::fs::read_to_string(self.file(&format!("{name}.csr"))).unwrap()
    }

    /// The object that carries a request.
    fn object(&self, name: &str, pem: &str, signer: &str, usages: &[&str]) -> Value {
        json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"name": name},
            "spec": {"request": STANDARD.encode(pem), "signerName": signer, "usages": usages,
                "expirationSeconds": 7200}})
    }

    /// Asks for a certificate for that subject.
    fn ask(&self, name: &str, subject: &str, extensions: &str, signer: &str, usages: &[&str]) {
        let pem = self.request(name, subject, extensions);
        self.cluster
            .apply(&self.object(name, &pem, signer, usages).to_string());
    }

    /// Waits for the certificate and writes it to `NAME.crt`.
    fn fetch(&self, name: &str) -> PathBuf {
        let text = eventually("the certificate", || {
            match self
                .cluster
                .field(&format!("csr/{name}"), "{.status.certificate}")?
            {
                text if text.is_empty() => Err("there is none".to_owned()),
                text => Ok(text),
            }
        });
        let file = self.file(&format!("{name}.crt"));
        std::fs::write(&file, STANDARD.decode(text).unwrap()).unwrap();
        file
    }

    /// What openssl says of a certificate.
    fn shown(&self, certificate: &Path, args: &[&str]) -> String {
        let mut openssl = Command::new("openssl");
        let openssl = openssl
            .args(["x509", "-noout", "-in"])
            .arg(certificate)
            .args(args);
        said(openssl.output().expect("openssl")).expect("a certificate")
    }

    fn approve(&self, name: &str) {
        let said = self.cluster.ok(&["certificate", "approve", name]);
        assert_has(&said, &[name, "approved"]);
    }

    /// Waits until a request is in that state, as `kubectl get` shows it.
    fn until(&self, name: &str, state: &str) {
        eventually(&format!("{name} to be {state}"), || {
            let said = self.cluster.try_ok(&["get", "csr", name, "--no-headers"])?;
            match said.split_whitespace().next_back() {
                Some(found) if found == state => Ok(()),
                _ => Err(said),
            }
        });
    }
}

fn a_person_gets_one_and_uses_it(desk: &Desk) {
    let cluster = desk.cluster;
    let wishes = "subjectKeyIdentifier=hash\nnsComment=by hand\n1.2.3.4=ASN1:UTF8String:odd";
    desk.ask(
        "jane",
        "/O=dev/O=ops/OU=boats/CN=jane",
        wishes,
        CLIENT,
        &OF_CLIENTS,
    );
    let row = cluster.ok(&["get", "csr", "jane", "--no-headers"]);
    assert_has(&row, &[CLIENT, "kubernetes-admin", "120m", "Pending"]);
    desk.approve("jane");
    let certificate = desk.fetch("jane");
    desk.until("jane", "Approved,Issued");
    let subject = desk.shown(&certificate, &["-subject", "-nameopt", "compat"]);
    assert_has(&subject, &["O=dev", "O=ops", "OU=boats", "CN=jane"]);
    // Good for the two hours that were asked for, and no longer.
    desk.shown(&certificate, &["-checkend", "7000"]);
    let mut openssl = Command::new("openssl");
    let openssl = openssl
        .args(["x509", "-noout", "-checkend", "7300", "-in"])
        .arg(&certificate);
    assert!(
        !openssl.output().expect("openssl").status.success(),
        "it lasts longer"
    );

    let kubeconfig = desk.file("jane.kubeconfig");
    let kubeconfig = kubeconfig.to_str().unwrap();
    std::fs::copy(cluster.dir.join("admin.kubeconfig"), kubeconfig).unwrap();
    let own = |args: &[&str]| cluster.try_ok(&[&["--kubeconfig", kubeconfig], args].concat());
    let certificate = format!("--client-certificate={}", certificate.display());
    let key = format!("--client-key={}", desk.file("jane.key").display());
    own(&[
        "config",
        "set-credentials",
        "jane",
        &certificate,
        &key,
        "--embed-certs",
    ])
    .unwrap();
    own(&["config", "set-context", "--current", "--user=jane"]).unwrap();
    let me = own(&["auth", "whoami", "-o", "json"]).unwrap();
    let me: Value = serde_json::from_str(&me).unwrap();
    assert_eq!(me["status"]["userInfo"]["username"], "jane");
    let groups = &me["status"]["userInfo"]["groups"];
    assert_eq!(*groups, json!(["dev", "ops", "system:authenticated"]));
    assert_has(
        &own(&["get", "configmaps"]).unwrap_err(),
        &["Forbidden", "\"jane\""],
    );
    // Each of the groups counts.
    for group in ["dev", "ops"] {
        let subject = format!("--group={group}");
        cluster.ok(&["create", "rolebinding", "readers", "--clusterrole=view", &subject]);
        eventually("the group's rights", || own(&["get", "configmaps"]));
        cluster.ok(&["delete", "rolebinding", "readers"]);
        eventually("their end", || match own(&["get", "configmaps"]) {
            Ok(said) => Err(said),
            Err(_) => Ok(()),
        });
    }
}

fn what_is_denied_is_never_signed(desk: &Desk) {
    desk.ask("mallory", "/CN=mallory", "", CLIENT, &OF_CLIENTS);
    assert_has(
        &desk.cluster.ok(&["certificate", "deny", "mallory"]),
        &["mallory", "denied"],
    );
    desk.until("mallory", "Denied");
    let refused = desk.cluster.refused(&["certificate", "approve", "mallory"]);
    assert_has(&refused, &["already Denied"]);
    // A request that came later is signed by now: this one never will be.
    desk.ask("later", "/CN=later", "", CLIENT, &OF_CLIENTS);
    desk.approve("later");
    desk.fetch("later");
    assert_eq!(
        desk.cluster
            .field("csr/mallory", "{.status.certificate}")
            .unwrap(),
        ""
    );
}

fn approving_needs_a_right_on_the_signer(desk: &Desk) {
    let cluster = desk.cluster;
    let manifest = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "approver"}, "rules": [
            {"apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests"], "verbs": ["get", "list"]},
            {"apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests/approval"],
             "verbs": ["update"]}]});
    cluster.apply(&manifest.to_string());
    cluster.ok(&[
        "create",
        "clusterrolebinding",
        "approver",
        "--clusterrole=approver",
        "--user=eve",
    ]);
    desk.ask("bob", "/CN=bob", "", CLIENT, &OF_CLIENTS);
    let approve = || cluster.try_ok(&["certificate", "approve", "bob", "--as=eve"]);
    let denial = format!(
        "certificatesigningrequests.certificates.k8s.io \"bob\" is forbidden: user not permitted to approve requests \
         with signerName \"{CLIENT}\""
    );
    eventually("the plain right", || match approve() {
        Ok(said) => panic!("approved: {said}"),
        Err(why) => crate::support::has(&why, &[&denial]),
    });
    // A right on another signer is none on this one.
    let grant = |name: &str, signer: &str| {
        let rule = json!({"apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": [signer],
            "verbs": ["approve"]});
        let manifest = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": name}, "rules": [rule]});
        cluster.apply(&manifest.to_string());
        let role = format!("--clusterrole={name}");
        cluster.ok(&["create", "clusterrolebinding", name, &role, "--user=eve"]);
    };
    grant("serving-approver", SERVING);
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {"user": "eve",
        "resourceAttributes": {"group": "certificates.k8s.io", "resource": "signers", "verb": "approve",
            "name": SERVING}}});
    eventually("the right on the other signer", || {
        let answer = cluster.post(
            "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            &review.to_string(),
        );
        match answer.body["status"]["allowed"] == true {
            true => Ok(()),
            false => Err(answer.body.to_string()),
        }
    });
    assert_has(&approve().unwrap_err(), &[&denial]);
    grant("domain-approver", "kubernetes.io/*");
    eventually("the right on all of the domain's signers", approve);
    desk.fetch("bob");
}

fn nodes_get_some_to_serve_with(desk: &Desk) {
    let cluster = desk.cluster;
    let names = "subjectAltName=DNS:edge,IP:192.0.2.10";
    desk.ask(
        "serving",
        "/O=system:nodes/CN=system:node:edge",
        names,
        SERVING,
        &OF_SERVERS,
    );
    desk.approve("serving");
    let certificate = desk.fetch("serving");
    let names = desk.shown(&certificate, &["-ext", "subjectAltName,extendedKeyUsage"]);
    assert_has(
        &names,
        &[
            "DNS:edge",
            "IP Address:192.0.2.10",
            "TLS Web Server Authentication",
        ],
    );
    let authority = cluster.dir.join("pki/client-ca.crt");
    let mut openssl = Command::new("openssl");
    let openssl = openssl
        .args(["verify", "-purpose", "sslserver", "-CAfile"])
        .arg(authority);
    said(openssl.arg(&certificate).output().expect("openssl")).expect("a server's certificate");
    for (name, subject, why) in [
        (
            "nameless",
            "/O=system:nodes/CN=system:node:edge",
            "DNS or IP subjectAltName is required",
        ),
        (
            "foreign",
            "/O=system:nodes/O=dev/CN=system:node:edge",
            "subject organization is not system:nodes",
        ),
    ] {
        desk.ask(name, subject, "", SERVING, &OF_SERVERS);
        desk.approve(name);
        desk.until(name, "Approved,Failed");
        let said = cluster.field(
            &format!("csr/{name}"),
            "{.status.conditions[?(@.type=='Failed')].message}",
        );
        assert_has(&said.unwrap(), &[why]);
    }
}

fn what_is_no_request_is_refused(desk: &Desk) {
    let refused = |object: &Value, code: u16, reason: &str, words: &[&str]| {
        desk.cluster
            .post(REQUESTS, &object.to_string())
            .is(code, reason, words);
    };
    let good = desk.request("good", "/CN=good", "");
    let damaged = |change: &dyn Fn(&mut Vec<u8>)| {
        let text: String = good.lines().filter(|line| !line.starts_with("---")).collect();
        let mut der = STANDARD.decode(text).unwrap();
        change(&mut der);
        let text = STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n")
    };
    for (pem, why) in [
        (
            good.replace("REQUEST", "REVOCATION"),
            "PEM block type must be CERTIFICATE REQUEST",
        ),
        (damaged(&|der| der.truncate(100)), "asn1: "),
        (
            damaged(&|der| *der.last_mut().unwrap() ^= 1),
            "crypto/rsa: verification error",
        ),
    ] {
        let object = desk.object("bad", &pem, CLIENT, &OF_CLIENTS);
        refused(&object, 422, "Invalid", &["spec.request: Invalid value: ", why]);
    }
    let masters = desk.request("masters", "/O=dev/O=system:masters/O=ops/CN=eve", "");
    let object = desk.object("masters", &masters, CLIENT, &OF_CLIENTS);
    let why = "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed";
    refused(&object, 403, "Forbidden", &[why]);
    let nobody = desk.cluster.call(&As::Anonymous, "GET", REQUESTS, "", "");
    nobody.is(403, "Forbidden", &["cannot list resource"]);
}
