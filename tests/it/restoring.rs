//! The client's calls that bring files, versions and spaces back, and that erase files and accounts, against
//! the deployed stack.

use std::ops::ControlFlow;

use client::{Client, Error, Invited, Problem};
use model::{DeletedFileView, FileChanged, Role, SpaceId, SpacePath};
use tests::{Proxy, new_user, stack, subject};
use tokio_postgres::NoTls;

struct Person {
    device: Client,
    id: model::UserId,
}

impl Person {
    /// A user whose personal space exists.
    async fn new(proxy: &Proxy) -> Self {
        let (_, token) = new_user().await;
        let id = subject(&token).parse().unwrap();
        let device = proxy.device(token);
        device.all_spaces().await.unwrap();
        Self { device, id }
    }

    async fn upload(&self, space: Option<SpaceId>, path: &str, content: &'static str) -> FileChanged {
        let uploading = self
            .device
            .upload(space, path.parse().unwrap(), content.as_bytes());
        uploading.await.unwrap()
    }

    async fn trash(&self, space: Option<SpaceId>) -> Vec<DeletedFileView> {
        let mut found = Vec::new();
        let listing = self.device.list_trash(space, |files| {
            found.extend(files);
            Ok::<_, Error>(ControlFlow::Continue(()))
        });
        listing.await.unwrap();
        found
    }

    /// Creates a space with another member.
    async fn space_with(&self, name: &str, other: &Self, role: Role) -> SpaceId {
        let key = platform::ids::new_id().to_string().parse().unwrap();
        let space = self.device.create_space(name.parse().unwrap(), &key).await;
        let space_id = space.unwrap().space_id;
        let invited = Invited::User(other.id.clone());
        let invitation = self.device.invite(space_id, invited, role).await.unwrap();
        let accepting = other.device.accept_invitation(invitation.invitation_id);
        accepting.await.unwrap();
        space_id
    }
}

fn path(text: &str) -> SpacePath {
    text.parse().unwrap()
}

