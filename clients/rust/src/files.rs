//! Files that are there: listing, looking at, moving and deleting them.

use model::{
    FileChanged, FileDetail, FileId, FileList, FileVersion, FileView, MoveFileRequest, SpaceId, SpacePath,
    Version,
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;

use crate::{Client, Error};

impl Client {
    /// `GET /files`, page after page: the files of a space, or of the caller's personal one, whose paths begin with `prefix`, in the
    /// order of their paths, given to `each` as they come. What it returns instead of `Ok` ends the listing.
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

    /// The file at a path; nothing if there is none.
    pub async fn find_file(
        &self,
        space_id: Option<SpaceId>,
        path: &SpacePath,
    ) -> Result<Option<FileView>, Error> {
        // Of all paths that begin with this one, it is the first.
        let query = format!("{}&limit=1", files(space_id, path.as_str()));
        let list: FileList = self.call(self.request(Method::GET, &query)).await?;
        Ok(list.files.into_iter().find(|file| file.path == *path))
    }

    /// `GET /files/{fileId}`, page after page: the file and all its versions, newest first.
    pub async fn show_file(&self, file_id: FileId) -> Result<(FileView, Vec<FileVersion>), Error> {
        let mut versions = Vec::new();
        let mut found = None;
        self.pages(&format!("/files/{file_id}"), |page: FileDetail| {
            versions.extend(page.versions);
            found.get_or_insert(page.file);
            Ok::<_, Error>(page.next_page_token.map(|token| token.to_string()))
        })
        .await?;
        // `pages` gives at least one, or an error.
        let file = found.ok_or(Error::Silent)?;
        Ok((file, versions))
    }

    /// `PATCH /files/{fileId}`: moves a file within its space; with `base_version`, only if that is the current one, and
    /// with `base_path`, only if the file is there.
    pub async fn move_file(
        &self,
        file_id: FileId,
        path: SpacePath,
        base_version: Option<Version>,
        base_path: Option<&SpacePath>,
    ) -> Result<FileChanged, Error> {
        let ask = async |base_path: Option<SpacePath>| {
            let body = MoveFileRequest {
                path: path.clone(),
                base_version,
                base_path,
                device_id: self.device_id(),
            };
            let request = self.request(Method::PATCH, &format!("/files/{file_id}"));
            self.call(request.json(&body)).await
        };
        match ask(base_path.cloned()).await {
            Err(error) if base_path.is_some() && is_unknown(&error) => ask(None).await,
            answer => answer,
        }
    }

    /// `DELETE /files/{fileId}`; with `base_version`, only if that is the current one, and with `base_path`, only if the
    /// file is there. Doing it again gives the same answer.
    pub async fn delete_file(
        &self,
        file_id: FileId,
        base_version: Option<Version>,
        base_path: Option<&SpacePath>,
    ) -> Result<FileChanged, Error> {
        let ask = async |base_path: Option<&SpacePath>| {
            let request = self.request(Method::DELETE, &format!("/files/{file_id}"));
            let base = base_version.map(|version| ("baseVersion", version.to_string()));
            let path = base_path.map(|path| ("basePath", path.to_string()));
            let device = self.device_id().map(|device| ("deviceId", device.to_string()));
            let query: Vec<_> = base.into_iter().chain(path).chain(device).collect();
            self.call(request.query(&query)).await
        };
        match ask(base_path).await {
            Err(error) if base_path.is_some() && is_unknown(&error) => ask(None).await,
            answer => answer,
        }
    }
}

/// Whether the service may be of an earlier release, which refuses what it does not know.
pub(crate) fn is_unknown(error: &Error) -> bool {
    matches!(error, Error::Refused(problem) if problem.code == "invalid-request")
}

fn files(space_id: Option<SpaceId>, prefix: &str) -> String {
    let prefix = utf8_percent_encode(prefix, NON_ALPHANUMERIC);
    let space = space_id.map_or(String::new(), |space_id| format!("&spaceId={space_id}"));
    format!("/files?prefix={prefix}{space}")
}
