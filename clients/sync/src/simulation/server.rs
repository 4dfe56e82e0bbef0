//! A virtual service: one space, with the semantics of the API as far as the engine uses it.

use std::collections::BTreeMap;

use model::{Cursor, Epoch, FileId, Role, Sequence, Sha256, SpacePath, Version};
use ring::digest::{SHA256, digest};
use uuid::Uuid;

use super::disk::Bytes;
use crate::effect::{Answer, ChangePage, Committed, RemoteError, Upload};
use crate::planted::{Bug, is_planted};
use crate::tree::{Position, RemoteChange, RemoteRow, Subject};

/// Files in a page of a listing, and changes in a page of the feed.
const PAGE: usize = 3;

#[derive(Clone, Debug)]
struct File {
    row: RemoteRow,
    content: Bytes,
    is_deleted: bool,
    /// The last move or deletion: what it was asked for, and its number.
    last: Option<(SpacePath, Option<SpacePath>, Version, Sequence)>,
}

/// The service.
#[derive(Clone, Debug)]
pub struct Server {
    epoch: u32,
    restored_at: Option<Cursor>,
    files: BTreeMap<FileId, File>,
    /// All contents that any version had.
    contents: Vec<(FileId, Version, Bytes)>,
    log: Vec<RemoteChange>,
    keys: BTreeMap<String, Result<Committed, RemoteError>>,
    next: u128,
    /// The role of the user.
    pub role: Role,
}

/// The digest that versions declare.
pub fn sha256(bytes: &[u8]) -> Sha256 {
    let mut array = [0; 32];
    array.copy_from_slice(digest(&SHA256, bytes).as_ref());
    array.into()
}

fn conflict<T>(what: &str) -> Result<T, RemoteError> {
    Err(RemoteError::Outdated(what.to_owned()))
}

#[expect(clippy::unwrap_used, reason = "numbers of a simulation are small")]
fn number<T: TryFrom<i64>>(number: usize) -> T
where
    T::Error: std::fmt::Debug,
{
    i64::try_from(number).unwrap().try_into().unwrap()
}

impl Default for Server {
    fn default() -> Self {
        Self {
            epoch: 1,
            restored_at: None,
            files: BTreeMap::new(),
            contents: Vec::new(),
            log: Vec::new(),
            keys: BTreeMap::new(),
            next: 1,
            role: Role::Editor,
        }
    }
}

impl Server {
    fn epoch(&self) -> Epoch {
        Uuid::from_u128(self.epoch.into()).into()
    }

    /// Epoch and newest change.
    pub fn position(&self) -> Position {
        Position {
            epoch: self.epoch(),
            latest: number(self.log.len()),
            restored_at: self.restored_at,
        }
    }

    fn live(&self) -> impl Iterator<Item = (&FileId, &File)> {
        self.files.iter().filter(|(_, file)| !file.is_deleted)
    }

    /// The files of the space with their contents.
    pub fn files(&self) -> BTreeMap<String, Bytes> {
        let files = self
            .live()
            .map(|(_, file)| (file.row.path.as_str().to_owned(), file.content.clone()));
        files.collect()
    }

    /// The rows of the space.
    pub fn rows(&self) -> BTreeMap<FileId, RemoteRow> {
        self.live().map(|(id, file)| (*id, file.row.clone())).collect()
    }

    /// Whether a version has this content: it can be restored.
    pub fn has_content(&self, bytes: &Bytes) -> bool {
        self.contents.iter().any(|(_, _, content)| content == bytes)
    }

    /// The content of a version.
    pub fn content(&self, id: FileId, version: Version) -> Option<Bytes> {
        let mut contents = self.contents.iter();
        contents
            .find(|(file, of, _)| *file == id && *of == version)
            .map(|(_, _, bytes)| bytes.clone())
    }

    /// The file at a path.
    pub fn find(&self, path: &str) -> Option<(FileId, RemoteRow, Bytes)> {
        let mut live = self.live();
        live.find(|(_, file)| file.row.path.as_str() == path)
            .map(|(id, file)| (*id, file.row.clone(), file.content.clone()))
    }

