//! Archives of friends and of foes.

use std::fs;

use tar::{Builder, Header};

use super::*;

fn archive(build: impl FnOnce(&mut Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    build(&mut builder);
    builder.into_inner().unwrap()
}

/// Adds an entry with a name as hostile as wished, which the builder's own methods would refuse.
fn add(builder: &mut Builder<Vec<u8>>, kind: EntryType, name: &str, link: &str, content: &[u8]) {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_size(content.len() as u64);
    header.set_cksum();
    builder.append(&header, content).unwrap();
}

fn try_unpack(bytes: &[u8]) -> (tempfile::TempDir, Result<(), ImageError>) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let mut budget = Budget::of(dir.path(), bytes.len() as u64).unwrap();
    let result = unpack(&mut &bytes[..], &root, &mut budget);
    (dir, result)
}

#[test]
fn files_folders_and_links_arrive() {
    let bytes = archive(|b| {
        add(b, EntryType::Directory, "bin/", "", b"");
        add(b, EntryType::Regular, "bin/sh", "", b"shell");
        add(b, EntryType::Symlink, "sh", "/bin/sh", b"");
        add(b, EntryType::Link, "hard", "bin/sh", b"");
        add(b, EntryType::Regular, "deep/below/file", "", b"x");
    });
    let (dir, result) = try_unpack(&bytes);
    result.unwrap();
    let root = dir.path().join("root");
    assert_eq!(fs::read(root.join("bin/sh")).unwrap(), b"shell");
    assert_eq!(fs::read(root.join("hard")).unwrap(), b"shell");
    assert_eq!(fs::read_link(root.join("sh")).unwrap(), Path::new("/bin/sh"));
    assert!(root.join("deep/below/file").is_file());
}

#[test]
fn nothing_escapes() {
    let (dir, result) = try_unpack(&archive(|b| add(b, EntryType::Regular, "../evil", "", b"x")));
    assert!(result.unwrap_err().to_string().contains("leaves the layer"));
    assert!(!dir.path().join("evil").exists());

    // A link out of the layer leads to its root instead.
    let (dir, result) = try_unpack(&archive(|b| {
        add(b, EntryType::Symlink, "out", "/", b"");
        add(b, EntryType::Regular, "out/evil", "", b"x");
    }));
    result.unwrap();
    assert!(dir.path().join("root/evil").is_file());
    assert!(!Path::new("/evil").exists());

    let (_dir, result) = try_unpack(&archive(|b| {
        add(b, EntryType::Link, "hard", "../../etc/passwd", b"")
    }));
    assert!(result.is_err());
}

#[test]
fn a_cut_archive_is_refused() {
    let bytes = archive(|b| add(b, EntryType::Regular, "file", "", &[7; 4096]));
    let (_dir, result) = try_unpack(&bytes[..1024]);
    assert!(result.is_err());
}

#[test]
fn whiteouts_become_what_overlayfs_reads() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: making device nodes needs root");
        assert!(std::env::var_os("CI").is_none(), "CI must run this as root");
        return;
    }
    let bytes = archive(|b| {
        add(b, EntryType::Regular, "dir/.wh.gone", "", b"");
        add(b, EntryType::Regular, "all/.wh..wh..opq", "", b"");
    });
    let (dir, result) = try_unpack(&bytes);
    result.unwrap();
    let root = dir.path().join("root");
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let meta = fs::symlink_metadata(root.join("dir/gone")).unwrap();
    assert!(meta.file_type().is_char_device());
    assert_eq!(meta.rdev(), 0);
    let opaque = xattr::get(root.join("all"), "trusted.overlay.opaque").unwrap();
    assert_eq!(opaque.as_deref(), Some(&b"y"[..]));
}

/// Adds the long form of a name, as GNU tar writes it.
fn long_name(builder: &mut Builder<Vec<u8>>, name: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_path("././@LongLink").unwrap();
    header.set_entry_type(EntryType::GNULongName);
    header.set_size(name.len() as u64);
    header.set_cksum();
    builder.append(&header, name).unwrap();
}

