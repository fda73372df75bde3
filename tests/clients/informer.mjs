// An informer on the ConfigMaps of namespace `default`, made with Kubernetes' JavaScript client against the cluster
// that KUBECONFIG names. Keeps what it believes to be there in the file that it is given: one `name=text` a line.

import { renameSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const k8s = createRequire(import.meta.url)('@kubernetes/client-node');

const file = process.argv[2];
const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const informer = k8s.makeInformer(config, '/api/v1/namespaces/default/configmaps',
  () => core.listNamespacedConfigMap({ namespace: 'default' }));

const known = new Map();
const tell = () => {
  const lines = [...known].map(([name, text]) => `${name}=${text}\n`).sort();
  writeFileSync(`${file}.new`, lines.join(''));
  renameSync(`${file}.new`, file);
};
const take = (map) => {
  known.set(map.metadata.name, map.data?.text ?? '');
  tell();
};
informer.on('add', take);
informer.on('update', take);
informer.on('delete', (map) => {
  known.delete(map.metadata.name);
  tell();
});
const start = () => informer.start().catch(() => setTimeout(start, 200));
// What the client's own examples do: an informer that fails is started again.
informer.on('error', () => setTimeout(start, 200));
start();
