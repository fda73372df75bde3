//! Registries of all sorts, and what is published in them.

use base64::Engine as _;
use hostile_registry::{Fault, Hostile};

use crate::support::images::{busybox_archive, spin_archive};
use crate::support::registry::{self, Registry};
use crate::support::{Cluster, assert_has, eventually, sandboxed, tools};

/// A pod that runs `true`, with more of its spec.
fn true_pod(name: &str, image: &str, more: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{restartPolicy: Never{more}, \
         containers: [{{name: main, image: \"{image}\", imagePullPolicy: Always, command: [\"true\"]}}]}}}}"
    )
}

#[test]
fn a_spin_application_runs_from_a_registry() {
    sandboxed(|dir| {
        let registry = Registry::start(dir);
        let cluster = Cluster::start(dir, &[]);
        let archive = spin_archive(dir, "demo:1", &tools::guest("hello-http.wasm"), "*://*:*");
        let image = registry.push(&archive, "apps/demo:1");
        cluster.ok(&["run", "demo", &format!("--image={image}"), "--port=8080"]);
        cluster.pod_ready("demo");
        assert_has(&cluster.image(&["list"]).unwrap(), &["apps/demo:1", "app"]);
        let url = format!("http://{}:8080", cluster.pod_ip("demo"));
        let get = |path: &str| eventually(path, || cluster.curl(&format!("{url}{path}")));
        assert_eq!(get("/env/COLOUR"), "open");
        assert_has(&get("/closed"), &["hello from closed: /closed"]);
        assert_has(&get("/deep/below"), &["hello from open: /deep/below"]);
        assert_eq!(get("/file?path=/page.txt"), "a static page of more than nothing");
        // Only the other component may connect anywhere.
        let refused = cluster
            .curl(&format!("{url}/fetch?url={url}/env/COLOUR"))
            .unwrap_err();
        assert!(!refused.is_empty());
    });
}

#[test]
fn a_private_registry_asks_for_credentials_and_shows_a_certificate_of_its_own() {
    sandboxed(|dir| {
        let registry = Registry::private(dir, "127.0.0.1:5443");
        let trust = trusting(dir, &registry);
        let cluster = Cluster::start(dir, &["--registry-config", trust.to_str().unwrap()]);
        let image = format!("{}/team/busybox:1", registry.address);
        let archive = busybox_archive(dir, "busybox:1");
        registry::copy_with(
            &archive,
            &format!("docker://{image}"),
            &["--dest-creds", "edge:secret"],
        );

        cluster.apply(&true_pod("nobody", &image, ""));
        cluster.event(
            "nobody",
            "Failed",
            &["pull access denied, repository does not exist or may require authorization"],
        );
        cluster.event("nobody", "Failed", &["Error: ErrImagePull"]);
        let waiting = "{.status.containerStatuses[0].state.waiting.reason}";
        cluster.until("pod/nobody", waiting, "ImagePullBackOff");

        for (name, password) in [("wrong", "guess"), ("right", "secret")] {
            let server = format!("--docker-server={}", registry.address);
            let password = format!("--docker-password={password}");
            cluster.ok(&[
                "create",
                "secret",
                "docker-registry",
                name,
                &server,
                "--docker-username=edge",
                &password,
            ]);
        }
        cluster.apply(&true_pod("guess", &image, ", imagePullSecrets: [{name: wrong}]"));
        cluster.event("guess", "Failed", &["pull access denied"]);
        cluster.apply(&true_pod(
            "both",
            &image,
            ", imagePullSecrets: [{name: wrong}, {name: right}]",
        ));
        assert_eq!(cluster.finished("both"), "Succeeded");
        cluster.apply(&true_pod(
            "absent",
            &image,
            ", imagePullSecrets: [{name: missing}]",
        ));
        cluster.event("absent", "FailedToRetrieveImagePullSecret", &["(missing)"]);

        // By the service account, for a pod that names no secret.
        let patch = r#"{"imagePullSecrets": [{"name": "right"}]}"#;
        cluster.ok(&["patch", "serviceaccount", "default", "-p", patch]);
        cluster.apply(&true_pod("account", &image, ""));
        assert_eq!(cluster.finished("account"), "Succeeded");
    });
}

#[test]
fn a_pulled_image_is_for_those_who_could_pull_it() {
    sandboxed(|dir| {
        let registry = Registry::private(dir, "127.0.0.1:5446");
        let trust = trusting(dir, &registry);
        let mut cluster = Cluster::start(dir, &["--registry-config", trust.to_str().unwrap()]);
        let image = format!("{}/team/busybox:1", registry.address);
        let archive = busybox_archive(dir, "busybox:1");
        let target = format!("docker://{image}");
        registry::copy_with(&archive, &target, &["--dest-creds", "edge:secret"]);
        for name in ["mine", "same"] {
            let server = format!("--docker-server={}", registry.address);
            let user = ["--docker-username=edge", "--docker-password=secret"];
            cluster.ok(&[&["create", "secret", "docker-registry", name, &server], &user[..]].concat());
        }
        let run = |cluster: &Cluster, name: &str, policy: &str, secret: &str| {
            let secrets = match secret {
                "" => String::new(),
                secret => format!(", imagePullSecrets: [{{name: {secret}}}]"),
            };
            cluster.apply(&true_pod(name, &image, &secrets).replace("Always", policy));
        };
        run(&cluster, "first", "IfNotPresent", "mine");
        assert_eq!(cluster.finished("first"), "Succeeded");
        // It is here now, but not for everybody; and that it is here is nobody else's business.
        run(&cluster, "nobody", "IfNotPresent", "");
        cluster.event("nobody", "Failed", &["pull access denied"]);
        run(&cluster, "never", "Never", "");
        let told = "is not present with pull policy of Never";
        cluster.event("never", "ErrImageNeverPull", &[told]);
        // Who has what it was pulled with needs no registry, nor who has the same by another name, nor after a restart.
        drop(registry);
        let present = "already present on machine and can be accessed by the pod";
        let used = |cluster: &Cluster, name: &str, policy: &str, secret: &str| {
            run(cluster, name, policy, secret);
            assert_eq!(cluster.finished(name), "Succeeded");
            cluster.event(name, "Pulled", &[present]);
        };
        used(&cluster, "again", "IfNotPresent", "mine");
        used(&cluster, "other", "Never", "same");
        cluster.stop();
        cluster.relaunch();
        cluster.ready();
        used(&cluster, "later", "IfNotPresent", "same");
        // What is no longer there shows nothing.
        cluster.ok(&["delete", "secret", "same"]);
        run(&cluster, "without", "Never", "same");
        cluster.event("without", "ErrImageNeverPull", &[told]);
    });
}

/// A credential provider plugin in shell that notes what it is asked and says that.
fn plugin(dir: &std::path::Path, name: &str, says: &str) {
    use std::os::unix::fs::PermissionsExt;
    let (path, calls) = (dir.join(name), dir.join(format!("{name}.calls")));
    let text = format!(
        "#!/bin/sh\n{{ cat; echo \" $*\"; }} >> {}\n{says}\n",
        calls.display()
    );
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// What such a plugin was asked, a line for each time.
fn asked(dir: &std::path::Path, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join(format!("{name}.calls"))).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// An answer in shell: a user's password at a place.
fn says(place: &str, password: &str) -> String {
    format!(
        "echo '{{\"kind\": \"CredentialProviderResponse\", \"apiVersion\": \
         \"credentialprovider.kubelet.k8s.io/v1\", \"cacheKeyType\": \"Registry\", \"cacheDuration\": \"1h\", \
         \"auth\": {{\"{place}\": {{\"username\": \"edge\", \"password\": \"{password}\"}}}}}}'"
    )
}

/// A file that lets a node trust the registry's certificate.
fn trusting(dir: &std::path::Path, registry: &Registry) -> std::path::PathBuf {
    let file = dir.join("registries.yaml");
    let text = format!(
        "configs:\n  \"{}\":\n    tls: {{ca_file: {}}}\n",
        registry.address,
        dir.join("ca.pem").display()
    );
    std::fs::write(&file, text).unwrap();
    file
}

/// The settings of a node that asks the programs in `dir`.
fn asking<'a>(
    dir: &'a std::path::Path,
    trust: &'a std::path::Path,
    config: &'a std::path::Path,
) -> [&'a str; 6] {
    [
        "--registry-config",
        trust.to_str().unwrap(),
        "--image-credential-provider-config",
        config.to_str().unwrap(),
        "--image-credential-provider-bin-dir",
        dir.to_str().unwrap(),
    ]
}

#[test]
fn programs_of_the_machine_know_credentials() {
    sandboxed(|dir| {
        let registry = Registry::private(dir, "127.0.0.1:5444");
        let archive = busybox_archive(dir, "busybox:1");
        let image = |name: &str| format!("{}/{name}", registry.address);
        for name in ["team/busybox:1", "team/tools:1", "other/busybox:1"] {
            let target = format!("docker://{}", image(name));
            registry::copy_with(&archive, &target, &["--dest-creds", "edge:secret"]);
        }
        let trust = trusting(dir, &registry);
        let team = format!("{}/team", registry.address);
        plugin(dir, "broken", "echo hidden >&2; exit 3");
        plugin(dir, "stale", &says(&team, "old"));
        plugin(dir, "good", &says(&team, "secret"));
        plugin(dir, "elsewhere", &says("elsewhere.example.com", "secret"));
        let provider = |name: &str, place: &str| {
            format!(
                "- name: {name}\n  matchImages: [\"{place}\"]\n  defaultCacheDuration: 0s\n  \
                 apiVersion: credentialprovider.kubelet.k8s.io/v1\n  args: [get, credentials]\n"
            )
        };
        let config = dir.join("providers.yaml");
        let text = [
            "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n".to_owned(),
            provider("broken", &registry.address),
            provider("stale", &registry.address),
            provider("good", "127.*.0.1:5444"),
            provider("elsewhere", "elsewhere.example.com"),
        ];
        std::fs::write(&config, text.concat()).unwrap();
        let cluster = Cluster::start(dir, &asking(dir, &trust, &config));
        // One fails, one is wrong, the third is right; who knows nothing about the registry is not asked.
        cluster.apply(&true_pod("first", &image("team/busybox:1"), ""));
        assert_eq!(cluster.finished("first"), "Succeeded");
        let request = |name: &str| {
            format!(
                "{{\"kind\":\"CredentialProviderRequest\",\"apiVersion\":\"credentialprovider.kubelet.k8s.io/v1\",\
                 \"image\":\"{}\"}} get credentials",
                image(name)
            )
        };
        assert_eq!(asked(dir, "good"), [request("team/busybox")]);
        assert_eq!(asked(dir, "elsewhere"), [""; 0]);
        // What was said about the registry is remembered.
        cluster.apply(&true_pod("second", &image("team/tools:1"), ""));
        assert_eq!(cluster.finished("second"), "Succeeded");
        assert_eq!(asked(dir, "good").len(), 1);
        assert_eq!(asked(dir, "broken").last(), Some(&request("team/tools")));
        // It says nothing about other repositories, and the pod is told who might have.
        cluster.apply(&true_pod("other", &image("other/busybox:1"), ""));
        let failure = "error execing credential provider plugin broken for image 127.0.0.1:5444/other/busybox: \
                       exit status 3";
        cluster.event("other", "Failed", &["pull access denied", failure]);
        let events = cluster.ok(&["get", "events", "-o", "jsonpath={.items[*].message}"]);
        assert!(!events.contains("hidden"), "{events}");
        // A pod's own secret comes first, and suffices.
        let server = format!("--docker-server={}", registry.address);
        cluster.ok(&[
            "create",
            "secret",
            "docker-registry",
            "own",
            &server,
            "--docker-username=edge",
            "--docker-password=secret",
        ]);
        cluster.apply(&true_pod(
            "own",
            &image("other/busybox:1"),
            ", imagePullSecrets: [{name: own}]",
        ));
        assert_eq!(cluster.finished("own"), "Succeeded");
    });
}

#[test]
fn programs_of_the_machine_are_told_who_pulls() {
    sandboxed(|dir| {
        let registry = Registry::private(dir, "127.0.0.1:5445");
        let image = format!("{}/team/busybox:1", registry.address);
        let archive = busybox_archive(dir, "busybox:1");
        let target = format!("docker://{image}");
        registry::copy_with(&archive, &target, &["--dest-creds", "edge:secret"]);
        let trust = trusting(dir, &registry);
        // It knows those who are of the red team.
        let calls = dir.join("exchange.calls");
        let known = says(&registry.address, "secret");
        let script = format!(
            "tail -n 1 {} | grep -q '\"red\"' && {known} || exit 4",
            calls.display()
        );
        plugin(dir, "exchange", &script);
        let config = dir.join("providers.yaml");
        let text = format!(
            "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n- name: exchange\n  \
             matchImages: [\"{}\"]\n  defaultCacheDuration: 0s\n  \
             apiVersion: credentialprovider.kubelet.k8s.io/v1\n  tokenAttributes:\n    \
             serviceAccountTokenAudience: registry.example.com\n    cacheType: ServiceAccount\n    \
             requireServiceAccount: true\n    requiredServiceAccountAnnotationKeys: [example.com/team]\n",
            registry.address
        );
        std::fs::write(&config, text).unwrap();
        let cluster = Cluster::start(dir, &asking(dir, &trust, &config));
        for (name, team) in [("red", "red"), ("blue", "blue")] {
            cluster.ok(&["create", "serviceaccount", name]);
            cluster.ok(&[
                "annotate",
                "serviceaccount",
                name,
                &format!("example.com/team={team}"),
            ]);
        }
        let pulling = |name: &str, account: &str| {
            let more = format!(", serviceAccountName: {account}");
            cluster.apply(&true_pod(name, &image, &more));
        };
        // A node gets tokens for nobody of whom its pods say nothing, unless it is allowed to.
        pulling("early", "red");
        let why = "audience \"registry.example.com\" not found in pod spec volume";
        cluster.event(
            "early",
            "Failed",
            &["error getting service account token default/red", why],
        );
        assert_eq!(asked(dir, "exchange"), [""; 0]);
        cluster.apply(
            "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: pulls}, rules: \
             [{verbs: [request-serviceaccounts-token-audience], apiGroups: [\"\"], resources: [registry.example.com]}]}\n---\n\
             {apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: pulls}, \
             roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: pulls}, \
             subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: \"system:nodes\"}]}",
        );
        // Who has not said that it wants to be known is not told of.
        pulling("stranger", "default");
        cluster.event("stranger", "Failed", &["pull access denied"]);
        assert_eq!(asked(dir, "exchange"), [""; 0]);
        pulling("wrong", "blue");
        cluster.event("wrong", "Failed", &["plugin exchange for image", "exit status 4"]);
        pulling("right", "red");
        assert_eq!(cluster.finished("right"), "Succeeded");
        let last = asked(dir, "exchange").pop().unwrap();
        let request: serde_json::Value = serde_json::from_str(last.trim()).unwrap();
        let annotations = serde_json::json!({"example.com/team": "red"});
        assert_eq!(request["serviceAccountAnnotations"], annotations);
        let payload = request["serviceAccountToken"]
            .as_str()
            .unwrap()
            .split('.')
            .nth(1)
            .unwrap();
        let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(payload)
            .unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["aud"], serde_json::json!(["registry.example.com"]));
        assert_eq!(claims["kubernetes.io"]["pod"]["name"], "right");
        assert_eq!(claims["kubernetes.io"]["serviceaccount"]["name"], "red");
        // What was said holds for the account, and for nobody else.
        let count = |account: &str| {
            asked(dir, "exchange")
                .iter()
                .filter(|line| line.contains(account))
                .count()
        };
        let before = count("red");
        pulling("again", "red");
        assert_eq!(cluster.finished("again"), "Succeeded");
        assert_eq!(count("red"), before);
    });
}

#[test]
fn a_registry_that_hangs_is_told_of_and_holds_up_nobody() {
    sandboxed(|dir| {
        let hostile = Hostile::start();
        let registry = Registry::start(dir);
        let cluster = Cluster::start(dir, &["--registry-timeout", "2"]);
        // More often than anybody tries while this lasts.
        hostile.fail("manifests", &vec![Fault::Hang; 200]);
        let manifest = "application/vnd.oci.image.manifest.v1+json";
        let (stuck, _) = hostile.manifest("stuck", "1", manifest, &serde_json::json!({}));
        cluster.apply(&true_pod("stuck", &stuck, ""));
        let image = registry.push(&busybox_archive(dir, "busybox:1"), "tools/busybox:1");
        cluster.apply(&true_pod("free", &image, ""));
        assert_eq!(cluster.finished("free"), "Succeeded");
        cluster.event(
            "stuck",
            "Failed",
            &["Failed to pull image", "the registry does not answer"],
        );
        let waiting = "{.status.containerStatuses[0].state.waiting.reason}";
        cluster.until("pod/stuck", waiting, "ImagePullBackOff");
    });
}
