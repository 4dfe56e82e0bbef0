//! `GET /files/{fileId}/content`: the download URL of a version.

use std::time::Duration;

use api::Problem;
use api::http::{Request, Response, json, redirect};
use db::Rejection;
use http::StatusCode;
use model::{DownloadUrl, FileId, Version};
use serde::Deserialize;
use storage::Download;

use crate::App;

/// Lifetime of a download URL. A download that began within it may take longer.
pub const URL_LIFETIME: Duration = Duration::from_mins(5);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    version: Option<Version>,
}

/// The value of `Accept` with which a client asks for JSON with the URL instead of a redirect. Web pages need
/// it: after a cross-origin redirect browsers send `Origin: null` (Fetch Standard, "HTTP-redirect fetch"),
/// which the bucket's CORS rules do not allow. Pages can also pass the URL to the browser's downloader.
const AS_JSON: &str = "application/json";

/// Redirects to the content of a version, by default the current one. If the client accepts only JSON, the
/// answer is JSON with the URL.
pub(crate) async fn locate(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let file_id: FileId = request.path_parameter("fileId")?;
    let Query { version } = request.query()?;
    let as_json = request.header::<String>("accept")?.as_deref() == Some(AS_JSON);
    let finding = app.db.find_content(file_id, &caller, version);
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
