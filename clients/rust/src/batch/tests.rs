use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::{join, join_all};
use model::{CreateUploadRequest, CreatedUpload, Epoch, FileId, UploadId};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use uuid::Uuid;

use super::*;
use crate::Token;

/// A request that a test answers.
struct Asked {
    line: String,
    epoch: Option<String>,
    key: Option<String>,
    body: Value,
    answer: oneshot::Sender<(u16, String)>,
}

impl Asked {
    fn answer(self, status: u16, body: &Value) {
        self.answer.send((status, body.to_string())).unwrap();
    }

    /// The paths of the uploads in the request.
    fn paths(&self) -> Vec<&str> {
        let uploads = self.body["uploads"].as_array();
        let uploads = uploads.map_or_else(|| vec![&self.body], |uploads| uploads.iter().collect());
        uploads
            .iter()
            .map(|upload| upload["path"].as_str().unwrap())
            .collect()
    }

    /// Opens all uploads, except the one at the path `/refused`.
    fn open(self) {
        let result = |path: &str| match path {
            "/refused" => json!({ "status": 409, "problem": problem(409, "path-taken") }),
            path => json!({ "status": 201, "upload": created(path) }),
        };
        let results: Vec<Value> = self.paths().into_iter().map(result).collect();
        if self.line == "POST /uploads" {
            let only = results[0]["upload"].clone();
            return self.answer(201, &only);
        }
        self.answer(200, &json!({ "results": results }));
    }
}

fn problem(status: u16, code: &str) -> Value {
    json!({ "status": status, "code": code, "detail": "It is so.", "requestId": "r" })
}

fn created(path: &str) -> Value {
    json!({
        "uploadId": Uuid::nil(), "spaceId": Uuid::nil(), "path": path, "expiresAt": "2030-01-01T00:00:00Z",
        "put": { "url": "http://127.0.0.1/object", "headers": {} },
    })
}

/// A service. The test answers its requests.
async fn service() -> (Client, mpsc::UnboundedReceiver<Asked>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, asked) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream, sender.clone()));
        }
    });
    let mut client = Client::new(&url, Token::from("token".to_owned()), None).unwrap();
    client.batches = Arc::new(Batches::with_max_wait(Duration::from_hours(1)));
    (client.with_retry_budget(Duration::ZERO), asked)
}

