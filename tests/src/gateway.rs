//! A stand-in for `@connections`, which speaks its protocol and misbehaves as told. The emulator never answers 410 while
//! `$connect` runs, nor 429.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;

use crate::Contract;

/// The stand-in, listening until the test ends.
#[derive(Clone)]
pub struct Gateway {
    /// What `CONNECTIONS_ENDPOINT` is set to.
    pub endpoint: String,
    state: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    statuses: HashMap<String, u16>,
    frames: Vec<(String, serde_json::Value)>,
}

impl Gateway {
    /// Starts one; every connection exists.
    pub async fn start() -> Self {
        let state = Arc::new(Mutex::new(Inner::default()));
        let app = Router::new()
            .route("/live/@connections/{id}", post(take))
            .with_state(Arc::clone(&state));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/live", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, app).await });
        Self { endpoint, state }
    }

    /// Makes posts to a connection end in this status from now on.
    pub fn answer(&self, connection_id: &str, status: u16) {
        self.state
            .lock()
            .unwrap()
            .statuses
            .insert(connection_id.to_owned(), status);
    }

    /// The frames that a connection got.
    pub fn frames(&self, connection_id: &str) -> Vec<serde_json::Value> {
        let state = self.state.lock().unwrap();
        let own = state.frames.iter().filter(|(id, _)| id == connection_id);
        own.map(|(_, frame)| frame.clone()).collect()
    }

    /// The numbers of the changes that a connection got.
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

async fn take(State(state): State<Arc<Mutex<Inner>>>, Path(id): Path<String>, body: String) -> Response {
    let mut state = state.lock().unwrap();
    match state.statuses.get(&id).copied() {
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
