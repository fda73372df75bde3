//! Loop devices: files that stand for disks.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Requests of `linux/loop.h`.
const LOOP_SET_FD: u64 = 0x4C00;
const LOOP_CLR_FD: u64 = 0x4C01;
const LOOP_GET_STATUS64: u64 = 0x4C05;
const LOOP_SET_CAPACITY: u64 = 0x4C07;
const LOOP_CTL_GET_FREE: u64 = 0x4C82;

/// Who gives out numbers of devices.
const CONTROL: &str = "/dev/loop-control";
/// How often another number is tried after somebody else was quicker.
const ATTEMPTS: u32 = 16;

/// What the kernel says of a device (`struct loop_info64`): only which file it is matters here.
#[repr(C)]
struct Status {
    device: u64,
    inode: u64,
    rest: [u64; 27],
}

/// The device that stands for a file: the one there is, as large as the file is now, or a new one.
///
/// # Errors
/// A file that cannot be opened for writing, or a machine without loop devices; the text says which.
pub fn attach(file: &Path) -> io::Result<PathBuf> {
    let about =
        |what: &Path, error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", what.display()));
    let backing = File::options().read(true).write(true).open(file);
    let backing = backing.map_err(|error| about(file, error))?;
    if let Some(device) = find(&backing)? {
        let opened = File::open(&device).map_err(|error| about(&device, error))?;
        request(&opened, LOOP_SET_CAPACITY, 0)?;
        return Ok(device);
    }
    let control = Path::new(CONTROL);
    let control_file = File::options().read(true).write(true).open(control);
    let control_file = control_file.map_err(|error| about(control, error))?;
    for _ in 0..ATTEMPTS {
        let number = request(&control_file, LOOP_CTL_GET_FREE, 0).map_err(|error| about(control, error))?;
        let device = PathBuf::from(format!("/dev/loop{number}"));
        let opened = File::options().read(true).write(true).open(&device);
        let opened = opened.map_err(|error| about(&device, error))?;
        match request(
            &opened,
            LOOP_SET_FD,
            u64::try_from(backing.as_raw_fd()).unwrap_or_default(),
        ) {
            Ok(_) => return Ok(device),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return Err(about(&device, error)),
        }
    }
    Err(io::Error::other(format!(
        "{CONTROL}: others take every device first"
    )))
}

/// Frees the device of a file; a file without one is no error. Who still has it open keeps it until it is closed.
///
/// # Errors
/// The kernel's.
pub fn detach(file: &Path) -> io::Result<()> {
    let Some(device) = find(&File::open(file)?)? else {
        return Ok(());
    };
    match request(&File::open(device)?, LOOP_CLR_FD, 0) {
        // Somebody was quicker.
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(()),
        done => done.map(drop),
    }
}

/// The device of a file, told by its inode: names differ from one mount namespace to the next.
fn find(file: &File) -> io::Result<Option<PathBuf>> {
    let wanted = file.metadata()?;
    for device in used() {
        let Ok(opened) = File::open(&device) else { continue };
        let of_it = status(&opened).is_ok_and(|s| (s.device, s.inode) == (wanted.dev(), wanted.ino()));
        if of_it {
            return Ok(Some(device));
        }
    }
    Ok(None)
}

/// The devices that stand for something.
fn used() -> Vec<PathBuf> {
    let all = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let used = all.filter(|entry| entry.path().join("loop/backing_file").exists());
    used.map(|entry| Path::new("/dev").join(entry.file_name()))
        .collect()
}

fn status(device: &File) -> io::Result<Status> {
    let mut status = Status {
        device: 0,
        inode: 0,
        rest: [0; 27],
    };
    let place = &raw mut status;
    // SAFETY: LOOP_GET_STATUS64 writes one loop_info64 (232 bytes, any bits of which are numbers) through the pointer,
    // which is to as many bytes and lives until the call returns.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_GET_STATUS64 as libc::Ioctl, place) };
    if result == 0 {
        Ok(status)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A request whose argument is a number.
fn request(file: &File, request: u64, argument: u64) -> io::Result<i32> {
    // SAFETY: the requests above that come here take a number or a descriptor, and no pointer.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), request as libc::Ioctl, argument) };
    if result >= 0 {
        Ok(result)
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn the_kernels_structure_has_its_size() {
        assert_eq!(size_of::<Status>(), 232);
    }

    #[test]
    fn a_file_has_one_device_until_it_is_freed() {
        crate::testing::as_root(|| {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("disk");
            File::create(&file).unwrap().set_len(1 << 20).unwrap();
            let device = attach(&file).unwrap();
            assert_eq!(attach(&file).unwrap(), device);
            let mut opened = File::options().write(true).open(&device).unwrap();
            opened.write_all(&[7; 4096]).unwrap();
            opened.sync_all().unwrap();
            drop(opened);
            let mut start = [0; 1];
            File::open(&file).unwrap().read_exact(&mut start).unwrap();
            assert_eq!(start, [7]);
            // A file that grows is a device that grows when it is next asked for.
            File::options()
                .write(true)
                .open(&file)
                .unwrap()
                .set_len(3 << 20)
                .unwrap();
            assert_eq!(attach(&file).unwrap(), device);
            let sectors = Path::new("/sys/block")
                .join(device.file_name().unwrap())
                .join("size");
            assert_eq!(fs::read_to_string(sectors).unwrap().trim(), "6144");
            detach(&file).unwrap();
            detach(&file).unwrap();
            assert_eq!(find(&File::open(&file).unwrap()).unwrap(), None);
        });
    }
}
