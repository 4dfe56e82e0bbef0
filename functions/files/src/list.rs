//! `GET /files` and `GET /files/{fileId}`.

use api::Problem;
use api::http::{Request, Response, json};
use db::{FolderEntry, Rejection};
use http::StatusCode;
use model::{
    FileDetail, FileId, FileList, FolderKey, FolderList, FolderPath, PageLimit, PageQuery, PageToken,
    PathPrefix, SpaceId, SpacePath, Version, page,
};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use crate::{App, trash};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ListQuery {
    space_id: Option<SpaceId>,
    /// Always false, or the request lists the trash.
    #[serde(default, rename = "deleted")]
    _deleted: bool,
    #[serde(default)]
    prefix: PathPrefix,
    #[serde(default)]
    limit: PageLimit,
    page_token: Option<PageToken<SpacePath>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FolderQuery {
    space_id: Option<SpaceId>,
    folder: FolderPath,
    #[serde(default)]
    limit: PageLimit,
    page_token: Option<PageToken<FolderKey>>,
}

#[derive(Deserialize)]
struct Which {
    #[serde(default)]
    deleted: bool,
    #[serde(default, deserialize_with = "is_given")]
    folder: bool,
}

/// Whether there is such a parameter, also an empty one.
fn is_given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// Lists the files of a space, ordered by path, or what one of its folders contains, or the files in its trash.
pub(crate) async fn list(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let which: Which = request.query()?;
    if which.deleted {
        return trash::list(app, request).await;
    }
    if which.folder {
        return list_folder(app, request).await;
    }
    let caller = request.caller()?;
    let query: ListQuery = request.query()?;
    let after = query.page_token.map(|token| token.0);
    let listing = app.db.list_files(
        query.space_id,
        &caller,
        &query.prefix,
        after.as_ref(),
        query.limit,
    );
    let files = listing.await?;
    let files = files.ok_or(Rejection::NotFound)?;
    let (files, next_page_token) = page(files, query.limit, |file| file.path.clone());
    json(
        StatusCode::OK,
        &FileList {
            files,
            next_page_token,
        },
    )
}

async fn list_folder(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let query: FolderQuery = request.query()?;
    let after = query.page_token.map(|token| token.0);
    let listing = app.db.list_folder(
        query.space_id,
        &caller,
        &query.folder,
        after.as_ref(),
        query.limit,
    );
    let entries = listing.await?.ok_or(Rejection::NotFound)?;
    let (entries, next_page_token) = page(entries, query.limit, |entry| match entry {
        FolderEntry::File(file) => FolderKey::File(file.path.clone()),
        FolderEntry::Folder(folder) => FolderKey::Folder(folder.path.clone()),
    });
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in entries {
        match entry {
            FolderEntry::File(file) => files.push(*file),
            FolderEntry::Folder(folder) => folders.push(folder),
        }
    }
    json(
        StatusCode::OK,
        &FolderList {
            files,
            folders,
            next_page_token,
        },
    )
}

/// Shows a file and its versions, newest version first.
pub(crate) async fn show(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let file_id: FileId = request.path_parameter("fileId")?;
    let query: PageQuery<Version> = request.query()?;
    let before = query.page_token.map(|token| token.0);
    let loading = app.db.load_file(file_id, &caller, before, query.limit);
    let loaded = loading.await?;
    let (file, versions) = loaded.ok_or(Rejection::NotFound)?;
    let (versions, next_page_token) = page(versions, query.limit, |version| version.version);
    json(
        StatusCode::OK,
        &FileDetail {
            file,
            versions,
            next_page_token,
        },
    )
}
