//! The silence of a connection: when a heartbeat and a ping are due, and when the connection counts as dead.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use fastrand::Rng;
use tokio::time::{Instant, sleep_until};

use crate::Frame;

/// Time without a message in either direction after which a heartbeat is sent, in seconds. API Gateway closes
/// a connection after 10 min (Amazon API Gateway Developer Guide, "Quotas for configuring and running a
/// WebSocket API"), and no page says that pings prevent it. The range spreads the heartbeats of devices that
/// received the same frame.
const HEARTBEAT: Range<f64> = 510.0..570.0;

/// Time without a frame or a pong after which a ping is sent, in seconds. No page says whether API Gateway
/// bills pings and pongs as messages. If it does, those of 1,000 silent devices cost 20 dollars a month.
const PING: Range<f64> = 240.0..300.0;

/// Timeout for the answer to a ping.
const PONG_TIMEOUT: Duration = Duration::from_secs(20);

/// Interval at which the clocks are compared.
const CHECK: Duration = Duration::from_mins(1);

/// If the time of day advances by so much more than the monotonic clock, which stands still while Linux or
/// macOS sleeps, the device has slept. Routers may have forgotten the connection, or API Gateway has closed
/// it.
const SLEEP: Duration = Duration::from_mins(1);

/// An action that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Heartbeat,
    Ping,
    /// [`Silence::check`].
    Check,
    /// A ping was not answered in time.
    Dead,
}

/// The timers of one connection.
pub(super) struct Silence {
    heartbeat_at: Instant,
    ping_at: Instant,
    pong_by: Option<Instant>,
    /// Whether a missing pong shows that the connection is dead.
    expects_pongs: bool,
    /// Whether the connection has answered a ping.
    has_answered: bool,
    check_at: Instant,
    /// Both clocks at the last check.
    checked: Option<(Instant, SystemTime)>,
}

impl Silence {
    /// The timers of the first connection.
    pub(super) fn begin(random: &mut Rng) -> Self {
        Self {
            heartbeat_at: after(HEARTBEAT, random),
            ping_at: after(PING, random),
            pong_by: None,
            expects_pongs: true,
            has_answered: false,
            check_at: Instant::now() + CHECK,
            checked: None,
        }
    }

    /// The timers of the next connection. If this one is dead and never answered a ping, perhaps a proxy on the
    /// way drops pings. The next one then is pinged at once, and counts as dead only after it has answered.
    pub(super) fn next(&self, random: &mut Rng) -> Self {
        let is_dead = self.pong_by.is_some_and(|pong_by| pong_by <= Instant::now());
        let expects_pongs = self.has_answered || (self.expects_pongs && !is_dead);
        let begun = Self::begin(random);
        Self {
            ping_at: if expects_pongs {
                begun.ping_at
            } else {
                Instant::now()
            },
            expects_pongs,
            ..begun
        }
    }

    /// Waits until something is due. It stays due until one of the other methods is called.
    pub(super) async fn due(&self) -> Due {
        let timers = [
            (self.heartbeat_at, Due::Heartbeat),
            (self.ping_at, Due::Ping),
            (self.check_at, Due::Check),
        ];
        let pong = self.pong_by.map(|pong_by| (pong_by, Due::Dead));
        let next = timers.into_iter().chain(pong).min_by_key(|(at, _)| *at);
        match next {
            Some((at, due)) => {
                sleep_until(at).await;
                due
            }
            None => std::future::pending().await,
        }
    }

    /// Compares the clocks. After a sleep of the device a ping is due at once.
    pub(super) fn check(&mut self, time: SystemTime) {
        let now = Instant::now();
        if let Some((then, time_then)) = self.checked {
            let awake = now - then;
            let passed = time.duration_since(time_then).unwrap_or_default();
            if passed.saturating_sub(awake) >= SLEEP {
                self.ping_at = now;
            }
        }
        self.checked = Some((now, time));
        self.check_at = now + CHECK;
    }

    pub(super) fn heard(&mut self, frame: &Frame, random: &mut Rng) {
        self.ping_at = after(PING, random);
        self.pong_by = None;
        if matches!(frame, Frame::Pong) {
            (self.expects_pongs, self.has_answered) = (true, true);
        } else {
            self.heartbeat_at = after(HEARTBEAT, random);
        }
    }

    pub(super) fn sent_heartbeat(&mut self, random: &mut Rng) {
        self.heartbeat_at = after(HEARTBEAT, random);
    }

    pub(super) fn sent_ping(&mut self, random: &mut Rng) {
        self.ping_at = after(PING, random);
        if self.expects_pongs {
            self.pong_by = Some(Instant::now() + PONG_TIMEOUT);
        }
    }
}

/// A random time in this range of seconds from now.
pub(super) fn after(seconds: Range<f64>, random: &mut Rng) -> Instant {
    let seconds = seconds.start + (seconds.end - seconds.start) * random.f64();
    Instant::now() + Duration::from_secs_f64(seconds)
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    /// Runs the timers until a ping is due, and returns the time until then. Every minute the device sleeps for
    /// `asleep`.
    async fn until_ping(asleep: Duration) -> Duration {
        let mut random = Rng::with_seed(1);
        let (mut silence, begun) = (Silence::begin(&mut random), Instant::now());
        let mut time = SystemTime::UNIX_EPOCH;
        loop {
            match silence.due().await {
                Due::Check => {
                    silence.check(time + begun.elapsed());
                    time += asleep;
                }
                Due::Ping => return begun.elapsed(),
                due => panic!("{due:?}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_that_has_slept_pings_at_once() {
        assert_eq!(until_ping(Duration::from_mins(10)).await, 2 * CHECK);
        for awake in [Duration::ZERO, Duration::from_secs(50)] {
            assert!(until_ping(awake).await >= Duration::from_mins(4), "{awake:?}");
        }
    }

    /// The time of day is corrected by an hour.
    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_back_causes_no_ping() {
        let mut silence = Silence::begin(&mut Rng::with_seed(1));
        let time = SystemTime::UNIX_EPOCH + Duration::from_hours(1);
        silence.check(time);
        silence.check(SystemTime::UNIX_EPOCH);
        sleep(CHECK).await;
        assert_eq!(silence.due().await, Due::Check);
    }
}
