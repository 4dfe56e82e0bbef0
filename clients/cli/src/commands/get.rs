//! `get`: downloads one file.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use client::{Client, Content, Progress as _, Verification, next_piece};
use model::{ModifiedAt, SpacePath};
use serde_json::json;
use tempfile::TempPath;

use crate::accounts::Account;
use crate::arguments::Get;
use crate::commands::bases::{Base, Bases};
use crate::commands::files::find;
use crate::failure::{Kind, failure};
use crate::output::{self, Output};
use crate::progress::{Bar, Bars};
use crate::resolve::{self, short_name};
use ::sync::portable_names::is_windows_name;

/// Downloads and verifies a file. A destination file is written completely or not at all.
pub(crate) async fn run(account: &Account, get: &Get, output: Output) -> anyhow::Result<()> {
    let client = &account.client;
    let space_id = resolve::space(client, get.space.space.as_deref()).await?;
    resolve::epoch(client).await?;
    let path = resolve::path(&get.path)?;
    let file = find(client, space_id, &path).await?;
    let mut content = Content::from(&file);
    if let Some(version) = get.version {
        let (_, versions) = client.show_file(file.file_id).await?;
        let found = versions.iter().find(|it| it.version == version);
        let found = found.ok_or_else(|| {
            failure(
                Kind::NotFound,
                format!("{path} has no version {version}; `syncsphere history {path}` lists the versions"),
            )
        })?;
        (content.version, content.size) = (found.version, found.size);
        (content.sha256, content.composite) = (found.sha256, found.composite);
        (content.modified_at, content.executable) = (found.modified_at, found.executable);
    }
    let to = destination(get.output.as_deref(), &path, cfg!(windows))?;
    let bytes = content.size.get().unsigned_abs();
    let bars = Bars::new(bytes, 1);
    let bar = bars.file(path.as_str(), bytes);
    let cannot = || format!("cannot download {path}");
    match &to {
        Some(to) => {
            let getting = to_file(client, &content, to, get.force, &bar);
            getting.await.with_context(cannot)?;
        }
        None => to_output(client, &content, &bar).await.with_context(cannot)?,
    }
    drop(bar);
    drop(bars);
    // The next upload is based on this version, unless an earlier version was asked for.
    if get.version.is_none() {
        Bases::open(account, space_id)?.record(&path, Base::from(&content))?;
    }
    let Some(to) = to else {
        return Ok(());
    };
    let value = json!({
        "file": to, "fileId": content.file_id, "path": path, "version": content.version, "size": content.size,
        "sha256": content.sha256,
    });
    let (version, size) = (content.version, output::size(content.size));
    output.line(
        &value,
        format_args!(
            "downloaded {path}, version {version}, {size}, to {}",
            to.display()
        ),
    )?;
    Ok(())
}

/// The destination, or `None` for the standard output. A name from the space that Windows does not allow is
/// refused.
fn destination(output: Option<&Path>, path: &SpacePath, windows: bool) -> anyhow::Result<Option<PathBuf>> {
    let folder = match output {
        Some(to) if to == Path::new("-") => return Ok(None),
        Some(to) if !to.is_dir() => return Ok(Some(to.to_owned())),
        Some(folder) => folder,
        None => Path::new(""),
    };
    let name = path.file_name();
    if windows && !is_windows_name(name) {
        let message = format!("Windows does not allow the name of {path}; choose another one with -o FILE");
        return Err(failure(Kind::Usage, message));
    }
    Ok(Some(folder.join(name)))
}

async fn to_file(
    client: &Client,
    content: &Content,
    to: &Path,
    force: bool,
    bar: &Bar<'_>,
) -> anyhow::Result<()> {
    // Checked before the download to fail early. The final rename checks again.
    if !force && to.try_exists()? {
        return Err(already_exists(to));
    }
    let part = part(to, content);
    let opening = open_part(&part).with_context(|| format!("cannot write {}", part.display()))?;
    let mut file = tokio::fs::File::from_std(opening);
    // After a failure the part stays for the next attempt.
    client.fetch(content, &mut file, bar).await?;
    let file = file.into_std().await;
    #[cfg(unix)]
    set_permissions(&file, content.executable == Some(true))?;
    if let Some(time) = content.modified_at.and_then(ModifiedAt::system_time) {
        // Not every file system keeps every time, and the content is complete without it.
        let _ = file.set_modified(time);
    }
    drop(file);
    let part = TempPath::try_from_path(part)?;
    let placed = if force {
        part.persist(to)
    } else {
        part.persist_noclobber(to)
    };
    placed.map_err(|failed| {
        let error = match failed.error.kind() {
            io::ErrorKind::AlreadyExists => already_exists(to),
            _ => anyhow::Error::from(failed.error).context(format!("cannot write {}", to.display())),
        };
        // The part stays for the next attempt.
        let _ = failed.path.keep();
        error
    })
}

