//! `upload`: uploads files and folders, and detects changes made on other devices.

mod conflict_name;
mod keys;
mod plan;
mod stdin;

use std::collections::HashMap;
use std::num::NonZeroU16;

use anyhow::Context as _;
use client::{Client, Content, Error, LocalFile, MAX_PUT_BYTES, Progress, Source, Verification};
use futures_util::stream::{self, StreamExt as _};
use model::{CreateUploadRequest, FileChanged, MIN_PART_BYTES, SpaceId, SpacePath};
use serde_json::json;
use time::Date;
use tokio::io::AsyncReadExt as _;
use tokio::sync::Semaphore;

use crate::accounts::Account;
use crate::arguments::Upload;
use crate::commands::bases::{Base, Bases};
use crate::failure::{Failures, Kind, failure, is_feed_reset, is_outage, kind_of, refused};
use crate::output::{self, Output};
use crate::progress::{Bar, Bars};
use crate::resolve;
pub(crate) use conflict_name::host_label;
use conflict_name::{conflict_path, modified_date, today};
use keys::Keys;
use plan::{Item, Plan};
use stdin::Stdin;

/// Up to this number of files, each destination is looked up. Beyond it, the destination folder is listed.
const MAX_LOOKUPS: usize = 16;

/// Names tried for a copy of `--keep-both`. More copies of one day point to a faulty script.
const MAX_CONFLICT_COPIES: u32 = 100;

/// Small files in progress at the same time. Most of them are open and wait to be sent, or wait for requests
/// that open or complete many files.
const FILES_IN_PROGRESS: u16 = 384;

/// A file takes one more of these places for each of these bytes, so that large files are not read long before
/// they are sent.
const PLACE_BYTES: u64 = 256 * 1024;

/// Size of one read, in bytes.
const READ_BYTES: u64 = 1024 * 1024;

enum Outcome {
    Uploaded {
        changed: FileChanged,
        /// Less than the file's size if an earlier attempt was resumed.
        sent_bytes: u64,
    },
    /// The space already has this content at this path.
    Unchanged { path: SpacePath, content: Content },
}

pub(crate) async fn run(account: &Account, upload: &Upload, output: Output) -> anyhow::Result<()> {
    let mut plan = if stdin::is_named(upload)? {
        let destination = stdin::destination(upload)?;
        Plan::of_stdin(destination)
    } else {
        Plan::new(upload)?
    };
    if upload.base_version.is_some() && plan.items.len() != 1 {
        return Err(failure(Kind::Usage, "--base-version needs a single file"));
    }
    let client = account.client.clone().with_concurrent_requests(upload.jobs);
    let space_id = resolve::space(&client, upload.space.space.as_deref()).await?;
    let stdin = if stdin::is_named(upload)? {
        let stdin = Stdin::read(account).await?;
        plan.set_bytes(stdin.size());
        Some(stdin)
    } else {
        None
    };
    resolve::epoch(&client).await?;
    let existing = existing(&client, space_id, &plan).await?;
    let uploading = Uploader {
        client,
        readers: Semaphore::new(usize::from(upload.jobs.get())),
        stdin,
        keys: Keys::open(account)?,
        bases: Bases::open(account, space_id)?,
        upload,
        space_id,
        existing,
    };
    let bars = Bars::new(plan.bytes, plan.items.len());
    let mut failures = Failures::default();
    for skipped in &plan.skipped {
        bars.print_above(|| output.failure(skipped));
        failures.add(kind_of(skipped));
    }

    let single = plan.items.len() == 1 && plan.skipped.is_empty();
    let files = plan.items.len() + plan.skipped.len();
    let places = Semaphore::new(FILES_IN_PROGRESS.into());
    let mut outcomes = stream::iter(&plan.items)
        .map(async |item| {
            // The semaphore is never closed, and admits files in the order of the plan.
            let _places = places.acquire_many(places_of(item.bytes, upload.jobs)).await;
            let bar = bars.file(item.to.as_str(), item.bytes);
            (item, uploading.file(item, &bar).await)
        })
        .buffer_unordered(FILES_IN_PROGRESS.into());
    while let Some((item, outcome)) = outcomes.next().await {
        let value = match outcome {
            Ok(outcome) => bars.print_above(|| report(output, item, &outcome)),
            Err(error) if single => return Err(error),
            Err(error) => {
                bars.print_above(|| output.failure(&error));
                failures.add(kind_of(&error));
                if is_outage(&error) {
                    let message = "the upload stopped early; repeat the command to resume it";
                    return Err(failure(kind_of(&error), message));
                }
                if is_feed_reset(&error) {
                    let message = "the upload stopped early; check what the service has with `syncsphere ls`, and repeat the command for the files that it lacks";
                    return Err(failure(kind_of(&error), message));
                }
                Ok(())
            }
        };
        value?;
    }
    failures.outcome(files, "files could not be uploaded")
}

