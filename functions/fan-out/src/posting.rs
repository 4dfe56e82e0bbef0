//! Posting frames to connections: many at once, at a pace, again where that may help.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use aws_sdk_apigatewaymanagement::error::SdkError;
use aws_sdk_apigatewaymanagement::operation::post_to_connection::PostToConnectionError;
use db::Recipient;
use edge::chain;
use edge::panics::contain_async;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use http::StatusCode;
use metrics::counter;
use model::UserId;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, warn};

use crate::connections::Frame;
use crate::{App, SETTLING_TIME, counts};

/// How many posts are under way at once. One that waits to be tried again is not under way.
const CONCURRENT_POSTS: usize = 64;

/// How many posts are under way at first, over connections that are yet to be made.
const FIRST_POSTS: usize = 8;

/// How often a post is tried in one invocation.
const ATTEMPTS: u32 = 5;

/// The longest pause before the second attempt. Half of it on average, so that whom API Gateway has no time for just now hears hardly later.
const FIRST_PAUSE: Duration = Duration::from_millis(4);

/// How much longer each further pause is. All of them take 0.8 s on average: most connections that still answer 410 because they are only being
/// made can be reached by then.
const LONGER: u32 = 7;

/// The frames that a connection is to get, in order.
pub(crate) struct Post<'a> {
    /// Which audience it belongs to.
    pub(crate) group: usize,
    /// To whom.
    pub(crate) recipient: &'a Recipient,
    /// What.
    pub(crate) frames: &'a [Frame],
}

/// What became of a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// API Gateway has taken every frame.
    Delivered(OffsetDateTime),
    /// There is no such connection any more.
    Gone,
    /// Not all frames could be posted; trying again may help.
    Failed,
    /// API Gateway did not answer in time, as it does for a client that reads nothing.
    Hung,
    /// It took no posts for too long, and is closed.
    Closed,
    /// There was no time to try.
    Untried,
    /// Trying again cannot help before somebody has changed something: the function may not post, or posts what it must not.
    Refused,
}

/// How far a post got, and what API Gateway said to it at last.
struct Progress {
    frames: usize,
    attempts: u32,
    outcome: Option<Outcome>,
}

enum Reply {
    Taken,
    /// With the time before the post was made. `$connect` may have ended since; what counts is whether it could still run then.
    Gone(OffsetDateTime),
    Throttled,
    Hung,
    Failed(String),
    Refused(String),
}

