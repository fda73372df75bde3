"""Kubernetes' Python client against the cluster that KUBECONFIG names: what people's scripts do with it.

Each chapter asserts what it expects and is told on a line of its own when it is over.
"""

import json
import sys
import time

import yaml
from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.rest import ApiException
from kubernetes.dynamic.exceptions import ConflictError
from kubernetes.stream import portforward, stream

NAMESPACE = "python"
PATIENCE_SECONDS = 90


def eventually(what, check):
    """Waits until `check` returns something true."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        found = check()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"not in time: {what}")


def refused(code, reason, call):
    """Expects a refusal, and returns its Status."""
    try:
        call()
    except ApiException as error:
        status = json.loads(error.body)
        assert (error.status, status["reason"]) == (code, reason), status
        return status
    raise AssertionError(f"not refused with {code} {reason}")


def config_map(name, **data):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels={"by": "python"}), data=data)


def discovery(core):
    assert client.VersionApi().get_code().minor == "36"
    groups = {group.name for group in client.ApisApi().get_api_versions().groups}
    assert {"apps", "batch", "policy", "apiextensions.k8s.io"} <= groups, groups
    names = {resource.name for resource in core.get_api_resources().resources}
    assert {"pods", "pods/exec", "services/proxy"} <= names, names
    core.create_namespace({"metadata": {"name": NAMESPACE}})
    # What the cluster puts into every namespace, so that nothing comes in between later.
    eventually("the default account", lambda: [
        account for account in core.list_namespaced_service_account(NAMESPACE).items
        if account.metadata.name == "default"
    ])
    eventually("the cluster's authority", lambda: core.list_namespaced_config_map(NAMESPACE).items)


def objects(core):
    made = core.create_namespaced_config_map(NAMESPACE, config_map("a", x="1"))
    assert made.metadata.uid and made.metadata.creation_timestamp.tzinfo
    made.data["y"] = "2"
    changed = core.replace_namespaced_config_map("a", NAMESPACE, made)
    made.data["y"] = "3"
    refused(409, "Conflict", lambda: core.replace_namespaced_config_map("a", NAMESPACE, made))
    assert changed.data == {"x": "1", "y": "2"}
    merged = core.patch_namespaced_config_map("a", NAMESPACE, {"data": {"x": None, "z": "4"}})
    assert merged.data == {"y": "2", "z": "4"}, merged.data
    patched = core.patch_namespaced_config_map("a", NAMESPACE, [{"op": "replace", "path": "/data/y", "value": "5"}])
    assert patched.data["y"] == "5"
    dry = core.patch_namespaced_config_map("a", NAMESPACE, {"data": {"y": "6"}}, dry_run="All")
    assert dry.data["y"] == "6" and core.read_namespaced_config_map("a", NAMESPACE).data["y"] == "5"
    status = refused(422, "Invalid", lambda: core.create_namespaced_config_map(NAMESPACE, config_map("Bad_Name")))
    assert status["details"]["causes"][0]["field"] == "metadata.name", status
    refused(409, "AlreadyExists", lambda: core.create_namespaced_config_map(NAMESPACE, config_map("a")))
    secret = core.create_namespaced_secret(NAMESPACE, client.V1Secret(
        metadata=client.V1ObjectMeta(generate_name="s-"), string_data={"k": "v"}))
    assert secret.data == {"k": "dg=="} and secret.metadata.name.startswith("s-")
    answer = core.delete_namespaced_config_map("a", NAMESPACE)
    assert answer.status == "Success", answer
    refused(404, "NotFound", lambda: core.read_namespaced_config_map("a", NAMESPACE))


def lists(core):
    for number in range(7):
        core.create_namespaced_config_map(NAMESPACE, config_map(f"page-{number}", n=str(number)))
    labelled = {"label_selector": "by=python"}
    whole = core.list_namespaced_config_map(NAMESPACE, **labelled)
    names, token, versions = [], None, []
    while not versions or token:
        page = core.list_namespaced_config_map(NAMESPACE, limit=3, _continue=token, **labelled)
        names += [item.metadata.name for item in page.items]
        token = page.metadata._continue
        versions.append(page.metadata.resource_version)
        # What is made between two pages belongs to neither.
        core.create_namespaced_config_map(NAMESPACE, config_map(f"page-1-late-{len(versions)}"))
    assert len(versions) == 3 and len(set(versions)) == 1, versions
    assert names == [f"page-{number}" for number in range(7)], names
    unfiltered = core.list_namespaced_config_map(NAMESPACE, limit=1)
    assert unfiltered.metadata.remaining_item_count == len(core.list_namespaced_config_map(NAMESPACE).items) - 1
    then = core.list_namespaced_config_map(
        NAMESPACE, resource_version=whole.metadata.resource_version, resource_version_match="Exact", **labelled)
    assert [item.metadata.name for item in then.items] == names
    since = core.list_namespaced_config_map(
        NAMESPACE, resource_version=whole.metadata.resource_version, resource_version_match="NotOlderThan", **labelled)
    assert len(since.items) == 10, len(since.items)
    future = str(int(since.metadata.resource_version) + 1_000_000)
    late = refused(504, "Timeout", lambda: core.list_namespaced_config_map(NAMESPACE, resource_version=future))
    assert late["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge", late
    refused(422, "Invalid", lambda: core.list_namespaced_config_map(NAMESPACE, resource_version_match="Exact"))
    refused(400, "BadRequest", lambda: core.list_namespaced_config_map(NAMESPACE, _continue="nonsense"))
    one = core.list_namespaced_config_map(NAMESPACE, field_selector="metadata.name=page-3")
    assert [item.metadata.name for item in one.items] == ["page-3"]


def watches(core):
    began = time.monotonic()
    seen = [event["type"] for event in watch.Watch().stream(
        core.list_namespaced_config_map, NAMESPACE, field_selector="metadata.name=page-0", timeout_seconds=1)]
    assert seen == ["ADDED"] and 0.5 < time.monotonic() - began < 60, seen
    follow = watch.Watch()
    version = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
    core.patch_namespaced_config_map("page-0", NAMESPACE, {"data": {"n": "seen"}})
    core.delete_namespaced_config_map("page-1", NAMESPACE)
    kinds = []
    for event in follow.stream(core.list_namespaced_config_map, NAMESPACE, resource_version=version):
        kinds.append((event["type"], event["object"].metadata.name))
        if len(kinds) == 2:
            follow.stop()
    assert kinds == [("MODIFIED", "page-0"), ("DELETED", "page-1")], kinds
    # A list as a watch: the state, a bookmark that says that this was all, and then what happens.
    initial = watch.Watch()
    state = []
    for event in initial.stream(
        core.list_namespaced_config_map, NAMESPACE, label_selector="by=python", send_initial_events=True,
        allow_watch_bookmarks=True, resource_version_match="NotOlderThan", timeout_seconds=60,
    ):
        if event["type"] == "BOOKMARK":
            assert event["raw_object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}, event
            initial.stop()
        else:
            state.append(event["object"].metadata.name)
    assert state == [item.metadata.name for item in
                     core.list_namespaced_config_map(NAMESPACE, label_selector="by=python").items], state
    core.delete_collection_namespaced_config_map(NAMESPACE, label_selector="by=python")
    assert core.list_namespaced_config_map(NAMESPACE, label_selector="by=python").items == []


def workloads(core):
    apps = client.AppsV1Api()
    manifest = yaml.safe_load("""
        apiVersion: apps/v1
        kind: Deployment
        metadata: {name: web}
        spec:
          replicas: 1
          selector: {matchLabels: {app: web}}
          template:
            metadata: {labels: {app: web}}
            spec: {containers: [{name: web, image: "local/hello-http:1"}]}
    """)
    utils.create_from_dict(client.ApiClient(), manifest, namespace=NAMESPACE)
    eventually("one replica", lambda: apps.read_namespaced_deployment_status("web", NAMESPACE).status.ready_replicas == 1)
    apps.patch_namespaced_deployment_scale("web", NAMESPACE, {"spec": {"replicas": 2}})
    scale = apps.read_namespaced_deployment_scale("web", NAMESPACE)
    assert scale.spec.replicas == 2 and scale.status.selector == "app=web", scale
    eventually("two replicas", lambda: apps.read_namespaced_deployment("web", NAMESPACE).status.ready_replicas == 2)
    pod = core.list_namespaced_pod(NAMESPACE, label_selector="app=web").items[0]
    assert pod.status.conditions and pod.spec.tolerations[0].toleration_seconds == 300
    forward = portforward(core.connect_get_namespaced_pod_portforward, pod.metadata.name, NAMESPACE, ports="8080")
    connection = forward.socket(8080)
    connection.setblocking(True)
    connection.sendall(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
    answer = b""
    while chunk := connection.recv(4096):
        answer += chunk
    assert answer.startswith(b"HTTP/1.1 200"), answer
    assert forward.error(8080) is None, forward.error(8080)
    apps.delete_namespaced_deployment("web", NAMESPACE, propagation_policy="Foreground")
    eventually("no pods", lambda: not core.list_namespaced_pod(NAMESPACE, label_selector="app=web").items)


def shells(core):
    core.create_namespaced_pod(NAMESPACE, client.V1Pod(
        metadata=client.V1ObjectMeta(name="shell"),
        spec=client.V1PodSpec(containers=[client.V1Container(
            name="shell", image="local/busybox:1", command=["sh", "-c", "echo begun; sleep 1000"])],
            termination_grace_period_seconds=0)))
    eventually("the pod runs", lambda: core.read_namespaced_pod("shell", NAMESPACE).status.phase == "Running")
    attach = {"stderr": True, "stdin": False, "stdout": True, "tty": False}
    said = stream(core.connect_get_namespaced_pod_exec, "shell", NAMESPACE, command=["echo", "hello"], **attach)
    assert said == "hello\n", said
    shell = stream(core.connect_get_namespaced_pod_exec, "shell", NAMESPACE, command=["sh"],
                   stderr=True, stdin=True, stdout=True, tty=False, _preload_content=False)
    shell.write_stdin("echo to $((6 * 7)); exit 3\n")
    shell.run_forever(timeout=PATIENCE_SECONDS)
    assert shell.read_stdout() == "to 42\n" and shell.returncode == 3, shell.returncode
    # As bytes: of what it reads itself this version of the client makes the text of a Python literal.
    log = eventually("a log", lambda: core.read_namespaced_pod_log("shell", NAMESPACE, _preload_content=False).data)
    assert log == b"begun\n", log
    core.delete_namespaced_pod("shell", NAMESPACE)


def custom(core):
    extensions, customs = client.ApiextensionsV1Api(), client.CustomObjectsApi()
    schema = {"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"size": {"type": "integer", "maximum": 9, "default": 1}}},
        "status": {"type": "object", "properties": {"phase": {"type": "string"}}}}}
    extensions.create_custom_resource_definition({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "shirts.python.example.com"},
        "spec": {
            "group": "python.example.com", "scope": "Namespaced",
            "names": {"plural": "shirts", "singular": "shirt", "kind": "Shirt"},
            "versions": [{"name": "v1", "served": True, "storage": True, "subresources": {"status": {}},
                          "schema": {"openAPIV3Schema": schema}}]}})
    eventually("the definition is established", lambda: [
        condition
        for condition in extensions.read_custom_resource_definition("shirts.python.example.com").status.conditions or []
        if condition.type == "Established" and condition.status == "True"])
    place = ("python.example.com", "v1", NAMESPACE, "shirts")
    shirt = {"apiVersion": "python.example.com/v1", "kind": "Shirt", "metadata": {"name": "red"}}
    made = customs.create_namespaced_custom_object(*place, {**shirt, "spec": {}})
    assert made["spec"]["size"] == 1, made
    told = customs.patch_namespaced_custom_object_status(*place, "red", {"status": {"phase": "Worn"}})
    assert told["status"] == {"phase": "Worn"} and told["metadata"]["generation"] == 1, told
    too_large = refused(422, "Invalid", lambda: customs.patch_namespaced_custom_object(
        *place, "red", {"spec": {"size": 10}}))
    assert too_large["details"]["causes"][0]["field"] == "spec.size", too_large
    # The client that learns of kinds from discovery, and server-side apply by it.
    shirts = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version="python.example.com/v1", kind="Shirt")
    blue = {**shirt, "metadata": {"name": "blue"}}
    applied = shirts.server_side_apply(body={**blue, "spec": {"size": 3}}, namespace=NAMESPACE, field_manager="one")
    assert applied.spec.size == 3 and applied.metadata.managedFields, applied
    try:
        shirts.server_side_apply(body={**blue, "spec": {"size": 4}}, namespace=NAMESPACE, field_manager="two")
        raise AssertionError("no conflict")
    except ConflictError as error:
        assert 'conflict with "one"' in json.loads(error.body)["message"], error.body
    forced = shirts.server_side_apply(
        body={**blue, "spec": {"size": 4}}, namespace=NAMESPACE, field_manager="two", force_conflicts=True)
    assert forced.spec.size == 4
    assert [item.metadata.name for item in shirts.get(namespace=NAMESPACE).items] == ["blue", "red"]
    extensions.delete_custom_resource_definition("shirts.python.example.com")
    eventually("the definition goes", lambda: not [
        one for one in extensions.list_custom_resource_definition().items if one.spec.group == "python.example.com"])


def access(core):
    account = core.create_namespaced_service_account(NAMESPACE, {"metadata": {"name": "reader"}})
    rbac = client.RbacAuthorizationV1Api()
    rbac.create_namespaced_role(NAMESPACE, {
        "metadata": {"name": "reader"},
        "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"]}]})
    rbac.create_namespaced_role_binding(NAMESPACE, {
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": NAMESPACE}]})
    token = core.create_namespaced_service_account_token(
        account.metadata.name, NAMESPACE, {"spec": {"audiences": None, "expirationSeconds": 3600}}).status.token
    settings = client.Configuration.get_default_copy()
    settings.api_key, settings.api_key_prefix = {"BearerToken": token}, {"BearerToken": "Bearer"}
    settings.cert_file = settings.key_file = None
    reader = client.CoreV1Api(client.ApiClient(settings))
    assert reader.read_namespaced_config_map("kube-root-ca.crt", NAMESPACE).data["ca.crt"]
    denied = refused(403, "Forbidden", lambda: reader.list_namespaced_config_map(NAMESPACE))
    assert f"system:serviceaccount:{NAMESPACE}:reader" in denied["message"], denied
    review = client.AuthorizationV1Api().create_subject_access_review({"spec": {
        "user": f"system:serviceaccount:{NAMESPACE}:reader",
        "resourceAttributes": {"namespace": NAMESPACE, "verb": "get", "resource": "configmaps"}}})
    assert review.status.allowed
    core.delete_namespace(NAMESPACE)
    eventually("the namespace goes", lambda: NAMESPACE not in [
        namespace.metadata.name for namespace in core.list_namespace().items])


def main():
    config.load_kube_config()
    core = client.CoreV1Api()
    for chapter in (discovery, objects, lists, watches, workloads, shells, custom, access):
        chapter(core)
        print(f"done: {chapter.__name__}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
