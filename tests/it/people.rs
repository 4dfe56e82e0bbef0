//! People have names, which others see.

use model::{FileDetail, InvitationView, MemberList, PersonName, ProfileView, ReceivedInvitationList};
use serde_json::json;
use tests::{Call, TestContext};

const ADA: [(&str, &str); 3] = [
    ("name", "Ada Lovelace"),
    ("email", "ada@example.com"),
    ("email_verified", "true"),
];

fn as_ada(call: Call) -> Call {
    ADA.iter()
        .fold(call, |call, (name, value)| call.claim(name, value))
}

#[tokio::test]
async fn a_profile_is_shown_to_its_user() {
    let apps = TestContext::create().await;
    let bare: ProfileView = apps.call("ada", Call::new("GET /me")).await.parsed();
    assert_eq!(
        (bare.user_id.as_str(), bare.name, bare.email),
        ("ada", None, None)
    );
    let full: ProfileView = apps.call("ada", as_ada(Call::new("GET /me"))).await.parsed();
    assert_eq!(full.name.unwrap().as_str(), "Ada Lovelace");
    assert_eq!(full.email.unwrap().as_str(), "ada@example.com");
    let listed = apps.call("ada", Call::new("GET /spaces")).await;
    assert_eq!(listed.body["epoch"], json!(full.epoch));
}

#[tokio::test]
async fn others_see_the_name_of_who_did_something_as_it_is_now() {
    let apps = TestContext::create().await;
    apps.call("ada", as_ada(Call::new("GET /spaces"))).await;
    let space = apps.space("ada").await;
    let mut body = tests::upload_body("/a", b"x");
    body["spaceId"] = json!(space);
    let file = apps
        .upload_as("ada", &body, b"x")
        .await
        .parsed::<model::FileChanged>()
        .file_id;
    apps.known("bob").await;
    let invite = Call::new("POST /spaces/{spaceId}/invitations").path("spaceId", space);
    let made: InvitationView = apps
        .call("ada", invite.body(json!({ "userId": "bob", "role": "viewer" })))
        .await
        .parsed();
    assert_eq!(made.inviter_name.as_ref().unwrap().as_str(), "Ada Lovelace");
    let received: ReceivedInvitationList = apps.call("bob", Call::new("GET /invitations")).await.parsed();
    assert_eq!(received.invitations[0].inviter_name, made.inviter_name);
    apps.accept("bob", made.invitation_id).await;
    apps.connected("bob", "bob").await;

    // The pushed frames and the feed have the name of the time at which they are read.
    let mut records = Vec::new();
    for body in apps.queue.drain().await {
        records.push(apps.queue.record(&body).await);
    }
    assert!(apps.invoke_fan_out(&records).await.is_empty());
    let frames = apps.gateway.frames("bob");
    let changes = frames
        .iter()
        .flat_map(|frame| frame["changes"].as_array().unwrap());
    let pushed: Vec<_> = changes.filter(|change| change["userId"] == "ada").collect();
    assert!(!pushed.is_empty());
    assert!(
        pushed.iter().all(|change| change["userName"] == "Ada Lovelace"),
        "{pushed:?}"
    );

    let renamed = Call::new("GET /spaces").claim("name", "Countess");
    apps.call("ada", renamed).await;
    let feed = apps.feed("bob", Some(space)).await;
    let names: Vec<_> = feed
        .changes
        .iter()
        .map(|change| {
            (
                change.user_id.as_str(),
                change.user_name.as_ref().map(PersonName::as_str),
            )
        })
        .collect();
    assert_eq!(names, [("ada", Some("Countess")), ("bob", None)]);
    let call = Call::new("GET /files/{fileId}").path("fileId", file);
    let detail: FileDetail = apps.call("bob", call).await.parsed();
    assert_eq!(
        detail.versions[0].user_name.as_ref().unwrap().as_str(),
        "Countess"
    );
    let call = Call::new("GET /spaces/{spaceId}/members").path("spaceId", space);
    let members: MemberList = apps.call("bob", call).await.parsed();
    let names: Vec<_> = members
        .members
        .iter()
        .map(|member| {
            (
                member.user_id.as_str(),
                member.user_name.as_ref().map(PersonName::as_str),
            )
        })
        .collect();
    assert_eq!(names, [("ada", Some("Countess")), ("bob", None)]);
}
