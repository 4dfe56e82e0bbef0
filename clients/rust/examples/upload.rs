//! Uploads a file. When it is called again after an interruption, it resumes the upload.
//!
//! ```console
//! $ export SYNCSPHERE_URL=… SYNCSPHERE_TOKEN=…
//! $ cargo run --package client --example upload -- holiday.mp4 /Videos/holiday.mp4
//! ^C
//! $ cargo run --package client --example upload -- holiday.mp4 /Videos/holiday.mp4
//! /Videos/holiday.mp4 is version 1, change 12 of its space, file 0198a6f0-…
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::env;
use std::error::Error;
use std::fs;

use client::{Client, LocalFile, Token};
use model::{DeviceId, IdempotencyKey};
use uuid::Uuid;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let setting = |name: &str| env::var_os(name).and_then(|value| value.into_string().ok());
    let url = setting("SYNCSPHERE_URL").ok_or("SYNCSPHERE_URL is not set")?;
    let token = setting("SYNCSPHERE_TOKEN").ok_or("SYNCSPHERE_TOKEN is not set")?;
    // A real device keeps its id, and by it recognizes its own changes in the feed.
    let device_id = DeviceId::from(Uuid::from_u128(10));
    let device = Client::new(&url, Token::from(token), Some(device_id))?;

    let arguments: Vec<String> = env::args().skip(1).collect();
    let [file, path] = arguments.as_slice() else {
        return Err("usage: upload FILE PATH".into());
    };
    let content = LocalFile::open(file).await?;
    let description = device.describe(None, path.parse()?, &content, &()).await?;

    // The key is stored before the upload is opened, so that the upload can be resumed after a crash. It
    // belongs to this content and this path.
    let kept = format!("{file}.upload-key");
    let key = fs::read_to_string(&kept).unwrap_or_else(|_| Uuid::from_u128(fastrand::u128(..)).to_string());
    fs::write(&kept, &key)?;
    let key: IdempotencyKey = key.parse()?;
    let changed = device.upload_with_key(&description, &key, &content, &()).await?;
    fs::remove_file(&kept)?;
    println!(
        "{} is version {}, change {} of its space, file {}",
        changed.path, changed.version, changed.sequence, changed.file_id
    );
    Ok(())
}
