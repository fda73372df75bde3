//! Acting out what was decided: each effect does one [`super::action::Action`]
//! and says what happened.

pub mod access;
pub mod credentials;
pub mod finish;
pub mod image;
pub mod launch;
mod runtime_class;
pub mod sandbox;
pub mod start;
pub mod stop;
pub mod volume_images;
mod written;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use client::EventType;
use k8s_openapi::api::core::v1::Pod;
use oci::Image;

use crate::context::Context;
use crate::runtime::Sandbox;
use crate::volumes::Tokens;

/// What the effects of one pod share.
pub struct PodContext {
    /// The node.
    pub node: Arc<Context>,
    /// Its service-account tokens.
    pub tokens: Tokens,
    // Std mutexes: nothing awaits while they are held.
    sandbox: Mutex<Option<Arc<Sandbox>>>,
    images: Mutex<HashMap<String, Image>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PodContext {
    /// A pod of which nothing exists yet.
    pub fn new(node: Arc<Context>) -> PodContext {
        PodContext {
            node,
            tokens: Tokens::default(),
            sandbox: Mutex::default(),
            images: Mutex::default(),
        }
    }

    /// The pod's sandbox, once made.
    pub fn sandbox(&self) -> Option<Arc<Sandbox>> {
        lock(&self.sandbox).clone()
    }

    fn set_sandbox(&self, sandbox: Option<Sandbox>) {
        *lock(&self.sandbox) = sandbox.map(Arc::new);
    }

    fn image(&self, container: &str) -> Option<Image> {
        lock(&self.images).get(container).cloned()
    }

    fn set_image(&self, container: &str, image: Image) {
        lock(&self.images).insert(container.to_owned(), image);
    }

    fn warn(&self, pod: &Pod, container: Option<&str>, reason: &str, message: impl Into<String>) {
        self.node
            .event(pod, container, EventType::Warning, reason, message);
    }

    fn tell(&self, pod: &Pod, container: Option<&str>, reason: &str, message: impl Into<String>) {
        self.node
            .event(pod, container, EventType::Normal, reason, message);
    }
}
