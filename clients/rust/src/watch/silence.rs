//! The silence of a connection: when a heartbeat and a ping are due, and when the connection counts as dead.

use std::ops::Range;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep_until};

use crate::Frame;

/// Time without a message in either direction after which a heartbeat is sent, in seconds. API Gateway closes
/// a connection after 10 min (Amazon API Gateway Developer Guide, "Quotas for configuring and running a
/// WebSocket API"), and no page says that pings prevent it. The range spreads the heartbeats of devices that
/// received the same frame.
const HEARTBEAT: Range<f64> = 510.0..570.0;

/// Time without a frame or a pong after which a ping is sent, in seconds. No page says whether API Gateway bills
/// pings and pongs as messages. If it does, those of 1,000 silent devices cost 20 dollars a month.
const PING: Range<f64> = 240.0..300.0;

/// Timeout for the answer to a ping.
const PONG_TIMEOUT: Duration = Duration::from_secs(20);

/// An action that is due.
pub(super) enum Due {
    Heartbeat,
    Ping,
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
        let (mut at, mut due) = (self.heartbeat_at, Due::Heartbeat);
        if self.ping_at < at {
            (at, due) = (self.ping_at, Due::Ping);
        }
        if let Some(pong_by) = self.pong_by.filter(|pong_by| *pong_by < at) {
            (at, due) = (pong_by, Due::Dead);
        }
        sleep_until(at).await;
        due
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
