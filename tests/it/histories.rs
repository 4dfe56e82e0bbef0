//! Random histories of several users, operators and the schedule, compared with a model of the expected state.
//!
//! A request may be interrupted at any await point, as if its function had died there, and is then retried,
//! as clients do. Functions and PostgreSQL are real; storage and queue are fakes in this process, whose state
//! is compared too. A failing history is shrunk to a minimal one.

mod batches;
mod comparison;
mod files;
mod model;
mod others;
mod retention;
mod spaces;
mod steps;
mod storage;

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use ::model::SpaceList;
use fakes::http::Fault;
use fakes::s3::S3;
use fakes::sqs::Sqs;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use serde_json::Value;
use tests::{Answer, Call, Environment, TestContext, TestQueue, TestStorage, report};
use time::Duration;

use self::model::{ERASED, Expected, Space, Standing, User, WAIT, World};
use self::retention::KEPT;
use self::steps::{Act, Known, PATHS, Step, USERS, history};

/// Environment variable with the number of histories in a run.
const HISTORIES: &str = "SYNCSPHERE_HISTORIES";

/// Header of a request that names the epoch that the client knows.
const EPOCH: &str = "syncsphere-epoch";

/// Number of histories without that variable. CI runs 1,000.
const DEFAULT_HISTORIES: u32 = 250;

/// Number of threads; each runs a share of the histories on its own database.
const THREADS: u32 = 4;

/// Larger content is sent in parts. Contents have up to 41 bytes, and those in parts nine more.
const MULTIPART_THRESHOLD_BYTES: i64 = 43;

/// Environment variable with the seed, to repeat a run.
const SEED: &str = "SYNCSPHERE_HISTORIES_SEED";

/// Empties the database, and begins the first epoch again. In the role of a replica, triggers and foreign
/// keys are not looked at. `TRUNCATE` takes ten times longer for so few rows.
const RESET: &str = "BEGIN;
    SET LOCAL session_replication_role = replica;
    DELETE FROM outbox; DELETE FROM uploads; DELETE FROM changes; DELETE FROM versions; DELETE FROM files;
    DELETE FROM invitations; DELETE FROM refused_inviters; DELETE FROM members; DELETE FROM spaces;
    DELETE FROM connections; DELETE FROM tickets; DELETE FROM users; DELETE FROM erased_users;
    UPDATE history SET restored = false;
    COMMIT";

/// One execution environment of each function.
struct Functions {
    api: Environment,
    connections: connections::App,
    administer: administer::App,
    maintenance: maintenance::App,
}

/// The services of a thread, which its histories use one after the other.
struct Share {
    apps: TestContext,
    s3: S3,
    _sqs: Sqs,
    /// Those of the former history, if it has not failed. Making them anew takes longer than a step.
    functions: RefCell<Option<Functions>>,
}

impl Share {
    async fn new() -> Self {
        let s3 = S3::start(None, "content", || Fault::None).await.unwrap();
        let sdk = ::stack::emulator::aws_config(&s3.endpoint()).unwrap();
        let mut apps = TestContext::on(TestStorage {
            s3: aws_sdk_s3::Client::new(&sdk),
            bucket: "content".to_owned(),
        })
        .await;
        let (sqs, [queue, dead_letters]) = TestQueue::in_process().await;
        (apps.queue, apps.dead_letters) = (queue, dead_letters);
        apps.retention.versions = KEPT.try_into().unwrap();
        apps.multipart_threshold_bytes = MULTIPART_THRESHOLD_BYTES;
        Self {
            apps,
            s3,
            _sqs: sqs,
            functions: RefCell::default(),
        }
    }

    fn functions(&self) -> Functions {
        Functions {
            api: self.apps.environment(),
            connections: self.apps.connections(),
            administer: self.apps.administer(),
            maintenance: self.apps.maintenance(),
        }
    }
}

/// One history: the functions and the model that they are compared with.
struct History<'a> {
    share: &'a Share,
    functions: Functions,
    world: World,
    counter: usize,
    /// The epoch that the requests of the current step name.
    known: Known,
    /// The number of await points after which each function of the current step dies.
    dies_after: Option<usize>,
    /// What storage and the WebSocket API had before.
    earlier: storage::Earlier,
}

