//! Limits per user and space: changes within a minute, pending uploads, shared spaces, bytes, invitations.
//! They hold for requests at once, and nothing is changed by a request that would exceed one.

use futures_util::future::join_all;
use model::{INVITATION_LIFETIME, InvitationId, InvitationView, SpaceId};
use serde_json::{Value, json};
use tests::{Answer, Call, Counted, Logs, TestContext, upload_body};
use time::Duration;
use tracing::level_filters::LevelFilter;

use crate::apps;

/// Number of requests at once.
const AT_ONCE: usize = 32;

async fn administer(apps: &TestContext, request: Value) {
    let request = serde_json::from_value(request).unwrap();
    administer::handle(&apps.administer(), request).await.unwrap();
}

async fn limit(apps: &TestContext, limits: Value) {
    apps.known("alice").await;
    administer(
        apps,
        json!({ "action": "setUserLimits", "userId": "alice", "limits": limits }),
    )
    .await;
}

/// The answer is a refusal by this limit, which is not exceeded.
fn refused_by(answer: &Answer, name: &str, maximum: i64) {
    assert_eq!(answer.problem().1, "quota-exceeded");
    let limit = &answer.body["limit"];
    assert_eq!(
        (&limit["name"], &limit["maximum"]),
        (&json!(name), &json!(maximum))
    );
    assert!(limit["used"].as_i64().unwrap() <= maximum, "{limit}");
}

/// Makes requests at once, each in an execution environment of its own. Returns the number of successes. All
/// others are refused by this limit.
async fn succeed(apps: &TestContext, calls: Vec<Call>, name: &str, maximum: i64) -> usize {
    let environments: Vec<_> = calls.iter().map(|_| apps.environment()).collect();
    let calling = environments.iter().zip(calls);
    let answers: Vec<Answer> =
        join_all(calling.map(async |(environment, call)| environment.call("alice", call).await)).await;
    let (good, refused): (Vec<&Answer>, Vec<&Answer>) =
        answers.iter().partition(|answer| answer.status < 300);
    for answer in refused {
        refused_by(answer, name, maximum);
    }
    good.len()
}

#[tokio::test]
async fn no_more_uploads_are_pending_than_allowed() {
    let apps = apps().await;
    limit(&apps, json!({ "pendingUploads": 5 })).await;
    let open = |number: usize| Call::new("POST /uploads").body(upload_body(&format!("/{number}"), b"x"));
    let opened = succeed(&apps, (0..AT_ONCE).map(open).collect(), "pendingUploads", 5).await;
    assert_eq!(opened, 5);
    let pending = async || {
        apps.database
            .number("SELECT pending_uploads::bigint FROM users WHERE user_id = 'alice'")
            .await
    };
    let counted = "SELECT count(*) FROM uploads WHERE user_id = 'alice' AND state = 'pending'";
    assert_eq!((pending().await, apps.database.number(counted).await), (5, 5));
    let refused = apps.open("alice", &upload_body("/more", b"x")).await;
    assert_eq!(refused.problem(), (429, "quota-exceeded"));
    // Others have limits of their own.
    assert_eq!(apps.open("bob", &upload_body("/a", b"x")).await.status, 201);

    // A request that is repeated with its key needs no more room.
    let uploads = apps
        .database
        .rows("SELECT id FROM uploads WHERE user_id = 'alice' ORDER BY id")
        .await;
    let ids: Vec<uuid::Uuid> = uploads.iter().map(|row| row.get(0)).collect();
    // Each way to end an upload makes room for one: abort, complete, expiry.
    let abort = Call::new("DELETE /uploads/{uploadId}").path("uploadId", ids[0]);
    for _ in 0..2 {
        assert_eq!(apps.call("alice", abort.clone()).await.status, 204);
    }
    assert_eq!(pending().await, 4);
    let created = apps.put("alice", "/complete", b"x").await;
    assert_eq!(pending().await, 5);
    for _ in 0..2 {
        assert_eq!(apps.complete("alice", &created).await.status, 200);
    }
    assert_eq!(pending().await, 4);
    apps.clock.advance(Duration::hours(14));
    apps.run_maintenance().await.unwrap();
    assert_eq!((pending().await, apps.database.number(counted).await), (0, 0));
    assert_eq!(apps.open("alice", &upload_body("/again", b"x")).await.status, 201);
}

