//! Custom resources as people meet them: a definition applied, its objects listed, explained, scaled and refused.

use crate::support::tools::oldest_and_newest;
use crate::support::{Cluster, assert_has, eventually, has, sandboxed};

const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boats.harbour.example.com}
spec:
  group: harbour.example.com
  scope: Namespaced
  names: {plural: boats, singular: boat, kind: Boat, shortNames: [bo], categories: [harbour]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.crew, statusReplicasPath: .status.crew}
    additionalPrinterColumns:
    - {name: Crew, type: integer, jsonPath: .spec.crew}
    - {name: Colour, type: string, jsonPath: .spec.colour}
    selectableFields:
    - jsonPath: .spec.colour
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            description: What the boat is like.
            x-kubernetes-validations:
            - {rule: "self.crew <= self.seats", message: "more crew than seats"}
            properties:
              crew: {type: integer, default: 1, description: Who rows.}
              seats: {type: integer, default: 4}
              colour: {type: string, enum: [red, blue]}
              name:
                type: string
                x-kubernetes-validations:
                - {rule: "self == oldSelf", message: "a boat keeps its name"}
          status: {type: object, properties: {crew: {type: integer}}}
"#;

fn write(cluster: &Cluster, name: &str, text: &str) -> String {
    let file = cluster.home().join(format!("{name}.yaml"));
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

fn boat(cluster: &Cluster, name: &str, spec: &str) -> String {
    let text = format!(
        "apiVersion: harbour.example.com/v1\nkind: Boat\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"
    );
    write(cluster, name, &text)
}

#[test]
fn people_bring_kinds_of_their_own() {
    sandboxed(|dir| {
        let mut cluster = Cluster::start(dir, &[]);
        for (minor, kubectl) in oldest_and_newest() {
            eprintln!("with kubectl 1.{minor}");
            cluster.with(&kubectl);
            a_kind_comes_and_goes(&cluster);
        }
    });
}

fn a_kind_comes_and_goes(cluster: &Cluster) {
    cluster.ok(&["apply", "-f", &write(cluster, "definition", DEFINITION)]);
    cluster.ok(&[
        "wait",
        "--for=condition=Established",
        "--timeout=20s",
        "crd/boats.harbour.example.com",
    ]);
    eventually("the kind in discovery", || {
        has(
            &cluster.try_ok(&["api-resources", "--api-group=harbour.example.com"])?,
            &["boats"],
        )
    });

    cluster.ok(&["apply", "-f", &boat(cluster, "ada", "colour: red, name: Ada")]);
    let listed = cluster.ok(&["get", "bo"]);
    assert_has(&listed, &["NAME", "CREW", "COLOUR", "ada", "1", "red"]);
    assert_has(&cluster.ok(&["get", "harbour"]), &["ada"]);
    eventually("the kind explained", || {
        cluster.try_ok(&["explain", "boat.spec.crew"])
    });
    assert_has(&cluster.ok(&["explain", "boat.spec.crew"]), &["Who rows."]);
    assert_has(
        &cluster.ok(&["get", "boats", "--field-selector=spec.colour=red", "-o", "name"]),
        &["boat.harbour.example.com/ada"],
    );

    cluster.ok(&[
        "patch",
        "boat",
        "ada",
        "--type=merge",
        "-p",
        r#"{"spec":{"seats":6}}"#,
    ]);
    cluster.ok(&["scale", "boat", "ada", "--replicas=3"]);
    assert_eq!(cluster.field("boat/ada", "{.spec.crew}").unwrap(), "3");
    let crowded = cluster.refused(&["scale", "boat", "ada", "--replicas=9"]);
    assert_has(&crowded, &["more crew than seats"]);
    let renamed = cluster.refused(&["apply", "-f", &boat(cluster, "ada", "colour: red, name: Bea")]);
    assert_has(&renamed, &["a boat keeps its name"]);
    let green = cluster.refused(&["apply", "-f", &boat(cluster, "eve", "colour: green")]);
    assert_has(
        &green,
        &[r#"spec.colour: Unsupported value: "green": supported values: "red", "blue""#],
    );
    let odd = cluster.refused(&["create", "-f", &boat(cluster, "eve", "sails: 2")]);
    assert_has(&odd, &["spec.sails"]);
    cluster.ok(&[
        "apply",
        "--server-side",
        "--force-conflicts",
        "-f",
        &boat(cluster, "bea", "colour: blue"),
    ]);

    cluster.ok(&[
        "delete",
        "crd",
        "boats.harbour.example.com",
        "--wait",
        "--timeout=60s",
    ]);
    let gone = cluster.refused(&["get", "boats.harbour.example.com"]);
    assert_has(&gone, &["the server doesn't have a resource type"]);
}

#[test]
fn custom_objects_belong_and_end_like_others() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &[]);
        cluster.ok(&["apply", "-f", &write(&cluster, "definition", DEFINITION)]);
        cluster.ok(&[
            "wait",
            "--for=condition=Established",
            "--timeout=20s",
            "crd/boats.harbour.example.com",
        ]);
        eventually("the kind in discovery", || cluster.try_ok(&["get", "boats"]));
        cluster.ok(&["create", "namespace", "sea"]);
        cluster.ok(&["-n", "sea", "apply", "-f", &boat(&cluster, "ada", "colour: red")]);
        let uid = cluster.ok(&[
            "-n",
            "sea",
            "get",
            "boat",
            "ada",
            "-o",
            "jsonpath={.metadata.uid}",
        ]);
        let owned = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: log\n  namespace: sea\n  ownerReferences:\n  \
             - {{apiVersion: harbour.example.com/v1, kind: Boat, name: ada, uid: {uid}}}\n"
        );
        cluster.ok(&["apply", "-f", &write(&cluster, "log", &owned)]);
        cluster.ok(&["-n", "sea", "delete", "boat", "ada"]);
        eventually("what belonged to the boat gone", || {
            match cluster.try_ok(&["-n", "sea", "get", "configmap", "log"]) {
                Ok(_) => Err("it is still there".to_owned()),
                Err(_) => Ok(()),
            }
        });
        crew_stays_without_its_ship(&cluster);
        cluster.ok(&["-n", "sea", "apply", "-f", &boat(&cluster, "bea", "colour: blue")]);
        cluster.ok(&["delete", "namespace", "sea", "--wait", "--timeout=60s"]);
    });
}

