//! `GET /files` and `GET /files/{fileId}`.

use api::Problem;
use api::http::{Request, Response, json};
use db::Rejection;
use http::StatusCode;
use model::{
    FileDetail, FileId, FileList, PageLimit, PageQuery, PageToken, PathPrefix, SpaceId, SpacePath, Version,
    page,
};
use serde::Deserialize;

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
struct Which {
    #[serde(default)]
    deleted: bool,
}

/// Lists the files of a space, ordered by path, or those in its trash.
pub(crate) async fn list(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    if request.query::<Which>()?.deleted {
        return trash::list(app, request).await;
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
