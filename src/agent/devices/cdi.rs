//! Devices that a plugin names and that files of the machine describe (Container Device Interface,
//! `/etc/cdi` and `/var/run/cdi`): `vendor.com/class=name` stands for variables, files, devices and hooks.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::ledger::{Grant, GrantedMount};

/// Where descriptions lie on every machine; what a later folder says of a device counts more.
const FOLDERS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// Before the names of annotations that name devices, too.
const ANNOTATION: &str = "cdi.k8s.io/";

/// One file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Description {
    kind: String,
    devices: Vec<Named>,
    container_edits: Edits,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Named {
    name: String,
    container_edits: Edits,
}

/// What a device makes of a container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Edits {
    env: Vec<String>,
    device_nodes: Vec<Node>,
    mounts: Vec<Shown>,
    hooks: Vec<Hook>,
    #[serde(rename = "additionalGids")]
    groups: Vec<u32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Node {
    path: String,
    host_path: String,
    permissions: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Shown {
    host_path: String,
    container_path: String,
    options: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Hook {
    hook_name: String,
    path: String,
    args: Vec<String>,
    env: Vec<String>,
    timeout: Option<i64>,
}

/// The devices that a plugin's annotations name.
pub fn of_annotations<'a>(annotations: impl Iterator<Item = (&'a String, &'a String)>) -> Vec<String> {
    let ours = annotations.filter(|(name, _)| name.starts_with(ANNOTATION));
    let names = ours.flat_map(|(_, list)| list.split(','));
    names
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// What the devices of those names make of a container; `own` is the node's own folder of descriptions. Blocks.
///
/// # Errors
/// A device that no file describes, or a description that cannot be met; the text says which.
pub fn look_up(names: &[String], own: &Path) -> Result<Grant, String> {
    if names.is_empty() {
        return Ok(Grant::default());
    }
    let folders = FOLDERS.iter().map(Path::new).chain([own]);
    let known: Vec<Description> = folders.flat_map(read).collect();
    resolve(names, &known)
}

/// The descriptions of a folder, by the names of their files. One that cannot be read describes nothing, and is told.
fn read(folder: &Path) -> Vec<Description> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.retain(|file| {
        file.extension()
            .is_some_and(|kind| kind == "json" || kind == "yaml")
    });
    files.sort();
    let parsed = files.into_iter().filter_map(|file| {
        let text = fs::read(&file).map_err(|error| error.to_string());
        // Whatever is JSON is YAML, too.
        let description = text.and_then(|text| parse(&text));
        let told =
            |error: &String| tracing::warn!(file = %file.display(), error, "devices are not described by it");
        description.inspect_err(told).ok()
    });
    parsed.collect()
}

fn parse(text: &[u8]) -> Result<Description, String> {
    let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}

fn resolve(names: &[String], known: &[Description]) -> Result<Grant, String> {
    let mut whole = Grant::default();
    let (mut missing, mut kinds) = (Vec::new(), BTreeMap::new());
    for name in names {
        // Later folders come last.
        let found = known.iter().rev().find_map(|description| {
            let (kind, own) = name.split_once('=')?;
            let device = description.devices.iter().find(|device| device.name == own)?;
            (description.kind == kind).then_some((description, device))
        });
        match found {
            Some((description, device)) => {
                add(&mut whole, &device.container_edits)?;
                kinds.insert(&description.kind, &description.container_edits);
            }
            None => missing.push(name.as_str()),
        }
    }
    if !missing.is_empty() {
        return Err(format!(
            "CDI device injection failed: unresolvable CDI devices {}",
            missing.join(", ")
        ));
    }
    // What a file says of all its devices comes once.
    kinds.into_values().try_for_each(|edits| add(&mut whole, edits))?;
    Ok(whole)
}

fn add(whole: &mut Grant, edits: &Edits) -> Result<(), String> {
    let variables = edits.env.iter().filter_map(|text| text.split_once('='));
    let devices = edits.device_nodes.iter().map(|node| oci::Device {
        host: if node.host_path.is_empty() {
            &node.path
        } else {
            &node.host_path
        }
        .into(),
        path: node.path.clone(),
        permissions: if node.permissions.is_empty() {
            "rwm"
        } else {
            &node.permissions
        }
        .to_owned(),
    });
    let mounts = edits.mounts.iter().map(|shown| GrantedMount {
        host: shown.host_path.clone(),
        path: shown.container_path.clone(),
        read_only: shown.options.iter().any(|option| option == "ro"),
    });
    let hooks = edits.hooks.iter().map(hook).collect::<Result<Vec<_>, String>>()?;
    whole.extend(Grant {
        env: variables
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        mounts: mounts.collect(),
        devices: devices.collect(),
        cdi: Vec::new(),
        hooks,
        groups: edits.groups.clone(),
    });
    Ok(())
}

fn hook(hook: &Hook) -> Result<oci::Hook, String> {
    let moment = oci::Moment::of(&hook.hook_name);
    Ok(oci::Hook {
        moment: moment
            .ok_or_else(|| format!("a CDI device has a hook {:?}, which there is not", hook.hook_name))?,
        path: hook.path.clone().into(),
        args: hook.args.clone(),
        env: hook.env.clone(),
        timeout_seconds: hook.timeout,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARDS: &str = r#"
cdiVersion: "0.6.0"
kind: example.com/card
devices:
- name: one
  containerEdits:
    env: [CARD=one]
    deviceNodes: [{path: /dev/card0, hostPath: /dev/null}, {path: /dev/zero, permissions: r}]
- name: all
  containerEdits:
    additionalGids: [44]
containerEdits:
  env: [DRIVER=7, CARD=none]
  mounts: [{hostPath: /lib/card, containerPath: /card, options: [ro, rbind]}]
  hooks: [{hookName: createContainer, path: /bin/link, args: [link, --all]}]
"#;

    fn asked(names: &[&str], known: &[Description]) -> Result<Grant, String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        resolve(&names, known)
    }

    #[test]
    fn a_device_is_what_its_file_says() {
        let cards = parse(CARDS.as_bytes()).unwrap();
        let grant = asked(&["example.com/card=one"], std::slice::from_ref(&cards)).unwrap();
        // What is said of one device counts more than what is said of all.
        assert_eq!(
            grant.env,
            [
                ("CARD".to_owned(), "one".to_owned()),
                ("DRIVER".to_owned(), "7".to_owned())
            ]
            .into()
        );
        let devices = grant
            .devices
            .iter()
            .map(|d| (d.host.to_str(), d.path.as_str(), d.permissions.as_str()));
        assert_eq!(
            devices.collect::<Vec<_>>(),
            [
                (Some("/dev/null"), "/dev/card0", "rwm"),
                (Some("/dev/zero"), "/dev/zero", "r")
            ]
        );
        assert!(grant.mounts[0].read_only && grant.mounts[0].path == "/card");
        assert_eq!(
            (grant.hooks.len(), grant.hooks[0].moment),
            (1, oci::Moment::CreateContainer)
        );
        let both = asked(&["example.com/card=one", "example.com/card=all"], &[cards]).unwrap();
        assert_eq!((both.groups, both.hooks.len()), (vec![44], 1));
    }

    #[test]
    fn a_later_folder_counts_more_and_what_is_missing_is_named() {
        let own = parse(CARDS.replace("CARD=one", "CARD=uno").as_bytes()).unwrap();
        let known = [parse(CARDS.as_bytes()).unwrap(), own];
        let grant = asked(&["example.com/card=one"], &known).unwrap();
        assert_eq!(grant.env["CARD"], "uno");
        let why = asked(&["example.com/card=two", "nonsense"], &known).unwrap_err();
        assert_eq!(
            why,
            "CDI device injection failed: unresolvable CDI devices example.com/card=two, nonsense"
        );
    }

    #[test]
    fn hooks_that_there_are_not_are_named() {
        let odd = parse(CARDS.replace("createContainer", "sometimes").as_bytes()).unwrap();
        assert!(
            asked(&["example.com/card=one"], &[odd])
                .unwrap_err()
                .contains("\"sometimes\"")
        );
    }

    #[test]
    fn annotations_name_devices_too() {
        let all = [
            ("cdi.k8s.io/plugin".to_owned(), "a/b=c, a/b=d".to_owned()),
            ("else".to_owned(), "a/b=e".to_owned()),
        ];
        assert_eq!(
            of_annotations(all.iter().map(|(k, v)| (k, v))),
            ["a/b=c", "a/b=d"]
        );
    }
}
