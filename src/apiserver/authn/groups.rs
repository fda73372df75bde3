//! The group of everybody who proved who they are.

pub const AUTHENTICATED: &str = "system:authenticated";

/// Adds the group of everybody who proved who they are, as Kubernetes does for every authenticator.
pub fn add_authenticated(name: &str, groups: &mut Vec<String>) {
    let told = |group: &String| group == AUTHENTICATED || group == "system:unauthenticated";
    if name != "system:anonymous" && !groups.iter().any(told) {
        groups.push(AUTHENTICATED.to_owned());
    }
}
