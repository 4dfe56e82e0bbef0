//! Shared spaces: permissions, and the events that members receive.

use db::{Base, Completing, Effect, FileCommand, Membership, Rejection};
use futures_util::future::join_all;
use model::{
    Caller, Change, CreatedUpload, DeletedSpaceList, FileChanged, MemberList, Role, SpaceId, SpaceKind,
    SpaceList, SpaceView, UploadView, UserId,
};
use serde_json::{Value, json};
use tests::{Call, TestContext, upload_body};

fn in_space(space: SpaceId, path: &str, content: &[u8]) -> Value {
    let mut body = upload_body(path, content);
    body["spaceId"] = json!(space);
    body
}

async fn upload(apps: &TestContext, user: &str, space: SpaceId, path: &str) -> FileChanged {
    let body = in_space(space, path, b"x");
    apps.upload_as(user, &body, b"x").await.parsed()
}

fn member(route: &'static str, space: SpaceId, user: &str) -> Call {
    Call::new(route).path("spaceId", space).path("userId", user)
}

/// Creates a space of alice with an editor (edith) and a viewer (victor).
async fn shared(apps: &TestContext) -> SpaceId {
    let space = apps.space("alice").await;
    for (user, role) in [("edith", "editor"), ("victor", "viewer")] {
        assert_eq!(apps.share("alice", space, user, role).await.status, 200);
    }
    apps.queue.drain().await;
    space
}

#[tokio::test]
async fn a_shared_space_is_its_members_and_each_sees_its_role_in_it() {
    let apps = TestContext::create().await;
    let space = shared(&apps).await;
    upload(&apps, "edith", space, "/a").await;
    for (user, role) in [
        ("alice", Role::Owner),
        ("edith", Role::Editor),
        ("victor", Role::Viewer),
    ] {
        let list: SpaceList = apps.call(user, Call::new("GET /spaces")).await.parsed();
        let view = list.spaces.iter().find(|view| view.space_id == space).unwrap();
        assert_eq!(
            (view.role, view.kind, view.latest_sequence.get()),
            (role, SpaceKind::Shared, 3)
        );
        // The other space is the personal one.
        let kinds: Vec<SpaceKind> = list.spaces.iter().map(|view| view.kind).collect();
        assert!(kinds.len() == 2 && kinds.contains(&SpaceKind::Personal));
        assert_eq!(apps.feed(user, Some(space)).await.changes.len(), 3);
        let members: MemberList = apps
            .call(
                user,
                Call::new("GET /spaces/{spaceId}/members").path("spaceId", space),
            )
            .await
            .parsed();
        let members: Vec<(&str, Role)> = members
            .members
            .iter()
            .map(|m| (m.user_id.as_str(), m.role))
            .collect();
        assert_eq!(
            members,
            [
                ("alice", Role::Owner),
                ("edith", Role::Editor),
                ("victor", Role::Viewer)
            ]
        );
    }
    let page = Call::new("GET /spaces/{spaceId}/members")
        .path("spaceId", space)
        .query("limit", 2);
    let first: MemberList = apps.call("victor", page.clone()).await.parsed();
    let page = page.query("pageToken", first.next_page_token.unwrap());
    let last: MemberList = apps.call("victor", page).await.parsed();
    assert_eq!(
        (last.members.len(), last.members[0].user_id.as_str()),
        (1, "victor")
    );
}

#[tokio::test]
async fn spaces_come_in_pages() {
    let apps = TestContext::create().await;
    for _ in 0..4 {
        apps.space("alice").await;
    }
    let (mut seen, mut token) = (Vec::new(), None);
    loop {
        let mut call = Call::new("GET /spaces").query("limit", 2);
        if let Some(token) = token {
            call = call.query("pageToken", token);
        }
        let page: SpaceList = apps.call("alice", call).await.parsed();
        seen.extend(page.spaces.iter().map(|space| space.space_id));
        token = page.next_page_token;
        if token.is_none() {
            break;
        }
    }
    let mut sorted = seen.clone();
    sorted.sort_unstable();
    sorted.dedup();
    // The count includes the personal space.
    assert_eq!((seen.len(), &seen), (5, &sorted));
}

