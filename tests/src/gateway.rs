//! Fake of `@connections` with scripted errors. The emulator never answers 410 while `$connect` runs, and
//! never answers 429.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;

use crate::Contract;

/// Fake of `@connections` on a local port, listening until the test ends.
#[derive(Clone)]
pub struct Gateway {
    /// Value for `CONNECTIONS_ENDPOINT`.
    pub endpoint: String,
    state: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    statuses: HashMap<String, u16>,
    scripts: HashMap<String, VecDeque<u16>>,
    closed: Vec<String>,
    posts: HashMap<String, usize>,
    frames: Vec<(String, serde_json::Value)>,
}

impl Gateway {
    /// Starts a fake on which every connection exists.
    pub async fn start() -> Self {
        let state = Arc::new(Mutex::new(Inner::default()));
        let app = Router::new()
            .route("/live/@connections/{id}", post(take).delete(close))
            .with_state(Arc::clone(&state));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/live", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, app).await });
        Self { endpoint, state }
    }

    /// Sets the status of all later posts to a connection. With 0, posts are never answered.
    pub fn answer(&self, connection_id: &str, status: u16) {
        self.state
            .lock()
            .unwrap()
            .statuses
            .insert(connection_id.to_owned(), status);
    }

    /// Sets the statuses of the next posts to a connection, one status a post.
    pub fn answer_once_each(&self, connection_id: &str, statuses: &[u16]) {
        let script = statuses.iter().copied().collect();
        self.state
            .lock()
            .unwrap()
            .scripts
            .insert(connection_id.to_owned(), script);
    }

    /// Ids of the connections that were closed, in order.
    pub fn closed(&self) -> Vec<String> {
        self.state.lock().unwrap().closed.clone()
    }

    /// Number of answered posts to a connection, with any status.
    pub fn posts(&self, connection_id: &str) -> usize {
        let state = self.state.lock().unwrap();
        state.posts.get(connection_id).copied().unwrap_or_default()
    }

    /// Number of answered posts to all connections, with any status.
    pub fn total(&self) -> usize {
        self.state.lock().unwrap().posts.values().sum()
    }

    /// Frames that a connection received, in order: the posts that were answered 200.
    pub fn frames(&self, connection_id: &str) -> Vec<serde_json::Value> {
        let state = self.state.lock().unwrap();
        let own = state.frames.iter().filter(|(id, _)| id == connection_id);
        own.map(|(_, frame)| frame.clone()).collect()
    }

    /// Sequence numbers of the changes that a connection received, in order.
    pub fn sequences(&self, connection_id: &str) -> Vec<i64> {
        let frames = self.frames(connection_id);
        let changes = frames
            .iter()
            .flat_map(|frame| frame["changes"].as_array().unwrap());
        changes
            .map(|change| change["sequence"].as_i64().unwrap())
            .collect()
    }
}

/// `DeleteConnection`. It answers with the connection's status if that is 403 or 503, and otherwise closes
/// the connection.
async fn close(State(state): State<Arc<Mutex<Inner>>>, Path(id): Path<String>) -> Response {
    let mut state = state.lock().unwrap();
    if let Some(status @ (403 | 503)) = state.statuses.get(&id).copied() {
        StatusCode::from_u16(status).unwrap().into_response()
    } else {
        state.closed.push(id);
        StatusCode::NO_CONTENT.into_response()
    }
}

async fn take(State(state): State<Arc<Mutex<Inner>>>, Path(id): Path<String>, body: String) -> Response {
    let status = {
        let mut state = state.lock().unwrap();
        let next = state.scripts.get_mut(&id).and_then(VecDeque::pop_front);
        next.or_else(|| state.statuses.get(&id).copied())
    };
    if status == Some(0) {
        std::future::pending::<()>().await;
    }
    let mut state = state.lock().unwrap();
    *state.posts.entry(id.clone()).or_default() += 1;
    match status {
        None | Some(200) => {
            let frame = serde_json::from_str(&body).unwrap();
            Contract::get().check_frame(&frame);
            state.frames.push((id, frame));
            StatusCode::OK.into_response()
        }
        Some(status) => {
            let kind = match status {
                410 => "GoneException",
                403 => "ForbiddenException",
                429 => "LimitExceededException",
                _ => "InternalServerErrorException",
            };
            let status = StatusCode::from_u16(status).unwrap();
            (status, [("x-amzn-ErrorType", kind)], r#"{"message":"no"}"#).into_response()
        }
    }
}
