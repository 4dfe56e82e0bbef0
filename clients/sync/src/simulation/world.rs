//! The world of a run: devices with engines, the service, users, time, and what goes wrong.

mod check;
mod network;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use model::Role;

use super::actors::{FOLDERS, User};
use super::disk::{VirtualDisk, lock};
use super::hits::Hits;
use super::ledger::Ledger;
use super::scenario::{Happening, Scenario, WebStep};
use super::server::Server;
use crate::effect::{Command, Effect, EffectId, Fetch, Input, Now, Request, Stopped, Told, Upload};
use crate::engine::{Config, Direction, Engine, Guard};
use crate::execute::{self, Job};
use crate::path::LocalPath;
use crate::store::Store as _;
use crate::store::memory::MemoryStore;

/// Events after which a run has no end.
const MAX_EVENTS: u32 = 30_000;

/// Rounds of looking at everything again after which a run has no end.
const MAX_QUIET_ROUNDS: u32 = 12;

/// How a run ended.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What is wrong; `None` if every invariant holds.
    pub failure: Option<String>,
    /// How often what happened.
    pub hits: Hits,
    /// What happened, if it was asked for.
    pub log: Vec<String>,
    /// Calls of each disk, for the crash sweep.
    pub calls: Vec<u64>,
    /// A hash of all events and effects.
    pub trace: u64,
}

struct Dev {
    disk: VirtualDisk,
    store: MemoryStore,
    engine: Option<Engine>,
    /// Results for an earlier process are dropped.
    generation: u32,
    starts: u32,
    wake: Option<u64>,
    watched: BTreeSet<LocalPath>,
    must_lose_power: bool,
    pauses: bool,
}

enum Event {
    Start(usize),
    Deliver(usize, u32, Input),
    Tick(usize, u32),
    Run(usize, u32, EffectId, Job),
    Fetch(usize, u32, EffectId, Fetch),
    /// With the epoch that the engine knew.
    Read(usize, u32, EffectId, Box<Upload>, Option<model::Epoch>),
    Send(
        usize,
        u32,
        EffectId,
        Box<Upload>,
        Option<model::Epoch>,
        super::disk::Bytes,
    ),
    Request(usize, u32, EffectId, Request, Option<model::Epoch>),
    Page(usize, u32, EffectId, Option<String>, model::Epoch),
    User(usize),
    Web(WebStep),
    Happens(Happening),
    Mount(usize),
}

struct World {
    scenario: Scenario,
    devices: Vec<Dev>,
    server: Server,
    backup: Option<Server>,
    has_restored: bool,
    ledger: Arc<Mutex<Ledger>>,
    rng: Rng,
    time: u64,
    order: u64,
    queue: BTreeMap<(u64, u64), Event>,
    events: u32,
    /// Effects that changed a folder or the space.
    changes: u64,
    hits: Hits,
    is_quiet: bool,
    trace: u64,
}

/// Runs a scenario.
pub fn run(scenario: &Scenario, is_logging: bool) -> Outcome {
    let mut world = World::new(scenario.clone(), is_logging);
    let failure = world.run().err();
    let mut hits = world.hits;
    for dev in &world.devices {
        hits.merge(&dev.disk.device().hits);
    }
    let log = lock(&world.ledger).lines().to_vec();
    Outcome {
        failure,
        hits,
        log,
        calls: world.devices.iter().map(|dev| dev.disk.device().calls).collect(),
        trace: world.trace,
    }
}

