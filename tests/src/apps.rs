//! The functions, built as their `main` builds them, on a test's own database, queue and clock.

use aws_lambda_events::apigw::ApiGatewayV2httpResponse;
use aws_lambda_events::encodings::Body;
use aws_lambda_events::sqs::SqsBatchResponse;
use edge::Clock;
use model::{CreatedTicket, CreatedUpload};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;
use track_connections::Incoming;

use crate::{Gateway, TestDatabase, TestQueue, aws, http_event, sample, stack};

/// Where a test's clock starts.
pub const START: OffsetDateTime = datetime!(2026-01-02 03:04:05.678 UTC);

/// A function's answer to a request.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: i64,
    /// The body; null if there is none.
    pub body: Value,
}

impl Answer {
    /// The body as what it should be.
    pub fn parsed<T: DeserializeOwned>(&self) -> T {
        serde_json::from_value(self.body.clone()).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Status and problem code.
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
        Self {
            status: response.status_code,
            body,
        }
    }
}

/// One test's functions.
pub struct Apps {
    /// Their database.
    pub database: TestDatabase,
    /// Where events go.
    pub queue: TestQueue,
    /// Where what cannot be read goes.
    pub dead_letters: TestQueue,
    /// The WebSocket API's management interface.
    pub gateway: Gateway,
    /// Their time.
    pub clock: Clock,
}

impl Apps {
    /// Makes everything anew.
    pub async fn create() -> Self {
        Self {
            database: TestDatabase::create().await,
            queue: TestQueue::create().await,
            dead_letters: TestQueue::create().await,
            gateway: Gateway::start().await,
            clock: Clock::manual(START),
        }
    }

    /// An environment of `create-upload`.
    pub async fn create_upload(&self) -> create_upload::App {
        create_upload::App {
            db: self.database.environment(),
            s3: aws_sdk_s3::Client::new(&aws().await),
            bucket: stack().outputs.bucket_name.clone(),
            max_upload_bytes: 1024 * 1024,
            clock: self.clock.clone(),
        }
    }

    /// An environment of `complete-upload`.
    pub async fn complete_upload(&self) -> complete_upload::App {
        let aws = aws().await;
        complete_upload::App {
            db: self.database.environment(),
            s3: aws_sdk_s3::Client::new(&aws),
            sqs: aws_sdk_sqs::Client::new(&aws),
            bucket: stack().outputs.bucket_name.clone(),
            queue_url: self.queue.url.clone(),
            clock: self.clock.clone(),
        }
    }

    /// An environment of `track-connections`.
    pub fn track_connections(&self) -> track_connections::App {
        track_connections::App {
            db: self.database.environment(),
            websocket_url: "wss://socket.example/live".to_owned(),
            allowed_origins: vec!["https://app.example".to_owned()],
            max_connections_per_user: 3,
            clock: self.clock.clone(),
        }
    }

    /// An environment of `fan-out`.
    pub async fn fan_out(&self) -> fan_out::App {
        let aws = aws().await;
        let connections = aws_sdk_apigatewaymanagement::config::Builder::from(&aws);
        fan_out::App {
            db: self.database.environment(),
            connections: aws_sdk_apigatewaymanagement::Client::from_conf(
                connections.endpoint_url(&self.gateway.endpoint).build(),
            ),
            sqs: aws_sdk_sqs::Client::new(&aws),
            queue_url: self.queue.url.clone(),
            dead_letter_queue_url: self.dead_letters.url.clone(),
            clock: self.clock.clone(),
        }
    }

    /// `POST /uploads`.
    pub async fn open(&self, user: &str, body: &Value) -> Answer {
        create_upload::handle(
            &self.create_upload().await,
            &http_event("create-upload.post", user, body),
        )
        .await
        .into()
    }

    /// Opens an upload of this content to this path.
    pub async fn opened(&self, user: &str, path: &str, content: &[u8]) -> CreatedUpload {
        let answer = self.open(user, &upload_body(path, content)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.parsed()
    }

    /// Opens an upload and puts its content.
    pub async fn put(&self, user: &str, path: &str, content: &[u8]) -> CreatedUpload {
        let created = self.opened(user, path, content).await;
        let client = client::Client::new("http://unused.example", String::new().into(), None).unwrap();
        client.put(&created.put, content.to_vec()).await.unwrap();
        created
    }

    /// `POST /uploads/{uploadId}/complete`, in an environment of its own.
    pub async fn complete(&self, user: &str, created: &CreatedUpload) -> Answer {
        self.complete_in(
            &self.complete_upload().await,
            user,
            &created.upload_id.to_string(),
        )
        .await
    }

    /// `POST /uploads/{uploadId}/complete`.
    pub async fn complete_in(&self, app: &complete_upload::App, user: &str, upload_id: &str) -> Answer {
        let mut event = http_event("complete-upload.post", user, &json!({}));
        event
            .path_parameters
            .insert("uploadId".to_owned(), upload_id.to_owned());
        complete_upload::handle(app, &event).await.into()
    }

    /// Uploads content from opening to completing.
    pub async fn upload(&self, user: &str, path: &str, content: &[u8]) -> model::FileChanged {
        let created = self.put(user, path, content).await;
        let answer = self.complete(user, &created).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.parsed()
    }

    /// `POST /tickets`.
    pub async fn ticket(&self, user: &str) -> CreatedTicket {
        let event = http_event("track-connections.post-tickets", user, &json!({}));
        let answer =
            track_connections::handle(&self.track_connections(), &Incoming::Http(Box::new(event))).await;
        Answer::from(answer).parsed()
    }

    /// `$connect` with a ticket, as API Gateway names the connection, from a page of `origin` if any.
    pub async fn connect(&self, ticket: &str, connection_id: &str, origin: Option<&str>) -> Answer {
        self.connect_in(&self.track_connections(), ticket, connection_id, origin)
            .await
    }

    /// The same in a given environment.
    pub async fn connect_in(
        &self,
        app: &track_connections::App,
        ticket: &str,
        connection_id: &str,
        origin: Option<&str>,
    ) -> Answer {
        let mut event = sample("track-connections.connect");
        event["requestContext"]["connectionId"] = json!(connection_id);
        event["queryStringParameters"]["ticket"] = json!(ticket);
        event["multiValueQueryStringParameters"]["ticket"] = json!([ticket]);
        if let Some(origin) = origin {
            event["headers"]["Origin"] = json!(origin);
            event["multiValueHeaders"]["Origin"] = json!([origin]);
        }
        track_connections::handle(app, &serde_json::from_value(event).unwrap())
            .await
            .into()
    }

    /// A connected device of the user.
    pub async fn connected(&self, user: &str, connection_id: &str) {
        let ticket = self.ticket(user).await.ticket;
        let answer = self.connect(&ticket, connection_id, None).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Gives `fan-out` these records; returns the ids of those that are to come again.
    pub async fn fan(&self, records: &[Value]) -> Vec<String> {
        let batch = serde_json::from_value(json!({ "Records": records })).unwrap();
        let response: SqsBatchResponse = fan_out::handle(&self.fan_out().await, batch).await;
        response
            .batch_item_failures
            .into_iter()
            .map(|failure| failure.item_identifier)
            .collect()
    }

    /// How many connections are stored under this id.
    pub async fn connections(&self, connection_id: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM connections WHERE connection_id = '{connection_id}'");
        self.database.number(&sql).await
    }
}

/// A body for `POST /uploads`.
fn upload_body(path: &str, content: &[u8]) -> Value {
    json!({ "path": path, "size": content.len(), "sha256": client::sha256(content) })
}

/// A server that takes connections and never says a word.
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
