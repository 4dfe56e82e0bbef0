//! Steps on files, their versions and uploads.

use std::collections::BTreeMap;

use ::model::{CreatedUpload, FileChanged, FileId, PresignedParts, Role};
use serde_json::{Value, json};
use tests::{Call, put_to_storage, upload_body};

use super::History;
use super::model::{
    CONFLICT, Expected, FORBIDDEN, File, Given, NOT_FOUND, Space, State, TAKEN, TOO_MANY_BYTES, Upload,
    UploadState, Version,
};
use super::steps::{Base, NOWHERE};

fn base_version(base: Base, current: i64) -> Option<i64> {
    match base {
        Base::Unsaid => None,
        Base::Current | Base::Named | Base::Elsewhere => Some(current),
        Base::Stale => Some(current + 1),
    }
}

fn base_path(base: Base, current: &str) -> Option<String> {
    match base {
        Base::Named => Some(current.to_owned()),
        Base::Elsewhere => Some(NOWHERE.to_owned()),
        Base::Unsaid | Base::Current | Base::Stale => None,
    }
}

fn is_writable(space: &Space, role: Option<Role>) -> bool {
    space.deleted.is_none() && matches!(role, Some(Role::Owner | Role::Editor))
}

pub(super) fn is_live(file: &File) -> bool {
    file.state == State::Live
}

fn is_in_trash(file: &File) -> bool {
    matches!(file.state, State::Trash(..))
}

fn is_there(file: &File) -> bool {
    is_live(file) || is_in_trash(file)
}

fn has_older_versions(file: &File) -> bool {
    is_live(file) && file.version > 1
}

/// A request to open an upload, or an item of one, with the expected refusal.
pub(super) struct Opening {
    space: usize,
    path: String,
    content: String,
    in_parts: bool,
    base_version: Option<i64>,
    base_file: Option<FileId>,
    /// The idempotency key.
    pub(super) key: usize,
    pub(super) body: Value,
    pub(super) refused: Option<Expected>,
}

/// A move, or without a path a deletion, and the state of the file that it requires.
pub(super) struct Edit {
    pub(super) space: usize,
    pub(super) id: FileId,
    pub(super) to: Option<&'static str>,
    pub(super) base_version: Option<i64>,
    pub(super) base_path: Option<String>,
}

impl Edit {
    pub(super) fn new(space: usize, id: FileId, before: &File, to: Option<&'static str>, base: Base) -> Self {
        Self {
            space,
            id,
            to,
            base_version: base_version(base, before.version),
            base_path: base_path(base, &before.path),
        }
    }

    /// Whether the file is already as requested, so that nothing changes.
    fn is_done(&self, file: &File) -> bool {
        match self.to {
            Some(path) => is_live(file) && file.path == path,
            None => is_in_trash(file),
        }
    }
}