#[tokio::test]
async fn making_a_space_twice_with_one_key_makes_one() {
    let apps = TestContext::create().await;
    let call = |name: &str| {
        Call::new("POST /spaces")
            .header("idempotency-key", "one")
            .body(json!({ "name": name }))
    };
    let made = join_all((0..8).map(|_| apps.call("alice", call("Family")))).await;
    for answer in &made {
        assert_eq!((answer.status, answer), (201, &made[0]));
    }
    assert_eq!(
        apps.call("alice", call("Work")).await.problem(),
        (422, "idempotency-key-reused")
    );
    assert_eq!(apps.feed("alice", None).await.latest_sequence.get(), 1);
    let bobs: SpaceView = apps.call("bob", call("Family")).await.parsed();
    assert_ne!(bobs.space_id, made[0].parsed::<SpaceView>().space_id);
    for bad in ["", " ", "a\u{0}b", "U\u{308}"] {
        let answer = apps
            .call("alice", Call::new("POST /spaces").body(json!({ "name": bad })))
            .await;
        assert_eq!(answer.problem(), (400, "invalid-request"), "{bad:?}");
    }
}

#[tokio::test]
async fn roles_allow_what_they_say() {
    let apps = TestContext::create().await;
    let space = shared(&apps).await;
    let file = upload(&apps, "edith", space, "/a").await.file_id;
    let attempts = |user: &'static str| {
        let apps = &apps;
        async move {
            let calls = [
                Call::new("POST /uploads").body(in_space(space, "/b", b"x")),
                Call::new("PATCH /files/{fileId}")
                    .path("fileId", file)
                    .body(json!({ "path": "/c" })),
                member("PUT /spaces/{spaceId}/members/{userId}", space, "carol")
                    .body(json!({ "role": "viewer" })),
                member("DELETE /spaces/{spaceId}/members/{userId}", space, "carol"),
                Call::new("DELETE /files/{fileId}")
                    .path("fileId", file)
                    .query("baseVersion", 9),
            ];
            let mut statuses = Vec::new();
            for call in calls {
                statuses.push(apps.call(user, call).await.status);
            }
            statuses
        }
    };
    assert_eq!(attempts("stranger").await, [404, 404, 404, 404, 404]);
    assert_eq!(attempts("victor").await, [403, 403, 403, 403, 403]);
    assert_eq!(attempts("edith").await, [201, 200, 403, 403, 409]);
    assert_eq!(
        apps.database
            .number("SELECT count(*) FROM uploads WHERE user_id = 'victor'")
            .await,
        0
    );
    // Nobody becomes a member by having a role set.
    assert_eq!(attempts("alice").await, [201, 200, 404, 204, 409]);
    apps.share("alice", space, "carol", "editor").await;
    assert_eq!(attempts("alice").await, [201, 200, 200, 204, 409]);
}

#[tokio::test]
async fn an_editor_who_becomes_a_viewer_or_leaves_cannot_complete() {
    let apps = TestContext::create().await;
    let space = shared(&apps).await;
    let created = apps.open("edith", &in_space(space, "/a", b"x")).await.parsed();
    apps.send(&created, b"x").await;
    apps.share("alice", space, "edith", "viewer").await;
    assert_eq!(
        apps.complete("edith", &created).await.problem(),
        (403, "forbidden")
    );
    // She may read her upload, but receives no URLs to send content.
    let call = Call::new("GET /uploads/{uploadId}").path("uploadId", created.upload_id);
    let view: UploadView = apps.call("edith", call).await.parsed();
    assert!(view.transfer.is_none(), "{view:?}");
    apps.unshare("alice", space, "edith").await;
    assert_eq!(
        apps.complete("edith", &created).await.problem(),
        (404, "not-found")
    );
    let updated = async || {
        let feed = apps.feed("alice", Some(space)).await;
        feed.changes
            .iter()
            .filter(|change| change.file().is_some())
            .count()
    };
    assert_eq!(updated().await, 0);
    // The upload can be completed again once its user may write again.
    apps.share("alice", space, "edith", "editor").await;
    assert_eq!(apps.complete("edith", &created).await.status, 200);
    assert_eq!(updated().await, 1);
}

