//! What those who make tokens that Secrets keep, accept them, and clean up behind them must agree on: names.

/// Type of the Secrets that hold bootstrap tokens, with which new machines introduce themselves.
pub const BOOTSTRAP_TYPE: &str = "bootstrap.kubernetes.io/token";
/// Where those Secrets are.
pub const BOOTSTRAP_NAMESPACE: &str = "kube-system";
/// Namespace and name of the ConfigMap that bootstrap tokens sign.
pub const INFO: (&str, &str) = ("kube-public", "cluster-info");

/// Type of the Secrets that hold tokens of ServiceAccounts.
pub const ACCOUNT_TYPE: &str = "kubernetes.io/service-account-token";
/// On those Secrets, an annotation: the name of the account.
pub const ACCOUNT: &str = "kubernetes.io/service-account.name";
/// On those Secrets, an annotation: which account of that name.
pub const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// On those Secrets, a label: the day of the last use.
pub const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
/// On those Secrets, a label: since which day they are refused.
pub const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// Namespace and name of the ConfigMap that says since when their use is noted.
pub const TRACKING: (&str, &str) = (
    "kube-system",
    "kube-apiserver-legacy-service-account-token-tracking",
);
