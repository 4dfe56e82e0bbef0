//! A batch of records and its audience: who hears of what, and what is left to do for those who did not.

use std::collections::{BTreeMap, BTreeSet};

use db::{Audience, Page, PageSize, Recipient};
use metrics::{counter, histogram};
use model::{Delivery, Event, Message, Place, Recipients};
use platform::chain;
use platform::panics::contain;
use time::OffsetDateTime;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::closing::close;
use crate::connections::Frame;
use crate::posting::{Outcome, Post, post_all};
use crate::queue::{Sending, To, backoff_seconds, count_dead_letters, send};
use crate::{App, MAX_ATTEMPTS, MAX_HANGING_ATTEMPTS, MEMBERS, PAGE, Record, counts};

/// Records about one space for the same recipients: their changes travel together.
struct Group<'a> {
    records: Vec<(usize, &'a Record)>,
    frames: Vec<Frame>,
    recipients: &'a [Recipient],
    /// Where the audience goes on after these, if it does.
    next: Option<&'a Place>,
}

/// Notifies everybody whom the records are for, and returns which of them are to come again: those that were not delivered and
/// of which nothing else is in the queue now.
pub(crate) async fn notify(app: &App, records: &[Record], stop: Instant) -> BTreeSet<usize> {
    let mut by_audience: BTreeMap<Audience, Vec<(usize, &Record)>> = BTreeMap::new();
    for (i, record) in records.iter().enumerate() {
        let audience = Audience {
            space_id: record.message.event.space_id,
            to: record.message.delivery.to.clone(),
        };
        by_audience.entry(audience).or_default().push((i, record));
    }
    let audiences: Vec<Audience> = by_audience.keys().cloned().collect();
    let pages = pages(app, &audiences, stop).await;

    let (mut groups, mut unsettled) = (Vec::new(), BTreeSet::new());
    for (records, page) in by_audience.into_values().zip(&pages) {
        let Some(page) = page else {
            unsettled.extend(records.iter().map(|(i, _)| *i));
            continue;
        };
        match group(records.clone(), page) {
            Ok(group) => groups.push(group),
            // Each on its own, or one would keep the others from their audience.
            Err(_) => {
                for record in records {
                    match group(vec![record], page) {
                        Ok(group) => groups.push(group),
                        Err(reason) => {
                            unsettled.insert(record.0);
                            let event_id = record.1.message.event.event_id;
                            error!(%event_id, error = reason, "event {event_id} cannot be written");
                        }
                    }
                }
            }
        }
    }

    // The first time, the next page goes ahead, so that pages are delivered at once. If that ended in a crash, it goes last, or
    // each repetition would start all pages after it again.
    let first_time = |record: &Record| record.receive_count == 1;
    unsettled.extend(send(app, next_pages(&groups, first_time)).await);

    let posts: Vec<Post<'_>> = (groups.iter().enumerate())
        .flat_map(|(i, group)| {
            group.recipients.iter().map(move |recipient| Post {
                group: i,
                recipient,
                frames: &group.frames,
            })
        })
        .collect();
    let begun = app.clock.now();
    let mut outcomes = post_all(app, &posts, stop).await;
    let delivered = |outcome: &&Outcome| matches!(outcome, Outcome::Delivered(_));
    let delivered = outcomes.iter().filter(delivered).count();
    app.tracer.record(
        "@connections",
        begun,
        app.clock.now(),
        format_args!("{delivered} of {} connections were told", posts.len()),
    );

    close_deaf(app, &groups, &posts, &mut outcomes).await;
    let gone: Vec<&Recipient> = (posts.iter().zip(&outcomes))
        .filter(|(_, outcome)| matches!(outcome, Outcome::Gone | Outcome::Closed))
        .map(|(post, _)| post.recipient)
        .collect();
    let mut rest = next_pages(&groups, |record| !first_time(record));
    rest.extend(carried_over(&groups, &posts, &outcomes));
    let dead: BTreeSet<usize> = (rest.iter())
        .filter(|sending| sending.to == To::DeadLetters)
        .map(|sending| sending.record)
        .collect();
    let (unsent, ()) = tokio::join!(send(app, rest), forget(app, &gone));
    count_dead_letters(dead.difference(&unsent).count());
    unsettled.extend(unsent);
    report(records, &groups, &posts, &outcomes, &unsettled);
    unsettled
}

