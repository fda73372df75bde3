//! Services and DNS through the kernel.