/// The problem of a refused call.
fn problem<T: std::fmt::Debug>(answer: Result<T, Error>) -> Problem {
    match answer {
        Err(Error::Refused(problem)) => *problem,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_deleted_file_is_found_in_the_trash_and_restored_beside_the_one_that_took_its_path() {
    let proxy = Proxy::start().await;
    let alice = Person::new(&proxy).await;
    let one = alice.upload(None, "/a", "one").await;
    alice.device.delete_file(one.file_id, None, None).await.unwrap();
    let two = alice.upload(None, "/a", "two").await;
    alice.device.delete_file(two.file_id, None, None).await.unwrap();
    let trash = alice.trash(None).await;
    assert_eq!(trash.len(), 2);
    assert_eq!(trash[0].deleted_by.as_ref(), Some(&alice.id));
    assert!(trash[0].purged_at > trash[0].deleted_at);

    let found = alice
        .device
        .find_deleted(None, &path("/a"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.file.file_id, two.file_id);
    assert_eq!(alice.device.find_deleted(None, &path("/b")).await.unwrap(), None);
    let restored = alice.device.restore_file(two.file_id, None).await.unwrap();
    assert_eq!((restored.path.as_str(), restored.version.get()), ("/a", 1));
    // A repeated call finds its own change.
    let again = alice.device.restore_file(two.file_id, None).await.unwrap();
    assert_eq!(again.event_id, restored.event_id);

    let taken = problem(alice.device.restore_file(one.file_id, None).await);
    assert_eq!((taken.status, &*taken.code), (409, "path-taken"));
    assert_eq!(taken.current.unwrap().path.unwrap().as_str(), "/a");
    let beside = alice.device.restore_file(one.file_id, Some(path("/b"))).await;
    assert_eq!(beside.unwrap().path.as_str(), "/b");
    assert!(alice.trash(None).await.is_empty());
}

/// The trash is ordered by time, so a file may be on any page.
#[tokio::test]
async fn a_file_below_a_thousand_others_is_found_in_the_trash() {
    let proxy = Proxy::start().await;
    let alice = Person::new(&proxy).await;
    let deep = alice.upload(None, "/deep", "deep").await;
    alice.device.delete_file(deep.file_id, None, None).await.unwrap();
    let (database, connection) = tokio_postgres::connect(&stack().database_url, NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let many = format!(
        "WITH f AS (
            INSERT INTO files (id, space_id, path, version, created_at, deleted_at, deleted_by)
            SELECT gen_random_uuid(), '{0}', '/f' || i, 1, now(), now() + interval '1 minute', '{1}'
            FROM generate_series(1, 1000) i
            RETURNING id
        )
        INSERT INTO versions (file_id, version, size, sha256, object_key, user_id, created_at)
        SELECT id, 1, 0, sha256('x'), 'objects/' || id, '{1}', now() FROM f",
        deep.space_id, alice.id
    );
    database.batch_execute(&many).await.unwrap();
    assert_eq!(alice.trash(None).await.len(), 1001);
    let found = alice.device.find_deleted(None, &path("/deep")).await.unwrap();
    assert_eq!(found.unwrap().file.file_id, deep.file_id);
}

#[tokio::test]
async fn an_old_version_becomes_the_newest_unless_the_file_has_changed() {
    let proxy = Proxy::start().await;
    let alice = Person::new(&proxy).await;
    let one = alice.upload(None, "/a", "one").await;
    let two = alice.upload(None, "/a", "two").await;
    let device = &alice.device;
    let stale = device.restore_version(one.file_id, one.version, Some(one.version));
    assert_eq!(problem(stale.await).code, "version-conflict");
    let restoring = device.restore_version(one.file_id, one.version, Some(two.version));
    let restored = restoring.await.unwrap();
    assert_eq!((restored.version.get(), restored.sha256), (3, one.sha256));
    let again = device.restore_version(one.file_id, one.version, Some(two.version));
    assert_eq!(again.await.unwrap().event_id, restored.event_id);
    let missing = device.restore_version(one.file_id, 9.try_into().unwrap(), None);
    assert_eq!(problem(missing.await).code, "not-found");
    let (_, versions) = device.show_file(one.file_id).await.unwrap();
    assert_eq!(versions.len(), 3);
}

#[tokio::test]
async fn only_owners_erase_files_and_nothing_brings_them_back() {
    let proxy = Proxy::start().await;
    let (alice, bob) = (Person::new(&proxy).await, Person::new(&proxy).await);
    let space = alice.space_with("Team", &bob, Role::Editor).await;
    let there = bob.upload(Some(space), "/there", "there").await;
    let thrown = bob.upload(Some(space), "/thrown", "thrown").await;
    bob.device.delete_file(thrown.file_id, None, None).await.unwrap();
    let refused = bob.device.erase_file(thrown.file_id, None, None).await;
    assert_eq!(problem(refused).code, "forbidden");
    let elsewhere = path("/elsewhere");
    let stale = alice.device.erase_file(there.file_id, None, Some(&elsewhere));
    assert_eq!(problem(stale.await).code, "version-conflict");
    for file in [&there, &thrown] {
        let erasing = alice
            .device
            .erase_file(file.file_id, Some(file.version), Some(&file.path));
        let erased = erasing.await.unwrap();
        assert_eq!(erased.file_id, file.file_id);
        let restoring = alice.device.restore_file(file.file_id, None).await;
        assert_eq!(problem(restoring).code, "not-found");
    }
    assert!(alice.trash(Some(space)).await.is_empty());
}

#[tokio::test]
async fn owners_restore_a_deleted_space() {
    let proxy = Proxy::start().await;
    let (alice, bob) = (Person::new(&proxy).await, Person::new(&proxy).await);
    let space = alice.space_with("Team", &bob, Role::Editor).await;
    alice.device.delete_space(space).await.unwrap();
    let deleted = alice.device.deleted_spaces().await.unwrap();
    assert_eq!(deleted.len(), 1);
    assert_eq!(deleted[0].space.space_id, space);
    assert!(bob.device.deleted_spaces().await.unwrap().is_empty());
    assert_eq!(problem(bob.device.restore_space(space).await).code, "not-found");
    alice.device.restore_space(space).await.unwrap();
    // Repeating it has no further effect.
    let restored = alice.device.restore_space(space).await.unwrap();
    assert_eq!(restored.space_id, space);
    assert_eq!(bob.device.all_members(space).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_blocked_inviter_is_not_heard_of_again() {
    let proxy = Proxy::start().await;
    let (alice, bob) = (Person::new(&proxy).await, Person::new(&proxy).await);
    let key = platform::ids::new_id().to_string().parse().unwrap();
    let space = alice.device.create_space("Team".parse().unwrap(), &key).await;
    let space = space.unwrap().space_id;
    let invite = async || {
        let invited = Invited::User(bob.id.clone());
        alice.device.invite(space, invited, Role::Viewer).await.unwrap()
    };
    let invitation = invite().await.invitation_id;
    bob.device.decline_invitation(invitation, false).await.unwrap();
    let invitation = invite().await.invitation_id;
    assert_eq!(bob.device.received_invitations().await.unwrap().len(), 1);
    for _ in 0..2 {
        bob.device.decline_invitation(invitation, true).await.unwrap();
    }
    invite().await;
    assert!(bob.device.received_invitations().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_account_is_erased_once_its_spaces_have_other_owners() {
    let proxy = Proxy::start().await;
    let (alice, bob) = (Person::new(&proxy).await, Person::new(&proxy).await);
    let space = alice.space_with("Team", &bob, Role::Editor).await;
    let refused = problem(alice.device.erase_account().await);
    assert_eq!((refused.status, &*refused.code), (409, "last-owner"));
    assert_eq!(refused.space_ids, [space]);
    assert_eq!(alice.device.profile().await.unwrap().user_id, alice.id);
    let owner = alice
        .device
        .set_member(space, &bob.id, Role::Owner)
        .await
        .unwrap();
    assert_eq!(owner.role, Role::Owner);
    for _ in 0..2 {
        alice.device.erase_account().await.unwrap();
    }
    let refused = problem(alice.device.all_spaces().await);
    assert_eq!((refused.status, &*refused.code), (403, "account-erased"));
    assert_eq!(bob.device.all_members(space).await.unwrap().len(), 1);
}
