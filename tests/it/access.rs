//! Access matrix: every route of the template with every kind of caller, on the deployed stack.

use std::collections::{BTreeMap, BTreeSet};

use client::Token;
use model::{CreatedUpload, FileId, SpaceId, UploadId};
use serde_json::json;
use tests::{Answer, Call, Contract, Proxy, new_user, put_to_storage, subject, template_routes, upload_body};

/// Callers, in the order of the statuses of a row.
const EVERYBODY: [&str; 6] = [
    "owner",
    "editor",
    "viewer",
    "former member",
    "stranger",
    "anonymous",
];

/// Expected status of each route for each caller. For a batch it is the status of each item; a batch that is
/// not refused as a whole is answered 200.
const MATRIX: &[(&str, [i64; 6])] = &[
    ("GET /uploads", [200, 200, 200, 200, 200, 401]),
    ("POST /uploads", [201, 201, 403, 404, 404, 401]),
    ("POST /uploads/batch", [201, 201, 403, 404, 404, 401]),
    ("POST /uploads/batch/complete", [200, 200, 403, 404, 404, 401]),
    ("GET /uploads/{uploadId}", [200, 200, 200, 404, 404, 401]),
    ("DELETE /uploads/{uploadId}", [204, 204, 204, 404, 404, 401]),
    ("POST /uploads/{uploadId}/parts", [200, 200, 403, 404, 404, 401]),
    (
        "POST /uploads/{uploadId}/complete",
        [200, 200, 403, 404, 404, 401],
    ),
    ("GET /files", [200, 200, 200, 404, 404, 401]),
    ("GET /files/{fileId}", [200, 200, 200, 404, 404, 401]),
    ("GET /files/{fileId}/content", [307, 307, 307, 404, 404, 401]),
    ("POST /files/batch", [200, 200, 403, 404, 404, 401]),
    ("PATCH /files/{fileId}", [200, 200, 403, 404, 404, 401]),
    ("DELETE /files/{fileId}", [200, 200, 403, 404, 404, 401]),
    ("POST /files/{fileId}/restore", [200, 200, 403, 404, 404, 401]),
    (
        "POST /files/{fileId}/versions/{version}/restore",
        [200, 200, 403, 404, 404, 401],
    ),
    // Every user has a personal space and can create spaces.
    ("GET /spaces", [200, 200, 200, 200, 200, 401]),
    ("POST /spaces", [201, 201, 201, 201, 201, 401]),
    ("GET /spaces/{spaceId}", [200, 200, 200, 404, 404, 401]),
    ("PATCH /spaces/{spaceId}", [200, 403, 403, 404, 404, 401]),
    // Owners use a space of their own.
    ("DELETE /spaces/{spaceId}", [204, 403, 403, 404, 404, 401]),
    ("POST /spaces/{spaceId}/restore", [200, 403, 403, 404, 404, 401]),
    (
        "GET /spaces/{spaceId}/invitations",
        [200, 403, 403, 404, 404, 401],
    ),
    (
        "POST /spaces/{spaceId}/invitations",
        [201, 403, 403, 404, 404, 401],
    ),
    (
        "DELETE /spaces/{spaceId}/invitations/{invitationId}",
        [204, 403, 403, 404, 404, 401],
    ),
    ("GET /me", [200, 200, 200, 200, 200, 401]),
    // Erasing succeeds for users of their own, whom the scenario makes for it.
    ("DELETE /me", [204, 204, 204, 204, 204, 401]),
    ("GET /invitations", [200, 200, 200, 200, 200, 401]),
    // Nobody is the invited person.
    (
        "POST /invitations/{invitationId}/accept",
        [404, 404, 404, 404, 404, 401],
    ),
    (
        "POST /invitations/{invitationId}/decline",
        [404, 404, 404, 404, 404, 401],
    ),
    ("GET /spaces/{spaceId}/members", [200, 200, 200, 404, 404, 401]),
    (
        "GET /spaces/{spaceId}/members/{userId}",
        [200, 200, 200, 404, 404, 401],
    ),
    (
        "PUT /spaces/{spaceId}/members/{userId}",
        [200, 403, 403, 404, 404, 401],
    ),
    (
        "DELETE /spaces/{spaceId}/members/{userId}",
        [204, 403, 403, 404, 404, 401],
    ),
    ("GET /changes", [200, 200, 200, 404, 404, 401]),
    ("POST /tickets", [201, 201, 201, 201, 201, 401]),
];

