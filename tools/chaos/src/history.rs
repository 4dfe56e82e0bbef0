//! What clients know for certain: which uploads were acknowledged, and who was a member of what, and when.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use model::{EventId, FileChanged, FileId, Sequence, Sha256, SpaceId, UploadId, UserId, Version};
use platform::Clock;
use time::OffsetDateTime;

/// An upload whose completion was answered with a 2xx.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acknowledged {
    /// The upload.
    pub(crate) upload_id: UploadId,
    /// Its event.
    pub(crate) event_id: EventId,
    /// Where it went.
    pub(crate) space_id: SpaceId,
    /// The number of its change.
    pub(crate) sequence: Sequence,
    /// Its file.
    pub(crate) file_id: FileId,
    /// The version that it became.
    pub(crate) version: Version,
    /// What was uploaded.
    pub(crate) sha256: Sha256,
}

impl Acknowledged {
    /// What the answer said of an upload of this content.
    pub(crate) fn new(upload_id: UploadId, sha256: Sha256, answer: &FileChanged) -> Self {
        Self {
            upload_id,
            event_id: answer.event_id,
            space_id: answer.space_id,
            sequence: answer.sequence,
            file_id: answer.file_id,
            version: answer.version,
            sha256,
        }
    }
}

/// Counts that everybody adds to.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Uploads begun.
    pub(crate) attempted: AtomicU64,
    /// Uploads that were refused for a reason, such as a version conflict.
    pub(crate) refused: AtomicU64,
    /// Changes in frames.
    pub(crate) received: AtomicU64,
    /// Changes in pages of the feed.
    pub(crate) pulled: AtomicU64,
    /// Changes in frames that the device knew already.
    pub(crate) duplicated: AtomicU64,
    latencies: Mutex<Vec<Duration>>,
    heard: Mutex<Vec<Duration>>,
}

impl Counts {
    /// Adds how long a completion took, with all its attempts.
    pub(crate) fn took(&self, latency: Duration) {
        let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        latencies.push(latency);
    }

    /// Adds how long a device waited for a change from its commit.
    pub(crate) fn heard_after(&self, latency: Duration) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.push(latency);
    }

    /// Takes out how long devices waited.
    pub(crate) fn take_heard(&self) -> Vec<Duration> {
        std::mem::take(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes out how long completions took.
    pub(crate) fn take_latencies(&self) -> Vec<Duration> {
        std::mem::take(&mut self.latencies.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Adds to a count.
pub(crate) fn add(count: &AtomicU64, number: usize) {
    count.fetch_add(u64::try_from(number).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// Since when somebody is a member of a space, and until when: from before the request that began it to after the one that
/// ended it.
#[derive(Clone, Copy, Debug)]
struct Membership {
    until: Option<OffsetDateTime>,
}

/// The history of a run.
#[derive(Default)]
pub(crate) struct History {
    /// Counts.
    pub(crate) counts: Counts,
    acknowledged: Mutex<Vec<Acknowledged>>,
    memberships: Mutex<HashMap<(SpaceId, UserId), Vec<Membership>>>,
}

impl History {
    /// Adds an upload.
    pub(crate) fn acknowledge(&self, upload: Acknowledged) {
        self.acknowledged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(upload);
    }

    /// All uploads that were acknowledged.
    pub(crate) fn acknowledged(&self) -> Vec<Acknowledged> {
        self.acknowledged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Somebody is about to become a member.
    pub(crate) fn joins(&self, space: SpaceId, user: &UserId) {
        let mut memberships = self.memberships.lock().unwrap_or_else(PoisonError::into_inner);
        let own = memberships.entry((space, user.clone())).or_default();
        if own.last().is_none_or(|last| last.until.is_some()) {
            own.push(Membership { until: None });
        }
    }

    /// Somebody's removal was acknowledged just now.
    pub(crate) fn left(&self, space: SpaceId, user: &UserId) {
        let now = Clock::system().now();
        let mut memberships = self.memberships.lock().unwrap_or_else(PoisonError::into_inner);
        let last = memberships
            .get_mut(&(space, user.clone()))
            .and_then(|own| own.last_mut());
        if let Some(last) = last {
            last.until = Some(now);
        }
    }

    /// Whether a user may hear of a change that was made then: not who never was a member, nor of what was made after the
    /// user's removal was acknowledged.
    pub(crate) fn may_hear(&self, space: SpaceId, user: &UserId, occurred_at: OffsetDateTime) -> bool {
        let memberships = self.memberships.lock().unwrap_or_else(PoisonError::into_inner);
        memberships.get(&(space, user.clone())).is_some_and(|own| {
            own.iter()
                .any(|membership| membership.until.is_none_or(|until| occurred_at <= until))
        })
    }
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::super::replica::tests::space;
    use super::*;

    #[test]
    fn nobody_hears_of_what_came_after_the_removal_unless_a_member_again() {
        let history = History::default();
        let alice: UserId = "alice".parse().unwrap();
        let long_ago = OffsetDateTime::UNIX_EPOCH;
        assert!(!history.may_hear(space(1), &alice, long_ago));
        history.joins(space(1), &alice);
        let soon = Clock::system().now() + Duration::hours(1);
        assert!(history.may_hear(space(1), &alice, soon));
        history.left(space(1), &alice);
        assert!(history.may_hear(space(1), &alice, long_ago));
        assert!(!history.may_hear(space(1), &alice, soon));
        history.joins(space(1), &alice);
        assert!(history.may_hear(space(1), &alice, soon));
    }
}