/// The first page of each audience; none of one that cannot be read. What is wrong with one audience is kept
/// from the others by reading each alone once they cannot be read together.
async fn pages(app: &App, audiences: &[Audience], stop: Instant) -> Vec<Option<Page>> {
    const SIZE: PageSize = PageSize {
        connections: PAGE,
        members: MEMBERS,
    };
    let now = app.clock.now();
    let failure = match app.db.recipients(audiences, SIZE, now).await {
        Ok(pages) => return pages.into_iter().map(Some).collect(),
        Err(failure) => failure,
    };
    if !failure.is_of_the_statement() || audiences.len() == 1 {
        error!(
            error = chain(&failure),
            audiences = audiences.len(),
            "nobody was notified: the audience is unknown"
        );
        return vec![None; audiences.len()];
    }
    let mut pages = Vec::with_capacity(audiences.len());
    for audience in audiences {
        let space_id = audience.space_id;
        let page = if Instant::now() < stop {
            app.db.recipients(std::slice::from_ref(audience), SIZE, now).await
        } else {
            Ok(Vec::new())
        };
        pages.push(page.map_or_else(
            |failure| {
                error!(%space_id, error = chain(&failure), "nobody in space {space_id} was notified: the audience is unknown");
                None
            },
            |mut page| page.pop(),
        ));
    }
    pages
}

/// Writes the frames of a group. A defect here, even a panic, is its records' own.
fn group<'a>(records: Vec<(usize, &'a Record)>, page: &'a Page) -> Result<Group<'a>, String> {
    let events: Vec<Event> = records
        .iter()
        .map(|(_, record)| record.message.event.clone())
        .collect();
    let encoded = contain(|| match events.first() {
        Some(event) => model::frames(event.space_id, &events),
        None => Ok(Vec::new()),
    });
    let frames = encoded
        .map_err(|panic| panic.to_string())?
        .map_err(|error| chain(&error))?;
    Ok(Group {
        records,
        frames: frames.into_iter().map(Frame::new).collect(),
        recipients: &page.recipients,
        next: page.next.as_ref(),
    })
}

/// For each record that is to have it, a message to the recipients after its page.
fn next_pages(groups: &[Group<'_>], has_it_now: impl Fn(&Record) -> bool) -> Vec<Sending> {
    let mut sendings = Vec::new();
    for group in groups {
        let Some(next) = group.next else { continue };
        for (i, record) in group.records.iter().filter(|(_, record)| has_it_now(record)) {
            let delivery = Delivery {
                attempt: record.message.delivery.attempt,
                to: Recipients::After(next.clone()),
            };
            sendings.extend(sending(*i, record, To::Queue, delivery, 0));
        }
    }
    sendings
}

/// Why recipients are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Left {
    Untried,
    Failed,
    Refused,
}

/// Closes the connections that have taken nothing in all of a message's attempts.
async fn close_deaf(app: &App, groups: &[Group<'_>], posts: &[Post<'_>], outcomes: &mut [Outcome]) {
    let mut deaf: BTreeMap<&str, &Recipient> = BTreeMap::new();
    for (post, outcome) in posts.iter().zip(&*outcomes) {
        let attempts = match outcome {
            Outcome::Failed => MAX_ATTEMPTS,
            Outcome::Hung => MAX_HANGING_ATTEMPTS,
            _ => continue,
        };
        let records = groups.get(post.group).map(|group| group.records.as_slice());
        let mut records = records.unwrap_or_default().iter();
        if records.any(|(_, record)| record.message.delivery.attempt + 1 >= attempts) {
            deaf.insert(&post.recipient.connection_id, post.recipient);
        }
    }
    if deaf.is_empty() {
        return;
    }
    let deaf: Vec<&Recipient> = deaf.into_values().collect();
    let closed = close(app, &deaf).await;
    let closed: BTreeSet<&str> = closed
        .iter()
        .map(|closed| closed.connection_id.as_str())
        .collect();
    for (post, outcome) in posts.iter().zip(outcomes) {
        if closed.contains(post.recipient.connection_id.as_str()) && !matches!(outcome, Outcome::Delivered(_))
        {
            *outcome = Outcome::Closed;
        }
    }
}

