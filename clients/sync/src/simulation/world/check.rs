//! Invariants.

use std::collections::{BTreeMap, BTreeSet};

use super::World;
use crate::names::{Names, conflict_stem};
use crate::plan::Hold;
use crate::simulation::disk::{Bytes, Modes, lock};
use crate::simulation::ledger::brief;
use crate::simulation::scenario::Happening;
use crate::tree::LocalEntry;

impl World {
    /// I1: what must be kept is somewhere. I7: what is anywhere was written by a user.
    pub(super) fn check_kept(&self) -> Result<(), String> {
        let mut contents: BTreeSet<Bytes> = BTreeSet::new();
        for dev in &self.devices {
            contents.extend(dev.disk.device().state.contents());
        }
        let ledger = lock(&self.ledger);
        for bytes in ledger.kept() {
            if !contents.contains(bytes) && !self.server.has_content(bytes) {
                return Err(format!("{} is lost (I1)", brief(bytes)));
            }
        }
        for (path, bytes) in self.server.files() {
            if !ledger.is_known(&bytes) {
                return Err(format!(
                    "the space has {} at {path}, which nobody wrote (I7)",
                    brief(&bytes)
                ));
            }
        }
        for (at, dev) in self.devices.iter().enumerate() {
            for (path, bytes) in dev.disk.device().state.files() {
                if !ledger.is_known(&bytes) {
                    let what = brief(&bytes);
                    return Err(format!(
                        "device {at} has {what} at {path}, which nobody wrote (I7)"
                    ));
                }
            }
        }
        Ok(())
    }

    /// I8: the guard holds deletions only of a user who deleted something.
    pub(super) fn check_told(&self, device: usize, told: &crate::effect::Told) -> Result<(), String> {
        let disk = self.devices[device].disk.device();
        let removes = |happening: &Happening| {
            !matches!(
                happening,
                Happening::Silence
                    | Happening::Backup
                    | Happening::Overflow(_)
                    | Happening::Pause(_)
                    | Happening::Resume(_)
                    | Happening::Stop(_)
            )
        };
        let happenings = &self.scenario.happenings;
        let is_undisturbed = !happenings.iter().any(|(_, it)| removes(it)) && self.scenario.disk_faults == 0;
        match told {
            crate::effect::Told::DeletionsHeld { there, .. }
                // Where inodes are not stable, a file that was moved cannot always be told from a new one.
                if *there > 0
                    && disk.user.deletes == 0
                    && is_undisturbed
                    && *disk.state.modes() == Modes::LINUX =>
            {
                Err(format!(
                    "{there} deletions are held, and nobody deleted anything (I8)"
                ))
            }
            _ => Ok(()),
        }
    }

    /// The invariants of a quiet state: I2, I3, I8, I11.
    pub(super) fn check_quiet(&mut self) -> Result<(), String> {
        self.check_kept()?;
        let there = self.server.files();
        let live: BTreeSet<&Bytes> = there.values().collect();
        let ledger = lock(&self.ledger);
        let mut has_holds = false;
        let mut on_disks: BTreeSet<Bytes> = BTreeSet::new();
        for (at, dev) in self.devices.iter().enumerate() {
            let Some(engine) = &dev.engine else {
                return Err(format!("device {at} is not running"));
            };
            let held: BTreeMap<_, _> = engine.held().iter().collect();
            has_holds |= !held.is_empty();
            for hold in held.values() {
                if !matches!(
                    hold,
                    Hold::TypeClash | Hold::NotAFile | Hold::NameClash | Hold::Excluded | Hold::BadName(_)
                ) {
                    return Err(format!(
                        "device {at} holds for a reason that is over: {held:?} (I2)"
                    ));
                }
            }
            // I11: the remote tree is what the space has.
            if *engine.trees().all_remote() != self.server.rows() {
                return Err(format!("the remote tree of device {at} is another one (I11)"));
            }
            let disk = dev.disk.device();
            let here = disk.state.files();
            on_disks.extend(here.values().cloned());
            // I3: the local tree is what the folder has.
            let known: BTreeSet<&str> = engine
                .trees()
                .all_local()
                .iter()
                .filter(|(_, entry)| matches!(entry, LocalEntry::File(_)))
                .map(|(path, _)| path.as_str())
                .collect();
            let visible: BTreeSet<&str> = here
                .keys()
                .map(String::as_str)
                .filter(|path| !is_scratch_path(path))
                .collect();
            if known != visible {
                return Err(format!("device {at} sees {known:?} instead of {visible:?} (I3)"));
            }
            if held.is_empty() && !engine.has_exclusions() {
                let names = Names::from(&disk.state.modes().volume());
                let key = |(path, bytes): (&String, &Bytes)| (names.key(path), bytes.clone());
                let here: BTreeMap<_, _> = here
                    .iter()
                    .filter(|(path, _)| !is_scratch_path(path))
                    .map(key)
                    .collect();
                let there: BTreeMap<_, _> = there.iter().map(key).collect();
                if here != there {
                    let text = |files: &BTreeMap<std::sync::Arc<str>, Bytes>| {
                        files
                            .iter()
                            .map(|(path, bytes)| format!("{path} {}", brief(bytes)))
                            .collect::<Vec<_>>()
                    };
                    return Err(format!(
                        "device {at} has {:?}, the space {:?} (I3)",
                        text(&here),
                        text(&there)
                    ));
                }
            }
        }
        for bytes in ledger.kept() {
            let is_live = live.contains(bytes) || (has_holds && on_disks.contains(bytes));
            // Programs' own files are not synced.
            let is_scratch = self.devices.iter().any(|dev| {
                let files = dev.disk.device().state.files();
                files
                    .iter()
                    .any(|(path, content)| is_scratch_path(path) && content == bytes)
            });
            // Without the database, what was written to a file in the trash before the next start is not noticed.
            let has_lost_database = self
                .scenario
                .happenings
                .iter()
                .any(|(_, it)| matches!(it, Happening::DatabaseLost(_)));
            let is_in_trash = || {
                self.devices
                    .iter()
                    .any(|dev| dev.disk.device().state.contents().contains(bytes))
            };
            let is_excused = is_scratch || (has_lost_database && is_in_trash());
            if !is_live && !is_excused {
                return Err(format!("the edit {} is lost (I2)", brief(bytes)));
            }
        }
        drop(ledger);
        self.check_copies(&there)
    }

    /// I8: where nobody else wrote, nothing is in conflict, unless two files were given one path.
    fn check_copies(&self, there: &BTreeMap<String, Bytes>) -> Result<(), String> {
        let ledger = lock(&self.ledger);
        let is_alone = ledger.writers.len() <= 1 && self.devices.len() == 1 && !self.has_restored;
        if !is_alone || !self.scenario.happenings.is_empty() || self.scenario.disk_faults > 0 {
            return Ok(());
        }
        let names = Names::from(&self.devices[0].disk.device().state.modes().volume());
        let has_no_cause =
            |path: &&String| conflict_stem(path).is_some_and(|of| !ledger.is_taken_twice(of, names));
        match there.keys().find(has_no_cause) {
            Some(path) => Err(format!("a conflict copy without a conflict: {path} (I8)")),
            None => Ok(()),
        }
    }
}

/// Files that programs make for themselves while they save.
fn is_scratch_path(path: &str) -> bool {
    std::path::Path::new(path)
        .extension()
        .is_some_and(|extension| extension == "swp")
}
