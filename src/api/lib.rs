//! Kubernetes objects and the rules that hold for them, without any I/O.
//!
//! Everything here is a function of its arguments: parsing, defaulting,
//! validation, patching, applying, selecting, printing as a table. Time and
//! randomness come in as parameters.

pub mod apply;
pub mod canon;
pub mod cel;
pub mod certificate_request;
pub mod cidr;
pub mod csi;
pub mod custom;
pub mod decode;
pub mod depth;
pub mod duration;
pub mod fields;
mod formats;
pub mod go;
pub mod intern;
pub mod kind;
pub mod kinds;
pub mod names;
pub mod object;
pub mod openapi;
pub mod patch;
pub mod pod;
pub mod protobuf;
pub mod quantity;
pub mod references;
pub mod request;
pub mod schema;
pub mod selector;
pub mod snapshots;
pub mod status;
pub mod storage;
pub mod table;
pub mod text;
pub mod tokens;
pub mod typecheck;
pub mod value;

#[cfg(test)]
mod fuzz;
