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
use model::{Cursor, Epoch, SpaceId};

/// The file that stores the epoch and the cursors, which are valid only in their epoch.
const POSITION: &str = "position.json";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let setting = |name: &str| env::var_os(name).and_then(|value| value.into_string().ok());
    let url = setting("SYNCSPHERE_URL").ok_or("SYNCSPHERE_URL is not set")?;
    let token = setting("SYNCSPHERE_TOKEN").ok_or("SYNCSPHERE_TOKEN is not set")?;
    let device = Client::new(&url, Token::from(token), None)?;

    let (mut epoch, mut cursors): (Option<Epoch>, BTreeMap<SpaceId, Cursor>) = match fs::read(POSITION) {
        Ok(kept) => serde_json::from_slice(&kept)?,
        Err(_) => (None, BTreeMap::new()),
    };
    let mut watcher = Watcher::start(device, epoch, cursors.clone());
    while let Some(update) = watcher.next().await? {
        match update {
            Update::Change(event) => {
                let what = event.file().map_or("membership", |file| file.path.as_str());
                println!("{} {} {what}", event.space_id, event.sequence);
                // The position is stored after the change was processed. After a crash before this line, the
                // change is delivered again.
                cursors.insert(event.space_id, event.sequence.into());
                fs::write(POSITION, serde_json::to_vec(&(epoch, &cursors))?)?;
            }
            Update::CursorReset(space_id) => {
                println!("{space_id} was restored from a backup; its changes follow from the first");
                cursors.remove(&space_id);
            }
            Update::Epoch(current) => epoch = Some(current),
            Update::Live => println!("live"),
            Update::Polling { reason } => println!("no WebSocket, polling: {reason}"),
            Update::Offline { reason, retry_in } => println!("{reason}; again in {retry_in:?}"),
        }
    }
    Ok(())
}
