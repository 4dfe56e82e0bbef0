//! Audiences, and deliveries to them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fakes::sqs::Which;
use serde_json::Value;
use uuid::Uuid;

use super::IN_FLIGHT;
use crate::baselines::posts::Task;
use crate::benchmarks::queue::{BATCH, Batches, hand_over};
use crate::benchmarks::{Serving, number};
use crate::harness::{Harness, Services, milliseconds};
use crate::posts::{Faults, Posted, bucket};
use crate::process::Process;
use crate::report::Row;

/// A space and the ids of its members' connections.
pub(super) struct Audience {
    pub(super) space_id: Uuid,
    pub(super) ids: Vec<String>,
}

impl Audience {
    pub(super) fn size(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn listeners(&self) -> impl Iterator<Item = &str> {
        self.ids.iter().map(String::as_str)
    }
}

/// Measurements of a delivery, summed over its invocations.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    wall: Duration,
    cpu: Duration,
    posts: usize,
    /// Arrival time of each post; empty for the baseline.
    pub(super) times: Vec<Instant>,
    pub(super) allocations: u64,
    pub(super) invocations: u32,
    pub(super) server_bound: bool,
}

impl Delivered {
    pub(super) fn milliseconds(&self) -> f64 {
        milliseconds(self.wall)
    }

    pub(super) fn per_second(&self) -> f64 {
        number(self.posts) / self.wall.as_secs_f64()
    }

    /// CPU time per post, in microseconds.
    pub(super) fn cpu_per_post(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / number(self.posts)
    }
}

/// Marks the row if a fake limited one of the deliveries.
pub(super) fn bound<'a>(row: Row, all: impl IntoIterator<Item = &'a Delivered>) -> Row {
    Row {
        server_bound: all.into_iter().any(|delivered| delivered.server_bound),
        ..row
    }
}

/// The harness, fakes and messages of the `fan-out` benchmarks.
pub(super) struct Fixture<'a> {
    pub(super) harness: &'a Harness,
    pub(super) services: &'a Services,
    pub(super) batches: Batches,
    frame: String,
}

impl<'a> Fixture<'a> {
    pub(super) fn new(harness: &'a Harness, services: &'a Services) -> Result<Self> {
        let batches = Batches::new(harness)?;
        // Length of a real frame, within a few bytes.
        let body = batches.message(Uuid::nil(), 1)?;
        let frame = format!(
            r#"{{"type":"changes","spaceId":"{}","changes":[{body}]}}"#,
            Uuid::nil()
        );
        Ok(Self {
            harness,
            services,
            batches,
            frame,
        })
    }

    /// Creates a shared space with this number of connections, up to ten per member.
    pub(super) async fn audience(&self, connections: usize) -> Result<Audience> {
        let space_id = platform::ids::new_id();
        let tag = space_id.simple().to_string();
        let tag = tag.get(20..).unwrap_or_default().to_owned();
        let ids: Vec<String> = (0..connections).map(|i| format!("{tag}{i:08}=")).collect();
        let sql = format!(
            "INSERT INTO spaces (id, kind, name, created_at) VALUES ('{space_id}', 'shared', 'bench', now());
            INSERT INTO members (space_id, user_id, role, added_at)
            SELECT '{space_id}', 'u{tag}' || i, 'editor', now() FROM generate_series(0, {last} / 10) i;",
            last = connections.saturating_sub(1),
        );
        self.harness
            .client
            .batch_execute(&sql)
            .await
            .context("cannot make an audience")?;
        let audience = Audience { space_id, ids };
        self.connect(&audience).await?;
        Ok(audience)
    }

    /// Stores those connections of the audience that are not in the database.
    pub(super) async fn connect(&self, audience: &Audience) -> Result<()> {
        let sql = "INSERT INTO connections (connection_id, user_id, connected_at, expires_at)
            SELECT id, 'u' || left(id, 12) || ((n - 1) / 10), now() - interval '1 hour', now() + interval '1 hour'
            FROM unnest($1::text[]) WITH ORDINALITY AS given (id, n)
            ON CONFLICT DO NOTHING";
        self.harness
            .client
            .execute(sql, &[&audience.ids])
            .await
            .context("cannot connect")?;
        self.harness
            .client
            .batch_execute("ANALYZE connections; ANALYZE members")
            .await?;
        Ok(())
    }