/// The places that a file of this size takes. As many large files as are sent at the same time take all.
fn places_of(bytes: u64, jobs: NonZeroU16) -> u32 {
    let most = u64::from((FILES_IN_PROGRESS / jobs).max(1));
    let places = (1 + bytes / PLACE_BYTES).min(most);
    u32::try_from(places).unwrap_or(1)
}

fn report(output: Output, item: &Item, outcome: &Outcome) -> std::io::Result<()> {
    let file = item.shown();
    match outcome {
        Outcome::Uploaded { changed, sent_bytes } => {
            let value = json!({
                "outcome": "uploaded", "file": item.file, "sentBytes": sent_bytes, "change": changed,
            });
            let size = output::size(changed.size);
            let text = format!(
                "uploaded {file} to {}, version {}, {size}",
                changed.path, changed.version
            );
            output.line(&value, text)
        }
        Outcome::Unchanged { path, content } => {
            let value = json!({
                "outcome": "unchanged", "file": item.file, "fileId": content.file_id, "path": path,
                "version": content.version, "size": content.size, "sha256": content.sha256,
            });
            let text = format!("unchanged: {file} is {path}, version {}", content.version);
            output.line(&value, text)
        }
    }
}

struct Uploader<'a> {
    client: Client,
    /// Limits the number of files that are hashed at the same time.
    readers: Semaphore,
    /// The content of the only file, if it is the standard input.
    stdin: Option<Stdin>,
    keys: Keys,
    /// The version of each path that this machine saw last.
    bases: Bases,
    upload: &'a Upload,
    space_id: Option<SpaceId>,
    /// The space's files at the destinations, or `None` if they were not listed.
    existing: Option<HashMap<SpacePath, Content>>,
}