/// Runs the statement that completes an upload.
async fn complete(apps: &TestContext, caller: &Caller, created: &CreatedUpload) -> Result<Effect, Rejection> {
    let completing = Completing {
        upload_id: created.upload_id,
        event_id: platform::ids::new_id().into(),
        new_file_id: platform::ids::new_id().into(),
        path: &created.path,
        sha256: None,
        composite_sha256: None,
        object_key: &created.upload_id.object_key(),
    };
    let commit = commands::begin_all(&apps.clock, caller, i64::MAX);
    let database = apps.database.environment();
    let completed = database
        .complete_uploads(created.space_id, &[completing], i64::MAX, commit)
        .await;
    completed.unwrap().remove(0)
}

#[tokio::test]
async fn the_statement_that_completes_checks_rights_and_state_itself() {
    let apps = TestContext::create().await;
    let space = shared(&apps).await;
    let edith = Caller::from("edith".parse::<UserId>().unwrap());
    let complete = async |created: &CreatedUpload| complete(&apps, &edith, created).await;
    let open = async |path: &str| -> CreatedUpload {
        apps.open("edith", &in_space(space, path, b"x")).await.parsed()
    };
    let (one, other, late) = (open("/a").await, open("/b").await, open("/c").await);
    // Simulates a change between the function's read of the upload and its commit.
    apps.share("alice", space, "edith", "viewer").await;
    assert_eq!(complete(&one).await, Err(Rejection::Forbidden));
    apps.unshare("alice", space, "edith").await;
    assert_eq!(complete(&one).await, Err(Rejection::NotFound));
    apps.share("alice", space, "edith", "editor").await;
    let abort = Call::new("DELETE /uploads/{uploadId}").path("uploadId", other.upload_id);
    assert_eq!(apps.call("edith", abort).await.status, 204);
    assert_eq!(complete(&other).await, Err(Rejection::Expired));
    let Ok(Effect::Applied(mut events)) = complete(&one).await else {
        panic!("not completed")
    };
    assert_eq!(
        complete(&one).await,
        Ok(Effect::AlreadyApplied(Box::new(events.remove(0))))
    );
    apps.clock.advance(uploads::PUT_LIFETIME + db::IN_FLIGHT);
    assert_eq!(complete(&late).await, Err(Rejection::Expired));
}

#[tokio::test]
async fn joining_changing_roles_and_leaving_are_changes_of_the_space_and_of_the_members_personal_one() {
    let apps = TestContext::create().await;
    let space = apps.space("alice").await;
    // The third request changes nothing.
    for role in ["viewer", "editor", "editor"] {
        assert_eq!(apps.share("alice", space, "bob", role).await.body["role"], role);
    }
    assert_eq!(apps.unshare("bob", space, "bob").await.status, 204);
    let feed = apps.feed("bob", None).await;
    let shared = |role| Change::SpaceShared {
        subject_space_id: space,
        role,
    };
    let invited = Change::SpaceInvited {
        subject_space_id: space,
        role: Role::Viewer,
    };
    let told: Vec<(&Change, &str)> = feed
        .changes
        .iter()
        .map(|c| (&c.change, c.user_id.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (&invited, "alice"),
            (&shared(Role::Viewer), "bob"),
            (&shared(Role::Editor), "alice"),
            (
                &Change::SpaceLeft {
                    subject_space_id: space
                },
                "bob"
            ),
        ]
    );
    // The other members see each of them in the space's own feed.
    let changed = |role| Change::MemberChanged {
        member_id: "bob".parse().unwrap(),
        role,
    };
    let removed = Change::MemberRemoved {
        member_id: "bob".parse().unwrap(),
    };
    let shared_feed = apps.feed("alice", Some(space)).await.changes;
    let told: Vec<&Change> = shared_feed.iter().map(|change| &change.change).collect();
    assert_eq!(told, [&changed(Role::Viewer), &changed(Role::Editor), &removed]);
    // All changes of all three spaces are published.
    let mut committed = [apps.feed("alice", None).await.changes, feed.changes, shared_feed].concat();
    let mut events = apps.queue.events().await;
    for changes in [&mut committed, &mut events] {
        changes.sort_by_key(|event| event.event_id);
    }
    assert_eq!(events, committed);
    // A removed member has no access. For an owner, repeating the removal succeeds.
    let gone = Call::new("GET /changes").query("spaceId", space);
    assert_eq!(apps.call("bob", gone).await.problem(), (404, "not-found"));
    assert_eq!(apps.unshare("alice", space, "bob").await.status, 204);
    assert_eq!(apps.feed("bob", None).await.latest_sequence.get(), 4);
}

