//! Idempotency keys of unfinished uploads. They are saved so that the same command resumes its uploads after
//! a crash.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use model::{CreateUploadRequest, IdempotencyKey, MIN_PART_BYTES};

use crate::accounts::{Account, new_id};
use crate::resolve::short_name;

/// Lifetime of a key: longer than the service keeps an upload, which is 7 days and one more.
const KEY_LIFETIME: Duration = Duration::from_hours(9 * 24);

/// The saved keys of an account, one file each.
pub(super) struct Keys {
    folder: PathBuf,
    account: String,
}

pub(super) struct Key {
    pub(super) text: IdempotencyKey,
    /// No earlier attempt used this key.
    pub(super) new: bool,
}

impl Keys {
    /// Opens the keys of an account, and deletes expired ones.
    pub(super) fn open(account: &Account) -> anyhow::Result<Self> {
        let folder = account.accounts.data_folder("uploads")?;
        delete_expired(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let user = account.name.as_ref().map_or("", |name| name.user.as_str());
        Ok(Self {
            folder,
            account: format!("{}\n{user}", account.http_api_url),
        })
    }

    /// The key of an earlier attempt, or a new one, which is saved before it is used.
    pub(super) fn key(
        &self,
        description: &CreateUploadRequest,
        identity: Option<&str>,
    ) -> anyhow::Result<Key> {
        if !is_saved(description) {
            let text = new_id().to_string().parse()?;
            return Ok(Key { text, new: true });
        }
        match fs::read_to_string(self.file(description, identity)) {
            Ok(text) => match text.parse() {
                Ok(text) => Ok(Key { text, new: false }),
                Err(_) => self.replace(description, identity),
            },
            Err(_) => self.replace(description, identity),
        }
    }

    /// Replaces a key that is no longer usable with a new one.
    pub(super) fn replace(
        &self,
        description: &CreateUploadRequest,
        identity: Option<&str>,
    ) -> anyhow::Result<Key> {
        let text = new_id().to_string();
        let file = self.file(description, identity);
        fs::write(&file, &text).with_context(|| format!("cannot write {}", file.display()))?;
        let text = text.parse()?;
        Ok(Key { text, new: true })
    }

    /// Deletes the key of a finished upload.
    pub(super) fn delete(&self, description: &CreateUploadRequest, identity: Option<&str>) {
        // A key that stays returns the same result again, or has expired.
        let _ = fs::remove_file(self.file(description, identity));
    }

    /// The file's name is a digest of the account and the upload request. A request without the SHA-256 of the
    /// content has its identity instead.
    fn file(&self, description: &CreateUploadRequest, identity: Option<&str>) -> PathBuf {
        let identity = identity.filter(|_| description.sha256.is_none());
        let identity = identity.unwrap_or_default();
        let whole = format!("{}\n{description:?}\n{identity}", self.account);
        self.folder.join(short_name(&whole))
    }
}

/// Whether the key is saved. Resuming small content saves nothing: it is sent in one request, after a check
/// whether the space has it. An upload with a base version needs its key, because otherwise its own earlier
/// attempt would look like a conflict.
fn is_saved(description: &CreateUploadRequest) -> bool {
    description.base_version.is_some() || description.size.get() >= MIN_PART_BYTES
}

fn delete_expired(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
        if age > KEY_LIFETIME {
            // Another command may have deleted the file already.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(path: &str) -> CreateUploadRequest {
        CreateUploadRequest {
            path: path.parse().unwrap(),
            size: MIN_PART_BYTES.try_into().unwrap(),
            sha256: Some([0; 32].into()),
            content_type: None,
            modified_at: None,
            executable: None,
            space_id: None,
            base_version: None,
            base_file_id: None,
            device_id: None,
            idempotency_key: None,
        }
    }

    #[test]
    fn an_upload_has_the_same_key_until_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys {
            folder: folder.path().to_owned(),
            account: "alice".to_owned(),
        };
        let first = keys.key(&description("/a"), None).unwrap();
        let again = keys.key(&description("/a"), Some("file 1")).unwrap();
        assert!(first.new && !again.new && first.text == again.text);
        assert_ne!(keys.key(&description("/b"), None).unwrap().text, first.text);
        let other = Keys {
            account: "bob".to_owned(),
            ..keys
        };
        assert_ne!(other.key(&description("/a"), None).unwrap().text, first.text);
        other.delete(&description("/a"), None);
        assert!(other.key(&description("/a"), None).unwrap().new);
    }

    #[test]
    fn without_a_sha256_the_key_is_that_of_the_file_in_its_state() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys {
            folder: folder.path().to_owned(),
            account: "alice".to_owned(),
        };
        let mut unread = description("/a");
        unread.sha256 = None;
        let first = keys.key(&unread, Some("file 1")).unwrap();
        assert!(keys.key(&unread, Some("file 2")).unwrap().new);
        let again = keys.key(&unread, Some("file 1")).unwrap();
        assert!(first.new && !again.new && first.text == again.text);
    }
}
