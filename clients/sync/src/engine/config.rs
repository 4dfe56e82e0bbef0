//! The configuration of an engine, and its constants.

use model::Role;

use crate::plan::{Hiding, Settings};

/// The configuration of an engine.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of the device in conflict names.
    pub device: String,
    /// Random text. Idempotency keys and private names begin with it, so it must be another one at each start.
    pub nonce: String,
    /// Which ways changes go.
    pub direction: Direction,
    /// The deletion guard.
    pub guard: Guard,
    /// Accept a root that is a copy, or was moved.
    pub accepts_other_root: bool,
}

/// Which ways changes go. No direction overwrites anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Both ways.
    #[default]
    Both,
    /// From the space to the folder only.
    Down,
    /// From the folder to the space only.
    Up,
}

/// Deletions are held if they are more than `count` and more than `percent` of all synced files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// A number that is always allowed.
    pub count: usize,
    /// A share of all synced files that is always allowed.
    pub percent: usize,
    /// A number that is never allowed.
    pub most: usize,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            count: 20,
            percent: 25,
            most: 1_000,
        }
    }
}

/// The planner's settings for a direction and a role. The folder is observed to its end if `is_scanned`.
pub(super) fn settings<'a>(
    config: &Config,
    role: Option<Role>,
    is_scanned: bool,
    label: &'a str,
    hiding: &'a dyn Fn(&str) -> Hiding,
) -> Settings<'a> {
    Settings {
        sends: config.direction != Direction::Down,
        receives: config.direction != Direction::Up,
        is_viewer: role == Some(Role::Viewer),
        is_scanned,
        label,
        hiding,
    }
}

/// Attempts to take files out of the trash that a restored space no longer has.
pub(super) const MAX_RESCUES: u32 = 3;

/// A file must not have changed for this long before it is read, in milliseconds.
pub(super) const QUIET: u64 = 1_000;

/// A file must be absent for this long before a second look, in milliseconds: programs save by renames.
pub(super) const ABSENT: u64 = 2_000;

/// A folder is scanned this long after its last event, in milliseconds.
pub(super) const SCAN_DELAY: u64 = 300;

/// A folder is scanned at the latest this long after its first event, in milliseconds.
pub(super) const SCAN_LATEST: u64 = 3_000;

/// Everything is scanned after this time, in milliseconds.
pub(super) const SCAN_ALL: u64 = 3_600_000;

/// The trash is looked at this long after a file came there, in milliseconds.
pub(super) const TRASH_LOOKS: [u64; 2] = [10_000, 60_000];

/// Files stay in the trash for this long, in milliseconds: 30 days.
pub(super) const TRASH_TIME: i64 = 30 * 24 * 3_600_000;

/// The first delay after a failure, in milliseconds. It doubles with each failure.
pub(super) const RETRY_FIRST: u64 = 1_000;

/// The longest delay after failures, in milliseconds.
pub(super) const RETRY_MOST: u64 = 300_000;

/// Operations under way.
pub(super) const MAX_OPS: usize = 256;

/// Jobs under way that only read.
pub(super) const MAX_READERS: usize = 4;

/// Items of a disk job.
pub(super) const MAX_ITEMS: usize = 100;

/// Rounds of planning in one step without an end: a defect.
pub(super) const MAX_ROUNDS: usize = 200;

/// Deletions count together for this long, in milliseconds.
pub(super) const GUARD_WINDOW: u64 = 600_000;

/// After a power loss, files that changed this long before the newest known change are not trusted, in
/// nanoseconds. Systems write their caches back every 30 s or so.
pub(super) const UNSAFE_TIME: i64 = 600 * 1_000_000_000;

/// Attempts after which a failure is the result of a sync that ends, and after which a file that cannot be read is
/// told.
pub(super) const ATTEMPTS: u32 = 3;
