//! Deletes what is past its time: files in the trash, old versions and deleted spaces, with their objects.
//!
//! Rows are marked, then objects are deleted, then rows. A run can be killed at any point, and two runs at
//! once do the same work twice at most.

use std::collections::BTreeMap;

use db::{MarkedVersion, PURGE_GRACE};
use futures_util::future::join_all;
use metrics::counter;
use model::{Days, FileId, KeptVersions, SpaceId, UploadId, Version};
use platform::{error_chain, summary};
use time::{Duration, OffsetDateTime};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::metrics::{BYTES_PURGED, OBJECTS_PURGED};
use crate::{App, Error, PURGED_SPACES, UPLOAD_GRACE};

/// The largest number of rows that a statement marks or deletes. A statement holds the locks of their spaces
/// for some milliseconds, for which completing an upload there has to wait.
pub const ROWS: i64 = 200;

/// Objects that are deleted concurrently. Each takes two calls of at most 2.5 s, and more only if it has
/// several versions.
const OBJECTS: usize = 50;

/// How long things are kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// How long deleted files and spaces can be restored.
    pub trash: Days,
    /// The number of older versions that a file keeps.
    pub versions: KeptVersions,
    /// How long a version is kept after a newer one has replaced it.
    pub replaced: Days,
}

/// Purges until nothing is past its time or the deadline passes. Returns the number of purged versions.
pub(crate) async fn purge(app: &App, deadline: Instant) -> Result<usize, Error> {
    let mut purged = 0;
    while Instant::now() < deadline {
        let marked = mark(app).await?;
        purged += purge_marked(app, deadline).await?;
        if marked == 0 {
            break;
        }
    }
    delete_spaces(app, deadline).await?;
    Ok(purged)
}

/// Marks some files and versions that are past their time. Returns their number; 0 if there are none.
async fn mark(app: &App) -> Result<usize, Error> {
    let (now, kept) = (app.clock.now(), app.retention);
    let trash = Duration::from(kept.trash);
    let files = app.db.mark_trash(now, now - trash, ROWS).await?
        + app
            .db
            .mark_deleted_spaces(now, now - trash - PURGE_GRACE, ROWS)
            .await?;
    let replaced = now - Duration::from(kept.replaced);
    let versions = app.db.mark_replaced_versions(now, replaced, ROWS).await?
        + app
            .db
            .mark_surplus_versions(now, kept.versions.get(), ROWS)
            .await?;
    Ok(files + versions)
}

/// Deletes the objects of marked versions and then their rows. A version whose object cannot be deleted does
/// not block the others.
async fn purge_marked(app: &App, deadline: Instant) -> Result<usize, Error> {
    let (mut purged, mut kept) = (0, 0);
    let mut last: Option<MarkedVersion> = None;
    while Instant::now() < deadline {
        while app.db.delete_files(ROWS).await? > 0 && Instant::now() < deadline {}
        // Read before the objects are deleted, so that content which arrives after is found by its upload.
        let arrived_before = app.clock.now() - UPLOAD_GRACE;
        let page = app.db.marked_versions(last.as_ref(), ROWS).await?;
        let Some(newest) = page.last() else {
            break;
        };
        last = Some(newest.clone());
        let mut freed: Vec<&MarkedVersion> = Vec::with_capacity(page.len());
        for versions in page.chunks(OBJECTS) {
            if Instant::now() >= deadline {
                break;
            }
            let freeing = versions.iter().map(|version| free(app, version));
            let before = freed.len();
            freed.extend(join_all(freeing).await.into_iter().flatten());
            kept += before + versions.len() - freed.len();
        }
        purged += delete_rows(app, &freed, arrived_before).await?;
    }
    if purged > 0 {
        debug!(versions = purged, "purged {purged} versions");
    }
    if kept > 0 {
        return Err(Error::Objects(kept));
    }
    Ok(purged)
}

/// Deletes the object of a version, unless a version that is kept names it too. Returns the version if that
/// succeeded.
async fn free<'a>(app: &App, version: &'a MarkedVersion) -> Option<&'a MarkedVersion> {
    if version.is_shared {
        return Some(version);
    }
    let key = &version.object_key;
    if let Err(error) = app.storage.purge(key).await {
        warn!(key, error = error_chain(&error), "the object {key} is not purged");
        return None;
    }
    Some(version)
}

/// Deletes the rows of versions whose objects are gone or kept, one space at a time. Content of uploads with
/// an expiry up to `arrived_before` had arrived before the objects were deleted, or never arrives.
async fn delete_rows(
    app: &App,
    versions: &[&MarkedVersion],
    arrived_before: OffsetDateTime,
) -> Result<usize, Error> {
    let mut by_space: BTreeMap<SpaceId, Vec<&MarkedVersion>> = BTreeMap::new();
    for version in versions {
        by_space.entry(version.space_id).or_default().push(version);
    }
    let mut deleted = 0;
    for (space_id, versions) in by_space {
        let rows: Vec<(FileId, Version)> = (versions.iter())
            .map(|version| (version.file_id, version.version))
            .collect();
        let objects: BTreeMap<&str, &MarkedVersion> = (versions.iter())
            .filter(|version| !version.is_shared)
            .map(|version| (version.object_key.as_str(), *version))
            .collect();
        let uploads: Vec<UploadId> = (objects.keys())
            .filter_map(|key| UploadId::of_object_key(key))
            .collect();
        let gone = app
            .db
            .delete_versions(space_id, &rows, &uploads, arrived_before)
            .await?;
        deleted += gone.len();
        // Another run may have deleted some of the rows, and counted them.
        let counted = (objects.values()).filter(|version| gone.contains(&(version.file_id, version.version)));
        for version in counted {
            counter!(OBJECTS_PURGED).increment(1);
            counter!(BYTES_PURGED).increment(version.size.unsigned_abs());
        }
    }
    Ok(deleted)
}

/// Deletes what is left of spaces whose time in the trash is over, once they have no files and no uploads:
/// the feed, the members and the space.
async fn delete_spaces(app: &App, deadline: Instant) -> Result<(), Error> {
    let deleted_before = app.clock.now() - Duration::from(app.retention.trash) - PURGE_GRACE;
    let mut last: Option<SpaceId> = None;
    loop {
        let spaces = app.db.empty_spaces(deleted_before, last, ROWS).await?;
        let Some(newest) = spaces.last() else {
            return Ok(());
        };
        last = Some(*newest);
        for space_id in spaces {
            let rows = usize::try_from(ROWS).unwrap_or(usize::MAX);
            loop {
                if Instant::now() >= deadline {
                    return Ok(());
                }
                if app.db.delete_changes(space_id, deleted_before, ROWS).await? < rows {
                    break;
                }
            }
            while app.db.delete_members(space_id, deleted_before, ROWS).await? == rows {}
            if app.db.purge_space(space_id, deleted_before).await? {
                debug!(%space_id, "purged space {space_id}");
                summary::record(PURGED_SPACES, space_id);
            }
        }
    }
}