impl History<'_> {
    pub(super) async fn upload(&mut self, user: usize, space: usize, path: &str, base: Base) {
        if let Some(upload) = self.open(user, space, path, base, true).await {
            self.complete(user, upload, Given::Right).await;
        }
    }

    /// Opens an upload, and sends the content if `send`. Returns the upload's index.
    pub(super) async fn open(
        &mut self,
        user: usize,
        space: usize,
        path: &str,
        base: Base,
        send: bool,
    ) -> Option<usize> {
        let in_parts = self.counter.is_multiple_of(3);
        let opening = self.prepare(user, space, path, base, 1, in_parts);
        self.open_one(user, opening, send).await
    }

    async fn open_one(&mut self, user: usize, opening: Opening, send: bool) -> Option<usize> {
        let call = Call::new("POST /uploads").header("idempotency-key", opening.key);
        let call = call.body(opening.body.clone());
        let answer = self.ask(user, call, opening.refused.map_or(Ok(201), Err)).await?;
        Some(self.opened(user, opening, &answer.parsed(), send).await)
    }

    /// Prepares a request to open an upload, or an item of one. It is the `number`th that the request opens.
    pub(super) fn prepare(
        &mut self,
        user: usize,
        space: usize,
        path: &str,
        base: Base,
        number: u32,
        in_parts: bool,
    ) -> Opening {
        let space = self.world.space(user, space, is_writable);
        let there = self.world.spaces[space].at(path);
        let (current, file) = there.map_or((0, None), |(id, file)| (file.version, Some(id)));
        let base_file = match base {
            Base::Named => file,
            Base::Elsewhere => Some(FileId::from(platform::ids::new_id())),
            Base::Unsaid | Base::Current | Base::Stale => None,
        };
        // Version 0 with a file id is contradictory.
        let base = base_version(base, current).filter(|base| *base > 0 || base_file.is_none());
        let conflict = base.is_some_and(|base| base != current) || base_file.is_some() && base_file != file;
        self.prepare_with(user, space, path, (base, base_file), conflict, (number, in_parts))
    }

    fn prepare_with(
        &mut self,
        user: usize,
        space: usize,
        path: &str,
        (base_version, base_file): (Option<i64>, Option<FileId>),
        conflict: bool,
        (number, in_parts): (u32, bool),
    ) -> Opening {
        self.counter += 1;
        let mut content = format!("{} {}", self.world.id, self.counter);
        if in_parts {
            content.push_str(" in parts");
        }
        let size = i64::try_from(content.len()).unwrap();
        let it = &self.world.spaces[space];
        let file = it.at(path).map(|(id, _)| id);
        let refused = self
            .refuses_writing(user, space)
            .or(conflict.then_some(CONFLICT))
            .or((file.is_none() && it.is_blocked(path, None)).then_some(TAKEN))
            .or(it.is_full(size).then_some(TOO_MANY_BYTES))
            .or(self.world.refuses_opening(user, number));
        let mut body = upload_body(path, content.as_bytes());
        if in_parts {
            body["sha256"] = Value::Null;
        }
        // Without a space, a file goes to the personal one.
        if space != self.world.users[user].personal || self.counter.is_multiple_of(2) {
            body["spaceId"] = json!(it.id);
        }
        if let Some(base) = base_version {
            body["baseVersion"] = json!(base);
        }
        if let Some(file) = base_file {
            body["baseFileId"] = json!(file);
        }
        Opening {
            space,
            path: path.to_owned(),
            content,
            in_parts,
            base_version,
            base_file: file.filter(|_| base_version.is_some() || base_file.is_some()),
            key: self.counter,
            body,
            refused,
        }
    }

    /// Records an upload that was opened, and sends the content if `send`. Returns the upload's index.
    pub(super) async fn opened(
        &mut self,
        user: usize,
        opening: Opening,
        created: &CreatedUpload,
        send: bool,
    ) -> usize {
        let Opening {
            space,
            path,
            content,
            in_parts,
            base_version,
            base_file,
            ..
        } = opening;
        assert_eq!(created.space_id, self.world.spaces[space].id);
        if send && in_parts {
            let part = json!({ "partNumber": 1, "sha256": client::sha256(content.as_bytes()) });
            let call = Call::new("POST /uploads/{uploadId}/parts").path("uploadId", created.upload_id);
            let call = call.body(json!({ "parts": [part] }));
            let presigned = self.functions.api.call(&self.world.name(user), call).await;
            let presigned: PresignedParts = presigned.parsed();
            put_to_storage(&presigned.parts[0].put, content.as_bytes()).await;
        } else if send {
            put_to_storage(created.put().unwrap(), content.as_bytes()).await;
            self.world.objects.insert(created.upload_id);
        }
        let lifetime = if in_parts {
            uploads::MULTIPART_LIFETIME
        } else {
            uploads::PUT_LIFETIME
        };
        self.world.uploads.push(Upload {
            id: created.upload_id,
            user: Some(user),
            space,
            path,
            content,
            base_version,
            base_file,
            sent: send,
            in_parts,
            state: UploadState::Pending,
            expires_at: self.world.now + lifetime,
            made: None,
        });
        self.world.uploads.len() - 1
    }

    /// Expected refusal if the user may not write to the space.
    fn refuses_writing(&self, user: usize, space: usize) -> Option<Expected> {
        match self.world.role(user, space) {
            None => Some(NOT_FOUND),
            Some(Role::Viewer) => Some(FORBIDDEN),
            Some(_) => None,
        }
    }

    /// Selects an upload: three times of four a pending one of the user, if there is one, or else any.
    pub(super) fn any_upload(&self, user: usize, index: usize) -> Option<usize> {
        let pending = |upload: &Upload| upload.user == Some(user) && upload.state == UploadState::Pending;
        let uploads = self.world.uploads.iter().enumerate();
        let pending: Vec<usize> = uploads.filter(|(_, it)| pending(it)).map(|(it, _)| it).collect();
        if index % 4 < 3 && !pending.is_empty() {
            return Some(pending[index % pending.len()]);
        }
        let number = self.world.uploads.len();
        (number > 0).then(|| index % number)
    }

    pub(super) async fn complete_any(&mut self, user: usize, index: usize) {
        if let Some(upload) = self.any_upload(user, index) {
            let it = &self.world.uploads[upload];
            let given = match index % 5 {
                0 => Given::Nothing,
                // It would be that of the version.
                1 if !it.in_parts || it.state == UploadState::Completed => Given::Other,
                _ => Given::Right,
            };
            self.complete(user, upload, given).await;
        }
    }

    async fn complete(&mut self, user: usize, upload: usize, given: Given) {
        let it = self.world.uploads[upload].clone();
        let refused = self.world.refuses_completing(user, &it, given);
        let is_assembled = it.in_parts
            && it.state == UploadState::Pending
            && self.world.refuses_all(user, self.known).is_none()
            && self.world.refuses_assembling(user, &it, given).is_none();
        if is_assembled {
            self.world.objects.insert(it.id);
        }
        let call = Call::new("POST /uploads/{uploadId}/complete").path("uploadId", it.id);
        let call = call.body(match given {
            Given::Nothing => json!({}),
            Given::Right => json!({ "sha256": client::sha256(it.content.as_bytes()) }),
            Given::Other => json!({ "sha256": client::sha256(b"other") }),
        });
        let answer = self.ask(user, call, refused.map_or(Ok(200), Err)).await;
        if let Some(answer) = answer {
            self.completed(user, upload, &answer.parsed());
        }
    }

    pub(super) fn completed(&mut self, user: usize, upload: usize, changed: &FileChanged) {
        let it = self.world.uploads[upload].clone();
        if let Some(made) = it.made {
            assert_eq!((changed.file_id, changed.version.get()), made);
            return;
        }
        let there = self.world.spaces[it.space].at(&it.path).map(|(id, _)| id);
        let id = there.unwrap_or(changed.file_id);
        let new = Version {
            sha256: client::sha256(it.content.as_bytes()).to_string(),
            size: i64::try_from(it.content.len()).unwrap(),
            object: it.id,
            by: self.world.name(user),
            superseded_at: None,
        };
        let version = self.add_version(it.space, id, &it.path, new);
        assert_eq!((changed.file_id, changed.version.get()), (id, version));
        let upload = &mut self.world.uploads[upload];
        (upload.state, upload.made) = (UploadState::Completed, Some((id, version)));
        self.changed_file(user, it.space, "FILE_UPDATED", id, changed);
    }

    /// Adds a version to a file, or makes the file. Returns the version's number.
    fn add_version(&mut self, space: usize, id: FileId, path: &str, new: Version) -> i64 {
        let now = self.world.now;
        let files = &mut self.world.spaces[space].files;
        let file = files.entry(id).or_insert_with(|| File {
            path: path.to_owned(),
            version: 0,
            versions: BTreeMap::new(),
            state: State::Live,
        });
        if let Some(former) = file.versions.get_mut(&file.version) {
            former.superseded_at = Some(now);
        }
        file.version += 1;
        file.versions.insert(file.version, new);
        file.version
    }

    /// Records the change of a file, and compares the answer with it.
    fn changed_file(
        &mut self,
        user: usize,
        space: usize,
        kind: &'static str,
        id: FileId,
        changed: &FileChanged,
    ) {
        let file = &self.world.spaces[space].files[&id];
        let (path, version) = (file.path.clone(), file.version);
        assert_eq!(
            (changed.file_id, changed.version.get(), changed.path.as_str()),
            (id, version, path.as_str())
        );
        self.change(user, space, kind, json!([path, version]));
        self.world.count_change(user);
        let it = &self.world.spaces[space];
        assert_eq!(
            (changed.space_id, changed.sequence.get()),
            (it.id, i64::try_from(it.feed.len()).unwrap())
        );
    }

    pub(super) async fn abort(&mut self, user: usize, index: usize) {
        let Some(upload) = self.any_upload(user, index) else {
            return;
        };
        let it = &self.world.uploads[upload];
        let expected = match it.state {
            _ if it.user != Some(user) || self.world.role(user, it.space).is_none() => Err(NOT_FOUND),
            UploadState::Pending | UploadState::Aborted => Ok(204),
            UploadState::Completed => Err((409, "upload-completed")),
            UploadState::Gone => Err(NOT_FOUND),
        };
        let call = Call::new("DELETE /uploads/{uploadId}").path("uploadId", it.id);
        if self.ask(user, call, expected).await.is_some() {
            self.world.uploads[upload].state = UploadState::Aborted;
        }
    }

    /// Two users, or two devices of one user, complete uploads from the same base at the same time.
    pub(super) async fn race(&mut self, users: [usize; 2], space: usize, path: &str) {
        let space = self.world.space(users[0], space, is_writable);
        let it = &self.world.spaces[space];
        let refused = users.iter().any(|user| {
            let refused = self.world.refuses_all(*user, self.known);
            let refused = refused.or(self.refuses_writing(*user, space));
            let refused = refused.or(self.world.refuses_rate(*user, 2));
            refused.or(self.world.refuses_opening(*user, 2)).is_some() || !self.world.is_known(*user)
        });
        if refused || it.is_blocked(path, None) || it.is_full(100) {
            return;
        }
        let base = (Some(it.at(path).map_or(0, |(_, file)| file.version)), None);
        let mut opened = [0; 2];
        for (user, opened) in users.into_iter().zip(&mut opened) {
            let opening = self.prepare_with(user, space, path, base, false, (1, false));
            *opened = self.open_one(user, opening, true).await.unwrap();
        }
        let calls = opened.map(|upload| {
            let id = self.world.uploads[upload].id;
            Call::new("POST /uploads/{uploadId}/complete").path("uploadId", id)
        });
        let second = self.share.apps.environment();
        let names = users.map(|user| self.world.name(user));
        let [one, other] = calls;
        let answers = tokio::join!(
            self.functions.api.call(&names[0], one),
            second.call(&names[1], other)
        );
        let (winner, won, lost) = match (answers.0.status, answers.1.status) {
            (200, 409) => (0, answers.0, answers.1),
            (409, 200) => (1, answers.1, answers.0),
            statuses => panic!("{statuses:?}"),
        };
        assert_eq!(lost.problem(), CONFLICT);
        self.completed(users[winner], opened[winner], &won.parsed());
        let current = &lost.body["current"];
        assert_eq!(current["version"], won.body["version"]);
        assert_eq!(current["fileId"], won.body["fileId"]);
    }

    /// The file's space and former state, and the refusal that does not depend on the file's state.
    fn selected(&self, user: usize, (space, id): (usize, FileId)) -> (File, Option<Expected>) {
        let file = self.world.spaces[space].files[&id].clone();
        let gone = (file.state == State::Gone).then_some(NOT_FOUND);
        let refused = gone.or(self.world.refuses_change(user, space, 1));
        (file, refused)
    }

    pub(super) async fn rename(&mut self, user: usize, file: usize, path: &'static str, base: Base) {
        let Some((space, id)) = self.world.file(user, file, is_live) else {
            return;
        };
        let edit = Edit::new(space, id, &self.world.spaces[space].files[&id], Some(path), base);
        let mut body = json!({ "path": path });
        if let Some(base) = edit.base_version {
            body["baseVersion"] = json!(base);
        }
        if let Some(base_path) = &edit.base_path {
            body["basePath"] = json!(base_path);
        }
        let call = Call::new("PATCH /files/{fileId}").path("fileId", id).body(body);
        let refused = self.refuses_edit(user, &edit);
        let answer = self.ask(user, call, refused.map_or(Ok(200), Err)).await;
        if let Some(answer) = answer {
            self.edited(user, &edit, &answer.parsed());
        }
    }

    /// Expected refusal of a move or a deletion.
    pub(super) fn refuses_edit(&self, user: usize, edit: &Edit) -> Option<Expected> {
        let (before, refused) = self.selected(user, (edit.space, edit.id));
        let may_not_write = self.refuses_writing(user, edit.space);
        let other_version = edit.base_version.is_some_and(|base| base != before.version);
        let other_path = edit.base_path.as_ref().is_some_and(|base| *base != before.path);
        let Some(path) = edit.to else {
            let conflict = other_version || other_path;
            return refused.or(match before.state {
                State::Live => may_not_write.or(conflict.then_some(CONFLICT)),
                State::Trash(..) => (may_not_write.is_some() || conflict).then_some(NOT_FOUND),
                State::Erased | State::Gone => Some(NOT_FOUND),
            });
        };
        let moves = before.path != path;
        let taken = moves && self.world.spaces[edit.space].is_taken(path, edit.id);
        refused
            .or((!is_live(&before)).then_some(NOT_FOUND))
            .or(may_not_write)
            .or((other_version || other_path && moves).then_some(CONFLICT))
            .or(taken.then_some(TAKEN))
    }

    /// Moves or deletes a file in the model. Returns whether that is a change.
    pub(super) fn edit(&mut self, user: usize, edit: &Edit) -> bool {
        let state = State::Trash(self.world.now, self.world.name(user));
        let file = self.file_mut(edit.space, edit.id);
        if edit.is_done(file) {
            return false;
        }
        match edit.to {
            Some(path) => path.clone_into(&mut file.path),
            None => file.state = state,
        }
        true
    }

    /// Records a move or a deletion that was answered with success.
    pub(super) fn edited(&mut self, user: usize, edit: &Edit, changed: &FileChanged) {
        if self.edit(user, edit) {
            let kind = edit.to.map_or("FILE_DELETED", |_| "FILE_MOVED");
            self.changed_file(user, edit.space, kind, edit.id, changed);
        }
    }

    fn file_mut(&mut self, space: usize, id: FileId) -> &mut File {
        self.world.spaces[space].files.get_mut(&id).unwrap()
    }

    pub(super) async fn delete(&mut self, user: usize, file: usize, base: Base) {
        let Some((space, id)) = self.world.file(user, file, is_live) else {
            return;
        };
        let before = &self.world.spaces[space].files[&id];
        let ((call, _), edit) = (
            deletion(id, before, base),
            Edit::new(space, id, before, None, base),
        );
        let refused = self.refuses_edit(user, &edit);
        let answer = self.ask(user, call, refused.map_or(Ok(200), Err)).await;
        if let Some(answer) = answer {
            self.edited(user, &edit, &answer.parsed());
        }
    }

    pub(super) async fn erase(&mut self, user: usize, file: usize, base: Base) {
        let Some((space, id)) = self.world.file(user, file, is_there) else {
            return;
        };
        let (before, refused) = self.selected(user, (space, id));
        let (call, conflict) = deletion(id, &before, base);
        let owns = self.world.role(user, space) == Some(Role::Owner);
        let conflict = conflict.then_some(if is_live(&before) { CONFLICT } else { NOT_FOUND });
        let refused = refused.or((!owns).then_some(FORBIDDEN)).or(conflict);
        let call = call.query("permanently", "true");
        let answer = self.ask(user, call, refused.map_or(Ok(200), Err)).await;
        if let Some(answer) = answer {
            self.file_mut(space, id).state = State::Erased;
            // A file in the trash was deleted by a change before.
            if is_live(&before) {
                self.changed_file(user, space, "FILE_DELETED", id, &answer.parsed());
            }
        }
    }

    pub(super) async fn restore_file(&mut self, user: usize, file: usize, path: Option<&str>) {
        let Some((space, id)) = self.world.file(user, file, is_in_trash) else {
            return;
        };
        let (before, refused) = self.selected(user, (space, id));
        let wanted = path.unwrap_or(&before.path);
        let taken = is_in_trash(&before) && self.world.spaces[space].is_taken(wanted, id);
        let refused = refused
            .or((before.state == State::Erased).then_some(NOT_FOUND))
            .or(self.refuses_writing(user, space))
            .or(taken.then_some(TAKEN));
        let body = path.map_or(json!({}), |path| json!({ "path": path }));
        let call = Call::new("POST /files/{fileId}/restore").path("fileId", id);
        let answer = self
            .ask(user, call.body(body), refused.map_or(Ok(200), Err))
            .await;
        if let Some(answer) = answer.filter(|_| is_in_trash(&before)) {
            let file = self.file_mut(space, id);
            (file.path, file.state) = (wanted.to_owned(), State::Live);
            self.changed_file(user, space, "FILE_UPDATED", id, &answer.parsed());
        }
    }

    pub(super) async fn restore_version(&mut self, user: usize, file: usize, version: usize, base: Base) {
        let Some((space, id)) = self.world.file(user, file, has_older_versions) else {
            return;
        };
        let (before, refused) = self.selected(user, (space, id));
        let version = 1 + i64::try_from(version).unwrap() % before.version;
        let base = base_version(base, before.version);
        let wanted = before.versions.get(&version).filter(|_| is_live(&before));
        let conflict = base.is_some_and(|base| base != before.version);
        let refused = refused
            .or(wanted.is_none().then_some(NOT_FOUND))
            .or(self.refuses_writing(user, space))
            .or(conflict.then_some(CONFLICT));
        let body = base.map_or(json!({}), |base| json!({ "baseVersion": base }));
        let call = Call::new("POST /files/{fileId}/versions/{version}/restore").path("fileId", id);
        let call = call.path("version", version).body(body);
        let answer = self.ask(user, call, refused.map_or(Ok(200), Err)).await;
        let (Some(answer), Some(wanted)) = (answer, wanted) else {
            return;
        };
        // Nothing changes if the current version has the same content.
        if wanted.object != before.versions[&before.version].object {
            let new = Version {
                by: self.world.name(user),
                superseded_at: None,
                ..wanted.clone()
            };
            self.add_version(space, id, &before.path, new);
            self.changed_file(user, space, "FILE_UPDATED", id, &answer.parsed());
        }
    }
}

/// The request to delete a file, and whether its base is not the file's state.
fn deletion(id: FileId, before: &File, base: Base) -> (Call, bool) {
    let base_path = base_path(base, &before.path);
    let base = base_version(base, before.version);
    let conflict = base.is_some_and(|base| base != before.version)
        || base_path.as_ref().is_some_and(|base| *base != before.path);
    let mut call = Call::new("DELETE /files/{fileId}").path("fileId", id);
    if let Some(base) = base {
        call = call.query("baseVersion", base);
    }
    if let Some(base_path) = &base_path {
        call = call.query("basePath", base_path);
    }
    (call, conflict)
}
