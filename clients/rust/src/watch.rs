//! Hearing of every change of the caller's spaces, whatever happens to connections.

mod service;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use model::{Change, ChangeList, Cursor, Event, SpaceId, SpaceView};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use crate::{Client, Error, Frame, Problem};
use service::{Line, Service};

/// How many updates wait for the caller. While they do, nothing more is read.
const WAITING_UPDATES: usize = 256;

/// How long an open connection says nothing before it is pinged, in seconds: API Gateway closes one that is idle for 10 min (Amazon API
/// Gateway Developer Guide, "Quotas for configuring and running a WebSocket API").
const HEARTBEAT: Range<f64> = 240.0..300.0;

/// How long the answer to a ping may take.
const PONG_WITHIN: Duration = Duration::from_secs(20);

/// When a connection is replaced, in seconds: API Gateway closes it after 2 h (as above).
const ROTATION: Range<f64> = 6_300.0..6_900.0;

/// How long getting a ticket and connecting with it may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);

/// How long closing a connection that is no longer needed may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// Within which time, at random, a lost connection is opened again. API Gateway takes 500 new connections a second (as above), and when it
/// drops one it may have dropped all: 10,000 devices then come at 250 a second. Who knows better, such as that the network is back, need
/// not wait: [`Watcher::reconnect_now`].
const LOST: Duration = Duration::from_secs(40);

/// The same after failures, each of which doubles it.
const LOST_AT_MOST: Duration = Duration::from_mins(5);

/// How long a device without a WebSocket waits before it asks for changes again, in seconds: 10,000 of them
/// then ask 222 times a second, should WebSockets alone fail.
const POLL: Range<f64> = 30.0..60.0;

/// How long one request of these may take; the client's own limit is longer than API Gateway's.
const POLLED_WITHIN: Duration = Duration::from_secs(40);

/// Within which time, at random, a request that failed is made again over a connection that stands. Each failure doubles it.
const FAILED: Duration = Duration::from_secs(1);

/// The most that it is doubled to.
const FAILED_AT_MOST: Duration = Duration::from_mins(1);

/// What a [`Watcher`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// A change, the next of its space. Once it is dealt with, its `sequence` is the space's cursor.
    Change(Box<Event>),
    /// Everything was heard; what comes from now on comes as it happens.
    Live,
    /// Everything was heard, but only push is missing: no WebSocket can be opened, as in networks that refuse
    /// them, though the service answers. It is asked for changes every 30 to 60 s instead, and a WebSocket is
    /// tried again all the while. Told once.
    Polling {
        /// Why there is no WebSocket.
        reason: String,
    },
    /// The connection is lost, or cannot be made. It is tried again by itself, and what was missed follows then.
    Offline {
        /// Why.
        reason: String,
        /// How long until the next try.
        again_in: Duration,
    },
    /// The service has fewer changes of a space than were heard of: its database was restored from a backup. What is known of the space
    /// no longer counts; all its changes follow from the first.
    CursorReset(SpaceId),
}

