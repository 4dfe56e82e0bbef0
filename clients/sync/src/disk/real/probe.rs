//! Finds out what a volume does, by experiments in the private folder.

use std::fs::File;
use std::io::{self, Write as _};
use std::time::{Duration, SystemTime};

use cap_std::fs::Dir;

use super::super::Volume;
use super::rename::{exchange, rename_with_flag};
use super::system::{System, nanoseconds};

/// The folder of the experiments.
const FOLDER: &str = "probe";

/// The time that a file is given, with an odd second and all digits of the nanoseconds.
const TIME: Duration = Duration::new(1_700_000_001, 987_654_321);

/// Steps of time stamps in nanoseconds: of ext4, of NTFS, of SMB, of exFAT, and two of old file systems.
const STEPS: [i64; 6] = [1, 100, 1_000, 10_000_000, 1_000_000_000, 2_000_000_000];

/// What was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probed {
    pub(super) volume: Volume,
    /// Whether the executable bit of a file can be set and cleared.
    pub(super) has_mode: bool,
}

pub(super) fn probe<S: System>(own: &Dir) -> io::Result<Probed> {
    // What an interrupted probe left.
    remove(own)?;
    own.create_dir(FOLDER)?;
    let folder = S::open_folder(own, FOLDER)?;
    let probed = experiments::<S>(own, &folder);
    // Windows does not remove a folder that is open.
    drop(folder);
    remove(own)?;
    probed
}

fn remove(own: &Dir) -> io::Result<()> {
    match own.remove_dir_all(FOLDER) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn experiments<S: System>(own: &Dir, folder: &Dir) -> io::Result<Probed> {
    let ignores_case = is_one_name::<S>(folder, "Probe", "pROBE")?;
    let ignores_form = is_one_name::<S>(folder, "\u{e9}", "e\u{301}")?;
    let mut keeps_case = false;
    S::list(&S::open_folder(own, FOLDER)?, &mut |name, _| {
        keeps_case |= name == Ok("Probe");
    })?;
    let volume = Volume {
        ignores_case,
        keeps_case,
        ignores_form,
        renames_without_replacing: renames_without_replacing(folder)?,
        exchanges: exchanges::<S>(folder)?,
        stable_inodes: has_stable_inodes::<S>(own, folder)?,
        has_birth: S::meta_of_file(&create(folder, "born", "")?)?.birth.is_some(),
        granularity: granularity::<S>(folder)?,
    };
    let has_mode = has_mode::<S>(folder)?;
    Ok(Probed { volume, has_mode })
}

fn create(folder: &Dir, name: &str, content: &str) -> io::Result<File> {
    let mut file = folder.create(name)?.into_std();
    file.write_all(content.as_bytes())?;
    Ok(file)
}

/// Whether a file that is made by one name is found by the other.
fn is_one_name<S: System>(folder: &Dir, name: &str, other: &str) -> io::Result<bool> {
    create(folder, name, "")?;
    match S::stat(folder, other) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn renames_without_replacing(folder: &Dir) -> io::Result<bool> {
    create(folder, "from", "")?;
    create(folder, "taken", "")?;
    match rename_with_flag(folder, "from", folder, "taken") {
        // A volume that takes the flag without obeying it has replaced the file.
        None | Some(Ok(())) => return Ok(false),
        Some(Err(error)) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Some(Err(error)) => return Err(error),
    }
    Ok(matches!(
        rename_with_flag(folder, "from", folder, "free"),
        Some(Ok(()))
    ))
}

fn exchanges<S: System>(folder: &Dir) -> io::Result<bool> {
    create(folder, "one", "")?;
    create(folder, "other", "content")?;
    match exchange(folder, "one", folder, "other") {
        Ok(()) => Ok(S::stat(folder, "one")?.size == 7 && S::stat(folder, "other")?.size == 0),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(false),
        Err(error) => Err(error),
    }
}

/// File systems of user space may number a file anew when the system has forgotten it, which cannot be brought
/// about here.
fn has_stable_inodes<S: System>(own: &Dir, folder: &Dir) -> io::Result<bool> {
    let inode = S::meta_of_file(&create(folder, "before", "content")?)?.inode;
    let before = S::stat(folder, "before")?.inode;
    // The system forgets what it knows of a name that is renamed.
    folder.rename("before", folder, "after")?;
    let after = S::stat(folder, "after")?.inode;
    let again = S::open_folder(own, FOLDER)?;
    let mut listed = None;
    S::list(&again, &mut |name, found| {
        if name == Ok("after") {
            listed = Some(found.inode);
        }
    })?;
    Ok(inode != 0
        && !S::is_of_user_space(own)
        && [Some(before), Some(after), listed]
            .iter()
            .all(|it| *it == Some(inode)))
}

fn granularity<S: System>(folder: &Dir) -> io::Result<i64> {
    let file = create(folder, "time", "")?;
    let wanted = SystemTime::UNIX_EPOCH + TIME;
    file.set_modified(wanted)?;
    let lost = nanoseconds(wanted).abs_diff(S::stat(folder, "time")?.modified);
    let step = STEPS.into_iter().find(|step| lost < step.unsigned_abs());
    // The clock of the kernel has steps of up to 10 ms whatever the volume has.
    Ok(step.unwrap_or(2_000_000_000).max(Volume::LINUX.granularity))
}

#[cfg(unix)]
fn has_mode<S: System>(folder: &Dir) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt as _;
    let file = create(folder, "mode", "")?;
    let mut found = Vec::new();
    for mode in [0o700, 0o600] {
        // A volume without modes may refuse.
        if file
            .set_permissions(std::fs::Permissions::from_mode(mode))
            .is_err()
        {
            return Ok(false);
        }
        found.push(S::stat(folder, "mode")?.executable);
    }
    Ok(found == [Some(true), Some(false)])
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "as on Unix")]
fn has_mode<S: System>(_folder: &Dir) -> io::Result<bool> {
    Ok(false)
}