/// For each record, a message to those of its recipients who did not hear of it: after a pause to those who may be reached then,
/// to the dead-letter queue for those who can only be once somebody has looked into it.
fn carried_over(groups: &[Group<'_>], posts: &[Post<'_>], outcomes: &[Outcome]) -> Vec<Sending> {
    let mut left: BTreeMap<(usize, Left), BTreeSet<String>> = BTreeMap::new();
    for (post, outcome) in posts.iter().zip(outcomes) {
        let why = match outcome {
            Outcome::Delivered(_) | Outcome::Gone | Outcome::Closed => continue,
            Outcome::Untried => Left::Untried,
            Outcome::Failed | Outcome::Hung => Left::Failed,
            Outcome::Refused => Left::Refused,
        };
        let of_group = left.entry((post.group, why)).or_default();
        of_group.insert(post.recipient.connection_id.clone());
    }
    let mut sendings = Vec::new();
    for ((group, why), connections) in left {
        let records = groups.get(group).map(|group| group.records.as_slice());
        for (i, record) in records.unwrap_or_default() {
            let attempt = (record.message.delivery.attempt).saturating_add(u32::from(why != Left::Untried));
            let (to, delay) = if why == Left::Refused {
                let event_id = record.message.event.event_id;
                error!(
                    %event_id,
                    connections = connections.len(),
                    attempt,
                    "event {event_id} could not be delivered to all: dead-lettering the rest"
                );
                (To::DeadLetters, 0)
            } else {
                (To::Queue, backoff_seconds(attempt))
            };
            let delivery = Delivery {
                attempt,
                to: Recipients::Only(connections.clone()),
            };
            sendings.extend(sending(*i, record, to, delivery, delay));
        }
    }
    sendings
}

fn sending(record: usize, about: &Record, to: To, delivery: Delivery, delay_seconds: i32) -> Option<Sending> {
    let message = Message {
        delivery,
        ..about.message.clone()
    };
    match message.encode() {
        Ok(body) => Some(Sending {
            to,
            record,
            body,
            delay_seconds,
        }),
        Err(error) => {
            error!(error = chain(&error), "a message cannot be written");
            None
        }
    }
}

/// A connection that stays although it is gone costs one post until it expires, so failing here is no reason to repeat all.
async fn forget(app: &App, gone: &[&Recipient]) {
    if gone.is_empty() {
        return;
    }
    let named: Vec<(&str, OffsetDateTime)> = gone
        .iter()
        .map(|gone| (gone.connection_id.as_str(), gone.connected_at))
        .collect();
    if let Err(error) = app.db.remove_gone_connections(&named).await {
        warn!(
            error = chain(&error),
            connections = named.len(),
            "gone connections could not be forgotten"
        );
    }
}

fn report(
    records: &[Record],
    groups: &[Group<'_>],
    posts: &[Post<'_>],
    outcomes: &[Outcome],
    unsettled: &BTreeSet<usize>,
) {
    let mut last: BTreeMap<usize, OffsetDateTime> = BTreeMap::new();
    let (mut notified, mut gone, mut closed) = (0_u64, 0_u64, 0_u64);
    let (mut carried_over, mut refused) = (0_u64, 0_u64);
    for (post, outcome) in posts.iter().zip(outcomes) {
        match outcome {
            Outcome::Delivered(at) => {
                notified += 1;
                let last = last.entry(post.group).or_insert(*at);
                *last = (*last).max(*at);
            }
            Outcome::Gone => gone += 1,
            Outcome::Closed => closed += 1,
            Outcome::Failed | Outcome::Hung | Outcome::Untried => carried_over += 1,
            Outcome::Refused => refused += 1,
        }
    }
    for (i, at) in last {
        for (_, record) in groups
            .get(i)
            .map(|group| group.records.as_slice())
            .unwrap_or_default()
        {
            let latency = at - record.message.event.occurred_at;
            histogram!(counts::LATENCY).record(latency.as_seconds_f64() * 1_000.0);
        }
    }
    for (name, number) in [
        (counts::NOTIFIED, notified),
        (counts::GONE, gone),
        (counts::CARRIED_OVER, carried_over),
        (counts::REFUSED, refused),
    ] {
        counter!(name).increment(number);
    }
    let event_ids: Vec<String> = records
        .iter()
        .map(|record| record.message.event.event_id.to_string())
        .collect();
    let senders: Vec<&str> = records
        .iter()
        .filter_map(|record| record.trace.as_deref())
        .collect();
    info!(
        event_ids = event_ids.join(" "),
        senders_traces = senders.join(" "),
        records = records.len(),
        notified,
        gone,
        closed,
        carried_over,
        refused,
        again = unsettled.len(),
        "notified {notified} connections of {} events",
        records.len(),
    );
}
