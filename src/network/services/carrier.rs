//! Who carries connections to their endpoints.

use std::sync::Arc;

use super::balancer::Balancer;
use super::kernel::Kernel;
use super::proxy::ServiceProxy;
use super::table::{Delta, Table};
use super::userspace::Userspace;
use crate::config::{NetworkConfig, NetworkError};

/// The one that was chosen.
pub(super) enum Carrier {
    Kernel(Kernel),
    Userspace(Userspace),
}

impl Carrier {
    pub(super) fn open(config: &NetworkConfig, balancer: &Arc<Balancer>) -> Result<Carrier, NetworkError> {
        Ok(match config.proxy {
            ServiceProxy::Kernel => Carrier::Kernel(Kernel::open(config)?),
            ServiceProxy::Userspace => {
                Carrier::Userspace(Userspace::new(balancer.clone(), config.node_addresses()))
            }
        })
    }

    /// Carries out what has changed; `table` is the state after it.
    pub(super) async fn change(&mut self, deltas: &[Delta], table: &Table) {
        match self {
            Carrier::Kernel(kernel) => kernel.change(deltas, table).await,
            Carrier::Userspace(userspace) => userspace.change(deltas, table).await,
        }
    }

    /// Begins with everything there is.
    pub(super) async fn replace(&mut self, table: &Table) {
        match self {
            Carrier::Kernel(kernel) => kernel.replace(table).await,
            Carrier::Userspace(userspace) => userspace.change(&table.all(), table).await,
        }
    }

    /// Looks whether somebody has destroyed what is there.
    pub(super) async fn check(&mut self, table: &Table) {
        match self {
            Carrier::Kernel(kernel) => kernel.check(table).await,
            // Nobody else can close our sockets.
            Carrier::Userspace(_) => {}
        }
    }
}