#[tokio::test]
async fn the_first_request_makes_the_personal_space() {
    let apps = TestContext::create().await;
    let list: SpaceList = apps.call("bob", Call::new("GET /spaces")).await.parsed();
    assert_eq!(list.spaces.len(), 1);
    assert_eq!(
        (
            list.spaces[0].kind,
            list.spaces[0].role,
            list.spaces[0].latest_sequence.get()
        ),
        (SpaceKind::Personal, Role::Owner, 0)
    );
}

#[tokio::test]
async fn who_sets_a_member_is_told_what_was_set_whatever_others_do_at_once() {
    let apps = TestContext::create().await;
    let space = shared(&apps).await;
    apps.share("alice", space, "olga", "owner").await;
    apps.share("alice", space, "bob", "viewer").await;
    let environments = [apps.environment(), apps.environment()];
    let set = |role: &str| {
        member("PUT /spaces/{spaceId}/members/{userId}", space, "bob").body(json!({ "role": role }))
    };
    for _ in 0..40 {
        let (one, other) = tokio::join!(
            environments[0].call("alice", set("editor")),
            environments[1].call("olga", set("viewer")),
        );
        assert_eq!((one.status, &one.body["role"]), (200, &json!("editor")));
        assert_eq!((other.status, &other.body["role"]), (200, &json!("viewer")));
    }
}

/// Number of spaces whose `member_count` differs from the number of their members.
async fn miscounted(apps: &TestContext) -> i64 {
    let miscounted = "SELECT count(*) FROM spaces s
        WHERE member_count <> (SELECT count(*) FROM members m WHERE m.space_id = s.id)";
    apps.database.number(miscounted).await
}

#[tokio::test]
async fn a_space_has_a_thousand_members_at_most() {
    let apps = TestContext::create().await;
    let space = shared(&apps).await;
    apps.share("alice", space, "olga", "owner").await;
    for user in ["bob", "carol"] {
        apps.known(user).await;
    }
    // Fills the space except for one member, with an INSERT as the previous release runs it.
    let members = format!(
        "INSERT INTO members SELECT '{space}', 'member-' || i, 'viewer', now() FROM generate_series(5, {}) i",
        model::MAX_MEMBERS - 1
    );
    apps.database.execute(&members).await;
    let (one, other) = tokio::join!(
        apps.share("alice", space, "bob", "viewer"),
        apps.share("olga", space, "carol", "viewer")
    );
    let mut problems = [one.problem(), other.problem()];
    problems.sort_unstable();
    assert_eq!(problems, [(200, "none"), (409, "too-many-members")]);
    // In a full space, roles can be changed, and a member who leaves makes room for another.
    assert_eq!(apps.share("alice", space, "edith", "viewer").await.status, 200);
    assert_eq!(
        apps.share("alice", space, "zoe", "viewer").await.problem(),
        (409, "too-many-members")
    );
    assert_eq!(apps.unshare("victor", space, "victor").await.status, 204);
    assert_eq!(apps.share("alice", space, "zoe", "viewer").await.status, 200);
    assert_eq!(miscounted(&apps).await, 0);
}

