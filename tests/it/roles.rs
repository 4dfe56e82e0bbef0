//! Actions of each function under its IAM role, on the deployed stack, where roles are enforced. `cargo xtask
//! policies` removes the statements of the roles' policies one at a time and checks that the corresponding
//! test fails.

use std::time::Duration;

use aws_sdk_s3::operation::head_object::HeadObjectError;
use client::{Client, Error, Frame, Socket, Token};
use model::{EventId, FileChanged, Message, UploadId};
use serde_json::{Value, json};
use tests::{Call, Proxy, dead_letter, invoke, new_user, sample, stack};
use tokio::time::timeout;
use tokio_postgres::NoTls;
use tokio_postgres::types::ToSql;

/// Timeout for every operation in this file.
const LIMIT: Duration = Duration::from_secs(20);

struct User {
    proxy: Proxy,
    token: Token,
    device: Client,
}

impl User {
    async fn new() -> Self {
        let proxy = Proxy::start().await;
        let (_, token) = new_user().await;
        let device = proxy.device(token.clone());
        Self { proxy, token, device }
    }

    async fn upload(&self) -> FileChanged {
        let content = b"content".as_slice();
        let uploading = self.device.upload(None, "/a".parse().unwrap(), content);
        uploading.await.unwrap()
    }

    /// Opens an upload without sending its content.
    async fn open(&self) -> UploadId {
        let content = b"content".as_slice();
        let describing = self.device.describe(None, "/a".parse().unwrap(), content, &());
        let description = describing.await.unwrap();
        let opening = self.device.create_upload(&description, None);
        opening.await.unwrap().upload_id
    }

    async fn call(&self, call: &Call) -> Value {
        let answer = self.proxy.call(Some(&self.token), call).await;
        assert!((200..300).contains(&answer.status), "{answer:?}");
        answer.body
    }

    async fn listen(&self) -> Socket {
        let ticket = self.device.create_ticket().await.unwrap();
        Socket::connect(&ticket).await.unwrap()
    }
}

