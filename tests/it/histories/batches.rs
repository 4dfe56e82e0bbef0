//! Steps that open and complete several uploads, or move and delete several files, with one request.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tests::{Answer, Call};

use super::History;
use super::files::{Edit, is_live};
use super::model::{Expected, Given};
use super::steps::{FileEdit, NewUpload, PATHS};

impl History<'_> {
    /// Opens uploads with one request, sends the content of some, and completes all if `complete`.
    pub(super) async fn open_all(&mut self, user: usize, uploads: Vec<NewUpload>, complete: bool) {
        let (mut openings, mut number) = (Vec::new(), 1);
        for NewUpload {
            space,
            path,
            base,
            send,
        } in uploads
        {
            let opening = self.prepare(user, space, PATHS[path], base, number, false);
            number += u32::from(opening.refused.is_none());
            openings.push((opening, send));
        }
        let bodies = openings.iter().map(|(opening, _)| {
            let mut body = opening.body.clone();
            body["idempotencyKey"] = json!(opening.key.to_string());
            body
        });
        let body = json!({ "uploads": bodies.collect::<Vec<_>>() });
        let call = Call::new("POST /uploads/batch").body(body);
        let Some(answer) = self.ask(user, call, Ok(200)).await else {
            return;
        };
        let mut opened = Vec::new();
        for ((opening, send), result) in openings.into_iter().zip(results(&answer)) {
            let expected = opening.refused.map_or(Ok(201), Err);
            if let Some(created) = outcome(result, expected, "upload") {
                opened.push(self.opened(user, opening, &created, send).await);
            }
        }
        if complete {
            self.complete_all(user, opened).await;
        }
    }

    pub(super) async fn complete_any_all(&mut self, user: usize, indexes: Vec<usize>) {
        let mut uploads: Vec<usize> = Vec::new();
        for index in indexes {
            let upload = self.any_upload(user, index);
            uploads.extend(upload.filter(|upload| !uploads.contains(upload)));
        }
        self.complete_all(user, uploads).await;
    }

    /// Completes uploads with one request. The numbers of a space follow the order of the list, which
    /// [`Self::completed`] compares.
    async fn complete_all(&mut self, user: usize, uploads: Vec<usize>) {
        if uploads.is_empty() {
            return;
        }
        self.repeat_only_without_rate(user);
        let ids: Vec<_> = uploads
            .iter()
            .map(|upload| self.world.uploads[*upload].id)
            .collect();
        let call = Call::new("POST /uploads/batch/complete").body(json!({ "uploadIds": ids }));
        let Some(answer) = self.ask(user, call, Ok(200)).await else {
            return;
        };
        let mut items: Vec<_> = uploads.into_iter().zip(results(&answer)).collect();
        // The changes of a minute are counted space by space.
        items.sort_by_key(|(upload, _)| self.world.spaces[self.world.uploads[*upload].space].id);
        for (upload, result) in items {
            let it = self.world.uploads[upload].clone();
            let refused = self.world.refuses_completing(user, &it, Given::Nothing);
            if let Some(changed) = outcome(result, refused.map_or(Ok(200), Err), "change") {
                self.completed(user, upload, &changed);
            }
        }
    }

    /// Moves and deletes files with one request. A change can depend on those before it.
    pub(super) async fn edit_all(&mut self, user: usize, wanted: Vec<FileEdit>) {
        self.repeat_only_without_rate(user);
        let before: Vec<_> = self
            .world
            .spaces
            .iter()
            .map(|space| space.files.clone())
            .collect();
        let (mut edits, mut refusals) = (Vec::new(), Vec::new());
        for FileEdit { file, to, base } in wanted {
            let Some((space, id)) = self.world.file(user, file, is_live) else {
                break;
            };
            let file = &self.world.spaces[space].files[&id];
            let edit = Edit::new(space, id, file, to.map(|path| PATHS[path]), base);
            refusals.push(self.try_edit(user, &edit).err());
            edits.push(edit);
        }
        // A repetition of other changes has another effect. It may succeed where the first request did not, or
        // undo a change that a later one undid.
        let is_repeatable = edits.iter().zip(&refusals).all(|(edit, refused)| {
            let repeated = self.try_edit(user, edit);
            repeated == refused.map_or(Ok(false), Err)
        });
        self.dies_after = self.dies_after.filter(|_| is_repeatable);
        for (space, files) in self.world.spaces.iter_mut().zip(before) {
            space.files = files;
        }
        if edits.is_empty() {
            return;
        }

        let changes: Vec<Value> = edits.iter().map(item).collect();
        let call = Call::new("POST /files/batch").body(json!({ "changes": changes }));
        let Some(answer) = self.ask(user, call, Ok(200)).await else {
            return;
        };
        let mut items: Vec<_> = edits.iter().zip(results(&answer)).collect();
        items.sort_by_key(|(edit, _)| self.world.spaces[edit.space].id);
        for (edit, result) in items {
            let refused = self.refuses_edit(user, edit);
            if let Some(changed) = outcome(result, refused.map_or(Ok(200), Err), "change") {
                self.edited(user, edit, &changed);
            }
        }
    }

    /// Makes a change in the model, unless it is refused. Returns whether that changes the file.
    fn try_edit(&mut self, user: usize, edit: &Edit) -> Result<bool, Expected> {
        self.refuses_edit(user, edit)
            .map_or_else(|| Ok(self.edit(user, edit)), Err)
    }

    /// With a limit of the changes in a minute, a function does not die. The changes that it made would leave
    /// fewer to the repeated request, which makes others wait.
    fn repeat_only_without_rate(&mut self, user: usize) {
        let limit = self.world.users[user].limits.changes;
        self.dies_after = self.dies_after.filter(|_| limit.is_none());
    }
}

fn item(edit: &Edit) -> Value {
    let mut item = match edit.to {
        Some(path) => json!({ "action": "move", "fileId": edit.id, "path": path }),
        None => json!({ "action": "delete", "fileId": edit.id }),
    };
    if let Some(base) = edit.base_version {
        item["baseVersion"] = json!(base);
    }
    if let Some(base) = &edit.base_path {
        item["basePath"] = json!(base);
    }
    item
}

fn results(answer: &Answer) -> &[Value] {
    answer.body["results"].as_array().unwrap()
}

/// Compares an item's result with the expected status or refusal. Returns the body if the item is not refused.
fn outcome<T: DeserializeOwned>(result: &Value, expected: Result<i64, Expected>, field: &str) -> Option<T> {
    let told = result["status"].as_i64().unwrap();
    match expected {
        Ok(status) => {
            assert_eq!(told, status, "{result}");
            Some(serde_json::from_value(result[field].clone()).unwrap())
        }
        Err(refusal) => {
            let code = result["problem"]["code"].as_str().unwrap_or("none");
            assert_eq!((told, code), refusal, "{result}");
            None
        }
    }
}
