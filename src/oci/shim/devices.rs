//! Devices of the machine for a container, as the runtime library is told of them.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use serde_json::{Value, json};
use sys::cgroup::devices::{Allowed, Kind, MAKE, READ, WRITE};

use crate::spec::Device;

/// What makes devices a container's.
#[derive(Debug, Default)]
pub(super) struct Described {
    /// Those below `/dev`, which are made there.
    pub(super) made: Vec<Value>,
    /// Those elsewhere, whose files are shown: the library makes none there.
    pub(super) shown: Vec<Value>,
    /// The rules that let the container use them.
    pub(super) rules: Vec<Value>,
}

/// Describes devices.
///
/// # Errors
/// One that is none, in words.
pub(super) fn describe(devices: &[Device]) -> Result<Described, String> {
    let mut all = Described::default();
    for device in devices {
        add(&mut all, device)?;
    }
    Ok(all)
}

fn add(all: &mut Described, device: &Device) -> Result<(), String> {
    let host = device.host.display();
    let found = fs::metadata(&device.host).map_err(|error| format!("device {host}: {error}"))?;
    let kind = match found.file_type() {
        kind if kind.is_char_device() => "c",
        kind if kind.is_block_device() => "b",
        _ => return Err(format!("{host} is not a device")),
    };
    if !device.path.starts_with('/') || device.path.split('/').any(|part| part == "..") {
        return Err(format!(
            "device {host}: {:?} is not a path in a container",
            device.path
        ));
    }
    let (major, minor) = (
        nix::sys::stat::major(found.rdev()),
        nix::sys::stat::minor(found.rdev()),
    );
    all.rules.push(
        json!({"allow": true, "type": kind, "major": major, "minor": minor, "access": device.permissions}),
    );
    match device.path.starts_with("/dev/") {
        true => all.made.push(
            json!({"path": device.path, "type": kind, "major": major, "minor": minor,
            "fileMode": found.mode() & 0o777, "uid": found.uid(), "gid": found.gid()}),
        ),
        false => all.shown.push(
            json!({"destination": device.path, "type": "bind", "source": device.host, "options": ["bind"]}),
        ),
    }
    Ok(())
}

/// What every container may do, as the runtime library has it where the kernel keeps version 1's lists: make the file of
/// any device, and use those that tell nothing, the terminals and those of virtual networks.
const ALWAYS: [(Kind, Option<u32>, Option<u32>, u32); 12] = [
    (Kind::Character, None, None, MAKE),
    (Kind::Block, None, None, MAKE),
    (Kind::Character, Some(1), Some(3), ALL),
    (Kind::Character, Some(1), Some(5), ALL),
    (Kind::Character, Some(1), Some(7), ALL),
    (Kind::Character, Some(1), Some(8), ALL),
    (Kind::Character, Some(1), Some(9), ALL),
    (Kind::Character, Some(5), Some(0), ALL),
    (Kind::Character, Some(5), Some(1), ALL),
    (Kind::Character, Some(5), Some(2), ALL),
    (Kind::Character, Some(136), None, ALL),
    (Kind::Character, Some(10), Some(200), ALL),
];
const ALL: u32 = MAKE | READ | WRITE;

/// What the kernel is told of devices where control groups are of version 2; nothing is refused to a privileged
/// container.
pub(super) fn allowed(privileged: bool, rules: &[Value]) -> Option<Vec<Allowed>> {
    let always = ALWAYS.iter().map(|&(kind, major, minor, access)| Allowed {
        kind,
        major,
        minor,
        access,
    });
    (!privileged).then(|| always.chain(rules.iter().map(allowed_by)).collect())
}

/// A rule as [`describe`] makes it.
fn allowed_by(rule: &Value) -> Allowed {
    let number = |name: &str| rule[name].as_u64().and_then(|number| number.try_into().ok());
    let letters = rule["access"].as_str().unwrap_or_default().chars();
    Allowed {
        kind: if rule["type"] == "b" {
            Kind::Block
        } else {
            Kind::Character
        },
        major: number("major"),
        minor: number("minor"),
        access: letters.fold(0, |access, letter| {
            access
                | match letter {
                    'm' => MAKE,
                    'r' => READ,
                    'w' => WRITE,
                    _ => 0,
                }
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(host: &str, path: &str) -> Device {
        Device {
            host: host.into(),
            path: path.to_owned(),
            permissions: "rw".to_owned(),
        }
    }

    #[test]
    fn a_device_is_made_and_allowed() {
        let Described { made, shown, rules } = describe(&[device("/dev/null", "/dev/gadget")]).unwrap();
        assert!(shown.is_empty());
        assert_eq!(
            (&made[0]["path"], &made[0]["major"], &made[0]["minor"]),
            (&json!("/dev/gadget"), &json!(1), &json!(3))
        );
        assert_eq!(
            (&rules[0]["type"], &rules[0]["access"]),
            (&json!("c"), &json!("rw"))
        );
    }

    #[test]
    fn elsewhere_a_device_is_shown() {
        let Described { made, shown, rules } = describe(&[device("/dev/null", "/data/disk")]).unwrap();
        assert_eq!((made.len(), rules.len()), (0, 1));
        assert_eq!(
            (&shown[0]["source"], &shown[0]["destination"]),
            (&json!("/dev/null"), &json!("/data/disk"))
        );
    }

    #[test]
    fn version_2_is_told_the_same_rules() {
        let Described { rules, .. } = describe(&[device("/dev/null", "/dev/gadget")]).unwrap();
        let list = allowed(false, &rules).unwrap();
        let last = Allowed {
            kind: Kind::Character,
            major: Some(1),
            minor: Some(3),
            access: READ | WRITE,
        };
        assert_eq!((list.len(), list.last()), (ALWAYS.len() + 1, Some(&last)));
        assert_eq!(allowed(true, &rules), None);
    }

    #[test]
    fn what_is_no_device_is_named() {
        let why = |device| describe(&[device]).unwrap_err();
        assert!(why(device("/etc/passwd", "/dev/x")).contains("/etc/passwd is not a device"));
        assert!(why(device("/dev/null", "/dev/../x")).contains("not a path in a container"));
        assert!(why(device("/dev/none", "/dev/x")).contains("/dev/none"));
    }
}
