//! Concurrent calls of one route, gathered into requests with several items.
//!
//! The first call is sent at once and alone. Calls that arrive while a request is in flight wait, and go
//! together in the next request, as commits wait for a log in a group commit. So nothing is delayed on
//! purpose, and the number of items in a request grows with the load. Another request is sent beside the first
//! if it is full, or if the first takes long.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{BatchResults, ItemResult, MAX_BATCH_ITEMS};
use reqwest::RequestBuilder;
use serde::Deserialize as _;
use serde::de::{DeserializeOwned, Error as _};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::api::{parsed, refused};
use crate::error::{ErrorResponse, Server};
use crate::files::ChangeFiles;
use crate::upload::{CompleteUploads, CreateUploads};
use crate::{Client, Error, Problem};

/// Requests of a route that are in flight at the same time.
const MAX_REQUESTS: usize = 4;

/// Calls that wait for this long are sent beside the requests in flight, one of which may never be answered.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// Requests in flight with a service of an earlier release, which takes one item in a request.
const MAX_SINGLE_REQUESTS: usize = 8;

/// A route that takes one item, and another one that takes several.
pub(crate) trait Route: Send + Sync + 'static {
    type Item: Clone + Send + 'static;
    type Output: DeserializeOwned + Send + 'static;
    /// An item's part of the answer.
    type Outcome: DeserializeOwned + Send;

    fn single(client: &Client, item: Self::Item) -> RequestBuilder;

    fn batch(client: &Client, items: Vec<Self::Item>) -> RequestBuilder;

    /// The output, or the problem of the item.
    fn output(outcome: Self::Outcome) -> Result<Self::Output, Value>;

    /// Whether the service refuses a request with both items.
    fn are_exclusive(one: &Self::Item, other: &Self::Item) -> bool;
}

/// The waiting calls of a client and its clones.
#[derive(Debug)]
pub(crate) struct Batches {
    pub(crate) create_uploads: Batcher<CreateUploads>,
    pub(crate) complete_uploads: Batcher<CompleteUploads>,
    pub(crate) change_files: Batcher<ChangeFiles>,
    /// Whether the service is of an earlier release, which has no routes for several items.
    only_single: AtomicBool,
    max_wait: Duration,
}

impl Default for Batches {
    fn default() -> Self {
        Self::with_max_wait(MAX_WAIT)
    }
}

/// The waiting calls of a route.
pub(crate) struct Batcher<R: Route>(Mutex<State<R>>);

struct State<R: Route> {
    waiting: VecDeque<Call<R>>,
    /// Tasks that send requests, each one request at a time.
    senders: usize,
}

struct Call<R: Route> {
    /// With the epoch of the time of the call.
    client: Client,
    item: R::Item,
    answer: oneshot::Sender<Result<R::Output, Error>>,
}

impl<R: Route> Default for Batcher<R> {
    fn default() -> Self {
        let (waiting, senders) = (VecDeque::new(), 0);
        Self(Mutex::new(State { waiting, senders }))
    }
}

impl<R: Route> fmt::Debug for Batcher<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batcher").finish_non_exhaustive()
    }
}

impl<R: Route> Batcher<R> {
    fn state(&self) -> MutexGuard<'_, State<R>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// Makes a call with retries, in one request with other calls of the route if there are some. `of` selects
    /// the route.
    pub(crate) async fn gathered<R: Route>(
        &self,
        of: fn(&Batches) -> &Batcher<R>,
        item: R::Item,
    ) -> Result<R::Output, Error> {
        let client = self.with_fixed_epoch();
        let mut retries = self.retries();
        loop {
            let (answer, mut answered) = oneshot::channel();
            let call = Call {
                client: client.clone(),
                item: item.clone(),
                answer,
            };
            self.batches.enqueue(of, call);
            let answer = loop {
                match timeout(self.batches.max_wait, &mut answered).await {
                    Ok(answer) => break answer,
                    Err(_) => self.batches.start_sender(of, MAX_REQUESTS),
                }
            };
            match answer {
                Ok(Err(error)) => retries.after(error).await?,
                Ok(Ok(output)) => return Ok(output),
                // The runtime of the task that sends has ended. Repeating a call is harmless.
                Err(_) => {}
            }
        }
    }
}

impl Batches {
    fn with_max_wait(max_wait: Duration) -> Self {
        Self {
            create_uploads: Batcher::default(),
            complete_uploads: Batcher::default(),
            change_files: Batcher::default(),
            only_single: AtomicBool::new(false),
            max_wait,
        }
    }

    fn enqueue<R: Route>(self: &Arc<Self>, of: fn(&Self) -> &Batcher<R>, call: Call<R>) {
        let mut state = of(self).state();
        state.waiting.push_back(call);
        let is_full = state.waiting.len() >= MAX_BATCH_ITEMS;
        drop(state);
        self.start_sender(of, if is_full { MAX_REQUESTS } else { 1 });
    }