impl World {
    fn new(scenario: Scenario, is_logging: bool) -> Self {
        let ledger = Arc::new(Mutex::new(Ledger::logging(is_logging)));
        let mut rng = Rng::with_seed(scenario.seed ^ 0x5eed);
        let devices = scenario.devices.iter().enumerate().map(|(at, setup)| {
            let user = User::new(format!("user {at}"), scenario.makes_others);
            let disk = VirtualDisk::new(setup.modes, user, Arc::clone(&ledger), rng.u64(..));
            {
                let mut device = disk.device();
                device.steps = setup
                    .steps
                    .iter()
                    .map(|(_, step)| step.clone())
                    .collect::<VecDeque<_>>();
                device.step_rate = scenario.step_rate;
                device.fault_rate = scenario.disk_faults;
            }
            Dev {
                disk,
                store: MemoryStore::default(),
                engine: None,
                generation: 0,
                starts: 0,
                wake: None,
                watched: BTreeSet::new(),
                must_lose_power: false,
                pauses: false,
            }
        });
        let devices = devices.collect();
        let mut world = Self {
            devices,
            server: Server::default(),
            backup: None,
            has_restored: false,
            ledger,
            rng,
            time: 1_000,
            order: 0,
            queue: BTreeMap::new(),
            events: 0,
            changes: 0,
            hits: Hits::default(),
            is_quiet: false,
            trace: 0,
            scenario,
        };
        world.schedule_scenario();
        world
    }

    fn schedule_scenario(&mut self) {
        for device in 0..self.devices.len() {
            let at = self.rng.u64(..3_000);
            self.at(1_000 + at, Event::Start(device));
        }
        let scenario = self.scenario.clone();
        for (device, setup) in scenario.devices.iter().enumerate() {
            for (at, _) in &setup.steps {
                self.at(1_000 + at, Event::User(device));
            }
        }
        for (at, step) in scenario.web {
            self.at(1_000 + at, Event::Web(step));
        }
        for (at, happening) in scenario.happenings {
            self.at(1_000 + at, Event::Happens(happening));
        }
    }

    fn at(&mut self, time: u64, event: Event) {
        self.order += 1;
        self.queue.insert((time, self.order), event);
    }

    fn after(&mut self, least: u64, most: u64, event: Event) {
        let delay = self.rng.u64(least..=most);
        self.at(self.time + delay, event);
    }

    fn log(&self, line: impl FnOnce() -> String) {
        let time = self.time;
        lock(&self.ledger).log(|| format!("{time:>8} {}", line()));
    }

    fn mix(&mut self, value: u64) {
        self.trace = (self.trace ^ value).wrapping_mul(0x0100_0000_01b3).rotate_left(5);
    }

    fn run(&mut self) -> Result<(), String> {
        while self.has_scenario_events() {
            self.next_event()?;
            if self.events.is_multiple_of(64) {
                self.check_kept()?;
            }
        }
        self.begin_quiet();
        let mut rounds = 0;
        loop {
            self.run_until_current()?;
            self.check_kept()?;
            let before = self.changes;
            let stores: Vec<MemoryStore> = self.devices.iter().map(|dev| dev.store.clone()).collect();
            for device in 0..self.devices.len() {
                // The last look is after another start.
                if rounds > 1 && rounds % 2 == 0 {
                    self.kill(device, false);
                } else {
                    self.input(device, Input::Command(Command::Confirm))?;
                    self.input(device, Input::Command(Command::Rescan))?;
                }
            }
            self.run_until_current()?;
            let is_same = self
                .devices
                .iter()
                .zip(&stores)
                .all(|(dev, store)| dev.store.is_like(store));
            if self.changes == before && is_same && rounds >= 3 {
                break;
            }
            rounds += 1;
            if rounds > MAX_QUIET_ROUNDS {
                let what = if self.changes == before {
                    "the rows change"
                } else {
                    "there is always something to do"
                };
                return Err(format!("no end (I4): {what}"));
            }
        }
        self.check_quiet()
    }

    fn has_scenario_events(&self) -> bool {
        self.queue.values().any(|event| {
            matches!(
                event,
                Event::User(_) | Event::Web(_) | Event::Happens(_) | Event::Mount(_)
            )
        })
    }

