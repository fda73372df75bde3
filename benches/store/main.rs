//! The store beside etcd.
fn main() {}
