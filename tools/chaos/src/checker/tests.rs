//! One test for each kind of violation, on evidence that agrees in everything else.

use model::{Change, FileState, Message};
use uuid::Uuid;

use super::*;
use crate::database::Content;
use crate::replica::FileSeen;
use crate::replica::tests::{event, file, space};

const MINE: u128 = 1;

fn updated() -> (FileState, model::Event) {
    let state = file(7, "/a", 1);
    let event = event(space(MINE), 1, Change::FileUpdated(state.clone()));
    (state, event)
}

/// Evidence of one upload by one user with one device, with nothing to find.
fn evidence() -> Evidence {
    let (state, event) = updated();
    let user: UserId = "alice".parse().unwrap();
    let upload_id = Uuid::from_u128(5).into();
    let mut replica = Replica::new(space(MINE));
    replica.hear(&event);
    let acknowledged = Acknowledged {
        upload_id,
        event_id: event.event_id,
        space_id: event.space_id,
        sequence: event.sequence,
        file_id: state.file_id,
        version: state.version,
        sha256: state.sha256,
    };
    let content = Content {
        object_key: upload_id.object_key(),
        size: state.size.get(),
        sha256: state.sha256,
    };
    let seen = FileSeen {
        path: state.path,
        version: state.version,
        sha256: state.sha256,
    };
    let object = Object {
        size: content.size,
        sha256: content.sha256,
        parts: 0,
    };
    Evidence {
        acknowledged: vec![acknowledged],
        erasures: Erasures::default(),
        objects: HashMap::from([(content.object_key.clone(), object)]),
        database: Snapshot {
            last_sequences: HashMap::from([(space(MINE), 1)]),
            members: HashSet::from([(space(MINE), user.clone())]),
            changes: HashMap::from([(space(MINE), vec![(1, event.event_id)])]),
            files: HashMap::from([(space(MINE), HashMap::from([(state.file_id, seen)]))]),
            versions: HashMap::from([((state.file_id, state.version), content)]),
            newest: HashMap::from([(state.file_id, state.version)]),
            updates: HashMap::from([((state.file_id, state.version), 1)]),
            completed_uploads: HashSet::from([upload_id]),
            other_uploads: HashSet::new(),
            miscounted: HashMap::new(),
            idle_member_changes: 0,
            outbox: Vec::new(),
            bus_outbox: Vec::new(),
        },
        sent_events: HashSet::from([event.event_id]),
        put_events: HashSet::from([event.event_id]),
        queue: Vec::new(),
        dead_letters: vec!["poison 1".into()],
        exhausted: Vec::new(),
        poison: HashMap::from([("poison 1".into(), 1)]),
        devices: vec![DeviceState {
            user,
            device: Uuid::from_u128(6).into(),
            listening: true,
            replica,
        }],
    }
}

/// The violations after `spoil` has changed the evidence.
fn found(spoil: impl FnOnce(&mut Evidence)) -> Vec<&'static str> {
    let mut evidence = evidence();
    spoil(&mut evidence);
    let violations = Violations::default();
    evidence.check(&violations);
    let kept = violations.kept();
    assert_eq!(violations.counts().0 + violations.counts().1, kept.len() as u64);
    kept.into_iter().map(|violation| violation.what).collect()
}

#[test]
fn books_that_agree_have_no_findings() {
    assert!(found(|_| ()).is_empty());
}

#[test]
fn an_upload_that_was_acknowledged_and_is_not_there_is_lost() {
    let lost = found(|evidence| evidence.database.versions.clear());
    assert!(
        lost.contains(&"acknowledged upload without its version"),
        "{lost:?}"
    );
    let lost = found(|evidence| evidence.acknowledged[0].sha256 = [9; 32].into());
    assert_eq!(lost, ["acknowledged upload whose version is another one's"]);
    let lost = found(|evidence| evidence.acknowledged[0].event_id = Uuid::from_u128(8).into());
    assert_eq!(lost, ["acknowledged upload without its change"]);
}

#[test]
fn a_change_that_a_connected_device_has_not_heard_of_is_lost() {
    let lost = found(|evidence| evidence.devices[0].replica = Replica::new(space(MINE)));
    assert_eq!(lost, ["change that a connected device has not heard of"]);
    let unexpected = found(|evidence| evidence.devices[0].listening = false);
    assert_eq!(unexpected, ["device that does not connect"]);
}

#[test]
fn what_is_left_on_its_way_or_was_never_sent_is_lost() {
    let (_, event) = updated();
    let lost = found(|evidence| evidence.database.outbox.push(event.event_id));
    assert_eq!(lost, ["event left in the outbox"]);
    let lost = found(|evidence| evidence.queue.push(Message::from(event).encode().unwrap().into()));
    assert_eq!(lost, ["message left in the queue"]);
    let lost = found(|evidence| evidence.sent_events.clear());
    assert_eq!(lost, ["change that was never sent"]);
}

#[test]
fn what_the_event_bus_never_got_is_lost() {
    let (_, event) = updated();
    let lost = found(|evidence| evidence.put_events.clear());
    assert_eq!(lost, ["change that the event bus never got"]);
    let lost = found(|evidence| {
        evidence.put_events.clear();
        evidence.database.bus_outbox.push(event.event_id);
    });
    assert_eq!(lost, ["event that still waits for the event bus"]);
    let unexpected = found(|evidence| {
        evidence.put_events.insert(Uuid::from_u128(8).into());
    });
    assert_eq!(unexpected, ["event on the bus that was never committed"]);
}