async fn serve(mut stream: TcpStream, asked: mpsc::UnboundedSender<Asked>) {
    let mut raw = Vec::new();
    let (line, headers, body) = loop {
        assert!(stream.read_buf(&mut raw).await.unwrap() > 0);
        let text = String::from_utf8(raw.clone()).unwrap();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let (line, headers) = head.split_once("\r\n").unwrap();
        let headers: BTreeMap<String, String> = headers
            .lines()
            .map(|header| header.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length = headers
            .get("content-length")
            .map_or(0, |length| length.parse().unwrap());
        if body.len() == length {
            break (line.replace(" HTTP/1.1", ""), headers, body.to_owned());
        }
    };
    let (answer, answered) = oneshot::channel();
    let request = Asked {
        line,
        epoch: headers.get("syncsphere-epoch").cloned(),
        key: headers.get("idempotency-key").cloned(),
        body: serde_json::from_str(&body).unwrap_or_default(),
        answer,
    };
    asked.send(request).unwrap();
    // The test ends without an answer if it does not need one.
    let Ok((status, body)) = answered.await else {
        return;
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await.unwrap();
}

fn upload(path: &str) -> CreateUploadRequest {
    let body = json!({ "path": path, "size": 1, "sha256": "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=" });
    serde_json::from_value(body).unwrap()
}

/// Starts a call and returns its request, for which later calls wait.
async fn in_flight(client: &Client, asked: &mut mpsc::UnboundedReceiver<Asked>) -> Asked {
    let client = client.clone();
    tokio::spawn(async move { client.create_upload(&upload("/first"), None).await });
    asked.recv().await.unwrap()
}

/// Starts a call and returns when it waits.
fn call(client: &Client, path: &str) -> tokio::task::JoinHandle<Result<CreatedUpload, Error>> {
    let (client, body) = (client.clone(), upload(path));
    tokio::spawn(async move { client.create_upload(&body, None).await })
}

/// Waits until this number of calls wait for a request.
async fn wait_for(client: &Client, number: usize) {
    while client.batches.create_uploads.state().waiting.len() != number {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn calls_wait_for_the_request_in_flight_and_then_go_together_in_order() {
    let (client, mut asked) = service().await;
    let first = in_flight(&client, &mut asked).await;
    assert_eq!(first.line, "POST /uploads");
    assert_eq!(first.paths(), ["/first"]);
    let mut calls = Vec::new();
    for number in 0..99 {
        calls.push(call(&client, &format!("/{number}")));
        wait_for(&client, number + 1).await;
    }
    assert!(asked.try_recv().is_err());
    // A full request does not wait.
    calls.push(call(&client, "/99"));
    let full = asked.recv().await.unwrap();
    let expected: Vec<String> = (0..100).map(|number| format!("/{number}")).collect();
    assert_eq!(full.line, "POST /uploads/batch");
    assert_eq!(full.paths(), expected);
    for number in 100..150 {
        calls.push(call(&client, &format!("/{number}")));
        wait_for(&client, number - 99).await;
    }
    first.open();
    let rest = asked.recv().await.unwrap();
    let expected: Vec<String> = (100..150).map(|number| format!("/{number}")).collect();
    assert_eq!(rest.paths(), expected);
    rest.open();
    full.open();
    for (number, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap().unwrap().path.as_str(), format!("/{number}"));
    }
}

#[tokio::test]
async fn a_request_without_an_answer_does_not_stop_the_others() {
    let (mut client, mut asked) = service().await;
    client.batches = Arc::new(Batches::with_max_wait(Duration::from_millis(10)));
    let _unanswered = in_flight(&client, &mut asked).await;
    let other = call(&client, "/other");
    let request = asked.recv().await.unwrap();
    assert_eq!(request.paths(), ["/other"]);
    request.open();
    assert!(other.await.unwrap().is_ok());
}

#[tokio::test]
async fn each_call_has_the_error_of_its_own_item() {
    let (client, mut asked) = service().await;
    let first = in_flight(&client, &mut asked).await;
    let calls = ["/a", "/refused", "/b"].map(|path| call(&client, path));
    wait_for(&client, 3).await;
    first.open();
    asked.recv().await.unwrap().open();
    let [a, refused, b] = calls;
    assert!(a.await.unwrap().is_ok() && b.await.unwrap().is_ok());
    match refused.await.unwrap() {
        Err(Error::Refused(problem)) => assert_eq!((problem.status, &*problem.code), (409, "path-taken")),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_failed_request_fails_each_of_its_calls() {
    let (client, mut asked) = service().await;
    let first = in_flight(&client, &mut asked).await;
    let calls = ["/a", "/b"].map(|path| call(&client, path));
    wait_for(&client, 2).await;
    first.open();
    asked
        .recv()
        .await
        .unwrap()
        .answer(410, &problem(410, "feed-reset"));
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::FeedReset(_)), "{error:?}");
    }
    let calls = ["/c", "/d"].map(|path| call(&client, path));
    // A connection that is closed without an answer.
    drop(asked.recv().await.unwrap());
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert!(
            matches!(error, Error::Http(_)) && error.is_retryable(),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn answers_with_too_few_results_are_errors() {
    let (client, mut asked) = service().await;
    let first = in_flight(&client, &mut asked).await;
    let calls = ["/a", "/b"].map(|path| call(&client, path));
    wait_for(&client, 2).await;
    first.open();
    let results = json!({ "results": [{ "status": 201, "upload": created("/a") }] });
    asked.recv().await.unwrap().answer(200, &results);
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Protocol(_)), "{error:?}");
    }
}

#[tokio::test]
async fn an_item_is_retried_after_the_time_that_its_problem_names() {
    let (client, mut asked) = service().await;
    let first = in_flight(&client, &mut asked).await;
    let client = client.with_retry_budget(Duration::from_mins(1));
    let calls = ["/a", "/busy"].map(|path| call(&client, path));
    wait_for(&client, 2).await;
    first.open();
    let mut busy = problem(429, "quota-exceeded");
    busy["retryAfter"] = json!(1);
    let results = json!({ "results": [
        { "status": 201, "upload": created("/a") }, { "status": 429, "problem": busy },
    ] });
    asked.recv().await.unwrap().answer(200, &results);
    let answered = tokio::time::Instant::now();
    let again = asked.recv().await.unwrap();
    assert!(
        answered.elapsed() >= Duration::from_secs(1),
        "{:?}",
        answered.elapsed()
    );
    assert_eq!(again.paths(), ["/busy"]);
    again.open();
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_dropped_caller_harms_no_other_caller() {
    let (client, mut asked) = service().await;
    let first = in_flight(&client, &mut asked).await;
    // Dropped while it waits: it is not sent.
    let (dropped, kept) = (call(&client, "/dropped"), call(&client, "/kept"));
    let sent_later = call(&client, "/sent");
    wait_for(&client, 3).await;
    dropped.abort();
    assert!(dropped.await.unwrap_err().is_cancelled());
    first.open();
    let batch = asked.recv().await.unwrap();
    assert_eq!(batch.paths(), ["/kept", "/sent"]);
    // Dropped while its request is in flight, and the first of its items.
    kept.abort();
    assert!(kept.await.unwrap_err().is_cancelled());
    batch.open();
    assert_eq!(sent_later.await.unwrap().unwrap().path.as_str(), "/sent");
}

#[test]
fn a_call_is_repeated_if_the_runtime_of_its_sender_ends() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    };
    let (one, other, serving) = (runtime(), runtime(), runtime());
    let (client, mut asked) = serving.block_on(service());
    // The senders run on the first runtime.
    let request = one.block_on(in_flight(&client, &mut asked));
    let waiting = other.spawn({
        let client = client.clone();
        async move { client.create_upload(&upload("/other"), None).await }
    });
    other.block_on(wait_for(&client, 1));
    one.shutdown_background();
    let repeated = other.block_on(asked.recv()).unwrap();
    assert_eq!(repeated.paths(), ["/other"]);
    repeated.open();
    assert!(other.block_on(waiting).unwrap().is_ok());
    drop(request);
}