/// Makes all posts, and says what became of each, in order. What is under way at `stop` has failed.
pub(crate) async fn post_all(app: &App, posts: &[Post<'_>], stop: Instant) -> Vec<Outcome> {
    let start = |_| Progress {
        frames: 0,
        attempts: 0,
        outcome: None,
    };
    let mut all: Vec<Progress> = posts.iter().map(start).collect();
    let mut ready = in_turns(posts);
    let (mut flying, mut pausing) = (FuturesUnordered::new(), FuturesUnordered::new());
    let (mut users, mut hung): (HashMap<&UserId, UsersPosts>, HashSet<&str>) =
        (HashMap::new(), HashSet::new());
    // Connections are made as posts succeed: to make all of them for a few posts would take longer than the posts.
    let mut most_flying = app.connections.idle().clamp(FIRST_POSTS, CONCURRENT_POSTS);
    let time_is_up = sleep_until(stop);
    tokio::pin!(time_is_up);
    loop {
        while flying.len() < most_flying
            && let Some(i) = ready.pop_front()
        {
            let recipient = posts[i].recipient;
            if hung.contains(recipient.connection_id.as_str()) {
                all[i].outcome = Some(Outcome::Hung);
                continue;
            }
            let users_posts = users.entry(&recipient.user_id).or_default();
            // A quarter is for others, whose posts may come up again meanwhile.
            if users_posts.flying >= most_flying - most_flying / 4 {
                users_posts.waiting.push_back(i);
                continue;
            }
            users_posts.flying += 1;
            all[i].attempts += 1;
            flying.push(attempt(app, i, &posts[i], all[i].frames));
        }
        if flying.is_empty() && pausing.is_empty() {
            break;
        }
        tokio::select! {
            Some((i, frames, reply)) = flying.next() => {
                most_flying = (most_flying + 1).min(CONCURRENT_POSTS);
                let recipient = posts[i].recipient;
                let users_posts = users.entry(&recipient.user_id).or_default();
                users_posts.flying -= 1;
                ready.extend(users_posts.waiting.pop_front());
                all[i].frames = frames;
                all[i].outcome = judge(app, &posts[i], all[i].attempts, reply);
                if all[i].outcome == Some(Outcome::Hung) {
                    hung.insert(&recipient.connection_id);
                }
                if all[i].outcome.is_none() {
                    counter!(counts::RETRIED).increment(1);
                    pausing.push(pause(i, all[i].attempts));
                }
            }
            Some(i) = pausing.next() => ready.push_back(i),
            () = &mut time_is_up => {
                warn!(unfinished = all.iter().filter(|post| post.outcome.is_none()).count(), "time is up");
                break;
            }
        }
    }
    let unfinished = |post: &Progress| match post.attempts {
        0 => Outcome::Untried,
        _ => Outcome::Failed,
    };
    all.iter()
        .map(|post| post.outcome.unwrap_or_else(|| unfinished(post)))
        .collect()
}

/// The posts, of each user one before the second of anyone, so that connections which take nothing hold up
/// nobody else's.
fn in_turns(posts: &[Post<'_>]) -> VecDeque<usize> {
    let mut counts: HashMap<&UserId, usize> = HashMap::new();
    let mut turns = Vec::with_capacity(posts.len());
    for (i, post) in posts.iter().enumerate() {
        let count = counts.entry(&post.recipient.user_id).or_default();
        turns.push((*count, i));
        *count += 1;
    }
    turns.sort_unstable();
    turns.into_iter().map(|(_, i)| i).collect()
}

/// Posts to the connections of one user.
#[derive(Default)]
struct UsersPosts {
    flying: usize,
    waiting: VecDeque<usize>,
}

/// Posts what is left of the frames; returns how many are through.
async fn attempt(app: &App, i: usize, post: &Post<'_>, mut sent: usize) -> (usize, usize, Reply) {
    while let Some(frame) = post.frames.get(sent) {
        app.pace.wait().await;
        let asked_at = app.clock.now();
        let posting = app
            .connections
            .post(&post.recipient.connection_id, frame, asked_at);
        match contain_async(posting).await {
            Ok(Ok(_)) => sent += 1,
            Ok(Err(failure)) => return (i, sent, reply(&failure, asked_at)),
            Err(panic) => return (i, sent, Reply::Failed(panic.to_string())),
        }
    }
    (i, sent, Reply::Taken)
}

fn reply(failure: &SdkError<PostToConnectionError, StatusCode>, asked_at: OffsetDateTime) -> Reply {
    if matches!(failure, SdkError::TimeoutError(_)) {
        return Reply::Hung;
    }
    match failure.raw_response().map(StatusCode::as_u16) {
        Some(410) => Reply::Gone(asked_at),
        Some(429) => Reply::Throttled,
        Some(400..=499) => Reply::Refused(chain(failure)),
        _ => Reply::Failed(chain(failure)),
    }
}

/// What the reply makes of the post; nothing if it is to be tried again.
fn judge(app: &App, post: &Post<'_>, attempts: u32, reply: Reply) -> Option<Outcome> {
    let connection_id = post.recipient.connection_id.as_str();
    let reason = match reply {
        Reply::Taken => return Some(Outcome::Delivered(app.clock.now())),
        Reply::Gone(asked_at) if asked_at - post.recipient.connected_at >= SETTLING_TIME => {
            return Some(Outcome::Gone);
        }
        Reply::Refused(error) => {
            error!(
                connection_id,
                error, "posting to {connection_id} is refused: check the function's role and the API"
            );
            return Some(Outcome::Refused);
        }
        // Not again now: another attempt would take as long.
        Reply::Hung => {
            warn!(
                connection_id,
                "posting to {connection_id} was not answered in time"
            );
            return Some(Outcome::Hung);
        }
        Reply::Gone(_) => "410 Gone, perhaps not yet there".to_owned(),
        Reply::Throttled => {
            counter!(counts::THROTTLED).increment(1);
            "429 Too Many Requests".to_owned()
        }
        Reply::Failed(error) => error,
    };
    if attempts < ATTEMPTS {
        return None;
    }
    warn!(
        connection_id,
        error = reason,
        "posting to {connection_id} failed {attempts} times"
    );
    Some(Outcome::Failed)
}

/// Waits for a random part of a time that grows, so that those who failed together do not come back together.
async fn pause(i: usize, attempts: u32) -> usize {
    let longest = FIRST_PAUSE * LONGER.pow(attempts.saturating_sub(1).min(ATTEMPTS));
    sleep(longest.mul_f64(fastrand::f64())).await;
    i
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipient(user: &str) -> Recipient {
        Recipient {
            user_id: user.parse().unwrap(),
            connection_id: user.to_owned(),
            connected_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn users_take_turns() {
        let recipients = ["alice", "alice", "alice", "bob", "carol", "bob"].map(recipient);
        let post = |recipient| Post {
            group: 0,
            recipient,
            frames: &[],
        };
        let posts: Vec<Post<'_>> = recipients.iter().map(post).collect();
        assert_eq!(in_turns(&posts), [0, 3, 4, 1, 5, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_are_random_and_grow() {
        for (attempts, longest) in [(1, FIRST_PAUSE), (2, FIRST_PAUSE * 7), (3, FIRST_PAUSE * 49)] {
            let mut pauses = Vec::new();
            for _ in 0..100 {
                let begun = Instant::now();
                assert_eq!(pause(7, attempts).await, 7);
                pauses.push(begun.elapsed());
            }
            // Of a hundred numbers between 0 and 1, that none is above a half has a probability of 2^-100.
            let (least, most) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
            // The timer counts whole milliseconds.
            assert!(*most <= longest + Duration::from_millis(1), "{most:?}");
            assert!(
                *most > longest / 2 && *least < longest / 2 + Duration::from_millis(1),
                "{pauses:?}"
            );
        }
    }
}
