//! Who balances Services.

use std::fmt;
use std::str::FromStr;

/// How this node balances Services for everybody but Wasm guests, whose
/// sockets choose by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServiceProxy {
    /// The kernel translates addresses.
    #[default]
    Kernel,
    /// This process passes bytes on: for kernels without nftables' translation.
    Userspace,
}

impl fmt::Display for ServiceProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ServiceProxy::Kernel => "kernel",
            ServiceProxy::Userspace => "userspace",
        })
    }
}

impl FromStr for ServiceProxy {
    type Err = String;

    fn from_str(text: &str) -> Result<ServiceProxy, String> {
        match text {
            "kernel" => Ok(ServiceProxy::Kernel),
            "userspace" => Ok(ServiceProxy::Userspace),
            _ => Err(format!("{text:?} is not kernel or userspace")),
        }
    }
}