#[tokio::test]
async fn a_service_without_batches_gets_single_requests_from_then_on() {
    let (client, mut asked) = service().await;
    let first = in_flight(&client, &mut asked).await;
    let calls = ["/a", "/b", "/c"].map(|path| call(&client, path));
    wait_for(&client, 3).await;
    first.open();
    let batch = asked.recv().await.unwrap();
    assert_eq!(batch.line, "POST /uploads/batch");
    // API Gateway's answer if there is no such route.
    batch.answer(404, &json!({ "message": "Not Found" }));
    let clone = client.clone().with_epoch(None);
    let completing = UploadId::from(Uuid::from_u128(1));
    let answering = async {
        let mut lines = Vec::new();
        for _ in 0..5 {
            let request = asked.recv().await.unwrap();
            lines.push(request.line.clone());
            if request.line == "POST /uploads" {
                request.open();
            } else {
                request.answer(409, &problem(409, "upload-incomplete"));
            }
        }
        lines.sort();
        lines
    };
    let last = upload("/d");
    let completed = join(
        clone.complete_upload(completing),
        clone.create_upload(&last, None),
    );
    let (lines, completed) = join(answering, completed).await;
    assert_eq!(completed.0.unwrap_err().status(), Some(409));
    assert!(completed.1.is_ok());
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let single = "POST /uploads".to_owned();
    let complete = format!("POST /uploads/{completing}/complete");
    assert_eq!(
        lines,
        [single.clone(), single.clone(), single.clone(), single, complete]
    );
}

