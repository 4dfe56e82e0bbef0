//! Posts frames to connections: concurrently, within the rate limit, with retries of errors that may be
//! transient.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use ::metrics::counter;
use db::Recipient;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use model::UserId;
use platform::backoff::Backoff;
use platform::panics::catch_panic_async;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{error, warn};

use crate::plan::Group;
use crate::post::PostError;
use crate::{App, CONNECT_GRACE, metrics};

/// The largest number of posts in flight. A post that waits for its retry is not in flight.
const CONCURRENT_POSTS: usize = 64;

/// The number of posts in flight at first, while their connections to API Gateway are still to be opened.
const FIRST_POSTS: usize = 8;

/// The largest number of attempts at a post in one invocation.
const ATTEMPTS: u32 = 5;

/// The waits before retries: at most 4 ms before the first; each further limit is seven times the previous
/// one. With jitter the first retry waits half of this on average, so a throttled connection is delayed only
/// slightly. All retries together wait 0.8 s on average. Most connections that answer 410 because their
/// handshake is still running become reachable in this time.
const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(4),
    factor: 7,
    cap: Duration::from_secs(10),
};

/// The frames of a group for one of its recipients.
#[derive(Clone, Copy)]
pub(crate) struct Post<'a> {
    pub(crate) group: &'a Group<'a>,
    pub(crate) recipient: &'a Recipient,
}

/// The outcome of a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// API Gateway has taken every frame.
    Delivered(OffsetDateTime),
    /// The connection no longer exists.
    Gone,
    /// Not all frames could be posted; a later attempt may succeed.
    Failed,
    /// API Gateway did not answer in time. This happens when the client does not read from its connection.
    TimedOut,
    /// The connection took no posts in all attempts of its message and was closed.
    Closed,
    /// The deadline came before the first attempt.
    NotAttempted,
    /// API Gateway refused the post. It cannot succeed before somebody corrects the configuration or the
    /// code.
    Refused,
}

/// A post between two attempts.
struct Attempt<'a> {
    post: Post<'a>,
    /// Frames that API Gateway has taken.
    frames_sent: usize,
    /// Attempts so far, including the one in flight.
    attempts: u32,
}

/// The result of an attempt.
enum Reply {
    Taken,
    Error(PostError, OffsetDateTime),
    /// The deadline came before the answer.
    Interrupted,
    Panicked(String),
}

/// Makes all posts and returns their outcomes. A post that is in flight at the deadline fails.
pub(crate) async fn deliver<'a>(
    app: &App,
    posts: Vec<Post<'a>>,
    deadline: Instant,
) -> Vec<(Post<'a>, Outcome)> {
    let mut outcomes = Vec::with_capacity(posts.len());
    let mut ready = in_turns(posts);
    let (mut in_flight, mut backing_off) = (FuturesUnordered::new(), FuturesUnordered::new());
    let mut users: HashMap<&UserId, UserPosts<'_>> = HashMap::new();
    let mut timed_out: HashSet<&str> = HashSet::new();
    // Each finished post allows one more in flight, so connections to API Gateway are opened gradually. For a
    // few posts, opening all connections at once would take longer than the posts.
    let mut max_in_flight = app.connections.idle().clamp(FIRST_POSTS, CONCURRENT_POSTS);
    loop {
        while in_flight.len() < max_in_flight
            && Instant::now() < deadline
            && let Some(mut next) = ready.pop_front()
        {
            let recipient = next.post.recipient;
            if timed_out.contains(recipient.connection_id.as_str()) {
                outcomes.push((next.post, Outcome::TimedOut));
                continue;
            }
            let user = users.entry(&recipient.user_id).or_default();
            // A quarter of the capacity stays free for other users, whose posts may become ready in the
            // meantime.
            if user.in_flight >= max_in_flight - max_in_flight / 4 {
                user.waiting.push_back(next);
                continue;
            }
            user.in_flight += 1;
            next.attempts += 1;
            in_flight.push(attempt(app, next, deadline));
        }
        if in_flight.is_empty() && backing_off.is_empty() {
            break;
        }
        tokio::select! {
            Some((tried, reply)) = in_flight.next() => {
                max_in_flight = (max_in_flight + 1).min(CONCURRENT_POSTS);
                let recipient = tried.post.recipient;
                let user = users.entry(&recipient.user_id).or_default();
                user.in_flight -= 1;
                ready.extend(user.waiting.pop_front());
                let Some(outcome) = classify(app, &tried, reply) else {
                    counter!(metrics::RETRIED).increment(1);
                    backing_off.push(back_off(tried, deadline));
                    continue;
                };
                if outcome == Outcome::TimedOut {
                    timed_out.insert(&recipient.connection_id);
                }
                outcomes.push((tried.post, outcome));
            }
            Some(retry) = backing_off.next() => ready.push_back(retry),
        }
    }
    let waiting = users.into_values().flat_map(|user| user.waiting);
    let unfinished: Vec<Attempt<'_>> = ready.into_iter().chain(waiting).collect();
    if !unfinished.is_empty() {
        warn!(unfinished = unfinished.len(), "posts were left at the deadline");
    }
    outcomes.extend(unfinished.into_iter().map(|left| match left.attempts {
        0 => (left.post, Outcome::NotAttempted),
        _ => (left.post, Outcome::Failed),
    }));
    outcomes
}

