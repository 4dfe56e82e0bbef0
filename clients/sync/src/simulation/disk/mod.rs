//! A virtual disk. Before each call users may act, and the call may fail, or the machine may crash.

mod state;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fastrand::Rng;
use model::ModifiedAt;

use super::actors::{Step, User};
use super::hits::Hits;
use super::ledger::Ledger;
use crate::disk::{Disk, DiskError, DiskErrorKind, FreeSpace, Kind, Listing, Meta, RootIdentity, Volume};
use crate::path::{Area, Folder, LocalPath, Place};
use crate::planted::{Bug, is_planted};
pub(crate) use state::Bytes;
use state::error;
pub use state::{DiskState, Modes};

/// A disk with its users.
pub struct Device {
    /// The files.
    pub state: DiskState,
    /// The user at the disk.
    pub user: User,
    /// Steps that the user still makes.
    pub steps: VecDeque<Step>,
    /// What users wrote.
    pub ledger: Arc<Mutex<Ledger>>,
    /// Chooses who acts, and what fails.
    pub rng: Rng,
    /// One call in so many is preceded by a step of the user; 0: none.
    pub step_rate: u32,
    /// One call in so many fails; 0: none.
    pub fault_rate: u32,
    /// Calls until the machine crashes.
    pub crash_in: Option<u32>,
    /// All calls fail until the machine is started again.
    pub is_crashed: bool,
    /// The disk is not mounted: its folder is empty.
    pub is_unmounted: bool,
    /// The marker of the root.
    pub marker: Option<String>,
    /// Calls so far.
    pub calls: u64,
    /// What happened.
    pub hits: Hits,
    host: String,
    boots: u32,
}

/// A virtual disk that is shared between the engine and the world.
#[derive(Clone)]
pub struct VirtualDisk(Arc<Mutex<Device>>);

/// Locks, also after a panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl VirtualDisk {
    /// A disk with these properties.
    pub fn new(modes: Modes, user: User, ledger: Arc<Mutex<Ledger>>, seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Device {
            state: DiskState::new(modes),
            user,
            steps: VecDeque::new(),
            ledger,
            rng: Rng::with_seed(seed),
            step_rate: 0,
            fault_rate: 0,
            crash_in: None,
            is_crashed: false,
            is_unmounted: false,
            marker: None,
            calls: 0,
            hits: Hits::default(),
            host: "host".to_owned(),
            boots: 0,
        })))
    }

    /// The disk and its users.
    pub fn device(&self) -> MutexGuard<'_, Device> {
        lock(&self.0)
    }

    /// Begins a call.
    fn call(&self, name: &str, may_fail: &[DiskErrorKind]) -> Result<MutexGuard<'_, Device>, DiskError> {
        let mut device = self.device();
        device.begin(name, may_fail)?;
        Ok(device)
    }
}

impl Device {
    /// The user's next step.
    pub fn step(&mut self) {
        let Some(step) = self.steps.pop_front() else {
            return;
        };
        let ledger = Arc::clone(&self.ledger);
        let mut ledger = lock(&ledger);
        let before = self.state.files();
        self.user.act(&mut self.state, &mut ledger, &step, &mut self.rng);
        ledger.changed(&self.user.name, &before, &self.state.files());
    }

    /// Power is lost, and the machine starts again.
    pub fn power_loss(&mut self) {
        self.boots += 1;
        let torn = self.state.crash(&mut self.rng);
        let mut ledger = lock(&self.ledger);
        for (before, now) in torn {
            ledger.torn(&before, &now);
        }
    }

    fn begin(&mut self, name: &str, may_fail: &[DiskErrorKind]) -> Result<(), DiskError> {
        self.calls += 1;
        if !self.state.modes().is_frozen {
            self.state.clock += 2_000;
        }
        if let Some(left) = &mut self.crash_in {
            if *left == 0 {
                self.is_crashed = true;
                self.crash_in = None;
                self.hits.hit(format!("crash before {name}"));
            } else {
                *left -= 1;
            }
        }
        if self.is_crashed {
            return error(DiskErrorKind::Fatal, "the machine has crashed");
        }
        if self.step_rate > 0 && !self.steps.is_empty() && self.rng.u32(..self.step_rate) == 0 {
            self.hits.hit(format!("user acts before {name}"));
            self.step();
        }
        if self.fault_rate > 0 && !may_fail.is_empty() && self.rng.u32(..self.fault_rate) == 0 {
            let kind = may_fail[self.rng.usize(..may_fail.len())];
            self.hits.hit(format!("{name} fails with {kind:?}"));
            return error(kind, name);
        }
        Ok(())
    }
}