/// What belongs to a custom object, and is one itself, is left alone when its owner is to leave it.
fn crew_stays_without_its_ship(cluster: &Cluster) {
    cluster.ok(&["-n", "sea", "apply", "-f", &boat(cluster, "ship", "colour: red")]);
    cluster.ok(&[
        "-n",
        "sea",
        "apply",
        "-f",
        &boat(cluster, "dinghy", "colour: blue"),
    ]);
    let uid = cluster.ok(&[
        "-n",
        "sea",
        "get",
        "boat",
        "ship",
        "-o",
        "jsonpath={.metadata.uid}",
    ]);
    let owners = format!(
        r#"{{"metadata":{{"ownerReferences":[
            {{"apiVersion":"harbour.example.com/v1","kind":"Boat","name":"ship","uid":"{uid}"}},
            {{"apiVersion":"v1","kind":"Namespace","name":"sea","uid":"{}"}}]}}}}"#,
        cluster.ok(&["get", "namespace", "sea", "-o", "jsonpath={.metadata.uid}"])
    );
    cluster.ok(&[
        "-n",
        "sea",
        "patch",
        "boat",
        "dinghy",
        "--type=merge",
        "-p",
        &owners,
    ]);
    cluster.ok(&[
        "-n",
        "sea",
        "delete",
        "boat",
        "ship",
        "--cascade=orphan",
        "--timeout=60s",
    ]);
    let left = "jsonpath={.metadata.ownerReferences[*].name}";
    assert_eq!(
        cluster.ok(&["-n", "sea", "get", "boat", "dinghy", "-o", left]),
        "sea"
    );
}
