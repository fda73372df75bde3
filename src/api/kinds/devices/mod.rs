//! Devices of nodes, classes of them, and claims to them (resource.k8s.io).

pub mod claims;
pub mod classes;
pub mod requests;
pub mod slices;

use crate::cel;
use crate::kinds::admission::rules::{self, Gives};
use crate::kinds::csi_driver;
use crate::names;
use crate::status::FieldError;
use crate::value::Field;

/// Most selectors of one request or class.
const SELECTORS_MAX: usize = 32;
/// Most configurations of one claim or class.
const CONFIGURATIONS_MAX: usize = 32;
/// The longest expression, bytes.
const EXPRESSION_MAX: usize = 10 * 1024;
/// The largest configuration that is handed through to a driver, bytes.
const PARAMETERS_MAX: usize = 10 * 1024;

/// Rules for the name of a driver.
fn driver_name(name: &Field, errors: &mut Vec<FieldError>) {
    if name.needed(errors) {
        csi_driver::driver_name(name, errors);
    }
}

/// Rules for the selectors below `holder`.
fn selectors(holder: &Field, errors: &mut Vec<FieldError>) {
    holder.at_most("selectors", SELECTORS_MAX, errors);
    for selector in holder.items("selectors") {
        let expression = selector.get("cel.expression");
        if !selector.get("cel").is_set() {
            errors.push(selector.get("cel").required(""));
        } else if expression.text().len() > EXPRESSION_MAX {
            errors.push(FieldError::too_long(&expression.path, EXPRESSION_MAX));
        } else {
            rules::expression(&expression, &["device"], Gives::Bool, errors);
        }
    }
}

/// Rules for what is handed through to a driver.
fn opaque(config: &Field, errors: &mut Vec<FieldError>) {
    let opaque = config.get("opaque");
    if !opaque.is_set() {
        errors.push(opaque.required(""));
        return;
    }
    driver_name(&opaque.get("driver"), errors);
    let parameters = opaque.get("parameters");
    if !parameters.is_set() {
        errors.push(parameters.required(""));
    } else if !parameters.value.is_object() {
        errors.push(parameters.invalid("must be a valid JSON object"));
    } else if parameters.value.to_string().len() > PARAMETERS_MAX {
        errors.push(FieldError::too_long(&parameters.path, PARAMETERS_MAX));
    }
}

/// Rules for the name of a pool: subdomains between slashes.
fn pool_name(name: &Field, errors: &mut Vec<FieldError>) {
    if !name.needed(errors) {
        return;
    }
    if name.text().len() > 253 {
        errors.push(FieldError::too_long(&name.path, 253));
    }
    for part in name.text().split('/') {
        errors.extend(name.invalid_each(names::is_dns_subdomain(part)));
    }
}

/// Rules for a toleration or, without an operator, a taint.
fn effect(field: &Field, errors: &mut Vec<FieldError>) {
    let effects = ["NoExecute", "NoSchedule", "None"];
    field.get("effect").one_of_if_set(&effects, errors);
}

/// Rules for `domain/identifier`, with or without the domain.
fn qualified(name: &Field, domain_needed: bool, errors: &mut Vec<FieldError>) {
    if !name.needed(errors) {
        return;
    }
    let (domain, id) = match name.text().split_once('/') {
        Some((domain, id)) => (Some(domain), id),
        None => (None, name.text()),
    };
    match domain {
        Some(domain) => errors.extend(name.invalid_each(names::is_dns_subdomain(domain))),
        None if domain_needed => errors.push(name.invalid("must include a domain")),
        None => {}
    }
    if id.len() > 32 {
        errors.push(FieldError::too_long(&name.path, 32));
    }
    if !cel::is_identifier(id) {
        errors.push(name.invalid(
            "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric \
             characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is \
             '[A-Za-z_][A-Za-z0-9_]*')",
        ));
    }
}
