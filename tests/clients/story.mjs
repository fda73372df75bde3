// Kubernetes' JavaScript client against the cluster that KUBECONFIG names: what people's programs do with it.
//
// Each chapter asserts what it expects and is told on a line of its own when it is over.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import net from 'node:net';
import { PassThrough, Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';

// The client is not installed beside this file; NODE_PATH tells a require where it is.
const k8s = createRequire(import.meta.url)('@kubernetes/client-node');

const NAMESPACE = 'javascript';
const PATIENCE_MS = 90_000;

const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);

/** Waits until `check` gives something true. */
async function eventually(what, check) {
  const end = Date.now() + PATIENCE_MS;
  while (Date.now() < end) {
    const found = await check();
    if (found) return found;
    await sleep(100);
  }
  throw new Error(`not in time: ${what}`);
}

/** Expects a refusal, and returns its Status. */
async function refused(code, reason, call) {
  try {
    await call();
  } catch (error) {
    const status = typeof error.body === 'string' ? JSON.parse(error.body) : error.body;
    assert.deepEqual([error.code, status?.reason], [code, reason], String(error));
    return status;
  }
  throw new Error(`not refused with ${code} ${reason}`);
}

const configMap = (name, data) => ({ metadata: { name, labels: { by: 'javascript' } }, data });
const patchAs = (kind) => k8s.setHeaderOptions('Content-Type', kind);
const collected = () => {
  const into = new PassThrough();
  let text = '';
  into.on('data', (chunk) => (text += chunk));
  return [into, () => text];
};

async function objects() {
  assert.equal((await config.makeApiClient(k8s.VersionApi).getCode()).minor, '36');
  await core.createNamespace({ body: { metadata: { name: NAMESPACE } } });
  const at = { namespace: NAMESPACE, name: 'a' };
  const made = await core.createNamespacedConfigMap({ namespace: NAMESPACE, body: configMap('a', { x: '1' }) });
  assert.ok(made.metadata.uid && made.metadata.creationTimestamp instanceof Date);
  const changed = await core.replaceNamespacedConfigMap({ ...at, body: { ...made, data: { x: '2' } } });
  assert.equal(changed.data.x, '2');
  await refused(409, 'Conflict', () => core.replaceNamespacedConfigMap({ ...at, body: { ...made, data: { x: '3' } } }));
  const merged = await core.patchNamespacedConfigMap(
    { ...at, body: { data: { x: null, y: '4' } } }, patchAs(k8s.PatchStrategy.MergePatch));
  assert.deepEqual(merged.data, { y: '4' });
  const patched = await core.patchNamespacedConfigMap(
    { ...at, body: [{ op: 'replace', path: '/data/y', value: '5' }] }, patchAs(k8s.PatchStrategy.JsonPatch));
  assert.equal(patched.data.y, '5');
  const status = await refused(422, 'Invalid', () => core.createNamespacedConfigMap({
    namespace: NAMESPACE, body: configMap('Bad_Name') }));
  assert.equal(status.details.causes[0].field, 'metadata.name');
  await core.deleteNamespacedConfigMap(at);
  await refused(404, 'NotFound', () => core.readNamespacedConfigMap(at));
}

async function lists() {
  for (let n = 0; n < 5; n++) {
    await core.createNamespacedConfigMap({ namespace: NAMESPACE, body: configMap(`page-${n}`, {}) });
  }
  const names = [];
  let _continue;
  do {
    const page = await core.listNamespacedConfigMap({
      namespace: NAMESPACE, labelSelector: 'by=javascript', limit: 2, _continue });
    names.push(...page.items.map((item) => item.metadata.name));
    _continue = page.metadata._continue;
  } while (_continue);
  assert.deepEqual(names, ['page-0', 'page-1', 'page-2', 'page-3', 'page-4']);
  const first = await core.listNamespacedConfigMap({ namespace: NAMESPACE, limit: 1 });
  assert.ok(first.metadata.remainingItemCount >= 4);
}

/** Generic objects and server-side apply, as tools that know no kind use them. */
async function applying() {
  const objects = k8s.KubernetesObjectApi.makeApiClient(config);
  const account = (labels) => ({
    apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'applied', namespace: NAMESPACE, labels } });
  const apply = (labels, manager, force) => objects.patch(
    account(labels), undefined, undefined, manager, force, k8s.PatchStrategy.ServerSideApply);
  assert.deepEqual((await apply({ a: '1' }, 'one')).metadata.labels, { a: '1' });
  const conflict = await refused(409, 'Conflict', () => apply({ a: '2' }, 'two'));
  assert.match(conflict.message, /conflict with "one"/);
  assert.deepEqual((await apply({ a: '2' }, 'two', true)).metadata.labels, { a: '2' });
  const list = await objects.list('v1', 'ServiceAccount', NAMESPACE);
  assert.ok(list.items.some((item) => item.metadata.name === 'applied'));
  await objects.delete(account());
}

