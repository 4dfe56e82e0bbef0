//! The limit on content that is sent to storage at the same time.
//!
//! All transfers share one line, and their URLs are valid for an hour. On a slow line, less content is
//! therefore sent at the same time, and an upload is opened only when its content may be sent. Small files are
//! opened a little ahead, so that many are opened by one request.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// Requests with content that run at the same time, unless the caller sets another limit.
const MAX_REQUESTS: usize = 8;

/// Pieces in the window, whatever their size: those that are sent, and those that wait for a request.
const MAX_PIECES: usize = 256;

/// The initial and lowest limit of the window, in bytes. It is the largest file that the template by default
/// lets go in one PUT. A line of 0.2 Mbit/s sends it within an hour.
pub(crate) const MIN_WINDOW_BYTES: u64 = 64 * 1024 * 1024;

/// A transfer that is faster than this raises the limit, if the limit was in the way.
const FAST_TRANSFER: Duration = Duration::from_mins(2);

/// A transfer that is slower than this lowers the limit. It is a quarter of the time that a URL is valid.
const SLOW_TRANSFER: Duration = Duration::from_mins(15);

/// The window. It admits up to `limit` bytes; a piece that is larger is sent alone. Up to `max_requests` of the
/// admitted pieces are sent at the same time. Further pieces, up to `MAX_PIECES`, are admitted ahead as long as
/// all together have at most `min_limit` bytes. Once that is reached, none is admitted ahead until half of them
/// have been sent, so that many are opened together.
#[derive(Debug)]
pub(crate) struct Window {
    state: Mutex<State>,
    requests: Semaphore,
    released: Notify,
    /// Callers enter one after the other, so that small pieces cannot overtake a large one for ever.
    turn: tokio::sync::Mutex<()>,
    min_limit: u64,
    max_requests: usize,
}

#[derive(Debug)]
struct State {
    pieces: usize,
    bytes: u64,
    limit: u64,
    /// Whether a piece had to wait for the limit since the limit was last raised.
    was_limiting: bool,
    /// Whether pieces are admitted ahead.
    is_refilling: bool,
}

impl Default for Window {
    fn default() -> Self {
        Self::new(MIN_WINDOW_BYTES, MAX_REQUESTS)
    }
}

impl Window {
    pub(crate) fn with_requests(requests: usize) -> Self {
        Self::new(MIN_WINDOW_BYTES, requests)
    }

    pub(crate) fn new(min_limit: u64, requests: usize) -> Self {
        Self {
            state: Mutex::new(State {
                pieces: 0,
                bytes: 0,
                limit: min_limit,
                was_limiting: false,
                is_refilling: true,
            }),
            requests: Semaphore::new(requests),
            released: Notify::new(),
            turn: tokio::sync::Mutex::new(()),
            min_limit,
            max_requests: requests,
        }
    }

    /// Waits until a piece of `length` bytes may be opened.
    pub(crate) async fn acquire(&self, length: u64) -> Slot<'_> {
        let _turn = self.turn.lock().await;
        loop {
            let released = self.released.notified();
            if self.admits(length) {
                return Slot {
                    window: self,
                    length,
                    since: Instant::now(),
                };
            }
            released.await;
        }
    }

    /// Waits until the request with a piece may run. It runs as long as the result exists.
    pub(crate) async fn request(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.requests.acquire().await.ok()
    }

    fn admits(&self, length: u64) -> bool {
        let mut state = self.state();
        let is_ahead = state.pieces >= self.max_requests;
        let limit = if is_ahead { self.min_limit } else { state.limit };
        let fits = state.pieces == 0 || state.bytes.saturating_add(length) <= limit;
        state.was_limiting |= !fits && !is_ahead;
        if state.pieces <= MAX_PIECES / 2 && state.bytes <= self.min_limit / 2 {
            state.is_refilling = true;
        }
        if is_ahead && (!fits || state.pieces >= MAX_PIECES) {
            state.is_refilling = false;
        }
        if !fits || is_ahead && !state.is_refilling {
            return false;
        }
        state.pieces += 1;
        state.bytes += length;
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the window. Dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Slot<'a> {
    window: &'a Window,
    length: u64,
    since: Instant,
}

