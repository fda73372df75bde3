//! Dependencies, all at once.