#[tokio::test]
async fn a_space_always_has_an_owner() {
    let apps = TestContext::create().await;
    let space = shared(&apps).await;
    assert_eq!(
        apps.unshare("alice", space, "alice").await.problem(),
        (409, "last-owner")
    );
    assert_eq!(
        apps.share("alice", space, "alice", "editor").await.problem(),
        (409, "last-owner")
    );
    // A request for the user's current role changes nothing, so a repeated resignation succeeds.
    apps.share("alice", space, "olga", "owner").await;
    for _ in 0..2 {
        assert_eq!(apps.share("olga", space, "olga", "editor").await.status, 200);
    }
    assert_eq!(
        apps.share("olga", space, "olga", "owner").await.problem(),
        (403, "forbidden")
    );
    for _ in 0..8 {
        assert_eq!(apps.share("alice", space, "olga", "owner").await.status, 200);
        let (one, other) = tokio::join!(
            apps.unshare("alice", space, "alice"),
            apps.unshare("olga", space, "olga")
        );
        // If both owners leave at once, one remains.
        let (stayed, left) = match (one.status, other.status) {
            (409, 204) => ("alice", "olga"),
            (204, 409) => ("olga", "alice"),
            statuses => panic!("{statuses:?}"),
        };
        assert_eq!(apps.share(stayed, space, left, "owner").await.status, 200);
        assert_eq!(apps.unshare("alice", space, "olga").await.status, 204);
    }
}

#[tokio::test]
async fn a_personal_space_is_not_shared() {
    let apps = TestContext::create().await;
    let space = apps.upload("alice", "/a", b"x").await.space_id;
    assert_eq!(
        apps.share("alice", space, "bob", "viewer").await.problem(),
        (403, "personal-space")
    );
    assert_eq!(
        apps.unshare("alice", space, "alice").await.problem(),
        (403, "personal-space")
    );
    assert_eq!(
        apps.share("bob", space, "bob", "owner").await.problem(),
        (404, "not-found")
    );
    // The attempts created no space. Bob's personal space is from his first request.
    assert_eq!(apps.database.number("SELECT count(*) FROM spaces").await, 2);
}

#[tokio::test]
async fn fan_out_addresses_the_members_of_the_moment() {
    let apps = TestContext::create().await;
    let space = shared(&apps).await;
    for user in ["alice", "edith", "victor"] {
        apps.connected(user, user).await;
    }
    upload(&apps, "edith", space, "/a").await;
    // Before the event is delivered, victor is removed and carol is added.
    apps.unshare("alice", space, "victor").await;
    apps.share("alice", space, "carol", "viewer").await;
    apps.connected("carol", "carol").await;
    let mut records = Vec::new();
    for body in apps.queue.drain().await {
        records.push(apps.queue.record(&body).await);
    }
    assert!(apps.invoke_fan_out(&records).await.is_empty());
    let frames = |user: &str| -> Vec<Value> {
        apps.gateway
            .frames(user)
            .iter()
            .flat_map(|frame| frame["changes"].as_array().unwrap().clone())
            .collect()
    };
    let types = |user: &str| -> Vec<String> {
        let frames = frames(user);
        let mut types: Vec<String> = frames
            .iter()
            .map(|change| change["eventType"].as_str().unwrap().to_owned())
            .collect();
        types.sort_unstable();
        types
    };
    let seen = ["FILE_UPDATED", "MEMBER_CHANGED", "MEMBER_REMOVED"];
    assert_eq!(types("alice"), seen);
    assert_eq!(types("edith"), seen);
    assert_eq!(
        types("carol"),
        [&seen[..], &["SPACE_INVITED", "SPACE_SHARED"]].concat()
    );
    // The former member receives only the notice of having left.
    assert_eq!(types("victor"), ["SPACE_LEFT"]);
}