impl Slot<'_> {
    /// Frees the place after a successful transfer, and adapts the limit to the time that the transfer took.
    pub(crate) fn finish(self) {
        let took = self.since.elapsed();
        let mut state = self.window.state();
        if took < FAST_TRANSFER && state.was_limiting {
            state.limit = state.limit.saturating_mul(2);
            state.was_limiting = false;
        } else if took > SLOW_TRANSFER {
            state.limit = (state.limit / 2).max(self.window.min_limit);
        }
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut state = self.window.state();
        state.pieces -= 1;
        state.bytes -= self.length;
        drop(state);
        self.window.released.notify_one();
    }
}

/// The number of uploads of a client that are open.
#[derive(Debug, Default)]
pub(crate) struct OpenUploads {
    number: AtomicUsize,
    one_ended: Notify,
}

impl OpenUploads {
    /// Counts an upload until the result is dropped.
    pub(crate) fn count(&self) -> OpenUpload<'_> {
        self.number.fetch_add(1, Ordering::SeqCst);
        OpenUpload(self)
    }

    /// Waits until one of them ends. Returns `false` at once if there is none.
    pub(crate) async fn one_ends(&self) -> bool {
        let ended = self.one_ended.notified();
        if self.number.load(Ordering::SeqCst) == 0 {
            return false;
        }
        ended.await;
        true
    }
}

#[derive(Debug)]
pub(crate) struct OpenUpload<'a>(&'a OpenUploads);

impl Drop for OpenUpload<'_> {
    fn drop(&mut self) {
        self.0.one_ended.notify_one();
        if self.0.number.fetch_sub(1, Ordering::SeqCst) == 1 {
            // Nothing else wakes the calls that still wait.
            self.0.one_ended.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use tokio::sync::Mutex;
    use tokio::time::{sleep, timeout};

    use super::*;

    const MIB: u64 = 1024 * 1024;

    /// Sends `files` files over one line on which each MiB takes `each`. Returns the longest transfer of a
    /// file, and the total time.
    async fn send(files: u64, mebibytes: u64, each: Duration) -> (Duration, Duration) {
        let (window, line) = (Window::default(), Mutex::new(()));
        let began = Instant::now();
        let sending = (0..files).map(async |_| {
            let slot = window.acquire(mebibytes * MIB).await;
            let opened = Instant::now();
            for _ in 0..mebibytes {
                let _taken = line.lock().await;
                sleep(each).await;
            }
            slot.finish();
            opened.elapsed()
        });
        let slowest = join_all(sending).await.into_iter().max().unwrap();
        (slowest, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn on_a_slow_line_each_file_is_sent_before_its_url_expires() {
        // At 1 Mbit/s, 1 MiB takes 8.389 s.
        let (slowest, whole) = send(8, 60, Duration::from_millis(8_389)).await;
        assert!(slowest < Duration::from_mins(10), "{slowest:?}");
        assert!(whole < Duration::from_mins(68), "{whole:?}");
        // Small pieces that never wait for the limit do not raise it.
        let window = Window::default();
        for _ in 0..100 {
            window.acquire(4_096).await.finish();
        }
        assert_eq!(window.state().limit, MIN_WINDOW_BYTES);
    }

    #[tokio::test(start_paused = true)]
    async fn on_a_fast_line_more_is_sent_together() {
        let window = Window::default();
        let mut most = 0;
        let counted = async |_| {
            let slot = window.acquire(60 * MIB).await;
            let now = window.state().pieces;
            sleep(Duration::from_secs(1)).await;
            slot.finish();
            now
        };
        for pieces in join_all((0..64).map(counted)).await {
            most = most.max(pieces);
        }
        assert_eq!(most, MAX_REQUESTS);
    }

    #[tokio::test(start_paused = true)]
    async fn small_pieces_are_opened_ahead_and_few_are_sent_at_the_same_time() {
        let window = Window::default();
        let (mut opened, mut sent) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            while opened.len() < MAX_PIECES {
                opened.push(window.acquire(4_096).await);
            }
            // The next ones are opened together, when half of these have been sent.
            while opened.len() > MAX_PIECES / 2 {
                assert!(!window.admits(4_096), "{}", opened.len());
                opened.pop();
            }
        }
        assert_eq!(window.state().limit, MIN_WINDOW_BYTES);
        for _ in 0..MAX_REQUESTS {
            sent.push(window.request().await);
        }
        assert!(timeout(Duration::from_hours(1), window.request()).await.is_err());
        sent.clear();
        assert!(window.request().await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_piece_larger_than_the_window_goes_alone() {
        let window = Window::default();
        let large = window.acquire(5 * 1024 * MIB).await;
        assert!(!window.admits(1));
        drop(large);
        assert!(window.admits(1));
    }
}
