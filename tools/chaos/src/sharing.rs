//! The workload's part about shared spaces and their members.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use model::{SpaceId, SpaceView};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::api::Call;
use super::workload::{User, Workload};

/// A shared space as the workload knows it.
pub(crate) struct Shared {
    /// Its id.
    pub(crate) id: SpaceId,
    owner: User,
    /// One change of members at a time, so that it is known who was a member when.
    changing: tokio::sync::Mutex<()>,
    /// Those who may write, all the time.
    pub(super) writers: Mutex<BTreeSet<usize>>,
    /// Those whose uploads may be refused, for their membership was ended or about to be.
    pub(super) maybe_removed: Mutex<BTreeSet<usize>>,
}

impl Workload {
    /// Makes another shared space, with a member or two.
    pub(super) async fn make_space(&self, random: &mut ChaCha8Rng) {
        let number = self.made.fetch_add(1, Ordering::SeqCst);
        let index = random.random_range(0..self.users.len());
        let owner = self.users[index].clone();
        let call = Call::new("POST /spaces")
            .key(format!("chaos-{}-space-{number}", self.seed))
            .body(json!({ "name": format!("Space {number}"), "deviceId": owner.device }));
        let Some(answer) = self.world.api.request(&owner.id, &call).await else {
            return;
        };
        let Some(view) = answer.parsed::<SpaceView>().filter(|_| answer.status == 201) else {
            self.world.api.wrong(&owner.id, &call, &answer);
            return;
        };
        self.world.history.joins(view.space_id, &owner.id);
        let shared = Arc::new(Shared {
            id: view.space_id,
            owner,
            changing: tokio::sync::Mutex::default(),
            writers: Mutex::new(BTreeSet::from([index])),
            maybe_removed: Mutex::default(),
        });
        for step in 1..=random.random_range(1..=2) {
            self.set_member(&shared, (index + step) % self.users.len(), "editor")
                .await;
        }
        self.spaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(shared);
    }

    /// Makes somebody a member of a space, or changes what a member may do.
    pub(super) async fn add_member(&self, random: &mut ChaCha8Rng) {
        if let Some(shared) = self.active_space(random) {
            let index = random.random_range(0..self.users.len());
            let role = if random.random_bool(0.5) {
                "editor"
            } else {
                "viewer"
            };
            if self.users[index].id != shared.owner.id {
                self.set_member(&shared, index, role).await;
            }
        }
    }

    async fn set_member(&self, shared: &Shared, index: usize, role: &str) {
        let _one = shared.changing.lock().await;
        let member = &self.users[index].id;
        let writes = role != "viewer";
        if !writes {
            shared.insecure_now(index);
        }
        self.world.history.joins(shared.id, member);
        let call = Call::new("PUT /spaces/{spaceId}/members/{userId}")
            .path("spaceId", &shared.id)
            .path("userId", member)
            .body(json!({ "role": role, "deviceId": shared.owner.device }));
        match self.world.api.request(&shared.owner.id, &call).await {
            Some(answer) if answer.status != 200 => self.world.api.wrong(&shared.owner.id, &call, &answer),
            Some(_) if writes => shared.writes_now(index),
            _ => {}
        }
    }

    /// Ends somebody's membership.
    pub(super) async fn remove_member(&self, random: &mut ChaCha8Rng) {
        let Some(shared) = self.active_space(random) else {
            return;
        };
        let _one = shared.changing.lock().await;
        let index = random.random_range(0..self.users.len());
        let member = &self.users[index].id;
        if *member == shared.owner.id {
            return;
        }
        shared.insecure_now(index);
        let call = Call::new("DELETE /spaces/{spaceId}/members/{userId}")
            .path("spaceId", &shared.id)
            .path("userId", member)
            .query(format!("deviceId={}", shared.owner.device));
        match self.world.api.request(&shared.owner.id, &call).await {
            Some(answer) if answer.status == 204 => self.world.history.left(shared.id, member),
            Some(answer) => self.world.api.wrong(&shared.owner.id, &call, &answer),
            None => {}
        }
    }
}

impl Shared {
    fn insecure_now(&self, index: usize) {
        self.maybe_removed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(index);
        self.writers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&index);
    }

    fn writes_now(&self, index: usize) {
        self.writers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(index);
    }
}