/// Rows that a statement returns from the stack's database.
async fn database(sql: &str, parameter: &(dyn ToSql + Sync)) -> Vec<tokio_postgres::Row> {
    let (client, connection) = tokio_postgres::connect(&stack().database_url, NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client.query(sql, &[parameter]).await.unwrap()
}

/// Whether an event is still in the outbox. The function that made the change deletes it after sending the
/// event and before responding.
async fn waits(event_id: EventId) -> bool {
    let waiting = "SELECT FROM outbox WHERE event_id = $1";
    !database(waiting, &uuid::Uuid::from(event_id)).await.is_empty()
}

/// Event id in the response to a change.
fn event_id(answer: &Value) -> EventId {
    serde_json::from_value(answer["eventId"].clone()).unwrap()
}

async fn hears_of(socket: &mut Socket, event_id: EventId) {
    let hearing = async {
        while let Some(frame) = socket.next().await.unwrap() {
            if let Frame::Changes { changes, .. } = frame
                && changes.iter().any(|change| change.event_id == event_id)
            {
                return;
            }
        }
        panic!("closed")
    };
    timeout(LIMIT, hearing).await.expect("nothing came");
}

/// Runs `maintenance` once, in addition to its schedule.
async fn repair() {
    invoke("Maintenance", &sample("maintenance.schedule")).await;
}

#[tokio::test]
async fn uploads_signs_what_storage_takes_and_complete_upload_verifies_it() {
    User::new().await.upload().await;
}

#[tokio::test]
async fn uploads_sees_that_nothing_has_come_yet() {
    let user = User::new().await;
    let upload_id = user.open().await;
    let shown = user.device.show_upload(upload_id).await.unwrap();
    assert_eq!(json!(shown)["stored"], json!(false));
}

#[tokio::test]
async fn complete_upload_sees_that_nothing_has_come_yet() {
    let user = User::new().await;
    let upload_id = user.open().await;
    let Err(Error::Refused(problem)) = user.device.complete_upload(upload_id).await else {
        panic!("not refused")
    };
    assert_eq!(problem.code, "upload-incomplete");
}

#[tokio::test]
async fn complete_upload_publishes() {
    let user = User::new().await;
    assert!(!waits(user.upload().await.event_id).await);
}

#[tokio::test]
async fn files_signs_what_storage_gives() {
    let user = User::new().await;
    let file_id = user.upload().await.file_id;
    let content = user.device.download(file_id, None).await.unwrap();
    assert_eq!(content.bytes().await.unwrap().as_ref(), b"content");
}

#[tokio::test]
async fn files_publishes() {
    let user = User::new().await;
    let file_id = user.upload().await.file_id;
    let call = Call::new("DELETE /files/{fileId}").path("fileId", file_id);
    assert!(!waits(event_id(&user.call(&call).await)).await);
}

#[tokio::test]
async fn spaces_publishes() {
    let user = User::new().await;
    let call = Call::new("POST /spaces").body(json!({ "name": "Shared" }));
    let space_id = user.call(&call).await["spaceId"].clone();
    let space_id: uuid::Uuid = serde_json::from_value(space_id).unwrap();
    let waiting = "SELECT FROM outbox JOIN changes USING (event_id) WHERE subject_space_id = $1";
    assert!(database(waiting, &space_id).await.is_empty());
}

/// Accepting makes two changes, whose events are sent together.
#[tokio::test]
async fn account_publishes() {
    let (owner, guest) = (User::new().await, User::new().await);
    let profile = guest.device.profile().await.unwrap();
    guest.device.all_spaces().await.unwrap();
    let name = "Shared".parse().unwrap();
    let key = platform::ids::new_id().to_string().parse().unwrap();
    let space_id = owner.device.create_space(name, &key).await.unwrap().space_id;
    let invited = client::Invited::User(profile.user_id);
    let inviting = owner.device.invite(space_id, invited, model::Role::Viewer);
    let invitation = inviting.await.unwrap();
    let accepting = guest.device.accept_invitation(invitation.invitation_id);
    accepting.await.unwrap();
    let waiting =
        "SELECT FROM outbox JOIN changes USING (event_id) WHERE subject_space_id = $1 OR space_id = $1";
    assert!(database(waiting, &uuid::Uuid::from(space_id)).await.is_empty());
}

#[tokio::test]
async fn fan_out_consumes_and_posts() {
    let user = User::new().await;
    let mut socket = user.listen().await;
    let event_id = user.upload().await.event_id;
    hears_of(&mut socket, event_id).await;
}

#[tokio::test]
async fn fan_out_sets_aside_what_cannot_be_read() {
    let sqs = aws_sdk_sqs::Client::new(&tests::aws());
    let poison = format!("poison {}", platform::ids::new_id());
    let sending = sqs.send_message().queue_url(&stack().outputs.queue_url);
    sending.message_body(&poison).send().await.unwrap();
    dead_letter(&sqs, &poison).await;
}

#[tokio::test]
async fn maintenance_publishes_what_waits() {
    let user = User::new().await;
    let mut socket = user.listen().await;
    let event_id = user.upload().await.event_id;
    hears_of(&mut socket, event_id).await;
    // Simulates a crash of the function before it could send the event.
    let waiting = "INSERT INTO outbox VALUES ($1, now(), now())";
    database(waiting, &uuid::Uuid::from(event_id)).await;
    repair().await;
    assert!(!waits(event_id).await);
    hears_of(&mut socket, event_id).await;
}

#[tokio::test]
async fn maintenance_puts_events_on_the_bus() {
    let user = User::new().await;
    let event_id = uuid::Uuid::from(user.upload().await.event_id);
    repair().await;
    // A scheduled run may be putting it on the bus at this moment.
    let waiting = "SELECT FROM bus_outbox WHERE event_id = $1 AND leased_until <= now()";
    assert!(database(waiting, &event_id).await.is_empty());
}

#[tokio::test]
async fn maintenance_brings_dead_letters_back() {
    let user = User::new().await;
    let mut socket = user.listen().await;
    user.upload().await;
    let Frame::Changes { changes, .. } = timeout(LIMIT, socket.next()).await.unwrap().unwrap().unwrap()
    else {
        panic!("no changes")
    };
    let mut event = changes[0].clone();
    event.event_id = platform::ids::new_id().into();
    let letter = Message::from(event.clone()).encode().unwrap();
    let sqs = aws_sdk_sqs::Client::new(&tests::aws());
    let sending = sqs
        .send_message()
        .queue_url(&stack().outputs.dead_letter_queue_url);
    sending.message_body(letter).send().await.unwrap();
    repair().await;
    hears_of(&mut socket, event.event_id).await;
}

#[tokio::test]
async fn maintenance_frees_what_was_aborted() {
    let user = User::new().await;
    let content = b"content".as_slice();
    let describing = user.device.describe(None, "/a".parse().unwrap(), content, &());
    let description = describing.await.unwrap();
    let opening = user.device.create_upload(&description, None);
    let opened = opening.await.unwrap();
    user.device.send(&opened, content).await.unwrap();
    user.device.abort_upload(opened.upload_id).await.unwrap();
    // Makes the upload appear to have expired long ago.
    let past = "UPDATE uploads SET expires_at = now() - interval '3 days' WHERE id = $1";
    database(past, &uuid::Uuid::from(opened.upload_id)).await;
    let s3 = aws_sdk_s3::Client::new(&tests::aws());
    let stored = async || {
        let asking = s3.head_object().bucket(&stack().outputs.bucket_name);
        let answer = asking.key(opened.upload_id.object_key()).send().await;
        !matches!(answer, Err(error) if error.as_service_error().is_some_and(HeadObjectError::is_not_found))
    };
    assert!(stored().await);
    repair().await;
    assert!(!stored().await);
}

#[tokio::test]
async fn administer_closes_the_connections_of_a_blocked_user() {
    let user = User::new().await;
    user.upload().await;
    let mut socket = user.listen().await;
    let user_id = tests::subject(&user.token);
    let request = json!({ "action": "blockUser", "userId": user_id });
    assert_eq!(invoke("Administer", &request).await["userId"], json!(user_id));
    let closing = async { while let Ok(Some(_)) = socket.next().await {} };
    timeout(LIMIT, closing).await.expect("the connection stays open");
}

#[tokio::test]
async fn maintenance_purges_what_was_erased() {
    let user = User::new().await;
    let file_id = user.upload().await.file_id;
    let key = "SELECT object_key FROM versions WHERE file_id = $1";
    let key: String = database(key, &uuid::Uuid::from(file_id)).await[0].get(0);
    let erase = Call::new("DELETE /files/{fileId}").path("fileId", file_id);
    user.call(&erase.query("permanently", "true")).await;
    let s3 = aws_sdk_s3::Client::new(&tests::aws());
    repair().await;
    let listing = s3
        .list_object_versions()
        .bucket(&stack().outputs.bucket_name)
        .prefix(key);
    let left = listing.send().await.unwrap();
    assert_eq!((left.versions().len(), left.delete_markers().len()), (0, 0));
    let rows = "SELECT FROM files WHERE id = $1";
    assert!(database(rows, &uuid::Uuid::from(file_id)).await.is_empty());
}

#[tokio::test]
async fn migrate_signs_in_as_the_owner() {
    let s3 = aws_sdk_s3::Client::new(&tests::aws());
    let bucket = format!("answers-{}", platform::ids::new_id());
    s3.create_bucket().bucket(&bucket).send().await.unwrap();
    let presigning = aws_sdk_s3::presigning::PresigningConfig::expires_in(LIMIT).unwrap();
    let url = s3
        .put_object()
        .bucket(&bucket)
        .key("answer")
        .presigned(presigning);
    let mut event = sample("migrate.update");
    event["ResponseURL"] = json!(url.await.unwrap().uri());
    invoke("Migrate", &event).await;
    let answer = s3
        .get_object()
        .bucket(&bucket)
        .key("answer")
        .send()
        .await
        .unwrap();
    let answer = answer.body.collect().await.unwrap().to_vec();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["Status"], "SUCCESS", "{answer}");
}
