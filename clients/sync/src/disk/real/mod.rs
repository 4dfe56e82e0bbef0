//! A folder of this machine.
//!
//! Each call opens the folders of its path again, from the handle of the root, and passes single names to the
//! system after that: system calls follow links in the folders of a path. What only Linux has, the module
//! `linux` uses; the module `portable` is for the other systems, with `cap-std`.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(any(test, not(target_os = "linux")))]
mod portable;
mod probe;
pub(super) mod rename;
mod system;
#[cfg(test)]
mod tests;

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};
use model::ModifiedAt;

use super::{Disk, DiskError, DiskErrorKind, FreeSpace, Kind, Listing, Meta, RootIdentity, Stamp, Volume};
use crate::path::{Area, Folder, LocalPath, PRIVATE, Place};
use crate::portable_names::{is_short_name, is_windows_name, key};
use probe::Probed;
use rename::{exchange, rename_new};
use system::{Access, Found, System};

#[cfg(target_os = "linux")]
pub(crate) use linux::Linux as Native;
#[cfg(not(target_os = "linux"))]
pub(crate) use portable::Portable as Native;

/// In the private folder: the marker, which has the id of the root.
const MARKER: &str = "root";

/// In the private folder: a file whose times tell what the file system takes for the present.
const CLOCK: &str = "clock";

/// In the private folder: a file that is locked while a process syncs the folder.
const LOCK: &str = "lock";

/// The most bytes of a marker.
const MAX_MARKER_BYTES: u64 = 200;

/// Size of one read.
const READ_BYTES: usize = 256 * 1024;

/// A root folder of this machine.
#[derive(Debug)]
pub struct RealDisk<S: System = Native> {
    path: PathBuf,
    host: String,
    root: Dir,
    own: Dir,
    areas: [Dir; 3],
    clock: File,
    /// The device number of the root, which may be another one after the next start of the machine.
    device: u64,
    /// The device as it is saved: the id of the file system if it has one.
    volume_id: u64,
    probed: Probed,
    system: std::marker::PhantomData<S>,
}

impl RealDisk {
    /// Opens a folder, and makes it and the private folder in it if they do not exist. `host` identifies the
    /// machine.
    pub fn open(path: &Path, host: String) -> io::Result<Self> {
        Self::open_with(path, host)
    }
}