use DiskErrorKind::{Busy, Denied, NoSpace};

impl Disk for VirtualDisk {
    fn settled_before(&self) -> i64 {
        self.device().state.stamp_time()
    }

    fn probe(&self) -> Result<Volume, DiskError> {
        Ok(self.call("probe", &[])?.state.modes().volume())
    }

    fn root(&self) -> Result<Option<RootIdentity>, DiskError> {
        let device = self.call("root", &[])?;
        if device.is_unmounted {
            return Ok(None);
        }
        Ok(device.marker.clone().map(|marker| RootIdentity {
            marker,
            device: 1,
            inode: 1,
            host: device.host.clone(),
        }))
    }

    fn create_root(&self, marker: &str) -> Result<RootIdentity, DiskError> {
        let mut device = self.call("create_root", &[])?;
        device.marker = Some(marker.to_owned());
        Ok(RootIdentity {
            marker: marker.to_owned(),
            device: 1,
            inode: 1,
            host: device.host.clone(),
        })
    }

    fn boot(&self) -> Option<String> {
        Some(self.device().boots.to_string())
    }

    fn list(&self, folder: &LocalPath) -> Result<Listing, DiskError> {
        let device = self.call("list", &[Denied])?;
        if device.is_unmounted {
            let is_stable = is_planted(Bug::RootNotChecked);
            return Ok(Listing {
                is_stable,
                ..Listing::default()
            });
        }
        let Some(entries) = device.state.list(folder) else {
            return error(DiskErrorKind::NotFound, "list");
        };
        let before = device.state.stat(&Place::Tree(folder.clone()));
        drop(device);
        let mut listing = Listing::default();
        // The folder may change between two entries.
        for (name, _) in entries {
            match self.call("list half way", &[Busy]) {
                Ok(device) => {
                    let place = Place::Tree(folder.join(&name));
                    if let Some(meta) = device.state.stat(&place) {
                        listing.entries.push((name, meta));
                    }
                }
                Err(failed) if failed.kind == DiskErrorKind::Fatal => return Err(failed),
                Err(_) if is_planted(Bug::ListingErrorIsEnd) => {
                    listing.is_stable = true;
                    return Ok(listing);
                }
                Err(failed) => return Err(failed),
            }
        }
        let after = self.device().state.stat(&Place::Tree(folder.clone()));
        // Times are too coarse to show a change within one step.
        let settled = self.device().state.stamp_time();
        let is_old = after.is_some_and(|meta| meta.stamp.changed < settled);
        let names: Vec<&String> = listing.entries.iter().map(|(name, _)| name).collect();
        let device = self.device();
        let now: Vec<String> = device
            .state
            .list(folder)
            .unwrap_or_default()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        // A coarse clock cannot show it; the virtual disk knows.
        listing.is_stable = before == after && (is_old || now.iter().collect::<Vec<_>>() == names);
        Ok(listing)
    }

    fn stat(&self, place: &Place) -> Result<Option<Meta>, DiskError> {
        Ok(self.call("stat", &[Busy])?.state.stat(place))
    }

    fn read(&self, place: &Place, each: &mut dyn FnMut(&[u8])) -> Result<(Meta, Meta), DiskError> {
        let mut device = self.call("open", &[Denied, Busy])?;
        let before = device.state.stat(place).filter(|meta| meta.kind == Kind::File);
        let (Some(before), Some(bytes)) = (before, device.state.content(place)) else {
            return error(DiskErrorKind::NotFound, "open");
        };
        let Some(handle) = device.state.open(place) else {
            return error(DiskErrorKind::NotFound, "open");
        };
        each(&bytes[..bytes.len() / 2]);
        drop(device);
        let mut device = self.call("read", &[Busy]).inspect_err(|_| {
            self.device().state.close(handle);
        })?;
        let Some(bytes) = device.state.open_content(handle) else {
            return error(DiskErrorKind::NotFound, "read");
        };
        let half = bytes
            .len()
            .min(usize::try_from(before.stamp.size / 2).unwrap_or_default());
        each(&bytes[half..]);
        let after = device.state.open_meta(handle);
        device.state.close(handle);
        after.map_or_else(
            || error(DiskErrorKind::NotFound, "read"),
            |after| Ok((before, after)),
        )
    }

