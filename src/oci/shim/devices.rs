//! Devices of the machine for a container, as the runtime library is told of them.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use serde_json::{Value, json};

use crate::spec::Device;

/// The devices themselves, and the rules that let the container use them.
///
/// # Errors
/// One that is none, in words.
pub(super) fn describe(devices: &[Device]) -> Result<(Vec<Value>, Vec<Value>), String> {
    let all = devices.iter().map(one).collect::<Result<Vec<_>, String>>()?;
    Ok(all.into_iter().unzip())
}

fn one(device: &Device) -> Result<(Value, Value), String> {
    let host = device.host.display();
    let found = fs::metadata(&device.host).map_err(|error| format!("device {host}: {error}"))?;
    let kind = match found.file_type() {
        kind if kind.is_char_device() => "c",
        kind if kind.is_block_device() => "b",
        _ => return Err(format!("{host} is not a device")),
    };
    if !device.path.starts_with("/dev/") {
        return Err(format!(
            "device {host}: {:?} is not a path below /dev",
            device.path
        ));
    }
    let (major, minor) = (
        nix::sys::stat::major(found.rdev()),
        nix::sys::stat::minor(found.rdev()),
    );
    let made = json!({"path": device.path, "type": kind, "major": major, "minor": minor,
        "fileMode": found.mode() & 0o777, "uid": found.uid(), "gid": found.gid()});
    let rule =
        json!({"allow": true, "type": kind, "major": major, "minor": minor, "access": device.permissions});
    Ok((made, rule))
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
        let (made, rules) = describe(&[device("/dev/null", "/dev/gadget")]).unwrap();
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
    fn what_is_no_device_is_named() {
        let why = |device| describe(&[device]).unwrap_err();
        assert!(why(device("/etc/passwd", "/dev/x")).contains("/etc/passwd is not a device"));
        assert!(why(device("/dev/null", "/etc/x")).contains("not a path below /dev"));
        assert!(why(device("/dev/none", "/dev/x")).contains("/dev/none"));
    }
}
