//! Uploads in parts: sending, reading, resuming, assembling and freeing them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use axum::body::Body;
use futures_util::future::join_all;
use model::{
    CreatedUpload, FileChanged, MIN_PART_BYTES, PartRequest, PresignedPart, PresignedParts, UploadStatus,
    UploadView,
};
use serde_json::{Value, json};
use tests::{
    Answer, Call, MULTIPART_THRESHOLD_BYTES, TestContext, put_to_storage, raw_http, storage_that_answers,
    upload_body,
};

/// Content of two parts, the second of 5 bytes.
pub(crate) fn content() -> Vec<u8> {
    let size = usize::try_from(MIN_PART_BYTES).unwrap() + 5;
    (0..size).map(|i| u8::try_from(i % 251).unwrap()).collect()
}

/// The bytes of one part, by its number.
pub(crate) fn piece(content: &[u8], part: i64) -> &[u8] {
    let each = usize::try_from(MIN_PART_BYTES).unwrap();
    content
        .chunks(each)
        .nth(usize::try_from(part).unwrap() - 1)
        .unwrap()
}

fn wanted(content: &[u8], parts: &[i64]) -> Value {
    let parts: Vec<PartRequest> = parts
        .iter()
        .map(|part| PartRequest {
            part_number: (*part).try_into().unwrap(),
            sha256: client::sha256(piece(content, *part)),
        })
        .collect();
    json!({ "parts": parts })
}

async fn presign(apps: &TestContext, created: &CreatedUpload, body: Value) -> Answer {
    let call = Call::new("POST /uploads/{uploadId}/parts").path("uploadId", created.upload_id);
    apps.call("alice", call.body(body)).await
}

async fn presigned(
    apps: &TestContext,
    created: &CreatedUpload,
    content: &[u8],
    parts: &[i64],
) -> Vec<PresignedPart> {
    let answer = presign(apps, created, wanted(content, parts)).await;
    answer.parsed::<PresignedParts>().parts
}

pub(crate) async fn send(apps: &TestContext, created: &CreatedUpload, content: &[u8], parts: &[i64]) {
    for part in presigned(apps, created, content, parts).await {
        put_to_storage(&part.put, piece(content, part.part_number.get())).await;
    }
}

fn showing(created: &CreatedUpload) -> Call {
    Call::new("GET /uploads/{uploadId}").path("uploadId", created.upload_id)
}

pub(crate) async fn show(apps: &TestContext, created: &CreatedUpload) -> UploadView {
    apps.call("alice", showing(created)).await.parsed()
}

async fn abort(apps: &TestContext, created: &CreatedUpload) -> Answer {
    let call = Call::new("DELETE /uploads/{uploadId}").path("uploadId", created.upload_id);
    apps.call("alice", call).await
}

fn numbers(view: &UploadView) -> Vec<i64> {
    let parts = view.parts.iter().flatten();
    parts.map(|part| part.part_number.get()).collect()
}

#[tokio::test]
async fn content_in_parts_is_assembled_as_it_was() {
    let apps = super::apps().await;
    let content = content();
    let created = apps.opened("alice", "/big", &content).await;
    assert!(created.put().is_none());
    assert_eq!(created.expires_at, tests::START + uploads::MULTIPART_LIFETIME);
    send(&apps, &created, &content, &[1, 2]).await;
    let changed: FileChanged = apps.complete("alice", &created).await.parsed();
    assert_eq!(changed.sha256, client::sha256(&content));
    let parts = [1, 2].map(|part| client::sha256(piece(&content, part)));
    let composite = model::Composite {
        part_size: MIN_PART_BYTES.try_into().unwrap(),
        sha256: client::sha256(&parts.map(|part| *part.as_bytes()).concat()),
    };
    let call = Call::new("GET /files/{fileId}").path("fileId", changed.file_id);
    let detail: model::FileDetail = apps.call("alice", call).await.parsed();
    assert_eq!(detail.file.composite, Some(composite));
    assert_eq!(detail.versions[0].composite, Some(composite));
    let list: model::FileList = apps.call("alice", Call::new("GET /files")).await.parsed();
    assert_eq!(list.files[0].composite, Some(composite));

    let call = Call::new("GET /files/{fileId}/content").path("fileId", changed.file_id);
    let url = apps.call("alice", call).await.location.unwrap();
    let stored = raw_http().get(url).send().await.unwrap().bytes().await.unwrap();
    let mut verification = client::Verification::of(&(&detail.file).into());
    verification.update(&stored);
    verification.finish().unwrap();
    assert!(stored == content, "{} bytes", stored.len());
    assert_eq!(apps.queue.events().await.len(), 1);
}

