//! A scenario: everything that happens in a run, except what the engine does. It follows from a seed, and can be
//! made smaller.

use std::fmt::Write as _;

use fastrand::Rng;

use super::actors::{FOLDERS, PATHS, Step};
use super::disk::Modes;

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// The properties of its disk.
    pub modes: Modes,
    /// The steps of its user, with their times in milliseconds.
    pub steps: Vec<(u64, Step)>,
}

/// A step of a user of the web page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebStep {
    /// Adds a version, or a file.
    Write(usize),
    /// Moves a file.
    Move(usize, usize),
    /// Deletes a file.
    Delete(usize),
    /// Deletes a file, and adds another one at its path.
    Replace(usize),
    /// Restores a file from the trash.
    Restore(usize),
}

/// Something that happens to a device or to the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// The machine loses power before a later call of the disk.
    PowerLoss(usize, u32),
    /// The process is killed before a later call of the disk.
    Kill(usize, u32),
    /// The database is lost, and the process starts again.
    DatabaseLost(usize),
    /// The disk is not mounted for a minute.
    Unmount(usize),
    /// The service makes a backup.
    Backup,
    /// The service is restored from its backup.
    RestoreBackup,
    /// The user may only read for some time.
    Viewer,
    /// The user may write again.
    Editor,
    /// A folder is excluded on a device.
    Exclude(usize, usize),
    /// A folder is not excluded any more.
    Include(usize, usize),
    /// The engine is paused.
    Pause(usize),
    /// The engine goes on.
    Resume(usize),
    /// The user asks for the held deletions.
    Confirm(usize),
    /// The user ends the sync. Random scenarios do not have it: they have other ends of a process.
    Stop(usize),
    /// Events of the watcher are lost, and it says so.
    Overflow(usize),
    /// The clock is some seconds later for users, so that files are settled.
    Silence,
}

impl Happening {
    /// The device that it happens to.
    pub fn device(&self) -> Option<usize> {
        match self {
            Self::PowerLoss(device, _)
            | Self::Kill(device, _)
            | Self::DatabaseLost(device)
            | Self::Unmount(device)
            | Self::Exclude(device, _)
            | Self::Include(device, _)
            | Self::Pause(device)
            | Self::Resume(device)
            | Self::Confirm(device)
            | Self::Stop(device)
            | Self::Overflow(device) => Some(*device),
            Self::Backup | Self::RestoreBackup | Self::Viewer | Self::Editor | Self::Silence => None,
        }
    }
}

/// A scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Chooses delays, faults and the order of events.
    pub seed: u64,
    /// The devices.
    pub devices: Vec<Setup>,
    /// The steps on the web page.
    pub web: Vec<(u64, WebStep)>,
    /// What happens.
    pub happenings: Vec<(u64, Happening)>,
    /// One call of a disk in so many is preceded by a step of its user.
    pub step_rate: u32,
    /// One call of a disk in so many fails.
    pub disk_faults: u32,
    /// One request in so many fails.
    pub net_faults: u32,
    /// One event of a watcher in so many is lost.
    pub watch_faults: u32,
    /// Whether links and pipes are made.
    pub makes_others: bool,
    /// Whether the deletion guard holds even a few deletions.
    pub is_guard_tight: bool,
}

impl Scenario {
    /// The scenario of a seed.
    pub fn random(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let count = [1, 1, 2, 2, 2, 3][rng.usize(..6)];
        let length = rng.u64(5..60) * 1_000;
        let times = |rng: &mut Rng| rng.u64(..length);
        let devices = (0..count)
            .map(|_| {
                let modes = if rng.bool() {
                    Modes::LINUX
                } else {
                    Modes::random(&mut rng)
                };
                let steps = rng.usize(0..16);
                let mut steps: Vec<_> = (0..steps)
                    .map(|_| (times(&mut rng), Step::random(&mut rng)))
                    .collect();
                steps.sort_by_key(|(at, _)| *at);
                Setup { modes, steps }
            })
            .collect();
        let web = if rng.bool() { rng.usize(0..8) } else { 0 };
        let mut web: Vec<_> = (0..web).map(|_| (times(&mut rng), web_step(&mut rng))).collect();
        web.sort_by_key(|(at, _)| *at);
        let happenings = rng.usize(0..6);
        let mut happenings: Vec<_> = (0..happenings)
            .map(|_| (times(&mut rng), happening(count, &mut rng)))
            .collect();
        // Crashes while a folder is being excluded.
        for (at, happening) in happenings.clone() {
            if let Happening::Exclude(device, _) = happening
                && rng.bool()
            {
                happenings.push((at, Happening::Kill(device, rng.u32(..30))));
            }
        }
        happenings.sort_by_key(|(at, _)| *at);
        let rate = |rng: &mut Rng, rate: u32| if rng.u8(..3) == 0 { rate } else { 0 };
        Self {
            seed,
            devices,
            web,
            happenings,
            step_rate: if rng.bool() { 8 } else { 40 },
            disk_faults: rate(&mut rng, 25),
            net_faults: rate(&mut rng, 6),
            watch_faults: rate(&mut rng, 4),
            makes_others: rng.u8(..8) == 0,
            is_guard_tight: rng.u8(..4) == 0,
        }
    }

    /// The scenario as a table for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut lines: Vec<(u64, String)> = Vec::new();
        for (at, device) in self.devices.iter().enumerate() {
            let _ = writeln!(text, "device {at}: {:?}", device.modes);
            lines.extend(
                device
                    .steps
                    .iter()
                    .map(|(time, step)| (*time, format!("user of {at}: {step:?}"))),
            );
        }
        lines.extend(
            self.web
                .iter()
                .map(|(time, step)| (*time, format!("web: {step:?}"))),
        );
        lines.extend(
            self.happenings
                .iter()
                .map(|(time, it)| (*time, format!("{it:?}"))),
        );
        lines.sort();
        let _ = writeln!(
            text,
            "seed {}, rates {} {} {} {}; paths {PATHS:?}, folders {FOLDERS:?}",
            self.seed, self.step_rate, self.disk_faults, self.net_faults, self.watch_faults
        );
        for (time, line) in lines {
            let _ = writeln!(
                text,
                "{:>9.3} {line}",
                std::time::Duration::from_millis(time).as_secs_f64()
            );
        }
        text
    }
}

fn web_step(rng: &mut Rng) -> WebStep {
    let (path, other) = (rng.usize(..PATHS.len()), rng.usize(..PATHS.len()));
    match rng.u8(..10) {
        0..=4 => WebStep::Write(path),
        5..=6 => WebStep::Move(path, other),
        7 => WebStep::Delete(path),
        8 => WebStep::Replace(path),
        _ => WebStep::Restore(path),
    }
}

fn happening(devices: usize, rng: &mut Rng) -> Happening {
    let device = rng.usize(..devices);
    let folder = rng.usize(..FOLDERS.len());
    match rng.u8(..32) {
        0..=6 => Happening::PowerLoss(device, rng.u32(..60)),
        7..=10 => Happening::Kill(device, rng.u32(..60)),
        11 => Happening::DatabaseLost(device),
        12..=13 => Happening::Unmount(device),
        14..=15 => Happening::Backup,
        16 => Happening::RestoreBackup,
        17 => Happening::Viewer,
        18..=19 => Happening::Editor,
        20..=21 => Happening::Exclude(device, if rng.bool() { 0 } else { folder }),
        22..=23 => Happening::Include(device, folder),
        24 => Happening::Pause(device),
        25..=26 => Happening::Resume(device),
        27 => Happening::Confirm(device),
        28..=29 => Happening::Overflow(device),
        _ => Happening::Silence,
    }
}