impl<'a> History<'a> {
    async fn begin(share: &'a Share) -> Self {
        share.apps.database.execute(RESET).await;
        let functions = share.functions.take().unwrap_or_else(|| share.functions());
        let id = platform::ids::new_id().to_string();
        let mut history = Self {
            share,
            functions,
            world: World::new(id, share.apps.clock.now()),
            counter: 0,
            known: Known::Nothing,
            dies_after: None,
            earlier: storage::Earlier::of(share),
        };
        for user in 0..USERS {
            history.sign_up(user).await;
        }
        history
    }

    /// Makes the user's first request. A user can become a member only after it.
    async fn sign_up(&mut self, user: usize) {
        let name = self.world.name(user);
        let list: SpaceList = self
            .functions
            .api
            .call(&name, Call::new("GET /spaces"))
            .await
            .parsed();
        self.world.epoch = list.epoch;
        let personal = self.world.spaces.len();
        let [space] = &list.spaces[..] else {
            panic!("{list:?}")
        };
        let restored = self.world.restored;
        self.world
            .spaces
            .push(Space::new(space.space_id, user, None, restored));
        if user == self.world.users.len() {
            self.world.users.push(User::new(personal));
        } else {
            self.world.users[user] = User::new(personal);
        }
    }

    /// Makes a request; if its function dies, repeats the request.
    async fn send(&mut self, user: usize, call: Call) -> Answer {
        let call = match self.known {
            Known::Nothing => call,
            Known::Current => call.header(EPOCH, self.world.epoch),
            Known::Former => call.header(EPOCH, self.world.former),
        };
        let name = self.world.name(user);
        if let Some(waits) = self.dies_after {
            let answered = die_after(waits, self.functions.api.call(&name, call.clone())).await;
            if let Some(answer) = answered {
                return answer;
            }
            self.restart().await;
            let answer = self.functions.api.call(&name, call.clone()).await;
            // The change of the request that died may have been the last of this minute.
            let waits = answer.problem() == WAIT && answer.body["limit"]["name"] == "changesPerMinute";
            if !waits || self.world.refuses_rate(user, 1).is_some() {
                return answer;
            }
            self.share.apps.clock.advance(Duration::MINUTE);
        }
        self.functions.api.call(&name, call).await
    }

    /// Replaces all functions after one died.
    async fn restart(&mut self) {
        self.functions = self.share.functions();
        self.share.apps.database.wait_until_disconnected().await;
    }

    /// Makes a request, and compares the answer with the expected status or refusal. Returns the answer if
    /// the request is not refused.
    async fn ask(&mut self, user: usize, call: Call, expected: Result<i64, Expected>) -> Option<Answer> {
        let refusal = self.world.refuses_all(user, self.known);
        let expected = refusal.map_or(expected, Err);
        let route = call.route();
        let answer = self.send(user, call).await;
        match expected {
            Ok(status) => assert_eq!(answer.status, status, "{route}: {answer:?}"),
            Err(refusal) => assert_eq!(answer.problem(), refusal, "{route}: {answer:?}"),
        }
        expected.is_ok().then_some(answer)
    }