async function workloads() {
  const apps = config.makeApiClient(k8s.AppsV1Api);
  const [deployment] = k8s.loadAllYaml(`
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: web}
    spec:
      replicas: 1
      selector: {matchLabels: {app: web}}
      template:
        metadata: {labels: {app: web}}
        spec: {containers: [{name: web, image: "local/hello-http:1"}]}
  `);
  await apps.createNamespacedDeployment({ namespace: NAMESPACE, body: deployment });
  const at = { namespace: NAMESPACE, name: 'web' };
  await eventually('one replica', async () => (await apps.readNamespacedDeployment(at)).status.readyReplicas === 1);
  const [pod] = (await core.listNamespacedPod({ namespace: NAMESPACE, labelSelector: 'app=web' })).items;
  const forward = new k8s.PortForward(config);
  const server = net.createServer((socket) =>
    forward.portForward(NAMESPACE, pod.metadata.name, [8080], socket, null, socket));
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  const answer = await fetch(`http://127.0.0.1:${server.address().port}/`, { headers: { Connection: 'close' } });
  assert.equal(answer.status, 200);
  await answer.text();
  server.close();
  await apps.deleteNamespacedDeployment({ ...at, propagationPolicy: 'Foreground' });
  await eventually('no pods', async () =>
    !(await core.listNamespacedPod({ namespace: NAMESPACE, labelSelector: 'app=web' })).items.length);
}

async function shells() {
  const container = { name: 'shell', image: 'local/busybox:1', command: ['sh', '-c', 'echo begun; sleep 1000'] };
  await core.createNamespacedPod({ namespace: NAMESPACE, body: {
    metadata: { name: 'shell' }, spec: { containers: [container], terminationGracePeriodSeconds: 0 } } });
  const at = { namespace: NAMESPACE, name: 'shell' };
  await eventually('the pod runs', async () => (await core.readNamespacedPod(at)).status.phase === 'Running');
  const [out, said] = collected();
  const status = await new Promise((ended, failed) => {
    new k8s.Exec(config).exec(
      NAMESPACE, 'shell', 'shell', ['sh'], out, out, Readable.from(['echo to $((6 * 7)); exit 3\n']), false, ended,
    ).catch(failed);
  });
  assert.equal(said(), 'to 42\n');
  assert.equal(status.details.causes.find((cause) => cause.reason === 'ExitCode').message, '3', JSON.stringify(status));
  await eventually('a log', async () => (await core.readNamespacedPodLog(at)) === 'begun\n');
  const [log, logged] = collected();
  const following = await new k8s.Log(config).log(NAMESPACE, 'shell', 'shell', log, { follow: true });
  await eventually('a followed log', () => logged() === 'begun\n');
  following.abort();
  await core.deleteNamespacedPod(at);
}

async function customs() {
  const extensions = config.makeApiClient(k8s.ApiextensionsV1Api);
  const objects = config.makeApiClient(k8s.CustomObjectsApi);
  const name = 'coats.javascript.example.com';
  const spec = { type: 'object', properties: { size: { type: 'integer', _default: 1 } } };
  await extensions.createCustomResourceDefinition({ body: {
    apiVersion: 'apiextensions.k8s.io/v1', kind: 'CustomResourceDefinition', metadata: { name },
    spec: {
      group: 'javascript.example.com', scope: 'Namespaced',
      names: { plural: 'coats', singular: 'coat', kind: 'Coat' },
      versions: [{ name: 'v1', served: true, storage: true, subresources: { status: {} },
        schema: { openAPIV3Schema: { type: 'object', properties: {
          spec, status: { type: 'object', x_kubernetes_preserve_unknown_fields: true } } } } }] } } });
  await eventually('the definition is established', async () =>
    (await extensions.readCustomResourceDefinition({ name })).status?.conditions?.some(
      (condition) => condition.type === 'Established' && condition.status === 'True'));
  const place = { group: 'javascript.example.com', version: 'v1', namespace: NAMESPACE, plural: 'coats' };
  const made = await objects.createNamespacedCustomObject({ ...place, body: {
    apiVersion: 'javascript.example.com/v1', kind: 'Coat', metadata: { name: 'red' }, spec: {} } });
  assert.equal(made.spec.size, 1);
  const told = await objects.patchNamespacedCustomObjectStatus(
    { ...place, name: 'red', body: { status: { worn: true } } }, patchAs(k8s.PatchStrategy.MergePatch));
  assert.deepEqual([told.status, told.metadata.generation], [{ worn: true }, 1]);
  await extensions.deleteCustomResourceDefinition({ name });
}

async function watches() {
  const seen = [];
  const watch = new k8s.Watch(config);
  const path = `/api/v1/namespaces/${NAMESPACE}/configmaps`;
  const ended = new Promise((done) => {
    watch.watch(path, { fieldSelector: 'metadata.name=page-0', timeoutSeconds: 2 },
      (type, object) => seen.push([type, object.metadata.name]), done);
  });
  await eventually('the first event', () => seen.length);
  const at = { namespace: NAMESPACE, name: 'page-0' };
  await core.patchNamespacedConfigMap({ ...at, body: { data: { n: '1' } } }, patchAs(k8s.PatchStrategy.MergePatch));
  await core.deleteNamespacedConfigMap({ namespace: NAMESPACE, name: 'page-1' });
  await core.deleteNamespacedConfigMap(at);
  await ended;
  assert.deepEqual(seen, [['ADDED', 'page-0'], ['MODIFIED', 'page-0'], ['DELETED', 'page-0']]);
  await core.deleteNamespace({ name: NAMESPACE });
  await eventually('the namespace goes', async () =>
    !(await core.listNamespace()).items.some((item) => item.metadata.name === NAMESPACE));
}

for (const chapter of [objects, lists, applying, workloads, shells, customs, watches]) {
  await chapter();
  console.log(`done: ${chapter.name}`);
}
process.exit(0);
