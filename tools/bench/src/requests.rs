//! API Gateway events for functions: the samples, changed to use the benchmark's data.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::Harness;
use crate::settings::{SHA256_SQL, SIZE};

/// A user with a personal space.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) space_id: Uuid,
}

impl Harness {
    /// Creates a user with a personal space.
    pub(crate) async fn user(&self) -> Result<User> {
        let space_id = platform::ids::new_id();
        let id = format!("u{}", space_id.simple());
        let sql = format!(
            "INSERT INTO spaces (id, kind, owner_id, created_at) VALUES ('{space_id}', 'personal', '{id}', now());
            INSERT INTO members (space_id, user_id, role, added_at) VALUES ('{space_id}', '{id}', 'owner', now())"
        );
        self.client
            .batch_execute(&sql)
            .await
            .context("cannot make a user")?;
        Ok(User { id, space_id })
    }

    /// Stores a connection of the user.
    pub(crate) async fn listener(&self, user: &User) -> Result<()> {
        let sql = "INSERT INTO connections VALUES ($1, $2, NULL, now() - interval '1 hour', now() + interval '1 hour')";
        let connection = format!("c{}=", platform::ids::new_id().simple());
        self.client
            .execute(sql, &[&connection, &user.id])
            .await
            .context("cannot store a connection")?;
        Ok(())
    }

    /// Opens `number` uploads, each to a different path, and returns their ids.
    pub(crate) async fn uploads(&self, user: &User, number: usize) -> Result<Vec<Uuid>> {
        let sql = format!(
            "INSERT INTO uploads (id, space_id, user_id, path, size, sha256, created_at, expires_at)
            SELECT id, $1, $2, '/bench/' || id, {SIZE}, {SHA256_SQL}, now(), now() + interval '1 hour'
            FROM (SELECT uuidv7() AS id FROM generate_series(1, $3))
            RETURNING id"
        );
        let number = i32::try_from(number)?;
        let rows = self
            .client
            .query(&sql, &[&user.space_id, &user.id, &number])
            .await;
        Ok(rows
            .context("cannot open uploads")?
            .iter()
            .map(|row| row.get(0))
            .collect())
    }

    /// A sample HTTP request, changed to this user.
    pub(crate) fn request(&self, sample: &str, user: &str) -> Result<Value> {
        let mut event = self.event(sample)?;
        event["requestContext"]["authorizer"]["jwt"]["claims"]["sub"] = json!(user);
        Ok(event)
    }

    /// Request to `POST /uploads/{uploadId}/complete`.
    pub(crate) fn completing(&self, user: &User, upload_id: Uuid) -> Result<Bytes> {
        let mut event = self.request("complete-upload.post.json", &user.id)?;
        event["pathParameters"]["uploadId"] = json!(upload_id);
        Ok(event.to_string().into())
    }

    /// Request to `POST /uploads/batch/complete`.
    pub(crate) fn completing_all(&self, user: &User, upload_ids: &[Uuid]) -> Result<Bytes> {
        let mut event = self.request("complete-upload.post-batch.json", &user.id)?;
        event["body"] = json!(json!({ "uploadIds": upload_ids }).to_string());
        Ok(event.to_string().into())
    }
}

/// Parses the body of a response. It is an error if the status differs from `status`.
pub(crate) fn answered(answer: &[u8], status: u16) -> Result<Value> {
    let answer: Value = serde_json::from_slice(answer).context("an answer is no JSON")?;
    ensure!(answer["statusCode"] == status, "answered {answer}");
    let body = answer["body"].as_str().unwrap_or_default();
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(body).context("a body is no JSON")
}