/// User id with characters that must be percent-encoded.
const SOMEBODY_ELSE: &str = "auth0|somebody else";

struct Scenario {
    proxy: Proxy,
    space: SpaceId,
    /// Token of each caller; `None` for the anonymous one.
    tokens: Vec<Option<Token>>,
    /// Upload of each caller and route, opened while the caller was allowed to. Strangers use the owner's.
    uploads: BTreeMap<(usize, &'static str), UploadId>,
    counter: usize,
}

impl Scenario {
    async fn new() -> Self {
        let proxy = Proxy::start().await;
        let mut tokens = Vec::new();
        for _ in 0..5 {
            tokens.push(Some(new_user().await.1));
        }
        tokens.push(None);
        let call = Call::new("POST /spaces").body(json!({ "name": "Matrix" }));
        let space = proxy
            .call(tokens[0].as_ref(), &call)
            .await
            .parsed::<model::SpaceView>()
            .space_id;
        let mut scenario = Self {
            proxy,
            space,
            tokens,
            uploads: BTreeMap::new(),
            counter: 0,
        };
        for column in 1..4 {
            scenario.role(column, "editor").await;
        }
        scenario.join_somebody_else().await;
        let of_uploads =
            |route: &str| route.contains("{uploadId}") || route == "POST /uploads/batch/complete";
        for (route, _) in MATRIX.iter().filter(|(route, _)| of_uploads(route)) {
            for column in 0..4 {
                let size = if route.ends_with("/parts") {
                    100 * 1024 * 1024
                } else {
                    1
                };
                let upload = scenario.open(column, size).await;
                scenario.uploads.insert((column, route), upload);
            }
            let owners = scenario.uploads[&(0, *route)];
            // Strangers tried this upload first, so it is still open.
            scenario
                .uploads
                .extend([((4, *route), owners), ((5, *route), owners)]);
        }
        scenario.role(2, "viewer").await;
        let call = Call::new("DELETE /spaces/{spaceId}/members/{userId}").path("spaceId", scenario.space);
        let former = subject(scenario.tokens[3].as_ref().unwrap());
        assert_eq!(scenario.call(0, &call.path("userId", former)).await.status, 204);
        scenario
    }

    async fn call(&self, column: usize, call: &Call) -> Answer {
        self.proxy.call(self.tokens[column].as_ref(), call).await
    }

