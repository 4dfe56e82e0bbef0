//! Tests of the deployed stack as clients use it: release binaries behind the emulator's API Gateway.

use std::time::Duration;

use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use client::{Client, Error, Frame, Socket};
use futures_util::{SinkExt as _, StreamExt as _};
use model::{Event, Message};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use tests::{
    Contract, Proxy, STACK, dead_letter, emulator, new_user, project_file, raw_http, stack, subject,
};
use tokio::time::timeout;
use tokio_postgres::NoTls;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Error as SocketError};

/// Notification latency that the product promises.
const PROMISED: Duration = Duration::from_secs(20);

async fn device() -> Client {
    let (_, token) = new_user().await;
    Proxy::start().await.device(token)
}

async fn connected(device: &Client) -> Socket {
    Socket::connect(&device.create_ticket().await.unwrap())
        .await
        .unwrap()
}

async fn next(socket: &mut Socket) -> Frame {
    timeout(PROMISED, socket.next())
        .await
        .expect("nothing came")
        .unwrap()
        .expect("closed")
}

/// Result of a `count(*)` query on the stack's database.
async fn count(sql: &str) -> i64 {
    let (client, connection) = tokio_postgres::connect(&stack().database_url, NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn every_other_device_of_the_user_hears_of_an_upload_and_nobody_else() {
    let (user, token) = new_user().await;
    let proxy = Proxy::start().await;
    let (one, other) = (proxy.device(token.clone()), proxy.device(token));
    let mut socket = connected(&other).await;
    let stranger = device().await;
    let mut strangers_socket = connected(&stranger).await;

    let first = one
        .upload(None, "/Docs/ä.txt".parse().unwrap(), b"first".as_slice())
        .await
        .unwrap();
    let Frame::Changes {
        space_id, changes, ..
    } = next(&mut socket).await
    else {
        panic!("no changes")
    };
    assert_eq!((space_id, changes.len()), (first.space_id, 1));
    assert_eq!(
        (changes[0].event_id, changes[0].sequence.get()),
        (first.event_id, 1)
    );
    assert_eq!(changes[0].file().unwrap().sha256, client::sha256(b"first"));
    assert!(changes[0].device_id.is_some());

    let second = one
        .upload(None, "/Docs/ä.txt".parse().unwrap(), b"second".as_slice())
        .await
        .unwrap();
    assert_eq!(
        (second.version.get(), second.sequence.get(), second.file_id),
        (2, 2, first.file_id)
    );
    let Frame::Changes { changes, .. } = next(&mut socket).await else {
        panic!("no changes")
    };
    assert_eq!(changes[0].event_id, second.event_id);

    // The next frame is the response to the ping, so the stranger received no notification.
    strangers_socket.ping().await.unwrap();
    assert!(matches!(next(&mut strangers_socket).await, Frame::Pong), "{user}");
}

/// The messages are sent in one request, so the function receives them in one or two batches.
#[tokio::test]
async fn of_ten_messages_with_a_poisonous_one_nine_are_delivered_once_and_one_is_dead_lettered() {
    let one = device().await;
    let mut socket = connected(&one).await;
    let content = b"first".as_slice();
    one.upload(None, "/a".parse().unwrap(), content).await.unwrap();
    let Frame::Changes { changes, .. } = next(&mut socket).await else {
        panic!("no changes")
    };
    let poison = format!("poison of {}", changes[0].event_id);
    let sqs = aws_sdk_sqs::Client::new(&tests::aws());
    let mut request = sqs.send_message_batch().queue_url(&stack().outputs.queue_url);
    for i in 1..=10_i64 {
        let event = Event {
            sequence: (1 + i).try_into().unwrap(),
            event_id: platform::ids::new_id().into(),
            ..changes[0].clone()
        };
        let body = if i == 5 {
            poison.clone()
        } else {
            Message::from(event).encode().unwrap()
        };
        let entry = SendMessageBatchRequestEntry::builder()
            .id(i.to_string())
            .message_body(body);
        request = request.entries(entry.build().unwrap());
    }
    request.send().await.unwrap();

    let mut heard = Vec::new();
    while heard.len() < 9 {
        let Frame::Changes { changes, .. } = next(&mut socket).await else {
            panic!("no changes")
        };
        heard.extend(changes.iter().map(|change| change.sequence.get()));
    }
    heard.sort_unstable();
    assert_eq!(heard, [2, 3, 4, 5, 7, 8, 9, 10, 11]);
    // One receive is enough to decide that no retry can succeed.
    let letter = dead_letter(&sqs, &poison).await;
    assert_eq!(letter.body(), Some(poison.as_str()));
    let metric = |line: &Value| line["MessagesDeadLettered"].as_f64() == Some(1.0);
    while !log_lines("FanOutLogs").await.iter().any(metric) {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // The next frame is the response to the ping, so no notification was duplicated.
    socket.ping().await.unwrap();
    assert!(matches!(next(&mut socket).await, Frame::Pong));
}

/// The function logs a line for each event of a connection.
#[tokio::test]
async fn messages_of_clients_invoke_no_function() {
    let (_, token) = new_user().await;
    let user_id = subject(&token);
    let ticket = Proxy::start().await.device(token).create_ticket().await.unwrap();
    let request = ticket.url.as_str().into_client_request().unwrap();
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    let mut answers = Vec::new();
    for (text, is_answered) in [
        (r#"{"action":"heartbeat"}"#, false),
        (r#"{"action":"ping"}"#, true),
        (r#"{"action":"heartbeat"}"#, false),
        (r#"{"action":"unknown"}"#, true),
        ("no JSON", true),
        // This one invokes the function, which does not answer it.
        (r#"{"action":"$disconnect"}"#, false),
        (r#"{"action":"ping"}"#, true),
    ] {
        socket.send(tungstenite::Message::text(text)).await.unwrap();
        if is_answered {
            let answer = timeout(PROMISED, socket.next()).await.expect("no answer");
            let answer = answer.unwrap().unwrap().into_text().unwrap();
            let answer: Value = serde_json::from_str(&answer).unwrap();
            Contract::get().check_frame(&answer);
            answers.push(answer["type"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(answers, ["pong", "error", "error", "pong"]);

    let connected = format!(" of user {user_id}");
    let message = |line: &Value| line["fields"]["message"].as_str().unwrap_or_default().to_owned();
    let reading = async {
        loop {
            let lines: Vec<String> = log_lines("ConnectionsLogs").await.iter().map(message).collect();
            let connection = lines.iter().find_map(|line| {
                let connection = line.strip_prefix("connected ")?;
                connection.strip_suffix(&connected)
            });
            if let Some(connection) = connection
                && lines.contains(&format!("ignored a message of {connection}"))
            {
                let own = lines.iter().filter(|line| line.contains(connection));
                return own.map(|line| line.replace(connection, "c")).collect::<Vec<_>>();
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let lines = timeout(PROMISED, reading).await.expect("nothing is logged");
    let expected = [
        format!("connected c{connected}"),
        "ignored a message of c".to_owned(),
    ];
    assert_eq!(lines, expected);
}

/// Lines of a log group that are JSON.
async fn log_lines(group: &str) -> Vec<Value> {
    let group = format!("/aws/cloudformation/{STACK}/{group}");
    let answer = emulator(reqwest::Method::POST, "logs", "/")
        .header("X-Amz-Target", "Logs_20140328.FilterLogEvents")
        .header("Content-Type", "application/x-amz-json-1.1")
        .body(json!({ "logGroupName": group, "limit": 10_000 }).to_string())
        .send()
        .await
        .unwrap();
    let answer: Value = answer.json().await.unwrap();
    let events = answer["events"].as_array().cloned().unwrap_or_default();
    let lines = events.iter().filter_map(|event| event["message"].as_str());
    lines.filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[tokio::test]
async fn one_change_can_be_followed_through_the_logs_from_its_request_to_its_devices() {
    let (_, token) = new_user().await;
    let user_id = subject(&token);
    let one = Proxy::start().await.device(token);
    let mut socket = connected(&one).await;
    let content = b"first".as_slice();
    let event_id = one
        .upload(None, "/a".parse().unwrap(), content)
        .await
        .unwrap()
        .event_id;
    next(&mut socket).await;
    let event_id = event_id.to_string();
    let line = async |group: &str, of_event: &dyn Fn(&Value) -> bool| {
        let looking = async {
            loop {
                if let Some(line) = log_lines(group).await.into_iter().find(of_event) {
                    return line;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        timeout(PROMISED, looking).await.expect("nothing is logged")
    };
    let commit = line("CompleteUploadLogs", &|line| {
        line["fields"]["event_ids"] == event_id.as_str()
    })
    .await;
    let field = |name: &str| {
        let mut spans = commit["spans"].as_array().unwrap().iter();
        spans
            .find_map(|span| span[name].as_str())
            .unwrap_or_else(|| panic!("no {name}: {commit}"))
    };
    assert_eq!(field("user_id"), user_id);
    assert_eq!(field("route"), "POST /uploads/{uploadId}/complete");
    assert!(!field("request_id").is_empty() && !field("requestId").is_empty());
    let trace = field("xrayTraceId").to_owned();
    let upload_id = field("upload_id").to_owned();
    line("UploadsLogs", &|line| {
        line["fields"]["upload_ids"] == upload_id.as_str()
    })
    .await;

    let told = |line: &Value| {
        line["fields"]["event_ids"]
            .as_str()
            .is_some_and(|ids| ids.contains(&event_id))
    };
    let told = line("FanOutLogs", &told).await;
    assert!(
        told["fields"]["senders_traces"]
            .as_str()
            .unwrap()
            .contains(&trace),
        "{told} {trace}"
    );
}

#[tokio::test]
async fn a_refused_call_is_a_problem_that_the_client_understands() {
    let one = device().await;
    let description = one.describe(None, "/a".parse().unwrap(), b"x".as_slice(), &());
    let created = one
        .create_upload(&description.await.unwrap(), None)
        .await
        .unwrap();
    let Err(Error::Refused(problem)) = one.complete_upload(created.upload_id).await else {
        panic!("not refused")
    };
    assert_eq!(
        (problem.status, problem.code.as_str()),
        (409, "upload-incomplete")
    );
    assert!(!problem.request_id.is_empty());
    let Err(Error::Refused(problem)) = device().await.complete_upload(created.upload_id).await else {
        panic!("not refused")
    };
    assert_eq!((problem.status, problem.code.as_str()), (404, "not-found"));
}

#[tokio::test]
async fn bad_requests_get_problem_responses_of_the_right_status() {
    let (_, token) = new_user().await;
    let url = &Proxy::start().await.url;
    let huge = "x".repeat(600_000);
    let cases: [(&str, &str, &str, u16); 4] = [
        ("POST", "/uploads", "{", 400),
        ("POST", "/uploads", r#"{"path":7}"#, 400),
        ("POST", "/uploads", &huge, 413),
        ("POST", "/uploads/no-id/complete", "{}", 404),
    ];
    for (method, path, body, status) in cases {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let request = raw_http()
            .request(method, format!("{url}{path}"))
            .bearer_auth(token.as_str());
        let response = request.body(body.to_owned()).send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json",
            "{path}"
        );
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["status"], status, "{path}");
    }
}

/// Signs claims with the key of the user pool, which the emulator stores in the run folder.
fn signed(claims: &Value, kid: &Value) -> String {
    let pool = &stack().outputs.user_pool_id;
    let key = project_file(&format!(".local/run/state/cognito-pool-keys/{pool}-id.pem"));
    let PrivateKeyDer::Pkcs8(key) = PrivateKeyDer::from_pem_file(key).unwrap() else {
        panic!("not PKCS #8")
    };
    let key = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap();
    let encoded = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!(
        "{}.{}",
        encoded(&json!({ "alg": "RS256", "kid": kid })),
        encoded(claims)
    );
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        signed.as_bytes(),
        &mut signature,
    )
    .unwrap();
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test]
async fn without_a_valid_token_every_route_is_401() {
    let (_, token) = new_user().await;
    let parts: Vec<&str> = token.as_str().split('.').collect();
    let decoded = |part: &str| -> Value {
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    let (header, claims) = (decoded(parts[0]), decoded(parts[1]));
    let with = |field: &str, value: Value| {
        let mut claims = claims.clone();
        claims[field] = value;
        claims
    };
    let encoded = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let mallory = encoded(&with("sub", json!("mallory")));

    let resigned = signed(&claims, &header["kid"]);
    let expired = signed(&with("exp", json!(1_700_000_000)), &header["kid"]);
    let other_audience = signed(&with("aud", json!("another-client")), &header["kid"]);
    let unsigned = format!("{}.{}.", encoded(&json!({ "alg": "none" })), parts[1]);
    let forged = format!("{}.{mallory}.{}", parts[0], parts[2]);

    let status = async |path: &str, token: Option<&str>| {
        let request = raw_http()
            .post(format!("{}{path}", stack().outputs.http_api_url))
            .body("{}");
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        request.send().await.unwrap().status().as_u16()
    };
    // A token signed by the test is accepted, so the tokens below are refused only because of their claims.
    assert_eq!(status("/tickets", Some(&resigned)).await, 201);
    // API Gateway answers unknown routes by itself, with and without a token.
    for token in [None, Some(resigned.as_str())] {
        assert_eq!(status("/nowhere", token).await, 404);
    }
    let upload_id = platform::ids::new_id();
    for path in ["/tickets", "/uploads", &format!("/uploads/{upload_id}/complete")] {
        assert_eq!(status(path, None).await, 401, "{path} without a token");
        for (kind, token) in [
            ("expired", &expired),
            ("forged", &forged),
            ("unsigned", &unsigned),
            ("another audience's", &other_audience),
            ("nonsensical", &"nonsense".to_owned()),
        ] {
            assert_eq!(status(path, Some(token)).await, 401, "{path} with a {kind} token");
        }
    }
}

async fn handshake(url: &str, origin: Option<&str>) -> Result<(), u16> {
    client::install_crypto_provider();
    let mut request = url.into_client_request().unwrap();
    if let Some(origin) = origin {
        request.headers_mut().insert("Origin", origin.parse().unwrap());
    }
    match tokio_tungstenite::connect_async(request).await {
        Ok(_) => Ok(()),
        Err(SocketError::Http(response)) => Err(response.status().as_u16()),
        Err(tungstenite::Error::ConnectionClosed) => Err(0),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_handshake_needs_an_unused_ticket_and_an_allowed_origin() {
    let device = device().await;
    let ticket = device.create_ticket().await.unwrap();
    assert!(
        handshake(&ticket.url, Some("https://evil.example"))
            .await
            .is_err()
    );
    assert!(handshake(&ticket.url, None).await.is_ok());
    assert!(handshake(&ticket.url, None).await.is_err());
    assert!(handshake(&stack().outputs.web_socket_url, None).await.is_err());
}

#[tokio::test]
async fn closing_the_socket_removes_the_row() {
    let (user, token) = new_user().await;
    let device = Proxy::start().await.device(token.clone());
    let own = format!(
        "SELECT count(*) FROM connections WHERE user_id = '{}'",
        subject(&token)
    );
    let socket = connected(&device).await;
    assert_eq!(count(&own).await, 1, "{user}");
    socket.close().await.unwrap();
    let removed = async {
        while count(&own).await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PROMISED, removed).await.expect("the row is still there");
}

/// Largest content that is sent with one PUT, in bytes; larger content is sent in parts. Default of the
/// template.
const MULTIPART_THRESHOLD_BYTES: usize = 64 * 1024 * 1024;

#[tokio::test]
async fn every_size_is_uploaded_and_comes_back() {
    let device = device().await;
    for size in [0, 1, MULTIPART_THRESHOLD_BYTES, MULTIPART_THRESHOLD_BYTES + 1] {
        let content: Vec<u8> = (0..size).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let path = format!("/{size}").parse().unwrap();
        let changed = device.upload(None, path, content.as_slice()).await.unwrap();
        let downloaded = device
            .download(changed.file_id, Some(changed.version))
            .await
            .unwrap();
        assert!(downloaded.bytes().await.unwrap() == content, "{size} bytes");
    }
}