#[test]
fn absolute_names_and_detours_stay_within() {
    let (dir, result) = try_unpack(&archive(|b| {
        add(b, EntryType::Regular, "/etc/motd", "", b"a");
        add(b, EntryType::Regular, "a/b/../../c", "", b"c");
        add(b, EntryType::Symlink, "up", "../../..", b"");
        add(b, EntryType::Regular, "up/here", "", b"h");
    }));
    result.unwrap();
    let root = dir.path().join("root");
    for file in ["etc/motd", "c", "here"] {
        assert!(root.join(file).is_file(), "{file}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_file_written_through_an_earlier_link_stays_within() {
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, "kept").unwrap();
    let name = secret.to_str().unwrap().to_owned();
    let (_dir, result) = try_unpack(&archive(|b| {
        add(b, EntryType::Symlink, "link", &name, b"");
        add(b, EntryType::Regular, "link", "", b"overwritten");
        add(b, EntryType::Symlink, "again", &name, b"");
        add(b, EntryType::Link, "hard", "again", b"");
        add(b, EntryType::Regular, "hard", "", b"overwritten");
    }));
    result.unwrap();
    assert_eq!(fs::read_to_string(&secret).unwrap(), "kept");
    // A hard link to what lies outside finds nothing inside.
    let (_dir, result) = try_unpack(&archive(|b| add(b, EntryType::Link, "hard", &name, b"")));
    assert!(result.is_err());
}

#[test]
fn a_whiteout_reaches_nothing_but_its_folder() {
    for name in [".wh...", ".wh..", ".wh.", "sub/.wh..."] {
        let (dir, result) = try_unpack(&archive(|b| {
            add(b, EntryType::Regular, "sub/file", "", b"x");
            add(b, EntryType::Regular, name, "", b"");
        }));
        let text = result.unwrap_err().to_string();
        assert!(text.contains("hides no name"), "{name}: {text}");
        assert!(dir.path().join("root/sub/file").is_file(), "{name}");
    }
}

#[test]
fn the_remembered_folder_is_forgotten_when_it_gives_way() {
    let (dir, result) = try_unpack(&archive(|b| {
        add(b, EntryType::Regular, "sub/one", "", b"1");
        add(b, EntryType::Symlink, "sub", "other", b"");
        add(b, EntryType::Directory, "other", "", b"");
        add(b, EntryType::Regular, "sub/two", "", b"2");
    }));
    result.unwrap();
    let root = dir.path().join("root");
    assert_eq!(fs::read(root.join("other/two")).unwrap(), b"2");
    assert!(!root.join("other/one").exists());
}

#[test]
fn names_beyond_the_kernels_are_refused_before_memory_is_spent() {
    let (_dir, result) = try_unpack(&archive(|b| {
        long_name(b, &[b'a'; 5000]);
        add(b, EntryType::Regular, "short", "", b"");
    }));
    assert!(result.unwrap_err().to_string().contains("more than 4096 bytes"));
    let (_dir, result) = try_unpack(&archive(|b| {
        long_name(b, &vec![b'a'; 2 << 20]);
        add(b, EntryType::Regular, "short", "", b"");
    }));
    assert!(
        result
            .unwrap_err()
            .to_string()
            .contains("headers have more than 1048576 bytes")
    );
    let (_dir, result) = try_unpack(&archive(|b| {
        long_name(b, &[b'a'; 300]);
        add(b, EntryType::Regular, "short", "", b"");
    }));
    assert!(result.unwrap_err().to_string().contains("File name too long"));
}

#[test]
fn what_a_program_needs_of_its_mode_is_kept() {
    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_path("bin/su").unwrap();
    header.set_mode(0o4755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header.set_cksum();
    builder.append(&header, &b""[..]).unwrap();
    let (dir, result) = try_unpack(&builder.into_inner().unwrap());
    result.unwrap();
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(dir.path().join("root/bin/su"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o4755);
}

#[test]
fn attributes_that_steer_the_overlay_are_not_taken() {
    let mut builder = Builder::new(Vec::new());
    let attributes = [("SCHILY.xattr.trusted.overlay.redirect", &b"/etc"[..])];
    builder.append_pax_extensions(attributes).unwrap();
    add(&mut builder, EntryType::Directory, "sub", "", b"");
    let (dir, result) = try_unpack(&builder.into_inner().unwrap());
    result.unwrap();
    let found = xattr::get(dir.path().join("root/sub"), "trusted.overlay.redirect").unwrap_or_default();
    assert_eq!(found, None);
}
