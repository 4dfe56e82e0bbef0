//! The limit on content that is sent to storage at the same time.
//!
//! All transfers share one line, and their URLs are valid for an hour. On a slow line, less content is
//! therefore sent at the same time, and an upload is opened only when its content may be sent.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Requests with content that run at the same time, whatever their size.
const MAX_REQUESTS: usize = 8;

/// The initial and lowest limit of the window, in bytes. It is the largest file that the template by default
/// lets go in one PUT. A line of 0.2 Mbit/s sends it within an hour.
pub(crate) const MIN_WINDOW_BYTES: u64 = 64 * 1024 * 1024;

/// A transfer that is faster than this raises the limit, if the limit was in the way.
const FAST_TRANSFER: Duration = Duration::from_mins(2);

/// A transfer that is slower than this lowers the limit. It is a quarter of the time that a URL is valid.
const SLOW_TRANSFER: Duration = Duration::from_mins(15);

/// The window. It admits up to `MAX_REQUESTS` pieces, and up to `limit` bytes; a piece that is larger is sent
/// alone.
#[derive(Debug)]
pub(crate) struct Window {
    state: Mutex<State>,
    released: Notify,
    /// Callers enter one after the other, so that small pieces cannot overtake a large one for ever.
    turn: tokio::sync::Mutex<()>,
    min_limit: u64,
}

#[derive(Debug)]
struct State {
    pieces: usize,
    bytes: u64,
    limit: u64,
    /// Whether a piece had to wait for the limit since the limit was last raised.
    was_limiting: bool,
}

impl Default for Window {
    fn default() -> Self {
        Self::with_min_limit(MIN_WINDOW_BYTES)
    }
}

impl Window {
    pub(crate) fn with_min_limit(min_limit: u64) -> Self {
        Self {
            state: Mutex::new(State {
                pieces: 0,
                bytes: 0,
                limit: min_limit,
                was_limiting: false,
            }),
            released: Notify::new(),
            turn: tokio::sync::Mutex::new(()),
            min_limit,
        }
    }

    /// Waits until a piece of `length` bytes may be sent.
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

    fn admits(&self, length: u64) -> bool {
        let mut state = self.state();
        let fits = state.pieces == 0 || state.bytes.saturating_add(length) <= state.limit;
        state.was_limiting |= !fits;
        if !fits || state.pieces >= MAX_REQUESTS {
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

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use tokio::sync::Mutex;
    use tokio::time::sleep;

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
    async fn a_piece_larger_than_the_window_goes_alone() {
        let window = Window::default();
        let large = window.acquire(5 * 1024 * MIB).await;
        assert!(!window.admits(1));
        drop(large);
        assert!(window.admits(1));
    }
}
