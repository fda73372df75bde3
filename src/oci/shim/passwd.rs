//! Who a process runs as: names of the image's `/etc/passwd` and `/etc/group`.

use std::fs;
use std::path::Path;

use crate::spec::User;

/// A user, resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    /// Home folder; `/` when the image does not say.
    pub(super) home: String,
}

/// Resolves the image's user (`name`, `uid`, `user:group`) and what the pod says instead.
///
/// # Errors
/// When a name is not in the image's files.
pub(super) fn resolve(root: &Path, image: &str, pod: &User) -> Result<Identity, String> {
    let passwd = read(root, "etc/passwd");
    let group = read(root, "etc/group");
    let (user_text, group_text) = image.split_once(':').unwrap_or((image, ""));
    let entry = match pod.uid {
        Some(uid) => by_number(&passwd, uid).unwrap_or(Entry {
            uid,
            gid: 0,
            name: String::new(),
            home: String::new(),
        }),
        None => find_user(&passwd, user_text)?,
    };
    let gid = match pod.gid {
        Some(gid) => gid,
        None if pod.uid.is_none() && !group_text.is_empty() => find_group(&group, group_text)?,
        None => entry.gid,
    };
    if pod.must_not_be_root && entry.uid == 0 {
        return Err("container has runAsNonRoot and image will run as root".to_owned());
    }
    let mut groups = pod.groups.clone();
    if !pod.only_given_groups {
        groups.extend(memberships(&group, &entry.name));
    }
    groups.sort_unstable();
    groups.dedup();
    let home = if entry.home.is_empty() {
        "/".to_owned()
    } else {
        entry.home
    };
    Ok(Identity {
        uid: entry.uid,
        gid,
        groups,
        home,
    })
}

struct Entry {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

/// A file of the image; a link that leads out of it is not followed, as then the content would be the machine's.
fn read(root: &Path, name: &str) -> String {
    let path = root.join(name);
    let inside = path.canonicalize().is_ok_and(|real| real.starts_with(root));
    if inside {
        fs::read_to_string(path).unwrap_or_default()
    } else {
        String::new()
    }
}

fn entries(passwd: &str) -> impl Iterator<Item = Entry> + '_ {
    passwd.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, ..] = fields.as_slice() else {
            return None;
        };
        Some(Entry {
            name: (*name).to_owned(),
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            home: (*home).to_owned(),
        })
    })
}

fn by_number(passwd: &str, uid: u32) -> Option<Entry> {
    entries(passwd).find(|entry| entry.uid == uid)
}

fn find_user(passwd: &str, text: &str) -> Result<Entry, String> {
    let text = if text.is_empty() { "0" } else { text };
    if let Ok(uid) = text.parse() {
        let unnamed = Entry {
            name: String::new(),
            uid,
            gid: 0,
            home: String::new(),
        };
        return Ok(by_number(passwd, uid).unwrap_or(unnamed));
    }
    entries(passwd)
        .find(|entry| entry.name == text)
        .ok_or_else(|| format!("unable to find user {text}: no matching entries in passwd file"))
}

fn find_group(group: &str, text: &str) -> Result<u32, String> {
    if let Ok(gid) = text.parse() {
        return Ok(gid);
    }
    lines(group)
        .find(|(name, ..)| *name == text)
        .map(|(_, gid, _)| gid)
        .ok_or_else(|| format!("unable to find group {text}: no matching entries in group file"))
}

fn lines(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, gid) = (fields.next()?, fields.nth(1)?);
        Some((name, gid.parse().ok()?, fields.next().unwrap_or_default()))
    })
}

fn memberships<'a>(group: &'a str, user: &'a str) -> impl Iterator<Item = u32> + 'a {
    lines(group)
        .filter(move |(_, _, members)| !user.is_empty() && members.split(',').any(|member| member == user))
        .map(|(_, gid, _)| gid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        fs::write(
            dir.path().join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home/app:/bin/sh\n",
        )
        .unwrap();
        fs::write(
            dir.path().join("etc/group"),
            "root:x:0:\nstaff:x:50:app\nextra:x:60:bob,app\n",
        )
        .unwrap();
        dir
    }

    #[test]
    fn names_and_numbers_are_resolved() {
        let dir = image();
        let root = dir.path().canonicalize().unwrap();
        let nobody = User::default();
        let app = resolve(&root, "app", &nobody).unwrap();
        assert_eq!((app.uid, app.gid, app.home.as_str()), (1000, 1001, "/home/app"));
        assert_eq!(app.groups, [50, 60]);
        assert_eq!(resolve(&root, "", &nobody).unwrap().uid, 0);
        assert_eq!(resolve(&root, "app:staff", &nobody).unwrap().gid, 50);
        assert_eq!(resolve(&root, "4242", &nobody).unwrap().uid, 4242);
        assert!(
            resolve(&root, "ghost", &nobody)
                .unwrap_err()
                .contains("unable to find user ghost")
        );
    }

    #[test]
    fn the_pod_has_the_last_word() {
        let dir = image();
        let root = dir.path().canonicalize().unwrap();
        let pod = User {
            uid: Some(7),
            gid: Some(8),
            groups: vec![9],
            must_not_be_root: true,
            ..User::default()
        };
        let found = resolve(&root, "app", &pod).unwrap();
        assert_eq!((found.uid, found.gid, found.groups), (7, 8, vec![9]));
        let rootless = User {
            must_not_be_root: true,
            ..User::default()
        };
        assert!(
            resolve(&root, "", &rootless)
                .unwrap_err()
                .contains("runAsNonRoot")
        );
    }
}