#[tokio::test]
async fn calls_of_different_epochs_go_in_different_requests() {
    let (client, mut asked) = service().await;
    let first = in_flight(&client, &mut asked).await;
    let epochs = [1, 2].map(|number| Epoch::from(Uuid::from_u128(number)));
    let [one, other] = epochs.map(|epoch| client.clone().with_epoch(Some(epoch)));
    let calls = [(&one, "/1a"), (&other, "/2a"), (&one, "/1b"), (&other, "/2b")];
    let calls = calls.map(|(client, path)| call(client, path));
    wait_for(&client, 4).await;
    first.open();
    for (epoch, paths) in [(epochs[0], ["/1a", "/1b"]), (epochs[1], ["/2a", "/2b"])] {
        let batch = asked.recv().await.unwrap();
        assert_eq!(batch.epoch, Some(epoch.to_string()));
        assert_eq!(batch.paths(), paths);
        batch.open();
    }
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn the_key_is_in_the_header_of_a_single_request_and_in_the_body_of_a_batch() {
    let (client, mut asked) = service().await;
    let keyed = |client: &Client, path: &str| {
        let (client, body) = (client.clone(), upload(path));
        tokio::spawn(async move {
            let key = format!("key-of{}", body.path).replace('/', "-").parse().unwrap();
            client.create_upload(&body, Some(&key)).await
        })
    };
    let single = keyed(&client, "/single");
    let first = asked.recv().await.unwrap();
    assert_eq!(first.key.as_deref(), Some("key-of-single"));
    assert!(first.body.get("idempotencyKey").is_none(), "{}", first.body);
    let calls = ["/a", "/b"].map(|path| keyed(&client, path));
    wait_for(&client, 2).await;
    first.open();
    let batch = asked.recv().await.unwrap();
    assert_eq!(batch.key, None);
    let keys: Vec<&Value> = batch.body["uploads"]
        .as_array()
        .unwrap()
        .iter()
        .map(|upload| &upload["idempotencyKey"])
        .collect();
    assert_eq!(keys, ["key-of-a", "key-of-b"]);
    batch.open();
    for call in calls.into_iter().chain([single]) {
        call.await.unwrap().unwrap();
    }
}

/// Many uploads are opened ahead, and the limit may be lower.
#[tokio::test]
async fn uploads_wait_for_others_of_the_client_if_too_many_are_pending() {
    let (client, mut asked) = service().await;
    let limited = || {
        let mut limited = problem(409, "quota-exceeded");
        limited["limit"] = json!("pendingUploads");
        limited
    };
    let url = client.url();
    let serving = tokio::spawn(async move {
        let mut pending = 0;
        while let Some(request) = asked.recv().await {
            let mut open = |path: &str| {
                // Others have no room to make.
                if path == "/refused" || pending == 2 {
                    return json!({ "status": 409, "problem": limited() });
                }
                pending += 1;
                let mut created = created(path);
                created["put"]["url"] = json!(format!("{url}/object"));
                json!({ "status": 201, "upload": created })
            };
            match request.line.as_str() {
                "POST /uploads" => match open(request.paths()[0]) {
                    opened if opened["status"] == 201 => request.answer(201, &opened["upload"].clone()),
                    _ => request.answer(409, &limited()),
                },
                "POST /uploads/batch" => {
                    let results: Vec<Value> = request.paths().into_iter().map(open).collect();
                    request.answer(200, &json!({ "results": results }));
                }
                "PUT /object" => request.answer(200, &json!({})),
                line if line.starts_with("DELETE ") => request.answer(404, &problem(404, "not-found")),
                // The test needs no version.
                _ => {
                    pending -= 1;
                    request.answer(409, &problem(409, "version-conflict"));
                }
            }
        }
    });
    let uploads = (0..20).map(async |number| {
        let path = format!("/{number}").parse().unwrap();
        client.upload(None, path, b"x".as_slice()).await.unwrap_err()
    });
    for error in timeout(Duration::from_mins(1), join_all(uploads)).await.unwrap() {
        let code = match &error {
            Error::Refused(problem) => problem.code.as_str(),
            _ => panic!("{error:?}"),
        };
        assert_eq!(code, "version-conflict");
    }
    let refused = client
        .upload(None, "/refused".parse().unwrap(), b"x".as_slice())
        .await;
    assert!(
        matches!(&refused, Err(Error::Refused(problem)) if problem.limit == "pendingUploads"),
        "{refused:?}"
    );
    serving.abort();
}

/// The service refuses a list with an upload or a file twice.
#[tokio::test]
async fn a_request_has_each_upload_and_each_file_once() {
    let (client, mut asked) = service().await;
    let mut in_flight = Vec::new();
    let id = |number: u128| Uuid::from_u128(number);
    let complete = |number: u128| {
        let client = client.clone();
        tokio::spawn(async move { client.complete_upload(id(number).into()).await })
    };
    let delete = |number: u128| {
        let client = client.clone();
        let file_id = FileId::from(id(number));
        tokio::spawn(async move { client.delete_file(file_id, None, None).await })
    };
    let mut calls = Vec::new();
    calls.push(complete(1));
    in_flight.push(asked.recv().await.unwrap());
    calls.push(delete(1));
    in_flight.push(asked.recv().await.unwrap());
    for number in [3, 4, 3] {
        calls.push(complete(number));
        calls.push(delete(number));
    }
    let waiting = |client: &Client| {
        let batches = &client.batches;
        let uploads = batches.complete_uploads.state().waiting.len();
        (uploads, batches.change_files.state().waiting.len())
    };
    while waiting(&client) != (3, 3) {
        tokio::task::yield_now().await;
    }
    for request in in_flight {
        request.answer(404, &problem(404, "not-found"));
    }
    let (mut lines, mut refused) = (Vec::new(), 0);
    for _ in 0..4 {
        let request = asked.recv().await.unwrap();
        lines.push(request.line.clone());
        let items = ["uploadIds", "changes"].map(|name| request.body[name].as_array().map_or(0, Vec::len));
        let items: usize = items.iter().sum();
        refused += items;
        let result = json!({ "status": 404, "problem": problem(404, "not-found") });
        if items > 0 {
            request.answer(200, &json!({ "results": vec![result; items] }));
        } else {
            request.answer(404, &problem(404, "not-found"));
        }
    }
    lines.sort();
    let expected = [
        format!("DELETE /files/{}", id(3)),
        "POST /files/batch".to_owned(),
        format!("POST /uploads/{}/complete", id(3)),
        "POST /uploads/batch/complete".to_owned(),
    ];
    assert_eq!((lines, refused), (expected.to_vec(), 4));
    let ends = timeout(Duration::from_secs(10), join_all(calls)).await.unwrap();
    for end in ends {
        assert_eq!(end.unwrap().unwrap_err().status(), Some(404));
    }
    // A problem of an item is no sign of an earlier release.
    assert!(!client.batches.is_only_single());
}
