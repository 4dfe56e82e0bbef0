//! Existing files: listing, finding, moving and deleting them.

use model::{
    ChangeFilesRequest, ChangeOutcome, FileChange, FileChanged, FileDetail, FileId, FileList, FileVersion,
    FileView, FolderList, FolderView, MoveFileRequest, SpaceId, SpacePath, Version,
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::batch::Route;
use crate::{Client, Error};

impl Client {
    /// `GET /files`, page by page: the files of a space whose paths begin with `prefix`, in the order of
    /// their paths. `None` stands for the caller's personal space. `each` receives one page at a time; an
    /// error that it returns ends the listing.
    pub async fn list_files<E: From<Error>>(
        &self,
        space_id: Option<SpaceId>,
        prefix: &str,
        mut each: impl FnMut(Vec<FileView>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.pages(&files(space_id, prefix), |list: FileList| {
            each(list.files)?;
            Ok(list.next_page_token.map(|token| token.to_string()))
        })
        .await
    }

    /// `GET /files?folder=`, page by page: the files and the folders that a folder contains directly, each in
    /// the order of their paths. `folder` is empty for the root. `each` receives one page at a time; an error
    /// that it returns ends the listing. A service of an earlier release refuses the call.
    pub async fn list_folder<E: From<Error>>(
        &self,
        space_id: Option<SpaceId>,
        folder: &str,
        mut each: impl FnMut(Vec<FileView>, Vec<FolderView>) -> Result<(), E>,
    ) -> Result<(), E> {
        let path = in_space("folder", folder, space_id);
        self.pages(&path, |list: FolderList| {
            each(list.files, list.folders)?;
            Ok(list.next_page_token.map(|token| token.to_string()))
        })
        .await
    }

    /// Returns the file at a path, or `None` if there is none.
    pub async fn find_file(
        &self,
        space_id: Option<SpaceId>,
        path: &SpacePath,
    ) -> Result<Option<FileView>, Error> {
        // Files are listed in the order of their paths, so the path itself comes before all longer paths.
        let query = format!("{}&limit=1", files(space_id, path.as_str()));
        let list: FileList = self.call(self.request(Method::GET, &query)).await?;
        Ok(list.files.into_iter().find(|file| file.path == *path))
    }

    /// `GET /files/{fileId}`, page by page: the file and all its versions, newest first. Versions that were
    /// purged are missing. A file in the trash answers 404.
    pub async fn show_file(&self, file_id: FileId) -> Result<(FileView, Vec<FileVersion>), Error> {
        let mut versions = Vec::new();
        let mut found = None;
        self.pages(&format!("/files/{file_id}"), |page: FileDetail| {
            versions.extend(page.versions);
            found.get_or_insert(page.file);
            Ok::<_, Error>(page.next_page_token.map(|token| token.to_string()))
        })
        .await?;
        // `pages` passes at least one page, or fails.
        let file = found.ok_or(Error::Timeout)?;
        Ok((file, versions))
    }

    /// `PATCH /files/{fileId}`, or `POST /files/batch` with concurrent calls: moves a file within its space.
    /// With `base_version`, the file moves only if that is its current version; with `base_path`, only if it is
    /// at that path. A service of an earlier release that refuses `basePath` is asked again without it.
    pub async fn move_file(
        &self,
        file_id: FileId,
        path: SpacePath,
        base_version: Option<Version>,
        base_path: Option<&SpacePath>,
    ) -> Result<FileChanged, Error> {
        self.change(base_path, |base_path| FileChange::Move {
            file_id,
            path: path.clone(),
            base_version,
            base_path,
        })
        .await
    }

    /// `DELETE /files/{fileId}`, or `POST /files/batch` with concurrent calls: moves a file to the trash. With
    /// `base_version`, the file is deleted only if that is its current version; with `base_path`, only if it is
    /// at that path. A service of an earlier release that refuses `basePath` is asked again without it.
    /// Repeating the call gives the same answer.
    pub async fn delete_file(
        &self,
        file_id: FileId,
        base_version: Option<Version>,
        base_path: Option<&SpacePath>,
    ) -> Result<FileChanged, Error> {
        self.change(base_path, |base_path| FileChange::Delete {
            file_id,
            base_version,
            base_path,
        })
        .await
    }

    async fn change(
        &self,
        base_path: Option<&SpacePath>,
        with: impl Fn(Option<SpacePath>) -> FileChange,
    ) -> Result<FileChanged, Error> {
        let ask = |base_path| self.gathered(|batches| &batches.change_files, with(base_path));
        match ask(base_path.cloned()).await {
            Err(error) if base_path.is_some() && is_unknown_field(&error, "basePath") => ask(None).await,
            answer => answer,
        }
    }

    /// `DELETE /files/{fileId}?permanently=true`: erases a file with all of its versions, in the trash or not.
    /// Nothing restores it. `base_version` and `base_path` are as in [`Client::delete_file`]. Repeating the
    /// call gives the same answer, until the file is purged: then it is 404.
    ///
    /// Only owners of the space can (403 `forbidden`).
    pub async fn erase_file(
        &self,
        file_id: FileId,
        base_version: Option<Version>,
        base_path: Option<&SpacePath>,
    ) -> Result<FileChanged, Error> {
        let ask = async |base_path| {
            self.call(self.deletion(file_id, true, base_version, base_path))
                .await
        };
        match ask(base_path).await {
            Err(error) if base_path.is_some() && is_unknown_field(&error, "basePath") => ask(None).await,
            answer => answer,
        }
    }

    fn deletion(
        &self,
        file_id: FileId,
        permanently: bool,
        base_version: Option<Version>,
        base_path: Option<&SpacePath>,
    ) -> RequestBuilder {
        let request = self.request(Method::DELETE, &format!("/files/{file_id}"));
        let permanently = permanently.then(|| ("permanently", "true".to_owned()));
        let base = base_version.map(|version| ("baseVersion", version.to_string()));
        let path = base_path.map(|path| ("basePath", path.to_string()));
        let device = self.device_id().map(|device| ("deviceId", device.to_string()));
        let query = permanently.into_iter().chain(base).chain(path).chain(device);
        let query: Vec<_> = query.collect();
        request.query(&query)
    }
}

pub(crate) struct ChangeFiles;

impl Route for ChangeFiles {
    type Item = FileChange;
    type Output = FileChanged;
    type Outcome = ChangeOutcome;

    fn single(client: &Client, change: FileChange) -> RequestBuilder {
        match change {
            FileChange::Move {
                file_id,
                path,
                base_version,
                base_path,
            } => {
                let body = MoveFileRequest {
                    path,
                    base_version,
                    base_path,
                    device_id: client.device_id(),
                };
                let request = client.request(Method::PATCH, &format!("/files/{file_id}"));
                request.json(&body)
            }
            FileChange::Delete {
                file_id,
                base_version,
                base_path,
            } => client.deletion(file_id, false, base_version, base_path.as_ref()),
        }
    }

    fn batch(client: &Client, changes: Vec<FileChange>) -> RequestBuilder {
        let device_id = client.device_id();
        let request = client.request(Method::POST, "/files/batch");
        request.json(&ChangeFilesRequest { changes, device_id })
    }

    fn output(outcome: ChangeOutcome) -> Result<FileChanged, Value> {
        changed(outcome)
    }

    /// Each of two changes of a file names the version and the path that it expects, and the order in which
    /// concurrent calls are made is not defined.
    fn are_exclusive(one: &FileChange, other: &FileChange) -> bool {
        one.file_id() == other.file_id()
    }
}

/// The change that was made, or the problem of the item.
pub(crate) fn changed(outcome: ChangeOutcome) -> Result<FileChanged, Value> {
    match outcome {
        ChangeOutcome::Change(change) => Ok(change),
        ChangeOutcome::Problem(problem) => Err(problem),
    }
}

/// Whether a service of an earlier release refused the request for a field that it does not know.
pub(crate) fn is_unknown_field(error: &Error, field: &str) -> bool {
    let unknown = format!("unknown field `{field}`");
    matches!(error, Error::Refused(problem) if problem.code == "invalid-request" && problem.detail.contains(&unknown))
}

fn files(space_id: Option<SpaceId>, prefix: &str) -> String {
    in_space("prefix", prefix, space_id)
}

/// The target of `GET /files` with a parameter that selects files.
fn in_space(parameter: &str, value: &str, space_id: Option<SpaceId>) -> String {
    let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
    let space = space_id.map_or(String::new(), |space_id| format!("&spaceId={space_id}"));
    format!("/files?{parameter}={value}{space}")
}