impl Uploader<'_> {
    async fn file(&self, item: &Item, bar: &Bar<'_>) -> anyhow::Result<Outcome> {
        let uploading = async {
            if let Some(stdin) = &self.stdin {
                return self.attempt(item, stdin, bar).await;
            }
            // The semaphore is never closed.
            let reader = self.readers.acquire().await;
            let content = LocalFile::open(&item.file).await?;
            drop(reader);
            refuse_unsized(item, &content).await?;
            self.attempt(item, &content, bar).await
        };
        let uploading = uploading.await;
        uploading.with_context(|| format!("cannot upload {}", item.shown()))
    }

    async fn attempt(&self, item: &Item, content: &impl Source, bar: &Bar<'_>) -> anyhow::Result<Outcome> {
        let found = self.existing(&item.to).await?;
        let mut description = self.describe(item, content, found.as_ref(), bar).await?;
        let known = self.bases.known(&item.to);
        // A given base version is always sent, so that a wrong one is reported as a conflict.
        if let Some(given) = self.upload.base_version {
            let base = known.filter(|base| base.version == given && given.get() > 0);
            description.base_version = Some(given);
            description.base_file_id = base.map(|base| base.file_id);
        } else if let Some(existing) = &found {
            if self.has_content(existing, &description, content).await? {
                return self.unchanged(existing, &description, bar);
            }
            let is_other = !may_be_same(existing, &description);
            if !self.upload.replace && is_other && known.is_some_and(|known| known != Base::from(existing)) {
                return self
                    .conflict(item, description, content, existing, None, bar)
                    .await;
            }
            if !self.upload.replace {
                description.base_version = Some(existing.version);
                description.base_file_id = Some(existing.file_id);
            }
        } else if !self.upload.replace {
            description.base_version = Some(0.try_into()?);
        }
        let refusal = match self.send(&description, content, bar).await {
            Ok(changed) => return self.uploaded(changed, bar),
            Err(error) => conflict_in(error)?,
        };
        // The path was changed after the lookup.
        let Some(existing) = self.find(&item.to).await? else {
            return Err(match &refusal {
                Error::Refused(problem) if problem.code == "path-taken" => {
                    let message = format!(
                        "\"{}\" is a folder of the space, or a part of that path is a file; choose another destination with --to",
                        item.to
                    );
                    refused(Kind::Conflict, message, refusal)
                }
                _ => refusal.into(),
            });
        };
        if self.has_content(&existing, &description, content).await? {
            return self.unchanged(&existing, &description, bar);
        }
        self.conflict(item, description, content, &existing, Some(refusal), bar)
            .await
    }

    /// Describes the content with its SHA-256, unless it is large and certainly not what the space has. It is then
    /// hashed while it is sent.
    async fn describe(
        &self,
        item: &Item,
        content: &impl Source,
        found: Option<&Content>,
        bar: &Bar<'_>,
    ) -> anyhow::Result<CreateUploadRequest> {
        let (space_id, path) = (self.space_id, item.to.clone());
        let is_other = found.is_none_or(|found| found.size.get().unsigned_abs() != content.size());
        // Without an identity, an interrupted upload could not be resumed.
        if content.size() > MAX_PUT_BYTES && content.identity().is_some() && is_other {
            return Ok(self.client.describe_unread(space_id, path, content)?);
        }
        // The semaphore is never closed.
        let _reader = self.readers.acquire().await;
        Ok(self.client.describe(space_id, path, content, bar).await?)
    }

    /// Handles a change on another device: `--keep-both` uploads a copy; otherwise the error names the
    /// options.
    async fn conflict(
        &self,
        item: &Item,
        description: CreateUploadRequest,
        content: &impl Source,
        existing: &Content,
        refusal: Option<Error>,
        bar: &Bar<'_>,
    ) -> anyhow::Result<Outcome> {
        if self.upload.keep_both {
            bar.reverted(item.bytes);
            return self.keep_both(item, description, content, bar).await;
        }
        let (path, version) = (&item.to, existing.version);
        let event = match self.upload.base_version {
            Some(given) if given.get() == 0 => "already exists",
            _ => "was changed on another device",
        };
        let mut message = format!("\"{path}\" {event} (version {version}). Keep both with --keep-both");
        message.push_str(match self.upload.base_version {
            Some(_) => ".",
            None => ", or replace it with --replace.",
        });
        Err(match refusal {
            Some(refusal) => refused(Kind::Conflict, message, refusal),
            None => failure(Kind::Conflict, message),
        })
    }

    /// Uploads the file under the first free name beside its path. A copy with the same content counts as
    /// uploaded.
    async fn keep_both(
        &self,
        item: &Item,
        mut description: CreateUploadRequest,
        content: &impl Source,
        bar: &Bar<'_>,
    ) -> anyhow::Result<Outcome> {
        let (host_label, date) = (host_label(), self.date_of(item)?);
        description.base_version = Some(0.try_into()?);
        description.base_file_id = None;
        for number in 1..=MAX_CONFLICT_COPIES {
            description.path = conflict_path(&item.to, &host_label, date, number)?;
            if let Some(existing) = self.find(&description.path).await? {
                if self.has_content(&existing, &description, content).await? {
                    return self.unchanged(&existing, &description, bar);
                }
                continue;
            }
            match self.send(&description, content, bar).await {
                Ok(changed) => return self.uploaded(changed, bar),
                Err(error) => conflict_in(error)?,
            };
        }
        let message = format!(
            "\"{}\" has {MAX_CONFLICT_COPIES} conflict copies of that day; delete some of them",
            item.to
        );
        Err(failure(Kind::Conflict, message))
    }

    /// The date in the name of a conflict copy.
    fn date_of(&self, item: &Item) -> anyhow::Result<Date> {
        match self.stdin {
            Some(_) => Ok(today()),
            None => Ok(modified_date(&item.file)?),
        }
    }

    /// Whether a version of the space has the content of the local file.
    async fn has_content(
        &self,
        existing: &Content,
        description: &CreateUploadRequest,
        content: &impl Source,
    ) -> anyhow::Result<bool> {
        if !may_be_same(existing, description) {
            return Ok(false);
        }
        let is_known = self.bases.known(&description.path) == Some(Base::from(existing));
        if is_known && description.sha256.is_some() {
            return Ok(true);
        }
        // The service does not verify the SHA-256 of content in parts, and another member may have declared
        // this one.
        if existing.composite.is_none() && !is_known {
            return Ok(existing.size.get() < MIN_PART_BYTES);
        }
        let mut verification = Verification::of(existing);
        let mut at = 0;
        while at < content.size() {
            let length = READ_BYTES.min(content.size() - at);
            verification.update(&content.read(at, length).await?);
            at += length;
        }
        Ok(verification.finish().is_ok())
    }

    fn unchanged(
        &self,
        existing: &Content,
        description: &CreateUploadRequest,
        bar: &Bar<'_>,
    ) -> anyhow::Result<Outcome> {
        let (path, content) = (description.path.clone(), existing.clone());
        self.bases.record(&path, Base::from(existing))?;
        bar.skipped(existing.size.get().unsigned_abs());
        Ok(Outcome::Unchanged { path, content })
    }

    fn uploaded(&self, changed: FileChanged, bar: &Bar<'_>) -> anyhow::Result<Outcome> {
        self.bases
            .record(&changed.path, Base::from(&Content::from(&changed)))?;
        let sent_bytes = bar.sent();
        Ok(Outcome::Uploaded { changed, sent_bytes })
    }

    async fn send(
        &self,
        description: &CreateUploadRequest,
        content: &impl Source,
        bar: &Bar<'_>,
    ) -> anyhow::Result<FileChanged> {
        let identity = content.identity();
        let key = self.keys.key(description, identity)?;
        let sent = self
            .client
            .upload_with_key(description, &key.text, content, bar)
            .await;
        let is_stale = !key.new
            && match &sent {
                // The service was restored to an earlier state: whether to upload is decided anew.
                Err(Error::FeedReset(_)) => false,
                // The earlier attempt has sent all parts, and they are not those of the file.
                Err(Error::Changed) => description.sha256.is_none() && content.is_unchanged().await?,
                // The earlier attempt gave the SHA-256, because the service then was of an earlier release.
                Err(Error::Refused(problem)) if problem.code == "idempotency-key-reused" => true,
                // The upload of the earlier attempt has expired.
                Err(error) => error.status() == Some(410),
                // The earlier attempt was completed but its key was not deleted, and the file has changed
                // since.
                Ok(changed) => !self.is_current(changed).await?,
            };
        let sent = if is_stale {
            let key = self.keys.replace(description, identity)?;
            bar.reverted(description.size.get().unsigned_abs());
            self.client
                .upload_with_key(description, &key.text, content, bar)
                .await
        } else {
            sent
        };
        let is_resumable = match &sent {
            // The key of a refused upload belongs to the former history of the service.
            Ok(_) | Err(Error::FeedReset(_)) => false,
            Err(error) if error.is_retryable() => true,
            Err(Error::Refused(problem)) => problem.status == 401,
            Err(error) => error.status() != Some(404),
        };
        if !is_resumable {
            self.keys.delete(description, identity);
        }
        Ok(sent?)
    }

    async fn is_current(&self, changed: &FileChanged) -> anyhow::Result<bool> {
        let found = self
            .client
            .find_file(Some(changed.space_id), &changed.path)
            .await?;
        Ok(found.is_some_and(|found| found.sha256 == changed.sha256))
    }

    async fn existing(&self, path: &SpacePath) -> anyhow::Result<Option<Content>> {
        match &self.existing {
            Some(existing) => Ok(existing.get(path).cloned()),
            None => self.find(path).await,
        }
    }

    async fn find(&self, path: &SpacePath) -> anyhow::Result<Option<Content>> {
        let found = self.client.find_file(self.space_id, path).await;
        let found = found.or_else(|error| empty_if_missing(self.space_id, error))?;
        Ok(found.map(|file| Content::from(&file)))
    }
}