#[test]
fn bytes_that_are_not_the_sum_are_unexpected() {
    let unexpected = found(|books| {
        books.database.miscounted.insert(space(MINE), (2, 1));
    });
    assert_eq!(
        unexpected,
        ["bytes of a space that are not the sum of its objects"]
    );
}

#[test]
fn a_change_of_a_member_that_changes_nothing_is_unexpected() {
    let unexpected = found(|books| books.database.idle_member_changes = 1);
    assert_eq!(unexpected, ["changes of members that change nothing"]);
}

#[test]
fn an_event_without_a_change_is_unexpected() {
    let unexpected = found(|evidence| {
        evidence.sent_events.insert(Uuid::from_u128(8).into());
    });
    assert_eq!(unexpected, ["event that was never committed"]);
}

#[test]
fn a_view_of_something_else_is_unexpected() {
    let unexpected = found(|evidence| {
        let feed = evidence.devices[0].replica.spaces.get_mut(&space(MINE)).unwrap();
        feed.events[0] = Uuid::from_u128(8).into();
    });
    assert_eq!(unexpected, ["change that is not in the database"]);
    let unexpected = found(|evidence| {
        let feed = evidence.devices[0].replica.spaces.get_mut(&space(MINE)).unwrap();
        feed.files.clear();
    });
    assert_eq!(unexpected, ["files that are not as in the database"]);
    let unexpected = found(|evidence| {
        let spaces = &mut evidence.devices[0].replica.spaces;
        spaces.insert(space(2), crate::replica::Feed::default());
    });
    assert_eq!(unexpected, ["space that the user is no member of any more"]);
}

#[test]
fn numbers_with_a_gap_or_another_end_are_unexpected() {
    let unexpected = found(|evidence| {
        evidence.acknowledged.clear();
        let changes = evidence.database.changes.get_mut(&space(MINE)).unwrap();
        changes[0].0 = 2;
    });
    assert_eq!(unexpected, ["gap in the numbers"]);
    let unexpected = found(|evidence| {
        evidence.database.last_sequences.insert(space(MINE), 2);
    });
    assert_eq!(unexpected, ["last number that is not the number of changes"]);
}

#[test]
fn a_version_without_its_upload_or_its_change_is_unexpected() {
    let unexpected = found(|evidence| {
        evidence
            .database
            .updates
            .values_mut()
            .for_each(|changes| *changes = 2);
    });
    assert_eq!(unexpected, ["version that is not of one change"]);
    let unexpected = found(|evidence| evidence.database.completed_uploads.clear());
    assert_eq!(unexpected, ["version without a completed upload"]);
    let unexpected = found(|evidence| {
        let further = Uuid::from_u128(8).into();
        evidence.database.completed_uploads.insert(further);
    });
    assert_eq!(unexpected, ["completed upload without a version"]);
}

#[test]
fn only_versions_that_are_due_are_purged_and_all_of_them() {
    let purge = |evidence: &mut Evidence| {
        evidence.database.versions.clear();
        evidence.database.completed_uploads.clear();
        evidence.objects.clear();
    };
    let lost = found(purge);
    assert_eq!(
        lost,
        [
            "acknowledged upload without its version",
            "change without its version"
        ]
    );
    let newer = |evidence: &mut Evidence, by: i64| {
        let newest = evidence.database.newest.values_mut().next().unwrap();
        *newest = (newest.get() + by).try_into().unwrap();
    };
    let nothing = found(|evidence| {
        purge(evidence);
        newer(evidence, KEEP_VERSIONS + 1);
    });
    assert!(nothing.is_empty(), "{nothing:?}");
    let lost = found(|evidence| {
        purge(evidence);
        newer(evidence, KEEP_VERSIONS);
    });
    assert_eq!(lost.len(), 2);
    let unexpected = found(|evidence| newer(evidence, KEEP_VERSIONS + 1));
    assert_eq!(unexpected, ["version that is not purged"]);
}

#[test]
fn an_erased_file_is_gone_with_its_object() {
    let erase = |evidence: &mut Evidence| {
        let file = *evidence.database.newest.keys().next().unwrap();
        evidence.erasures.requested.insert(file);
        evidence.erasures.acknowledged.insert(file);
    };
    let unexpected = found(erase);
    assert_eq!(unexpected, ["erased file that is not purged"]);
    let unexpected = found(|evidence| {
        erase(evidence);
        evidence.database.newest.clear();
        evidence.database.versions.clear();
        evidence.database.completed_uploads.clear();
    });
    assert_eq!(unexpected, ["object that no row names"]);
}

#[test]
fn a_version_without_its_content_is_unexpected() {
    let unexpected = found(|evidence| evidence.objects.clear());
    assert_eq!(unexpected, ["version without its object"]);
    let unexpected = found(|evidence| {
        for object in evidence.objects.values_mut() {
            object.size += 1;
        }
    });
    assert_eq!(unexpected, ["version whose object is another one"]);
}

#[test]
fn events_in_the_dead_letter_queue_are_unexpected_and_poison_anywhere_else() {
    let (_, event) = updated();
    let message: Arc<str> = Message::from(event).encode().unwrap().into();
    let unexpected = found(|evidence| evidence.dead_letters.push(Arc::clone(&message)));
    assert_eq!(unexpected, ["event in the dead-letter queue"]);
    let unexpected = found(|evidence| evidence.exhausted.push(message));
    assert_eq!(unexpected, ["event received too often and set aside"]);
    let unexpected = found(|evidence| evidence.dead_letters.clear());
    assert_eq!(unexpected, ["poison message that was not set aside"]);
    let unexpected = found(|evidence| evidence.dead_letters.push("poison 1".into()));
    assert_eq!(
        unexpected,
        ["poison message set aside more often than it was received"]
    );
}
