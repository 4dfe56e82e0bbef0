//! Runs the engine with a folder of this machine, a database, and the service.
//!
//! The driver performs effects and passes their results to the engine. It is one task: the engine and the
//! database are used by no other. Jobs of the disk run on threads that may wait.

mod folder;
mod perform;
mod question;
mod remote;
#[cfg(unix)]
mod socket;
mod view;
mod watch;

use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use client::{Client, Error, Update, Watcher};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use model::{Cursor, Epoch};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use crate::disk::RealDisk;
use crate::effect::{Answer, Command, Effect, EffectId, Input, Now, Stopped, Told};
use crate::engine::{Config, Engine};
use crate::plan::{Decision, Op};
use crate::store::{SqliteStore, StoreError};
pub use folder::{Folder, FolderError, Idle};
pub use question::{Held, Question, Reply, Status};
use remote::Remote;
#[cfg(unix)]
pub use socket::{ask, serve};
use view::View;
use watch::{FolderWatcher, Hints};

/// How often a folder that cannot be watched as a whole is scanned.
const POLL_INTERVAL: Duration = Duration::from_mins(1);

/// How often it is told how much is left.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// The pause before the changes of the space are watched again after an error.
const WATCH_AGAIN: Duration = Duration::from_mins(1);

/// How a sync runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of the engine.
    pub config: Config,
    /// Whether the sync ends when everything is equal, except what is held.
    pub once: bool,
    /// Whether it only plans. Nothing changes outside the private folder.
    pub dry_run: bool,
}

/// Something for the user.
#[derive(Clone, Debug)]
pub enum Notice {
    /// The engine tells it.
    Told(Told),
    /// A dry run would do this next.
    Planned(Box<Op>),
    /// How much is left, a few times a second.
    Left(Left),
    /// No WebSocket can be opened: changes of others arrive late.
    Polling(String),
    /// The connection to the service is lost; it is opened again after this time.
    Offline(String, Duration),
    /// Not all folders can be watched: changes made here are found late.
    Unwatched,
}

/// What is left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Files whose content must be read.
    pub unread: usize,
    /// Files to decide about.
    pub files: usize,
    /// Files that are uploaded now.
    pub uploads: usize,
    /// Files that are downloaded now.
    pub downloads: usize,
}

/// A question or a command for a running sync, and where the answer goes.
#[derive(Debug)]
pub struct Ask {
    /// The question.
    pub question: Question,
    /// Takes the answer.
    pub reply: oneshot::Sender<Reply>,
}

/// How a sync ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Why.
    pub why: Stopped,
    /// What is held.
    pub held: Vec<Held>,
    /// Why the service could not be reached at last, if `once` ended for that reason.
    pub unavailable: Option<String>,
}

/// A call in progress, which gives its result.
type Task = Pin<Box<dyn Future<Output = Input>>>;

/// Syncs a folder until it ends. Dropping the future ends it at once, as a crash would: nothing is lost, and the
/// next start looks at everything again.
pub async fn run(
    folder: Folder,
    client: Client,
    settings: Settings,
    asks: &mut mpsc::UnboundedReceiver<Ask>,
    tell: &mut dyn FnMut(Notice),
) -> Result<Ended, StoreError> {
    let Folder {
        disk,
        store,
        saved,
        binding,
        lock: _lock,
        ..
    } = folder;
    let disk = Arc::new(disk);
    let (sender, sent) = mpsc::unbounded_channel();
    let view = View::new(&binding, &saved);
    let mut saved = saved;
    // A paused engine observes, and changes nothing.
    saved.meta.paused |= settings.dry_run;
    let driver = Driver {
        engine: Engine::new(settings.config, saved),
        store,
        remote: Remote::new(client, binding.space_id, Arc::clone(&disk)),
        folder_watcher: (!settings.once && !settings.dry_run).then(|| FolderWatcher::new(disk.path())),
        disk,
        once: settings.once || settings.dry_run,
        is_dry: settings.dry_run,
        epoch: None,
        changes: Changes::Off(None),
        view,
        sender,
        tasks: FuturesUnordered::new(),
        cancels: HashMap::new(),
        started: Instant::now(),
        wake: None,
        is_stopping: false,
        told_left: Instant::now(),
        unavailable: None,
        tell,
    };
    driver.run(sent, asks).await
}

/// The watcher of the space.
enum Changes {
    On(Watcher),
    /// It is started at this time.
    Off(Option<Instant>),
}

