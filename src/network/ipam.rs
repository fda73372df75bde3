//! Addresses of the node's pods.