    /// Number of the audience's connections in the database.
    pub(super) async fn connected(&self, audience: &Audience) -> Result<usize> {
        let sql = "SELECT count(*) FROM connections WHERE connection_id = ANY ($1)";
        let stored: i64 = self.harness.client.query_one(sql, &[&audience.ids]).await?.get(0);
        Ok(stored.try_into()?)
    }

    /// Delivers messages until the queue is empty. Checks that every connection in `expected` received each
    /// of the `events` events once, and that no other connection received a frame.
    pub(super) async fn deliver(
        &self,
        process: &mut Process,
        mut messages: Vec<Arc<str>>,
        expected: &HashSet<&str>,
        events: usize,
    ) -> Result<Delivered> {
        self.services.posts.discard();
        let serving = Serving::begin();
        let mut all = Delivered::default();
        while !messages.is_empty() {
            let measured = hand_over(process, self.batches.of(&messages)).await?;
            all.wall += measured.wall;
            all.cpu += measured.cpu;
            all.allocations += measured.allocations;
            all.invocations += 1;
            messages = self.services.sqs.take(BATCH);
        }
        all.server_bound = serving.was_bound();
        ensure!(
            self.services.sqs.is_empty(Which::DeadLetters),
            "messages were dead-lettered"
        );
        let posted = self.services.posts.take()?;
        check(&posted, expected, events)?;
        all.posts = posted.frames.values().map(Vec::len).sum();
        all.times = posted.times;
        Ok(all)
    }

    /// Delivers one event to an audience.
    pub(super) async fn one(&self, process: &mut Process, audience: &Audience) -> Result<Delivered> {
        self.deliver_with_faults(process, audience, Faults::default())
            .await
    }

    /// Delivers one event to an audience with faults. Connections that are gone are not expected to receive
    /// it.
    pub(super) async fn deliver_with_faults(
        &self,
        process: &mut Process,
        audience: &Audience,
        faults: Faults,
    ) -> Result<Delivered> {
        let alive = audience.listeners().filter(|id| bucket(id) >= faults.gone);
        let message = self.batches.message(audience.space_id, 1)?;
        self.services.posts.set_faults(faults);
        let delivered = self.deliver(process, vec![message], &alive.collect(), 1).await;
        self.services.posts.set_faults(Faults::default());
        delivered
    }

    /// Posts the same number of frames with the baseline.
    pub(super) async fn baseline(&self, process: &mut Process, audience: &Audience) -> Result<Delivered> {
        let task = Task {
            ids: audience.ids.clone(),
            frame: self.frame.clone(),
            in_flight: IN_FLIGHT.min(audience.size()),
            endpoint: self.services.posts.endpoint(),
            authority: self.harness.authority.pem.clone(),
        };
        let serving = Serving::begin();
        let measured = process.invoke(serde_json::to_vec(&task)?).await?;
        let posts: usize = serde_json::from_slice(&measured.answer)?;
        ensure!(
            posts == audience.size() && self.services.posts.answered() >= posts,
            "the baseline lost posts"
        );
        self.services.posts.discard();
        Ok(Delivered {
            wall: measured.wall,
            cpu: measured.cpu,
            posts,
            times: Vec::new(),
            allocations: measured.allocations,
            invocations: 1,
            server_bound: serving.was_bound(),
        })
    }
}

/// Checks that each expected connection received each event once, and that no other connection received a
/// frame.
fn check(posted: &Posted, expected: &HashSet<&str>, events: usize) -> Result<()> {
    ensure!(
        posted.frames.len() == expected.len(),
        "{} connections heard, not {}",
        posted.frames.len(),
        expected.len()
    );
    for (id, frames) in &posted.frames {
        ensure!(expected.contains(id.as_str()), "{id} heard what was not for it");
        let mut heard = HashSet::new();
        for frame in frames {
            let frame: Value = serde_json::from_slice(frame)?;
            for change in frame["changes"].as_array().map(Vec::as_slice).unwrap_or_default() {
                ensure!(
                    heard.insert(change["eventId"].to_string()),
                    "{id} heard twice of an event"
                );
            }
        }
        ensure!(
            heard.len() == events,
            "{id} heard of {} events, not {events}",
            heard.len()
        );
    }
    Ok(())
}
