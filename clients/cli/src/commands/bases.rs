//! The version of each path that this machine saw last. An upload uses it to detect changes on other devices.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use client::Content;
use model::{FileId, Sha256, SpaceId, SpacePath, Version};
use serde::{Deserialize, Serialize};

use crate::accounts::Account;
use crate::resolve::short_name;

/// The file is rewritten when it has more than twice as many lines as paths, plus this number.
const SPARE_LINES: usize = 1000;

/// A version of a path that this machine uploaded or downloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Base {
    pub(super) file_id: FileId,
    pub(super) version: Version,
    pub(super) sha256: Sha256,
}

impl From<&Content> for Base {
    fn from(content: &Content) -> Self {
        Self {
            file_id: content.file_id,
            version: content.version,
            sha256: content.sha256,
        }
    }
}

/// The versions of a space's paths. The file has one line for each version seen, and the last line of a path
/// counts.
pub(super) struct Bases {
    known: Mutex<HashMap<SpacePath, Base>>,
    /// Holds a shared lock, so that no other command rewrites the file.
    file: File,
}

impl Bases {
    /// Opens the versions that an account saw in a space. `None` is the personal space.
    pub(super) fn open(account: &Account, space_id: Option<SpaceId>) -> anyhow::Result<Self> {
        let folder = account.accounts.data_folder("versions")?;
        let user = account.name.as_ref().map_or("", |name| name.user.as_str());
        let space = space_id.map_or_else(String::new, |space_id| space_id.to_string());
        let whole = format!("{}\n{user}\n{space}", account.http_api_url);
        let path = folder.join(short_name(&whole));
        Self::in_file(&path).with_context(|| format!("cannot open {}", path.display()))
    }

    fn in_file(path: &PathBuf) -> io::Result<Self> {
        let mut file = File::options().create(true).append(true).open(path)?;
        let text = fs::read(path)?;
        let lines = text.split(|byte| *byte == b'\n');
        // A crash may have left the last line incomplete.
        let read = lines.filter_map(|line| serde_json::from_slice::<(SpacePath, Base)>(line).ok());
        let mut lines = 0;
        let known: HashMap<SpacePath, Base> = read.inspect(|_| lines += 1).collect();
        if lines > 2 * known.len() + SPARE_LINES && file.try_lock().is_ok() {
            file = compacted(path, &known)?;
        }
        file.lock_shared()?;
        // Ends an incomplete last line, so that new lines start on their own.
        if !text.is_empty() && !text.ends_with(b"\n") {
            (&file).write_all(b"\n")?;
        }
        Ok(Self {
            known: Mutex::new(known),
            file,
        })
    }

    /// The version of a path that this machine saw last.
    pub(super) fn known(&self, path: &SpacePath) -> Option<Base> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(path).copied()
    }

    /// Records the version of a path that this machine saw.
    pub(super) fn record(&self, path: &SpacePath, base: Base) -> anyhow::Result<()> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.insert(path.clone(), base) != Some(base) {
            (&self.file)
                .write_all(&line(path, &base)?)
                .context("cannot save which version was uploaded")?;
        }
        Ok(())
    }
}

fn line(path: &SpacePath, base: &Base) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(&(path, base))?;
    line.push(b'\n');
    Ok(line)
}

fn compacted(path: &Path, known: &HashMap<SpacePath, Base>) -> io::Result<File> {
    let new = path.with_extension("new");
    let mut text = Vec::new();
    for (path, base) in known {
        text.extend(line(path, base)?);
    }
    fs::write(&new, text)?;
    fs::rename(&new, path)?;
    File::options().append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(version: i64) -> Base {
        Base {
            file_id: uuid::Uuid::from_u128(1).into(),
            version: version.try_into().unwrap(),
            sha256: [0; 32].into(),
        }
    }

    #[test]
    fn the_last_seen_version_is_known_and_the_file_stays_small() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("space");
        let path: SpacePath = "/a".parse().unwrap();
        let bases = Bases::in_file(&file).unwrap();
        for version in 1..=2000 {
            bases.record(&path, base(version)).unwrap();
        }
        (&bases.file).write_all(b"[\"/a\",{").unwrap();
        drop(bases);
        for _ in 0..2 {
            let bases = Bases::in_file(&file).unwrap();
            assert_eq!(bases.known(&path), Some(base(2000)));
            assert_eq!(bases.known(&"/b".parse().unwrap()), None);
        }
        assert!(fs::metadata(&file).unwrap().len() < 1000);
    }
}
