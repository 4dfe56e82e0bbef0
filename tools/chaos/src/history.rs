//! The history of a run as clients observed it: acknowledged uploads, and memberships with their ends.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use model::{EventId, FileChanged, FileId, Sequence, Sha256, SpaceId, UploadId, UserId, Version};
use parking_lot::Mutex;
use platform::Clock;
use time::OffsetDateTime;

/// An upload whose completion was answered with a 2xx.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acknowledged {
    pub(crate) upload_id: UploadId,
    /// The event that announces the change.
    pub(crate) event_id: EventId,
    /// The space that holds the file.
    pub(crate) space_id: SpaceId,
    /// The sequence number of the change in the space.
    pub(crate) sequence: Sequence,
    pub(crate) file_id: FileId,
    /// The version that the upload created.
    pub(crate) version: Version,
    /// The digest of the uploaded content.
    pub(crate) sha256: Sha256,
}

impl Acknowledged {
    /// Combines the response of a completion with the digest of the uploaded content.
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

/// Counters and times that all clients add to.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Uploads that were started.
    pub(crate) attempted: AtomicU64,
    /// Uploads that were refused for an expected reason, such as a version conflict.
    pub(crate) refused: AtomicU64,
    /// Changes that arrived in WebSocket frames.
    pub(crate) received: AtomicU64,
    /// Changes that devices read from the feed.
    pub(crate) pulled: AtomicU64,
    /// Changes in WebSocket frames that the device had already.
    pub(crate) duplicated: AtomicU64,
    latencies: Mutex<Vec<Duration>>,
    heard: Mutex<Vec<Duration>>,
}

impl Counts {
    /// Adds the time of a completion, including all its attempts.
    pub(crate) fn took(&self, latency: Duration) {
        let mut latencies = self.latencies.lock();
        latencies.push(latency);
    }

    /// Adds the time from the commit of a change to its arrival at a device.
    pub(crate) fn heard_after(&self, latency: Duration) {
        let mut heard = self.heard.lock();
        heard.push(latency);
    }

    /// Returns the notification times recorded since the last call, and clears them.
    pub(crate) fn take_heard(&self) -> Vec<Duration> {
        std::mem::take(&mut self.heard.lock())
    }

    /// Returns the completion times recorded since the last call, and clears them.
    pub(crate) fn take_latencies(&self) -> Vec<Duration> {
        std::mem::take(&mut self.latencies.lock())
    }
}

/// Adds `number` to a counter.
pub(crate) fn add(count: &AtomicU64, number: usize) {
    count.fetch_add(u64::try_from(number).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// A membership, by the end of it. It ends when the removal has been acknowledged; `None` while it lasts.
#[derive(Clone, Copy, Debug)]
struct Membership {
    until: Option<OffsetDateTime>,
}

/// Files that were erased permanently.
#[derive(Clone, Debug, Default)]
pub(crate) struct Erasures {
    /// Files whose erasure was requested.
    pub(crate) requested: HashSet<FileId>,
    /// Files whose erasure was answered with a 2xx.
    pub(crate) acknowledged: HashSet<FileId>,
}

/// The observations of all clients in a run.
#[derive(Default)]
pub(crate) struct History {
    pub(crate) counts: Counts,
    acknowledged: Mutex<Vec<Acknowledged>>,
    erasures: Mutex<Erasures>,
    memberships: Mutex<HashMap<(SpaceId, UserId), Vec<Membership>>>,
}

impl History {
    /// Adds an upload whose completion was acknowledged.
    pub(crate) fn acknowledge(&self, upload: Acknowledged) {
        self.acknowledged.lock().push(upload);
    }

    /// All acknowledged uploads.
    pub(crate) fn acknowledged(&self) -> Vec<Acknowledged> {
        self.acknowledged.lock().clone()
    }

    /// Records a request to erase a file. To be called before the request.
    pub(crate) fn erases(&self, file: FileId) {
        self.erasures.lock().requested.insert(file);
    }

    /// Records that an erasure was acknowledged.
    pub(crate) fn erased(&self, file: FileId) {
        self.erasures.lock().acknowledged.insert(file);
    }

    /// All erasures.
    pub(crate) fn erasures(&self) -> Erasures {
        self.erasures.lock().clone()
    }

    /// Records a membership. To be called before the request that adds the member.
    pub(crate) fn joins(&self, space: SpaceId, user: &UserId) {
        let mut memberships = self.memberships.lock();
        let own = memberships.entry((space, user.clone())).or_default();
        if own.last().is_none_or(|last| last.until.is_some()) {
            own.push(Membership { until: None });
        }
    }

    /// Records that a removal has just been acknowledged.
    pub(crate) fn left(&self, space: SpaceId, user: &UserId) {
        let now = Clock::system().now();
        let mut memberships = self.memberships.lock();
        let last = memberships
            .get_mut(&(space, user.clone()))
            .and_then(|own| own.last_mut());
        if let Some(last) = last {
            last.until = Some(now);
        }
    }

    /// Whether a user may be notified of a change made at `occurred_at`. Users who were never members may
    /// not, nor may users whose removal was acknowledged before the change.
    pub(crate) fn may_hear(&self, space: SpaceId, user: &UserId, occurred_at: OffsetDateTime) -> bool {
        let memberships = self.memberships.lock();
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