    /// Starts another sender if there are fewer than `max`. A task of its own sends, so that a caller that is
    /// dropped does not end the request of others.
    fn start_sender<R: Route>(self: &Arc<Self>, of: fn(&Self) -> &Batcher<R>, max: usize) {
        let max = if self.is_only_single() {
            MAX_SINGLE_REQUESTS
        } else {
            max
        };
        let mut state = of(self).state();
        if state.senders < max && !state.waiting.is_empty() {
            state.senders += 1;
            let batches = Arc::clone(self);
            let sender = Sender {
                batches,
                of,
                has_ended: false,
            };
            tokio::spawn(sender.run());
        }
    }

    fn is_only_single(&self) -> bool {
        self.only_single.load(Ordering::Relaxed)
    }
}

/// A task that sends requests until no call waits.
struct Sender<R: Route> {
    batches: Arc<Batches>,
    of: fn(&Batches) -> &Batcher<R>,
    has_ended: bool,
}

/// If the runtime ends before the task, the waiting calls are repeated by their callers, which may run on
/// another runtime.
impl<R: Route> Drop for Sender<R> {
    fn drop(&mut self) {
        if !self.has_ended {
            let mut state = (self.of)(&self.batches).state();
            state.senders -= 1;
            state.waiting.clear();
        }
    }
}

impl<R: Route> Sender<R> {
    async fn run(mut self) {
        while let Some(calls) = self.next() {
            match <[Call<R>; 1]>::try_from(calls) {
                Ok([call]) => Self::send_one(call).await,
                Err(calls) => self.send(calls).await,
            }
        }
    }

    /// The calls of the next request, in the order in which they were made. They name the same epoch.
    fn next(&mut self) -> Option<Vec<Call<R>>> {
        let max = if self.batches.is_only_single() {
            1
        } else {
            MAX_BATCH_ITEMS
        };
        let mut state = (self.of)(&self.batches).state();
        // The callers of the others have been dropped.
        state.waiting.retain(|call| !call.answer.is_closed());
        let Some(first) = state.waiting.pop_front() else {
            state.senders -= 1;
            self.has_ended = true;
            return None;
        };
        let epoch = first.client.epoch();
        let mut calls = vec![first];
        let mut at = 0;
        while calls.len() < max
            && let Some(call) = state.waiting.get(at)
        {
            let is_exclusive = calls
                .iter()
                .any(|other| R::are_exclusive(&other.item, &call.item));
            if call.client.epoch() == epoch && !is_exclusive {
                calls.extend(state.waiting.remove(at));
            } else {
                at += 1;
            }
        }
        Some(calls)
    }

    async fn send_one(call: Call<R>) {
        let Call { client, item, answer } = call;
        let result = match client.authorized(R::single(&client, item)).await {
            Ok(response) => parsed(response).await,
            Err(error) => Err(error),
        };
        // The caller may have been dropped.
        let _ = answer.send(result);
    }

    async fn send(&self, calls: Vec<Call<R>>) {
        let Some(client) = calls.first().map(|call| call.client.clone()) else {
            return;
        };
        let items = calls.iter().map(|call| call.item.clone()).collect();
        match results::<R>(&client, items, calls.len()).await {
            Ok(results) => {
                for (call, result) in calls.into_iter().zip(results) {
                    let _ = call.answer.send(result);
                }
            }
            Err(error) if error.status() == Some(404) => self.send_singly(calls),
            Err(error) => {
                for call in calls {
                    let _ = call.answer.send(Err(error.for_another_caller()));
                }
            }
        }
    }

    /// Sends these calls and all later ones one by one, because the service has no route for several.
    fn send_singly(&self, calls: Vec<Call<R>>) {
        self.batches.only_single.store(true, Ordering::Relaxed);
        let mut state = (self.of)(&self.batches).state();
        for call in calls.into_iter().rev() {
            state.waiting.push_front(call);
        }
        drop(state);
        for _ in 0..MAX_SINGLE_REQUESTS {
            self.batches.start_sender(self.of, MAX_SINGLE_REQUESTS);
        }
    }
}

/// Sends one request with several items. Returns the result of each.
async fn results<R: Route>(
    client: &Client,
    items: Vec<R::Item>,
    count: usize,
) -> Result<Vec<Result<R::Output, Error>>, Error> {
    let response = client.authorized(R::batch(client, items)).await?;
    let BatchResults { results } = parsed::<BatchResults<R::Outcome>>(response).await?;
    if results.len() != count {
        let message = format!("{} results of {count} items", results.len());
        return Err(serde_json::Error::custom(message).into());
    }
    let results = results.into_iter();
    Ok(results
        .map(|ItemResult { status, outcome }| R::output(outcome).map_err(|problem| refusal(status, &problem)))
        .collect())
}

/// The error that a request for the item alone would have returned.
fn refusal(status: u16, problem: &Value) -> Error {
    match Problem::deserialize(problem) {
        Ok(problem) => refused(problem),
        Err(_) => ErrorResponse::new(Server::Api, status, &problem.to_string()).into(),
    }
}

#[cfg(test)]
mod tests;