#[tokio::test]
async fn no_more_changes_are_made_in_a_minute_than_allowed() {
    let apps = apps().await;
    let file = apps.upload("alice", "/0", b"x").await.file_id;
    apps.clock.advance(Duration::MINUTE);
    limit(&apps, json!({ "changesPerMinute": 7 })).await;
    let moves = |from: usize| {
        (from..from + AT_ONCE).map(move |number| {
            let call = Call::new("PATCH /files/{fileId}").path("fileId", file);
            call.body(json!({ "path": format!("/{number}") }))
        })
    };
    assert_eq!(succeed(&apps, moves(1).collect(), "changesPerMinute", 7).await, 7);
    assert_eq!(apps.feed("alice", None).await.latest_sequence.get(), 8);

    apps.clock.advance(Duration::seconds(20));
    let call = || {
        Call::new("PATCH /files/{fileId}")
            .path("fileId", file)
            .body(json!({ "path": "/later" }))
    };
    let refused = apps.call("alice", call()).await;
    assert_eq!(
        (refused.problem(), refused.retry_after.as_deref()),
        ((429, "quota-exceeded"), Some("40"))
    );
    apps.clock.advance(Duration::seconds(40));
    assert_eq!(apps.call("alice", call()).await.status, 200);
    // Reading is not limited, nor is a request that changes nothing counted.
    for _ in 0..10 {
        assert_eq!(apps.call("alice", Call::new("GET /changes")).await.status, 200);
        assert_eq!(apps.call("alice", call()).await.status, 200);
    }
    assert_eq!(apps.feed("alice", None).await.latest_sequence.get(), 9);
}

/// Requests that are no changes are refused by no limit of changes, so that a user can always clean up.
#[tokio::test]
async fn aborting_declining_and_withdrawing_are_possible_after_the_last_change_of_a_minute() {
    let apps = apps().await;
    let (own, bobs) = (apps.space("alice").await, apps.space("bob").await);
    let invite = async |owner: &str, space: SpaceId, invited: &str| {
        apps.known(invited).await;
        let call = Call::new("POST /spaces/{spaceId}/invitations").path("spaceId", space);
        let call = call.body(json!({ "userId": invited, "role": "viewer" }));
        let made: InvitationView = apps.call(owner, call).await.parsed();
        made.invitation_id
    };
    let made = invite("alice", own, "carol").await;
    let received = invite("bob", bobs, "alice").await;
    let upload = apps.opened("alice", "/a", b"x").await.upload_id;
    limit(&apps, json!({ "changesPerMinute": 1 })).await;
    let rename = Call::new("PATCH /spaces/{spaceId}").path("spaceId", own);
    let refused = apps.call("alice", rename.body(json!({ "name": "Mine" }))).await;
    assert_eq!(refused.problem(), (429, "quota-exceeded"));
    for call in [
        Call::new("DELETE /uploads/{uploadId}").path("uploadId", upload),
        Call::new("POST /invitations/{invitationId}/decline")
            .path("invitationId", received)
            .body(json!({})),
        Call::new("DELETE /spaces/{spaceId}/invitations/{invitationId}")
            .path("spaceId", own)
            .path("invitationId", made),
    ] {
        let answer = apps.call("alice", call).await;
        assert_eq!(answer.status, 204, "{answer:?}");
    }
}

