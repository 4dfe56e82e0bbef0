//! Receives every change of the caller's spaces, also when connections fail.

mod service;
mod silence;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use model::{Change, ChangeList, Cursor, Epoch, Event, SpaceId, SpaceView};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use crate::session::now;
use crate::{Backoff, Client, Error, Frame, Problem, with_causes};
use service::{Connection, Service};
use silence::{Due, Silence, after};

/// Updates that are buffered for the caller. While the buffer is full, nothing more is read.
const UPDATE_BUFFER: usize = 256;

/// Age at which a connection is replaced, in seconds. API Gateway closes it after 2 h (Amazon API Gateway
/// Developer Guide, "Quotas for configuring and running a WebSocket API").
const ROTATION_AGE: Range<f64> = 6_300.0..6_900.0;

/// Timeout for getting a ticket and connecting with it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Timeout for closing a connection that is no longer needed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Delays before a lost connection is opened again. API Gateway accepts 500 new connections a second (as
/// above), and may drop all connections at once: 10,000 devices then return at 250 a second. A caller that
/// knows that the network is back can skip the delay with [`Watcher::reconnect_now`].
const RECONNECT_BACKOFF: Backoff = Backoff::new(Duration::from_secs(40), Duration::from_mins(5));

/// Interval of polling while no WebSocket can be opened, in seconds. If WebSockets fail for all of 10,000
/// devices, they poll 222 times a second.
const POLL_INTERVAL: Range<f64> = 30.0..60.0;

/// Timeout of one polling request. The HTTP client itself has a limit that is longer than that of API
/// Gateway.
const POLL_TIMEOUT: Duration = Duration::from_secs(40);

/// Delays before a failed request is retried while the WebSocket is open.
const REQUEST_BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));

/// A message from a [`Watcher`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// The next change of a space. After the caller has processed it, its `sequence` is the cursor of the
    /// space.
    Change(Box<Event>),
    /// All changes so far were delivered; later ones are delivered as they happen.
    Live,
    /// All changes so far were delivered, but no WebSocket can be opened, for example because the network
    /// refuses them. The watcher polls for changes every 30 to 60 s and continues to try a WebSocket. This is
    /// sent once, not for each poll.
    Polling {
        /// The reason why no WebSocket can be opened.
        reason: String,
    },
    /// The connection is lost or cannot be opened. The watcher reconnects by itself, and then delivers the
    /// changes that were missed.
    Offline {
        /// The reason.
        reason: String,
        /// Time until the next attempt to connect.
        retry_in: Duration,
    },
    /// The service's database was restored from a backup: another epoch began, or a space has fewer changes
    /// than its cursor says. Discard the state and the cursor of the space; all its changes follow from the
    /// first. Do not delete or replace what the user has beyond them.
    CursorReset(SpaceId),
    /// The epoch of the changes that follow. Store it with the cursors. It is sent once at the start, and
    /// after the resets of all spaces when another epoch begins.
    Epoch(Epoch),
}

