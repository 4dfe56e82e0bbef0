//! An in-memory fake of the service, with fault injection.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use model::{Change, ChangeList, Cursor, Epoch, Event, FileState, Role, SpaceId, SpaceKind, SpaceView};
use time::macros::datetime;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use crate::watch::service::{Connection, Service};
use crate::{Error, ErrorResponse, Frame, Problem, Server};

/// Changes per page.
const PAGE_SIZE: usize = 1_000;

/// Age at which API Gateway closes a connection.
const MAX_CONNECTION_AGE: Duration = Duration::from_hours(2);

/// Idle time after which API Gateway closes a connection.
const IDLE_TIMEOUT: Duration = Duration::from_mins(10);

/// Returns the id of a space. Space 0 is the personal space of the caller.
pub(super) fn space(number: u128) -> SpaceId {
    Uuid::from_u128(number + 1).into()
}

/// Probability of each fault, in percent per opportunity.
#[derive(Clone, Copy)]
pub(super) struct Faults {
    /// A request fails. The fault is drawn twice: before the request is carried out, and after it.
    failed: u32,
    /// A frame is lost.
    lost: u32,
    /// A frame is delivered twice.
    duplicated: u32,
    /// A frame is overtaken by the next one.
    delayed: u32,
    /// All connections break when a frame is sent.
    broken: u32,
    /// A ping is not answered.
    unanswered: u32,
    /// A heartbeat is answered by an error, as by a service that does not know it.
    refused: u32,
}

impl Faults {
    pub(super) const NONE: Self = Self {
        failed: 0,
        lost: 0,
        duplicated: 0,
        delayed: 0,
        broken: 0,
        unanswered: 0,
        refused: 0,
    };

    pub(super) const HEARTBEATS_ARE_UNKNOWN: Self = Self {
        refused: 100,
        ..Self::NONE
    };

    /// A proxy on the way drops pings.
    pub(super) const PINGS_ARE_DROPPED: Self = Self {
        unanswered: 100,
        ..Self::NONE
    };

    pub(super) const SEVERE: Self = Self {
        failed: 20,
        lost: 10,
        duplicated: 20,
        delayed: 20,
        broken: 5,
        unanswered: 5,
        refused: 20,
    };
}

/// The fates of a vector, one letter for each frame, request and ping, repeated (`clients/vectors/README.md`).
#[derive(Clone, serde::Deserialize)]
pub(super) struct Fates {
    frames: String,
    requests: String,
    pings: String,
    #[serde(skip)]
    drawn: [usize; 3],
}

impl Fates {
    pub(super) fn without_faults() -> Self {
        Self {
            frames: ".".to_owned(),
            requests: ".".to_owned(),
            pings: ".".to_owned(),
            drawn: [0; 3],
        }
    }

    fn next(letters: &str, drawn: &mut usize) -> u8 {
        let letter = letters.as_bytes()[*drawn % letters.len()];
        *drawn += 1;
        letter
    }
}

/// The fake service. Clones share its state.
#[derive(Clone)]
pub(super) struct FakeService(Arc<Mutex<State>>);

struct State {
    random: Rng,
    faults: Faults,
    /// Decides about faults in place of `faults`.
    fates: Option<Fates>,
    /// The fate of the current frame.
    fate: u8,
    epoch: Epoch,
    feeds: BTreeMap<SpaceId, Vec<Event>>,
    visible: BTreeSet<SpaceId>,
    /// A frame that the next one overtakes.
    delayed: Option<Frame>,
    /// Whether the next frame is delayed in any case.
    delays_next: bool,
    connections: Vec<mpsc::UnboundedSender<Frame>>,
    /// Connections that are open, but that the restored database does not know.
    forgotten: Vec<mpsc::UnboundedSender<Frame>>,
    connects: Vec<Instant>,
    /// The first connections, which are dead: nothing gets through, and no end is reported.
    dead: usize,
    heartbeats: Vec<Instant>,
    /// Number of connections that were closed because of `MAX_CONNECTION_AGE` or `IDLE_TIMEOUT`.
    closed: usize,
    lost_frames: usize,
    refused_tickets: usize,
    session_ended: bool,
    /// Messages that still pass before the break; `None` if no break is planned.
    until_break: Option<u64>,
    has_broken: bool,
}