#[tokio::test]
async fn no_user_is_a_member_of_more_spaces_than_allowed() {
    let apps = apps().await;
    limit(&apps, json!({ "spaces": 3 })).await;
    let create = |number: usize| Call::new("POST /spaces").body(json!({ "name": format!("Space {number}") }));
    assert_eq!(
        succeed(&apps, (0..AT_ONCE).map(create).collect(), "spaces", 3).await,
        3
    );
    let refused = apps.call("alice", create(99)).await;
    assert_eq!(
        (refused.problem(), refused.retry_after.as_deref()),
        ((409, "quota-exceeded"), None)
    );
    let memberships = "SELECT memberships::bigint FROM spaces WHERE owner_id = 'alice'";
    assert_eq!(apps.database.number(memberships).await, 3);
    // An operator allows more, or the stack's number again.
    limit(&apps, json!({ "spaces": 4 })).await;
    assert_eq!(apps.call("alice", create(100)).await.status, 201);
    limit(&apps, json!({})).await;
    assert_eq!(apps.call("alice", create(101)).await.status, 201);
    assert_eq!(apps.database.number(memberships).await, 5);
}

#[tokio::test]
async fn no_space_holds_more_bytes_than_allowed() {
    let apps = apps().await;
    let space = apps.space("alice").await;
    let set = |limits: Value| json!({ "action": "setSpaceLimits", "spaceId": space, "limits": limits });
    administer(&apps, set(json!({ "bytes": 10 }))).await;
    let body = |path: &str, content: &[u8]| {
        let mut body = upload_body(path, content);
        body["spaceId"] = json!(space);
        body
    };
    // Too large for the space by itself.
    let refused = apps.open("alice", &body("/large", &[0; 11])).await;
    assert_eq!(refused.problem(), (413, "quota-exceeded"));
    assert_eq!(
        refused.body["limit"],
        json!({ "name": "spaceBytes", "used": 0, "maximum": 10 })
    );
    // Each of these fits by itself, and not more than three of them together.
    let mut opened: Vec<model::CreatedUpload> = Vec::new();
    for number in 0..AT_ONCE {
        let created = apps
            .open("alice", &body(&format!("/{number}"), b"abc"))
            .await
            .parsed();
        apps.send(&created, b"abc").await;
        opened.push(created);
    }
    let complete = |created: &model::CreatedUpload| {
        Call::new("POST /uploads/{uploadId}/complete")
            .path("uploadId", created.upload_id)
            .body(json!({}))
    };
    assert_eq!(
        succeed(&apps, opened.iter().map(complete).collect(), "spaceBytes", 10).await,
        3
    );
    let bytes = format!("SELECT bytes FROM spaces WHERE id = '{space}'");
    assert_eq!(apps.database.number(&bytes).await, 9);
    // An operator allows more.
    administer(&apps, set(json!({}))).await;
    assert_eq!(
        succeed(&apps, opened.iter().map(complete).collect(), "spaceBytes", 10).await,
        AT_ONCE
    );
    assert_eq!(apps.database.number(&bytes).await, 96);
}

/// Such as a full space. An operator finds the user and the space in the line.
#[tokio::test]
async fn a_refusal_that_waiting_does_not_end_is_counted_and_its_line_says_whose_it_is() {
    let apps = apps().await;
    let space = apps.space("alice").await;
    let set = json!({ "action": "setSpaceLimits", "spaceId": space, "limits": { "bytes": 2 } });
    administer(&apps, set).await;
    limit(&apps, json!({ "spaces": 1, "pendingUploads": 1 })).await;
    let counted = Counted::default();
    let _counting = counted.begin();
    let logs = Logs::default();
    let _logging = logs.begin(LevelFilter::INFO);
    let counts = || counted.take(api::QUOTA_REFUSALS);
    // The one line of a request, and the fields of its span.
    let line = || {
        let lines = logs.take();
        let [line] = lines.as_slice() else {
            panic!("{lines:?}")
        };
        (line["fields"].clone(), line["spans"][0].clone())
    };

    let mut body = upload_body("/large", b"abc");
    body["spaceId"] = json!(space);
    assert_eq!(apps.open("alice", &body).await.status, 413);
    assert_eq!(counts(), Some(1));
    let (fields, span) = line();
    assert_eq!(fields["lasting_limits"], "spaceBytes");
    assert_eq!(fields["space_ids"], json!(space));
    assert_eq!(span["user_id"], "alice");

    let another = Call::new("POST /spaces").body(json!({ "name": "another" }));
    assert_eq!(apps.call("alice", another).await.status, 409);
    assert_eq!(counts(), Some(1));
    let (fields, span) = line();
    assert_eq!(
        (&fields["lasting_limits"], &span["user_id"]),
        (&json!("spaces"), &json!("alice"))
    );

    // Waiting ends these, and other refusals have nothing to do with limits.
    let open = async |path: &str| apps.open("alice", &upload_body(path, b"x")).await.status;
    assert_eq!((open("/1").await, open("/2").await), (201, 429));
    let lines = logs.take();
    assert_eq!(lines[1]["fields"]["passing_limits"], "pendingUploads");
    assert_eq!(apps.open("bob", &body).await.status, 404);
    assert_eq!(counts(), None);
}

