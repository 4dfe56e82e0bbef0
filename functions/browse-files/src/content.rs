//! `GET /files/{fileId}/content`.

use std::time::Duration;

use api::Problem;
use api::http::{Request, Response, json, redirect};
use db::Rejection;
use http::StatusCode;
use model::{DownloadUrl, FileId, UserId, Version};
use serde::Deserialize;
use storage::Download;

use crate::App;

/// How long the URL can be used to begin a download.
pub const URL_LIFETIME: Duration = Duration::from_mins(5);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    version: Option<Version>,
}

/// Browsers set `Origin: null` after a cross-origin redirect (Fetch Standard, "HTTP-redirect fetch"), and the bucket's CORS
/// rules do not allow that. Pages therefore ask for JSON with the URL, which they can also pass to the browser's downloader.
const AS_JSON: &str = "application/json";

/// Redirects to the content of a version, by default the current one; answers with its URL if the client accepts only JSON.
pub(crate) async fn locate(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let user_id: UserId = request.subject()?;
    let file_id: FileId = request.path_parameter("fileId")?;
    let Query { version } = request.query()?;
    let as_json = request.header::<String>("accept")?.as_deref() == Some(AS_JSON);
    let finding = app.db.find_content(file_id, &user_id, version);
    let content = finding.await?;
    let content = content.ok_or(Rejection::NotFound)?;

    let download = Download {
        content_type: content.content_type.as_ref(),
        file_name: content.path.file_name(),
    };
    let presigning = app
        .storage
        .presign_get(&content.object_key, download, URL_LIFETIME);
    let url = presigning.await.map_err(Problem::internal)?;
    if as_json {
        return json(StatusCode::OK, &DownloadUrl { url });
    }
    redirect(&url)
}
