//! The benchmark database.

use anyhow::{Context as _, Result};
use tokio_postgres::{Client, NoTls};

/// Connects as the schema's owner.
pub(crate) async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls)
        .await
        .context("cannot reach PostgreSQL")?;
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(client)
}
