//! Tests of the watcher against a service that injects faults, in virtual time.

mod fake_service;
mod vectors;

use std::collections::BTreeMap;

use tokio::time::sleep;

use super::*;
use crate::{ErrorResponse, Server};
use fake_service::{FakeService, Faults, space};

/// Number of seeded runs. `WATCHER_SEED` selects a single seed instead.
const RUNS: u64 = 1_000;

/// Collects the updates of a watcher, and checks that each change was received once and in order.
struct Caller {
    watcher: Watcher,
    epoch: Option<Epoch>,
    received: BTreeMap<SpaceId, Vec<Event>>,
    live: usize,
    offline: usize,
    polling: usize,
    cursor_resets: usize,
}

impl Caller {
    fn start(service: &FakeService, seed: u64) -> Self {
        Self::after(service, BTreeMap::new(), seed)
    }

    /// A caller with cursors that were stored without an epoch.
    fn after(service: &FakeService, cursors: BTreeMap<SpaceId, Cursor>, seed: u64) -> Self {
        Self {
            watcher: Watcher::with_service(service.clone(), None, cursors, None, Rng::with_seed(seed)),
            epoch: None,
            received: BTreeMap::new(),
            live: 0,
            offline: 0,
            polling: 0,
            cursor_resets: 0,
        }
    }

    /// Stops the watcher, and starts another one from the stored state, perhaps in the middle of a reset.
    fn restart(&mut self, service: &FakeService, seed: u64) {
        let cursors = self.received.iter().filter_map(|(space_id, received)| {
            let last = received.last()?;
            Some((*space_id, last.sequence.into()))
        });
        let (epoch, random) = (self.epoch, Rng::with_seed(seed));
        self.watcher = Watcher::with_service(service.clone(), epoch, cursors.collect(), None, random);
    }

    /// Collects updates for this time.
    async fn listen(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Ok(update) = tokio::time::timeout_at(end, self.watcher.next()).await {
            match update.unwrap().unwrap() {
                Update::Change(event) => self.received.entry(event.space_id).or_default().push(*event),
                Update::Offline { .. } => self.offline += 1,
                Update::CursorReset(space_id) => {
                    self.cursor_resets += 1;
                    self.received.remove(&space_id);
                }
                Update::Epoch(epoch) => self.epoch = Some(epoch),
                Update::Live => self.live += 1,
                Update::Polling { .. } => self.polling += 1,
            }
        }
    }

    /// Checks that all changes of visible spaces were received, once and in order. Of a space that the caller
    /// has left, the received changes must be the first ones without a gap.
    fn check(&self, service: &FakeService) -> Result<(), String> {
        if self.epoch != Some(service.epoch()) {
            return Err(format!("the epoch is {:?}", self.epoch));
        }
        for (space_id, received) in &self.received {
            let committed = service.changes_of(*space_id);
            if committed.get(..received.len()) != Some(received.as_slice()) {
                let numbers: Vec<i64> = received.iter().map(|event| event.sequence.get()).collect();
                return Err(format!("of {space_id} were heard {numbers:?}"));
            }
        }
        for space_id in service.visible() {
            let (received, committed) = (self.received.get(&space_id), service.changes_of(space_id));
            if received.map_or(0, Vec::len) != committed.len() {
                return Err(format!("{} of {space_id} were missed", committed.len()));
            }
        }
        Ok(())
    }
}

/// A caller that is connected, and a service without faults and changes.
async fn connected() -> (FakeService, Caller) {
    let service = FakeService::new(1, Faults::NONE);
    let mut caller = Caller::start(&service, 1);
    caller.listen(Duration::from_secs(1)).await;
    (service, caller)
}

