//! Rules for containers, init containers and ephemeral containers.

use std::collections::BTreeSet;

use super::volumes::Volumes;
use super::{env_files, environment, mounts, probes, resources, restarts, security};
use crate::names;
use crate::status::FieldError;
use crate::value::Field;

/// What an ephemeral container may not have.
const NOT_EPHEMERAL: [&str; 7] = [
    "ports",
    "resources",
    "resizePolicy",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];

/// What a container's rules need to know of its pod.
struct Pod<'a> {
    spec: &'a Field<'a>,
    volumes: &'a Volumes<'a>,
    /// Seconds between the wish to stop it and its end by force.
    grace: Option<i64>,
}

/// Rules for all containers of a pod; `volumes` are those they may mount.
pub fn check<'a>(spec: &'a Field<'a>, volumes: &'a Volumes<'a>, errors: &mut Vec<FieldError>) {
    let grace = spec.get("terminationGracePeriodSeconds").int();
    let pod = Pod { spec, volumes, grace };
    let mut seen = BTreeSet::new();
    pod.mains(&mut seen, errors);
    pod.inits(&mut seen, errors);
    pod.ephemerals(&mut seen, errors);
}

/// Rules that hold for the containers of pods, and not for those of templates.
pub fn of_pods_only(spec: &Field, errors: &mut Vec<FieldError>) {
    for list in ["containers", "initContainers"] {
        for container in spec.items(list) {
            whitespace(&container.get("image"), errors);
        }
    }
}

fn unique<'a>(container: &Field<'a>, seen: &mut BTreeSet<&'a str>, errors: &mut Vec<FieldError>) {
    let name = container.get("name");
    if !name.is_blank() && !seen.insert(name.text()) {
        errors.push(name.duplicate());
    }
}

impl<'a> Pod<'a> {
    fn mains(&self, seen: &mut BTreeSet<&'a str>, errors: &mut Vec<FieldError>) {
        let mains = self.spec.items("containers");
        if mains.is_empty() {
            errors.push(self.spec.get("containers").required(""));
        }
        for container in &mains {
            self.one(container, errors);
            restarts::check(container, errors);
            unique(container, seen, errors);
            probes::check(container, self.grace, errors);
        }
        host_ports(&mains, errors);
    }

    fn inits(&self, seen: &mut BTreeSet<&'a str>, errors: &mut Vec<FieldError>) {
        for container in self.spec.items("initContainers") {
            self.one(&container, errors);
            restarts::check(&container, errors);
            unique(&container, seen, errors);
            host_ports(std::slice::from_ref(&container), errors);
            if container.get("restartPolicy").text() == "Always" {
                probes::check(&container, self.grace, errors);
                continue;
            }
            for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                let field = container.get(key);
                if field.is_set() {
                    let why = "may not be set for init containers without restartPolicy=Always";
                    errors.push(field.forbidden(why));
                }
            }
        }
    }

    fn ephemerals(&self, seen: &mut BTreeSet<&'a str>, errors: &mut Vec<FieldError>) {
        const WHY: &str = "cannot be set for an Ephemeral Container";
        let others = seen.clone();
        for container in self.spec.items("ephemeralContainers") {
            self.one(&container, errors);
            whitespace(&container.get("image"), errors);
            unique(&container, seen, errors);
            let target = container.get("targetContainerName");
            if !target.is_blank() && !others.contains(target.text()) {
                errors.push(target.not_found());
            }
            let set = NOT_EPHEMERAL.iter().map(|key| container.get(key));
            errors.extend(set.filter(|f| !f.is_blank()).map(|f| f.forbidden(WHY)));
            let restart = container.get("restartPolicy");
            if restart.is_set() {
                errors.push(restart.forbidden(WHY));
            }
            for mount in container.items("volumeMounts") {
                let paths = ["subPath", "subPathExpr"].map(|key| mount.get(key));
                errors.extend(paths.iter().filter(|p| !p.is_blank()).map(|p| p.forbidden(WHY)));
            }
        }
    }

    /// What holds for containers of every sort.
    fn one(&self, container: &Field, errors: &mut Vec<FieldError>) {
        let name = container.get("name");
        if name.needed(errors) {
            errors.extend(name.invalid_each(names::is_dns_label(name.text())));
        }
        container.get("image").needed(errors);
        container
            .get("terminationMessagePolicy")
            .one_of(&["File", "FallbackToLogsOnError"], errors);
        ports(container, errors);
        environment::check(container, errors);
        env_files::check(container, self.volumes, errors);
        mounts::check(container, self.volumes, errors);
        container
            .get("imagePullPolicy")
            .one_of(&["Always", "IfNotPresent", "Never"], errors);
        resources::of_container(&container.get("resources"), self.spec, errors);
        resize_policy(container, self.spec.get("restartPolicy").text(), errors);
        let host_users = self.spec.get("hostUsers").value != &serde_json::Value::Bool(false);
        security::container(&container.get("securityContext"), host_users, errors);
    }
}