    /// Users, faults and restores have ended.
    fn begin_quiet(&mut self) {
        self.log(|| "everybody is quiet".to_owned());
        self.is_quiet = true;
        if self.server.role != Role::Editor {
            self.server.set_role(Role::Editor);
            self.push();
        }
        for device in 0..self.devices.len() {
            {
                let dev = &mut self.devices[device];
                let mut disk = dev.disk.device();
                while !disk.steps.is_empty() {
                    disk.step();
                }
                let ledger = Arc::clone(&disk.ledger);
                let disk = &mut *disk;
                disk.user
                    .finish(&mut disk.state, &mut lock(&ledger), &mut disk.rng);
                disk.step_rate = 0;
                disk.fault_rate = 0;
                disk.crash_in = None;
                disk.is_unmounted = false;
            }
            self.notify_watch(device);
            self.at(
                self.time + 10,
                Event::Deliver(device, u32::MAX, Input::Command(Command::Resume)),
            );
            self.at(
                self.time + 10,
                Event::Deliver(device, u32::MAX, Input::Command(Command::Confirm)),
            );
        }
    }

    fn run_until_current(&mut self) -> Result<(), String> {
        loop {
            let is_idle = self.queue.values().all(|event| matches!(event, Event::Tick(..)));
            if is_idle
                && self
                    .devices
                    .iter()
                    .all(|dev| dev.engine.as_ref().is_some_and(Engine::is_current))
            {
                return Ok(());
            }
            if self.queue.is_empty() {
                return Err("the engine waits for ever (I3)".to_owned());
            }
            self.next_event()?;
        }
    }

