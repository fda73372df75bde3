//! The machine as a Node: what it is, that it is there, how it is doing.

pub mod heartbeat;
pub mod machine;
pub mod object;
pub mod register;
#[cfg(test)]
mod tests;
