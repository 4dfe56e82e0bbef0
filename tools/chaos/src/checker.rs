//! The checker: compares the history of acknowledged uploads with database, storage and queue, and with the
//! state of the devices.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use fakes::s3::Object;
use model::{DeviceId, EventId, FileId, UploadId, UserId, Version};

use super::database::Snapshot;
use super::functions::KEEP_VERSIONS;
use super::history::{Acknowledged, Erasures};
use super::replica::Replica;
use super::sqs::{POISON, event_ids};
use super::violations::Violations;

#[cfg(test)]
mod tests;

/// The state of a device at the end of a run.
#[derive(Clone)]
pub(crate) struct DeviceState {
    /// The owner of the device.
    pub(crate) user: UserId,
    pub(crate) device: DeviceId,
    /// Whether the device is connected and has pulled since it connected.
    pub(crate) listening: bool,
    /// The changes and files that the device knows.
    pub(crate) replica: Replica,
}

/// Everything that the checker compares.
#[derive(Clone)]
pub(crate) struct Evidence {
    /// Uploads whose completion was answered with a 2xx.
    pub(crate) acknowledged: Vec<Acknowledged>,
    /// Files that were erased permanently.
    pub(crate) erasures: Erasures,
    /// The content of the database at the end of the run.
    pub(crate) database: Snapshot,
    /// The objects in storage by key.
    pub(crate) objects: HashMap<String, Object>,
    /// Events that were sent to the queue at least once.
    pub(crate) sent_events: HashSet<EventId>,
    /// Events that the event bus took at least once.
    pub(crate) put_events: HashSet<EventId>,
    /// Bodies of the messages that are still in the queue, in any state.
    pub(crate) queue: Vec<Arc<str>>,
    /// Bodies of the messages in the dead-letter queue.
    pub(crate) dead_letters: Vec<Arc<str>>,
    /// Bodies of the messages that moved to the dead-letter queue after too many receives.
    pub(crate) exhausted: Vec<Arc<str>>,
    /// The poison messages, each with the maximum number of copies in the dead-letter queue.
    pub(crate) poison: HashMap<Arc<str>, usize>,
    /// The final state of each device.
    pub(crate) devices: Vec<DeviceState>,
}

impl Evidence {
    /// Adds every disagreement to `violations`.
    pub(crate) fn check(&self, violations: &Violations) {
        self.uploads(violations);
        self.versions(violations);
        self.purged(violations);
        self.members(violations);
        self.content(violations);
        self.numbers(violations);
        self.bytes(violations);
        self.check_sent_events(violations);
        self.check_put_events(violations);
        self.dead_letters(violations);
        for device in &self.devices {
            self.device(device, violations);
        }
    }

    fn uploads(&self, violations: &Violations) {
        for upload in &self.acknowledged {
            let which = || {
                format!(
                    "upload {}, event {}, number {} of space {}",
                    upload.upload_id, upload.event_id, upload.sequence, upload.space_id
                )
            };
            let version = self.database.versions.get(&(upload.file_id, upload.version));
            match version {
                Some(version)
                    if version.object_key == upload.upload_id.object_key()
                        && version.sha256 == upload.sha256 => {}
                Some(_) => {
                    violations.lost("acknowledged upload whose version is another one's", which());
                    continue;
                }
                None if self.may_be_purged(upload.file_id, upload.version) => {}
                None => {
                    violations.lost("acknowledged upload without its version", which());
                    continue;
                }
            }
            let numbered = (upload.sequence.get(), upload.event_id);
            let changes = self.database.changes.get(&upload.space_id);
            let at = usize::try_from(upload.sequence.get() - 1).unwrap_or(usize::MAX);
            if changes.and_then(|changes| changes.get(at)) != Some(&numbered) {
                violations.lost("acknowledged upload without its change", which());
            }
        }
    }

    /// Whether a version may be purged: its file was erased, or has enough newer versions.
    fn may_be_purged(&self, file: FileId, version: Version) -> bool {
        let newest = self.database.newest.get(&file);
        self.erasures.requested.contains(&file) || newest.is_some_and(|newest| is_surplus(version, *newest))
    }