/// Orders posts so that one post of each user comes before the second post of any user. Connections of one
/// user that take no posts then do not delay other users.
fn in_turns<'a>(posts: Vec<Post<'a>>) -> VecDeque<Attempt<'a>> {
    let mut counts: HashMap<&UserId, usize> = HashMap::new();
    let mut turns: Vec<(usize, Post<'a>)> = Vec::with_capacity(posts.len());
    for post in posts {
        let turn = counts.entry(&post.recipient.user_id).or_default();
        turns.push((*turn, post));
        *turn += 1;
    }
    turns.sort_by_key(|(turn, _)| *turn);
    let attempts = turns.into_iter().map(|(_, post)| Attempt {
        post,
        frames_sent: 0,
        attempts: 0,
    });
    attempts.collect()
}

/// The posts to the connections of one user.
#[derive(Default)]
struct UserPosts<'a> {
    in_flight: usize,
    waiting: VecDeque<Attempt<'a>>,
}

/// Posts the remaining frames in order, until one fails.
async fn attempt<'a>(app: &App, mut attempt: Attempt<'a>, deadline: Instant) -> (Attempt<'a>, Reply) {
    let Post { group, recipient } = attempt.post;
    for frame in group.frames.iter().skip(attempt.frames_sent) {
        app.rate_limiter.wait().await;
        let sent_at = app.clock.now();
        let posting = app.connections.post(&recipient.connection_id, frame, sent_at);
        let reply = match timeout_at(deadline, catch_panic_async(posting)).await {
            Ok(Ok(Ok(()))) => {
                attempt.frames_sent += 1;
                continue;
            }
            Ok(Ok(Err(error))) => Reply::Error(error, sent_at),
            Ok(Err(panic)) => Reply::Panicked(panic.to_string()),
            Err(_) => Reply::Interrupted,
        };
        return (attempt, reply);
    }
    (attempt, Reply::Taken)
}

/// The outcome of a post after this reply; `None` if the post is retried.
fn classify(app: &App, tried: &Attempt<'_>, reply: Reply) -> Option<Outcome> {
    let recipient = tried.post.recipient;
    let connection_id = recipient.connection_id.as_str();
    let reason = match reply {
        Reply::Taken => return Some(Outcome::Delivered(app.clock.now())),
        Reply::Interrupted => return Some(Outcome::Failed),
        Reply::Panicked(reason) => reason,
        Reply::Error(error, sent_at) => match error {
            // Compares the time before the post: the handshake may have been running then and have ended
            // since.
            PostError::Gone if sent_at - recipient.connected_at >= CONNECT_GRACE => {
                return Some(Outcome::Gone);
            }
            PostError::Refused(_) => {
                error!(
                    connection_id,
                    %error, "posting to {connection_id} is refused: check the function's role and the API"
                );
                return Some(Outcome::Refused);
            }
            // Not retried in this invocation, because another attempt would take as long.
            PostError::TimedOut => {
                warn!(
                    connection_id,
                    "posting to {connection_id} was not answered in time"
                );
                return Some(Outcome::TimedOut);
            }
            PostError::Throttled => {
                counter!(metrics::THROTTLED).increment(1);
                error.to_string()
            }
            PostError::Gone | PostError::Failed(_) => error.to_string(),
        },
    };
    if tried.attempts < ATTEMPTS {
        return None;
    }
    warn!(
        connection_id,
        error = reason,
        "posting to {connection_id} failed {} times",
        tried.attempts
    );
    Some(Outcome::Failed)
}

/// Waits before the next attempt, but not past the deadline.
async fn back_off(tried: Attempt<'_>, deadline: Instant) -> Attempt<'_> {
    let _ = timeout_at(deadline, sleep(BACKOFF.jittered(tried.attempts))).await;
    tried
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_take_turns() {
        let recipients = ["alice", "alice", "alice", "bob", "carol", "bob"]
            .iter()
            .enumerate();
        let recipients: Vec<Recipient> = recipients
            .map(|(i, user)| Recipient {
                user_id: user.parse().unwrap(),
                connection_id: i.to_string(),
                connected_at: OffsetDateTime::UNIX_EPOCH,
            })
            .collect();
        let group = Group {
            records: Vec::new(),
            frames: Vec::new(),
            recipients: &recipients,
            next: None,
        };
        let posts = recipients.iter().map(|recipient| Post {
            group: &group,
            recipient,
        });
        let turns = in_turns(posts.collect()).into_iter();
        let turns: Vec<&str> = turns
            .map(|turn| turn.post.recipient.connection_id.as_str())
            .collect();
        assert_eq!(turns, ["0", "3", "4", "1", "5", "2"]);
    }

    #[test]
    fn all_waits_of_a_post_are_short() {
        let limits: Vec<u128> = (1..ATTEMPTS)
            .map(|attempts| BACKOFF.limit(attempts).as_millis())
            .collect();
        assert_eq!(limits, [4, 28, 196, 1_372]);
    }
}