impl<S: System> RealDisk<S> {
    fn open_with(path: &Path, host: String) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        let path = path.canonicalize()?;
        // The handle of `cap-std` may be one that cannot be read.
        let root = S::open_folder(&Dir::open_ambient_dir(&path, ambient_authority())?, ".")?;
        make_private_folder(&root)?;
        let own = S::open_folder(&root, PRIVATE)?;
        let area = |area: Area| -> io::Result<Dir> {
            match own.create_dir(area.folder()) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                _ => S::open_folder(&own, area.folder()),
            }
        };
        let areas = [area(Area::Parts)?, area(Area::Aside)?, area(Area::Trash)?];
        let mut create = OpenOptions::new();
        let clock = own.open_with(CLOCK, create.create(true).truncate(false).write(true))?;
        let device = S::meta_of_folder(&root)?.device;
        let volume_id = volume_id::<S>(&root, device);
        let probed = probe::probe::<S>(&own)?;
        Ok(Self {
            path,
            host,
            root,
            own,
            areas,
            clock: clock.into_std(),
            device,
            volume_id,
            probed,
            system: std::marker::PhantomData,
        })
    }

    /// The root, without links in its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The private folder.
    pub fn private_path(&self) -> PathBuf {
        self.path.join(PRIVATE)
    }

    /// The lock of the folder, which ends with the returned file; `None` if another process has it.
    pub fn lock(&self) -> io::Result<Option<File>> {
        let file = self.own.create(LOCK)?.into_std();
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Opens a regular file for reading, and returns its metadata.
    pub fn open_file(&self, place: &Place) -> Result<(File, Meta), DiskError> {
        let (folder, name) = self.folder_of("open", place)?;
        let opening = || -> io::Result<_> {
            let file = open_regular::<S>(&folder, name, Access::Read)?;
            let meta = self.meta(S::meta_of_file(&file)?);
            Ok((file, meta))
        };
        opening().map_err(|error| disk_error("open", place, &error))
    }

    /// Opens a file in [`Area::Parts`], which is made if it does not exist, for reading and writing.
    pub fn open_part(&self, part: &str) -> Result<File, DiskError> {
        let place = Place::private(Area::Parts, part);
        let open = |options: &mut OpenOptions| {
            let options = options.read(true).write(true);
            self.area(Area::Parts).open_with(part, options)
        };
        let opened = match open(OpenOptions::new().create(true)) {
            // An attempt before has given it the mode of the file that it replaces.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let removed = self.area(Area::Parts).remove_file(part);
                removed.and_then(|()| open(OpenOptions::new().create(true)))
            }
            opened => opened,
        };
        opened
            .map(cap_std::fs::File::into_std)
            .map_err(|error| disk_error("open", &place, &error))
    }

    /// The metadata of an open file.
    pub fn meta_of(&self, file: &File) -> Result<Meta, DiskError> {
        let found = S::meta_of_file(file);
        found
            .map(|found| self.meta(found))
            .map_err(|error| disk_error("look at", "an open file", &error))
    }

    fn area(&self, area: Area) -> &Dir {
        let [parts, aside, trash] = &self.areas;
        match area {
            Area::Parts => parts,
            Area::Aside => aside,
            Area::Trash => trash,
        }
    }

    /// The folder of a place, and the name in it.
    fn folder_of<'a>(&self, call: &str, place: &'a Place) -> Result<(Dir, &'a str), DiskError> {
        let opening = || match place {
            Place::Private(area, name) => Ok((self.area(*area).try_clone()?, &**name)),
            Place::Tree(path) => {
                self.refuse_private(path)?;
                let (folder, name) = path
                    .as_str()
                    .rsplit_once('/')
                    .ok_or(io::ErrorKind::InvalidInput)?;
                Ok((self.open_tree(folder)?, name))
            }
        };
        opening().map_err(|error| disk_error(call, place, &error))
    }

    /// A folder of the tree by a path such as `/a/b`, or the root.
    fn open_tree(&self, path: &str) -> io::Result<Dir> {
        match path.strip_prefix('/') {
            // A handle of its own, because reading moves the position of a handle.
            None => S::open_folder(&self.root, "."),
            Some(path) => S::open_folder(&self.root, path),
        }
    }

    /// Refuses paths into the private folder, also by another spelling of its name, and what Windows takes for
    /// another path.
    fn refuse_private(&self, path: &LocalPath) -> io::Result<()> {
        check_for_windows(path.as_str())?;
        let Some(first) = path.as_str().split('/').nth(1) else {
            return Ok(());
        };
        let ignores_case = self.probed.volume.ignores_case;
        let is_private = first == PRIVATE
            || ignores_case && (key(first) == PRIVATE || self.is_private(S::stat(&self.root, first).ok())?);
        if is_private {
            let why = "this name is reserved for syncsphere";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        Ok(())
    }

    /// Whether an entry of the root is the private folder.
    fn is_private(&self, entry: Option<Found>) -> io::Result<bool> {
        let own = S::meta_of_folder(&self.own)?;
        Ok(entry
            .is_some_and(|entry| entry.inode != 0 && (entry.device, entry.inode) == (own.device, own.inode)))
    }

    /// Metadata as the engine has it.
    fn meta(&self, found: Found) -> Meta {
        let kind = match found.kind {
            Kind::Folder if found.is_mount || found.device != self.device => Kind::Mount,
            kind => kind,
        };
        let device = if found.device == self.device {
            self.volume_id
        } else {
            found.device
        };
        let (inode, birth) = if self.probed.volume.stable_inodes {
            (found.inode, found.birth)
        } else {
            // A number that changes says nothing.
            (0, None)
        };
        let identity = super::Identity { device, inode, birth };
        Meta {
            kind,
            stamp: Stamp {
                identity,
                size: found.size,
                modified: found.modified,
                changed: found.changed,
            },
            executable: found.executable.filter(|_| self.probed.has_mode),
            links: found.links,
        }
    }

    fn identity(&self, marker: String, root: &Dir) -> io::Result<RootIdentity> {
        let found = S::meta_of_folder(root)?;
        let device = volume_id::<S>(root, found.device);
        Ok(RootIdentity {
            marker,
            device,
            inode: if self.probed.volume.stable_inodes {
                found.inode
            } else {
                0
            },
            host: self.host.clone(),
        })
    }
}

