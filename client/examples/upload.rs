//! Uploads a file, and goes on with an upload that was interrupted.
//!
//! ```console
//! $ export SYNCSPHERE_URL=… SYNCSPHERE_TOKEN=…
//! $ cargo run --package client --example upload -- holiday.mp4 /Videos/holiday.mp4
//! upload 0198a6f0-… is open
//! ^C
//! $ cargo run --package client --example upload -- holiday.mp4 --resume 0198a6f0-…
//! /Videos/holiday.mp4 is version 1, change 12 of its space, file 0198a6f0-…
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::env;
use std::error::Error;

use client::{Client, LocalFile, Token};
use model::{DeviceId, UploadId};
use uuid::Uuid;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let setting = |name: &str| env::var_os(name).and_then(|value| value.into_string().ok());
    let url = setting("SYNCSPHERE_URL").ok_or("SYNCSPHERE_URL is not set")?;
    let token = setting("SYNCSPHERE_TOKEN").ok_or("SYNCSPHERE_TOKEN is not set")?;
    // Keep the device's id: by it the device knows its own changes in the feed.
    let device_id = DeviceId::from(Uuid::from_u128(10));
    let device = Client::new(&url, Token::from(token), Some(device_id))?;

    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let changed = match arguments[..] {
        [file, "--resume", id] => {
            let id: UploadId = id.parse()?;
            device.resume(id, &LocalFile::open(file).await?).await?
        }
        [file, path] => {
            let content = LocalFile::open(file).await?;
            let description = device.describe(None, path.parse()?, &content).await?;
            let created = device.create_upload(&description, None).await?;
            println!("upload {} is open", created.upload_id);
            device.send(&created, &content).await?;
            device.complete_upload(created.upload_id).await?
        }
        _ => return Err("usage: upload FILE PATH | upload FILE --resume ID".into()),
    };
    println!(
        "{} is version {}, change {} of its space, file {}",
        changed.path, changed.version, changed.sequence, changed.file_id
    );
    Ok(())
}