#[tokio::test]
async fn a_user_sees_the_use_and_the_maximum_of_each_limit() {
    let apps = apps().await;
    let usage = async |user: &str| {
        let profile: model::ProfileView = apps.call(user, Call::new("GET /me")).await.parsed();
        profile.usage.unwrap()
    };
    let used = async |user: &str| {
        let usage = usage(user).await;
        [
            usage.changes_per_minute.used,
            usage.pending_uploads.used,
            usage.spaces.used,
            usage.space_bytes.used,
            usage.invitations_per_day.used,
        ]
    };
    // Of somebody new.
    assert_eq!(used("alice").await, [0; 5]);
    apps.upload("alice", "/a", b"abc").await;
    apps.opened("alice", "/b", b"abcd").await;
    let space = apps.space("alice").await;
    let made = invite(
        &apps,
        "alice",
        space,
        json!({ "email": "a@example.com", "role": "viewer" }),
    )
    .await;
    assert_eq!(made.status, 201);
    assert_eq!(used("alice").await, [2, 1, 1, 3, 1]);
    assert_eq!(used("bob").await, [0; 5]);
    assert_eq!(usage("alice").await.spaces.maximum, i64::MAX);
    // What counts is over when its minute is.
    apps.clock.advance(Duration::MINUTE);
    assert_eq!(used("alice").await, [0, 1, 1, 3, 1]);
    apps.clock.advance(Duration::DAY);
    assert_eq!(used("alice").await, [0, 1, 1, 3, 0]);

    limit(
        &apps,
        json!({ "changesPerMinute": 7, "pendingUploads": 6, "spaces": 5, "invitationsPerDay": 4 }),
    )
    .await;
    let personal = apps.opened("alice", "/c", b"x").await.space_id;
    let set = json!({ "action": "setSpaceLimits", "spaceId": personal, "limits": { "bytes": 2 } });
    administer(&apps, set).await;
    let mine = usage("alice").await;
    let maximums = [
        mine.changes_per_minute,
        mine.pending_uploads,
        mine.spaces,
        mine.space_bytes,
        mine.invitations_per_day,
    ]
    .map(|each| each.maximum);
    assert_eq!(maximums, [7, 6, 5, 2, 4]);
    assert_eq!(mine.space_bytes.used, 3);

    // Each space shows its bytes to its members.
    let listed: model::SpaceList = apps.call("alice", Call::new("GET /spaces")).await.parsed();
    let bytes: Vec<_> = listed
        .spaces
        .iter()
        .map(|view| (view.space_id == space, view.bytes))
        .collect();
    assert_eq!(bytes, [(false, Some(3)), (true, Some(0))]);
}

fn invitation(space: SpaceId, body: Value) -> Call {
    Call::new("POST /spaces/{spaceId}/invitations")
        .path("spaceId", space)
        .body(body)
}

async fn invite(apps: &TestContext, owner: &str, space: SpaceId, body: Value) -> Answer {
    apps.call(owner, invitation(space, body)).await
}

