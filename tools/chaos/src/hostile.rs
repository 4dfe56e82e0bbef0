//! `cargo xtask chaos --hostile`: measures the notification times of all other users while one user has a
//! space of 100,000 members, open sockets that are never read, and members who are added and removed all the
//! time.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use model::{CreatedTicket, InvitationView, SpaceId, SpaceView, UserId};
use platform::ids;
use serde::Serialize;
use serde_json::json;

use super::api::Call;
use super::cluster::Cluster;
use super::database;
use super::history::Counts;
use super::phase::{percentile, phase};
use super::report::Report;
use super::run::{Plan, folder, patience, report};
use super::upload::{self, Upload};
use super::workload::User;
use runner::project::Project;
use runner::ui::{self, Step};

/// Members of the hostile user's space: as many as were possible before the service had a limit.
const MEMBERS: i64 = 100_000;

/// Open sockets of the hostile user: as many as the service allows.
const SOCKETS: usize = 64;

/// The interval of the hostile user's uploads. The audience of each upload has a hundred pages.
const UPLOAD_EVERY: Duration = Duration::from_secs(2);

/// The interval at which the hostile user adds or removes a member.
const CHANGE_EVERY: Duration = Duration::from_millis(100);

/// The limit of the ratio between the notification times with and without the hostile user, at the 99th
/// percentile.
const ALLOWED_RATIO: f64 = 2.0;

/// The result of both phases. Times are in milliseconds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    seed: u64,
    uploads: u64,
    alone_p50_ms: f64,
    alone_p99_ms: f64,
    hostile_p50_ms: f64,
    hostile_p99_ms: f64,
    ratio_p99: f64,
    hanging_posts: usize,
}

/// The hostile user.
struct Hostile<'a> {
    cluster: &'a Cluster,
    user: User,
    guest: UserId,
    space: SpaceId,
}

/// Runs both phases. Violations are in the returned report.
pub(crate) async fn run(project: &Project, plan: &Plan, json: bool) -> Result<Report> {
    let begun = Instant::now();
    let step = Step::begin("hostile");
    let cluster = Cluster::start(project, plan, folder(project, plan.seed)?, 0.0, &step).await?;
    let alone = phase(&cluster, plan, plan.seed, &step, Counts::take_heard).await;
    ensure!(
        cluster.wait_until_idle(patience(plan.uploads)).await?,
        "the first phase does not end"
    );

    step.note("inviting the hostile user");
    let hostile = Hostile::prepare(&cluster).await?;
    let beside_hostile = tokio::select! {
        latencies = phase(&cluster, plan, plan.seed.wrapping_add(1), &step, Counts::take_heard) => latencies,
        () = hostile.run(plan.seed) => unreachable!("it never ends"),
    };
    step.note("waiting for quiet");
    let settling = Instant::now();
    cluster.wait_until_idle(patience(plan.uploads)).await?;
    let committed = cluster.check().await?;
    let outcome = Outcome {
        seed: plan.seed,
        uploads: plan.uploads,
        alone_p50_ms: percentile(&alone, 0.5),
        alone_p99_ms: percentile(&alone, 0.99),
        hostile_p50_ms: percentile(&beside_hostile, 0.5),
        hostile_p99_ms: percentile(&beside_hostile, 0.99),
        ratio_p99: percentile(&beside_hostile, 0.99) / percentile(&alone, 0.99),
        hanging_posts: cluster.context.sockets.hanging_posts(),
    };
    let open = cluster.context.sockets.deaf();
    if open > 0 {
        let which = format!(
            "{open} of {SOCKETS} sockets after {} posts",
            outcome.hanging_posts
        );
        cluster
            .context
            .violations
            .unexpected("socket that takes no posts and is not closed", which);
    }
    if outcome.ratio_p99 > ALLOWED_RATIO {
        let which = format!(
            "{:.0} ms, alone {:.0} ms",
            outcome.hostile_p99_ms, outcome.alone_p99_ms
        );
        cluster
            .context
            .violations
            .unexpected("others hear late because of one user", which);
    }
    let report = report(
        &cluster,
        plan.seed,
        committed,
        settling.elapsed(),
        begun.elapsed(),
    );
    step.done(report.line());
    ui::line(format_args!(
        "from commit to each device of others, ms: alone p50 {:.1}, p99 {:.1}; beside the hostile user p50 {:.1}, p99 {:.1}, ratio {:.2}\n\
         posts that hung: {}",
        outcome.alone_p50_ms,
        outcome.alone_p99_ms,
        outcome.hostile_p50_ms,
        outcome.hostile_p99_ms,
        outcome.ratio_p99,
        outcome.hanging_posts
    ));
    if json {
        ui::output(serde_json::to_string(&outcome)?);
    }
    Ok(report)
}