/// Delivers every change of all spaces that its user is a member of. The changes of each space are delivered
/// once and in order, starting after a cursor that the caller stores together with the epoch.
///
/// The watcher has an epoch of its own. The client that it was started with keeps naming the epoch that it
/// knows until it lists the spaces, so it changes nothing on the grounds of a former epoch.
///
/// It sends heartbeats, replaces connections that are dead or that AWS would close, reconnects after failures,
/// and lists the changes that it missed. Dropping it ends it.
///
/// ```no_run
/// # async fn example(client: client::Client) -> Result<(), client::Error> {
/// use std::collections::BTreeMap;
///
/// use client::{Update, Watcher};
///
/// // The stored epoch and cursors. A space without a cursor starts at its first change.
/// let mut epoch = None;
/// let mut cursors = BTreeMap::new();
/// let mut watcher = Watcher::start(client, epoch, cursors.clone());
/// while let Some(update) = watcher.next().await? {
///     match update {
///         Update::Change(event) => {
///             println!("{} {:?}", event.sequence, event.change);
///             cursors.insert(event.space_id, event.sequence.into());
///         }
///         Update::CursorReset(space_id) => {
///             cursors.remove(&space_id);
///         }
///         Update::Epoch(current) => epoch = Some(current),
///         _ => {}
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
    /// Starts watching all spaces, after the given cursors, which are of `epoch`. A space without a cursor
    /// starts at its first change. If the epoch is `None`, because an earlier release stored the cursors, they
    /// are taken as of the first epoch that the watcher meets.
    pub fn start(client: Client, epoch: Option<Epoch>, cursors: BTreeMap<SpaceId, Cursor>) -> Self {
        Self::with_service(Self::service(client), epoch, cursors, None, Rng::new())
    }

    /// Starts watching one space, after the given cursor of `epoch`, as [`Watcher::start`] does. When the
    /// user is no longer a member of it, the watcher ends with the error 404 of the service.
    pub fn of_space(client: Client, epoch: Option<Epoch>, space_id: SpaceId, cursor: Cursor) -> Self {
        let cursors = [(space_id, cursor)].into();
        Self::with_service(Self::service(client), epoch, cursors, Some(space_id), Rng::new())
    }

    /// The watcher has its own back-off, so its client does not retry, and its own epoch.
    fn service(client: Client) -> Client {
        client.with_retry_budget(Duration::ZERO).with_epoch(None)
    }

    fn with_service<S: Service>(
        service: S,
        epoch: Option<Epoch>,
        cursors: BTreeMap<SpaceId, Cursor>,
        only: Option<SpaceId>,
        mut random: Rng,
    ) -> Self {
        let (sender, updates) = mpsc::channel(UPDATE_BUFFER);
        let (reconnect_now, reconnect_requests) = mpsc::channel(1);
        let task = Task {
            service: Arc::new(service),
            epoch,
            sent_epoch: None,
            cursors,
            only,
            behind: BTreeSet::new(),
            must_list: true,
            live: false,
            polling: false,
            silence: Silence::begin(&mut random),
            updates: sender,
            reconnect_requests,
            random,
        };
        Self {
            updates,
            reconnect_now,
            task: tokio::spawn(task.run()),
        }
    }

    /// Returns the next update. An error, such as a token that is no longer valid, ends the watcher; after it
    /// this returns `None`.
    ///
    /// Dropping the future loses no update. If the caller takes no updates for minutes, the connection may be
    /// lost, but no change is.
    pub async fn next(&mut self) -> Result<Option<Update>, Error> {
        self.updates.recv().await.transpose()
    }

    /// Ends the current delay before reconnecting, if there is one. Call it when the network is back, or when
    /// the user asks for it.
    pub fn reconnect_now(&self) {
        // If the channel is full, an earlier call is still pending and has the same effect.
        let _ = self.reconnect_now.try_send(());
    }
}

/// The reason why the task ends: the [`Watcher`] was dropped, or an error that retries cannot fix.
enum End {
    Dropped,
    Failed(Error),
}

type PendingRequest = Pin<Box<dyn Future<Output = Result<Answer, Error>> + Send>>;

/// The answer to a request of the task.
enum Answer {
    Spaces(Epoch, Vec<SpaceView>),
    Changes {
        space_id: SpaceId,
        after: Cursor,
        list: ChangeList,
    },
    /// The caller cannot see the space any more (404).
    Gone(SpaceId, Box<Problem>),
}

type Connecting<L> = Pin<Box<dyn Future<Output = Result<L, Error>> + Send>>;

struct Task<S> {
    service: Arc<S>,
    /// The epoch of the cursors; `None` until the first list if the caller did not know it.
    epoch: Option<Epoch>,
    /// The epoch of the last [`Update::Epoch`].
    sent_epoch: Option<Epoch>,
    cursors: BTreeMap<SpaceId, Cursor>,
    /// The only space to watch; `None` to watch all.
    only: Option<SpaceId>,
    /// Spaces with changes that were not received yet.
    behind: BTreeSet<SpaceId>,
    /// Whether the spaces have to be listed.
    must_list: bool,
    /// Whether [`Update::Live`] was sent since the last connection was lost.
    live: bool,
    /// Whether [`Update::Polling`] was sent and still applies.
    polling: bool,
    /// The silence of the current connection, or of the last one.
    silence: Silence,
    updates: mpsc::Sender<Result<Update, Error>>,
    reconnect_requests: mpsc::Receiver<()>,
    random: Rng,
}

impl<S: Service> Task<S> {
    async fn run(mut self) {
        if let Err(End::Failed(error)) = self.watch().await {
            let _ = self.updates.send(Err(error)).await;
        }
    }

    /// Connects and listens, and reconnects after each loss.
    async fn watch(&mut self) -> Result<(), End> {
        let mut backoff = RECONNECT_BACKOFF;
        loop {
            let (reason, connect_failed) = match self.connect().await {
                Ok(connection) => {
                    let (reason, caught_up) = self.listen(connection).await?;
                    if caught_up {
                        backoff.reset();
                    }
                    (reason, false)
                }
                Err(error) => (retry_reason(error)?, true),
            };
            let retry_in = backoff.next_delay(&mut self.random);
            self.live = false;
            // A call of `reconnect_now` during the connection does not shorten the delay after its loss.
            while self.reconnect_requests.try_recv().is_ok() {}
            self.wait(reason, connect_failed, Instant::now() + retry_in)
                .await?;
        }
    }