    fn blocker(&self, id: Option<FileId>, path: &SpacePath) -> bool {
        self.live()
            .any(|(other, file)| Some(*other) != id && file.row.path.excludes(path))
    }

    fn check_epoch(&self, epoch: Epoch) -> Result<(), RemoteError> {
        if epoch == self.epoch() {
            Ok(())
        } else {
            Err(RemoteError::OtherEpoch)
        }
    }

    fn check_role(&self) -> Result<(), RemoteError> {
        match self.role {
            Role::Viewer => Err(RemoteError::Forbidden("viewers only read".to_owned())),
            _ => Ok(()),
        }
    }

    fn committed(&mut self, id: FileId, subject: Subject) -> Committed {
        let sequence = number(self.log.len() + 1);
        self.log.push(RemoteChange { sequence, subject });
        let row = &self.files[&id].row;
        Committed {
            file_id: id,
            path: row.path.clone(),
            version: row.version,
            sequence,
        }
    }

    /// Adds a version. A repetition with the same key has the same answer.
    pub fn upload(
        &mut self,
        epoch: Epoch,
        upload: &Upload,
        content: &Bytes,
    ) -> Result<Committed, RemoteError> {
        self.check_epoch(epoch)?;
        self.check_role()?;
        let key = upload.key.as_str().to_owned();
        if let Some(answer) = self.keys.get(&key) {
            return answer.clone();
        }
        let answer = self.commit(upload, content);
        self.keys.insert(key, answer.clone());
        answer
    }

    fn commit(&mut self, upload: &Upload, content: &Bytes) -> Result<Committed, RemoteError> {
        let at_path = self.find(upload.path.as_str());
        let (id, version) = match (&upload.base, at_path) {
            (None, Some(_)) => return conflict("the path has a file"),
            (None, None) => {
                if self.blocker(None, &upload.path) {
                    return conflict("path taken");
                }
                self.next += 1;
                (Uuid::from_u128(self.next).into(), number(1))
            }
            (Some((id, version)), Some((found, row, _))) => {
                let is_same_file = *id == found || is_planted(Bug::BaseWithoutFile);
                if !is_same_file || row.version != *version {
                    return conflict("another version");
                }
                (
                    found,
                    number(usize::try_from(version.get()).unwrap_or_default() + 1),
                )
            }
            (Some(_), None) => return conflict("no file at the path"),
        };
        let row = RemoteRow {
            path: upload.path.clone(),
            version,
            size: upload.size,
            sha256: upload.sha256,
            modified_at: upload.modified_at,
            executable: upload.executable,
        };
        self.put(id, row, content.clone());
        let row = self.files[&id].row.clone();
        Ok(self.committed(id, Subject::File(id, Box::new(row))))
    }

    fn put(&mut self, id: FileId, row: RemoteRow, content: Bytes) {
        self.contents.push((id, row.version, content.clone()));
        self.files.insert(
            id,
            File {
                row,
                content,
                is_deleted: false,
                last: None,
            },
        );
    }

    /// Moves a file. A repetition finds its own change.
    pub fn move_file(
        &mut self,
        epoch: Epoch,
        id: FileId,
        to: &SpacePath,
        base: (Version, &SpacePath),
    ) -> Result<Committed, RemoteError> {
        self.check_epoch(epoch)?;
        self.check_role()?;
        let Some(file) = self.files.get(&id).filter(|file| !file.is_deleted) else {
            return conflict("no file");
        };
        if let Some((from, Some(moved_to), version, sequence)) = &file.last
            && (from, moved_to, *version) == (base.1, to, base.0)
            && file.row.path == *to
        {
            return Ok(Committed {
                file_id: id,
                path: to.clone(),
                version: *version,
                sequence: *sequence,
            });
        }
        if file.row.version != base.0 || file.row.path != *base.1 {
            return conflict("another version or path");
        }
        if self.blocker(Some(id), to) {
            return conflict("path taken");
        }
        let sequence = number(self.log.len() + 1);
        let Some(file) = self.files.get_mut(&id) else {
            return conflict("no file");
        };
        file.last = Some((file.row.path.clone(), Some(to.clone()), base.0, sequence));
        file.row.path = to.clone();
        let row = file.row.clone();
        Ok(self.committed(id, Subject::File(id, Box::new(row))))
    }

