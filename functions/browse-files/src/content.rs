//! `GET /files/{fileId}/content`.

use std::time::Duration;

use api::Problem;
use api::http::{Request, Response, json, redirect};
use aws_sdk_s3::presigning::PresigningConfig;
use db::Rejection;
use http::StatusCode;
use model::{ContentLocation, FileId, UserId, Version};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use crate::App;

/// How long the URL can be used to begin a download.
pub const URL_LIFETIME: Duration = Duration::from_mins(5);

/// How much of a name is told, in bytes: file systems take no longer one, and headers have limits too.
const MAX_NAME_BYTES: usize = 255;

/// What `attr-char` of RFC 8187, section 3.2.1, does not name.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    version: Option<Version>,
}

/// What a page asks for instead of a redirect: after one from API to storage its origin would be `null` (Fetch Standard, "HTTP-redirect
/// fetch"), which storage is told to allow nobody, and it could not hand the browser's own download anything to go on with.
const AS_JSON: &str = "application/json";

/// Redirects to a version's content, the current one's if none is said; or says where it is, to who accepts only JSON.
pub(crate) async fn locate(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let user_id: UserId = request.subject()?;
    let file_id: FileId = request.path_parameter("fileId")?;
    let Query { version } = request.query()?;
    let as_json = request.header::<String>("accept")?.as_deref() == Some(AS_JSON);
    let finding = app.db.find_content(file_id, &user_id, version);
    let content = finding.await?;
    let content = content.ok_or(Rejection::NotFound)?;

    let content_type = content.content_type.map(String::from);
    let lifetime = PresigningConfig::expires_in(URL_LIFETIME).map_err(Problem::internal)?;
    let download = app
        .s3
        .get_object()
        .bucket(&app.bucket)
        .key(content.object_key)
        .response_content_type(content_type.unwrap_or_else(|| "application/octet-stream".to_owned()))
        .response_content_disposition(disposition(content.path.file_name()))
        // Earlier releases completed uploads whose uploader had added these.
        .response_content_encoding("identity")
        .response_cache_control("private, no-store")
        .presigned(lifetime)
        .await
        .map_err(Problem::internal)?;
    if as_json {
        let url = download.uri().to_owned();
        return json(StatusCode::OK, &ContentLocation { url });
    }
    redirect(download.uri())
}

/// `attachment`, so that no browser shows what somebody uploaded as a page, and the file's name: as it is for those who read
/// RFC 6266, in plain ASCII for others.
fn disposition(name: &str) -> String {
    let name = &name[..name.floor_char_boundary(MAX_NAME_BYTES)];
    let plain: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || " ._-()".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    let encoded = utf8_percent_encode(name, ENCODED);
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_breaks_out_of_the_header() {
        for (name, expected) in [
            (
                "a b.pdf",
                r#"attachment; filename="a b.pdf"; filename*=UTF-8''a%20b.pdf"#,
            ),
            (
                "Übung.txt",
                r#"attachment; filename="_bung.txt"; filename*=UTF-8''%C3%9Cbung.txt"#,
            ),
            (
                r#"x"; filename="evil.exe"#,
                r#"attachment; filename="x__ filename__evil.exe"; filename*=UTF-8''x%22%3B%20filename%3D%22evil.exe"#,
            ),
            (
                "a'b*%",
                r#"attachment; filename="a_b__"; filename*=UTF-8''a%27b%2A%25"#,
            ),
        ] {
            assert_eq!(disposition(name), expected);
        }
        let long = disposition(&"ü".repeat(500));
        assert!(
            long.ends_with("%C3%BC") && long.matches("%C3%BC").count() == 127,
            "{long}"
        );
    }
}
