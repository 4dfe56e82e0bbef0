//! Clients of a fake WebSocket API, with scripted errors. The emulator never answers 410 while `$connect`
//! runs, and never answers 429.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use fakes::connections::{Clients, Connections};
use fakes::http::{Fault, Request};

use crate::Contract;

/// Fake of `@connections` on a local port, listening until it is dropped.
pub struct Gateway {
    /// Value for `CONNECTIONS_ENDPOINT`.
    pub endpoint: String,
    script: Arc<Script>,
    _fake: Connections,
}

#[derive(Default)]
struct Script(Mutex<State>);

#[derive(Default)]
struct State {
    statuses: HashMap<String, u16>,
    scripts: HashMap<String, VecDeque<u16>>,
    closed: Vec<String>,
    posts: HashMap<String, usize>,
    frames: Vec<(String, serde_json::Value)>,
}

impl Gateway {
    /// Starts a fake on which every connection exists.
    pub async fn start() -> Self {
        let script = Arc::new(Script::default());
        let fake = Connections::start(None, Arc::clone(&script)).await.unwrap();
        Self {
            endpoint: fake.endpoint("127.0.0.1"),
            script,
            _fake: fake,
        }
    }

    /// Sets the status of all later posts to a connection. With 0, posts are never answered.
    pub fn answer(&self, connection_id: &str, status: u16) {
        self.script
            .0
            .lock()
            .unwrap()
            .statuses
            .insert(connection_id.to_owned(), status);
    }

    /// Sets the statuses of the next posts to a connection, one status a post.
    pub fn answer_once_each(&self, connection_id: &str, statuses: &[u16]) {
        let script = statuses.iter().copied().collect();
        self.script
            .0
            .lock()
            .unwrap()
            .scripts
            .insert(connection_id.to_owned(), script);
    }

    /// Ids of the connections that were closed, in order.
    pub fn closed(&self) -> Vec<String> {
        self.script.0.lock().unwrap().closed.clone()
    }

    /// Number of answered posts to a connection, with any status.
    pub fn posts(&self, connection_id: &str) -> usize {
        let state = self.script.0.lock().unwrap();
        state.posts.get(connection_id).copied().unwrap_or_default()
    }

    /// Number of answered posts to all connections, with any status.
    pub fn total(&self) -> usize {
        self.script.0.lock().unwrap().posts.values().sum()
    }

    /// Frames that a connection received, in order: the posts that were answered 200.
    pub fn frames(&self, connection_id: &str) -> Vec<serde_json::Value> {
        let state = self.script.0.lock().unwrap();
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

impl Clients for Script {
    /// A connection is closed unless its status is 403 or 503.
    fn fault(&self, id: &str, request: &Request) -> Fault {
        let mut state = self.0.lock().unwrap();
        let constant = state.statuses.get(id).copied();
        if request.method() == "DELETE" {
            return match constant {
                Some(status @ (403 | 503)) => Fault::Error(status, error_type(status)),
                _ => Fault::None,
            };
        }
        let next = state.scripts.get_mut(id).and_then(VecDeque::pop_front);
        match next.or(constant) {
            None | Some(200) => Fault::None,
            Some(0) => Fault::Hang,
            Some(status) => {
                *state.posts.entry(id.to_owned()).or_default() += 1;
                Fault::Error(status, error_type(status))
            }
        }
    }

    fn post(&self, id: &str, request: &Request) -> bool {
        let frame = serde_json::from_slice(&request.body()).unwrap();
        Contract::get().check_frame(&frame);
        let mut state = self.0.lock().unwrap();
        *state.posts.entry(id.to_owned()).or_default() += 1;
        state.frames.push((id.to_owned(), frame));
        true
    }

    fn close(&self, id: &str, _: &Request) {
        self.0.lock().unwrap().closed.push(id.to_owned());
    }
}

fn error_type(status: u16) -> &'static str {
    match status {
        410 => "GoneException",
        403 => "ForbiddenException",
        429 => "LimitExceededException",
        _ => "InternalServerErrorException",
    }
}