    /// Deletes a file. A repetition finds its own change.
    pub fn delete(
        &mut self,
        epoch: Epoch,
        id: FileId,
        base: (Version, &SpacePath),
    ) -> Result<Committed, RemoteError> {
        self.check_epoch(epoch)?;
        self.check_role()?;
        let sequence = number(self.log.len() + 1);
        let Some(file) = self.files.get_mut(&id) else {
            return conflict("no file");
        };
        if file.row.version != base.0 || file.row.path != *base.1 {
            return conflict("another version or path");
        }
        if file.is_deleted {
            return match &file.last {
                Some((_, None, version, sequence)) => Ok(Committed {
                    file_id: id,
                    path: file.row.path.clone(),
                    version: *version,
                    sequence: *sequence,
                }),
                _ => conflict("no file"),
            };
        }
        file.is_deleted = true;
        file.last = Some((file.row.path.clone(), None, base.0, sequence));
        Ok(self.committed(id, Subject::Deleted(id)))
    }

    /// Restores a file from the trash of the space.
    pub fn restore(&mut self, id: FileId) {
        let Some(file) = self.files.get(&id) else { return };
        let path = file.row.path.clone();
        if !file.is_deleted || self.blocker(None, &path) {
            return;
        }
        if let Some(file) = self.files.get_mut(&id) {
            file.is_deleted = false;
            file.last = None;
            let row = file.row.clone();
            self.committed(id, Subject::File(id, Box::new(row)));
        }
    }

    /// Files in the trash of the space.
    pub fn trash(&self) -> Vec<(FileId, Bytes)> {
        let deleted = self.files.iter().filter(|(_, file)| file.is_deleted);
        deleted.map(|(id, file)| (*id, file.content.clone())).collect()
    }

    /// A page of the listing, after a path.
    pub fn list(&self, after: Option<&str>) -> (Vec<(FileId, RemoteRow)>, Option<String>) {
        let mut rows: Vec<(FileId, RemoteRow)> =
            self.live().map(|(id, file)| (*id, file.row.clone())).collect();
        rows.sort_by(|(_, one), (_, other)| one.path.cmp(&other.path));
        rows.retain(|(_, row)| after.is_none_or(|after| row.path.as_str() > after));
        let next = (rows.len() > PAGE).then(|| rows[PAGE - 1].1.path.as_str().to_owned());
        rows.truncate(PAGE);
        (rows, next)
    }

    /// A page of the feed.
    pub fn changes(&self, epoch: Option<Epoch>, after: Cursor) -> Result<Answer, RemoteError> {
        if let Some(epoch) = epoch {
            self.check_epoch(epoch)?;
        }
        let from = usize::try_from(after.get())
            .unwrap_or_default()
            .min(self.log.len());
        let to = (from + PAGE).min(self.log.len());
        Ok(Answer::Changes(ChangePage {
            changes: self.log[from..to].to_vec(),
            has_more: to < self.log.len(),
            position: self.position(),
        }))
    }

    /// Notes a change of the role.
    pub fn set_role(&mut self, role: Role) {
        self.role = role;
        let sequence = number(self.log.len() + 1);
        self.log.push(RemoteChange {
            sequence,
            subject: Subject::Space,
        });
    }

    /// Goes back to an earlier state: another epoch begins.
    pub fn restore_backup(&mut self, backup: &Self) {
        let (epoch, next) = (self.epoch + 1, self.next);
        *self = backup.clone();
        self.epoch = epoch;
        // Ids are random, so they are not given again.
        self.next = next;
        // What was stored after the backup cannot be served, unless another file has it.
        self.contents.clone_from(&backup.contents);
        self.restored_at = Some(number(self.log.len()));
        self.keys.clear();
    }

    /// The current epoch, as the web user's page knows it.
    pub fn current_epoch(&self) -> Epoch {
        self.epoch()
    }
}
