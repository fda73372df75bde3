//! Rules for a container's own restart policy.

use crate::status::FieldError;
use crate::value::Field;

/// Most rules of one container.
const RULES_MAX: usize = 20;
/// Most exit codes of one rule.
const CODES_MAX: usize = 255;

/// Rules for `restartPolicy` and `restartPolicyRules` of a container.
pub fn check(container: &Field, errors: &mut Vec<FieldError>) {
    let policy = container.get("restartPolicy");
    let rules = container.items("restartPolicyRules");
    if !policy.is_set() && !rules.is_empty() {
        errors.push(policy.required("must specify restartPolicy when restart rules are used"));
    }
    if policy.is_set() && !["Always", "OnFailure", "Never"].contains(&policy.text()) {
        errors.push(policy.not_supported(&["Always", "OnFailure", "Never"]));
    }
    container.at_most("restartPolicyRules", RULES_MAX, errors);
    for rule in rules {
        let action = rule.get("action");
        if !["Restart", "RestartAllContainers"].contains(&action.text()) {
            errors.push(action.not_supported(&["Restart", "RestartAllContainers"]));
        }
        let codes = rule.get("exitCodes");
        if !codes.is_set() {
            errors.push(codes.required("must be specified"));
            continue;
        }
        let operator = codes.get("operator");
        if !["In", "NotIn"].contains(&operator.text()) {
            errors.push(operator.not_supported(&["In", "NotIn"]));
        }
        codes.at_most("values", CODES_MAX, errors);
    }
}
