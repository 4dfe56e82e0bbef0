//! Invitations to shared spaces: nobody becomes a member without accepting.

use futures_util::future::join_all;
use model::{
    Change, INVITATION_LIFETIME, InvitationId, InvitationList, InvitationView, MemberView,
    ReceivedInvitation, ReceivedInvitationList, Role, SpaceId,
};
use serde_json::{Value, json};
use tests::{Answer, Call, TestContext};

const BOBS: (&str, &str) = ("email", "Bob@Example.com");
const VERIFIED: (&str, &str) = ("email_verified", "true");

async fn invite(apps: &TestContext, owner: &str, space: SpaceId, body: Value) -> Answer {
    let call = Call::new("POST /spaces/{spaceId}/invitations").path("spaceId", space);
    apps.call(owner, call.body(body)).await
}

async fn invited(apps: &TestContext, space: SpaceId, body: Value) -> InvitationView {
    let answer = invite(apps, "alice", space, body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.parsed()
}

async fn pending(apps: &TestContext, owner: &str, space: SpaceId) -> Vec<InvitationView> {
    let call = Call::new("GET /spaces/{spaceId}/invitations").path("spaceId", space);
    apps.call(owner, call)
        .await
        .parsed::<InvitationList>()
        .invitations
}

fn with_claims(call: Call, claims: &[(&'static str, &'static str)]) -> Call {
    let claims = claims.iter();
    claims.fold(call, |call, (name, value)| call.claim(name, value))
}

async fn received(
    apps: &TestContext,
    user: &str,
    claims: &[(&'static str, &'static str)],
) -> Vec<ReceivedInvitation> {
    let call = with_claims(Call::new("GET /invitations"), claims);
    apps.call(user, call)
        .await
        .parsed::<ReceivedInvitationList>()
        .invitations
}

fn answer(route: &'static str, id: InvitationId) -> Call {
    Call::new(route).path("invitationId", id)
}

const ACCEPT: &str = "POST /invitations/{invitationId}/accept";
const DECLINE: &str = "POST /invitations/{invitationId}/decline";

async fn withdraw(apps: &TestContext, user: &str, space: SpaceId, id: InvitationId) -> Answer {
    let call = Call::new("DELETE /spaces/{spaceId}/invitations/{invitationId}");
    let call = call.path("spaceId", space).path("invitationId", id);
    apps.call(user, call).await
}

async fn changes(apps: &TestContext, user: &str, space: Option<SpaceId>) -> Vec<Change> {
    let feed = apps.feed(user, space).await;
    feed.changes.into_iter().map(|change| change.change).collect()
}

/// A space of alice, and bob, who has used the service.
async fn space(apps: &TestContext) -> SpaceId {
    let space = apps.space("alice").await;
    apps.known("bob").await;
    apps.queue.drain().await;
    space
}

#[tokio::test]
async fn an_invitation_is_told_and_only_accepting_it_makes_a_member_once() {
    let apps = TestContext::create().await;
    let space = space(&apps).await;
    let body = json!({ "userId": "bob", "role": "editor" });
    let made = invited(&apps, space, body.clone()).await;
    assert_eq!(invited(&apps, space, body).await, made);
    assert_eq!(pending(&apps, "alice", space).await, std::slice::from_ref(&made));
    let told = Change::SpaceInvited {
        subject_space_id: space,
        role: Role::Editor,
    };
    assert_eq!(changes(&apps, "bob", None).await, std::slice::from_ref(&told));
    let seen = received(&apps, "bob", &[]).await;
    assert_eq!(seen.len(), 1);
    assert_eq!(
        (
            seen[0].space_id,
            seen[0].space_name.as_str(),
            seen[0].role,
            seen[0].inviter_id.as_str()
        ),
        (space, "Shared", Role::Editor, "alice")
    );
    assert_eq!(seen[0].expires_at, apps.clock.now() + INVITATION_LIFETIME);
    // Until then bob has no access.
    let feed = || Call::new("GET /changes").query("spaceId", space);
    assert_eq!(apps.call("bob", feed()).await.problem(), (404, "not-found"));

    let answers = join_all((0..32).map(|_| apps.accept("bob", made.invitation_id))).await;
    for answer in &answers {
        assert_eq!((answer.status, answer), (200, &answers[0]));
    }
    let member: MemberView = answers[0].parsed();
    assert_eq!((member.user_id.as_str(), member.role), ("bob", Role::Editor));
    let shared = Change::SpaceShared {
        subject_space_id: space,
        role: Role::Editor,
    };
    assert_eq!(changes(&apps, "bob", None).await, [told, shared]);
    let changed = Change::MemberChanged {
        member_id: "bob".parse().unwrap(),
        role: Role::Editor,
    };
    assert_eq!(changes(&apps, "alice", Some(space)).await, [changed]);
    assert_eq!(apps.queue.events().await.len(), 3);
    assert!(pending(&apps, "alice", space).await.is_empty());
    assert!(received(&apps, "bob", &[]).await.is_empty());
    // It is no key to come back with.
    apps.unshare("alice", space, "bob").await;
    assert_eq!(
        apps.accept("bob", made.invitation_id).await.problem(),
        (404, "not-found")
    );
    assert_eq!(
        withdraw(&apps, "alice", space, made.invitation_id).await.status,
        404
    );
}

#[tokio::test]
async fn an_invitation_to_an_address_waits_for_the_account_that_proves_it() {
    let apps = TestContext::create().await;
    let space = apps.space("alice").await;
    let made = invited(
        &apps,
        space,
        json!({ "email": "bob@EXAMPLE.com", "role": "viewer" }),
    )
    .await;
    assert_eq!(
        (made.email.unwrap().as_str(), made.user_id),
        ("bob@example.com", None)
    );
    assert_eq!(apps.database.number("SELECT count(*) FROM changes").await, 1);
    // Neither another user nor an address that is not verified sees it.
    for (user, claims) in [
        ("mallory", &[][..]),
        ("mallory", &[BOBS][..]),
        ("mallory", &[BOBS, ("email_verified", "false")][..]),
    ] {
        assert!(received(&apps, user, claims).await.is_empty());
        for route in [ACCEPT, DECLINE] {
            let call = with_claims(answer(route, made.invitation_id), claims);
            assert_eq!(apps.call(user, call).await.problem(), (404, "not-found"));
        }
    }
    let bobs = received(&apps, "bob", &[BOBS, VERIFIED]).await;
    assert_eq!(bobs[0].invitation_id, made.invitation_id);
    let accept = with_claims(answer(ACCEPT, made.invitation_id), &[BOBS, VERIFIED]);
    assert_eq!(apps.call("bob", accept).await.status, 200);
    assert_eq!(changes(&apps, "bob", Some(space)).await.len(), 1);
}

#[tokio::test]
async fn an_account_hears_of_an_invitation_to_its_address_and_may_have_one_of_each_kind() {
    let apps = TestContext::create().await;
    let space = space(&apps).await;
    let list = with_claims(Call::new("GET /spaces"), &[BOBS, VERIFIED]);
    apps.call("bob", list).await;
    let by_address = invited(
        &apps,
        space,
        json!({ "email": "bob@example.com", "role": "viewer" }),
    )
    .await;
    assert_eq!(changes(&apps, "bob", None).await.len(), 1);
    // An owner does not learn whose address it is: the invitation by user id is another one.
    let by_id = invited(&apps, space, json!({ "userId": "bob", "role": "editor" })).await;
    assert_ne!(by_address.invitation_id, by_id.invitation_id);
    let accept = with_claims(answer(ACCEPT, by_id.invitation_id), &[BOBS, VERIFIED]);
    assert_eq!(apps.call("bob", accept).await.status, 200);
    // Accepting one accepts both.
    assert!(received(&apps, "bob", &[BOBS, VERIFIED]).await.is_empty());
    assert!(pending(&apps, "alice", space).await.is_empty());
    for body in [
        json!({ "userId": "bob", "role": "owner" }),
        json!({ "email": "bob@example.com", "role": "owner" }),
    ] {
        assert_eq!(
            invite(&apps, "alice", space, body).await.problem(),
            (409, "already-member")
        );
    }
}

#[tokio::test]
async fn who_may_invite_whom() {
    let apps = TestContext::create().await;
    let space = space(&apps).await;
    apps.share("alice", space, "edith", "editor").await;
    let bob = || json!({ "userId": "bob", "role": "viewer" });
    assert_eq!(
        invite(&apps, "edith", space, bob()).await.problem(),
        (403, "forbidden")
    );
    assert_eq!(
        invite(&apps, "mallory", space, bob()).await.problem(),
        (404, "not-found")
    );
    let unknown = json!({ "userId": "nobody", "role": "viewer" });
    assert_eq!(
        invite(&apps, "alice", space, unknown).await.problem(),
        (422, "unknown-user")
    );
    for wrong in [
        json!({ "role": "viewer" }),
        json!({ "userId": "bob", "email": "bob@example.com", "role": "viewer" }),
        json!({ "email": "bob", "role": "viewer" }),
        json!({ "userId": "bob", "role": "king" }),
    ] {
        assert_eq!(
            invite(&apps, "alice", space, wrong).await.problem(),
            (400, "invalid-request")
        );
    }
    let personal = apps.upload("alice", "/a", b"x").await.space_id;
    assert_eq!(
        invite(&apps, "alice", personal, bob()).await.problem(),
        (403, "personal-space")
    );
    // Only owners see and withdraw invitations.
    let made = invited(&apps, space, bob()).await;
    for (user, problem) in [("edith", (403, "forbidden")), ("mallory", (404, "not-found"))] {
        let list = Call::new("GET /spaces/{spaceId}/invitations").path("spaceId", space);
        assert_eq!(apps.call(user, list).await.problem(), problem);
        assert_eq!(
            withdraw(&apps, user, space, made.invitation_id).await.problem(),
            problem
        );
    }
    for _ in 0..2 {
        assert_eq!(
            withdraw(&apps, "alice", space, made.invitation_id).await.status,
            204
        );
    }
    assert_eq!(
        apps.accept("bob", made.invitation_id).await.problem(),
        (404, "not-found")
    );
    // An invitation of another space is not there.
    let other = apps.space("alice").await;
    let made = invited(&apps, space, bob()).await;
    assert_eq!(
        withdraw(&apps, "alice", other, made.invitation_id).await.status,
        404
    );
}

#[tokio::test]
async fn a_pending_invitation_takes_another_role_and_a_declined_one_is_gone() {
    let apps = TestContext::create().await;
    let space = space(&apps).await;
    let one = invited(&apps, space, json!({ "userId": "bob", "role": "viewer" })).await;
    let other = invited(&apps, space, json!({ "userId": "bob", "role": "owner" })).await;
    assert_eq!(
        (one.invitation_id, other.role),
        (other.invitation_id, Role::Owner)
    );
    assert_eq!(changes(&apps, "bob", None).await.len(), 2);
    for _ in 0..2 {
        assert_eq!(
            apps.call("bob", answer(DECLINE, one.invitation_id)).await.status,
            204
        );
    }
    assert!(pending(&apps, "alice", space).await.is_empty());
    assert_eq!(
        apps.accept("bob", one.invitation_id).await.problem(),
        (404, "not-found")
    );
    // Declining is no block: alice may ask again.
    let again = invited(&apps, space, json!({ "userId": "bob", "role": "viewer" })).await;
    assert_ne!(again.invitation_id, one.invitation_id);
    assert_eq!(
        apps.accept("bob", again.invitation_id).await.body["role"],
        "viewer"
    );
}

#[tokio::test]
async fn a_refused_inviter_sees_pending_invitations_that_nobody_gets() {
    let apps = TestContext::create().await;
    let space = space(&apps).await;
    apps.share("alice", space, "olga", "owner").await;
    let body = || json!({ "userId": "bob", "role": "viewer" });
    let made = invited(&apps, space, body()).await;
    let decline = answer(DECLINE, made.invitation_id).body(json!({ "block": true }));
    assert_eq!(apps.call("bob", decline).await.status, 204);
    let before = changes(&apps, "bob", None).await.len();
    // For alice it is like any other invitation.
    let hidden = invited(&apps, space, body()).await;
    assert_eq!(
        pending(&apps, "alice", space).await,
        std::slice::from_ref(&hidden)
    );
    assert_eq!(invited(&apps, space, body()).await, hidden);
    assert!(received(&apps, "bob", &[]).await.is_empty());
    assert_eq!(changes(&apps, "bob", None).await.len(), before);
    assert_eq!(
        apps.accept("bob", hidden.invitation_id).await.problem(),
        (404, "not-found")
    );
    // Other owners' invitations arrive, and alice cannot hide them.
    let shown: InvitationView = invite(&apps, "olga", space, body()).await.parsed();
    assert_eq!(received(&apps, "bob", &[]).await[0].inviter_id.as_str(), "olga");
    let changed = json!({ "userId": "bob", "role": "editor" });
    assert_eq!(invited(&apps, space, changed).await.role, Role::Editor);
    let seen = received(&apps, "bob", &[]).await;
    assert_eq!(
        (seen[0].inviter_id.as_str(), seen[0].role),
        ("olga", Role::Editor)
    );
    assert_eq!(apps.accept("bob", shown.invitation_id).await.status, 200);
}

#[tokio::test]
async fn an_invitation_expires_and_is_deleted_and_can_be_made_again() {
    let apps = TestContext::create().await;
    let space = space(&apps).await;
    let body = || json!({ "userId": "bob", "role": "viewer" });
    let made = invited(&apps, space, body()).await;
    apps.clock.advance(INVITATION_LIFETIME);
    assert!(pending(&apps, "alice", space).await.is_empty());
    assert!(received(&apps, "bob", &[]).await.is_empty());
    assert_eq!(
        apps.accept("bob", made.invitation_id).await.problem(),
        (404, "not-found")
    );
    let again = invited(&apps, space, body()).await;
    assert_eq!(again.expires_at, apps.clock.now() + INVITATION_LIFETIME);
    assert_eq!(received(&apps, "bob", &[]).await.len(), 1);
    apps.run_maintenance().await.unwrap();
    let rows = "SELECT count(*) FROM invitations";
    assert_eq!(apps.database.number(rows).await, 1);
    apps.clock.advance(INVITATION_LIFETIME);
    apps.run_maintenance().await.unwrap();
    assert_eq!(apps.database.number(rows).await, 0);
}

#[tokio::test]
async fn nobody_is_invited_to_a_deleted_space_until_it_is_back() {
    let apps = TestContext::create().await;
    let space = space(&apps).await;
    let body = || json!({ "userId": "bob", "role": "viewer" });
    let made = invited(&apps, space, body()).await;
    let delete = Call::new("DELETE /spaces/{spaceId}").path("spaceId", space);
    assert_eq!(apps.call("alice", delete).await.status, 204);
    assert!(received(&apps, "bob", &[]).await.is_empty());
    assert_eq!(
        apps.accept("bob", made.invitation_id).await.problem(),
        (404, "not-found")
    );
    assert_eq!(
        invite(&apps, "alice", space, body()).await.problem(),
        (404, "not-found")
    );
    let restore = Call::new("POST /spaces/{spaceId}/restore").path("spaceId", space);
    assert_eq!(apps.call("alice", restore).await.status, 200);
    assert_eq!(received(&apps, "bob", &[]).await.len(), 1);
    assert_eq!(apps.accept("bob", made.invitation_id).await.status, 200);
}

#[tokio::test]
async fn of_accepting_and_withdrawing_at_once_one_happens() {
    let apps = TestContext::create().await;
    let space = space(&apps).await;
    for _ in 0..16 {
        let made = invited(&apps, space, json!({ "userId": "bob", "role": "viewer" })).await;
        let (accepted, withdrawn) = tokio::join!(
            apps.accept("bob", made.invitation_id),
            withdraw(&apps, "alice", space, made.invitation_id)
        );
        let sql = format!("SELECT count(*) FROM members WHERE space_id = '{space}' AND user_id = 'bob'");
        match (accepted.status, withdrawn.status) {
            (200, 404) => assert_eq!(apps.database.number(&sql).await, 1),
            (404, 204) => assert_eq!(apps.database.number(&sql).await, 0),
            statuses => panic!("{statuses:?}"),
        }
        apps.unshare("alice", space, "bob").await;
    }
}

#[tokio::test]
async fn many_people_accept_at_once_and_invitations_come_in_pages() {
    let apps = TestContext::create().await;
    let space = apps.space("alice").await;
    let people: Vec<String> = (0..32).map(|i| format!("person-{i:02}")).collect();
    let mut made = Vec::new();
    for person in &people {
        apps.known(person).await;
        made.push(invited(&apps, space, json!({ "userId": person, "role": "viewer" })).await);
    }
    let (mut listed, mut token) = (Vec::new(), None);
    loop {
        let mut call = Call::new("GET /spaces/{spaceId}/invitations")
            .path("spaceId", space)
            .query("limit", 10);
        if let Some(token) = token {
            call = call.query("pageToken", token);
        }
        let page: InvitationList = apps.call("alice", call).await.parsed();
        listed.extend(page.invitations);
        token = page.next_page_token;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(listed, made);
    let accepting = people
        .iter()
        .zip(&made)
        .map(|(person, made)| apps.accept(person, made.invitation_id));
    assert!(
        join_all(accepting)
            .await
            .iter()
            .all(|answer| answer.status == 200)
    );
    let feed = apps.feed("alice", Some(space)).await;
    let sequences: Vec<i64> = feed.changes.iter().map(|change| change.sequence.get()).collect();
    assert_eq!(sequences, (1..=32).collect::<Vec<i64>>());
    // Invitations to one person come in pages too.
    for _ in 0..3 {
        let space = apps.space("alice").await;
        invited(&apps, space, json!({ "userId": "person-00", "role": "viewer" })).await;
    }
    let call = Call::new("GET /invitations").query("limit", 2);
    let first: ReceivedInvitationList = apps.call("person-00", call.clone()).await.parsed();
    let call = call.query("pageToken", first.next_page_token.unwrap());
    let last: ReceivedInvitationList = apps.call("person-00", call).await.parsed();
    assert_eq!((first.invitations.len(), last.invitations.len()), (2, 1));
    assert!(last.next_page_token.is_none());
}

#[tokio::test]
async fn people_who_are_not_invited_do_not_wait_for_the_lock_of_a_space() {
    let apps = TestContext::create().await;
    let space = space(&apps).await;
    let made = invited(&apps, space, json!({ "userId": "bob", "role": "viewer" })).await;
    apps.known("mallory").await;
    let mut locker = apps.database.another_client().await;
    let transaction = locker.transaction().await.unwrap();
    let sql = "SELECT FROM spaces WHERE id = $1 FOR NO KEY UPDATE";
    transaction
        .execute(sql, &[&uuid::Uuid::from(space)])
        .await
        .unwrap();
    for route in [ACCEPT, DECLINE] {
        let answer = apps.call("mallory", answer(route, made.invitation_id)).await;
        assert_eq!(answer.problem(), (404, "not-found"));
    }
    transaction.rollback().await.unwrap();
    assert_eq!(apps.accept("bob", made.invitation_id).await.status, 200);
}
