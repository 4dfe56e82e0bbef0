//! The trash of a space, and restoring files and versions.

use std::ops::ControlFlow;

use model::{
    DeletedFileList, DeletedFileView, FileChanged, FileId, RestoreFileRequest, RestoreVersionRequest,
    SpaceId, SpacePath, Version,
};
use reqwest::Method;

use crate::{Client, Error};

impl Client {
    /// `GET /files?deleted=true`, page by page: the files in the trash of a space, the newest deletion first.
    /// `None` stands for the caller's personal space. `each` receives one page of at most 1,000 files at a
    /// time; an error that it returns ends the listing, and so does [`ControlFlow::Break`].
    ///
    /// A file stays in the trash for the stack's `TrashDays`, 30 unless configured otherwise.
    pub async fn list_trash<E: From<Error>>(
        &self,
        space_id: Option<SpaceId>,
        mut each: impl FnMut(Vec<DeletedFileView>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        let space = space_id.map_or(String::new(), |space_id| format!("&spaceId={space_id}"));
        let path = format!("/files?deleted=true{space}");
        self.pages(&path, |list: DeletedFileList| {
            let next = list.next_page_token.map(|token| token.to_string());
            Ok(match each(list.files)? {
                ControlFlow::Continue(()) => next,
                ControlFlow::Break(()) => None,
            })
        })
        .await
    }

    /// Returns the file in the trash that was deleted last at a path, or `None` if there is none. Reads the
    /// trash up to that file, because it is not ordered by path.
    pub async fn find_deleted(
        &self,
        space_id: Option<SpaceId>,
        path: &SpacePath,
    ) -> Result<Option<DeletedFileView>, Error> {
        let mut found = None;
        self.list_trash(space_id, |files| {
            found = files.into_iter().find(|deleted| deleted.file.path == *path);
            Ok::<_, Error>(match found {
                Some(_) => ControlFlow::Break(()),
                None => ControlFlow::Continue(()),
            })
        })
        .await?;
        Ok(found)
    }

    /// `POST /files/{fileId}/restore`: brings a file back from the trash, with its id and all of its versions,
    /// to the path that it had or to `path`. Repeating the call gives the same answer. A file that is not in
    /// the trash stays where it is, and the answer is its newest change.
    ///
    /// 409 `path-taken` names the file in the way ([`Problem::current`](crate::Problem::current)): choose
    /// another path. Viewers get 403 `forbidden`. 404 says that the file is purged, or that the caller has no
    /// access to it.
    pub async fn restore_file(&self, file_id: FileId, path: Option<SpacePath>) -> Result<FileChanged, Error> {
        let body = RestoreFileRequest {
            path,
            device_id: self.device_id(),
        };
        let request = self.request(Method::POST, &format!("/files/{file_id}/restore"));
        self.call(request.json(&body)).await
    }

    /// `POST /files/{fileId}/versions/{version}/restore`: makes an old version the newest one, without sending
    /// content. With `base_version`, only if that is the current version (409 `version-conflict`); a repeated
    /// call then gives the same answer. If the current version has the same content, nothing changes.
    ///
    /// 404 says that the file is in the trash, that the version is purged, or that the caller has no access.
    /// Viewers get 403 `forbidden`.
    pub async fn restore_version(
        &self,
        file_id: FileId,
        version: Version,
        base_version: Option<Version>,
    ) -> Result<FileChanged, Error> {
        let body = RestoreVersionRequest {
            base_version,
            device_id: self.device_id(),
        };
        let path = format!("/files/{file_id}/versions/{version}/restore");
        self.call(self.request(Method::POST, &path).json(&body)).await
    }
}
