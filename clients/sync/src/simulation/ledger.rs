//! What users wrote, and what must not be lost.
//!
//! Each write of a user has a content of its own. A content must be kept until a user, through a file that has
//! exactly this content in front of them, overwrites or deletes it. Nothing that the engine does ends that.

use std::collections::{BTreeMap, BTreeSet};

use super::disk::Bytes;
use crate::names::Names;

/// The contents of a run.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Contents that must be kept, with the number of places where users put them.
    kept: BTreeSet<Bytes>,
    /// All contents that users wrote, and what crashes made of them.
    known: BTreeSet<Bytes>,
    next: u32,
    log: Vec<String>,
    /// Users that wrote something, with the times.
    pub writers: BTreeMap<String, u32>,
    /// Paths that had no file, and got one from this user: written, moved or restored.
    taken: BTreeMap<String, BTreeSet<String>>,
    is_logging: bool,
}

impl Ledger {
    /// A ledger that keeps a log for people.
    pub fn logging(is_logging: bool) -> Self {
        let mut ledger = Self {
            is_logging,
            ..Self::default()
        };
        ledger.known.insert(Bytes::default());
        ledger
    }

    /// A content that nobody has written before. All have the same length, unless `blocks` are added.
    pub fn new_content(&mut self, blocks: u32) -> Bytes {
        self.next += 1;
        let mut bytes = format!("content {:06}", self.next).into_bytes();
        bytes.extend(std::iter::repeat_n(b'.', blocks as usize * 40));
        bytes.into()
    }

    /// A user has written a content, having `before` in front of them.
    pub fn wrote(&mut self, who: &str, bytes: &Bytes, before: Option<&Bytes>) {
        // The same content again is no edit that anybody could notice.
        if before == Some(bytes) {
            return;
        }
        if let Some(before) = before {
            self.kept.remove(before);
        }
        self.known.insert(bytes.clone());
        if !bytes.is_empty() {
            self.kept.insert(bytes.clone());
        }
        *self.writers.entry(who.to_owned()).or_default() += 1;
    }

    /// What a user did has changed the files `before` to `now`.
    pub fn changed(&mut self, who: &str, before: &BTreeMap<String, Bytes>, now: &BTreeMap<String, Bytes>) {
        let new = now.keys().filter(|path| !before.contains_key(*path));
        self.taken.entry(who.to_owned()).or_default().extend(new.cloned());
    }

    /// Whether two users have given a path, or one below it, to files of their own.
    pub fn is_taken_twice(&self, path: &str, names: Names) -> bool {
        let key = names.key(path);
        let below = format!("{key}/");
        let takers = self.taken.values().filter(|paths| {
            let mut keys = paths.iter().map(|path| names.key(path));
            keys.any(|other| other == key || other.starts_with(&below))
        });
        takers.count() > 1
    }

    /// A user has deleted a content.
    pub fn deleted(&mut self, before: &Bytes) {
        self.kept.remove(before);
    }

    /// A user is writing: others may see the beginning.
    pub fn began(&mut self, bytes: &Bytes) {
        self.known.insert(bytes.clone());
    }

    /// A crash of the machine has destroyed what a user had not made durable.
    pub fn torn(&mut self, before: &Bytes, now: &Bytes) {
        self.kept.remove(before);
        self.known.insert(now.clone());
    }

    /// The contents that must be kept.
    pub fn kept(&self) -> &BTreeSet<Bytes> {
        &self.kept
    }

    /// Whether a user wrote this content.
    pub fn is_known(&self, bytes: &Bytes) -> bool {
        self.known.contains(bytes)
    }

    /// Adds a line to the log.
    pub fn log(&mut self, line: impl FnOnce() -> String) {
        if self.is_logging {
            self.log.push(line());
        }
    }

    /// The log.
    pub fn lines(&self) -> &[String] {
        &self.log
    }
}

/// A content for people.
pub fn brief(bytes: &Bytes) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text
        .trim_end_matches('.')
        .trim_start_matches("content ")
        .trim_start_matches('0');
    format!("«{}»", text.replace('\0', "0"))
}
