//! Notifies the audience of a batch: read the audiences, plan, deliver, follow up, apply.

use std::collections::BTreeMap;

use ::metrics::{counter, histogram};
use db::{Audience, Recipient};
use platform::error_chain;
use platform::summary::milliseconds_since;
use time::OffsetDateTime;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::audience::pages;
use crate::close::close;
use crate::delivery::{Outcome, deliver};
use crate::follow_up::{FollowUp, Outcomes, follow_up, mark_closed, unresponsive};
use crate::plan::{Plan, by_audience, plan};
use crate::queue::send;
use crate::records::Record;
use crate::{App, metrics};

/// Notifies the recipients of all records, and returns the records to retry: those that were not fully
/// delivered and have no replacement message in the queue.
pub(crate) async fn notify<'a>(app: &App, records: &'a [Record], deadline: Instant) -> Vec<&'a Record> {
    let begun = Instant::now();
    let (audiences, of_audiences): (Vec<Audience>, Vec<Vec<&Record>>) =
        by_audience(records).into_iter().unzip();
    let pages = pages(app, &audiences, deadline).await;
    let plan = plan(of_audiences.into_iter().zip(pages.iter().map(Option::as_ref)));
    let mut failed: Vec<&str> = plan
        .failed
        .iter()
        .map(|record| record.message_id.as_str())
        .collect();

    // On the first receive, the message for the next page is sent before this page is posted, so that pages
    // are delivered concurrently. On a later receive, an earlier attempt may have crashed; the message is
    // then sent after posting. Otherwise each repetition would start all later pages again.
    let unsent = send(app, plan.next_pages(|record| record.receive_count == 1)).await;
    failed.extend(unsent.into_iter().map(|record| record.message_id.as_str()));

    let outcomes = deliver_and_close(app, &plan, deadline).await;
    let FollowUp { messages, gone } = follow_up(&plan, &outcomes);
    let (unsent, ()) = tokio::join!(send(app, messages), delete_gone_connections(app, &gone));
    failed.extend(unsent.into_iter().map(|record| record.message_id.as_str()));

    let failed: Vec<&Record> = (records.iter())
        .filter(|record| failed.contains(&record.message_id.as_str()))
        .collect();
    report(begun, records, &plan, &outcomes, failed.len());
    failed
}

async fn deliver_and_close<'a>(app: &App, plan: &'a Plan<'a>, deadline: Instant) -> Outcomes<'a> {
    let begun = app.clock.now();
    let mut outcomes = deliver(app, plan.posts(), deadline).await;
    let delivered = |(_, outcome): &&(_, Outcome)| matches!(outcome, Outcome::Delivered(_));
    let delivered = outcomes.iter().filter(delivered).count();
    app.tracer.record(
        "@connections",
        begun,
        app.clock.now(),
        format_args!("{delivered} of {} connections were notified", outcomes.len()),
    );
    let unresponsive = unresponsive(&outcomes);
    if !unresponsive.is_empty() {
        let closed = close(app, &unresponsive).await;
        mark_closed(&mut outcomes, &closed);
    }
    outcomes
}

/// Deletes connections that no longer exist. A failure here does not fail the records: a connection that
/// stays in the database costs a post per change until it expires.
async fn delete_gone_connections(app: &App, gone: &[&Recipient]) {
    if gone.is_empty() {
        return;
    }
    let named: Vec<(&str, OffsetDateTime)> = gone
        .iter()
        .map(|gone| (gone.connection_id.as_str(), gone.connected_at))
        .collect();
    if let Err(error) = app.db.remove_gone_connections(&named).await {
        warn!(
            error = error_chain(&error),
            connections = named.len(),
            "gone connections could not be deleted"
        );
    }
}

fn report(begun: Instant, records: &[Record], plan: &Plan<'_>, outcomes: &Outcomes<'_>, retried: usize) {
    for group in &plan.groups {
        let delivered = outcomes.iter().filter_map(|(post, outcome)| match outcome {
            Outcome::Delivered(at) if std::ptr::eq(post.group, group) => Some(*at),
            _ => None,
        });
        let Some(last) = delivered.max() else { continue };
        let events = group.records.iter().flat_map(|record| record.message.events());
        for event in events {
            let latency = last - event.occurred_at;
            histogram!(metrics::LATENCY).record(latency.as_seconds_f64() * 1_000.0);
        }
    }
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for (_, outcome) in outcomes {
        let name = match outcome {
            Outcome::Delivered(_) => metrics::NOTIFIED,
            Outcome::Gone => metrics::GONE,
            Outcome::Closed => metrics::CLOSED,
            Outcome::Failed | Outcome::TimedOut | Outcome::NotAttempted => metrics::CARRIED_OVER,
            Outcome::Refused => metrics::REFUSED,
        };
        *counts.entry(name).or_default() += 1;
    }
    let count = |name| counts.get(name).copied().unwrap_or_default();
    for name in [
        metrics::NOTIFIED,
        metrics::GONE,
        metrics::CARRIED_OVER,
        metrics::REFUSED,
    ] {
        counter!(name).increment(count(name));
    }
    let event_ids: Vec<String> = records
        .iter()
        .flat_map(|record| record.message.events())
        .map(|event| event.event_id.to_string())
        .collect();
    let senders: Vec<&str> = records
        .iter()
        .filter_map(|record| record.trace.as_deref())
        .collect();
    info!(
        duration_ms = milliseconds_since(begun),
        event_ids = event_ids.join(" "),
        senders_traces = senders.join(" "),
        records = records.len(),
        notified = count(metrics::NOTIFIED),
        gone = count(metrics::GONE),
        closed = count(metrics::CLOSED),
        carried_over = count(metrics::CARRIED_OVER),
        refused = count(metrics::REFUSED),
        again = retried,
        "notified {} connections of {} events",
        count(metrics::NOTIFIED),
        event_ids.len(),
    );
}
