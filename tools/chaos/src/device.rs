//! A device: it connects, pulls and listens, and pulls again when a sequence number is missing. It learns of
//! changes in no other way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Bytes;
use client::Frame;
use fakes::s3::S3;
use model::{ChangeList, CreatedTicket, DeviceId, Event, SpaceId, UserId};
use parking_lot::Mutex;
use platform::{Clock, ids};
use serde_json::json;

use super::api::{Api, Call};
use super::faults::FaultInjector;
use super::history::{History, add};
use super::replica::{Heard, Replica};
use super::sqs::FaultySqs;
use super::violations::Violations;
use super::websocket_api::Sockets;

/// The page size of the feed of changes.
const PAGE: usize = 1_000;

/// The services and records that all devices share.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) api: Arc<Api>,
    pub(crate) sockets: Arc<Sockets>,
    /// The record of acknowledged uploads and of memberships.
    pub(crate) history: Arc<History>,
    pub(crate) violations: Arc<Violations>,
    /// Sends presigned requests to storage.
    pub(crate) http: reqwest::Client,
    pub(crate) faults: Arc<FaultInjector>,
    pub(crate) s3: Arc<S3>,
    pub(crate) sqs: Arc<FaultySqs>,
}

/// One device of a user.
pub(crate) struct Device {
    pub(crate) user: UserId,
    pub(crate) id: DeviceId,
    replica: Mutex<Replica>,
    listening: AtomicBool,
}

impl Device {
    /// A device that knows the personal space and no changes yet.
    pub(crate) fn new(user: UserId, personal: SpaceId) -> Self {
        Self {
            user,
            id: ids::new_id().into(),
            replica: Mutex::new(Replica::new(personal)),
            listening: AtomicBool::new(false),
        }
    }

    /// Whether the device is connected and has pulled all changes since it connected.
    pub(crate) fn is_listening(&self) -> bool {
        self.listening.load(Ordering::SeqCst)
    }

    /// A copy of the changes and files that the device knows.
    pub(crate) fn replica(&self) -> Replica {
        self.locked().clone()
    }

    /// Runs the device; never returns.
    pub(crate) async fn run(&self, context: &Context) {
        for attempt in 0.. {
            if let Some(mut socket) = self.connect(context).await {
                let spaces: Vec<SpaceId> = self.locked().spaces.keys().copied().collect();
                self.pull(context, spaces).await;
                self.listening.store(true, Ordering::SeqCst);
                while let Some(frame) = socket.next().await {
                    self.take(context, &frame).await;
                }
                self.listening.store(false, Ordering::SeqCst);
                context.api.pause(0).await;
            } else {
                context.api.pause(attempt.min(5)).await;
            }
        }
    }

    async fn connect(&self, context: &Context) -> Option<super::websocket_api::Socket> {
        let call = Call::new("POST /tickets").body(json!({ "deviceId": self.id }));
        let answer = context.api.once(&self.user, &call).await?;
        if answer.status != 201 {
            context.api.wrong(&self.user, &call, &answer);
            return None;
        }
        let ticket = answer.parsed::<CreatedTicket>()?;
        context.sockets.connect(&ticket.ticket).await
    }

    async fn take(&self, context: &Context, frame: &Bytes) {
        let Ok(Frame::Changes {
            space_id, changes, ..
        }) = serde_json::from_slice(frame)
        else {
            let text = String::from_utf8_lossy(frame).into_owned();
            context
                .violations
                .unexpected("frame that cannot be read", format!("{}: {text}", self.id));
            return;
        };
        add(&context.history.counts.received, changes.len());
        let mut behind = Vec::new();
        for event in &changes {
            let waited = Clock::system().now() - event.occurred_at;
            context.history.counts.heard_after(waited.unsigned_abs());
            if event.space_id != space_id
                || !context
                    .history
                    .may_hear(event.space_id, &self.user, event.occurred_at)
            {
                context.violations.unexpected(
                    "frame to somebody who may not see the change",
                    format!(
                        "event {} of space {space_id} to device {} of {}",
                        event.event_id, self.id, self.user
                    ),
                );
            }
            match self.hear(event) {
                Heard::Applied | Heard::Unknown => {}
                Heard::Duplicate => add(&context.history.counts.duplicated, 1),
                Heard::Joined(space) => behind.push(space),
                Heard::Gap => behind.push(space_id),
                Heard::Conflict => context.violations.unexpected(
                    "two events with one number",
                    format!(
                        "event {} as {} of space {space_id} to device {}",
                        event.event_id, event.sequence, self.id
                    ),
                ),
            }
        }
        if !behind.is_empty() {
            behind.dedup();
            self.pull(context, behind).await;
        }
    }

    /// Reads the feeds of these spaces to their ends, and the feeds of spaces that the changes add.
    async fn pull(&self, context: &Context, mut spaces: Vec<SpaceId>) {
        while let Some(space) = spaces.pop() {
            while let Some(cursor) = self.cursor(space) {
                let query = format!("spaceId={space}&after={cursor}&limit={PAGE}");
                let call = Call::new("GET /changes").query(query);
                let Some(answer) = context.api.request(&self.user, &call).await else {
                    break;
                };
                if answer.status == 404 {
                    self.locked().forget(space);
                    break;
                }
                let Some(page) = answer.parsed::<ChangeList>().filter(|_| answer.status == 200) else {
                    context.api.wrong(&self.user, &call, &answer);
                    break;
                };
                add(&context.history.counts.pulled, page.changes.len());
                for event in &page.changes {
                    match self.hear(event) {
                        Heard::Joined(joined) => spaces.push(joined),
                        Heard::Applied => {}
                        Heard::Unknown | Heard::Duplicate | Heard::Conflict | Heard::Gap => {
                            context.violations.unexpected(
                                "page that does not go on where it was asked to",
                                format!(
                                    "event {} as {} after {cursor} of space {space} to device {}",
                                    event.event_id, event.sequence, self.id
                                ),
                            );
                        }
                    }
                }
                if !page.has_more {
                    break;
                }
            }
        }
    }

    fn hear(&self, event: &Event) -> Heard {
        self.locked().hear(event)
    }

    fn cursor(&self, space: SpaceId) -> Option<usize> {
        self.locked().cursor(space)
    }

    fn locked(&self) -> parking_lot::MutexGuard<'_, Replica> {
        self.replica.lock()
    }
}
