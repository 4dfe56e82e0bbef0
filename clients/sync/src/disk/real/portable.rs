//! Systems other than Linux.

use std::fs::File;
use std::io;

use cap_fs_ext::{DirExt as _, FollowSymlinks, OpenOptionsFollowExt as _};
use cap_std::fs::{Dir, Metadata, OpenOptions};

use super::super::{FreeSpace, Kind};
use super::system::{Access, Found, System, nanoseconds};

/// The calls that `cap-std` has on all systems.
#[derive(Debug)]
pub struct Portable;

impl System for Portable {
    fn open_folder(root: &Dir, path: &str) -> io::Result<Dir> {
        let device = found(&root.dir_metadata()?).device;
        let mut folder = root.open_dir(".")?;
        for name in path.split('/').filter(|name| *name != ".") {
            folder = folder.open_dir_nofollow(name)?;
            if found(&folder.dir_metadata()?).device != device {
                return Err(io::ErrorKind::CrossesDevices.into());
            }
        }
        Ok(folder)
    }

    fn open_file(folder: &Dir, name: &str, access: Access) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.follow(FollowSymlinks::No);
        // Windows saves and changes only files that are open for writing.
        let is_changed = matches!(access, Access::Sync | Access::Metadata);
        options.read(access != Access::Write);
        options.write(access == Access::Write || cfg!(windows) && is_changed);
        #[cfg(unix)]
        {
            use cap_std::fs::OpenOptionsExt as _;
            let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
            options.custom_flags(flags.bits().try_into().map_err(io::Error::other)?);
        }
        Ok(folder.open_with(name, &options)?.into_std())
    }

    fn stat(folder: &Dir, name: &str) -> io::Result<Found> {
        Ok(found(&folder.symlink_metadata(name)?))
    }

    fn meta_of_folder(folder: &Dir) -> io::Result<Found> {
        Ok(found(&folder.dir_metadata()?))
    }

    fn meta_of_file(file: &File) -> io::Result<Found> {
        Ok(found(&Metadata::from_file(file)?))
    }

    fn list(folder: &Dir, each: &mut dyn FnMut(Result<&str, String>, Found)) -> io::Result<()> {
        for entry in folder.entries()? {
            let entry = entry?;
            let meta = match entry.metadata() {
                Ok(metadata) => found(&metadata),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let name = entry.file_name();
            each(
                name.to_str().ok_or_else(|| name.to_string_lossy().into_owned()),
                meta,
            );
        }
        Ok(())
    }

    fn sync_folder(folder: &Dir) -> io::Result<()> {
        // Windows has no call for it.
        if cfg!(windows) {
            return Ok(());
        }
        // The handle of `cap-std` may be one that cannot be saved.
        folder.open(".")?.into_std().sync_all()
    }

    fn sync_volume(_folder: &Dir) -> io::Result<bool> {
        Ok(false)
    }

    fn touch(file: &File) -> i64 {
        #[expect(
            clippy::disallowed_methods,
            reason = "these are times of files, which no test sets"
        )]
        let now = std::time::SystemTime::now();
        let touched = file.set_modified(now).and_then(|()| file.metadata()?.modified());
        nanoseconds(touched.unwrap_or(now))
    }

    fn copy_attributes(from: &File, to: &File) -> io::Result<()> {
        match to.set_permissions(from.metadata()?.permissions()) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            set => set,
        }
    }

    #[cfg(unix)]
    fn space(folder: &Dir) -> io::Result<FreeSpace> {
        super::system::space(folder)
    }

    /// Not known: a full volume is noticed when it refuses a write.
    #[cfg(not(unix))]
    fn space(_folder: &Dir) -> io::Result<FreeSpace> {
        Ok(FreeSpace {
            available: u64::MAX,
            total: u64::MAX,
        })
    }

    fn volume_id(_folder: &Dir) -> Option<u64> {
        None
    }

    fn is_of_user_space(_folder: &Dir) -> bool {
        false
    }
}

fn found(metadata: &Metadata) -> Found {
    let kind = match metadata.file_type() {
        kind if kind.is_file() => Kind::File,
        kind if kind.is_dir() => Kind::Folder,
        kind if kind.is_symlink() => Kind::Link,
        _ => Kind::Special,
    };
    let modified = metadata.modified().map_or(0, |time| nanoseconds(time.into_std()));
    let birth = metadata.created().ok().map(|time| nanoseconds(time.into_std()));
    #[cfg(unix)]
    let (device, inode, changed, executable, links) = {
        use cap_std::fs::MetadataExt as _;
        let changed = metadata
            .ctime()
            .saturating_mul(1_000_000_000)
            .saturating_add(metadata.ctime_nsec());
        let executable = Some(metadata.mode() & 0o100 != 0);
        let links = metadata.nlink().try_into().unwrap_or(u32::MAX);
        (metadata.dev(), metadata.ino(), changed, executable, links)
    };
    // Windows tells the number of a file only by a handle.
    #[cfg(not(unix))]
    let (device, inode, changed, executable, links) = (0, 0, 0, None, 1);
    Found {
        kind,
        device,
        inode,
        birth: birth.filter(|birth| *birth != 0),
        size: metadata.len(),
        modified,
        changed,
        executable,
        links,
        is_mount: false,
    }
}