/// Whether the local file may have the content of a version. It has if its SHA-256 is known.
fn may_be_same(existing: &Content, description: &CreateUploadRequest) -> bool {
    existing.size == description.size && description.sha256.is_none_or(|sha256| sha256 == existing.sha256)
}

/// Refuses a file that reports a size of 0 bytes but has content, such as files in `/proc`. It would be
/// uploaded empty.
async fn refuse_unsized(item: &Item, content: &LocalFile) -> anyhow::Result<()> {
    if content.size() > 0 {
        return Ok(());
    }
    let mut file = tokio::fs::File::open(&item.file).await?;
    if file.read(&mut [0]).await? > 0 {
        let message =
            "its size is not known before it is read; copy it to a regular file, and upload the copy";
        return Err(failure(Kind::Refused, message));
    }
    Ok(())
}

/// Returns the refusal if the path has another version or file than expected. Any other failure is an error.
fn conflict_in(error: anyhow::Error) -> anyhow::Result<Error> {
    match error.downcast::<Error>()? {
        Error::Refused(problem) if matches!(problem.code.as_str(), "version-conflict" | "path-taken") => {
            Ok(Error::Refused(problem))
        }
        error => Err(error.into()),
    }
}

/// A personal space does not exist before its first use. Its 404 is treated as an empty result.
fn empty_if_missing<T: Default>(space_id: Option<SpaceId>, error: Error) -> Result<T, Error> {
    if space_id.is_none() && error.status() == Some(404) {
        Ok(T::default())
    } else {
        Err(error)
    }
}

/// The space's files at the destinations, from one listing; `None` if there are only a few files, which are
/// looked up one by one.
async fn existing(
    client: &Client,
    space_id: Option<SpaceId>,
    plan: &Plan,
) -> anyhow::Result<Option<HashMap<SpacePath, Content>>> {
    if plan.items.len() <= MAX_LOOKUPS {
        return Ok(None);
    }
    let mut wanted: HashMap<&SpacePath, Option<Content>> =
        plan.items.iter().map(|item| (&item.to, None)).collect();
    let prefix = plan.common_prefix();
    let listing = client.list_files(space_id, prefix, |files| {
        for file in &files {
            if let Some(found) = wanted.get_mut(&file.path) {
                *found = Some(file.into());
            }
        }
        Ok::<_, Error>(())
    });
    listing.await.or_else(|error| empty_if_missing(space_id, error))?;
    let found = wanted
        .into_iter()
        .filter_map(|(path, found)| Some((path.clone(), found?)));
    Ok(Some(found.collect()))
}
