//! Images and OCI containers, without a daemon.
//!
//! [`Images`] is a content store on disk: what is pulled or imported, what
//! kind of program each image holds ([`ImageKind`]), and its unpacked layers.
//! [`Containers`] runs OCI images: one single-threaded shim process per pod
//! (the same binary, see [`shim_main`]) creates the containers, writes their
//! logs and exit records, and outlives the agent, so that a restarted agent
//! finds its containers running.

pub mod apparmor;
pub mod containers;
pub mod images;
pub mod log;
mod protocol;
mod shim;
pub mod spec;

pub use containers::{Containers, end_all};
pub use images::{
    AppComponent, Attempt, Credentials, Image, ImageConfig, ImageError, ImageKind, Images, ImagesConfig,
    ImportOptions, Registries, Turns, Voucher,
};
pub use shim::shim_main;
pub use spec::{
    Chunk, ContainerSpec, ContainerState, ContainersConfig, Device, ExecSpec, Exit, Found, Hook, LogSpec,
    Moment, Mount, OciError, PodSpec, Process, Resources, Security, Stream, Usage, User, WindowSize,
};

/// An error with its causes: the outer one alone often says only that something failed.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}