async fn invited(apps: &TestContext, owner: &str, space: SpaceId, person: &str) -> InvitationId {
    let body = json!({ "userId": person, "role": "viewer" });
    let answer = invite(apps, owner, space, body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.parsed::<InvitationView>().invitation_id
}

/// The counters of pending invitations, of all spaces and of all people, which are as many as there are
/// invitations.
async fn pending_invitations(apps: &TestContext) -> i64 {
    let number = async |sql: &str| apps.database.number(sql).await;
    let wrong = "SELECT count(*) FROM spaces s WHERE pending_invitations <>
        (SELECT count(*) FROM invitations i WHERE i.space_id = s.id AND i.state = 'pending')";
    assert_eq!(number(wrong).await, 0);
    let wrong = "SELECT count(*)
        FROM (SELECT invited_person(user_id, email) AS person, count(*) AS pending FROM invitations WHERE state = 'pending' GROUP BY 1) i
        FULL JOIN invited_people p ON p.person = i.person
        WHERE p.pending IS DISTINCT FROM i.pending";
    assert_eq!(number(wrong).await, 0);
    number("SELECT coalesce(sum(pending), 0)::bigint FROM invited_people").await
}

#[tokio::test]
async fn no_more_invitations_to_a_space_are_pending_than_allowed() {
    let mut apps = apps().await;
    apps.invitation_limits.pending = 5;
    let space = apps.space("alice").await;
    let person = |number: usize| json!({ "email": format!("{number}@example.com"), "role": "viewer" });
    let calls = (0..AT_ONCE).map(|number| invitation(space, person(number)));
    assert_eq!(succeed(&apps, calls.collect(), "pendingInvitations", 5).await, 5);
    assert_eq!(pending_invitations(&apps).await, 5);
    let refused = invite(&apps, "alice", space, person(99)).await;
    assert_eq!(
        (refused.problem(), refused.retry_after.as_deref()),
        ((409, "quota-exceeded"), None)
    );
    assert_eq!(
        refused.body["limit"],
        json!({ "name": "pendingInvitations", "used": 5, "maximum": 5 })
    );
    // Another role for one of them needs no room.
    let made = apps.database.rows("SELECT email FROM invitations LIMIT 1").await;
    let again = json!({ "email": made[0].get::<_, String>(0), "role": "editor" });
    assert_eq!(invite(&apps, "alice", space, again).await.status, 201);
    // Other spaces have limits of their own, and an operator allows one more.
    let other = apps.space("alice").await;
    assert_eq!(invite(&apps, "alice", other, person(99)).await.status, 201);
    let set = json!({ "action": "setSpaceLimits", "spaceId": space, "limits": { "pendingInvitations": 6 } });
    administer(&apps, set).await;
    assert_eq!(invite(&apps, "alice", space, person(99)).await.status, 201);
    refused_by(
        &invite(&apps, "alice", space, person(100)).await,
        "pendingInvitations",
        6,
    );
    assert_eq!(pending_invitations(&apps).await, 7);
}

#[tokio::test]
async fn no_more_invitations_of_a_person_are_pending_than_allowed_also_of_many_spaces() {
    let mut apps = apps().await;
    apps.known("alice").await;
    let mut spaces = Vec::new();
    for number in 0..AT_ONCE {
        let owner = format!("owner-{number}");
        spaces.push((apps.space(&owner).await, owner));
    }
    apps.invitation_limits.received = 4;
    for person in [
        json!({ "userId": "alice", "role": "viewer" }),
        json!({ "email": "nobody@example.com", "role": "viewer" }),
    ] {
        let environments: Vec<_> = spaces.iter().map(|_| apps.environment()).collect();
        let inviting = environments
            .iter()
            .zip(&spaces)
            .map(async |(environment, (space, owner))| {
                environment.call(owner, invitation(*space, person.clone())).await
            });
        let answers = join_all(inviting).await;
        let refused: Vec<&Answer> = answers.iter().filter(|answer| answer.status != 201).collect();
        assert_eq!(refused.len(), AT_ONCE - 4);
        for answer in refused {
            assert_eq!(answer.status, 409);
            refused_by(answer, "receivedInvitations", 4);
        }
    }
    assert_eq!(pending_invitations(&apps).await, 8);
    // Others can be invited. An operator allows one more.
    let (space, owner) = &spaces[0];
    let other = json!({ "email": "other@example.com", "role": "viewer" });
    assert_eq!(invite(&apps, owner, *space, other).await.status, 201);
    limit(&apps, json!({ "receivedInvitations": 5 })).await;
    let mut made = 0;
    for (space, owner) in &spaces {
        let body = json!({ "userId": "alice", "role": "viewer" });
        if invite(&apps, owner, *space, body).await.status == 201 {
            made += 1;
        }
    }
    // Four of them had been made.
    assert_eq!(made, 5);
}

#[tokio::test]
async fn no_user_makes_more_invitations_in_a_day_than_allowed() {
    let mut apps = apps().await;
    apps.invitation_limits.per_day = 7;
    let space = apps.space("alice").await;
    let person = |number: usize| json!({ "email": format!("{number}@example.com"), "role": "viewer" });
    let calls = (0..AT_ONCE).map(|number| invitation(space, person(number)));
    assert_eq!(succeed(&apps, calls.collect(), "invitationsPerDay", 7).await, 7);
    apps.clock.advance(Duration::hours(20));
    let refused = invite(&apps, "alice", space, person(99)).await;
    assert_eq!(
        (refused.problem(), refused.retry_after.as_deref()),
        ((429, "quota-exceeded"), Some("14400"))
    );
    assert_eq!(
        refused.body["limit"],
        json!({ "name": "invitationsPerDay", "used": 7, "maximum": 7 })
    );
    // Repeating an invitation is none; another role for it is one.
    let made = apps.database.rows("SELECT email FROM invitations LIMIT 1").await;
    let again = |role: &str| json!({ "email": made[0].get::<_, String>(0), "role": role });
    assert_eq!(invite(&apps, "alice", space, again("viewer")).await.status, 201);
    refused_by(
        &invite(&apps, "alice", space, again("editor")).await,
        "invitationsPerDay",
        7,
    );
    // Another owner of the space, and alice the next day.
    assert_eq!(apps.share("alice", space, "bob", "owner").await.status, 429);
    apps.clock.advance(Duration::hours(4));
    assert_eq!(apps.share("alice", space, "bob", "owner").await.status, 200);
    assert_eq!(invite(&apps, "bob", space, person(99)).await.status, 201);
    // An operator forbids inviting.
    limit(&apps, json!({ "invitationsPerDay": 0 })).await;
    let refused = invite(&apps, "alice", space, person(100)).await;
    assert_eq!(refused.problem(), (429, "quota-exceeded"));
    assert_eq!(
        refused.body["limit"],
        json!({ "name": "invitationsPerDay", "used": 1, "maximum": 0 })
    );
}

#[tokio::test]
async fn every_end_of_an_invitation_makes_room_for_another() {
    let mut apps = apps().await;
    apps.known("bob").await;
    apps.invitation_limits.received = 1;
    let (one, other) = (apps.space("alice").await, apps.space("alice").await);
    let bob = || json!({ "userId": "bob", "role": "viewer" });
    let decline = "POST /invitations/{invitationId}/decline";
    let accept = "POST /invitations/{invitationId}/accept";
    for route in [decline, accept] {
        let id = invited(&apps, "alice", one, "bob").await;
        refused_by(
            &invite(&apps, "alice", other, bob()).await,
            "receivedInvitations",
            1,
        );
        for _ in 0..2 {
            let call = Call::new(route).path("invitationId", id);
            assert!(apps.call("bob", call).await.status < 300);
            assert_eq!(pending_invitations(&apps).await, 0, "{route}");
        }
    }
    let id = invited(&apps, "alice", other, "bob").await;
    let withdraw = Call::new("DELETE /spaces/{spaceId}/invitations/{invitationId}");
    let withdraw = withdraw.path("spaceId", other).path("invitationId", id);
    for _ in 0..2 {
        assert_eq!(apps.call("alice", withdraw.clone()).await.status, 204);
        assert_eq!(pending_invitations(&apps).await, 0);
    }
    // Expiry. Renewing an expired invitation needs no more room.
    invited(&apps, "alice", other, "bob").await;
    apps.clock.advance(INVITATION_LIFETIME);
    invited(&apps, "alice", other, "bob").await;
    assert_eq!(pending_invitations(&apps).await, 1);
    apps.clock.advance(INVITATION_LIFETIME);
    apps.run_maintenance().await.unwrap();
    assert_eq!(pending_invitations(&apps).await, 0);
    // Erasing the invited person, and the one who has made the invitation.
    let space = apps.space("olga").await;
    let erase = || Call::new("DELETE /me");
    for (invited_person, erased) in [("carol", "carol"), ("dave", "olga")] {
        apps.known(invited_person).await;
        invited(&apps, "olga", space, invited_person).await;
        assert_eq!(apps.call(erased, erase()).await.status, 204);
        assert_eq!(pending_invitations(&apps).await, 0, "{erased}");
    }
    // Purging the space.
    invited(&apps, "alice", other, "dave").await;
    let delete = Call::new("DELETE /spaces/{spaceId}").path("spaceId", other);
    assert_eq!(apps.call("alice", delete).await.status, 204);
    let long_deleted = format!("UPDATE spaces SET deleted_at = 'epoch' WHERE id = '{other}'");
    apps.database.execute(&long_deleted).await;
    assert_eq!(pending_invitations(&apps).await, 1);
    apps.run_maintenance().await.unwrap();
    let left = format!("SELECT count(*) FROM spaces WHERE id = '{other}'");
    assert_eq!(apps.database.number(&left).await, 0);
    assert_eq!(pending_invitations(&apps).await, 0);
}

/// Each changes invitations of several spaces or people, and counts them.
#[tokio::test]
async fn inviting_accepting_expiry_and_erasing_at_once_succeed_and_count_right() {
    let apps = apps().await;
    for round in 0..8 {
        let person = |number: usize| format!("person-{round}-{number}");
        let mut spaces = Vec::new();
        for number in 0..4 {
            apps.known(&person(number)).await;
            spaces.push(apps.space(&format!("owner-{number}")).await);
        }
        let mut made = Vec::new();
        for (number, space) in spaces.iter().enumerate() {
            for invited_person in 0..4 {
                let owner = format!("owner-{number}");
                made.push((
                    invited_person,
                    invited(&apps, &owner, *space, &person(invited_person)).await,
                ));
            }
        }
        if round % 2 == 0 {
            apps.clock.advance(INVITATION_LIFETIME);
        }
        let inviting = spaces.iter().enumerate().map(async |(number, space)| {
            let owner = format!("owner-{number}");
            for invited_person in (0..4).rev() {
                let body = json!({ "userId": person(invited_person), "role": "editor" });
                let answer = invite(&apps, &owner, *space, body).await;
                // A member by now, or erased, or the person has ended the invitation since.
                assert!(matches!(answer.status, 201 | 404 | 409 | 422), "{answer:?}");
            }
        });
        let accepting = made.iter().map(async |(invited_person, id)| {
            let answer = apps.accept(&person(*invited_person), *id).await;
            assert!(matches!(answer.status, 200 | 403 | 404), "{answer:?}");
        });
        let erasing = [0, 3].map(async |number| {
            let answer = apps.call(&person(number), Call::new("DELETE /me")).await;
            assert_eq!(answer.status, 204, "{answer:?}");
        });
        tokio::join!(
            join_all(inviting),
            join_all(accepting),
            join_all(erasing),
            async { apps.run_maintenance().await.unwrap() }
        );
        pending_invitations(&apps).await;
    }
}