#[tokio::test(start_paused = true)]
async fn each_change_is_delivered_once_and_in_order_despite_faults() {
    #[expect(clippy::disallowed_methods, reason = "a developer's wish, not configuration")]
    let wish = std::env::var("WATCHER_SEED").ok();
    let seeds = match wish {
        Some(seed) => vec![seed.parse().unwrap()],
        None => (0..RUNS).collect(),
    };
    for seed in seeds {
        let service = FakeService::new(seed, Faults::SEVERE);
        let mut caller = Caller::start(&service, seed);
        let mut random = Rng::with_seed(!seed);
        for _ in 0..random.usize(20..120) {
            service.step(&mut random);
            if random.u32(0..100) < 5 {
                caller.restart(&service, seed);
            }
            caller
                .listen(Duration::from_secs_f64(random.f64() * random.f64() * 60.0))
                .await;
        }
        service.set_faults(Faults::NONE);
        // The last frames may be lost. The caller then receives their changes when its connection is
        // replaced, in less than 2 h.
        caller.listen(Duration::from_hours(2)).await;
        if let Err(wrong) = caller.check(&service) {
            panic!("{wrong}; again with WATCHER_SEED={seed}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_at_any_message_loses_nothing() {
    let mut breaks = 0;
    loop {
        let service = FakeService::new(7, Faults::NONE);
        service.break_at(breaks);
        let mut caller = Caller::start(&service, breaks);
        for i in 0..12 {
            service.commit(space(i % 2));
            caller.listen(Duration::from_secs(1)).await;
        }
        // Long enough for pings and a heartbeat to be among the messages.
        caller.listen(Duration::from_mins(15)).await;
        if !service.has_broken() {
            break;
        }
        if let Err(wrong) = caller.check(&service) {
            panic!("{wrong} after a break at message {breaks}");
        }
        breaks += 1;
    }
    assert!(breaks > 15, "{breaks}");
}

/// The simulated service closes connections after 10 min without a message and after 2 h, as API Gateway
/// does.
#[tokio::test(start_paused = true)]
async fn connections_are_replaced_before_aws_closes_them() {
    let (service, mut caller) = connected().await;
    for _ in 0..12 * 60 / 7 {
        service.commit(space(0));
        caller.listen(Duration::from_mins(7)).await;
        assert!(service.connections() >= 1);
    }
    // 12 h without changes follow.
    caller.listen(Duration::from_hours(12)).await;
    assert_eq!(caller.offline, 0);
    assert_eq!(service.closed_by_the_service(), 0);
    // The test takes 24 h. There is the first connection, and a replacement every 105 to 115 min.
    let connects = service.connects().len();
    assert!((13..=15).contains(&connects), "{connects}");
    caller.check(&service).unwrap();
}

/// The range of times of a heartbeat after the last message.
const HEARTBEAT: std::ops::RangeInclusive<f64> = 510.0..=570.1;

#[tokio::test(start_paused = true)]
async fn a_heartbeat_follows_each_9_minutes_of_silence() {
    for faults in [Faults::NONE, Faults::HEARTBEATS_ARE_UNKNOWN] {
        let service = FakeService::new(1, faults);
        let mut caller = Caller::start(&service, 1);
        caller.listen(Duration::from_mins(100)).await;
        let mut times = service.connects();
        times.extend(service.heartbeats());
        assert!((11..=12).contains(&times.len()), "{}", times.len());
        for pair in times.windows(2) {
            let gap = (pair[1] - pair[0]).as_secs_f64();
            assert!(HEARTBEAT.contains(&gap), "{gap}");
        }
        assert_eq!(caller.offline, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_received_frame_delays_the_heartbeat() {
    let (service, mut caller) = connected().await;
    for _ in 0..12 {
        service.commit(space(0));
        caller.listen(Duration::from_mins(8)).await;
    }
    assert_eq!(service.heartbeats(), []);
    let last_frame = Instant::now() - Duration::from_mins(8);
    caller.listen(Duration::from_mins(2)).await;
    let gap = (service.heartbeats()[0] - last_frame).as_secs_f64();
    assert!(HEARTBEAT.contains(&gap), "{gap}");
}

#[tokio::test(start_paused = true)]
async fn a_dead_connection_is_replaced_after_a_ping_without_an_answer() {
    for seed in 0..50 {
        let service = FakeService::new(seed, Faults::NONE);
        let mut caller = Caller::start(&service, seed);
        for deaths in 1..3 {
            caller.listen(Duration::from_secs(1 + seed * 20)).await;
            service.kill_connections();
            service.commit(space(0));
            // The longest time until a ping (300 s), for its answer (20 s), and before reconnecting (40 s).
            caller.listen(Duration::from_secs(361)).await;
            assert_eq!(
                (caller.offline, service.connects().len()),
                (deaths, 1 + deaths),
                "{seed}"
            );
            caller.check(&service).unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn where_pings_are_dropped_one_connection_is_replaced_and_the_next_ones_kept() {
    let service = FakeService::new(1, Faults::PINGS_ARE_DROPPED);
    let mut caller = Caller::start(&service, 1);
    caller.listen(Duration::from_hours(12)).await;
    assert_eq!((caller.offline, service.closed_by_the_service()), (1, 0));
    // The replaced one, the next one, and a rotation every 105 to 115 min.
    assert!((8..=9).contains(&service.connects().len()));
    service.commit(space(0));
    caller.listen(Duration::from_secs(1)).await;
    caller.check(&service).unwrap();
}

/// The gap is found when the later frame arrives, long before the connection is replaced.
#[tokio::test(start_paused = true)]
async fn a_gap_in_the_sequence_is_filled_at_once() {
    let (service, mut caller) = connected().await;
    service.drop_frames(2);
    for _ in 0..3 {
        service.commit(space(1));
    }
    caller.listen(Duration::from_secs(1)).await;
    assert_eq!(caller.received.get(&space(1)).map(Vec::len), Some(3));
    caller.check(&service).unwrap();
}

#[tokio::test(start_paused = true)]
async fn changes_of_a_newly_shared_space_are_delivered_at_once() {
    let (service, mut caller) = connected().await;
    service.drop_frames(2);
    for _ in 0..2 {
        service.commit(space(7));
    }
    service.share(space(7));
    caller.listen(Duration::from_secs(1)).await;
    assert_eq!(caller.received.get(&space(7)).map(Vec::len), Some(2));
    caller.check(&service).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_device_that_missed_more_than_a_page_receives_all_changes() {
    let service = FakeService::new(1, Faults::NONE);
    for _ in 0..5_000 {
        service.commit(space(0));
    }
    let mut caller = Caller::after(&service, [(space(0), cursor(10))].into(), 1);
    // The caller received these changes before.
    caller
        .received
        .insert(space(0), service.changes_of(space(0))[..10].to_vec());
    caller.listen(Duration::from_mins(1)).await;
    caller.check(&service).unwrap();
}

fn cursor(number: i64) -> Cursor {
    number.try_into().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_refused_ticket_is_retried() {
    let service = FakeService::new(1, Faults::NONE);
    service.refuse_tickets(3);
    let mut caller = Caller::start(&service, 1);
    service.commit(space(0));
    caller.listen(Duration::from_mins(20)).await;
    assert_eq!((caller.live, caller.offline, caller.polling), (1, 0, 1));
    caller.check(&service).unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_websockets_the_watcher_polls_until_push_returns() {
    let service = FakeService::new(1, Faults::NONE);
    service.refuse_tickets(usize::MAX);
    let mut caller = Caller::start(&service, 1);
    caller.listen(Duration::from_secs(1)).await;
    for _ in 0..50 {
        service.commit(space(0));
        service.commit(space(1));
        // The longest polling interval (60 s), and time for the requests.
        caller.listen(Duration::from_secs(65)).await;
        caller.check(&service).unwrap();
    }
    assert_eq!((caller.live, caller.offline, caller.polling), (0, 0, 1));
    service.refuse_tickets(0);
    caller.listen(RECONNECT_BACKOFF.max).await;
    assert_eq!((caller.live, caller.offline, caller.polling), (1, 0, 1));
    service.commit(space(0));
    caller.listen(Duration::from_secs(1)).await;
    caller.check(&service).unwrap();
}

/// These errors come from API Gateway, a firewall or a rate limiter. Members may do all that a watcher does.
#[test]
fn a_refusal_by_an_intermediary_does_not_end_the_watcher() {
    for status in [403, 407, 429, 502] {
        let error = ErrorResponse::new(Server::Api, status, "").into();
        assert!(retry_reason(error).is_ok(), "{status}");
    }
    assert!(retry_reason(ErrorResponse::new(Server::Api, 401, "").into()).is_err());
}

#[tokio::test(start_paused = true)]
async fn an_ended_session_is_reported_once() {
    let service = FakeService::new(1, Faults::NONE);
    service.end_session();
    let mut watcher = Watcher::with_service(service, None, BTreeMap::new(), None, Rng::with_seed(1));
    let error = watcher.next().await.unwrap_err();
    assert_eq!(error.status(), Some(401));
    assert!(watcher.next().await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_watcher_of_one_space_sees_only_it_and_ends_after_leaving() {
    for seed in 0..100 {
        let service = FakeService::new(seed, Faults::SEVERE);
        let mut random = Rng::with_seed(!seed);
        let cursors = [(space(1), Cursor::START)].into();
        let random_delays = Rng::with_seed(seed);
        let mut watcher =
            Watcher::with_service(service.clone(), None, cursors, Some(space(1)), random_delays);
        let mut received = Vec::new();
        for _ in 0..20 {
            for number in 0..3 {
                service.commit(space(number));
            }
            let end = Instant::now() + Duration::from_secs_f64(random.f64() * 60.0);
            while let Ok(update) = tokio::time::timeout_at(end, watcher.next()).await {
                if let Update::Change(event) = update.unwrap().unwrap() {
                    received.push(*event);
                }
            }
        }
        service.set_faults(Faults::NONE);
        service.leave(space(1));
        let ended = timeout(Duration::from_hours(3), async {
            loop {
                match watcher.next().await {
                    Ok(Some(Update::Change(event))) => received.push(*event),
                    Ok(_) => {}
                    Err(error) => return error,
                }
            }
        });
        assert_eq!(ended.await.unwrap().status(), Some(404), "seed {seed}");
        let committed = service.changes_of(space(1));
        assert_eq!(
            committed.get(..received.len()),
            Some(received.as_slice()),
            "seed {seed}"
        );
    }
}

/// A caller that received 20 changes of two spaces, of a service that was then restored and got further than
/// before: of 20 changes, 5 are the same, and 25 are other ones.
async fn restored() -> (FakeService, Caller) {
    let (service, mut caller) = connected().await;
    for _ in 0..20 {
        service.commit(space(0));
        service.commit(space(1));
    }
    caller.listen(Duration::from_secs(1)).await;
    caller.check(&service).unwrap();
    for number in 0..2 {
        service.restore(space(number), 5);
    }
    service.begin_epoch();
    (service, caller)
}

fn commit_many(service: &FakeService) {
    for _ in 0..25 {
        service.commit(space(0));
        service.commit(space(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_of_another_epoch_resets_every_space() {
    let (service, mut caller) = restored().await;
    commit_many(&service);
    caller.listen(Duration::from_secs(5)).await;
    assert_eq!((caller.cursor_resets, caller.live), (2, 2));
    caller.check(&service).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_for_changes_resets_every_space() {
    let (service, mut caller) = connected().await;
    for _ in 0..20 {
        service.commit(space(0));
        service.commit(space(1));
    }
    caller.listen(Duration::from_secs(1)).await;
    // The watcher misses a frame and asks for it, but only after another epoch has begun.
    service.drop_frames(1);
    service.commit(space(0));
    service.commit(space(0));
    service.begin_epoch();
    caller.listen(Duration::from_secs(5)).await;
    assert_eq!(caller.cursor_resets, 2);
    caller.check(&service).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stopped_watcher_finds_another_epoch_although_the_feed_has_got_further() {
    let (service, mut caller) = restored().await;
    commit_many(&service);
    caller.restart(&service, 2);
    caller.listen(Duration::from_secs(5)).await;
    assert_eq!(caller.cursor_resets, 2);
    caller.check(&service).unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_websockets_another_epoch_is_found_by_polling() {
    let (service, mut caller) = restored().await;
    service.refuse_tickets(usize::MAX);
    service.drop_connections();
    commit_many(&service);
    caller.listen(RECONNECT_BACKOFF.max).await;
    assert_eq!(caller.cursor_resets, 2);
    caller.check(&service).unwrap();
}

/// The database was restored to a time before the connection was opened, so nothing would be pushed to it.
#[tokio::test(start_paused = true)]
async fn another_epoch_replaces_the_connection() {
    let (service, mut caller) = restored().await;
    service.commit(space(0));
    service.forget_connections();
    caller.listen(Duration::from_secs(45)).await;
    assert_eq!((service.connects().len(), caller.offline), (2, 0));
    service.commit(space(1));
    caller.listen(Duration::from_secs(1)).await;
    assert_eq!(caller.cursor_resets, 2);
    caller.check(&service).unwrap();
}

/// Frames may be delayed. One of the former epoch may have the next number of the current one.
#[tokio::test(start_paused = true)]
async fn a_late_frame_of_the_former_epoch_is_not_applied() {
    let (service, mut caller) = connected().await;
    service.delay_next_frame();
    service.commit(space(0));
    service.restore(space(0), 0);
    service.begin_epoch();
    service.drop_connections();
    caller.listen(Duration::from_mins(1)).await;
    assert_eq!((caller.live, caller.epoch), (2, Some(service.epoch())));
    // This frame has overtaken the former one.
    service.commit(space(1));
    caller.listen(Duration::from_secs(5)).await;
    assert_eq!(caller.received.get(&space(0)), None);
    caller.check(&service).unwrap();
}

/// Cursors that an earlier release stored without an epoch are of the first one that the watcher meets.
#[tokio::test(start_paused = true)]
async fn cursors_without_an_epoch_are_not_reset() {
    let service = FakeService::new(1, Faults::NONE);
    service.begin_epoch();
    for _ in 0..3 {
        service.commit(space(0));
    }
    let mut caller = Caller::after(&service, [(space(0), cursor(2))].into(), 1);
    caller.listen(Duration::from_secs(5)).await;
    assert_eq!((caller.cursor_resets, caller.epoch), (0, Some(service.epoch())));
    assert_eq!(caller.received.get(&space(0)).map(Vec::len), Some(1));
}

#[tokio::test(start_paused = true)]
async fn after_a_restore_all_changes_are_delivered_again() {
    let service = FakeService::new(1, Faults::NONE);
    let mut caller = Caller::start(&service, 1);
    for _ in 0..20 {
        service.commit(space(0));
    }
    caller.listen(Duration::from_secs(10)).await;
    service.restore(space(0), 5);
    service.drop_connections();
    caller.listen(Duration::from_mins(10)).await;
    assert_eq!(caller.cursor_resets, 1);
    caller.check(&service).unwrap();
}

#[tokio::test(start_paused = true)]
async fn reconnect_now_ends_the_delay() {
    let (service, mut caller) = connected().await;
    service.drop_connections();
    caller.listen(Duration::from_millis(1)).await;
    assert_eq!((caller.offline, service.connections()), (1, 0));
    caller.watcher.reconnect_now();
    caller.listen(Duration::from_millis(500)).await;
    assert_eq!(service.connections(), 1);
}

/// Otherwise, when all connections are dropped, all devices that called `reconnect_now` earlier would
/// reconnect at the same moment.
#[tokio::test(start_paused = true)]
async fn reconnect_now_while_connected_has_no_later_effect() {
    let (service, mut caller) = connected().await;
    caller.watcher.reconnect_now();
    service.drop_connections();
    caller.listen(Duration::from_millis(500)).await;
    assert_eq!((caller.offline, service.connections()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_reads_no_updates_buffers_few_and_misses_none() {
    let service = FakeService::new(1, Faults::NONE);
    let mut caller = Caller::start(&service, 1);
    for _ in 0..3_000 {
        service.commit(space(0));
    }
    sleep(Duration::from_hours(5)).await;
    assert!(caller.watcher.updates.len() <= UPDATE_BUFFER);
    caller.listen(Duration::from_mins(20)).await;
    caller.check(&service).unwrap();
}

/// API Gateway accepts 500 new connections a second.
#[tokio::test(start_paused = true)]
async fn ten_thousand_dropped_at_once_come_back_at_under_400_a_second_and_miss_nothing() {
    let service = FakeService::new(1, Faults::NONE);
    let mut callers: Vec<Caller> = (0..10_000).map(|seed| Caller::start(&service, seed)).collect();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(service.connections(), callers.len());
    service.commit(space(0));
    let dropped = Instant::now();
    service.drop_connections();
    service.commit(space(1));
    sleep(Duration::from_mins(10)).await;
    service.commit(space(0));
    sleep(Duration::from_secs(5)).await;

    let mut seconds: BTreeMap<u64, usize> = BTreeMap::new();
    for connect in service
        .connects()
        .into_iter()
        .filter(|connect| *connect > dropped)
    {
        *seconds.entry((connect - dropped).as_secs()).or_default() += 1;
    }
    assert_eq!(seconds.values().sum::<usize>(), callers.len());
    let most = seconds.values().max().unwrap();
    assert!(*most < 400, "{most} in one second");
    for caller in &mut callers {
        caller.listen(Duration::from_millis(1)).await;
        caller.check(&service).unwrap();
    }
}