impl<'a> Hostile<'a> {
    /// Creates the space, fills it past the limit, and opens the sockets.
    async fn prepare(cluster: &'a Cluster) -> Result<Self> {
        let user = User {
            id: UserId::try_from("hostile".to_owned())?,
            device: ids::new_id().into(),
        };
        let api = &cluster.context.api;
        let call = Call::new("POST /spaces").body(json!({ "name": "Crowd", "deviceId": user.device }));
        let answer = api.request(&user.id, &call).await.context("no space")?;
        let space = answer.parsed::<SpaceView>().context("no space")?.space_id;
        let members = "INSERT INTO members SELECT $1, 'made-up-' || lpad(i::text, 8, '0'), 'viewer', now()
            FROM generate_series(1, $2::bigint) i";
        let client = database::connect(cluster.database_url()).await?;
        client
            .execute(members, &[&uuid::Uuid::from(space), &MEMBERS])
            .await?;
        let known = Call::new("GET /spaces");
        let guest = UserId::try_from("guest".to_owned())?;
        api.request(&guest, &known).await;
        for _ in 0..SOCKETS {
            let call = Call::new("POST /tickets").body(json!({}));
            let answer = api.request(&user.id, &call).await.context("no ticket")?;
            let ticket = answer.parsed::<CreatedTicket>().context("no ticket")?.ticket;
            ensure!(cluster.context.sockets.connect_deaf(&ticket).await, "no socket");
        }
        Ok(Self {
            cluster,
            user,
            guest,
            space,
        })
    }

    /// Uploads and changes members; never returns.
    async fn run(&self, seed: u64) {
        tokio::join!(self.upload(seed), self.change_members());
    }

    async fn upload(&self, seed: u64) {
        for number in 0_u64.. {
            let upload = Upload {
                user: self.user.clone(),
                key: format!("hostile-{seed}-{number}"),
                path: format!("/{number}"),
                content: format!("{seed} {number}"),
                space: Some(self.space),
                base_version: None,
            };
            upload::run(&self.cluster.context, &upload, false, || false).await;
            tokio::time::sleep(UPLOAD_EVERY).await;
        }
    }

    /// Invites, adds and removes a member in turn. The large space is full, so this uses another one.
    async fn change_members(&self) {
        let api = &self.cluster.context.api;
        let call = Call::new("POST /spaces").body(json!({ "name": "Door" }));
        let Some(space) = api.request(&self.user.id, &call).await else {
            return std::future::pending().await;
        };
        let space = space.parsed::<SpaceView>().map(|view| view.space_id.to_string());
        let space = space.unwrap_or_default();
        loop {
            let invite = Call::new("POST /spaces/{spaceId}/invitations")
                .path("spaceId", &space)
                .body(json!({ "userId": "guest", "role": "viewer" }));
            match api.request(&self.user.id, &invite).await {
                // The removal before was not answered, so the guest may be a member still.
                Some(answer) if answer.status == 409 => {}
                Some(answer) if answer.status >= 400 => api.wrong(&self.user.id, &invite, &answer),
                Some(answer) => {
                    let invitation = answer.parsed::<InvitationView>();
                    let id = invitation
                        .map(|it| it.invitation_id.to_string())
                        .unwrap_or_default();
                    let accept =
                        Call::new("POST /invitations/{invitationId}/accept").path("invitationId", &id);
                    match api.request(&self.guest, &accept).await {
                        Some(answer) if answer.status >= 400 => api.wrong(&self.guest, &accept, &answer),
                        _ => {}
                    }
                }
                None => {}
            }
            tokio::time::sleep(CHANGE_EVERY).await;
            let remove = Call::new("DELETE /spaces/{spaceId}/members/{userId}")
                .path("spaceId", &space)
                .path("userId", &"guest");
            match api.request(&self.user.id, &remove).await {
                Some(answer) if answer.status >= 400 => api.wrong(&self.user.id, &remove, &answer),
                _ => {}
            }
            tokio::time::sleep(CHANGE_EVERY).await;
        }
    }
}