    /// Every version comes from a completed upload and one change, and every change left its version.
    fn versions(&self, violations: &Violations) {
        let database = &self.database;
        for ((file, version), content) in &database.versions {
            let which = || format!("version {version} of file {file}, {}", content.object_key);
            let upload = UploadId::of_object_key(&content.object_key);
            if upload.is_none_or(|upload| !database.completed_uploads.contains(&upload)) {
                violations.unexpected("version without a completed upload", which());
            }
            let changes = database.updates.get(&(*file, *version)).copied();
            if changes != Some(1) {
                violations.unexpected(
                    "version that is not of one change",
                    format!("{}: {} changes", which(), changes.unwrap_or_default()),
                );
            }
        }
        for (file, version) in database.updates.keys() {
            if !database.versions.contains_key(&(*file, *version)) && !self.may_be_purged(*file, *version) {
                violations.lost(
                    "change without its version",
                    format!("version {version} of file {file}"),
                );
            }
        }
        let named = database.named_objects();
        for upload in &database.completed_uploads {
            if !named.contains(upload.object_key().as_str()) {
                violations.unexpected("completed upload without a version", format!("upload {upload}"));
            }
        }
    }

    /// What was due to be purged is gone, from the database and from storage.
    fn purged(&self, violations: &Violations) {
        let database = &self.database;
        for file in &self.erasures.acknowledged {
            if database.newest.contains_key(file) {
                violations.unexpected("erased file that is not purged", format!("file {file}"));
            }
        }
        for (file, version) in database.versions.keys() {
            let newest = database.newest.get(file);
            if newest.is_none_or(|newest| is_surplus(*version, *newest)) {
                violations.unexpected(
                    "version that is not purged",
                    format!("version {version} of file {file}"),
                );
            }
        }
        let named = database.named_objects();
        for key in self.objects.keys() {
            let upload = UploadId::of_object_key(key);
            let is_expected = named.contains(key.as_str())
                || upload.is_some_and(|upload| database.other_uploads.contains(&upload));
            if !is_expected {
                violations.unexpected("object that no row names", key.as_str());
            }
        }
    }

    fn members(&self, violations: &Violations) {
        let idle = self.database.idle_member_changes;
        if idle > 0 {
            violations.unexpected("changes of members that change nothing", format!("{idle}"));
        }
    }

    fn content(&self, violations: &Violations) {
        for ((file, version), content) in &self.database.versions {
            let stored = self.objects.get(&content.object_key);
            let right = stored.is_some_and(|stored| {
                let sha256 = match stored.parts {
                    0 => content.sha256,
                    // All content has at most one part.
                    _ => client::sha256(content.sha256.as_bytes()),
                };
                stored.size == content.size && stored.sha256 == sha256
            });
            if !right {
                let what = if stored.is_some() {
                    "version whose object is another one"
                } else {
                    "version without its object"
                };
                violations.unexpected(
                    what,
                    format!("version {version} of file {file}, {}", content.object_key),
                );
            }
        }
    }

    fn numbers(&self, violations: &Violations) {
        for (space, last) in &self.database.last_sequences {
            let changes = self.database.changes.get(space).map_or(&[][..], Vec::as_slice);
            let wrong = (1..)
                .zip(changes)
                .find(|(number, (sequence, _))| number != sequence);
            if let Some((number, (sequence, event))) = wrong {
                violations.unexpected(
                    "gap in the numbers",
                    format!("event {event} of space {space} is {sequence} where {number} is due"),
                );
            }
            if i64::try_from(changes.len()) != Ok(*last) {
                violations.unexpected(
                    "last number that is not the number of changes",
                    format!("space {space}: {last}, {} changes", changes.len()),
                );
            }
        }
    }

    fn bytes(&self, violations: &Violations) {
        for (space, (counted, stored)) in &self.database.miscounted {
            violations.unexpected(
                "bytes of a space that are not the sum of its objects",
                format!("space {space}: {counted} counted, {stored} stored"),
            );
        }
    }

    fn check_sent_events(&self, violations: &Violations) {
        for body in &self.queue {
            violations.lost("message left in the queue", body.as_ref());
        }
        let texts = [
            "event left in the outbox",
            "change that was never sent",
            "event that was never committed",
        ];
        self.check_events(&self.database.outbox, &self.sent_events, texts, violations);
    }

