//! Guarantees of storage: it refuses content that was not declared.

use model::CreatedUpload;
use tests::raw_http;

const CONTENT: &[u8] = b"hello, world";

/// Sends a PUT with all signed headers except `without`, and returns its status and S3's error code.
async fn put(created: &CreatedUpload, content: &'static [u8], without: Option<&str>) -> (u16, String) {
    let put = created.put().unwrap();
    let request = raw_http().put(&put.url).body(content);
    let headers = put
        .headers
        .iter()
        .filter(|(name, _)| Some(name.as_str()) != without);
    // The client sets the length from the body, not from the signed header.
    let headers = headers.filter(|(name, _)| name.as_str() != "content-length");
    let request = headers.fold(request, |request, (name, value)| request.header(name, value));
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let body = response.text().await.unwrap();
    let code = body
        .split_once("<Code>")
        .and_then(|(_, rest)| rest.split_once("</Code>"));
    (status, code.map(|(code, _)| code.to_owned()).unwrap_or_default())
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn length_checksum_and_no_overwriting_are_signed() {
    let apps = super::apps().await;
    let created = apps.opened("alice", "/a", CONTENT).await;
    let signed: Vec<&str> = created
        .put()
        .unwrap()
        .headers
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        signed,
        ["content-length", "if-none-match", "x-amz-checksum-sha256"]
    );
    let (_, key) = created.put().unwrap().url.split_once("/objects/").unwrap();
    assert!(
        key.starts_with(&created.upload_id.to_string()),
        "the key comes from the upload's id alone"
    );
}

#[tokio::test]
async fn a_body_with_another_checksum_is_refused() {
    let apps = super::apps().await;
    let created = apps.opened("alice", "/a", CONTENT).await;
    assert_eq!(
        put(&created, b"HELLO, WORLD", None).await,
        refused(400, "BadDigest")
    );
    assert_eq!(
        apps.complete("alice", &created).await.problem(),
        (409, "upload-incomplete")
    );
}

#[tokio::test]
async fn a_longer_body_is_refused() {
    let apps = super::apps().await;
    let created = apps.opened("alice", "/a", CONTENT).await;
    assert_eq!(
        put(&created, b"hello, world!", None).await,
        refused(403, "SignatureDoesNotMatch")
    );
    assert_eq!(
        apps.complete("alice", &created).await.problem(),
        (409, "upload-incomplete")
    );
}

#[tokio::test]
async fn a_put_without_a_signed_header_is_refused() {
    let apps = super::apps().await;
    let created = apps.opened("alice", "/a", CONTENT).await;
    for header in ["if-none-match", "x-amz-checksum-sha256"] {
        assert_eq!(
            put(&created, CONTENT, Some(header)).await,
            refused(403, "SignatureDoesNotMatch"),
            "{header}"
        );
    }
    assert_eq!(
        apps.complete("alice", &created).await.problem(),
        (409, "upload-incomplete")
    );
}

#[tokio::test]
async fn a_second_put_is_refused() {
    let apps = super::apps().await;
    let created = apps.opened("alice", "/a", CONTENT).await;
    assert_eq!(put(&created, CONTENT, None).await, (200, String::new()));
    assert_eq!(
        put(&created, CONTENT, None).await,
        refused(412, "PreconditionFailed")
    );
    assert_eq!(apps.complete("alice", &created).await.status, 200);
}

#[tokio::test]
async fn an_empty_file_is_a_file() {
    let apps = super::apps().await;
    assert_eq!(apps.upload("alice", "/empty", b"").await.size.get(), 0);
}

#[tokio::test]
async fn the_content_type_is_kept_and_signed() {
    let apps = super::apps().await;
    let body = serde_json::json!({
        "path": "/a.txt", "size": 12, "sha256": client::sha256(CONTENT), "contentType": "text/plain; charset=utf-8",
    });
    let created: CreatedUpload = apps.open("alice", &body).await.parsed();
    assert_eq!(
        created.put().unwrap().headers["content-type"],
        "text/plain; charset=utf-8"
    );
    assert_eq!(
        put(&created, CONTENT, Some("content-type")).await,
        refused(403, "SignatureDoesNotMatch")
    );
    assert_eq!(put(&created, CONTENT, None).await.0, 200);
}