#[tokio::test]
async fn an_upload_that_was_interrupted_shows_what_is_there_and_goes_on() {
    let apps = super::apps().await;
    let content = content();
    let created = apps.opened("alice", "/big", &content).await;
    assert_eq!(numbers(&show(&apps, &created).await), Vec::<i64>::new());
    send(&apps, &created, &content, &[2]).await;

    let view = show(&apps, &created).await;
    assert_eq!((view.state, view.stored), (UploadStatus::Pending, false));
    assert_eq!(numbers(&view), [2]);
    let part = view.parts.unwrap()[0];
    assert_eq!(
        (part.size.get(), part.sha256),
        (5, client::sha256(piece(&content, 2)))
    );
    let incomplete = apps.complete("alice", &created).await;
    assert_eq!(incomplete.problem(), (409, "upload-incomplete"));
    assert!(
        incomplete.body["detail"]
            .as_str()
            .unwrap()
            .contains("no part 1 of 2"),
        "{incomplete:?}"
    );

    send(&apps, &created, &content, &[1]).await;
    assert_eq!(apps.complete("alice", &created).await.status, 200);
    let view = show(&apps, &created).await;
    assert_eq!((view.state, view.stored), (UploadStatus::Completed, true));
    assert!(view.transfer.is_none() && view.parts.is_none());
}

#[tokio::test]
async fn a_completion_that_died_after_assembling_is_completed_by_the_next() {
    let apps = super::apps().await;
    let content = content();
    let created = apps.opened("alice", "/big", &content).await;
    send(&apps, &created, &content, &[1, 2]).await;
    // Simulates a crash at this point: the object is assembled, and the commit fails.
    apps.database
        .execute("ALTER TABLE outbox RENAME TO unreachable")
        .await;
    assert_eq!(
        apps.complete("alice", &created).await.problem(),
        (503, "unavailable")
    );
    apps.database
        .execute("ALTER TABLE unreachable RENAME TO outbox")
        .await;

    let view = show(&apps, &created).await;
    assert_eq!((view.state, view.stored), (UploadStatus::Pending, true));
    assert!(view.parts.is_none());
    let first = apps.complete("alice", &created).await;
    assert_eq!(first.status, 200);
    assert_eq!(apps.complete("alice", &created).await, first);
    assert_eq!(apps.queue.events().await.len(), 1);
}

#[tokio::test]
async fn completing_eight_times_at_once_assembles_once() {
    let apps = super::apps().await;
    let content = content();
    let created = apps.opened("alice", "/big", &content).await;
    send(&apps, &created, &content, &[1, 2]).await;
    let answers = join_all((0..8).map(|_| apps.complete("alice", &created))).await;
    for answer in &answers {
        assert_eq!((answer.status, answer), (200, &answers[0]));
    }
    assert_eq!(apps.queue.events().await.len(), 1);
}

#[tokio::test]
async fn aborting_frees_the_parts_for_good() {
    let apps = super::apps().await;
    let content = content();
    let created = apps.opened("alice", "/big", &content).await;
    let parts = presigned(&apps, &created, &content, &[1, 2]).await;
    put_to_storage(&parts[0].put, piece(&content, 1)).await;
    assert_eq!(abort(&apps, &created).await.status, 204);
    assert_eq!(abort(&apps, &created).await.status, 204);

    let put = &parts[1].put;
    let request = raw_http().put(&put.url).body(piece(&content, 2).to_vec());
    let request = put
        .headers
        .iter()
        .fold(request, |request, (name, value)| request.header(name, value));
    assert_eq!(request.send().await.unwrap().status(), 404);
    assert_eq!(show(&apps, &created).await.state, UploadStatus::Aborted);
    assert_eq!(
        apps.complete("alice", &created).await.problem(),
        (410, "upload-expired")
    );
    assert_eq!(
        presign(&apps, &created, wanted(&content, &[1])).await.problem(),
        (410, "upload-expired")
    );
}