    fn next_event(&mut self) -> Result<(), String> {
        let Some(((time, _), event)) = self.queue.pop_first() else {
            return Ok(());
        };
        self.events += 1;
        if self.events > MAX_EVENTS {
            return Err("no end: too many events (I3)".to_owned());
        }
        self.time = self.time.max(time);
        for dev in &self.devices {
            let mut device = dev.disk.device();
            if !device.state.modes().is_frozen {
                let now =
                    1_800_000_000_000_000_000 + i64::try_from(self.time).unwrap_or_default() * 1_000_000;
                device.state.clock = device.state.clock.max(now);
            }
        }
        self.handle(event)
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Start(device) => self.start(device),
            Event::Deliver(device, generation, input) => {
                if generation == u32::MAX || self.devices[device].generation == generation {
                    return self.input(device, input);
                }
                Ok(())
            }
            Event::Tick(device, generation) => {
                let dev = &mut self.devices[device];
                if dev.generation == generation && dev.wake.is_some_and(|wake| wake <= self.time) {
                    dev.wake = None;
                    return self.input(device, Input::Tick);
                }
                Ok(())
            }
            Event::Run(device, generation, id, job) => self.run_job(device, generation, id, &job),
            Event::User(device) => {
                self.devices[device].disk.device().step();
                self.notify_watch(device);
                Ok(())
            }
            Event::Web(step) => {
                self.web(step);
                Ok(())
            }
            Event::Happens(happening) => self.happens(happening),
            Event::Mount(device) => {
                self.devices[device].disk.device().is_unmounted = false;
                if self.devices[device].engine.is_none() {
                    self.after(10, 100, Event::Start(device));
                }
                Ok(())
            }
            event => {
                self.network(event);
                Ok(())
            }
        }
    }

    fn now(&self) -> Now {
        Now {
            monotonic: self.time,
            wall: 1_800_000_000_000 + i64::try_from(self.time).unwrap_or_default(),
        }
    }

    fn start(&mut self, device: usize) -> Result<(), String> {
        let dev = &mut self.devices[device];
        if dev.engine.is_some() {
            return Ok(());
        }
        dev.disk.device().is_crashed = false;
        dev.starts += 1;
        dev.generation += 1;
        dev.wake = None;
        dev.watched.clear();
        let tight = Guard {
            count: 1,
            percent: 25,
            most: 1_000,
        };
        let guard = if self.scenario.is_guard_tight {
            tight
        } else {
            Guard::default()
        };
        let saved = dev.store.load().map_err(|error| error.to_string())?;
        let config = Config {
            device: format!("device{device}"),
            nonce: format!("n{device}x{}", dev.starts),
            direction: Direction::Both,
            guard,
            accepts_other_root: false,
        };
        dev.engine = Some(Engine::new(config, saved));
        self.hits.hit("start");
        self.log(|| format!("device {device} starts"));
        self.input(device, Input::Tick)?;
        if self.is_quiet {
            self.input(device, Input::Command(Command::Resume))?;
            self.input(device, Input::Command(Command::Confirm))?;
        }
        Ok(())
    }

    fn input(&mut self, device: usize, input: Input) -> Result<(), String> {
        let now = self.now();
        let dev = &mut self.devices[device];
        let Some(engine) = &mut dev.engine else {
            return Ok(());
        };
        let effects = engine.step(now, input);
        self.perform(device, effects)
    }

    fn perform(&mut self, device: usize, effects: Vec<Effect>) -> Result<(), String> {
        let generation = self.devices[device].generation;
        let epoch = self.devices[device].engine.as_ref().and_then(Engine::known_epoch);
        for effect in effects {
            if self.devices[device].generation != generation {
                // The process has ended.
                return Ok(());
            }
            match effect {
                Effect::Commit(rows) => {
                    if self.is_crash_due(device) {
                        self.hits.hit("crash before commit");
                        self.kill(device, true);
                        return Ok(());
                    }
                    let dev = &mut self.devices[device];
                    dev.store.commit(&rows).map_err(|error| error.to_string())?;
                }
                Effect::Disk(id, job) => {
                    self.mix(id.0);
                    self.after(0, 20, Event::Run(device, generation, id, job));
                }
                Effect::Fetch(id, fetch) => self.after(5, 400, Event::Fetch(device, generation, id, fetch)),
                Effect::Upload(id, upload) => {
                    self.after(0, 50, Event::Read(device, generation, id, upload, epoch));
                }
                Effect::Request(id, request) => {
                    self.mix(id.0 + 7);
                    self.after(5, 200, Event::Request(device, generation, id, request, epoch));
                }
                Effect::Cancel(_) => {}
                Effect::Wake(at) => {
                    let dev = &mut self.devices[device];
                    if dev.wake.is_none_or(|wake| wake > at || wake < self.time) {
                        dev.wake = Some(at);
                        self.at(at.max(self.time + 1), Event::Tick(device, generation));
                    }
                }
                Effect::Watch(folder) => {
                    self.devices[device].watched.insert(folder);
                }
                Effect::Tell(told) => {
                    self.hits.hit(name_of(&told));
                    self.check_told(device, &told)?;
                    self.log(|| format!("    device {device} tells {told:?}"));
                }
                Effect::Stopped(why) => return self.stopped(device, why),
            }
        }
        Ok(())
    }

    fn stopped(&mut self, device: usize, why: Stopped) -> Result<(), String> {
        self.log(|| format!("device {device} stopped: {why:?}"));
        self.hits.hit(format!(
            "stopped: {}",
            format!("{why:?}").split('(').next().unwrap_or_default()
        ));
        let dev = &mut self.devices[device];
        dev.engine = None;
        dev.generation += 1;
        match why {
            Stopped::NoProgress(item) => Err(format!("the engine makes no progress: {item}")),
            Stopped::Disk(_) if dev.disk.device().is_crashed => {
                self.kill(device, true);
                Ok(())
            }
            _ => {
                self.after(1_000, 60_000, Event::Start(device));
                Ok(())
            }
        }
    }

    /// Ends a process. `may_lose_power`: if that was planned, the page cache is lost too.
    fn kill(&mut self, device: usize, may_lose_power: bool) {
        self.log(|| format!("device {device} is killed"));
        let dev = &mut self.devices[device];
        dev.engine = None;
        dev.generation += 1;
        let mut disk = dev.disk.device();
        disk.is_crashed = false;
        disk.crash_in = None;
        if may_lose_power && dev.must_lose_power {
            disk.power_loss();
        }
        drop(disk);
        dev.must_lose_power = false;
        self.after(10, 3_000, Event::Start(device));
    }

    fn is_crash_due(&mut self, device: usize) -> bool {
        let mut disk = self.devices[device].disk.device();
        match &mut disk.crash_in {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }

    fn run_job(&mut self, device: usize, generation: u32, id: EffectId, job: &Job) -> Result<(), String> {
        if self.devices[device].generation != generation {
            return Ok(());
        }
        let disk = self.devices[device].disk.clone();
        let is_change =
            !job.is_read_only() && !matches!(job, Job::Open(_) | Job::Recover { .. } | Job::Discard(_));
        self.log(|| format!("device {device} runs {}", brief_job(job)));
        self.hits.hit(job.name());
        let report = execute::run(&disk, job);
        if is_change {
            self.changes += 1;
        }
        self.notify_watch(device);
        if disk.device().is_crashed {
            self.kill(device, true);
            return self.check_kept();
        }
        self.log(|| {
            let text = format!("{report:?}");
            let text = if text.contains("Err(") {
                text.chars().take(300).collect()
            } else {
                String::new()
            };
            format!("    {text}")
        });
        self.after(0, 20, Event::Deliver(device, generation, Input::Disk(id, report)));
        Ok(())
    }

    /// Passes what changed to the watcher.
    fn notify_watch(&mut self, device: usize) {
        let dev = &mut self.devices[device];
        let touched = std::mem::take(&mut dev.disk.device().state.touched);
        let mut folders: Vec<LocalPath> = touched
            .into_iter()
            .filter(|folder| dev.watched.contains(folder))
            .collect();
        let generation = dev.generation;
        if folders.is_empty() || dev.engine.is_none() {
            return;
        }
        let faults = self.scenario.watch_faults;
        if !self.is_quiet && faults > 0 && self.rng.u32(..faults) == 0 {
            if self.rng.bool() {
                self.hits.hit("watcher: overflow");
                self.after(1, 500, Event::Deliver(device, generation, Input::WatchOverflow));
            } else {
                self.hits.hit("watcher: lost");
            }
            return;
        }
        if self.rng.u8(..8) == 0 {
            folders.extend(folders.clone());
        }
        self.after(
            1,
            500,
            Event::Deliver(device, generation, Input::Watched(folders)),
        );
    }

    fn happens(&mut self, happening: Happening) -> Result<(), String> {
        self.log(|| format!("{happening:?}"));
        let name = format!("{happening:?}");
        self.hits
            .hit(format!("happens: {}", name.split('(').next().unwrap_or_default()));
        match happening {
            Happening::PowerLoss(device, calls) | Happening::Kill(device, calls) => {
                let dev = &mut self.devices[device];
                dev.must_lose_power = matches!(happening, Happening::PowerLoss(..));
                dev.disk.device().crash_in = Some(calls);
            }
            Happening::DatabaseLost(device) => {
                self.kill(device, false);
                self.devices[device].store = MemoryStore::default();
            }
            Happening::Unmount(device) => {
                self.devices[device].disk.device().is_unmounted = true;
                self.after(1_000, 60_000, Event::Mount(device));
                self.input(device, Input::WatchOverflow)?;
            }
            Happening::Backup => self.backup = Some(self.server.clone()),
            Happening::RestoreBackup => {
                if let Some(backup) = self.backup.clone() {
                    self.restore(&backup);
                }
            }
            Happening::Viewer | Happening::Editor => {
                let role = if happening == Happening::Viewer {
                    Role::Viewer
                } else {
                    Role::Editor
                };
                self.server.set_role(role);
                self.push();
            }
            Happening::Exclude(device, folder) => {
                if let Ok(path) = FOLDERS[folder].parse() {
                    self.input(device, Input::Command(Command::Exclude(path)))?;
                }
            }
            Happening::Include(device, folder) => {
                if let Ok(path) = FOLDERS[folder].parse() {
                    self.input(device, Input::Command(Command::Include(path)))?;
                }
            }
            Happening::Pause(device) => {
                self.devices[device].pauses = true;
                self.input(device, Input::Command(Command::Pause))?;
            }
            Happening::Resume(device) => self.input(device, Input::Command(Command::Resume))?,
            Happening::Confirm(device) => self.input(device, Input::Command(Command::Confirm))?,
            Happening::Stop(device) => self.input(device, Input::Command(Command::Stop))?,
            Happening::Overflow(device) => self.input(device, Input::WatchOverflow)?,
            Happening::Silence => {}
        }
        Ok(())
    }

    fn web(&mut self, step: WebStep) {
        self.log(|| format!("web: {step:?}"));
        let ledger = Arc::clone(&self.ledger);
        let mut ledger = lock(&ledger);
        let before = self.server.files();
        super::web::act(&mut self.server, &mut ledger, step);
        ledger.changed("web", &before, &self.server.files());
        drop(ledger);
        self.push();
    }

    /// Tells the devices that the feed has something.
    fn push(&mut self) {
        for device in 0..self.devices.len() {
            let generation = self.devices[device].generation;
            let faults = self.scenario.net_faults;
            if !self.is_quiet && faults > 0 && self.rng.u32(..faults) == 0 {
                self.hits.hit("push lost");
                continue;
            }
            self.after(10, 400, Event::Deliver(device, generation, Input::Pushed));
        }
    }
}