/// Hears of every change of all spaces that its user is a member of, each once and in order of its space, from a cursor on that the
/// caller keeps.
///
/// It pings, replaces connections before AWS closes them, comes back after failures, and lists what it missed. Dropping it ends it.
///
/// ```no_run
/// # async fn example(client: client::Client) -> Result<(), client::Error> {
/// use std::collections::BTreeMap;
///
/// use client::{Update, Watcher};
///
/// // Kept from the last time; spaces that are not there are heard from their first change.
/// let mut cursors = BTreeMap::new();
/// let mut watcher = Watcher::start(client, cursors.clone());
/// while let Some(update) = watcher.next().await? {
///     if let Update::Change(event) = update {
///         println!("{} {:?}", event.sequence, event.change);
///         cursors.insert(event.space_id, event.sequence.into());
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Watcher {
    updates: mpsc::Receiver<Result<Update, Error>>,
    reconnect_now: mpsc::Sender<()>,
    task: JoinHandle<()>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watcher {
    /// Begins to watch, after the given cursors.
    pub fn start(client: Client, cursors: BTreeMap<SpaceId, Cursor>) -> Self {
        // It has a pace of its own.
        Self::over(client.with_patience(Duration::ZERO), cursors, None, Rng::new())
    }

    /// Begins to watch one space only. It ends with the service's refusal (404) when its user is no member any more.
    pub fn of_space(client: Client, space_id: SpaceId, cursor: Cursor) -> Self {
        let cursors = [(space_id, cursor)].into();
        Self::over(
            client.with_patience(Duration::ZERO),
            cursors,
            Some(space_id),
            Rng::new(),
        )
    }

    fn over<S: Service>(
        service: S,
        cursors: BTreeMap<SpaceId, Cursor>,
        only: Option<SpaceId>,
        random: Rng,
    ) -> Self {
        let (sender, updates) = mpsc::channel(WAITING_UPDATES);
        let (reconnect_now, hurried) = mpsc::channel(1);
        let task = Task {
            service: Arc::new(service),
            cursors,
            only,
            behind: BTreeSet::new(),
            unlisted: true,
            live: false,
            polling: false,
            updates: sender,
            hurried,
            random,
        };
        Self {
            updates,
            reconnect_now,
            task: tokio::spawn(task.run()),
        }
    }

    /// The next update. An error, such as that the token no longer counts, is the last one; then there is nothing more.
    ///
    /// Dropping the future loses nothing. A caller that takes nothing for minutes may lose the connection, but no change.
    pub async fn next(&mut self) -> Result<Option<Update>, Error> {
        self.updates.recv().await.transpose()
    }

    /// Has it connect at once if it waits before it would: for when the network is known to be back, or somebody asks.
    pub fn reconnect_now(&self) {
        // One that is not yet noticed is as good.
        let _ = self.reconnect_now.try_send(());
    }
}

/// Nobody listens any more, or nothing can be heard.
enum End {
    Unheard,
    Refused(Error),
}

type Requested = Pin<Box<dyn Future<Output = Result<Answer, Error>> + Send>>;

/// What was asked for.
enum Answer {
    Spaces(Vec<SpaceView>),
    Changes {
        space_id: SpaceId,
        after: Cursor,
        list: ChangeList,
    },
    /// The space is not the caller's any more.
    Gone(SpaceId, Box<Problem>),
}

type Connecting<L> = Pin<Box<dyn Future<Output = Result<L, Error>> + Send>>;

struct Task<S> {
    service: Arc<S>,
    cursors: BTreeMap<SpaceId, Cursor>,
    /// The only space that counts, if not all do.
    only: Option<SpaceId>,
    /// Spaces that have changes that were not heard of.
    behind: BTreeSet<SpaceId>,
    /// Whether it is unknown which spaces there are.
    unlisted: bool,
    /// Whether the caller was told that everything was heard.
    live: bool,
    /// Whether the caller was told that only push is missing.
    polling: bool,
    updates: mpsc::Sender<Result<Update, Error>>,
    hurried: mpsc::Receiver<()>,
    random: Rng,
}

impl<S: Service> Task<S> {
    async fn run(mut self) {
        if let Err(End::Refused(error)) = self.watch().await {
            let _ = self.updates.send(Err(error)).await;
        }
    }

    /// Connects and listens for as long as that helps.
    async fn watch(&mut self) -> Result<(), End> {
        let mut within = LOST;
        loop {
            let (reason, is_refused) = match self.connect().await {
                Ok(line) => {
                    let (reason, caught_up) = self.listen(line).await?;
                    if caught_up {
                        within = LOST;
                    }
                    (reason, false)
                }
                Err(error) => (failed(error)?, true),
            };
            let again_in = within.mul_f64(self.random.f64());
            within = (within * 2).min(LOST_AT_MOST);
            self.live = false;
            // Whoever hurried while there was nothing to hurry meant an earlier loss.
            while self.hurried.try_recv().is_ok() {}
            self.wait(reason, is_refused, Instant::now() + again_in).await?;
        }
    }

    /// Waits for the next attempt to connect. If a connection could not even be made, it asks meanwhile for
    /// what it would have heard; after one that was lost it does not, since all others may have lost theirs
    /// at the same moment.
    async fn wait(&mut self, reason: String, is_refused: bool, until: Instant) -> Result<(), End> {
        loop {
            if is_refused && self.ask().await? {
                if !self.polling {
                    self.polling = true;
                    let reason = reason.clone();
                    self.tell(Update::Polling { reason }).await?;
                }
            } else {
                self.polling = false;
                let reason = reason.clone();
                let again_in = until.saturating_duration_since(Instant::now());
                self.tell(Update::Offline { reason, again_in }).await?;
            }
            let ask_at = self.after(POLL);
            tokio::select! {
                () = sleep_until(until) => return Ok(()),
                _ = self.hurried.recv() => return Ok(()),
                () = sleep_until(ask_at), if self.polling => {}
            }
        }
    }

    /// Asks for everything that was not heard: whether all of it came.
    async fn ask(&mut self) -> Result<bool, End> {
        self.unlisted = true;
        while let Some(request) = self.next_request() {
            match timeout(POLLED_WITHIN, request).await {
                Ok(Ok(answer)) => self.take(answer).await?,
                Ok(Err(error)) => {
                    failed(error)?;
                    return Ok(false);
                }
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    fn connect(&self) -> Connecting<S::Line> {
        let service = Arc::clone(&self.service);
        Box::pin(async move {
            match timeout(CONNECT_WITHIN, service.connect()).await {
                Ok(connected) => connected,
                Err(_) => Err(Error::Silent),
            }
        })
    }

    /// Listens until the connection is lost: says why, and whether everything was heard at some time.
    async fn listen(&mut self, mut line: S::Line) -> Result<(String, bool), End> {
        let mut ping_at = self.after(HEARTBEAT);
        let mut pong_by: Option<Instant> = None;
        let mut rotate_at = self.after(ROTATION);
        let mut next_line: Option<Connecting<S::Line>> = None;
        let mut request: Option<Requested> = None;
        let mut request_at = Instant::now();
        let mut within = FAILED;
        // Whatever happened before this connection was stored was not pushed to it.
        self.unlisted = true;
        let mut caught_up = false;
        loop {
            if request.is_none() && Instant::now() >= request_at {
                request = self.next_request();
            }
            if request.is_none() && !self.unlisted && self.behind.is_empty() {
                caught_up = true;
                if !self.live {
                    (self.live, self.polling) = (true, false);
                    self.tell(Update::Live).await?;
                }
            }
            tokio::select! {
                frame = line.next() => {
                    match frame {
                        Ok(Some(frame)) => self.hear(frame).await?,
                        Ok(None) => return Ok(("the connection was closed".to_owned(), caught_up)),
                        Err(error) => return Ok((failed(error)?, caught_up)),
                    }
                    pong_by = None;
                }
                answer = maybe(&mut request) => {
                    request = None;
                    match answer {
                        Ok(answer) => {
                            within = FAILED;
                            self.take(answer).await?;
                        }
                        Err(error) => {
                            failed(error)?;
                            self.unlisted = true;
                            request_at = Instant::now() + within.mul_f64(self.random.f64());
                            within = (within * 2).min(FAILED_AT_MOST);
                        }
                    }
                }
                () = sleep_until(request_at), if request.is_none() && (self.unlisted || !self.behind.is_empty()) => {}
                () = sleep_until(ping_at) => {
                    if let Err(error) = line.ping().await {
                        return Ok((failed(error)?, caught_up));
                    }
                    ping_at = self.after(HEARTBEAT);
                    pong_by.get_or_insert(Instant::now() + PONG_WITHIN);
                }
                () = sleep_until(pong_by.unwrap_or(ping_at)), if pong_by.is_some() => {
                    return Ok(("a ping was not answered".to_owned(), caught_up));
                }
                () = sleep_until(rotate_at), if next_line.is_none() => next_line = Some(self.connect()),
                connected = maybe(&mut next_line) => {
                    next_line = None;
                    match connected {
                        Ok(connected) => {
                            // What the old one has yet to say is listed.
                            std::mem::replace(&mut line, connected).close().await;
                            (ping_at, pong_by) = (self.after(HEARTBEAT), None);
                            rotate_at = self.after(ROTATION);
                            self.unlisted = true;
                        }
                        Err(error) => {
                            failed(error)?;
                            rotate_at = Instant::now() + LOST.mul_f64(self.random.f64());
                        }
                    }
                }
            }
        }
    }

    /// What is to be asked for next; nothing if everything was heard.
    fn next_request(&mut self) -> Option<Requested> {
        let service = Arc::clone(&self.service);
        if self.unlisted {
            self.unlisted = false;
            return Some(Box::pin(
                async move { Ok(Answer::Spaces(service.spaces().await?)) },
            ));
        }
        // Should it fall behind again while this is under way, it is listed again.
        let space_id = self.behind.pop_first()?;
        let after = self.cursor(space_id);
        Some(Box::pin(async move {
            match service.changes(space_id, after).await {
                Ok(list) => Ok(Answer::Changes {
                    space_id,
                    after,
                    list,
                }),
                Err(Error::Refused(problem)) if problem.status == 404 => Ok(Answer::Gone(space_id, problem)),
                Err(error) => Err(error),
            }
        }))
    }

    async fn take(&mut self, answer: Answer) -> Result<(), End> {
        match answer {
            Answer::Spaces(spaces) => {
                let counts = |space: &SpaceView| self.only.is_none_or(|only| only == space.space_id);
                let counting: Vec<SpaceView> = spaces.into_iter().filter(counts).collect();
                // If the only one is not there any more, listing it says so.
                self.behind.extend(self.only.filter(|_| counting.is_empty()));
                for space in counting {
                    if space.latest_sequence != self.cursor(space.space_id) {
                        self.behind.insert(space.space_id);
                    }
                }
            }
            Answer::Gone(space_id, problem) if self.only == Some(space_id) => {
                return Err(End::Refused(Error::Refused(problem)));
            }
            Answer::Gone(..) => {}
            Answer::Changes {
                space_id,
                after,
                list,
            } => {
                if list.latest_sequence < after {
                    self.cursors.remove(&space_id);
                    self.behind.insert(space_id);
                    return self.tell(Update::CursorReset(space_id)).await;
                }
                for change in list.changes {
                    self.hear_change(change).await?;
                }
                if list.has_more {
                    self.behind.insert(space_id);
                }
            }
        }
        Ok(())
    }

    async fn hear(&mut self, frame: Frame) -> Result<(), End> {
        if let Frame::Changes { changes, .. } = frame {
            for change in changes {
                self.hear_change(change).await?;
            }
        }
        Ok(())
    }

    /// Passes a change on if it is the next one of its space. If it is a later one, the space is behind.
    async fn hear_change(&mut self, event: Event) -> Result<(), End> {
        if let Some(only) = self.only.filter(|only| *only != event.space_id) {
            if event.change
                == (Change::SpaceLeft {
                    subject_space_id: only,
                })
            {
                self.behind.insert(only);
            }
            return Ok(());
        }
        let (space_id, cursor) = (event.space_id, self.cursor(event.space_id));
        let (number, next) = (event.sequence.get(), cursor.get() + 1);
        if number > next {
            self.behind.insert(space_id);
        }
        if number != next {
            return Ok(());
        }
        match event.change {
            Change::SpaceShared { subject_space_id, .. } => {
                self.behind.insert(subject_space_id);
            }
            Change::SpaceLeft { subject_space_id } => {
                self.behind.remove(&subject_space_id);
            }
            _ => {}
        }
        self.cursors.insert(space_id, event.sequence.into());
        self.tell(Update::Change(Box::new(event))).await
    }

    fn cursor(&self, space_id: SpaceId) -> Cursor {
        self.cursors.get(&space_id).copied().unwrap_or_default()
    }

    /// A random time that lies so many seconds ahead.
    fn after(&mut self, seconds: Range<f64>) -> Instant {
        let seconds = seconds.start + (seconds.end - seconds.start) * self.random.f64();
        Instant::now() + Duration::from_secs_f64(seconds)
    }

    async fn tell(&self, update: Update) -> Result<(), End> {
        self.updates.send(Ok(update)).await.map_err(|_| End::Unheard)
    }
}

/// Waits for a future if there is one, or for ever.
async fn maybe<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// Why something failed; an end if trying again cannot help before somebody has signed in again, or given
/// another address. A 403 is no such end: members may do all that a watcher does, so a gateway or a firewall
/// on the way said it.
fn failed(error: Error) -> Result<String, End> {
    if matches!(
        error,
        Error::SignedOut(_) | Error::NewPassword | Error::Insecure(_)
    ) || error.status() == Some(401)
    {
        return Err(End::Refused(error));
    }
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        reason = format!("{reason}: {error}");
        cause = error.source();
    }
    Ok(reason)
}