fn already_exists(to: &Path) -> anyhow::Error {
    let to = to.display();
    failure(
        Kind::Conflict,
        format!("{to} already exists; replace it with --force"),
    )
}

/// The path of the unfinished download. It is beside the destination, so that it can be renamed in one step,
/// and its name depends on the content.
fn part(to: &Path, content: &Content) -> PathBuf {
    let whole = format!("{} {} {}", to.display(), content.file_id, content.sha256);
    let name = short_name(&whole);
    to.with_file_name(format!(".syncsphere-{name}.part"))
}

/// Opens the part for this user alone. Other users may be able to write in the folder, so links and their
/// files are refused.
#[cfg(unix)]
fn open_part(part: &Path) -> io::Result<std::fs::File> {
    use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};

    use rustix::fs::OFlags;

    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = part_options()
        .mode(0o600)
        .custom_flags(flags.bits().cast_signed())
        .open(part)?;
    let found = file.metadata()?;
    let is_own = found.uid() == rustix::process::geteuid().as_raw();
    if !found.is_file() || !is_own || found.nlink() != 1 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it belongs to another user or is a link; delete it",
        ));
    }
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(file)
}

#[cfg(not(unix))]
fn open_part(part: &Path) -> io::Result<std::fs::File> {
    part_options().open(part)
}

/// Options that create a part or open an existing one.
fn part_options() -> std::fs::OpenOptions {
    let mut options = std::fs::File::options();
    options.create(true).read(true).write(true).truncate(false);
    options
}

/// Gives a verified file the permissions of a new file, or of a new program.
#[cfg(unix)]
fn set_permissions(file: &std::fs::File, executable: bool) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    use rustix::fs::Mode;
    use rustix::process::umask;

    // The umask can only be read by setting it.
    let masked = umask(Mode::from_raw_mode(0o077));
    umask(masked);
    let mode = if executable { 0o777 } else { 0o666 };
    file.set_permissions(std::fs::Permissions::from_mode(mode & !masked.bits()))
}

/// Writes a file to the standard output while it arrives. Only the exit status shows whether it was verified.
async fn to_output(client: &Client, content: &Content, bar: &Bar<'_>) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut download = client.download(content.file_id, Some(content.version)).await?;
    let mut verification = Verification::of(content);
    while let Some(piece) = next_piece(&mut download).await? {
        verification.update(&piece);
        io::stdout().lock().write_all(&piece)?;
        bar.transferred(piece.len() as u64);
    }
    io::stdout().lock().flush()?;
    Ok(verification.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_cannot_leave_the_folder_on_windows() {
        for name in [
            "/..\\..\\Startup\\x.bat",
            "/C:\\x",
            "/NUL",
            "/a.txt:hidden",
            "/a.",
        ] {
            let path = name.parse().unwrap();
            assert!(destination(None, &path, true).is_err(), "{name}");
            assert!(destination(None, &path, false).is_ok(), "{name}");
            let chosen = destination(Some(Path::new("chosen")), &path, true).unwrap();
            assert_eq!(chosen.unwrap(), Path::new("chosen"));
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_planted_link_is_not_followed() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let (victim, part) = (folder.path().join("victim"), folder.path().join("part"));
        std::fs::write(&victim, "theirs").unwrap();
        std::os::unix::fs::symlink(&victim, &part).unwrap();
        assert!(open_part(&part).is_err());
        std::fs::remove_file(&part).unwrap();
        std::fs::hard_link(&victim, &part).unwrap();
        assert!(open_part(&part).is_err());
        std::fs::remove_file(&part).unwrap();
        let file = open_part(&part).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
