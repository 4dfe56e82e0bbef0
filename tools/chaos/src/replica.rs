//! The local state of a device: for each space that it follows, the changes up to a sequence number and the
//! resulting files.

use std::collections::{BTreeMap, HashMap};

use model::{Change, Event, EventId, FileId, Sha256, SpaceId, SpacePath, Version};

/// A file with the fields that the checker compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileSeen {
    /// The path in the space.
    pub(crate) path: SpacePath,
    pub(crate) version: Version,
    /// The digest of this version.
    pub(crate) sha256: Sha256,
}

/// The changes of a space, from the first one without gaps, and the resulting files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Feed {
    /// The event of each change. The change with the sequence number n is at index n − 1.
    pub(crate) events: Vec<EventId>,
    /// The files that are not deleted.
    pub(crate) files: HashMap<FileId, FileSeen>,
}

impl Feed {
    /// The sequence number of the last change; 0 if there is none.
    pub(crate) fn cursor(&self) -> usize {
        self.events.len()
    }
}

/// The outcome of applying a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The change was the next one.
    Applied,
    /// The change was the next one and adds a space that the device must now follow.
    Joined(SpaceId),
    /// The device already has this change.
    Duplicate,
    /// The device has another event with the same sequence number.
    Conflict,
    /// Earlier changes are missing.
    Gap,
    /// The device does not follow the space of the change.
    Unknown,
}

/// The local state of a device.
#[derive(Clone, Debug)]
pub(crate) struct Replica {
    personal: SpaceId,
    /// The followed spaces.
    pub(crate) spaces: BTreeMap<SpaceId, Feed>,
}

impl Replica {
    /// A state that follows only the user's personal space and has no changes.
    pub(crate) fn new(personal: SpaceId) -> Self {
        Self {
            personal,
            spaces: BTreeMap::from([(personal, Feed::default())]),
        }
    }

    /// Applies a change if it is the next one in its space.
    pub(crate) fn hear(&mut self, event: &Event) -> Heard {
        let Some(feed) = self.spaces.get_mut(&event.space_id) else {
            return Heard::Unknown;
        };
        let number = usize::try_from(event.sequence.get()).unwrap_or(usize::MAX);
        if let Some(known) = feed.events.get(number - 1) {
            return if *known == event.event_id {
                Heard::Duplicate
            } else {
                Heard::Conflict
            };
        }
        if number != feed.cursor() + 1 {
            return Heard::Gap;
        }
        feed.events.push(event.event_id);
        match &event.change {
            Change::FileUpdated(file) | Change::FileMoved(file) => {
                let seen = FileSeen {
                    path: file.path.clone(),
                    version: file.version,
                    sha256: file.sha256,
                };
                feed.files.insert(file.file_id, seen);
            }
            Change::FileDeleted(file) => {
                feed.files.remove(&file.file_id);
            }
            Change::SpaceShared { subject_space_id, .. }
                if event.space_id == self.personal && !self.spaces.contains_key(subject_space_id) =>
            {
                self.spaces.insert(*subject_space_id, Feed::default());
                return Heard::Joined(*subject_space_id);
            }
            Change::SpaceLeft { subject_space_id } if event.space_id == self.personal => {
                self.spaces.remove(subject_space_id);
            }
            _ => {}
        }
        Heard::Applied
    }

    /// Stops following a space that the user can no longer access.
    pub(crate) fn forget(&mut self, space: SpaceId) {
        if space != self.personal {
            self.spaces.remove(&space);
        }
    }

    /// The sequence number of the last change of a space; `None` if the space is not followed.
    pub(crate) fn cursor(&self, space: SpaceId) -> Option<usize> {
        self.spaces.get(&space).map(Feed::cursor)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use model::FileState;
    use time::OffsetDateTime;
    use uuid::Uuid;

    use super::*;

    pub(crate) fn space(number: u128) -> SpaceId {
        Uuid::from_u128(number).into()
    }

    pub(crate) fn event(space_id: SpaceId, sequence: i64, change: Change) -> Event {
        let (high, _) = Uuid::from(space_id).as_u64_pair();
        let (_, low) = Uuid::from(space_id).as_u64_pair();
        let number = u128::from(high + low) * 1_000 + u128::try_from(sequence).unwrap();
        Event {
            sequence: sequence.try_into().unwrap(),
            event_id: Uuid::from_u128(number).into(),
            change,
            space_id,
            user_id: "alice".parse().unwrap(),
            user_name: None,
            device_id: None,
            occurred_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    pub(crate) fn file(number: u128, path: &str, version: i64) -> FileState {
        FileState {
            file_id: Uuid::from_u128(number).into(),
            path: path.parse().unwrap(),
            version: version.try_into().unwrap(),
            size: 1.try_into().unwrap(),
            sha256: [u8::try_from(version).unwrap(); 32].into(),
            modified_at: None,
            executable: None,
        }
    }

    #[test]
    fn the_next_number_applies_an_old_one_is_a_duplicate_and_a_jump_is_a_gap() {
        let mine = space(1);
        let mut replica = Replica::new(mine);
        let updated = |sequence| event(mine, sequence, Change::FileUpdated(file(7, "/a", sequence)));
        assert_eq!(replica.hear(&updated(1)), Heard::Applied);
        assert_eq!(replica.hear(&updated(1)), Heard::Duplicate);
        assert_eq!(replica.hear(&updated(3)), Heard::Gap);
        assert_eq!(replica.hear(&updated(2)), Heard::Applied);
        assert_eq!(
            replica.hear(&event(space(2), 1, updated(1).change)),
            Heard::Unknown
        );
        let mut other = updated(2);
        other.event_id = Uuid::from_u128(99).into();
        assert_eq!(replica.hear(&other), Heard::Conflict);
        assert_eq!(replica.cursor(mine), Some(2));
        let deleted = event(mine, 3, Change::FileDeleted(file(7, "/a", 2)));
        assert_eq!(replica.hear(&deleted), Heard::Applied);
        assert!(replica.spaces[&mine].files.is_empty());
    }

    #[test]
    fn the_personal_feed_says_which_spaces_to_follow() {
        let (mine, shared) = (space(1), space(2));
        let mut replica = Replica::new(mine);
        let joined = Change::SpaceShared {
            subject_space_id: shared,
            role: model::Role::Viewer,
        };
        assert_eq!(
            replica.hear(&event(mine, 1, joined.clone())),
            Heard::Joined(shared)
        );
        assert_eq!(replica.hear(&event(mine, 2, joined)), Heard::Applied);
        assert_eq!(replica.cursor(shared), Some(0));
        let left = Change::SpaceLeft {
            subject_space_id: shared,
        };
        assert_eq!(replica.hear(&event(mine, 3, left)), Heard::Applied);
        assert_eq!(replica.cursor(shared), None);
    }
}