    async fn step(&mut self, step: Step) {
        let user = step.user;
        (self.known, self.dies_after) = (step.known, step.dies_after);
        self.world.now = self.share.apps.clock.now();
        if self.world.users[user].standing == Standing::Unknown {
            self.sign_up(user).await;
        }
        match step.act {
            Act::Upload { space, path, base } => self.upload(user, space, PATHS[path], base).await,
            Act::Open {
                space,
                path,
                base,
                send,
            } => {
                self.open(user, space, PATHS[path], base, send).await;
            }
            Act::Complete { upload } => self.complete_any(user, upload).await,
            Act::Abort { upload } => self.abort(user, upload).await,
            Act::OpenAll { uploads, complete } => self.open_all(user, uploads, complete).await,
            Act::CompleteAll { uploads } => self.complete_any_all(user, uploads).await,
            Act::EditAll { edits } => self.edit_all(user, edits).await,
            Act::Race { other, space, path } => self.race([user, other], space, PATHS[path]).await,
            Act::Move { file, path, base } => self.rename(user, file, PATHS[path], base).await,
            Act::Delete { file, base } => self.delete(user, file, base).await,
            Act::Erase { file, base } => self.erase(user, file, base).await,
            Act::RestoreFile { file, path } => {
                self.restore_file(user, file, path.map(|path| PATHS[path])).await;
            }
            Act::RestoreVersion { file, version, base } => {
                self.restore_version(user, file, version, base).await;
            }
            Act::CreateSpace => self.create_space(user).await,
            Act::Rename { space } => self.rename_space(user, space).await,
            Act::DeleteSpace { space } => self.delete_space(user, space).await,
            Act::RestoreSpace { space } => self.restore_space(user, space).await,
            Act::Share { space, member, role } => self.share(user, space, member, role).await,
            Act::Unshare { space, member } => self.unshare(user, space, member).await,
            Act::Accept { invitation } => self.accept(user, invitation).await,
            Act::Decline { invitation, block } => self.decline(user, invitation, block).await,
            Act::Withdraw { space, invitation } => self.withdraw(user, space, invitation).await,
            Act::Connect => self.connect(user).await,
            Act::EraseAccount => self.erase_account(user).await,
            Act::Block => self.block(user).await,
            Act::Unblock => self.unblock(user).await,
            Act::LimitUser { limits } => self.limit_user(user, limits).await,
            Act::LimitSpace { space, bytes } => self.limit_space(user, space, bytes).await,
            Act::BeginEpoch => self.begin_epoch().await,
            Act::Wait { time, maintain } => self.wait(time, maintain).await,
        }
    }

    /// A change in the feed of a space, made by the user.
    fn change(&mut self, user: usize, space: usize, kind: &'static str, subject: Value) {
        let name = self.world.name(user);
        self.world.spaces[space].change(kind, name, subject);
    }
}

/// Runs a function to its end, or drops it after this number of await points; then returns `None`.
pub(crate) async fn die_after<T>(waits: usize, function: impl Future<Output = T>) -> Option<T> {
    let mut function = pin!(function);
    let mut waited = 0;
    poll_fn(|context| match function.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending if waited == waits => Poll::Ready(None),
        Poll::Pending => {
            waited += 1;
            Poll::Pending
        }
    })
    .await
}

fn run_share(seed: u64, histories: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let share = runtime.block_on(Share::new());
    let config = Config {
        cases: histories / THREADS,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        max_shrink_iters: 500,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&history(), |(first, steps)| {
        runtime.block_on(async {
            let mut history = History::begin(&share).await;
            for step in first.into_iter().flatten().chain(steps) {
                history.step(step).await;
            }
            history.check().await;
            history.check_storage().await;
            history.check_what_stays().await;
            share.functions.replace(Some(history.functions));
        });
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}\nrepeat with {SEED}={seed}");
    }
}

#[test]
fn random_histories_show_what_a_small_model_says() {
    let number = std::env::var_os(HISTORIES).map(|number| number.to_str().unwrap().parse().unwrap());
    let histories = number.unwrap_or(DEFAULT_HISTORIES);
    let given = std::env::var_os(SEED).map(|seed| seed.to_str().unwrap().parse::<u64>().unwrap());
    let seed = given.unwrap_or_else(|| platform::ids::new_id().as_u64_pair().1);
    // Reported first, so that a failed run can be repeated.
    report(&format!(
        "{histories} histories in {THREADS} shares from {SEED}={seed}"
    ));
    let shares: Vec<_> = (0..THREADS)
        .map(|share| {
            let seed = if given.is_some() {
                seed
            } else {
                seed.wrapping_add(u64::from(share))
            };
            std::thread::spawn(move || run_share(seed, histories))
        })
        .collect();
    for share in shares {
        share.join().unwrap();
    }
}
