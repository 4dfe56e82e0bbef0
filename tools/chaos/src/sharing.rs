//! The part of the workload that creates shared spaces and changes their members.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::{InvitationView, SpaceId, SpaceView};
use parking_lot::Mutex;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::api::Call;
use super::workload::{User, Workload};

/// A shared space with the state that the workload needs.
pub(crate) struct Shared {
    pub(crate) id: SpaceId,
    owner: User,
    /// Serializes membership changes, so that the times of each membership are known.
    changing: tokio::sync::Mutex<()>,
    /// Indices of the users who may write at any time.
    pub(super) writers: Mutex<BTreeSet<usize>>,
    /// Indices of users whose uploads may be refused because their membership has ended or is about to end.
    pub(super) maybe_removed: Mutex<BTreeSet<usize>>,
}

impl Workload {
    /// Creates a shared space with one or two members.
    pub(super) async fn make_space(&self, random: &mut ChaCha8Rng) {
        let number = self.made.fetch_add(1, Ordering::SeqCst);
        let index = random.random_range(0..self.users.len());
        let owner = self.users[index].clone();
        let call = Call::new("POST /spaces")
            .key(format!("chaos-{}-space-{number}", self.seed))
            .body(json!({ "name": format!("Space {number}"), "deviceId": owner.device }));
        let Some(answer) = self.context.api.request(&owner.id, &call).await else {
            return;
        };
        let Some(view) = answer.parsed::<SpaceView>().filter(|_| answer.status == 201) else {
            self.context.api.wrong(&owner.id, &call, &answer);
            return;
        };
        self.context.history.joins(view.space_id, &owner.id);
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
        self.spaces.lock().push(shared);
    }

    /// Adds a member to a space, or changes the role of a member.
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
        self.context.history.joins(shared.id, member);
        let call = Call::new("PUT /spaces/{spaceId}/members/{userId}")
            .path("spaceId", &shared.id)
            .path("userId", member)
            .body(json!({ "role": role, "deviceId": shared.owner.device }));
        let done = match self.context.api.request(&shared.owner.id, &call).await {
            Some(answer) if answer.status == 404 => self.invite(shared, index, role).await,
            Some(answer) if answer.status != 200 => {
                self.context.api.wrong(&shared.owner.id, &call, &answer);
                false
            }
            answer => answer.is_some(),
        };
        if done && writes {
            shared.writes_now(index);
        }
    }

    /// Invites a user, who accepts twice, as a client does that has lost the first answer. Returns whether
    /// the user is a member for sure.
    async fn invite(&self, shared: &Shared, index: usize, role: &str) -> bool {
        let (api, user) = (&self.context.api, &self.users[index]);
        let call = Call::new("POST /spaces/{spaceId}/invitations")
            .path("spaceId", &shared.id)
            .body(json!({ "userId": user.id, "role": role, "deviceId": shared.owner.device }));
        let Some(answer) = api.request(&shared.owner.id, &call).await else {
            return false;
        };
        let Some(invitation) = answer.parsed::<InvitationView>().filter(|_| answer.status == 201) else {
            api.wrong(&shared.owner.id, &call, &answer);
            return false;
        };
        let call = Call::new("POST /invitations/{invitationId}/accept")
            .path("invitationId", &invitation.invitation_id)
            .body(json!({ "deviceId": user.device }));
        let mut accepted = false;
        for _ in 0..2 {
            match api.request(&user.id, &call).await {
                Some(answer) if answer.status != 200 => api.wrong(&user.id, &call, &answer),
                answer => accepted |= answer.is_some(),
            }
        }
        accepted
    }

    /// Removes a member from a space.
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
        match self.context.api.request(&shared.owner.id, &call).await {
            Some(answer) if answer.status == 204 => self.context.history.left(shared.id, member),
            Some(answer) => self.context.api.wrong(&shared.owner.id, &call, &answer),
            None => {}
        }
    }
}

impl Shared {
    fn insecure_now(&self, index: usize) {
        self.maybe_removed.lock().insert(index);
        self.writers.lock().remove(&index);
    }

    fn writes_now(&self, index: usize) {
        self.writers.lock().insert(index);
    }
}
