//! Prints each change once as it arrives. After a restart it continues after the last change that it printed.
//!
//! ```console
//! $ export SYNCSPHERE_URL=… SYNCSPHERE_TOKEN=…
//! $ cargo run --package client --example watch
//! live
//! 0198a6f0-… 12 /Videos/holiday.mp4
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::fs;

use client::{Client, Token, Update, Watcher};
use model::{Cursor, SpaceId};

/// The file that stores the cursors.
const CURSORS: &str = "cursors.json";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let setting = |name: &str| env::var_os(name).and_then(|value| value.into_string().ok());
    let url = setting("SYNCSPHERE_URL").ok_or("SYNCSPHERE_URL is not set")?;
    let token = setting("SYNCSPHERE_TOKEN").ok_or("SYNCSPHERE_TOKEN is not set")?;
    let device = Client::new(&url, Token::from(token), None)?;

    let mut cursors: BTreeMap<SpaceId, Cursor> = match fs::read(CURSORS) {
        Ok(kept) => serde_json::from_slice(&kept)?,
        Err(_) => BTreeMap::new(),
    };
    let mut watcher = Watcher::start(device, cursors.clone());
    while let Some(update) = watcher.next().await? {
        match update {
            Update::Change(event) => {
                let what = event.file().map_or("membership", |file| file.path.as_str());
                println!("{} {} {what}", event.space_id, event.sequence);
                // The cursor is stored after the change was processed. After a crash before this line, the
                // change is delivered again.
                cursors.insert(event.space_id, event.sequence.into());
                fs::write(CURSORS, serde_json::to_vec(&cursors)?)?;
            }
            Update::CursorReset(space_id) => {
                cursors.remove(&space_id);
            }
            Update::Live => println!("live"),
            Update::Polling { reason } => println!("no WebSocket, polling: {reason}"),
            Update::Offline { reason, retry_in } => println!("{reason}; again in {retry_in:?}"),
        }
    }
    Ok(())
}