    fn check_put_events(&self, violations: &Violations) {
        let texts = [
            "event that still waits for the event bus",
            "change that the event bus never got",
            "event on the bus that was never committed",
        ];
        self.check_events(&self.database.bus_outbox, &self.put_events, texts, violations);
    }

    /// Nothing waits, every change was taken, and nothing else was.
    fn check_events(
        &self,
        waiting: &[EventId],
        taken: &HashSet<EventId>,
        [left, never_taken, not_committed]: [&'static str; 3],
        violations: &Violations,
    ) {
        for event in waiting {
            violations.lost(left, format!("event {event}"));
        }
        let waiting: HashSet<EventId> = waiting.iter().copied().collect();
        let mut committed = HashSet::new();
        for (space, changes) in &self.database.changes {
            for (sequence, event) in changes {
                committed.insert(*event);
                if !taken.contains(event) && !waiting.contains(event) {
                    violations.lost(
                        never_taken,
                        format!("event {event}, number {sequence} of space {space}"),
                    );
                }
            }
        }
        for event in taken.difference(&committed) {
            violations.unexpected(not_committed, format!("event {event}"));
        }
    }

    fn dead_letters(&self, violations: &Violations) {
        for body in &self.exhausted {
            if !body.starts_with(POISON) {
                violations.unexpected("event received too often and set aside", body.as_ref());
            }
        }
        let mut copies: HashMap<&str, usize> = HashMap::new();
        for body in &self.dead_letters {
            if event_ids(body).is_empty() {
                *copies.entry(body).or_default() += 1;
            } else {
                violations.unexpected("event in the dead-letter queue", body.as_ref());
            }
        }
        for (body, most) in &self.poison {
            let found = copies.get(body.as_ref()).copied().unwrap_or_default();
            if found == 0 {
                violations.unexpected("poison message that was not set aside", body.as_ref());
            } else if found > *most {
                violations.unexpected(
                    "poison message set aside more often than it was received",
                    format!("{body}: {found} times"),
                );
            }
        }
    }

    fn device(&self, device: &DeviceState, violations: &Violations) {
        let DeviceState { user, device: id, .. } = device;
        if !device.listening {
            violations.unexpected("device that does not connect", format!("device {id} of {user}"));
            return;
        }
        for (space, changes) in &self.database.changes {
            if !self.database.members.contains(&(*space, user.clone())) {
                continue;
            }
            let known = device.replica.cursor(*space).unwrap_or_default();
            for (sequence, event) in changes.iter().skip(known) {
                violations.lost(
                    "change that a connected device has not heard of",
                    format!("event {event}, number {sequence} of space {space}, device {id} of {user}"),
                );
            }
        }
        for (space, feed) in &device.replica.spaces {
            let which = || format!("space {space}, device {id} of {user}");
            if !self.database.members.contains(&(*space, user.clone())) {
                violations.unexpected("space that the user is no member of any more", which());
                continue;
            }
            let changes = self.database.changes.get(space).map_or(&[][..], Vec::as_slice);
            let invented = feed
                .events
                .iter()
                .enumerate()
                .find(|(at, event)| changes.get(*at).map(|(_, event)| event) != Some(event));
            if let Some((_, event)) = invented {
                violations.unexpected(
                    "change that is not in the database",
                    format!("event {event}, {}", which()),
                );
            }
            // A device that has not yet received all changes is reported elsewhere, so only complete feeds
            // are compared.
            let none = HashMap::new();
            let files = self.database.files.get(space).unwrap_or(&none);
            if feed.cursor() == changes.len() && feed.files != *files {
                let differs = feed
                    .files
                    .keys()
                    .chain(files.keys())
                    .find(|file| feed.files.get(file) != files.get(file));
                violations.unexpected(
                    "files that are not as in the database",
                    format!(
                        "file {}, {}",
                        differs.map_or_else(String::new, ToString::to_string),
                        which()
                    ),
                );
            }
        }
    }
}

/// Whether a file keeps enough newer versions.
fn is_surplus(version: Version, newest: Version) -> bool {
    version.get() < newest.get() - KEEP_VERSIONS
}
