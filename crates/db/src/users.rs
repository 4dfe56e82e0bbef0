//! Users, as the claims of their tokens describe them.

use model::{Caller, EmailAddress, PersonName, ProfileView};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::changes::epoch;
use crate::client::Database;
use crate::error::Error;
use crate::query::Query;
use crate::row::{get, parse_opt};

pub(crate) const QUERIES: &[&Query] = &[&RECORD_USER, &LOAD_PROFILE];

/// $1 user, $2 name or null, $3 verified e-mail address or null, $4 now, $5 epoch or null.
///
/// Most requests find the row as it is and write nothing. A token without a claim leaves the stored value.
const RECORD_USER: Query = Query::new(
    "-- record_user
INSERT INTO users AS u (user_id, name, email, seen_at)
SELECT $1, $2, $3, $4
WHERE admit($1, $5)
ON CONFLICT (user_id) DO UPDATE
SET name = coalesce(excluded.name, u.name), email = coalesce(excluded.email, u.email), seen_at = excluded.seen_at
WHERE u.name IS DISTINCT FROM coalesce(excluded.name, u.name)
    OR u.email IS DISTINCT FROM coalesce(excluded.email, u.email)
    OR u.seen_at < excluded.seen_at - interval '1 day'",
);

/// $1 user, $2 epoch or null.
const LOAD_PROFILE: Query = Query::new(
    "-- load_profile
SELECT h.epoch, u.name, u.email
FROM history h
LEFT JOIN users u ON u.user_id = $1
WHERE admit($1, $2)",
);

impl Database {
    /// Stores the caller's profile, and that the caller has used the service. The first request of a user
    /// creates the row.
    pub async fn record_user(&self, caller: &Caller, now: OffsetDateTime) -> Result<(), Error> {
        self.rows(
            &RECORD_USER,
            &[
                &caller.user_id.as_str(),
                &caller.profile.name.as_ref().map(PersonName::as_str),
                &caller.profile.email.as_ref().map(EmailAddress::as_str),
                &now,
                &epoch(caller),
            ],
        )
        .await?;
        Ok(())
    }

    /// The caller's profile as it is stored, and the current epoch.
    pub async fn load_profile(&self, caller: &Caller) -> Result<ProfileView, Error> {
        let rows = self
            .rows(&LOAD_PROFILE, &[&caller.user_id.as_str(), &epoch(caller)])
            .await?;
        let row = rows.first().ok_or(Error::NoHistory)?;
        Ok(ProfileView {
            user_id: caller.user_id.clone(),
            name: parse_opt::<String, PersonName>(row, "name")?,
            email: parse_opt::<String, EmailAddress>(row, "email")?,
            epoch: get::<Uuid>(row, "epoch")?.into(),
        })
    }
}
