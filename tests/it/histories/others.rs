//! Steps of operators, of the schedule, and on a user's sockets and account.

use std::collections::BTreeMap;
use std::time::Duration as StdDuration;

use ::model::{CreatedTicket, SpaceId};
use serde_json::{Value, json};
use tests::Call;
use time::Duration;
use tokio::time::Instant;

use super::model::{Connection, LAST_OWNER, Standing, UploadState};
use super::steps::Limits;
use super::{ERASED, History, die_after};

/// Maximum number of sockets of a user.
const SOCKETS: usize = 3;

/// Deadline of a run of `maintenance`, from its start.
const RUN: StdDuration = StdDuration::from_secs(10);

impl History<'_> {
    pub(super) async fn connect(&mut self, user: usize) {
        let call = Call::new("POST /tickets").body(json!({}));
        let Some(answer) = self.ask(user, call, Ok(201)).await else {
            return;
        };
        self.counter += 1;
        let id = format!("{}-{}", self.world.id, self.counter);
        let ticket = answer.parsed::<CreatedTicket>().ticket;
        let connecting = (self.share.apps).connect_in(&self.functions.connections, &ticket, &id, None);
        let answer = connecting.await;
        let (now, connections) = (self.world.now, &mut self.world.connections);
        let open = connections
            .values()
            .filter(|it| it.user == user && it.expires_at > now);
        if open.count() < SOCKETS {
            assert_eq!(answer.status, 200, "{answer:?}");
            let expires_at = now + connections::CONNECTION_LIFETIME;
            connections.insert(id, Connection { user, expires_at });
        } else {
            assert_eq!(answer.problem(), (429, "too-many-connections"));
        }
    }

    pub(super) async fn erase_account(&mut self, user: usize) {
        let orphaned = self.world.orphaned(user);
        let expected = if orphaned.is_empty() {
            Ok(204)
        } else {
            Err(LAST_OWNER)
        };
        let call = Call::new("DELETE /me");
        if self.world.refuses_all(user, self.known) == Some(ERASED) {
            // A repetition.
            assert_eq!(self.send(user, call).await.status, 204);
            return;
        }
        if self.ask(user, call.clone(), expected).await.is_some() {
            self.world.erase_account(user);
        } else if self.world.refuses_all(user, self.known).is_none() {
            let mut spaces: Vec<SpaceId> = orphaned.iter().map(|it| self.world.spaces[*it].id).collect();
            spaces.sort();
            assert_eq!(self.send(user, call).await.body["spaceIds"], json!(spaces));
        }
    }

    /// Carries out an operator's request, and returns the answer; `None` if the user or space has no row.
    async fn administer(&self, request: Value) -> Option<Value> {
        let request = serde_json::from_value(request).unwrap();
        match administer::handle(&self.functions.administer, request).await {
            Ok(answer) => Some(serde_json::to_value(answer).unwrap()),
            Err(administer::Error::UnknownUser(_) | administer::Error::UnknownSpace(_)) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Carries out an operator's request about a user, and compares the answer. Returns whether the user has
    /// a row.
    async fn administer_user(&self, user: usize, mut request: Value) -> bool {
        request["userId"] = json!(self.world.name(user));
        let answer = self.administer(request.clone()).await;
        let standing = self.world.users[user].standing;
        let has_row = matches!(standing, Standing::Known | Standing::Erased(_));
        assert_eq!(answer.is_some(), has_row, "{request}: {answer:?}");
        // The uploads of a user who has erased the account are nobody's.
        if let Some(report) = answer.filter(|_| standing == Standing::Known) {
            let pending = match request["action"].as_str() {
                Some("blockUser") => 0,
                _ => self.world.pending(user),
            };
            assert_eq!(report["pendingUploads"], json!(pending));
            assert_eq!(
                report["blockedAt"].is_null(),
                match request["action"].as_str() {
                    Some("blockUser") => false,
                    Some("unblockUser") => true,
                    _ => !self.world.users[user].blocked,
                }
            );
        }
        has_row
    }

    pub(super) async fn block(&mut self, user: usize) {
        if !self.administer_user(user, json!({ "action": "blockUser" })).await {
            return;
        }
        self.world.users[user].blocked = true;
        for upload in self.world.uploads.iter_mut().filter(|it| it.user == Some(user)) {
            if upload.state == UploadState::Pending {
                upload.state = UploadState::Aborted;
            }
        }
        let connections = std::mem::take(&mut self.world.connections);
        let (closed, open): (BTreeMap<_, _>, _) =
            connections.into_iter().partition(|(_, it)| it.user == user);
        self.world.connections = open;
        self.world.closed.extend(closed.into_keys());
    }

    pub(super) async fn unblock(&mut self, user: usize) {
        if self
            .administer_user(user, json!({ "action": "unblockUser" }))
            .await
        {
            self.world.users[user].blocked = false;
        }
    }

    pub(super) async fn limit_user(&mut self, user: usize, limits: Limits) {
        let request = json!({ "action": "setUserLimits", "limits": {
            "changesPerMinute": limits.changes,
            "pendingUploads": limits.pending,
            "spaces": limits.spaces,
        }});
        if self.administer_user(user, request).await {
            self.world.users[user].limits = limits;
        }
    }

    pub(super) async fn limit_space(&mut self, user: usize, space: usize, bytes: Option<u32>) {
        let space = self.world.space(user, space, |_, role| role.is_some());
        let it = &self.world.spaces[space];
        let limits = json!({ "bytes": bytes });
        let request = json!({ "action": "setSpaceLimits", "spaceId": it.id, "limits": limits });
        let answer = self.administer(request).await;
        assert_eq!(answer.is_none(), it.gone, "{answer:?}");
        if let Some(answer) = answer {
            assert_eq!(answer["bytes"], json!(it.bytes()));
            self.world.spaces[space].max_bytes = bytes;
        }
    }

    pub(super) async fn begin_epoch(&mut self) {
        let answer = self.administer(json!({ "action": "beginEpoch" })).await;
        self.world.former = self.world.epoch;
        self.world.epoch = serde_json::from_value(answer.unwrap()["epoch"].take()).unwrap();
        self.world.restored = true;
        for space in &mut self.world.spaces {
            space.restored_at = Some(space.feed.len());
        }
    }

    pub(super) async fn wait(&mut self, time: Duration, maintain: bool) {
        self.share.apps.clock.advance(time);
        if !maintain {
            return;
        }
        if let Some(waits) = self.dies_after {
            // A run has many more await points than a request.
            let run = maintenance::handle(&self.functions.maintenance, Instant::now() + RUN);
            let _ = die_after(waits * waits, run).await;
            self.restart().await;
            // The schedule starts a run every minute.
            self.share.apps.clock.advance(Duration::MINUTE);
        }
        self.maintain().await;
    }

    pub(super) async fn maintain(&mut self) {
        self.world.now = self.share.apps.clock.now();
        let run = maintenance::handle(&self.functions.maintenance, Instant::now() + RUN);
        run.await.unwrap();
        self.world.maintain();
    }
}