#[tokio::test]
async fn what_is_complete_cannot_be_aborted_nor_sent_again() {
    let apps = super::apps().await;
    let content = content();
    let created = apps.opened("alice", "/big", &content).await;
    send(&apps, &created, &content, &[1, 2]).await;
    let before = apps.complete("alice", &created).await;
    assert_eq!(abort(&apps, &created).await.problem(), (409, "upload-completed"));
    assert_eq!(
        presign(&apps, &created, wanted(&content, &[1])).await.problem(),
        (409, "upload-completed")
    );
    assert_eq!(apps.complete("alice", &created).await, before);
}

#[tokio::test]
async fn aborting_and_completing_at_once_has_one_winner() {
    let apps = super::apps().await;
    for _ in 0..8 {
        let created = apps.put("alice", "/small", b"x").await;
        let (completed, aborted) = tokio::join!(apps.complete("alice", &created), abort(&apps, &created));
        let state = show(&apps, &created).await.state;
        match (completed.status, aborted.status) {
            (200, 409) => assert_eq!(state, UploadStatus::Completed),
            (410, 204) => assert_eq!(state, UploadStatus::Aborted),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_part_takes_exactly_its_bytes() {
    let apps = super::apps().await;
    let content = content();
    let created = apps.opened("alice", "/big", &content).await;
    let parts = presigned(&apps, &created, &content, &[2]).await;
    let put = &parts[0].put;
    for (body, without, status) in [
        (b"other".as_slice(), None, 400),
        (b"longer than five", None, 403),
        (piece(&content, 2), Some("x-amz-checksum-sha256"), 403),
        (piece(&content, 2), None, 200),
    ] {
        let headers = put
            .headers
            .iter()
            .filter(|(name, _)| Some(name.as_str()) != without && name.as_str() != "content-length");
        let request = raw_http().put(&put.url).body(body.to_vec());
        let request = headers.fold(request, |request, (name, value)| request.header(name, value));
        assert_eq!(request.send().await.unwrap().status(), status, "{without:?}");
    }
}

#[tokio::test]
async fn a_page_of_parts_has_1_to_100_of_those_that_there_are() {
    let apps = super::apps().await;
    let content = content();
    let created = apps.opened("alice", "/big", &content).await;
    let sha256 = client::sha256(b"x");
    let part = |number: i64| json!({ "partNumber": number, "sha256": sha256 });
    for (parts, detail) in [
        (json!([]), "parts: from 1 to 100 at once"),
        ((1..=101).map(part).collect(), "parts: from 1 to 100 at once"),
        (
            (1..=100).map(part).collect(),
            "parts: there is no part 3, the last one is 2",
        ),
        (json!([part(1), part(1)]), "parts: each partNumber once"),
        (json!([part(3)]), "parts: there is no part 3, the last one is 2"),
        (
            json!([part(0)]),
            "parts[0].partNumber: must be a whole number from 1 to 10000",
        ),
        (
            json!([{ "partNumber": 1, "sha256": "x" }]),
            "parts[0].sha256: a sha256 is 32 bytes in base64 (44 characters with padding)",
        ),
    ] {
        let answer = presign(&apps, &created, json!({ "parts": parts })).await;
        assert_eq!(answer.problem(), (400, "invalid-request"), "{detail}");
        assert_eq!(answer.body["detail"], detail);
    }
    let whole = apps.opened("alice", "/small", b"x").await;
    let answer = presign(&apps, &whole, json!({ "parts": [part(1)] })).await;
    assert_eq!(answer.problem(), (409, "not-multipart"));
}

#[tokio::test]
async fn an_upload_in_one_request_can_be_taken_up_again_too() {
    let apps = super::apps().await;
    let created = apps.opened("alice", "/small", b"x").await;
    let view = show(&apps, &created).await;
    assert!(!view.stored);
    let Some(model::Transfer::Put(put)) = view.transfer else {
        panic!("{view:?}")
    };
    put_to_storage(&put, b"x").await;
    assert!(show(&apps, &created).await.stored);
    assert_eq!(apps.complete("alice", &created).await.status, 200);
}

#[tokio::test]
async fn uploads_are_their_openers_own() {
    let apps = super::apps().await;
    let created = apps.opened("alice", "/big", &content()).await;
    let id = created.upload_id;
    for call in [
        Call::new("GET /uploads/{uploadId}").path("uploadId", id),
        Call::new("DELETE /uploads/{uploadId}").path("uploadId", id),
        Call::new("POST /uploads/{uploadId}/parts")
            .path("uploadId", id)
            .body(wanted(&content(), &[1])),
    ] {
        assert_eq!(apps.call("mallory", call).await.problem(), (404, "not-found"));
    }
    assert_eq!(show(&apps, &created).await.state, UploadStatus::Pending);
}

#[tokio::test]
async fn the_same_key_and_body_is_the_same_upload() {
    let apps = super::apps().await;
    let content = content();
    for (path, content) in [("/small", b"x".as_slice()), ("/big", &content)] {
        let open = |key: &'static str, body: Value| {
            apps.call(
                "alice",
                Call::new("POST /uploads")
                    .header("idempotency-key", key)
                    .body(body),
            )
        };
        let body = upload_body(path, content);
        let key = if path == "/big" { "big" } else { "small" };
        let first: CreatedUpload = open(key, body.clone()).await.parsed();
        apps.clock.advance(time::Duration::minutes(1));
        let again: CreatedUpload = open(key, body.clone()).await.parsed();
        assert_eq!(
            (first.upload_id, first.expires_at),
            (again.upload_id, again.expires_at)
        );

        let mut other = body.clone();
        other["deviceId"] = json!(platform::ids::new_id());
        assert_eq!(open(key, other).await.problem(), (422, "idempotency-key-reused"));
        // The same key of another user is a different key.
        let call = Call::new("POST /uploads")
            .header("idempotency-key", key)
            .body(body.clone());
        assert_ne!(
            apps.call("bob", call).await.parsed::<CreatedUpload>().upload_id,
            first.upload_id
        );

        apps.clock.advance(uploads::MULTIPART_LIFETIME);
        assert_eq!(open(key, body).await.problem(), (410, "upload-expired"));
    }
    let bad = Call::new("POST /uploads").header("idempotency-key", "x".repeat(256));
    assert_eq!(
        apps.call("alice", bad.body(upload_body("/a", b"x"))).await.status,
        400
    );
}

#[tokio::test]
async fn sixteen_requests_with_one_key_at_once_open_one_upload() {
    let apps = super::apps().await;
    let body = upload_body("/big", &content());
    let opening = (0..16).map(|_| {
        apps.call(
            "alice",
            Call::new("POST /uploads")
                .header("idempotency-key", "one")
                .body(body.clone()),
        )
    });
    let opened: Vec<CreatedUpload> = join_all(opening).await.iter().map(Answer::parsed).collect();
    assert!(
        opened
            .iter()
            .all(|created| created.upload_id == opened[0].upload_id)
    );
    assert_eq!(apps.database.number("SELECT count(*) FROM uploads").await, 1);
    // Storage has only the multipart upload that is recorded in the database.
    let storage = &apps.storage;
    let listing = storage.s3.list_multipart_uploads().bucket(&storage.bucket);
    let listed = listing
        .prefix(opened[0].upload_id.object_key())
        .send()
        .await
        .unwrap();
    assert_eq!(listed.uploads().len(), 1);
    send(&apps, &opened[0], &content(), &[1, 2]).await;
    assert_eq!(apps.complete("alice", &opened[0]).await.status, 200);
}

#[tokio::test]
async fn a_retry_after_a_crash_before_storage_was_told_begins_the_parts() {
    let apps = super::apps().await;
    let content = content();
    let call = Call::new("POST /uploads")
        .header("idempotency-key", "one")
        .body(upload_body("/big", &content));
    let created: CreatedUpload = apps.call("alice", call.clone()).await.parsed();
    apps.database
        .execute("UPDATE uploads SET multipart_id = NULL")
        .await;
    let again: CreatedUpload = apps.call("alice", call).await.parsed();
    assert_eq!(again.upload_id, created.upload_id);
    send(&apps, &again, &content, &[1, 2]).await;
    assert_eq!(apps.complete("alice", &again).await.status, 200);
}

/// Records the composite checksum with which S3 is asked to assemble an object.
#[derive(Debug, Clone, Default)]
struct Noting(Arc<Mutex<Vec<Option<String>>>>);

impl Intercept for Noting {
    fn name(&self) -> &'static str {
        "noting"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request();
        if request.method() == "POST" {
            let checksum = request.headers().get("x-amz-checksum-sha256");
            self.0.lock().unwrap().push(checksum.map(str::to_owned));
        }
        Ok(())
    }
}

#[tokio::test]
async fn storage_is_told_which_composite_checksum_to_insist_on() {
    let apps = super::apps().await;
    let content = content();
    let created = apps.opened("alice", "/big", &content).await;
    send(&apps, &created, &content, &[1, 2]).await;
    let (mut app, noting) = (apps.complete_upload(), Noting::default());
    let config = apps.storage.s3.config().to_builder().interceptor(noting.clone());
    app.storage = storage::Storage::new(config, &apps.storage.bucket);
    let id = created.upload_id.to_string();
    assert_eq!(apps.complete_in(&app, "alice", &id).await.status, 200);
    let parts = [1, 2].map(|part| *client::sha256(piece(&content, part)).as_bytes());
    let composite = client::sha256(&parts.concat());
    assert_eq!(*noting.0.lock().unwrap(), [Some(format!("{composite}-2"))]);
}

/// Storage on which the upload is aborted and its parts are deleted during the check for the object.
#[tokio::test]
async fn an_upload_that_is_aborted_while_it_is_completed_is_gone() {
    let apps = super::apps().await;
    let created = apps.opened("alice", "/big", &content()).await;
    let abort = format!(
        "UPDATE uploads SET state = 'aborted' WHERE id = '{}'",
        created.upload_id
    );
    let database = Arc::new(apps.database.another_client().await);
    let answer = move |request: axum::extract::Request| {
        let (database, abort) = (database.clone(), abort.clone());
        async move {
            if request.method() == "HEAD" {
                database.batch_execute(&abort).await.unwrap();
                return (axum::http::StatusCode::NOT_FOUND, String::new());
            }
            let body = "<Error><Code>NoSuchUpload</Code><Message>gone</Message></Error>";
            (axum::http::StatusCode::NOT_FOUND, body.to_owned())
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = axum::serve(listener, axum::Router::new().fallback(answer));
    tokio::spawn(async move { server.await.unwrap() });
    let mut app = apps.complete_upload();
    let config = apps.storage.s3.config().to_builder().endpoint_url(endpoint);
    app.storage = storage::Storage::new(config, &apps.storage.bucket);
    let id = created.upload_id.to_string();
    let refused = apps.complete_in(&app, "alice", &id).await;
    assert_eq!(refused.problem(), (410, "upload-expired"));
}

#[tokio::test]
async fn content_of_the_threshold_is_put_in_one_request_and_a_byte_more_in_parts() {
    let apps = super::apps().await;
    let threshold = usize::try_from(MULTIPART_THRESHOLD_BYTES).unwrap();
    let created = apps.opened("alice", "/whole", &vec![1; threshold]).await;
    assert!(created.put().is_some());
    let created = apps.opened("alice", "/in-parts", &vec![1; threshold + 1]).await;
    assert!(created.put().is_none());
}

/// An upload of which storage has neither parts nor an object.
#[tokio::test]
async fn parts_that_are_gone_without_an_object_are_not_shown_as_stored() {
    let apps = super::apps().await;
    let created = apps.opened("alice", "/big", &content()).await;
    let mut app = apps.uploads();
    app.storage = storage_that_answers(&apps.storage, |method, _| match method {
        "GET" => (404, "NoSuchUpload"),
        _ => (404, ""),
    })
    .await;
    let view: UploadView = apps.call_in(&app, "alice", showing(&created)).await.parsed();
    assert_eq!((view.state, view.stored), (UploadStatus::Pending, false));
    assert!(view.parts.is_none());
    // The object exists because another call has assembled the parts.
    app.storage = storage_that_answers(&apps.storage, |method, _| match method {
        "GET" => (404, "NoSuchUpload"),
        _ => (200, ""),
    })
    .await;
    assert!(
        apps.call_in(&app, "alice", showing(&created))
            .await
            .parsed::<UploadView>()
            .stored
    );
}

#[tokio::test]
async fn storage_that_refuses_to_say_what_is_there_is_503() {
    let apps = super::apps().await;
    let mut app = apps.uploads();
    let in_parts = apps.opened("alice", "/big", &content()).await;
    app.storage = storage_that_answers(&apps.storage, |method, _| match method {
        "GET" => (403, "AccessDenied"),
        _ => (404, ""),
    })
    .await;
    let answer = apps.call_in(&app, "alice", showing(&in_parts)).await;
    assert_eq!(answer.problem(), (503, "unavailable"));
    let whole = apps.opened("alice", "/small", b"x").await;
    app.storage = storage_that_answers(&apps.storage, |_, _| (403, "AccessDenied")).await;
    let answer = apps.call_in(&app, "alice", showing(&whole)).await;
    assert_eq!(answer.problem(), (503, "unavailable"));
}

#[tokio::test]
async fn an_abort_whose_parts_cannot_be_freed_is_503_and_can_be_repeated() {
    let apps = super::apps().await;
    let created = apps.opened("alice", "/big", &content()).await;
    let mut app = apps.uploads();
    app.storage = storage_that_answers(&apps.storage, |_, _| (403, "AccessDenied")).await;
    let call = Call::new("DELETE /uploads/{uploadId}").path("uploadId", created.upload_id);
    let answer = apps.call_in(&app, "alice", call).await;
    assert_eq!(answer.problem(), (503, "unavailable"));
    assert_eq!(abort(&apps, &created).await.status, 204);
}

/// Storage with all parts of an upload. The object exists once assembling was requested; `status` is the
/// response to that request.
async fn storage_that_assembles(
    apps: &TestContext,
    created: &CreatedUpload,
    content: &[u8],
    status: u16,
) -> complete_upload::App {
    let pieces: Vec<&[u8]> = [1, 2].map(|part| piece(content, part)).into();
    let digests: Vec<_> = pieces.iter().map(|piece| client::sha256(piece)).collect();
    let parts = (1..).zip(&pieces).zip(&digests).map(|((number, piece), sha256)| {
        let size = piece.len();
        format!(
            "<Part><PartNumber>{number}</PartNumber><ETag>e</ETag><Size>{size}</Size><ChecksumSHA256>{sha256}</ChecksumSHA256></Part>"
        )
    });
    let listing = format!("<ListPartsResult>{}</ListPartsResult>", parts.collect::<String>());
    let joined: Vec<u8> = digests.iter().flat_map(|sha256| *sha256.as_bytes()).collect();
    let composite = format!("{}-2", client::sha256(&joined));
    let size = content.len();
    let (key, told) = (created.upload_id.object_key(), Arc::new(AtomicBool::new(false)));
    let answer = move |request: axum::extract::Request| {
        assert!(request.uri().path().ends_with(&key));
        let response = axum::http::Response::builder();
        let response = match request.method().as_str() {
            "GET" => response.body(Body::from(listing.clone())),
            "HEAD" if told.load(Ordering::Relaxed) => response
                .header("content-length", size)
                .header("x-amz-checksum-sha256", &composite)
                .body(Body::empty()),
            "HEAD" => response.status(404).body(Body::empty()),
            _ => {
                told.store(true, Ordering::Relaxed);
                response
                    .status(status)
                    .body(Body::from("<Error><Code>No</Code></Error>"))
            }
        };
        std::future::ready(response.unwrap())
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = axum::serve(listener, axum::Router::new().fallback(answer));
    tokio::spawn(async move { server.await.unwrap() });
    let mut app = apps.complete_upload();
    let config = apps.storage.s3.config().to_builder().endpoint_url(endpoint);
    app.storage = storage::Storage::new(config, &apps.storage.bucket);
    app
}

/// Storage refuses to assemble the parts because another call has already done it.
#[tokio::test]
async fn parts_that_another_call_assembled_first_are_complete() {
    let apps = super::apps().await;
    let content = content();
    let created = apps.opened("alice", "/big", &content).await;
    let app = storage_that_assembles(&apps, &created, &content, 412).await;
    let id = created.upload_id.to_string();
    assert_eq!(apps.complete_in(&app, "alice", &id).await.status, 200);
}

/// Storage may still be assembling the parts, so the failure is not final.
#[tokio::test]
async fn storage_that_fails_to_assemble_is_503_and_the_next_call_completes() {
    let apps = super::apps().await;
    let content = content();
    let created = apps.opened("alice", "/big", &content).await;
    let app = storage_that_assembles(&apps, &created, &content, 500).await;
    let id = created.upload_id.to_string();
    let failed = apps.complete_in(&app, "alice", &id).await;
    assert_eq!(failed.problem(), (503, "unavailable"));
    assert_eq!(apps.complete_in(&app, "alice", &id).await.status, 200);
}

#[tokio::test]
async fn storage_that_refuses_to_list_parts_is_503_and_not_incomplete() {
    let apps = super::apps().await;
    let created = apps.opened("alice", "/big", &content()).await;
    let mut app = apps.complete_upload();
    app.storage = storage_that_answers(&apps.storage, |method, _| match method {
        "HEAD" => (404, ""),
        _ => (403, "AccessDenied"),
    })
    .await;
    let id = created.upload_id.to_string();
    let answer = apps.complete_in(&app, "alice", &id).await;
    assert_eq!(answer.problem(), (503, "unavailable"));
}