/// The id of a volume, which survives a restart of the system; the device's number if the volume has none.
fn volume_id<S: System>(folder: &Dir, device: u64) -> u64 {
    S::volume_id(folder).filter(|id| *id != 0).unwrap_or(device)
}

/// Refuses paths that Windows takes for others.
fn check_for_windows(path: &str) -> io::Result<()> {
    let mut names = path.split('/').skip(1);
    let is_short = names.clone().next().is_some_and(is_short_name);
    if cfg!(windows) && (is_short || !names.all(is_windows_name)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidFilename,
            "Windows does not allow this name",
        ));
    }
    Ok(())
}

/// The private folder is for this user only: it has contents of files whose folders may be closed to others.
fn make_private_folder(root: &Dir) -> io::Result<()> {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "only Unix has modes"))]
    let mut builder = cap_std::fs::DirBuilder::new();
    #[cfg(unix)]
    {
        use cap_std::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    match root.create_dir_with(PRIVATE, &builder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Opens a regular file. Others are not opened: opening a pipe wakes its writer, and opening a device may do
/// anything.
fn open_regular<S: System>(folder: &Dir, name: &str, access: Access) -> io::Result<File> {
    let refused = || io::Error::new(io::ErrorKind::NotFound, "it is not a regular file");
    if S::stat(folder, name)?.kind != Kind::File {
        return Err(refused());
    }
    let file = S::open_file(folder, name, access)?;
    if S::meta_of_file(&file)?.kind == Kind::File {
        Ok(file)
    } else {
        Err(refused())
    }
}

impl<S: System> Disk for RealDisk<S> {
    fn settled_before(&self) -> i64 {
        S::touch(&self.clock).saturating_sub(self.probed.volume.granularity)
    }

    fn probe(&self) -> Result<Volume, DiskError> {
        Ok(self.probed.volume)
    }

    fn root(&self) -> Result<Option<RootIdentity>, DiskError> {
        let reading = || -> io::Result<Option<RootIdentity>> {
            let root = Dir::open_ambient_dir(&self.path, ambient_authority())?;
            let own = match S::open_folder(&root, PRIVATE) {
                Err(error) if kind_of(&error) == DiskErrorKind::NotFound => return Ok(None),
                own => own?,
            };
            let marker = match open_regular::<S>(&own, MARKER, Access::Read) {
                Err(error) if kind_of(&error) == DiskErrorKind::NotFound => return Ok(None),
                marker => marker?,
            };
            let mut text = String::new();
            marker.take(MAX_MARKER_BYTES).read_to_string(&mut text)?;
            let marker = text.trim_end().to_owned();
            if marker.is_empty() {
                Ok(None)
            } else {
                self.identity(marker, &root).map(Some)
            }
        };
        reading().map_err(|error| disk_error("open", self.path.display(), &error))
    }

    fn create_root(&self, marker: &str) -> Result<RootIdentity, DiskError> {
        let creating = || -> io::Result<RootIdentity> {
            let new = format!("{MARKER}.new");
            let mut file = self.own.create(&new)?;
            writeln!(file, "{marker}")?;
            file.sync_all()?;
            self.own.rename(&new, &self.own, MARKER)?;
            for folder in self.areas.iter().chain([&self.own, &self.root]) {
                S::sync_folder(folder)?;
            }
            self.identity(marker.to_owned(), &self.root)
        };
        creating().map_err(|error| disk_error("create", PRIVATE, &error))
    }

    /// Only Linux tells.
    fn boot(&self) -> Option<String> {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(id.trim().to_owned())
    }

    fn list(&self, folder: &LocalPath) -> Result<Listing, DiskError> {
        let listing = || -> io::Result<Listing> {
            self.refuse_private(folder)?;
            let open = self.open_tree(folder.as_str())?;
            let before = S::meta_of_folder(&open)?;
            let mut listing = Listing::default();
            let (mut others, mut privates) = (Vec::new(), Vec::new());
            S::list(&open, &mut |name, found| match name {
                Ok(PRIVATE) if folder.is_root() => {}
                Ok(name) if folder.is_root() && found.kind == Kind::Folder => {
                    privates.push((name.to_owned(), found));
                }
                Ok(name) => listing.entries.push((name.to_owned(), self.meta(found))),
                Err(lossy) => others.push(lossy),
            })?;
            // On a volume that ignores case, the private folder may be listed in another spelling.
            for (name, found) in privates {
                if !self.is_private(Some(found))? {
                    listing.entries.push((name, self.meta(found)));
                }
            }
            let after = S::meta_of_folder(&open)?;
            listing.unreadable_names = others;
            listing.is_stable = (before.modified, before.changed) == (after.modified, after.changed);
            Ok(listing)
        };
        listing().map_err(|error| disk_error("list", folder, &error))
    }

    fn stat(&self, place: &Place) -> Result<Option<Meta>, DiskError> {
        let found = self.folder_of("look at", place).and_then(|(folder, name)| {
            S::stat(&folder, name).map_err(|error| disk_error("look at", place, &error))
        });
        match found {
            Ok(found) => Ok(Some(self.meta(found))),
            Err(error) if error.kind == DiskErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read(&self, place: &Place, each: &mut dyn FnMut(&[u8])) -> Result<(Meta, Meta), DiskError> {
        let (mut file, before) = self.open_file(place)?;
        let mut read_all = || -> io::Result<Meta> {
            // A small file is read at once: one more byte finds its end.
            let length =
                usize::try_from(before.stamp.size).map_or(READ_BYTES, |size| (size + 1).min(READ_BYTES));
            let mut buffer = vec![0; length];
            loop {
                match file.read(&mut buffer) {
                    Ok(length) => match buffer.get(..length) {
                        Some(read) if length > 0 => each(read),
                        _ => break,
                    },
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(self.meta(S::meta_of_file(&file)?))
        };
        let after = read_all().map_err(|error| disk_error("read", place, &error))?;
        Ok((before, after))
    }

    fn rename(&self, from: &Place, to: &Place) -> Result<(), DiskError> {
        let (source, name) = self.folder_of("rename", from)?;
        let (target, new_name) = self.folder_of("rename", to)?;
        // On a volume that ignores case, the system takes a name that differs only in case for free.
        let Volume {
            ignores_case,
            ignores_form,
            ..
        } = self.probed.volume;
        let renamed =
            if name != new_name && (ignores_case || ignores_form) && S::stat(&target, new_name).is_ok() {
                Err(io::ErrorKind::AlreadyExists.into())
            } else {
                rename_new::<S>(&source, name, &target, new_name)
            };
        renamed.map_err(|error| disk_error("rename", format_args!("{from} to {to}"), &error))
    }

    fn exchange(&self, one: &Place, other: &Place) -> Result<(), DiskError> {
        let (source, name) = self.folder_of("exchange", one)?;
        let (target, new_name) = self.folder_of("exchange", other)?;
        let exchanged = exchange(&source, name, &target, new_name);
        exchanged.map_err(|error| disk_error("exchange", format_args!("{one} with {other}"), &error))
    }

    fn create_folder(&self, folder: &LocalPath) -> Result<(), DiskError> {
        let place = Place::Tree(folder.clone());
        let (parent, name) = self.folder_of("create", &place)?;
        parent
            .create_dir(name)
            .map_err(|error| disk_error("create", folder, &error))
    }

    fn remove_folder(&self, folder: &LocalPath) -> Result<(), DiskError> {
        let place = Place::Tree(folder.clone());
        let (parent, name) = self.folder_of("remove", &place)?;
        parent
            .remove_dir(name)
            .map_err(|error| disk_error("remove", folder, &error))
    }

    fn sync_file(&self, place: &Place) -> Result<(), DiskError> {
        let (folder, name) = self.folder_of("save", place)?;
        let file = match open_regular::<S>(&folder, name, Access::Sync) {
            // Its mode, which is that of the file that it replaces, may forbid reading.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                open_regular::<S>(&folder, name, Access::Write)
            }
            file => file,
        };
        let saved = file.and_then(|file| file.sync_all());
        saved.map_err(|error| disk_error("save", place, &error))
    }

    fn sync_folder(&self, folder: &Folder) -> Result<(), DiskError> {
        let saving = || match folder {
            Folder::Private(area) => S::sync_folder(self.area(*area)),
            Folder::Tree(path) => S::sync_folder(&self.open_tree(path.as_str())?),
        };
        saving().map_err(|error| disk_error("save", folder, &error))
    }

    fn sync_volume(&self) -> Result<(), DiskError> {
        let saving = || -> io::Result<()> {
            if S::sync_volume(&self.own)? {
                return Ok(());
            }
            // What is not in its place yet is all that the engine writes.
            for area in [Area::Parts, Area::Aside] {
                for entry in self.area(area).entries()? {
                    let name = entry?.file_name();
                    let Some(name) = name.to_str() else { continue };
                    open_regular::<S>(self.area(area), name, Access::Sync)?.sync_all()?;
                }
            }
            Ok(())
        };
        saving().map_err(|error| disk_error("save", PRIVATE, &error))
    }

    fn dress(
        &self,
        part: &str,
        like: Option<&Place>,
        modified_at: Option<ModifiedAt>,
        executable: Option<bool>,
    ) -> Result<(), DiskError> {
        let place = Place::private(Area::Parts, part);
        let like = like.map(|like| self.open_file(like)).transpose()?;
        let dressing = || -> io::Result<()> {
            let file = open_regular::<S>(self.area(Area::Parts), part, Access::Metadata)?;
            if let Some((like, _)) = &like {
                S::copy_attributes(like, &file)?;
            }
            if let Some(executable) = executable {
                set_executable(&file, executable)?;
            }
            // Last, because nothing else may set it. A time that the volume cannot hold is left out.
            if let Some(time) = modified_at.and_then(ModifiedAt::system_time) {
                let _ = file.set_modified(time);
            }
            Ok(())
        };
        dressing().map_err(|error| disk_error("set the attributes of", &place, &error))
    }

    fn set_executable(&self, place: &Place, executable: bool) -> Result<(), DiskError> {
        let (folder, name) = self.folder_of("set the mode of", place)?;
        let setting = || set_executable(&open_regular::<S>(&folder, name, Access::Metadata)?, executable);
        setting().map_err(|error| disk_error("set the mode of", place, &error))
    }

    fn create_part(&self, part: &str) -> Result<(), DiskError> {
        let file = self.open_part(part)?;
        let place = Place::private(Area::Parts, part);
        file.set_len(0)
            .map_err(|error| disk_error("empty", &place, &error))
    }

    fn append_part(&self, part: &str, bytes: &[u8]) -> Result<(), DiskError> {
        let appending = || -> io::Result<()> {
            let mut append = OpenOptions::new();
            let mut file = self.area(Area::Parts).open_with(part, append.append(true))?;
            file.write_all(bytes)
        };
        let place = Place::private(Area::Parts, part);
        appending().map_err(|error| disk_error("write", &place, &error))
    }

    fn remove_part(&self, part: &str) -> Result<(), DiskError> {
        match self.area(Area::Parts).remove_file(part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(disk_error("remove", Place::private(Area::Parts, part), &error))
            }
            _ => Ok(()),
        }
    }

    fn purge(&self, trashed: &str) -> Result<(), DiskError> {
        let removed = self.area(Area::Trash).remove_file(trashed);
        removed.map_err(|error| disk_error("remove", Place::private(Area::Trash, trashed), &error))
    }

    fn list_area(&self, area: Area) -> Result<Vec<(String, Meta)>, DiskError> {
        let mut entries = Vec::new();
        // A fresh handle: reading moves the position of the handle.
        let listing = S::open_folder(&self.own, area.folder()).and_then(|folder| {
            S::list(&folder, &mut |name, found| {
                if let Ok(name) = name {
                    entries.push((name.to_owned(), self.meta(found)));
                }
            })
        });
        listing.map_err(|error| disk_error("list", area.folder(), &error))?;
        Ok(entries)
    }

    #[cfg(feature = "simulation")]
    fn replace(&self, from: &Place, to: &Place) -> Result<(), DiskError> {
        let (source, name) = self.folder_of("rename", from)?;
        let (target, new_name) = self.folder_of("rename", to)?;
        let renamed = source.rename(name, &target, new_name);
        renamed.map_err(|error| disk_error("rename", from, &error))
    }

    fn space(&self) -> Result<FreeSpace, DiskError> {
        S::space(&self.own)
            .map_err(|error| disk_error("ask for the free space of", self.path.display(), &error))
    }
}

#[cfg(unix)]
fn set_executable(file: &File, executable: bool) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = file.metadata()?.permissions().mode() & 0o7777;
    // Whoever may read it may execute it.
    let changed = if executable {
        mode | 0o100 | (mode & 0o444) >> 2
    } else {
        mode & !0o111
    };
    if changed == mode {
        return Ok(());
    }
    match file.set_permissions(std::fs::Permissions::from_mode(changed)) {
        // The file of another user in a folder that this user may write to, or a volume without modes.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        set => set,
    }
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "as on Unix")]
fn set_executable(_file: &File, _executable: bool) -> io::Result<()> {
    Ok(())
}

/// The error of a call that failed at a path.
pub(crate) fn disk_error(call: &str, at: impl std::fmt::Display, error: &io::Error) -> DiskError {
    DiskError::new(kind_of(error), format!("cannot {call} {at}: {error}"))
}

/// The kind that the engine decides by.
fn kind_of(error: &io::Error) -> DiskErrorKind {
    use io::ErrorKind as Io;
    match error.kind() {
        Io::NotFound | Io::NotADirectory | Io::IsADirectory => DiskErrorKind::NotFound,
        Io::AlreadyExists => DiskErrorKind::AlreadyExists,
        Io::DirectoryNotEmpty => DiskErrorKind::NotEmpty,
        Io::Unsupported | Io::CrossesDevices | Io::InvalidInput => DiskErrorKind::Unsupported,
        Io::StorageFull | Io::QuotaExceeded => DiskErrorKind::NoSpace,
        Io::PermissionDenied | Io::ReadOnlyFilesystem | Io::FileTooLarge | Io::TooManyLinks => {
            DiskErrorKind::Denied
        }
        Io::InvalidFilename => DiskErrorKind::BadName,
        Io::ResourceBusy
        | Io::ExecutableFileBusy
        | Io::Interrupted
        | Io::WouldBlock
        | Io::StaleNetworkFileHandle
        | Io::OutOfMemory
        | Io::Deadlock => DiskErrorKind::Busy,
        _ => other_kind_of(error),
    }
}

#[cfg(unix)]
fn other_kind_of(error: &io::Error) -> DiskErrorKind {
    use rustix::io::Errno;
    match Errno::from_io_error(error) {
        // A link where a folder or a file is expected, and a device or socket that cannot be opened.
        Some(Errno::LOOP | Errno::NXIO) => DiskErrorKind::NotFound,
        Some(Errno::MFILE | Errno::NFILE) => DiskErrorKind::Busy,
        Some(Errno::ILSEQ) => DiskErrorKind::BadName,
        _ => DiskErrorKind::Fatal,
    }
}

#[cfg(not(unix))]
fn other_kind_of(_error: &io::Error) -> DiskErrorKind {
    DiskErrorKind::Fatal
}
