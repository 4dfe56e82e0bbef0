//! Linux.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use cap_std::fs::Dir;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RawDir, ResolveFlags, Statx, StatxAttributes, StatxFlags, Timespec,
    Timestamps, UTIME_NOW, Uid,
};
use rustix::io::Errno;

use super::super::{FreeSpace, Kind};
use super::system::{Access, Found, System, nanoseconds_of};

/// Attempts of `openat2`, which fails with `EAGAIN` when another process renames a folder of the path.
const ATTEMPTS: u32 = 8;

/// Size of the buffer for names of entries.
const NAMES_BYTES: usize = 32 * 1024;

/// Limit on the value of an extended attribute (`XATTR_SIZE_MAX`), and on the list of their names.
const ATTRIBUTE_BYTES: usize = 64 * 1024;

/// The type of the file systems of user space (`linux/magic.h`).
const FUSE_SUPER_MAGIC: rustix::fs::FsWord = 0x6573_5546;

/// The kernel or its filter has no `openat2`.
static NO_OPENAT2: AtomicBool = AtomicBool::new(false);

/// The calls of Linux.
#[derive(Debug)]
pub struct Linux;

impl System for Linux {
    fn open_folder(root: &Dir, path: &str) -> io::Result<Dir> {
        if !NO_OPENAT2.load(Ordering::Relaxed) {
            let resolve = ResolveFlags::BENEATH
                | ResolveFlags::NO_SYMLINKS
                | ResolveFlags::NO_MAGICLINKS
                | ResolveFlags::NO_XDEV;
            for _ in 0..ATTEMPTS {
                match rustix::fs::openat2(root, path, FOLDER, Mode::empty(), resolve) {
                    Ok(folder) => return Ok(dir(folder)),
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    Err(Errno::NOSYS | Errno::PERM) => {
                        NO_OPENAT2.store(true, Ordering::Relaxed);
                        break;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        open_part_by_part(root, path)
    }

    fn open_file(folder: &Dir, name: &str, access: Access) -> io::Result<File> {
        let access = match access {
            Access::Read | Access::Sync | Access::Metadata => OFlags::RDONLY,
            Access::Write => OFlags::WRONLY,
        };
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(folder, name, flags, Mode::empty())?.into())
    }

    fn stat(folder: &Dir, name: &str) -> io::Result<Found> {
        // An empty name is the folder itself for some calls.
        if name.is_empty() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        Ok(found(&rustix::fs::statx(folder, name, flags, WANTED)?))
    }

    fn meta_of_folder(folder: &Dir) -> io::Result<Found> {
        meta(folder)
    }

    fn meta_of_file(file: &File) -> io::Result<Found> {
        meta(file)
    }

    fn list(folder: &Dir, each: &mut dyn FnMut(Result<&str, String>, Found)) -> io::Result<()> {
        let mut buffer = vec![MaybeUninit::uninit(); NAMES_BYTES];
        let mut entries = RawDir::new(folder, &mut buffer);
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if [c".", c".."].contains(&name) {
                continue;
            }
            let found = match rustix::fs::statx(folder, name, flags, WANTED) {
                Ok(found) => self::found(&found),
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            each(
                name.to_str().map_err(|_| name.to_string_lossy().into_owned()),
                found,
            );
        }
        Ok(())
    }

    fn sync_folder(folder: &Dir) -> io::Result<()> {
        Ok(rustix::fs::fsync(folder)?)
    }

    fn sync_volume(folder: &Dir) -> io::Result<bool> {
        rustix::fs::syncfs(folder)?;
        Ok(true)
    }

    fn touch(file: &File) -> i64 {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        };
        let times = Timestamps {
            last_access: now,
            last_modification: now,
        };
        let touched = rustix::fs::futimens(file, &times)
            .map_err(io::Error::from)
            .and_then(|()| meta(file));
        if let Ok(found) = touched {
            return found.modified;
        }
        // For example on a volume that was remounted read-only.
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        nanoseconds_of(now.tv_sec, now.tv_nsec.try_into().unwrap_or_default())
    }

    fn copy_attributes(from: &File, to: &File) -> io::Result<()> {
        copy_extended_attributes(from, to);
        let (old, new) = (rustix::fs::fstat(from)?, rustix::fs::fstat(to)?);
        let mut mode = old.st_mode & 0o777;
        if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid) {
            let (owner, group) = (Uid::from_raw(old.st_uid), Gid::from_raw(old.st_gid));
            let is_given = rustix::fs::fchown(to, Some(owner), Some(group)).is_ok()
                || rustix::fs::fchown(to, None, Some(group)).is_ok();
            // Another group gets no more than everybody.
            if !is_given && old.st_gid != new.st_gid {
                mode = mode & !0o070 | (mode & 0o007) << 3;
            }
        }
        match rustix::fs::fchmod(to, Mode::from_raw_mode(mode)) {
            // A volume without modes, and a file that is another user's now.
            Err(Errno::PERM | Errno::NOTSUP) => Ok(()),
            set => Ok(set?),
        }
    }

    fn space(folder: &Dir) -> io::Result<FreeSpace> {
        super::system::space(folder)
    }

    fn volume_id(folder: &Dir) -> Option<u64> {
        rustix::fs::fstatvfs(folder).ok().map(|found| found.f_fsid)
    }

    fn is_of_user_space(folder: &Dir) -> bool {
        rustix::fs::fstatfs(folder).is_ok_and(|found| found.f_type == FUSE_SUPER_MAGIC)
    }
}

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

const WANTED: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

fn dir(folder: OwnedFd) -> Dir {
    Dir::from_std_file(File::from(folder))
}

/// Opens a folder name by name. Without `openat2`, a folder of the same file system that is mounted here once
/// more is not noticed.
pub(super) fn open_part_by_part(root: &Dir, path: &str) -> io::Result<Dir> {
    let device = meta(root)?.device;
    let mut folder = dir(rustix::fs::openat(root, ".", FOLDER, Mode::empty())?);
    for name in path.split('/').filter(|name| *name != ".") {
        if name == ".." {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        folder = dir(rustix::fs::openat(&folder, name, FOLDER, Mode::empty())?);
        if meta(&folder)?.device != device {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
    }
    Ok(folder)
}

fn meta(of: impl AsFd) -> io::Result<Found> {
    Ok(found(&rustix::fs::statx(of, "", AtFlags::EMPTY_PATH, WANTED)?))
}

fn found(found: &Statx) -> Found {
    let kind = match FileType::from_raw_mode(found.stx_mode.into()) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Folder,
        FileType::Symlink => Kind::Link,
        _ => Kind::Special,
    };
    let birth = nanoseconds_of(found.stx_btime.tv_sec, found.stx_btime.tv_nsec);
    let has_birth = found.stx_mask & StatxFlags::BTIME.bits() != 0 && birth != 0;
    Found {
        kind,
        device: rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor),
        inode: found.stx_ino,
        birth: has_birth.then_some(birth),
        size: found.stx_size,
        modified: nanoseconds_of(found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec),
        changed: nanoseconds_of(found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec),
        executable: Some(found.stx_mode & 0o100 != 0),
        links: found.stx_nlink,
        is_mount: found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
    }
}

/// Copies what this user may set. Labels of security modules are left out by the system.
fn copy_extended_attributes(from: &File, to: &File) {
    let mut names = Vec::with_capacity(ATTRIBUTE_BYTES);
    if rustix::fs::flistxattr(from, rustix::buffer::spare_capacity(&mut names)).is_err() {
        return;
    }
    let mut value = Vec::with_capacity(ATTRIBUTE_BYTES);
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        value.clear();
        if rustix::fs::fgetxattr(from, name, rustix::buffer::spare_capacity(&mut value)).is_ok() {
            let _ = rustix::fs::fsetxattr(to, name, &value, rustix::fs::XattrFlags::empty());
        }
    }
}
