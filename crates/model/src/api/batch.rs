//! Bodies of requests with several items, each of which has its own result.

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

use super::file::deserialize_new_path;
use crate::{
    CreateUploadRequest, CreatedUpload, DeviceId, FileChanged, FileId, SpacePath, UploadId, Version,
};

/// The maximum number of items of a request. The minimum is 1.
pub const MAX_BATCH_ITEMS: usize = 100;

/// The body of `POST /uploads/batch`: at most [`MAX_BATCH_ITEMS`] uploads, which are independent of each other.
/// `U` is the type of an upload; with [`Value`], an invalid upload does not make the body invalid.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateUploadsRequest<U = CreateUploadRequest> {
    /// The uploads to open.
    pub uploads: Vec<U>,
}

/// The body of `POST /uploads/batch/complete`: at most [`MAX_BATCH_ITEMS`] uploads, each at most once.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CompleteUploadsRequest {
    /// The uploads to complete.
    pub upload_ids: Vec<UploadId>,
}

/// The body of `POST /files/batch`: at most [`MAX_BATCH_ITEMS`] changes. Those of one space are made in the
/// order of the list. `C` is the type of a change; with [`Value`], an invalid change does not make the body
/// invalid.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeFilesRequest<C = FileChange> {
    /// The moves and deletions.
    pub changes: Vec<C>,
    /// The device that makes the changes, if the client names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
}

/// A change of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub enum FileChange {
    /// As `PATCH /files/{fileId}`.
    Move {
        /// The file to move.
        file_id: FileId,
        /// The new path of the file in its space.
        path: SpacePath,
        /// The required current version; `None` to move the file at any version.
        #[serde(skip_serializing_if = "Option::is_none")]
        base_version: Option<Version>,
        /// The required current path; `None` to move the file from any path.
        #[serde(skip_serializing_if = "Option::is_none")]
        base_path: Option<SpacePath>,
    },
    /// As `DELETE /files/{fileId}`.
    Delete {
        /// The file to move to the trash.
        file_id: FileId,
        /// The required current version; `None` to delete the file at any version.
        #[serde(skip_serializing_if = "Option::is_none")]
        base_version: Option<Version>,
        /// The required current path; `None` to delete the file at any path.
        #[serde(skip_serializing_if = "Option::is_none")]
        base_path: Option<SpacePath>,
    },
}

/// The fields of all actions. A tagged enum would be read into a buffer first, and its errors would not name
/// the field.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Fields {
    action: Action,
    file_id: FileId,
    #[serde(default, deserialize_with = "deserialize_new_path")]
    path: Option<SpacePath>,
    base_version: Option<Version>,
    base_path: Option<SpacePath>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Move,
    Delete,
}

impl<'de> Deserialize<'de> for FileChange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Fields {
            action,
            file_id,
            path,
            base_version,
            base_path,
        } = Fields::deserialize(deserializer)?;
        match (action, path) {
            (Action::Move, Some(path)) => Ok(Self::Move {
                file_id,
                path,
                base_version,
                base_path,
            }),
            (Action::Move, None) => Err(de::Error::missing_field("path")),
            (Action::Delete, None) => Ok(Self::Delete {
                file_id,
                base_version,
                base_path,
            }),
            (Action::Delete, Some(_)) => Err(de::Error::custom("path: a deletion has none")),
        }
    }
}

impl FileChange {
    /// The file to change.
    pub fn file_id(&self) -> FileId {
        match self {
            Self::Move { file_id, .. } | Self::Delete { file_id, .. } => *file_id,
        }
    }
}

/// The 200 of a request with several items.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BatchResults<R> {
    /// The results, in the order of the items.
    pub results: Vec<ItemResult<R>>,
}

/// The result of an item: the status and the body with which a request for it alone would have been answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ItemResult<R> {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    #[serde(flatten)]
    pub outcome: R,
}

/// The result of opening an upload.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OpeningOutcome {
    /// The open upload.
    Upload(CreatedUpload),
    /// The upload was refused or failed: a problem (RFC 9457), with `retryAfter` in seconds if that is known.
    Problem(Value),
}

/// The result of completing an upload, and of moving or deleting a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ChangeOutcome {
    /// The change that was made.
    Change(FileChanged),
    /// The change was refused or failed: a problem (RFC 9457), with `retryAfter` in seconds if that is known.
    Problem(Value),
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_of_a_file_names_its_action_and_has_no_unknown_fields() {
        let file_id = "01890a5d-ac96-774b-bcce-b302099a8057";
        let moved = json!({"action": "move", "fileId": file_id, "path": "/b", "basePath": "/a"});
        let change: FileChange = serde_json::from_value(moved.clone()).unwrap();
        assert_eq!(serde_json::to_value(&change).unwrap(), moved);
        let deleted = json!({"action": "delete", "fileId": file_id, "baseVersion": 3});
        let change: FileChange = serde_json::from_value(deleted.clone()).unwrap();
        assert_eq!(serde_json::to_value(&change).unwrap(), deleted);
        for invalid in [
            json!({"action": "delete", "fileId": file_id, "path": "/b"}),
            json!({"action": "move", "fileId": file_id}),
            json!({"action": "erase", "fileId": file_id}),
            json!({"fileId": file_id}),
        ] {
            assert!(
                serde_json::from_value::<FileChange>(invalid.clone()).is_err(),
                "{invalid}"
            );
        }
    }

    #[test]
    fn a_result_has_a_status_and_one_of_two_bodies() {
        let text = r#"{"status":404,"problem":{"code":"not-found"}}"#;
        let result: ItemResult<OpeningOutcome> = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&result).unwrap(), text);
        let OpeningOutcome::Problem(problem) = result.outcome else {
            panic!("{result:?}")
        };
        assert_eq!(problem["code"], "not-found");
    }
}
