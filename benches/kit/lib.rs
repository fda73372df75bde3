//! What all benchmarks need: a sandbox to run in, what processes and the
//! machine have used, a disk that counts what reaches it, pauses of service, and tables.

pub mod disk;
pub mod pauses;
pub mod process;
pub mod sandbox;
pub mod table;