#[tokio::test]
async fn commands_of_strangers_do_not_wait_for_the_lock_of_a_space() {
    let apps = TestContext::create().await;
    let space = shared(&apps).await;
    let file = upload(&apps, "alice", space, "/a").await.file_id;
    let open = async |path| -> CreatedUpload {
        let created = apps.open("edith", &in_space(space, path, b"x")).await.parsed();
        apps.send(&created, b"x").await;
        created
    };
    let (completed, aborted) = (open("/b").await, open("/c").await);
    // A former member knows all ids of the space.
    apps.unshare("alice", space, "edith").await;
    let mut locker = apps.database.another_client().await;
    let transaction = locker.transaction().await.unwrap();
    let sql = "SELECT FROM spaces WHERE id = $1 FOR NO KEY UPDATE";
    transaction
        .execute(sql, &[&uuid::Uuid::from(space)])
        .await
        .unwrap();
    let edith = Caller::from("edith".parse::<UserId>().unwrap());
    let new = || commands::begin(&apps.clock, &edith, None, i64::MAX);
    let database = apps.database.environment();
    let membership = Membership {
        space_id: space,
        member_id: &edith.user_id,
        role: Role::Owner,
    };
    let path = "/d".parse().unwrap();
    let base = Base::default();
    for decision in [
        complete(&apps, &edith, &completed).await,
        database.set_member(membership, new()).await.unwrap(),
        database
            .remove_member(space, &edith.user_id, new())
            .await
            .unwrap(),
        database
            .change_file(FileCommand::Move(file, &path, base), new())
            .await
            .unwrap(),
        database
            .change_file(FileCommand::Delete(file, base), new())
            .await
            .unwrap(),
    ] {
        assert_eq!(decision, Err(Rejection::NotFound));
    }
    let abort = database.abort_upload(aborted.upload_id, &edith).await.unwrap();
    assert_eq!(abort, Err(Rejection::NotFound));
    let strangers = (0..100).map(|i| format!("stranger-{i}")).collect::<Vec<_>>();
    let answers = join_all((strangers.iter()).map(|stranger| apps.unshare(stranger, space, "alice"))).await;
    for answer in &answers {
        assert_eq!(answer.problem(), (404, "not-found"));
    }
    transaction.rollback().await.unwrap();
    let delete = Call::new("DELETE /files/{fileId}").path("fileId", file);
    assert_eq!(apps.call("alice", delete).await.status, 200);
}

#[tokio::test]
async fn a_membership_that_comes_after_the_lock_does_not_make_a_command_run_without_it() {
    let apps = TestContext::create().await;
    let space = shared(&apps).await;
    let file = upload(&apps, "alice", space, "/a").await.file_id;
    let erin = Caller::from("erin".parse::<UserId>().unwrap());
    let database = apps.database.environment();
    let base = Base::default();
    let delete = || {
        let new = commands::begin(&apps.clock, &erin, None, i64::MAX);
        database.change_file(FileCommand::Delete(file, base), new)
    };
    // Both statements are prepared from here on.
    assert_eq!(delete().await.unwrap(), Err(Rejection::NotFound));
    let mut owner = apps.database.another_client().await;
    let transaction = owner.transaction().await.unwrap();
    // The lock query of the command does not read this table; its statement does.
    transaction
        .batch_execute("LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let add = async {
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'outbox'::regclass";
        while transaction
            .query_one(waiting, &[])
            .await
            .unwrap()
            .get::<_, i64>(0)
            == 0
        {
            tokio::task::yield_now().await;
        }
        let sql =
            "INSERT INTO members (space_id, user_id, role, added_at) VALUES ($1, 'erin', 'editor', now())";
        transaction
            .execute(sql, &[&uuid::Uuid::from(space)])
            .await
            .unwrap();
        transaction.commit().await.unwrap();
    };
    let (decision, ()) = tokio::join!(delete(), add);
    assert_eq!(decision.unwrap(), Err(Rejection::NotFound));
    assert!(matches!(delete().await.unwrap(), Ok(Effect::Applied(_))));
}

fn one(route: &'static str, space: SpaceId) -> Call {
    Call::new(route).path("spaceId", space)
}

async fn deleted(apps: &TestContext, user: &str) -> DeletedSpaceList {
    let call = Call::new("GET /spaces").query("deleted", true);
    apps.call(user, call).await.parsed()
}