fn whitespace(image: &Field, errors: &mut Vec<FieldError>) {
    if image.text().trim() != image.text() {
        errors.push(image.invalid("must not have leading or trailing whitespace"));
    }
}

/// Rules for the image of a container that is changed.
pub fn image(image: &Field, errors: &mut Vec<FieldError>) {
    image.needed(errors);
    whitespace(image, errors);
}

fn ports(container: &Field, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for port in container.items("ports") {
        let name = port.get("name");
        if !name.is_blank() {
            let wrong = names::is_port_name(name.text());
            let fine = wrong.is_empty();
            errors.extend(name.invalid_each(wrong));
            if fine && !seen.insert(name.text()) {
                errors.push(name.duplicate());
            }
        }
        let number = port.get("containerPort");
        match number.int().unwrap_or(0) {
            0 => errors.push(number.required("")),
            n => errors.extend(number.invalid_each(names::is_port_number(n))),
        }
        let host = port.get("hostPort");
        if let Some(n) = host.int().filter(|n| *n != 0) {
            errors.extend(host.invalid_each(names::is_port_number(n)));
        }
        port.get("protocol").one_of(&["SCTP", "TCP", "UDP"], errors);
    }
}

/// No two of these containers may take one port of the host.
fn host_ports(containers: &[Field], errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for port in containers.iter().flat_map(|container| container.items("ports")) {
        let host = port.get("hostPort");
        let number = host.int().unwrap_or(0);
        let key = (number, port.get("hostIP").text(), port.get("protocol").text());
        if number != 0 && !seen.insert(key) {
            errors.push(FieldError::duplicate(
                &host.path,
                format!("{}/{}/{number}", key.2, key.1),
            ));
        }
    }
}

/// With the host's network, host and container port agree; a template may leave the host's out.
pub fn host_network(spec: &Field, is_pod: bool, errors: &mut Vec<FieldError>) {
    if !spec.get("hostNetwork").flag() {
        return;
    }
    for port in spec.items("containers").iter().flat_map(|c| c.items("ports")) {
        let host = port.get("hostPort");
        let (number, own) = (
            host.int().unwrap_or(0),
            port.get("containerPort").int().unwrap_or(0),
        );
        if (is_pod || number != 0) && number != own {
            let why = "must match `containerPort` when `hostNetwork` is true";
            errors.push(FieldError::invalid(&host.path, number, why));
        }
    }
}

fn resize_policy(container: &Field, restart_policy: &str, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    let path = container.path_of("resizePolicy");
    for policy in container.items("resizePolicy") {
        let (name, restart) = (policy.get("resourceName"), policy.get("restartPolicy"));
        if !seen.insert(name.text()) {
            errors.push(FieldError::duplicate(&policy.path, name.value.clone()));
        }
        Field::new(name.value, &path).one_of(&["cpu", "memory"], errors);
        let restart = Field::new(restart.value, &path);
        restart.one_of(&["NotRequired", "RestartContainer"], errors);
        if restart_policy == "Never" && restart.text() != "NotRequired" {
            errors.push(restart.invalid("must be 'NotRequired' when `restartPolicy` is 'Never'"));
        }
    }
}