fn name_of(told: &Told) -> &'static str {
    match told {
        Told::Placed(..) => "told Placed",
        Told::Sent(..) => "told Sent",
        Told::Trashed(_) => "told Trashed",
        Told::Deleted(_) => "told Deleted",
        Told::MovedHere(..) => "told MovedHere",
        Told::MovedThere(..) => "told MovedThere",
        Told::Conflict { .. } => "told Conflict",
        Told::CameBack(_) => "told CameBack",
        Told::Restored(_) => "told Restored",
        Told::Held(..) => "told Held",
        Told::Released(_) => "told Released",
        Told::Current { .. } => "told Current",
        Told::Working => "told Working",
        Told::DeletionsHeld { .. } => "told DeletionsHeld",
        Told::OtherEpoch => "told OtherEpoch",
        Told::Rejoined => "told Rejoined",
        Told::Unavailable(_) => "told Unavailable",
        Told::ReadOnly => "told ReadOnly",
    }
}

fn brief_job(job: &Job) -> String {
    let list = |paths: Vec<String>| paths.join(", ");
    match job {
        Job::Scan(folders) => format!("Scan {folders:?}"),
        Job::Hash(paths) => format!("Hash {paths:?}"),
        Job::Place(items) => {
            let paths = items.iter().map(|it| {
                format!(
                    "{}{}",
                    it.to,
                    if it.replaced.is_some() { " (replacing)" } else { "" }
                )
            });
            format!("Place {}", list(paths.collect()))
        }
        Job::Remove(items) => format!(
            "Remove {}",
            list(items.iter().map(|it| it.path.to_string()).collect())
        ),
        Job::Move(items) => format!(
            "Move {}",
            list(
                items
                    .iter()
                    .map(|it| format!("{} to {}", it.from, it.to))
                    .collect()
            )
        ),
        Job::SetAside(items) => format!(
            "SetAside {}",
            list(items.iter().map(|it| it.path.to_string()).collect())
        ),
        other => format!("{other:?}").chars().take(200).collect(),
    }
}