    /// Waits until the next attempt to connect. If the last connection could not be opened, the task polls
    /// meanwhile. If it was opened and then lost, the task does not poll, because all other devices may have
    /// lost theirs at the same moment.
    async fn wait(&mut self, reason: String, connect_failed: bool, until: Instant) -> Result<(), End> {
        loop {
            if connect_failed && self.poll().await? {
                if !self.polling {
                    self.polling = true;
                    let reason = reason.clone();
                    self.send_update(Update::Polling { reason }).await?;
                }
            } else {
                self.polling = false;
                let reason = reason.clone();
                let retry_in = until.saturating_duration_since(Instant::now());
                self.send_update(Update::Offline { reason, retry_in }).await?;
            }
            let poll_at = after(POLL_INTERVAL, &mut self.random);
            tokio::select! {
                () = sleep_until(until) => return Ok(()),
                _ = self.reconnect_requests.recv() => return Ok(()),
                () = sleep_until(poll_at), if self.polling => {}
            }
        }
    }

    /// Polls for all missing changes. Returns whether all requests succeeded.
    async fn poll(&mut self) -> Result<bool, End> {
        self.must_list = true;
        while let Some(request) = self.next_request() {
            match timeout(POLL_TIMEOUT, request).await {
                Ok(Ok(answer)) => self.handle_answer(answer).await?,
                Ok(Err(error)) => {
                    retry_reason(error)?;
                    return Ok(false);
                }
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    fn connect(&self) -> Connecting<S::Connection> {
        let service = Arc::clone(&self.service);
        Box::pin(async move {
            match timeout(CONNECT_TIMEOUT, service.connect()).await {
                Ok(connected) => connected,
                Err(_) => Err(Error::Timeout),
            }
        })
    }

    /// Listens until the connection is lost. Returns the reason, and whether all changes were delivered at
    /// some time.
    async fn listen(&mut self, mut connection: S::Connection) -> Result<(String, bool), End> {
        self.silence = self.silence.next(&mut self.random);
        let mut rotate_at = after(ROTATION_AGE, &mut self.random);
        let mut next_connection: Option<Connecting<S::Connection>> = None;
        let mut request: Option<PendingRequest> = None;
        let mut request_at = Instant::now();
        let mut request_backoff = REQUEST_BACKOFF;
        let mut rotation_backoff = RECONNECT_BACKOFF;
        // Changes that were committed before the service stored this connection were not pushed to it.
        self.must_list = true;
        let mut connected_in = self.epoch;
        let mut caught_up = false;
        loop {
            if request.is_none() && Instant::now() >= request_at {
                request = self.next_request();
            }
            if request.is_none() && !self.must_list && self.behind.is_empty() {
                caught_up = true;
                if !self.live {
                    (self.live, self.polling) = (true, false);
                    self.send_update(Update::Live).await?;
                }
            }
            tokio::select! {
                frame = connection.next() => {
                    match frame {
                        Ok(Some(frame)) => {
                            self.silence.heard(&frame, &mut self.random);
                            self.handle_frame(frame).await?;
                        }
                        Ok(None) => return Ok(("the connection was closed".to_owned(), caught_up)),
                        Err(error) => return Ok((retry_reason(error)?, caught_up)),
                    }
                }
                answer = next_if_any(&mut request) => {
                    request = None;
                    match answer {
                        Ok(answer) => {
                            request_backoff.reset();
                            self.handle_answer(answer).await?;
                            // A database that was restored to an earlier time does not know the connection.
                            if connected_in.is_some() && connected_in != self.epoch {
                                rotate_at = Instant::now() + rotation_backoff.next_delay(&mut self.random);
                            }
                            connected_in = self.epoch;
                        }
                        // After a reset too: the random delay spreads the devices.
                        Err(error) => {
                            retry_reason(error)?;
                            self.must_list = true;
                            request_at = Instant::now() + request_backoff.next_delay(&mut self.random);
                        }
                    }
                }
                () = sleep_until(request_at), if request.is_none() && (self.must_list || !self.behind.is_empty()) => {}
                due = self.silence.due() => {
                    let sent = match due {
                        Due::Check => {
                            self.silence.check(now());
                            Ok(())
                        }
                        Due::Heartbeat => {
                            self.silence.sent_heartbeat(&mut self.random);
                            connection.heartbeat().await
                        }
                        Due::Ping => {
                            self.silence.sent_ping(&mut self.random);
                            connection.ping().await
                        }
                        Due::Dead => return Ok(("a ping was not answered".to_owned(), caught_up)),
                    };
                    if let Err(error) = sent {
                        return Ok((retry_reason(error)?, caught_up));
                    }
                }
                () = sleep_until(rotate_at), if next_connection.is_none() => next_connection = Some(self.connect()),
                connected = next_if_any(&mut next_connection) => {
                    next_connection = None;
                    match connected {
                        Ok(connected) => {
                            // Frames that the old connection did not deliver are covered by the new listing.
                            std::mem::replace(&mut connection, connected).close().await;
                            self.silence = self.silence.next(&mut self.random);
                            rotate_at = after(ROTATION_AGE, &mut self.random);
                            rotation_backoff.reset();
                            self.must_list = true;
                        }
                        Err(error) => {
                            retry_reason(error)?;
                            rotate_at = Instant::now() + rotation_backoff.next_delay(&mut self.random);
                        }
                    }
                }
            }
        }
    }

    /// Builds the next request; `None` if nothing is missing.
    fn next_request(&mut self) -> Option<PendingRequest> {
        let service = Arc::clone(&self.service);
        if self.must_list {
            self.must_list = false;
            return Some(Box::pin(async move {
                let (epoch, spaces) = service.spaces().await?;
                Ok(Answer::Spaces(epoch, spaces))
            }));
        }
        // If the space falls behind again during the request, it is added to `behind` again.
        let space_id = self.behind.pop_first()?;
        let (epoch, after) = (self.epoch, self.cursor(space_id));
        Some(Box::pin(async move {
            match service.changes(epoch, space_id, after).await {
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

    async fn handle_answer(&mut self, answer: Answer) -> Result<(), End> {
        match answer {
            Answer::Spaces(epoch, spaces) => {
                self.adopt(epoch).await?;
                let is_watched = |space: &SpaceView| self.only.is_none_or(|only| only == space.space_id);
                let watched: Vec<SpaceView> = spaces.into_iter().filter(is_watched).collect();
                // If the watched space is missing from the list, the request for its changes returns the 404.
                self.behind.extend(self.only.filter(|_| watched.is_empty()));
                for space in watched {
                    if space.latest_sequence != self.cursor(space.space_id) {
                        self.behind.insert(space.space_id);
                    }
                }
            }
            Answer::Gone(space_id, problem) if self.only == Some(space_id) => {
                return Err(End::Failed(Error::Refused(problem)));
            }
            Answer::Gone(..) => {}
            Answer::Changes {
                space_id,
                after,
                list,
            } => {
                if self.epoch != Some(list.epoch) {
                    self.must_list = true;
                    return Ok(());
                }
                if list.latest_sequence < after {
                    self.cursors.remove(&space_id);
                    self.behind.insert(space_id);
                    return self.send_update(Update::CursorReset(space_id)).await;
                }
                for change in list.changes {
                    self.deliver(change).await?;
                }
                if list.has_more {
                    self.behind.insert(space_id);
                }
            }
        }
        Ok(())
    }

    /// Takes the epoch of a new list of spaces. If it is another one, the same sequence numbers may belong to
    /// other changes, so all cursors are void, however far the feeds are by now.
    async fn adopt(&mut self, epoch: Epoch) -> Result<(), End> {
        if self.epoch.is_some_and(|former| former != epoch) {
            self.behind.clear();
            self.live = false;
            for space_id in std::mem::take(&mut self.cursors).into_keys() {
                self.send_update(Update::CursorReset(space_id)).await?;
            }
        }
        self.epoch = Some(epoch);
        if self.sent_epoch != Some(epoch) {
            self.sent_epoch = Some(epoch);
            self.send_update(Update::Epoch(epoch)).await?;
        }
        Ok(())
    }

    async fn handle_frame(&mut self, frame: Frame) -> Result<(), End> {
        if let Frame::Changes { epoch, changes, .. } = frame {
            if epoch.is_some() && epoch != self.epoch {
                self.must_list = true;
                return Ok(());
            }
            for change in changes {
                self.deliver(change).await?;
            }
        }
        Ok(())
    }

    /// Delivers a change if it is the next one of its space. A later one shows that changes are missing.
    async fn deliver(&mut self, event: Event) -> Result<(), End> {
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
            Change::SpaceDeleted {} => {
                self.behind.remove(&space_id);
            }
            _ => {}
        }
        self.cursors.insert(space_id, event.sequence.into());
        self.send_update(Update::Change(Box::new(event))).await
    }

    fn cursor(&self, space_id: SpaceId) -> Cursor {
        self.cursors.get(&space_id).copied().unwrap_or_default()
    }

    async fn send_update(&self, update: Update) -> Result<(), End> {
        self.updates.send(Ok(update)).await.map_err(|_| End::Dropped)
    }
}

/// Waits for the future, or for ever if there is none.
async fn next_if_any<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// Returns the text of a temporary error. An error that lasts until the user signs in again or gives another
/// address becomes an [`End`]. A 403 is temporary: members may do all that a watcher does, so it comes from a
/// gateway or a firewall on the way.
fn retry_reason(error: Error) -> Result<String, End> {
    if matches!(
        error,
        Error::Unauthenticated(_) | Error::NewPassword | Error::Insecure(_)
    ) || error.status() == Some(401)
    {
        return Err(End::Failed(error));
    }
    Ok(with_causes(error.to_string(), &error))
}
