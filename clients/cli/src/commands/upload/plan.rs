//! The list of files to upload and their destinations.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf, is_separator};

use anyhow::Context as _;
use model::SpacePath;
use walkdir::{DirEntry, WalkDir};

use crate::arguments::Upload;
use crate::commands::upload::stdin::STDIN;
use crate::failure::{Kind, failure};
use crate::resolve;

#[derive(Debug)]
pub(super) struct Item {
    /// Path on this machine.
    pub(super) file: PathBuf,
    /// Path in the space.
    pub(super) to: SpacePath,
    /// Size when the plan was made.
    pub(super) bytes: u64,
}

impl Item {
    /// The path on this machine, as people read it.
    pub(super) fn shown(&self) -> Cow<'_, str> {
        if self.file.as_os_str() == STDIN {
            Cow::Borrowed("the standard input")
        } else {
            self.file.to_string_lossy()
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) items: Vec<Item>,
    /// One error for each file that cannot be uploaded.
    pub(super) skipped: Vec<anyhow::Error>,
    /// Total size of `items`.
    pub(super) bytes: u64,
}

impl Plan {
    /// Collects the files that the command line names. A missing file, or two files with one destination, is
    /// an error before anything is uploaded.
    pub(super) fn new(upload: &Upload) -> anyhow::Result<Self> {
        let mut plan = Self::default();
        let several = upload.files.len() > 1;
        for given in &upload.files {
            let found = std::fs::metadata(given);
            let found = found.with_context(|| format!("cannot read {}", given.display()))?;
            let folder = folder(&upload.to, several || found.is_dir());
            if found.is_dir() {
                plan.add_folder(given, &folder);
            } else if found.is_file() {
                let name = name(given)?;
                plan.add(given, resolve::inside(&folder, name)?, found.len());
            } else {
                let message = format!("{} is neither a file nor a folder", given.display());
                return Err(failure(Kind::Usage, message));
            }
        }
        plan.refuse_duplicates()?;
        Ok(plan)
    }

    /// The standard input. Its size is not known yet.
    pub(super) fn of_stdin(to: SpacePath) -> Self {
        let mut plan = Self::default();
        plan.add(Path::new(STDIN), to, 0);
        plan
    }

    /// Sets the size of the standard input.
    pub(super) fn set_bytes(&mut self, bytes: u64) {
        self.bytes = bytes;
        for item in &mut self.items {
            item.bytes = bytes;
        }
    }

    /// The longest common prefix of all destinations.
    pub(super) fn common_prefix(&self) -> &str {
        let mut paths = self.items.iter().map(|item| item.to.as_str());
        let Some(first) = paths.next() else {
            return "/";
        };
        let common = paths.fold(first.len(), |common, path| {
            let same = first
                .bytes()
                .zip(path.bytes())
                .take_while(|(one, other)| one == other);
            common.min(same.count())
        });
        // The prefix must end at a character boundary.
        let end = (0..=common).rev().find(|end| first.is_char_boundary(*end));
        first.get(..end.unwrap_or_default()).unwrap_or("/")
    }

    fn add(&mut self, file: &Path, to: SpacePath, bytes: u64) {
        self.bytes += bytes;
        self.items.push(Item {
            file: file.to_owned(),
            to,
            bytes,
        });
    }

    /// Adds the files of a folder. As in `cp -r`, they keep the folder's own name, unless the path ends in
    /// `.`.
    fn add_folder(&mut self, given: &Path, to: &str) {
        let without_dot = given.as_os_str().as_encoded_bytes().strip_suffix(b".");
        let by_dot = without_dot
            .and_then(<[u8]>::last)
            .is_some_and(|before| is_separator(char::from(*before)));
        let base = match given.file_name().and_then(|name| name.to_str()) {
            Some(name) if !by_dot => format!("{to}{name}/"),
            _ => to.to_owned(),
        };
        // Sorted, so that the order is always the same. Links are not followed: they may lead outside the
        // folder or form a cycle.
        for entry in WalkDir::new(given).sort_by_file_name() {
            let adding = entry
                .context("cannot read a folder")
                .and_then(|entry| self.add_entry(given, &base, &entry));
            self.skipped.extend(adding.err());
        }
    }

    fn add_entry(&mut self, given: &Path, base: &str, entry: &DirEntry) -> anyhow::Result<()> {
        // A folder named on the command line may be a link.
        if entry.depth() == 0 || entry.file_type().is_dir() {
            return Ok(());
        }
        let file = entry.path();
        let cannot = || format!("cannot upload {}", file.display());
        if !entry.file_type().is_file() {
            let what = if entry.file_type().is_symlink() {
                "it is a link, and links are not followed"
            } else {
                "it is not a regular file"
            };
            return Err(failure(Kind::Failed, what)).with_context(cannot);
        }
        let relative = file.strip_prefix(given).unwrap_or(file);
        let mut to = base.trim_end_matches('/').to_owned();
        for part in relative {
            let part = part.to_str();
            let part = part.ok_or_else(|| failure(Kind::Failed, "its name is not valid Unicode; rename it"));
            to.push('/');
            to.push_str(part.with_context(cannot)?);
        }
        let to = resolve::path(&to).with_context(cannot)?;
        self.add(file, to, entry.metadata().with_context(cannot)?.len());
        Ok(())
    }

