//! Function apps with the same configuration as their `main` builds, on the test's own database, queues and
//! clock.

use std::num::NonZeroU32;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use aws_lambda_events::encodings::Body;
use aws_lambda_events::sqs::SqsBatchResponse;
use aws_types::region::Region;
use connections::Incoming;
use fan_out::Connections;
use model::{ChangeList, CreatedTicket, CreatedUpload, InvitationId, InvitationView, PresignedPut, SpaceId};
use platform::Clock;
use platform::aws::{Account, Aws};
use platform::client::HttpClient;
use platform::config::Vars;
use platform::trace::Tracer;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::time::Instant;

use crate::{
    Contract, Gateway, Shared, TestDatabase, TestQueue, TestStorage, aws, lock_shared, raw_http, sample,
};

/// Initial time of a test's clock.
pub const START: OffsetDateTime = datetime!(2026-01-02 03:04:05.678 UTC);

/// Value of `MAX_UPLOAD_BYTES` in tests, in bytes: three parts of the smallest size.
pub const MAX_UPLOAD_BYTES: i64 = 3 * model::MIN_PART_BYTES;

/// Largest file that tests upload with a single PUT, in bytes. Larger files are uploaded in parts.
pub const MULTIPART_THRESHOLD_BYTES: i64 = 1024 * 1024;

/// Response of a function to an HTTP request.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// HTTP status.
    pub status: i64,
    /// JSON body; null if the response has no body.
    pub body: Value,
    /// `Location` header of a redirect; `None` for any other response.
    pub location: Option<String>,
    /// `Retry-After` header; `None` if there is none.
    pub retry_after: Option<String>,
}