    fn rename(&self, from: &Place, to: &Place) -> Result<(), DiskError> {
        self.call("rename", &[Denied, Busy])?
            .state
            .rename(from, to, false)
    }

    fn exchange(&self, one: &Place, other: &Place) -> Result<(), DiskError> {
        self.call("exchange", &[Busy])?.state.exchange(one, other)
    }

    fn create_folder(&self, folder: &LocalPath) -> Result<(), DiskError> {
        self.call("create_folder", &[NoSpace, Denied])?
            .state
            .create_other(&folder.clone().into(), Kind::Folder)
    }

    fn remove_folder(&self, folder: &LocalPath) -> Result<(), DiskError> {
        self.call("remove_folder", &[Busy])?.state.remove_folder(folder)
    }

    fn sync_file(&self, place: &Place) -> Result<(), DiskError> {
        self.call("sync_file", &[NoSpace])?.state.sync_file(place);
        Ok(())
    }

    fn sync_folder(&self, folder: &Folder) -> Result<(), DiskError> {
        let mut device = self.call("sync_folder", &[])?;
        match folder {
            Folder::Tree(path) => device.state.sync_folder(Some(path), None),
            Folder::Private(area) => device.state.sync_folder(None, Some(*area)),
        }
    }

    fn sync_volume(&self) -> Result<(), DiskError> {
        self.call("sync_volume", &[NoSpace])?.state.sync_volume();
        Ok(())
    }

    fn dress(
        &self,
        part: &str,
        like: Option<&Place>,
        modified_at: Option<ModifiedAt>,
        executable: Option<bool>,
    ) -> Result<(), DiskError> {
        let mut device = self.call("dress", &[NoSpace, Denied])?;
        let like = like
            .and_then(|place| device.state.stat(place))
            .and_then(|meta| meta.executable);
        let nanos = modified_at.map(|time| time.get().unix_timestamp_nanos());
        let nanos = nanos.and_then(|nanos| i64::try_from(nanos).ok());
        let place = Place::private(Area::Parts, part);
        device.state.set_times(&place, nanos, executable.or(like));
        Ok(())
    }

    fn set_executable(&self, place: &Place, executable: bool) -> Result<(), DiskError> {
        self.call("set_executable", &[Denied])?
            .state
            .set_times(place, None, Some(executable));
        Ok(())
    }

    fn create_part(&self, part: &str) -> Result<(), DiskError> {
        let mut device = self.call("create_part", &[NoSpace])?;
        let place = Place::private(Area::Parts, part);
        device.state.remove(&place).ok();
        device.state.create(&place, Bytes::default(), false)
    }

    fn append_part(&self, part: &str, bytes: &[u8]) -> Result<(), DiskError> {
        let mut device = self.call("append_part", &[NoSpace])?;
        let place = Place::private(Area::Parts, part);
        let mut content = device.state.content(&place).unwrap_or_default().to_vec();
        content.extend(bytes);
        device.state.write(&place, content.into(), false)
    }

    fn remove_part(&self, part: &str) -> Result<(), DiskError> {
        let mut device = self.call("remove_part", &[])?;
        device.state.remove(&Place::private(Area::Parts, part)).ok();
        Ok(())
    }

    fn purge(&self, trashed: &str) -> Result<(), DiskError> {
        let mut device = self.call("purge", &[])?;
        device.state.purge(&Place::private(Area::Trash, trashed))
    }

    fn list_area(&self, area: Area) -> Result<Vec<(String, Meta)>, DiskError> {
        Ok(self.call("list_area", &[])?.state.list_area(area))
    }

    fn replace(&self, from: &Place, to: &Place) -> Result<(), DiskError> {
        self.call("replace", &[])?.state.rename(from, to, true)
    }

    fn space(&self) -> Result<FreeSpace, DiskError> {
        drop(self.call("space", &[])?);
        Ok(FreeSpace {
            available: 1 << 40,
            total: 1 << 41,
        })
    }
}