#[tokio::test]
async fn a_renamed_space_has_its_new_name_for_all_members() {
    let apps = TestContext::create().await;
    let space = shared(&apps).await;
    let rename = |name: &str| one("PATCH /spaces/{spaceId}", space).body(json!({ "name": name }));
    for _ in 0..2 {
        let view: SpaceView = apps.call("alice", rename("Team")).await.parsed();
        assert_eq!(view.name.unwrap().as_str(), "Team");
    }
    let seen: SpaceView = apps
        .call("victor", one("GET /spaces/{spaceId}", space))
        .await
        .parsed();
    assert_eq!(
        (seen.name.unwrap().as_str(), seen.role, seen.latest_sequence.get()),
        ("Team", Role::Viewer, 3)
    );
    // The repetition made no change.
    let feed = apps.feed("victor", Some(space)).await.changes;
    let renamed = Change::SpaceRenamed {
        name: "Team".parse().unwrap(),
    };
    assert_eq!((feed.len(), &feed[2].change), (3, &renamed));
    assert_eq!(apps.queue.events().await, feed[2..]);

    assert_eq!(
        apps.call("edith", rename("Mine")).await.problem(),
        (403, "forbidden")
    );
    assert_eq!(
        apps.call("mallory", rename("Mine")).await.problem(),
        (404, "not-found")
    );
    assert_eq!(
        apps.call("alice", rename(" ")).await.problem(),
        (400, "invalid-request")
    );
    let personal = apps.upload("alice", "/a", b"x").await.space_id;
    let call = one("PATCH /spaces/{spaceId}", personal).body(json!({ "name": "Me" }));
    assert_eq!(apps.call("alice", call).await.problem(), (403, "personal-space"));
}

#[tokio::test]
async fn a_deleted_space_is_gone_for_all_and_comes_back_as_it_was() {
    let apps = TestContext::create().await;
    let space = shared(&apps).await;
    let file = upload(&apps, "edith", space, "/a").await.file_id;
    let open: CreatedUpload = apps.open("edith", &in_space(space, "/b", b"x")).await.parsed();
    apps.send(&open, b"x").await;
    apps.queue.drain().await;
    let delete = || one("DELETE /spaces/{spaceId}", space);
    for (user, problem) in [("edith", (403, "forbidden")), ("mallory", (404, "not-found"))] {
        assert_eq!(apps.call(user, delete()).await.problem(), problem);
    }
    for _ in 0..2 {
        assert_eq!(apps.call("alice", delete()).await.status, 204);
    }
    let events = apps.queue.events().await;
    assert_eq!((events.len(), &events[0].change), (1, &Change::SpaceDeleted {}));
    // A deleted space is no space to anybody, except that its owners can restore it.
    for user in ["alice", "edith"] {
        let list: SpaceList = apps.call(user, Call::new("GET /spaces")).await.parsed();
        assert!(list.spaces.iter().all(|view| view.space_id != space));
        for call in [
            one("GET /spaces/{spaceId}", space),
            one("GET /spaces/{spaceId}/members", space),
            one("PATCH /spaces/{spaceId}", space).body(json!({ "name": "X" })),
            member("PUT /spaces/{spaceId}/members/{userId}", space, "victor")
                .body(json!({ "role": "owner" })),
            member("DELETE /spaces/{spaceId}/members/{userId}", space, "victor"),
            Call::new("GET /changes").query("spaceId", space),
            Call::new("GET /files").query("spaceId", space),
            Call::new("GET /files/{fileId}").path("fileId", file),
            Call::new("DELETE /files/{fileId}").path("fileId", file),
            Call::new("POST /uploads").body(in_space(space, "/c", b"x")),
        ] {
            let route = call.route();
            assert_eq!(
                apps.call(user, call).await.problem(),
                (404, "not-found"),
                "{route}"
            );
        }
    }
    assert_eq!(apps.complete("edith", &open).await.problem(), (404, "not-found"));
    for user in ["edith", "mallory"] {
        assert_eq!(apps.call(user, delete()).await.problem(), (404, "not-found"));
        let restore = one("POST /spaces/{spaceId}/restore", space);
        assert_eq!(apps.call(user, restore).await.problem(), (404, "not-found"));
        assert!(deleted(&apps, user).await.spaces.is_empty());
    }
    let listed = deleted(&apps, "alice").await.spaces;
    assert_eq!(
        (listed.len(), listed[0].space.space_id, listed[0].deleted_at),
        (1, space, apps.clock.now())
    );
    assert_eq!(
        listed[0].purged_at,
        apps.clock.now() + time::Duration::from(apps.retention.trash)
    );

    apps.clock
        .advance(time::Duration::from(apps.retention.trash) - time::Duration::SECOND);
    for _ in 0..2 {
        let view: SpaceView = apps
            .call("alice", one("POST /spaces/{spaceId}/restore", space))
            .await
            .parsed();
        assert_eq!((view.space_id, view.role), (space, Role::Owner));
    }
    let restore = one("POST /spaces/{spaceId}/restore", space);
    assert_eq!(apps.call("edith", restore).await.problem(), (403, "forbidden"));
    let feed = apps.feed("victor", Some(space)).await.changes;
    assert_eq!(feed.last().unwrap().change, Change::SpaceRestored {});
    assert_eq!(feed.len(), 5);
    assert!(deleted(&apps, "alice").await.spaces.is_empty());
    let show = Call::new("GET /files/{fileId}").path("fileId", file);
    assert_eq!(apps.call("victor", show).await.status, 200);
}