    fn refuse_duplicates(&self) -> anyhow::Result<()> {
        let mut seen = HashMap::new();
        for item in &self.items {
            if let Some(other) = seen.insert(&item.to, &item.file)
                && *other != item.file
            {
                let (one, other) = (other.display(), item.file.display());
                let message = format!(
                    "{one} and {other} would both be uploaded to {}; upload one of them with another --to",
                    item.to
                );
                return Err(failure(Kind::Usage, message));
            }
        }
        Ok(())
    }
}

/// The destination, with a final `/` if it is a folder.
fn folder(to: &str, is_folder: bool) -> String {
    if is_folder && !to.ends_with('/') {
        format!("{to}/")
    } else {
        to.to_owned()
    }
}

fn name(file: &Path) -> anyhow::Result<&str> {
    let name = file.file_name().and_then(|name| name.to_str());
    name.ok_or_else(|| {
        failure(
            Kind::Usage,
            format!("the name of {} is not valid Unicode; rename it", file.display()),
        )
    })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;
    use crate::arguments::SpaceArguments;

    fn plan(files: &[PathBuf], to: &str) -> anyhow::Result<Plan> {
        Plan::new(&Upload {
            files: files.to_vec(),
            to: to.to_owned(),
            space: SpaceArguments { space: None },
            base_version: None,
            replace: false,
            keep_both: false,
            jobs: NonZeroU16::MIN,
        })
    }

    fn destinations(plan: &Plan) -> Vec<&str> {
        plan.items.iter().map(|item| item.to.as_str()).collect()
    }

    #[test]
    fn files_and_folders_have_the_expected_destinations() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("photos/2026")).unwrap();
        for file in ["a.txt", "photos/b", "photos/2026/c"] {
            std::fs::write(root.join(file), file).unwrap();
        }
        let (a, photos) = (root.join("a.txt"), root.join("photos"));
        for (files, to, wanted) in [
            (vec![a.clone()], "/", vec!["/a.txt"]),
            (vec![a.clone()], "/x/", vec!["/x/a.txt"]),
            (vec![a.clone()], "x/b.txt", vec!["/x/b.txt"]),
            (vec![photos.clone()], "/", vec!["/photos/2026/c", "/photos/b"]),
            (
                vec![photos.join("")],
                "/x",
                vec!["/x/photos/2026/c", "/x/photos/b"],
            ),
            (vec![photos.join(".")], "/x", vec!["/x/2026/c", "/x/b"]),
            (
                vec![a.clone(), photos.clone()],
                "/x",
                vec!["/x/a.txt", "/x/photos/2026/c", "/x/photos/b"],
            ),
        ] {
            let plan = plan(&files, to).unwrap();
            assert_eq!(destinations(&plan), wanted, "{files:?} to {to}");
            assert!(plan.skipped.is_empty());
        }
    }

    #[test]
    fn invalid_arguments_fail_before_anything_is_uploaded() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("1"), folder.path().join("2"));
        for folder in [&one, &other] {
            std::fs::create_dir(folder).unwrap();
            std::fs::write(folder.join("same"), "").unwrap();
        }
        let duplicates = plan(&[one.join("same"), other.join("same")], "/").unwrap_err();
        assert!(
            duplicates.to_string().contains("would both be uploaded to /same"),
            "{duplicates}"
        );
        // The same file named twice is allowed.
        plan(&[one.join("same"), one.join("same")], "/").unwrap();
        assert!(plan(&[folder.path().join("nowhere")], "/").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn links_and_invalid_names_are_skipped_and_reported() {
        use std::os::unix::ffi::OsStrExt as _;
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("f");
        std::fs::create_dir(&root).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("link")).unwrap();
        std::fs::write(root.join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
        std::fs::write(root.join("line\nbreak"), "").unwrap();
        std::fs::write(root.join("good"), "").unwrap();
        let plan = plan(&[root], "/").unwrap();
        assert_eq!(destinations(&plan), ["/f/good"]);
        assert_eq!(plan.skipped.len(), 3);
    }

    #[test]
    fn the_common_prefix_is_whole() {
        let to = |paths: &[&str]| Plan {
            items: paths
                .iter()
                .map(|path| Item {
                    file: PathBuf::new(),
                    to: path.parse().unwrap(),
                    bytes: 0,
                })
                .collect(),
            ..Plan::default()
        };
        assert_eq!(to(&["/a/b", "/a/c"]).common_prefix(), "/a/");
        assert_eq!(to(&["/\u{e4}", "/\u{e5}"]).common_prefix(), "/");
        assert_eq!(to(&["/x"]).common_prefix(), "/x");
        assert_eq!(to(&[]).common_prefix(), "/");
    }
}
