//! Pods on this node: what is decided about them (pure: [`decide`], [`state`],
//! [`status`]) and who acts it out (one worker task per pod).

pub mod action;
pub mod admit;
pub mod apparmor;
pub mod backoff;
pub mod conditions;
pub mod confinement;
pub mod decide;
#[cfg(test)]
mod decide_tests;
pub mod effects;
pub mod manager;
#[cfg(test)]
mod offline_tests;
mod plant;
pub mod prober;
pub mod report;
pub mod reports;
pub mod resize;
pub mod resources;
pub mod restore;
pub mod shutdown;
#[cfg(test)]
mod simulator;
pub mod spec;
pub mod state;
pub mod status;
#[cfg(test)]
mod status_tests;
pub mod table;
pub mod wasm_rules;
pub mod worker;
#[cfg(test)]
mod worker_tests;
