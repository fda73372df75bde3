//! What scenarios ask of pods.

use std::collections::BTreeSet;

use super::{Cluster, eventually, has};

impl Cluster {
    /// Waits until a pod is Ready.
    pub fn pod_ready(&self, pod: &str) {
        self.until(
            &format!("pod/{pod}"),
            "{.status.conditions[?(@.type==\"Ready\")].status}",
            "True",
        );
    }

    /// Waits until a Deployment has that many available replicas, all of its latest revision.
    pub fn deployed(&self, name: &str, replicas: u32) {
        let path = "{.status.updatedReplicas} {.status.availableReplicas} {.status.replicas} {.status.unavailableReplicas}";
        self.until(
            &format!("deployment/{name}"),
            path,
            &format!("{replicas} {replicas} {replicas} "),
        );
    }

    /// A pod's address, once it has one.
    pub fn pod_ip(&self, pod: &str) -> String {
        eventually(&format!("an address of {pod}"), || {
            let ip = self.field(&format!("pod/{pod}"), "{.status.podIP}")?;
            if ip.is_empty() {
                Err("none yet".to_owned())
            } else {
                Ok(ip)
            }
        })
    }

    /// A Wasm pod to ask from; its address.
    pub fn wasm_client(&self) -> String {
        self.ok(&["run", "wasm-client", "--image=local/hello-http:1"]);
        self.pod_ready("wasm-client");
        self.pod_ip("wasm-client")
    }

    /// The names of the pods a selector finds.
    pub fn pods(&self, selector: &str) -> BTreeSet<String> {
        let path = "jsonpath={.items[*].metadata.name}";
        let names = self.ok(&["get", "pods", "-l", selector, "-o", path]);
        names.split_whitespace().map(str::to_owned).collect()
    }

    /// A Service's address.
    pub fn cluster_ip(&self, service: &str) -> String {
        self.field(&format!("service/{service}"), "{.spec.clusterIP}")
            .expect("a Service")
    }

    /// Waits for a pod's end; its phase.
    pub fn finished(&self, pod: &str) -> String {
        eventually(&format!("the end of {pod}"), || {
            let phase = self.field(&format!("pod/{pod}"), "{.status.phase}")?;
            if phase == "Succeeded" || phase == "Failed" {
                Ok(phase)
            } else {
                Err(phase)
            }
        })
    }

    /// The exit code of a pod's first container.
    pub fn exit_code(&self, pod: &str) -> String {
        let path = "{.status.containerStatuses[0].state.terminated.exitCode}";
        self.field(&format!("pod/{pod}"), path).expect("a pod")
    }

    /// Waits until a pod's log has all of `words`.
    pub fn logged(&self, pod: &str, container: Option<&str>, words: &[&str]) {
        let mut args = vec!["logs", pod];
        args.extend(container.iter().flat_map(|name| ["-c", name]));
        eventually(&format!("the log of {pod}"), || has(&self.try_ok(&args)?, words));
    }

    /// Waits for an event about an object, with that reason and all of `words` in its message.
    pub fn event(&self, object: &str, reason: &str, words: &[&str]) {
        let selector = format!("involvedObject.name={object},reason={reason}");
        let args = [
            "get",
            "events",
            "--field-selector",
            &selector,
            "-o",
            "jsonpath={.items[*].message}",
        ];
        eventually(&format!("the event {reason} of {object}"), || {
            let text = self.try_ok(&args)?;
            if text.is_empty() {
                Err("no such event".to_owned())
            } else {
                has(&text, words)
            }
        });
    }

    /// Runs a command in a pod's first container; its output or what went wrong.
    pub fn exec(&self, pod: &str, command: &[&str]) -> Result<String, String> {
        let mut args = vec!["exec", pod, "--"];
        args.extend(command);
        self.try_ok(&args)
    }

    /// Reads a URL from inside an OCI pod, with busybox' wget.
    pub fn wget(&self, pod: &str, url: &str) -> Result<String, String> {
        self.exec(pod, &["timeout", "5", "wget", "-q", "-O", "-", url])
    }

    /// Reads a URL from inside the Wasm pod at `ip`, which hello-http's `/fetch` does.
    pub fn fetch(&self, ip: &str, url: &str) -> Result<String, String> {
        let mut escaped = url.to_owned();
        for (from, to) in [(':', "%3A"), ('/', "%2F"), ('[', "%5B"), (']', "%5D")] {
            escaped = escaped.replace(from, to);
        }
        let answer = self.curl(&format!("http://{ip}:8080/fetch?url={escaped}"))?;
        match answer.strip_prefix("HTTP 200\n\n") {
            Some(body) => Ok(body.to_owned()),
            None => Err(answer),
        }
    }
}

/// Asks until every one of `names` has answered; an answer names who gave it.
///
/// An answer by anyone else fails at once: a Service never leads astray.
pub fn all_answer(what: &str, names: &BTreeSet<String>, mut ask: impl FnMut() -> Result<String, String>) {
    let mut missing = names.clone();
    eventually(what, || {
        let answer = ask()?;
        let who = names.iter().find(|name| answer.contains(name.as_str()));
        missing.remove(who.unwrap_or_else(|| panic!("{what}: not one of {names:?}: {answer}")));
        if missing.is_empty() {
            Ok(())
        } else {
            Err(format!("no answer of {missing:?} yet"))
        }
    });
}

/// Every replica answers through the Service: from the host, from an OCI pod, from a Wasm pod.
pub fn asked_from_everywhere(cluster: &Cluster, service: &str, oci: &str, wasm_ip: &str) {
    let replicas = cluster.pods(&format!("app={service}"));
    assert_eq!(replicas.len(), 3, "{replicas:?}");
    let address = format!("http://{}/", cluster.cluster_ip(service));
    all_answer(&format!("{service} from the host"), &replicas, || {
        cluster.curl(&address)
    });
    all_answer(&format!("{service} from an OCI pod"), &replicas, || {
        cluster.wget(oci, &address)
    });
    all_answer(&format!("{service} from a Wasm pod"), &replicas, || {
        cluster.fetch(wasm_ip, &address)
    });
    for name in [service.to_owned(), format!("{service}.default.svc.cluster.local")] {
        let url = format!("http://{name}/");
        all_answer(&format!("{url} from an OCI pod"), &replicas, || {
            cluster.wget(oci, &url)
        });
        all_answer(&format!("{url} from a Wasm pod"), &replicas, || {
            cluster.fetch(wasm_ip, &url)
        });
    }
}