#[tokio::test]
async fn a_deleted_space_cannot_be_restored_after_its_time_and_no_personal_one_is_deleted() {
    let apps = TestContext::create().await;
    let space = shared(&apps).await;
    let delete = |space| one("DELETE /spaces/{spaceId}", space);
    assert_eq!(apps.call("alice", delete(space)).await.status, 204);
    apps.clock.advance(time::Duration::from(apps.retention.trash));
    let restore = one("POST /spaces/{spaceId}/restore", space);
    assert_eq!(apps.call("alice", restore).await.problem(), (404, "not-found"));
    assert!(deleted(&apps, "alice").await.spaces.is_empty());
    let personal = apps.upload("alice", "/a", b"x").await.space_id;
    assert_eq!(
        apps.call("alice", delete(personal)).await.problem(),
        (403, "personal-space")
    );
}

#[tokio::test]
async fn of_many_requests_at_once_one_deletes_and_one_restores() {
    let apps = TestContext::create().await;
    let space = shared(&apps).await;
    for (route, change) in [
        ("DELETE /spaces/{spaceId}", Change::SpaceDeleted {}),
        ("POST /spaces/{spaceId}/restore", Change::SpaceRestored {}),
    ] {
        let answers = join_all((0..32).map(|_| apps.call("alice", one(route, space)))).await;
        assert!(answers.iter().all(|answer| answer.status < 300), "{answers:?}");
        let events = apps.queue.events().await;
        assert_eq!((events.len(), &events[0].change), (1, &change));
    }
}

#[tokio::test]
async fn deleted_spaces_come_in_pages() {
    let apps = TestContext::create().await;
    let mut expected = Vec::new();
    for _ in 0..3 {
        let space = apps.space("alice").await;
        apps.call("alice", one("DELETE /spaces/{spaceId}", space)).await;
        expected.push(space);
    }
    let call = Call::new("GET /spaces").query("deleted", true).query("limit", 2);
    let first: DeletedSpaceList = apps.call("alice", call.clone()).await.parsed();
    let call = call.query("pageToken", first.next_page_token.unwrap());
    let last: DeletedSpaceList = apps.call("alice", call).await.parsed();
    assert!(last.next_page_token.is_none());
    let listed = first.spaces.iter().chain(&last.spaces);
    assert_eq!(
        listed.map(|view| view.space.space_id).collect::<Vec<_>>(),
        expected
    );
}

#[tokio::test]
async fn members_hear_that_their_space_is_deleted_and_restored() {
    let apps = TestContext::create().await;
    let space = shared(&apps).await;
    apps.connected("victor", "victor").await;
    for route in ["DELETE /spaces/{spaceId}", "POST /spaces/{spaceId}/restore"] {
        apps.call("alice", one(route, space)).await;
    }
    let mut records = Vec::new();
    for body in apps.queue.drain().await {
        records.push(apps.queue.record(&body).await);
    }
    assert!(apps.invoke_fan_out(&records).await.is_empty());
    let frames = apps.gateway.frames("victor");
    let changes = frames
        .iter()
        .flat_map(|frame| frame["changes"].as_array().unwrap());
    let types: Vec<&str> = changes
        .map(|change| change["eventType"].as_str().unwrap())
        .collect();
    assert_eq!(types, ["SPACE_DELETED", "SPACE_RESTORED"]);
}