struct Driver<'a> {
    engine: Engine,
    store: SqliteStore,
    disk: Arc<RealDisk>,
    remote: Remote,
    /// `None` if the sync ends when everything is equal.
    folder_watcher: Option<FolderWatcher>,
    once: bool,
    is_dry: bool,
    /// The epoch that the engine knows. Requests must not name a later one.
    epoch: Option<Epoch>,
    changes: Changes,
    view: View,
    /// Takes what comes before the result of a task.
    sender: mpsc::UnboundedSender<Input>,
    tasks: FuturesUnordered<Task>,
    cancels: HashMap<EffectId, oneshot::Sender<()>>,
    started: Instant,
    /// When the engine wants to be called, in milliseconds since the start.
    wake: Option<u64>,
    is_stopping: bool,
    told_left: Instant,
    unavailable: Option<String>,
    tell: &'a mut dyn FnMut(Notice),
}

/// What the driver waited for.
enum Event {
    Sent(Option<Input>),
    Result(Input),
    Tick,
    Hints(Hints),
    Update(Result<Option<Update>, Error>),
    WatchAgain,
    Poll,
    Ask(Option<Ask>),
}

impl Driver<'_> {
    async fn run(
        mut self,
        mut sent: mpsc::UnboundedReceiver<Input>,
        asks: &mut mpsc::UnboundedReceiver<Ask>,
    ) -> Result<Ended, StoreError> {
        let mut next = Some(Input::Tick);
        let mut poll = pin!(sleep(POLL_INTERVAL));
        let mut are_asked = true;
        loop {
            // Pages of a listing come before its end.
            while let Some(input) = sent.try_recv().ok().or_else(|| next.take()) {
                if let Some(why) = self.step(input)? {
                    return Ok(self.ended(why));
                }
                if self.once && !self.is_stopping && self.is_done() {
                    self.stop();
                }
            }
            let wake = self.wake.map(|at| self.started + Duration::from_millis(at));
            let is_incomplete = self.is_incomplete();
            let event = tokio::select! {
                input = sent.recv() => Event::Sent(input),
                Some(input) = self.tasks.next() => Event::Result(input),
                () = sleep_until(wake.unwrap_or(self.started)), if wake.is_some() => Event::Tick,
                hints = hints(&mut self.folder_watcher) => Event::Hints(hints),
                event = update(&mut self.changes) => event,
                () = &mut poll, if is_incomplete => Event::Poll,
                ask = asks.recv(), if are_asked => Event::Ask(ask),
            };
            next = match event {
                Event::Sent(input) => input,
                Event::Result(input) => Some(input),
                Event::Tick => {
                    self.wake = None;
                    Some(Input::Tick)
                }
                Event::Hints(hints) if hints.is_anything => Some(Input::WatchOverflow),
                Event::Hints(hints) => Some(Input::Watched(hints.folders.into_iter().collect())),
                Event::Update(update) => self.updated(update),
                Event::WatchAgain => {
                    self.watch_changes();
                    None
                }
                Event::Poll => {
                    poll.as_mut().reset(Instant::now() + POLL_INTERVAL);
                    Some(Input::WatchOverflow)
                }
                Event::Ask(Some(ask)) => self.asked(ask),
                Event::Ask(None) => {
                    are_asked = false;
                    None
                }
            };
        }
    }

    /// Whether a sync that ends has reached its end.
    fn is_done(&mut self) -> bool {
        if !self.is_dry {
            return self.engine.is_done();
        }
        if !self.engine.is_observed() {
            return false;
        }
        for decided in self.engine.planned() {
            match decided.decision {
                Decision::Do(op) => (self.tell)(Notice::Planned(Box::new(op))),
                Decision::Hold(hold) => {
                    let told = Told::Held(self.engine.name_of(&decided.item), hold);
                    self.told(told);
                }
                Decision::Nothing | Decision::Wait => {}
            }
        }
        true
    }

    fn ended(self, why: Stopped) -> Ended {
        Ended {
            why,
            held: self.view.held(),
            unavailable: self.unavailable,
        }
    }

    fn now(&self) -> Now {
        #[expect(
            clippy::disallowed_methods,
            reason = "names of conflict copies have the time of day"
        )]
        let wall = std::time::SystemTime::now();
        let wall = wall
            .duration_since(std::time::SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Now {
            monotonic: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            wall: i64::try_from(wall.as_millis()).unwrap_or(i64::MAX),
        }
    }

    /// Passes an input to the engine and performs the effects. Returns the reason if the engine has ended.
    fn step(&mut self, input: Input) -> Result<Option<Stopped>, StoreError> {
        self.observe(&input);
        let effects = self.engine.step(self.now(), input);
        let mut ended = None;
        for effect in effects {
            if let Effect::Stopped(why) = effect {
                ended = Some(why);
            } else {
                self.perform(effect)?;
            }
        }
        if self.told_left.elapsed() >= PROGRESS_INTERVAL {
            self.told_left = Instant::now();
            let (uploads, downloads) = self.view.transfers();
            let trees = self.engine.trees();
            let (unread, files) = (trees.unread().len(), trees.dirty().len() + uploads + downloads);
            (self.tell)(Notice::Left(Left {
                unread,
                files,
                uploads,
                downloads,
            }));
        }
        Ok(ended)
    }

    /// Notes what concerns the driver itself.
    fn observe(&mut self, input: &Input) {
        if let Input::Answered(id, _) | Input::Fetched(id, _) | Input::Uploaded(id, _) = input {
            self.cancels.remove(id);
            self.view.ended(*id);
        }
        if let Input::Answered(_, Ok(Answer::Position(_, position))) = input {
            self.epoch = Some(position.epoch);
            if matches!(self.changes, Changes::Off(None)) && !self.once {
                self.start_watching(position.epoch, position.latest);
            }
        }
    }

    fn told(&mut self, told: Told) {
        let now = self.now().wall;
        self.view.told(&told, now);
        if let Told::Unavailable(reason) = &told
            && self.once
        {
            self.unavailable = Some(reason.clone());
            self.stop();
        }
        (self.tell)(Notice::Told(told));
    }

    fn stop(&mut self) {
        self.is_stopping = true;
        let _ = self.sender.send(Input::Command(Command::Stop));
    }

    fn start_watching(&mut self, epoch: Epoch, latest: Cursor) {
        let client = self.remote.client().clone();
        let space_id = self.view.space_id();
        self.changes = Changes::On(Watcher::of_space(client, Some(epoch), space_id, latest));
    }

    /// Watches the space again, and reads what was missed.
    fn watch_changes(&mut self) {
        let (epoch, cursor) = self.view.position();
        if let Some(epoch) = epoch.or(self.epoch) {
            self.start_watching(epoch, cursor);
        }
    }

    fn updated(&mut self, update: Result<Option<Update>, Error>) -> Option<Input> {
        match update {
            Ok(Some(Update::Offline { reason, retry_in })) => {
                self.view.push = view::Push::Offline;
                (self.tell)(Notice::Offline(reason, retry_in));
                None
            }
            Ok(Some(Update::Polling { reason })) => {
                self.view.push = view::Push::Polling;
                (self.tell)(Notice::Polling(reason));
                Some(Input::Pushed)
            }
            Ok(Some(Update::Live)) => {
                self.view.push = view::Push::Live;
                Some(Input::Pushed)
            }
            Ok(Some(Update::Change(_) | Update::CursorReset(_) | Update::Epoch(_))) => Some(Input::Pushed),
            // The engine meets the reason itself when it reads the changes.
            Ok(None) | Err(_) => {
                self.view.push = view::Push::Offline;
                self.changes = Changes::Off(Some(Instant::now() + WATCH_AGAIN));
                Some(Input::Pushed)
            }
        }
    }

    /// Whether some folders cannot be watched.
    fn is_incomplete(&self) -> bool {
        self.folder_watcher
            .as_ref()
            .is_some_and(FolderWatcher::is_incomplete)
    }

    /// Answers a question, and returns the command if it is one.
    fn asked(&mut self, ask: Ask) -> Option<Input> {
        let Ask { question, reply } = ask;
        let command = question.command();
        let answer = self.view.answer(&question, &self.store, self.is_incomplete());
        // The connection may have closed meanwhile.
        let _ = reply.send(answer);
        command.map(Input::Command)
    }
}

async fn hints(watcher: &mut Option<FolderWatcher>) -> Hints {
    match watcher {
        Some(watcher) => watcher.next().await,
        None => std::future::pending().await,
    }
}

async fn update(changes: &mut Changes) -> Event {
    match changes {
        Changes::On(watcher) => Event::Update(watcher.next().await),
        Changes::Off(Some(at)) => {
            sleep_until(*at).await;
            Event::WatchAgain
        }
        Changes::Off(None) => std::future::pending().await,
    }
}
