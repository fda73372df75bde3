//! What Coracle promises, tried on the real binary with real clients.
//!
//! Every scenario runs in mount, network and process namespaces of its own,
//! with default ports, and leaves nothing behind however it ends. They need
//! root; as another user they are skipped out loud, which `CI=true` turns
//! into a failure.
//!
//! One scenario: `cargo nextest run -E 'kind(test)' NAME --no-capture`. With
//! `CORACLE_KEEP=1` its folder stays for a look at logs and state.

mod support;

mod access;
mod account_secrets;
mod addresses;
mod admission;
mod aggregation;
mod api_rules;
mod audit;
mod authorization;
mod backups;
mod bad_days;
mod between;
mod blocks;
mod budgets;
mod certificates;
mod cgroup_v2;
mod chaos;
mod churn;
mod clients;
mod clusters;
mod confinement;
mod crash;
mod crashes;
mod csi;
mod csi_peer;
mod cupboard;
mod custom;
mod departure;
mod devices;
mod distrust;
mod dual_stack;
mod embed;
mod encryption;
mod errors;
mod escapes;
mod failover;
mod fairness;
mod files;
mod handover;
mod health;
mod hostile;
mod hostile_clients;
mod huge_pages;
mod image_gc;
mod images;
mod impersonation;
mod join;
mod keyvalue;
mod kms;
mod kubectl;
mod lifecycle;
mod limits;
mod lost;
mod machines;
mod majorities;
mod members;
mod mixed;
mod monitoring;
mod neighbours;
mod nfs;
mod oci;
mod own_users;
mod partners;
mod pod_files;
mod pods;
mod processors;
mod proxies;
mod quota;
mod read_only;
mod reboot;
mod recovery;
mod registries;
mod resource_quota;
mod restart;
mod rollout;
mod rollout_load;
mod rotation;
mod services;
mod services_balancer;
mod services_policies;
mod services_userspace;
mod signatures;
mod snapshots;
mod startup;
mod static_pods;
mod switches;
mod upgrade;
mod usage;
mod users;
mod versions;
mod volumes;
mod vouched;
mod wasm;
mod webhooks;
mod witness;
