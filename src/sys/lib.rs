//! The kernel, as the rest of Coracle sees it.
//!
//! This crate is the one home of `unsafe`: each block states why it is sound.
//! Nothing here knows of Kubernetes or policy, and only [`ready`] of an async
//! runtime; functions do one thing to the kernel and report what it said.
#![allow(unsafe_code)]

pub mod beneath;
mod bpf;
pub mod cgroup;
pub mod conntrack;
pub mod descriptors;
pub mod link;
pub mod loop_device;
pub mod marked;
pub mod mounts;
pub mod netlink;
pub mod netns;
pub mod nft;
pub mod packet;
pub mod pidns;
pub mod process;
pub mod program;
pub mod pty;
pub mod ready;
pub mod seccomp;
pub mod sysctl;
pub mod tcp;
pub mod userns;

#[cfg(test)]
mod testing;
