//! Baseline of connecting: the statements for a ticket and a connection.

use std::time::Instant;

use db::{Connecting, Database, DatabaseUrl, NewConnection, NewTicket};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use model::{Caller, UserId};
use platform::Clock;
use platform::config::{ConfigError, Vars};
use time::Duration;

/// Database client configured as in the functions.
pub(crate) fn database() -> Result<Database, ConfigError> {
    let url: DatabaseUrl = Vars::from_env().required("DATABASE_URL")?;
    Ok(Database::new(url))
}

/// Serves invocations, each with users to connect once; responds with the total duration in microseconds.
pub(crate) async fn run() -> Result<(), Error> {
    let database = database()?;
    database.warm_up().await;
    let clock = Clock::system();
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Vec<String>>| {
        let begun = Instant::now();
        for user in event.payload {
            let caller = Caller::from(UserId::try_from(user)?);
            let now = clock.now();
            let id = platform::ids::new_id().simple().to_string();
            let hash = platform::digest::sha256(id.as_bytes());
            let ticket = NewTicket {
                hash: &hash,
                caller: &caller,
                device_id: None,
                expires_at: now + Duration::seconds(30),
            };
            database.add_ticket(ticket).await?;
            let connecting = NewConnection {
                ticket_hash: &hash,
                connection_id: &id,
                connected_at: now,
                expires_at: now + Duration::hours(2),
                limit: 64,
            };
            let connected = database.connect(connecting).await?;
            if !matches!(connected, Connecting::Connected(_)) {
                return Err(Error::from("not connected"));
            }
        }
        Ok(begun.elapsed().as_secs_f64() * 1e6)
    }))
    .await
}