    /// Makes the caller a member, or changes the role.
    async fn role(&self, column: usize, role: &str) {
        let member = subject(self.tokens[column].as_ref().unwrap());
        let call = Call::new("PUT /spaces/{spaceId}/members/{userId}").path("spaceId", self.space);
        let call = call.path("userId", &member).body(json!({ "role": role }));
        if self.call(0, &call).await.status == 200 {
            return;
        }
        // Users can be invited by user id only after using the service once.
        self.call(column, &Call::new("GET /spaces")).await;
        let invitation_id = self.invite(json!({ "userId": member, "role": role })).await;
        let call = Call::new("POST /invitations/{invitationId}/accept").path("invitationId", invitation_id);
        let answer = self.call(column, &call).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    async fn invite(&self, body: serde_json::Value) -> model::InvitationId {
        let call = Call::new("POST /spaces/{spaceId}/invitations").path("spaceId", self.space);
        let made: model::InvitationView = self.call(0, &call.body(body)).await.parsed();
        made.invitation_id
    }

    /// Makes a user without a token a member.
    async fn join_somebody_else(&self) {
        let url: db::DatabaseUrl = tests::stack().database_url.parse().unwrap();
        let database = db::Database::new(url);
        let somebody = model::Caller::from(SOMEBODY_ELSE.parse::<model::UserId>().unwrap());
        let clock = platform::Clock::system();
        let new_space = || platform::ids::new_id().into();
        database
            .create_personal_space(new_space(), &somebody, clock.now())
            .await
            .unwrap();
        let invitation_id = self
            .invite(json!({ "userId": SOMEBODY_ELSE, "role": "viewer" }))
            .await;
        let new = commands::begin(&clock, &somebody, None, i64::MAX);
        let accepted = database
            .accept_invitation(invitation_id, new_space(), i64::MAX, new)
            .await;
        accepted.unwrap().unwrap();
    }

    async fn open(&mut self, column: usize, size: i64) -> UploadId {
        self.counter += 1;
        let mut body = upload_body(&format!("/{}", self.counter), b"x");
        body["spaceId"] = json!(self.space);
        body["size"] = json!(size);
        let created: CreatedUpload = self
            .call(column, &Call::new("POST /uploads").body(body))
            .await
            .parsed();
        if let Some(put) = created.put() {
            put_to_storage(put, b"x").await;
        }
        created.upload_id
    }

    /// Creates a file that no request has changed.
    async fn file(&mut self) -> FileId {
        let upload_id = self.open(0, 1).await;
        let call = Call::new("POST /uploads/{uploadId}/complete").path("uploadId", upload_id);
        self.call(0, &call).await.parsed::<model::FileChanged>().file_id
    }

    /// Request of a caller to a route.
    async fn request(&mut self, column: usize, route: &'static str) -> Call {
        let call = Call::new(route);
        self.counter += 1;
        let name = format!("/{}-{}", self.counter, column);
        match route {
            "POST /uploads" => {
                let mut body = upload_body(&name, b"x");
                body["spaceId"] = json!(self.space);
                call.body(body)
            }
            "POST /uploads/batch" => {
                let mut body = upload_body(&name, b"x");
                body["spaceId"] = json!(self.space);
                call.body(json!({ "uploads": [body] }))
            }
            "POST /uploads/batch/complete" => {
                call.body(json!({ "uploadIds": [self.uploads[&(column, route)]] }))
            }
            "POST /files/batch" => {
                let (moved, deleted) = (self.file().await, self.file().await);
                call.body(json!({ "changes": [
                    { "action": "move", "fileId": moved, "path": name },
                    { "action": "delete", "fileId": deleted },
                ]}))
            }
            "POST /uploads/{uploadId}/parts" => call
                .path("uploadId", self.uploads[&(column, route)])
                .body(json!({ "parts": [{ "partNumber": 1, "sha256": client::sha256(b"x") }] })),
            _ if route.contains("{uploadId}") => call.path("uploadId", self.uploads[&(column, route)]),
            "PATCH /files/{fileId}" => call
                .path("fileId", self.file().await)
                .body(json!({ "path": name })),
            "POST /files/{fileId}/versions/{version}/restore" => {
                call.path("fileId", self.file().await).path("version", 1)
            }
            _ if route.contains("{fileId}") => call.path("fileId", self.file().await),
            "GET /files" | "GET /changes" => call.query("spaceId", self.space),
            "POST /spaces" => call.body(json!({ "name": name })),
            "DELETE /spaces/{spaceId}" if column == 0 => {
                let made = Call::new("POST /spaces").body(json!({ "name": name }));
                let made: model::SpaceView = self.call(0, &made).await.parsed();
                call.path("spaceId", made.space_id)
            }
            "PATCH /spaces/{spaceId}" => call.path("spaceId", self.space).body(json!({ "name": name })),
            "GET /spaces/{spaceId}" | "DELETE /spaces/{spaceId}" | "POST /spaces/{spaceId}/restore" => {
                call.path("spaceId", self.space)
            }
            "GET /spaces/{spaceId}/invitations" => call.path("spaceId", self.space),
            "POST /spaces/{spaceId}/invitations" => call
                .path("spaceId", self.space)
                .body(json!({ "email": "somebody@example.com", "role": "viewer" })),
            _ if route.contains("{invitationId}") => call.path("spaceId", self.space).path(
                "invitationId",
                self.invite(json!({
                    "email": format!("somebody-{}@example.com", self.counter), "role": "viewer"
                }))
                .await,
            ),
            "GET /spaces/{spaceId}/members" => call.path("spaceId", self.space),
            "GET /spaces/{spaceId}/members/{userId}" => {
                let owner = subject(self.tokens[0].as_ref().unwrap());
                call.path("spaceId", self.space).path("userId", owner)
            }
            "PUT /spaces/{spaceId}/members/{userId}" => call
                .path("spaceId", self.space)
                .path("userId", SOMEBODY_ELSE)
                .body(json!({ "role": "viewer" })),
            "DELETE /spaces/{spaceId}/members/{userId}" => {
                call.path("spaceId", self.space).path("userId", SOMEBODY_ELSE)
            }
            "POST /tickets" => call.body(json!({})),
            _ => call,
        }
    }
}

/// Status of an answer; of a batch, the status that all of its items have.
fn status(answer: &Answer) -> i64 {
    let Some(results) = answer.body["results"].as_array() else {
        return answer.status;
    };
    let statuses: BTreeSet<i64> = results
        .iter()
        .map(|result| result["status"].as_i64().unwrap())
        .collect();
    assert_eq!((answer.status, statuses.len()), (200, 1), "{answer:?}");
    *statuses.first().unwrap()
}

#[tokio::test]
async fn every_route_answers_everybody_as_the_matrix_says() {
    let rows: BTreeSet<String> = MATRIX.iter().map(|(route, _)| (*route).to_owned()).collect();
    assert_eq!(rows, template_routes(), "each route of the template has its row");

    let mut scenario = Scenario::new().await;
    let mut wrong = Vec::new();
    // Callers without access come first: the objects they were refused must still exist for the others.
    for column in (0..EVERYBODY.len()).rev() {
        for &(route, statuses) in MATRIX {
            let call = scenario.request(column, route).await;
            // Nobody can do anything after this.
            let erased = match (route, &scenario.tokens[column]) {
                ("DELETE /me", Some(_)) => Some(new_user().await.1),
                _ => None,
            };
            let token = erased.as_ref().or(scenario.tokens[column].as_ref());
            let answer = scenario.proxy.call(token, &call).await;
            if status(&answer) != statuses[column] {
                wrong.push(format!("{route}, {}: {answer:?}", EVERYBODY[column]));
            }
            if route == "GET /spaces" && answer.status == 200 {
                let listed = answer.body["spaces"].as_array().unwrap();
                let sees = listed
                    .iter()
                    .any(|space| space["spaceId"] == json!(scenario.space));
                assert_eq!(sees, column < 3, "{}", EVERYBODY[column]);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_description_has_the_routes_of_the_template() {
    assert_eq!(Contract::get().routes(), template_routes());
    // The API description lists every status of the matrix.
    for &(route, statuses) in MATRIX {
        let described = Contract::get().statuses(route);
        assert!(
            statuses.iter().all(|status| described.contains(status)),
            "{route}"
        );
    }
}

#[test]
fn every_example_of_the_description_is_as_described() {
    assert!(Contract::get().check_examples() >= 6);
}

/// The trash of a space is for all of its members; only owners erase.
#[tokio::test]
async fn everybody_in_a_space_sees_its_trash_and_only_owners_erase() {
    let mut scenario = Scenario::new().await;
    let file = scenario.file().await;
    let delete = Call::new("DELETE /files/{fileId}").path("fileId", file);
    assert_eq!(scenario.call(0, &delete).await.status, 200);
    let trash = Call::new("GET /files").query("deleted", "true");
    let trash = trash.query("spaceId", scenario.space);
    let erase = delete.query("permanently", "true");
    for (column, [lists, erases]) in [
        (5, [401, 401]),
        (4, [404, 404]),
        (3, [404, 404]),
        (2, [200, 403]),
        (1, [200, 403]),
        (0, [200, 200]),
    ] {
        let listed = scenario.call(column, &trash).await;
        assert_eq!(listed.status, lists, "{}", EVERYBODY[column]);
        if lists == 200 {
            let files = listed.body["files"].as_array().unwrap();
            assert!(files.iter().any(|deleted| deleted["fileId"] == json!(file)));
        }
        assert_eq!(
            scenario.call(column, &erase).await.status,
            erases,
            "{}",
            EVERYBODY[column]
        );
    }
}
