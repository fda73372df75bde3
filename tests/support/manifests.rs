//! Manifests that several scenarios use.

/// The image that [`super::Cluster::busybox`] imports.
pub const BUSYBOX: &str = "local/busybox:1";

/// The image of `programs/polite.c`, made by [`super::images::polite_rootfs`].
pub const POLITE: &str = "local/polite:1";

/// A script that runs until it is told to end, which it then does at once.
pub const IDLE: &str = "trap 'exit 0' TERM; while :; do sleep 0.2; done";

/// A Deployment of one container `web`, which ends with the given lines, and its Service.
fn web(name: &str, replicas: u32, container: &str) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers:
      - name: web
        ports: [{{containerPort: 8080}}]{container}
---
{service}"#,
        service = service(name)
    )
}

/// A Deployment of the hello-http guest and its Service; a replica counts as
/// ready when the file `/state/ready` exists in it, if `gated`.
pub fn wasm_web(name: &str, replicas: u32, gated: bool) -> String {
    let gate = if gated {
        "\n        - {name: READY_FILE, value: /state/ready}"
    } else {
        ""
    };
    let container = format!(
        r#"
        image: local/hello-http:1
        env:
        - {{name: GREETING, value: hello}}{gate}
        readinessProbe: {{httpGet: {{path: /ready, port: 8080}}, periodSeconds: 1, failureThreshold: 1, timeoutSeconds: 20}}
        volumeMounts: [{{name: state, mountPath: /state}}]
      volumes: [{{name: state, emptyDir: {{}}}}]"#
    );
    web(name, replicas, &container)
}

/// A Deployment of busybox' web server, which answers with its host name, and its Service.
pub fn oci_web(name: &str, replicas: u32) -> String {
    let container = format!(
        r#"
        image: {BUSYBOX}
        command: [sh, -c, "mkdir -p /www && echo hello from $HOSTNAME > /www/index.html && exec httpd -f -p 8080 -h /www"]
        readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1, timeoutSeconds: 20}}"#
    );
    web(name, replicas, &container)
}

/// A Deployment of the polite server, slow to start, and its Service.
pub fn polite_web(name: &str, replicas: u32) -> String {
    let container = format!(
        r#"
        image: {POLITE}
        env: [{{name: START_DELAY_MS, value: "700"}}]
        readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1, timeoutSeconds: 20}}"#
    );
    web(name, replicas, &container)
}

/// A ClusterIP Service: port 80 leads to 8080 of the pods with label `app`.
pub fn service(name: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  selector: {{app: {name}}}
  ports: [{{port: 80, targetPort: 8080}}]
"#
    )
}

/// A busybox pod that runs until it is told to end.
pub fn idle_pod(name: &str) -> String {
    busybox_pod(name, "Always", IDLE)
}

/// A pod of one container that has a claim at `/data` besides.
pub fn with_claim(pod: &str, claim: &str) -> String {
    format!(
        "{}\n    volumeMounts: [{{name: data, mountPath: /data}}]\n  volumes: [{{name: data, persistentVolumeClaim: \
         {{claimName: {claim}}}}}]\n",
        pod.trim_end()
    )
}

/// A busybox pod that runs a script.
pub fn busybox_pod(name: &str, restart: &str, script: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  restartPolicy: {restart}
  containers:
  - name: main
    image: {BUSYBOX}
    command: [sh, -c, {script:?}]
"#
    )
}

/// A pod of a Wasm command.
pub fn command_pod(name: &str, image: &str, args: &[&str]) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: {image}
    args: {args:?}
    env: [{{name: COLOUR, value: blue}}]
"#
    )
}
