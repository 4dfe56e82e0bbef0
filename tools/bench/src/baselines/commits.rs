//! Bare commits of one row each, by as many clients as there are environments. Each client updates its own
//! row.

use std::time::Instant;

use futures_util::future::try_join_all;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde::{Deserialize, Serialize};
use tokio_postgres::NoTls;

/// Number of clients and commits.
#[derive(Deserialize, Serialize)]
pub(crate) struct Task {
    pub(crate) clients: usize,
    /// Commits per client.
    pub(crate) commits: usize,
}

/// Serves invocations; responds with the commits per second.
pub(crate) async fn run() -> Result<(), Error> {
    let url: String = platform::config::Vars::from_env().required("DATABASE_URL")?;
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Task>| {
        let Task { clients, commits } = event.payload;
        let ready = try_join_all((0_i32..).take(clients).map(async |row| {
            let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
            tokio::spawn(connection);
            let statement = client.prepare("UPDATE bare SET n = n + 1 WHERE id = $1").await?;
            Ok::<_, tokio_postgres::Error>((client, statement, row))
        }))
        .await?;
        let begun = Instant::now();
        try_join_all(ready.iter().map(async |(client, statement, row)| {
            for _ in 0..commits {
                client.execute(statement, &[row]).await?;
            }
            Ok::<_, tokio_postgres::Error>(())
        }))
        .await?;
        let all = u32::try_from(clients * commits)?;
        Ok::<_, Error>(f64::from(all) / begun.elapsed().as_secs_f64())
    }))
    .await
}