impl FakeService {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        Self(Arc::new(Mutex::new(State {
            random: Rng::with_seed(seed),
            faults,
            fates: None,
            fate: b'.',
            epoch: Uuid::nil().into(),
            feeds: BTreeMap::new(),
            visible: [space(0), space(1)].into(),
            delayed: None,
            delays_next: false,
            connections: Vec::new(),
            forgotten: Vec::new(),
            connects: Vec::new(),
            dead: 0,
            heartbeats: Vec::new(),
            closed: 0,
            lost_frames: 0,
            refused_tickets: 0,
            session_ended: false,
            until_break: None,
            has_broken: false,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out one random step: changes, a space shared or left, a loss of all connections, or a restore.
    pub(super) fn step(&self, random: &mut Rng) {
        let visible = self.visible();
        let shared: Vec<SpaceId> = visible.iter().copied().filter(|it| *it != space(0)).collect();
        match random.u32(0..100) {
            0..3 => self.drop_connections(),
            3..8 => self.share(space(random.u128(2..8))),
            8..12 => {
                if let Some(left) = random.choice(&shared) {
                    self.leave(*left);
                }
            }
            12..15 => self.restore_all(random),
            _ => {
                for _ in 0..random.u32(1..8) {
                    self.commit(*random.choice(&visible).unwrap());
                }
            }
        }
    }

    /// Commits a change of a file.
    pub(super) fn commit(&self, space_id: SpaceId) {
        let file = FileState {
            file_id: Uuid::from_u128(1).into(),
            path: "/a".parse().unwrap(),
            version: 1.try_into().unwrap(),
            size: 1.try_into().unwrap(),
            sha256: [0; 32].into(),
            modified_at: None,
            executable: None,
        };
        self.state().commit(space_id, Change::FileUpdated(file));
    }

    pub(super) fn share(&self, subject_space_id: SpaceId) {
        let mut state = self.state();
        state.visible.insert(subject_space_id);
        let role = Role::Viewer;
        state.commit(
            space(0),
            Change::SpaceShared {
                subject_space_id,
                role,
            },
        );
    }

    pub(super) fn leave(&self, subject_space_id: SpaceId) {
        let mut state = self.state();
        state.visible.remove(&subject_space_id);
        state.commit(space(0), Change::SpaceLeft { subject_space_id });
    }

    /// Plays a restore from a backup without a new epoch: deletes all changes of a space but the first
    /// `changes`.
    pub(super) fn restore(&self, space_id: SpaceId, changes: usize) {
        self.state().feeds.entry(space_id).or_default().truncate(changes);
    }

    /// The next frame is overtaken by the one after it.
    pub(super) fn delay_next_frame(&self) {
        self.state().delays_next = true;
    }

    /// Begins another epoch.
    pub(super) fn begin_epoch(&self) {
        let mut state = self.state();
        state.epoch = Uuid::from_u128(state.random.u128(..)).into();
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.state().epoch
    }

    /// The restored database does not know the open connections, which receive nothing any more.
    pub(super) fn forget_connections(&self) {
        let state = &mut *self.state();
        state.forgotten.append(&mut state.connections);
    }

    /// Plays a restore from a backup: each space keeps the first `percent` of its changes, and another epoch
    /// begins.
    pub(super) fn restore_percent(&self, percent: usize) {
        for feed in self.state().feeds.values_mut() {
            feed.truncate(feed.len() * percent / 100);
        }
        self.begin_epoch();
    }

    /// Plays a restore from a backup: each space loses some of its last changes, and another epoch begins. In
    /// some spaces, further changes follow at once.
    fn restore_all(&self, random: &mut Rng) {
        let spaces: Vec<SpaceId> = self.state().feeds.keys().copied().collect();
        for space_id in spaces {
            let changes = self.state().feed(space_id).len();
            self.restore(space_id, random.usize(0..=changes));
        }
        self.begin_epoch();
        if random.bool() {
            self.forget_connections();
        }
        for space_id in self.visible() {
            for _ in 0..random.u32(0..20) {
                self.commit(space_id);
            }
        }
    }

    /// All connections die without a word, as when a router forgets them.
    pub(super) fn kill_connections(&self) {
        let mut state = self.state();
        state.dead = state.connects.len();
    }

    pub(super) fn heartbeats(&self) -> Vec<Instant> {
        self.state().heartbeats.clone()
    }

    pub(super) fn drop_connections(&self) {
        let mut state = self.state();
        state.connections.clear();
        state.forgotten.clear();
    }

    pub(super) fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// From now on these decide about faults.
    pub(super) fn set_fates(&self, fates: Fates) {
        self.state().fates = Some(fates);
    }

    /// Loses the next `number` frames, on all connections.
    pub(super) fn drop_frames(&self, number: usize) {
        self.state().lost_frames = number;
    }

    pub(super) fn refuse_tickets(&self, number: usize) {
        self.state().refused_tickets = number;
    }

    pub(super) fn end_session(&self) {
        self.state().session_ended = true;
    }

    /// Breaks all connections once, after so many messages.
    pub(super) fn break_at(&self, messages: u64) {
        self.state().until_break = Some(messages);
    }

    pub(super) fn has_broken(&self) -> bool {
        self.state().has_broken
    }

    pub(super) fn visible(&self) -> Vec<SpaceId> {
        self.state().visible.iter().copied().collect()
    }

    pub(super) fn changes_of(&self, space_id: SpaceId) -> Vec<Event> {
        self.state().feed(space_id).to_vec()
    }

    /// Number of connections that still have a listener.
    pub(super) fn connections(&self) -> usize {
        let mut state = self.state();
        state.connections.retain(|frames| !frames.is_closed());
        state.connections.len()
    }

    pub(super) fn connects(&self) -> Vec<Instant> {
        self.state().connects.clone()
    }

    pub(super) fn closed_by_the_service(&self) -> usize {
        self.state().closed
    }

    /// Carries out a request after 1 to 199 ms. It may fail before or after it is carried out.
    async fn request<T>(&self, act: impl FnOnce(&mut State) -> Result<T, Error>) -> Result<T, Error> {
        let (millis, fate) = {
            let mut state = self.state();
            (state.random.u64(1..200), state.request_fate())
        };
        sleep(Duration::from_millis(millis)).await;
        let mut state = self.state();
        if state.fails(fate, b'b') {
            return Err(Error::Timeout);
        }
        let answer = act(&mut state);
        if state.passes() && !state.fails(fate, b'a') {
            answer
        } else {
            Err(Error::Timeout)
        }
    }
}

impl State {
    fn feed(&self, space_id: SpaceId) -> &[Event] {
        self.feeds.get(&space_id).map(Vec::as_slice).unwrap_or_default()
    }

    fn latest(&self, space_id: SpaceId) -> Cursor {
        let number = i64::try_from(self.feed(space_id).len()).unwrap();
        number.try_into().unwrap()
    }

    fn commit(&mut self, space_id: SpaceId, change: Change) {
        let event = Event {
            sequence: (self.latest(space_id).get() + 1).try_into().unwrap(),
            event_id: Uuid::from_u128(self.random.u128(..)).into(),
            change,
            space_id,
            user_id: "alice".to_owned().try_into().unwrap(),
            user_name: None,
            device_id: None,
            occurred_at: datetime!(2026-01-02 03:04:05 UTC),
        };
        self.feeds.entry(space_id).or_default().push(event.clone());
        let frame = Frame::Changes {
            epoch: Some(self.epoch),
            space_id,
            changes: vec![event],
        };
        if let Some(fates) = &mut self.fates {
            self.fate = Fates::next(&fates.frames, &mut fates.drawn[0]);
        }
        let is_delayed = self.draw(b'o', self.faults.delayed) || std::mem::take(&mut self.delays_next);
        if is_delayed && self.delayed.is_none() {
            self.delayed = Some(frame);
            return;
        }
        self.push(&frame);
        if let Some(delayed) = self.delayed.take() {
            self.fate = b'.';
            self.push(&delayed);
        }
    }

    /// Sends a frame to all connections, unless a fault prevents it.
    fn push(&mut self, frame: &Frame) {
        if self.draw(b'b', self.faults.broken) || !self.passes() {
            self.connections.clear();
        }
        if self.lost_frames > 0 || self.draw(b'l', self.faults.lost) {
            self.lost_frames = self.lost_frames.saturating_sub(1);
            return;
        }
        for _ in 0..=u32::from(self.draw(b'd', self.faults.duplicated)) {
            self.connections
                .retain(|frames| frames.send(frame.clone()).is_ok());
        }
    }

    fn chance(&mut self, of_a_hundred: u32) -> bool {
        self.random.u32(0..100) < of_a_hundred
    }

    /// Whether the current frame has this fate.
    fn draw(&mut self, letter: u8, of_a_hundred: u32) -> bool {
        match self.fates {
            Some(_) => self.fate == letter,
            None => self.chance(of_a_hundred),
        }
    }

    fn request_fate(&mut self) -> Option<u8> {
        let fates = self.fates.as_mut()?;
        Some(Fates::next(&fates.requests, &mut fates.drawn[1]))
    }

    /// Whether a request with this fate fails now.
    fn fails(&mut self, fate: Option<u8>, letter: u8) -> bool {
        match fate {
            Some(fate) => fate == letter,
            None => self.chance(self.faults.failed),
        }
    }

    fn refuses_heartbeat(&mut self) -> bool {
        self.chance(self.faults.refused)
    }

    fn loses_pong(&mut self) -> bool {
        match &mut self.fates {
            Some(fates) => Fates::next(&fates.pings, &mut fates.drawn[2]) == b'n',
            None => self.chance(self.faults.unanswered),
        }
    }

    /// Counts a message towards the planned break. Returns whether it gets through.
    fn passes(&mut self) -> bool {
        match &mut self.until_break {
            Some(0) => {
                self.until_break = None;
                self.has_broken = true;
                self.connections.clear();
                false
            }
            Some(more) => {
                *more -= 1;
                true
            }
            None => true,
        }
    }
}

impl Service for FakeService {
    type Connection = FakeConnection;

    async fn spaces(&self) -> Result<(Epoch, Vec<SpaceView>), Error> {
        let view = |state: &State, space_id: SpaceId| SpaceView {
            space_id,
            kind: SpaceKind::Shared,
            name: None,
            role: Role::Viewer,
            latest_sequence: state.latest(space_id),
            bytes: None,
        };
        self.request(|state| {
            let spaces = state.visible.iter().map(|id| view(state, *id)).collect();
            Ok((state.epoch, spaces))
        })
        .await
    }

    async fn changes(
        &self,
        epoch: Option<Epoch>,
        space_id: SpaceId,
        after: Cursor,
    ) -> Result<ChangeList, Error> {
        let problem = |status, code: &str| {
            Box::new(Problem {
                status,
                code: code.to_owned(),
                detail: String::new(),
                request_id: String::new(),
                current: None,
                space_ids: Vec::new(),
                retry_after: None,
                limit: String::new(),
            })
        };
        self.request(|state| {
            if epoch.is_some_and(|epoch| epoch != state.epoch) {
                return Err(Error::FeedReset(problem(410, "feed-reset")));
            }
            if !state.visible.contains(&space_id) {
                return Err(Error::Refused(problem(404, "not-found")));
            }
            let after = usize::try_from(after.get()).unwrap();
            let rest = state.feed(space_id).get(after..).unwrap_or_default();
            Ok(ChangeList {
                changes: rest.iter().take(PAGE_SIZE).cloned().collect(),
                latest_sequence: state.latest(space_id),
                has_more: rest.len() > PAGE_SIZE,
                epoch: state.epoch,
                restored_at_sequence: None,
            })
        })
        .await
    }

    async fn connect(&self) -> Result<FakeConnection, Error> {
        let connecting = self.request(|state| {
            if state.session_ended {
                return Err(ErrorResponse::new(Server::Api, 401, "").into());
            }
            if state.refused_tickets > 0 {
                state.refused_tickets -= 1;
                return Err(tokio_tungstenite::tungstenite::Error::ConnectionClosed.into());
            }
            state.connects.push(Instant::now());
            let (sender, frames) = mpsc::unbounded_channel();
            state.connections.push(sender);
            Ok((state.connects.len(), frames))
        });
        let (number, frames) = connecting.await?;
        Ok(FakeConnection {
            number,
            frames,
            service: self.clone(),
            answers: VecDeque::new(),
            until: Instant::now() + MAX_CONNECTION_AGE,
            idle_until: Instant::now() + IDLE_TIMEOUT,
        })
    }
}

/// The end of a connection on the device.
pub(super) struct FakeConnection {
    service: FakeService,
    /// Counted from 1.
    number: usize,
    frames: mpsc::UnboundedReceiver<Frame>,
    /// Answers to pings and heartbeats that the device has not received yet.
    answers: VecDeque<Frame>,
    until: Instant,
    idle_until: Instant,
}

impl FakeConnection {
    fn is_dead(&self) -> bool {
        self.number <= self.service.state().dead
    }
}

impl Connection for FakeConnection {
    async fn next(&mut self) -> Result<Option<Frame>, Error> {
        if self.is_dead() {
            return std::future::pending().await;
        }
        if let Some(answer) = self.answers.pop_front() {
            return Ok(Some(answer));
        }
        tokio::select! {
            frame = self.frames.recv() => {
                if self.is_dead() {
                    return std::future::pending().await;
                }
                self.idle_until = Instant::now() + IDLE_TIMEOUT;
                Ok(frame)
            }
            () = sleep_until(self.until.min(self.idle_until)) => {
                self.service.state().closed += 1;
                Ok(None)
            }
        }
    }

    async fn heartbeat(&mut self) -> Result<(), Error> {
        let is_dead = self.is_dead();
        let mut state = self.service.state();
        if !is_dead && state.passes() {
            self.idle_until = Instant::now() + IDLE_TIMEOUT;
            state.heartbeats.push(Instant::now());
            if state.refuses_heartbeat() {
                self.answers.push_back(Frame::Error {
                    code: "invalid-message".to_owned(),
                    detail: String::new(),
                });
            }
        }
        Ok(())
    }

    /// A ping is no message, so it does not keep the connection from being closed as idle.
    async fn ping(&mut self) -> Result<(), Error> {
        let is_dead = self.is_dead();
        let mut state = self.service.state();
        if !is_dead && state.passes() && !state.loses_pong() {
            self.answers.push_back(Frame::Pong);
        }
        Ok(())
    }

    async fn close(self) {}
}
