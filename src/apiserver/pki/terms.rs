//! How long certificates live, in seconds.

/// What the others are made of.
pub const DAY: i64 = 86_400;

/// Certificates for people, nodes and serving live this long.
pub const LEAF_SECONDS: i64 = 365 * DAY;

/// What ends sooner than this is made anew when the server starts.
pub const RENEW_SECONDS: i64 = 90 * DAY;

/// CAs outlive the machines they run on.
pub const CA_SECONDS: i64 = 3650 * DAY;