impl Answer {
    /// Decodes the body. Panics and shows the response if it does not match `T`.
    pub fn parsed<T: DeserializeOwned>(&self) -> T {
        serde_json::from_value(self.body.clone()).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Status and problem code; the code is `none` if the body has no `code`.
    pub fn problem(&self) -> (i64, &str) {
        (self.status, self.body["code"].as_str().unwrap_or("none"))
    }
}

impl From<ApiGatewayV2httpResponse> for Answer {
    fn from(response: ApiGatewayV2httpResponse) -> Self {
        let body = match response.body {
            Some(Body::Text(text)) => serde_json::from_str(&text).unwrap(),
            _ => Value::Null,
        };
        let header = |name| {
            let value = response.headers.get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        Self {
            status: response.status_code,
            body,
            location: header("location"),
            retry_after: header("retry-after"),
        }
    }
}

/// Request to the HTTP API. [`Environment::call`] turns it into the event that API Gateway sends to the
/// function.
#[derive(Clone, Debug)]
pub struct Call {
    route: &'static str,
    path: Vec<(&'static str, String)>,
    query: Vec<(&'static str, String)>,
    headers: Vec<(&'static str, String)>,
    claims: Vec<(&'static str, String)>,
    body: Option<Value>,
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "calls read better without references"
)]
impl Call {
    /// Request to a route such as `GET /files`, without parameters, headers and body.
    pub fn new(route: &'static str) -> Self {
        Self {
            route,
            path: Vec::new(),
            query: Vec::new(),
            headers: Vec::new(),
            claims: Vec::new(),
            body: None,
        }
    }

    /// Sets a path parameter, by its name in the route.
    #[must_use]
    pub fn path(mut self, name: &'static str, value: impl ToString) -> Self {
        self.path.push((name, value.to_string()));
        self
    }

    /// Adds a query parameter; the value is not yet percent-encoded.
    #[must_use]
    pub fn query(mut self, name: &'static str, value: impl ToString) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    /// Adds a request header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    /// Adds a claim to the caller's token.
    #[must_use]
    pub fn claim(mut self, name: &'static str, value: impl ToString) -> Self {
        self.claims.push((name, value.to_string()));
        self
    }

    /// The route, such as `GET /files`.
    pub fn route(&self) -> &'static str {
        self.route
    }

    /// Sets the JSON body.
    #[must_use]
    pub fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    /// Method and request target as a client sends them.
    pub(crate) fn request_line(&self) -> (&'static str, String) {
        let (method, path) = self.route.split_once(' ').unwrap();
        let target = self.path.iter().fold(path.to_owned(), |target, (name, value)| {
            let value = percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC);
            target.replace(&format!("{{{name}}}"), &value.to_string())
        });
        let query = self.query_string();
        (
            method,
            if query.is_empty() {
                target
            } else {
                format!("{target}?{query}")
            },
        )
    }

    pub(crate) fn headers(&self) -> &[(&'static str, String)] {
        &self.headers
    }

    pub(crate) fn json(&self) -> Option<&Value> {
        self.body.as_ref()
    }

    /// API Gateway event of this request, made by `user`.
    fn event(&self, user: &str) -> ApiGatewayV2httpRequest {
        let mut event = sample("uploads.post");
        let (method, path) = self.route.split_once(' ').unwrap();
        event["routeKey"] = json!(self.route);
        event["requestContext"]["routeKey"] = json!(self.route);
        event["requestContext"]["http"]["method"] = json!(method);
        event["requestContext"]["authorizer"]["jwt"]["claims"]["sub"] = json!(user);
        for (name, value) in &self.claims {
            event["requestContext"]["authorizer"]["jwt"]["claims"][*name] = json!(value);
        }
        event["rawPath"] = json!(path);
        event["rawQueryString"] = json!(self.query_string());
        event["pathParameters"] = self
            .path
            .iter()
            .map(|(name, value)| (*name, json!(value)))
            .collect();
        for (name, value) in &self.headers {
            event["headers"][*name] = json!(value);
        }
        event["body"] = self
            .body
            .as_ref()
            .map_or(Value::Null, |body| json!(body.to_string()));
        serde_json::from_value(event).unwrap()
    }

    fn query_string(&self) -> String {
        serde_html_form::to_string(&self.query).unwrap()
    }
}

/// One execution environment of each function that serves the HTTP API.
pub struct Environment {
    /// The environment of `uploads`.
    pub uploads: uploads::App,
    /// The environment of `complete-upload`.
    pub complete_upload: complete_upload::App,
    /// The environment of `files`.
    pub files: files::App,
    spaces: spaces::App,
    changes: changes::App,
    account: account::App,
    connections: connections::App,
}

impl Environment {
    /// Makes a request as a user and checks the response against `docs/openapi.yaml`.
    pub async fn call(&self, user: &str, call: Call) -> Answer {
        let event = call.event(user);
        let (_, path) = call.route.split_once(' ').unwrap();
        let response = match path.split('/').nth(1).unwrap() {
            "uploads" if path.ends_with("/complete") => {
                complete_upload::handle(&self.complete_upload, &event).await
            }
            "uploads" => uploads::handle(&self.uploads, &event).await,
            "files" => files::handle(&self.files, &event).await,
            "spaces" => spaces::handle(&self.spaces, &event).await,
            "invitations" | "me" => account::handle(&self.account, &event).await,
            "changes" => changes::handle(&self.changes, &event).await,
            "tickets" => connections::handle(&self.connections, &Incoming::Http(Box::new(event))).await,
            other => panic!("no function for /{other}"),
        };
        let answer = Answer::from(response);
        Contract::get().check(call.route, answer.status, &answer.body);
        answer
    }
}

/// The functions of one test and the resources that they use.
pub struct TestContext {
    /// Database that all of these functions use.
    pub database: TestDatabase,
    /// Queue for events, read by `fan-out`.
    pub queue: TestQueue,
    /// Queue for messages that cannot be decoded or delivered.
    pub dead_letters: TestQueue,
    /// Bucket for file content.
    pub storage: TestStorage,
    /// Fake of the WebSocket API's management interface (`@connections`).
    pub gateway: Gateway,
    /// Clock that all of these functions read.
    pub clock: Clock,
    /// How long deleted files and old versions are kept; at first, as by the template's defaults.
    pub retention: maintenance::Retention,
    /// Larger content is sent in parts; at first, content of more than [`MULTIPART_THRESHOLD_BYTES`].
    pub multipart_threshold_bytes: i64,
    /// The maximums of invitations; at first, none is too many.
    pub invitation_limits: db::InvitationLimits,
    _shared: Shared,
}

impl TestContext {
    /// Creates a new database, queues and a gateway. Content is stored in the stack's bucket.
    pub async fn create() -> Self {
        Self::on(TestStorage::of_the_stack()).await
    }

    /// Creates a new database, queues and a gateway. Content is stored in `storage`.
    pub async fn on(storage: TestStorage) -> Self {
        Self {
            storage,
            multipart_threshold_bytes: MULTIPART_THRESHOLD_BYTES,
            retention: maintenance::Retention {
                trash: 30.try_into().unwrap(),
                versions: 100.try_into().unwrap(),
                replaced: 180.try_into().unwrap(),
            },
            invitation_limits: db::InvitationLimits {
                pending: i64::MAX,
                received: i64::MAX,
                per_day: i64::MAX,
            },
            _shared: lock_shared().await,
            database: TestDatabase::create().await,
            queue: TestQueue::create().await,
            dead_letters: TestQueue::create().await,
            gateway: Gateway::start().await,
            clock: Clock::manual(START),
        }
    }

    /// New execution environment of `uploads`.
    pub fn uploads(&self) -> uploads::App {
        uploads::App {
            db: self.database.environment(),
            storage: self.storage.storage(),
            max_upload_bytes: MAX_UPLOAD_BYTES,
            multipart_threshold_bytes: self.multipart_threshold_bytes,
            max_pending_uploads: i64::MAX,
            max_space_bytes: i64::MAX,
            clock: self.clock.clone(),
        }
    }

    /// New execution environment of `complete-upload`.
    pub fn complete_upload(&self) -> complete_upload::App {
        complete_upload::App {
            db: self.database.environment(),
            storage: self.storage.storage(),
            queue: self.queue.queue(),
            max_changes_per_minute: i64::MAX,
            max_space_bytes: i64::MAX,
            clock: self.clock.clone(),
        }
    }

    /// New execution environment of `files`.
    pub fn files(&self) -> files::App {
        files::App {
            db: self.database.environment(),
            storage: self.storage.storage(),
            queue: self.queue.queue(),
            max_changes_per_minute: i64::MAX,
            trash_time: self.retention.trash.into(),
            clock: self.clock.clone(),
        }
    }

    /// New execution environment of `spaces`.
    pub fn spaces(&self) -> spaces::App {
        spaces::App {
            db: self.database.environment(),
            queue: self.queue.queue(),
            max_changes_per_minute: i64::MAX,
            max_spaces: i64::MAX,
            invitation_limits: self.invitation_limits,
            clock: self.clock.clone(),
            trash_time: self.retention.trash.into(),
        }
    }

    /// New execution environment of `account`.
    pub fn account(&self) -> account::App {
        account::App {
            db: self.database.environment(),
            queue: self.queue.queue(),
            maximums: db::Maximums {
                changes_per_minute: i64::MAX,
                pending_uploads: i64::MAX,
                spaces: i64::MAX,
                space_bytes: i64::MAX,
                invitations_per_day: self.invitation_limits.per_day,
            },
            clock: self.clock.clone(),
        }
    }

    /// New execution environment of `changes`.
    pub fn changes(&self) -> changes::App {
        changes::App {
            db: self.database.environment(),
        }
    }

    /// New execution environment of `connections`.
    pub fn connections(&self) -> connections::App {
        connections::App {
            db: self.database.environment(),
            websocket_url: "wss://socket.example/live".to_owned(),
            allowed_origins: vec!["https://app.example".to_owned()],
            max_connections_per_user: 3,
            clock: self.clock.clone(),
        }
    }

    /// New execution environment of `fan-out`, without an effective rate limit on posts.
    pub fn fan_out(&self) -> fan_out::App {
        let aws = aws();
        fan_out::App {
            db: self.database.environment(),
            connections: connections(&self.gateway.endpoint),
            closer: websocket::Closer::new(&aws, &self.gateway.endpoint),
            rate_limiter: fan_out::RateLimiter::new(NonZeroU32::MAX, NonZeroU32::MIN),
            queue: self.queue.queue(),
            dead_letters: self.dead_letters.queue(),
            clock: self.clock.clone(),
            tracer: Tracer::default(),
        }
    }

    /// New execution environment of `administer`.
    pub fn administer(&self) -> administer::App {
        administer::App {
            db: self.database.environment(),
            closer: websocket::Closer::new(&aws(), &self.gateway.endpoint),
            clock: self.clock.clone(),
        }
    }

    /// New execution environment of `maintenance`.
    pub fn maintenance(&self) -> maintenance::App {
        maintenance::App {
            db: self.database.environment(),
            storage: self.storage.storage(),
            queue: self.queue.queue(),
            dead_letters: self.dead_letters.queue(),
            bus: None,
            retention: self.retention,
            clock: self.clock.clone(),
        }
    }

    /// Runs `maintenance` once, with a deadline 10 s from now.
    pub async fn run_maintenance(&self) -> Result<maintenance::Report, maintenance::Unfinished> {
        let stop = Instant::now() + Duration::from_secs(10);
        maintenance::handle(&self.maintenance(), stop).await
    }

    /// New execution environment of each function that serves the HTTP API.
    pub fn environment(&self) -> Environment {
        Environment {
            uploads: self.uploads(),
            complete_upload: self.complete_upload(),
            files: self.files(),
            spaces: self.spaces(),
            changes: self.changes(),
            account: self.account(),
            connections: self.connections(),
        }
    }

    /// Makes a request as a user, in a new execution environment.
    pub async fn call(&self, user: &str, call: Call) -> Answer {
        self.environment().call(user, call).await
    }

    /// Calls `POST /uploads`.
    pub async fn open(&self, user: &str, body: &Value) -> Answer {
        self.call(user, Call::new("POST /uploads").body(body.clone()))
            .await
    }

    /// Opens an upload of `content` to `path`. Panics unless the response is 201.
    pub async fn opened(&self, user: &str, path: &str, content: &[u8]) -> CreatedUpload {
        let answer = self.open(user, &upload_body(path, content)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.parsed()
    }

    /// Sends the content of an open upload to storage with its presigned PUT.
    pub async fn send(&self, created: &CreatedUpload, content: &[u8]) {
        put_to_storage(created.put().unwrap(), content).await;
    }

    /// Opens an upload and sends its content, without completing it.
    pub async fn put(&self, user: &str, path: &str, content: &[u8]) -> CreatedUpload {
        let created = self.opened(user, path, content).await;
        self.send(&created, content).await;
        created
    }

    /// Calls `POST /uploads/{uploadId}/complete` for an open upload.
    pub async fn complete(&self, user: &str, created: &CreatedUpload) -> Answer {
        self.complete_id(user, &created.upload_id.to_string()).await
    }

    /// Calls `POST /uploads/{uploadId}/complete` with any id, valid or not.
    pub async fn complete_id(&self, user: &str, upload_id: &str) -> Answer {
        let call = Call::new("POST /uploads/{uploadId}/complete").path("uploadId", upload_id);
        self.call(user, call.body(json!({}))).await
    }

    /// Calls `POST /uploads/{uploadId}/complete` in the given execution environment.
    pub async fn complete_in(&self, app: &complete_upload::App, user: &str, upload_id: &str) -> Answer {
        let call = Call::new("POST /uploads/{uploadId}/complete").path("uploadId", upload_id);
        complete_upload::handle(app, &call.event(user)).await.into()
    }

    /// Makes a request to `uploads` in the given execution environment.
    pub async fn call_in(&self, app: &uploads::App, user: &str, call: Call) -> Answer {
        uploads::handle(app, &call.event(user)).await.into()
    }

    /// Opens an upload, sends its content and completes it.
    pub async fn upload(&self, user: &str, path: &str, content: &[u8]) -> model::FileChanged {
        let body = upload_body(path, content);
        self.upload_as(user, &body, content).await.parsed()
    }

    /// Opens an upload with any request body, sends its content and returns the response to completing it.
    pub async fn upload_as(&self, user: &str, body: &Value, content: &[u8]) -> Answer {
        let created: CreatedUpload = self.open(user, body).await.parsed();
        self.send(&created, content).await;
        self.complete(user, &created).await
    }

    /// Creates a shared space (`POST /spaces`) and returns its id.
    pub async fn space(&self, owner: &str) -> SpaceId {
        let call = Call::new("POST /spaces").body(json!({ "name": "Shared" }));
        self.call(owner, call).await.parsed::<model::SpaceView>().space_id
    }

    /// Makes one request as the user. A user can be added to a space only after using the service once.
    pub async fn known(&self, user: &str) {
        let answer = self.call(user, Call::new("GET /spaces")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Gives somebody a role in a space: changes the role of a member, or else invites by user id, after
    /// making the person known to the service, and accepts as this person. Returns the answer that decides:
    /// the first refusal, or the membership.
    pub async fn share(&self, owner: &str, space: SpaceId, member: &str, role: &str) -> Answer {
        self.known(member).await;
        let call = Call::new("PUT /spaces/{spaceId}/members/{userId}").path("spaceId", space);
        let changed = self
            .call(owner, call.path("userId", member).body(json!({ "role": role })))
            .await;
        if changed.status != 404 {
            return changed;
        }
        let call = Call::new("POST /spaces/{spaceId}/invitations").path("spaceId", space);
        let invited = self
            .call(owner, call.body(json!({ "userId": member, "role": role })))
            .await;
        if invited.status != 201 {
            return invited;
        }
        let invitation: InvitationView = invited.parsed();
        self.accept(member, invitation.invitation_id).await
    }

    /// Calls `POST /invitations/{invitationId}/accept`.
    pub async fn accept(&self, user: &str, invitation: InvitationId) -> Answer {
        let call = Call::new("POST /invitations/{invitationId}/accept").path("invitationId", invitation);
        self.call(user, call.body(json!({}))).await
    }

    /// Calls `DELETE /spaces/{spaceId}/members/{userId}`.
    pub async fn unshare(&self, user: &str, space: SpaceId, member: &str) -> Answer {
        let call = Call::new("DELETE /spaces/{spaceId}/members/{userId}").path("spaceId", space);
        self.call(user, call.path("userId", member)).await
    }

    /// Calls `GET /changes` from the first change; of the user's personal space if `space` is `None`.
    pub async fn feed(&self, user: &str, space: Option<SpaceId>) -> ChangeList {
        let mut call = Call::new("GET /changes").query("limit", 1000);
        if let Some(space) = space {
            call = call.query("spaceId", space);
        }
        self.call(user, call).await.parsed()
    }

    /// Calls `POST /tickets`.
    pub async fn ticket(&self, user: &str) -> CreatedTicket {
        self.call(user, Call::new("POST /tickets").body(json!({})))
            .await
            .parsed()
    }

    /// Handles `$connect` with a ticket for this connection id. `origin` is the `Origin` header, sent only by
    /// pages.
    pub async fn connect(&self, ticket: &str, connection_id: &str, origin: Option<&str>) -> Answer {
        self.connect_in(&self.connections(), ticket, connection_id, origin)
            .await
    }

    /// Handles `$connect` in the given execution environment.
    pub async fn connect_in(
        &self,
        app: &connections::App,
        ticket: &str,
        connection_id: &str,
        origin: Option<&str>,
    ) -> Answer {
        let mut event = sample("connections.connect");
        event["requestContext"]["connectionId"] = json!(connection_id);
        event["queryStringParameters"]["ticket"] = json!(ticket);
        event["multiValueQueryStringParameters"]["ticket"] = json!([ticket]);
        if let Some(origin) = origin {
            event["headers"]["Origin"] = json!(origin);
            event["multiValueHeaders"]["Origin"] = json!([origin]);
        }
        connections::handle(app, &serde_json::from_value(event).unwrap())
            .await
            .into()
    }

    /// Connects a device of the user under this connection id.
    pub async fn connected(&self, user: &str, connection_id: &str) {
        let ticket = self.ticket(user).await.ticket;
        let answer = self.connect(&ticket, connection_id, None).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Invokes `fan-out` with these records and returns the message ids that it reports as failed.
    pub async fn invoke_fan_out(&self, records: &[Value]) -> Vec<String> {
        let batch = serde_json::from_value(json!({ "Records": records })).unwrap();
        let stop = Instant::now() + Duration::from_secs(10);
        let response: SqsBatchResponse = fan_out::handle(&self.fan_out(), batch, stop).await;
        response
            .batch_item_failures
            .into_iter()
            .map(|failure| failure.item_identifier)
            .collect()
    }

    /// Number of stored connections with this id: 0 or 1.
    pub async fn stored_connections(&self, connection_id: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM connections WHERE connection_id = '{connection_id}'");
        self.database.number(&sql).await
    }
}

/// Sends content to storage with a presigned PUT. Panics unless the status is 200 or 412.
pub async fn put_to_storage(put: &PresignedPut, content: &[u8]) {
    let request = put
        .headers
        .iter()
        .fold(raw_http().put(&put.url), |request, (name, value)| {
            request.header(name, value)
        });
    let answer = request.body(content.to_vec()).send().await.unwrap();
    let status = answer.status().as_u16();
    // 412: the object exists already.
    assert!(
        matches!(status, 200 | 412),
        "{status}: {}",
        answer.text().await.unwrap()
    );
}

/// Request body of `POST /uploads` for this path and content.
pub fn upload_body(path: &str, content: &[u8]) -> Value {
    json!({ "path": path, "size": content.len(), "sha256": client::sha256(content) })
}

/// Starts a server that accepts connections and never responds; returns its port.
pub async fn hung_server() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            held.push(socket);
        }
    });
    port
}

/// S3 client whose requests are answered by a fake. `answer` maps the request's method and target to a status
/// and, for an error, the S3 error code. Lists of versions are empty.
pub async fn storage_that_answers(
    bucket: &TestStorage,
    answer: impl Fn(&str, &str) -> (u16, &'static str) + Clone + Send + Sync + 'static,
) -> storage::Storage {
    let reply = move |request: axum::extract::Request| {
        let (status, code) = answer(request.method().as_str(), &request.uri().to_string());
        let status = axum::http::StatusCode::from_u16(status).unwrap();
        let body = match code {
            "" if request
                .uri()
                .query()
                .is_some_and(|query| query.contains("versions")) =>
            {
                "<ListVersionsResult></ListVersionsResult>".to_owned()
            }
            "" => String::new(),
            code => format!("<Error><Code>{code}</Code><Message>no</Message></Error>"),
        };
        std::future::ready((status, body))
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = axum::serve(listener, axum::Router::new().fallback(reply));
    tokio::spawn(async move { server.await.unwrap() });
    let config = bucket.s3.config().to_builder().endpoint_url(endpoint);
    storage::Storage::new(config, &bucket.bucket)
}

fn connections(endpoint: &str) -> Connections {
    let account = Account {
        credentials: Credentials::new("test", "test", None, None, "test"),
        region: Region::from_static("us-east-1"),
    };
    Connections::new(http_client(), Some(account), endpoint).unwrap()
}

/// HTTP client with the functions' default configuration.
pub fn http_client() -> HttpClient {
    Aws::from_vars(&Vars::from_lookup(|_| None)).unwrap().http
}
