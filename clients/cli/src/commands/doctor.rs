//! `doctor`: runs the steps of a user's upload and download, and names the component that fails.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use client::{Client, Content, Frame, Socket, Token};
use model::{Cursor, EventId, FileChanged, SpacePath, UploadId};
use serde_json::json;
use tokio::time::timeout;

use crate::accounts::{Account, new_id};
use crate::failure::{self, Kind, failure};
use crate::output::Output;

/// Promised limit for notifications of a change.
const NOTIFICATION_LIMIT: Duration = Duration::from_secs(20);

/// Limit for an event that the request could not queue: `maintenance` publishes it, and runs every minute.
const RELAY_LIMIT: Duration = Duration::from_secs(90);

/// Limit for any other step.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// Limit for the answer to a ping.
const PONG_TIMEOUT: Duration = Duration::from_secs(5);

/// The folder of the doctor's files in the personal space.
const FOLDER: &str = "/.syncsphere-doctor/";

/// Start of each file's content. A UUID follows, so that each content is different.
const CONTENT: &str = "syncsphere doctor";

/// Checks a deployment, and deletes its own file or upload afterwards.
pub(crate) async fn run(account: &Account, output: Output) -> anyhow::Result<()> {
    let mut doctor = Doctor {
        output,
        // No retries, so that each failure is reported.
        client: account.client.clone().with_retry_budget(Duration::ZERO),
        open_upload: None,
        uploaded: None,
    };
    let outcome = doctor.examine(account).await;
    let cleaned = doctor.clean_up().await;
    outcome.and(cleaned)
}

struct Doctor {
    output: Output,
    client: Client,
    open_upload: Option<UploadId>,
    uploaded: Option<FileChanged>,
}

impl Doctor {
    async fn examine(&mut self, account: &Account) -> anyhow::Result<()> {
        self.check_access(account).await?;
        let mut socket = self.connect().await?;
        self.messages(&mut socket).await?;
        let (changed, completing) = self.upload().await?;
        self.notification(&mut socket, changed.event_id, completing)
            .await?;
        self.check_download(&changed).await?;
        let _ = socket.close().await;
        Ok(())
    }

    /// Checks the network, the sign-in and the first request of this user.
    async fn check_access(&self, account: &Account) -> anyhow::Result<()> {
        let url = &account.http_api_url;
        let reaching = async {
            let anonymous =
                Client::new(url, Token::from("nobody".to_owned()), None)?.with_retry_budget(Duration::ZERO);
            match anonymous.all_spaces().await {
                // A token that is not valid must be refused.
                Err(error) if error.status() == Some(401) => Ok(((), url.clone())),
                Err(error) => Err(error.into()),
                Ok(_) => Err(failure(Kind::Failed, "the API accepts a token that is not valid")),
            }
        };
        let look_at = "the URL (the stack's output HttpApiUrl), the network and the certificate";
        self.step("reaching the API", look_at, reaching).await?;

        let signing_in = async { Ok(((), account.user_id().await?.to_string())) };
        let look_at = "the identity provider; sign in again: syncsphere login";
        self.step("signing in", look_at, signing_in).await?;

        let listing = async {
            let spaces = self.client.all_spaces().await?;
            Ok(((), format!("spaces: {}", spaces.len())))
        };
        let look_at = "the authorizer (JwtIssuer, JwtAudience), the function spaces, and the database";
        self.step("listing spaces", look_at, listing).await
    }

    async fn connect(&self) -> anyhow::Result<Socket> {
        let listing = async { Ok((self.client.create_ticket().await?, String::new())) };
        let look_at = "the function connections, and the database";
        let ticket = self.step("getting a ticket", look_at, listing).await?;

        let connecting = async {
            let mut socket = Socket::connect(&ticket).await?;
            socket.ping().await?;
            // A watcher does without, but then notices late that a connection is dead.
            let said = match timeout(PONG_TIMEOUT, wait_for_pong(&mut socket)).await {
                Ok(answer) => answer.map(|()| "it answers pings")?,
                Err(_) => "it is open, but API Gateway or a proxy answers no pings",
            };
            Ok((socket, said.to_owned()))
        };
        let look_at = "the WebSocket API, and $connect in the function connections (by default at most 64 connections per user)";
        self.step("opening the WebSocket", look_at, connecting).await
    }

    /// Sends the messages that keep connections open, which API Gateway itself takes.
    async fn messages(&self, socket: &mut Socket) -> anyhow::Result<()> {
        let sending = async {
            socket.heartbeat().await?;
            socket.ping_service().await?;
            let pong = timeout(PONG_TIMEOUT, wait_for_pong(socket)).await;
            pong.context(
                "the service did not answer a ping, so pages notice late that a connection is dead",
            )??;
            Ok(((), "a ping was answered".to_owned()))
        };
        let look_at = "the routes heartbeat and ping of the WebSocket API, and whether its stage was deployed after them";
        self.step("sending messages", look_at, sending).await
    }

    /// Uploads a small file. Returns the change, and the time at which completion was requested.
    async fn upload(&mut self) -> anyhow::Result<(FileChanged, Instant)> {
        let client = self.client.clone();
        let content = format!("{CONTENT} {}\n", new_id()).into_bytes();
        let path: SpacePath = format!("{FOLDER}{}.txt", new_id()).parse()?;
        let describing = client.describe(None, path.clone(), content.as_slice(), &());
        let description = describing.await?;

        let opening = async {
            let created = client.create_upload(&description, None).await?;
            Ok((created, path.to_string()))
        };
        let look_at = "the function uploads, and the database";
        let created = self.step("opening an upload", look_at, opening).await?;
        self.open_upload = Some(created.upload_id);

        let sending = async {
            client.send(&created, content.as_slice()).await?;
            Ok(((), format!("{} bytes", content.len())))
        };
        let look_at =
            "the bucket, its policy, and the permissions of the function uploads, which signs the URL";
        self.step("sending content", look_at, sending).await?;

        let began = Instant::now();
        let completing = async {
            let changed = client.complete_upload(created.upload_id).await?;
            let detail = format!("change {} of your personal space", changed.sequence);
            Ok((changed, detail))
        };
        let look_at = "the function complete-upload, the bucket, and the database";
        let changed = self.step("completing the upload", look_at, completing).await?;
        self.open_upload = None;
        self.uploaded = Some(changed.clone());
        Ok((changed, began))
    }

    /// Reads the change and the content as another device would.
    async fn check_download(&self, changed: &FileChanged) -> anyhow::Result<()> {
        let reading = async {
            let before: Cursor = (changed.sequence.get() - 1).try_into()?;
            let list = self.client.list_changes(Some(changed.space_id), before).await?;
            if list
                .changes
                .iter()
                .any(|event| event.event_id == changed.event_id)
            {
                Ok(((), format!("it has change {}", changed.sequence)))
            } else {
                Err(failure(
                    Kind::Failed,
                    "the feed does not have the change that was just made",
                ))
            }
        };
        self.step("reading the feed", "the function changes", reading)
            .await?;

        let downloading = async {
            let file = tempfile::tempfile().context("cannot create a temporary file")?;
            let mut file = tokio::fs::File::from_std(file);
            self.client.fetch(&Content::from(changed), &mut file, &()).await?;
            Ok(((), "the SHA-256 matches".to_owned()))
        };
        let look_at = "the function files, which signs the URL, and the bucket";
        self.step("downloading the file", look_at, downloading).await
    }

    /// Waits for the notification, and distinguishes a late one from a missing one.
    async fn notification(
        &mut self,
        socket: &mut Socket,
        event_id: EventId,
        since: Instant,
    ) -> anyhow::Result<()> {
        let receiving = async {
            let waiting = timeout(RELAY_LIMIT, wait_for_event(socket, event_id)).await;
            let Ok(received) = waiting else {
                let message = format!("no notification within {} s", RELAY_LIMIT.as_secs());
                return Err(failure(Kind::Failed, message));
            };
            received?;
            let after = since.elapsed();
            if after > NOTIFICATION_LIMIT {
                let message = format!(
                    "it took {:.0} s: complete-upload could not send the event to the queue, and maintenance sent it later",
                    after.as_secs_f64()
                );
                return Err(failure(Kind::Failed, message));
            }
            Ok((
                (),
                format!(
                    "{:.0} ms after the upload was completed",
                    after.as_secs_f64() * 1e3
                ),
            ))
        };
        self.step_within(
            "getting the notification",
            "the queue, the function fan-out, its event source mapping, @connections, and the dead-letter queue",
            RELAY_LIMIT + PONG_TIMEOUT,
            receiving,
        )
        .await
    }

    /// Deletes the uploaded file, or aborts the unfinished upload.
    async fn clean_up(&mut self) -> anyhow::Result<()> {
        let client = self.client.clone();
        let (open_upload, uploaded) = (self.open_upload.take(), self.uploaded.take());
        if open_upload.is_none() && uploaded.is_none() {
            return Ok(());
        }
        self.step(
            "cleaning up",
            "the functions files and uploads; delete what is left in /.syncsphere-doctor/",
            async {
                if let Some(uploaded) = uploaded {
                    client.delete_file(uploaded.file_id, None, None).await?;
                    return Ok(((), format!("{} was deleted", uploaded.path)));
                }
                let Some(upload_id) = open_upload else {
                    return Ok(((), String::new()));
                };
                match client.abort_upload(upload_id).await {
                    // The upload was completed, but the response was lost.
                    Err(error) if error.status() == Some(409) => {
                        let uploaded = client.complete_upload(upload_id).await?;
                        client.delete_file(uploaded.file_id, None, None).await?;
                    }
                    aborted => aborted?,
                }
                Ok(((), "the upload was aborted".to_owned()))
            },
        )
        .await
    }

    async fn step<T>(
        &self,
        name: &str,
        look_at: &str,
        act: impl Future<Output = anyhow::Result<(T, String)>>,
    ) -> anyhow::Result<T> {
        self.step_within(name, look_at, STEP_TIMEOUT, act).await
    }

    /// Runs a step and reports its result. `link` names the components to check if it fails.
    async fn step_within<T>(
        &self,
        name: &str,
        look_at: &str,
        within: Duration,
        act: impl Future<Output = anyhow::Result<(T, String)>>,
    ) -> anyhow::Result<T> {
        let began = Instant::now();
        let done = match timeout(within, act).await {
            Ok(done) => done,
            Err(_) => Err(failure(
                Kind::Unreachable,
                format!("no answer within {} s", within.as_secs()),
            )),
        };
        let took_ms = began.elapsed().as_secs_f64() * 1e3;
        match done {
            Ok((value, detail)) => {
                self.report(name, took_ms, &detail)?;
                Ok(value)
            }
            Err(error) => {
                let message = failure::sentence(&error);
                let value = json!({ "step": name, "ok": false, "ms": round(took_ms), "error": message, "lookAt": look_at });
                self.output
                    .line(&value, format_args!("✗ {name:24} {took_ms:>7.0} ms  {message}"))?;
                let kind = failure::kind_of(&error);
                Err(failure(kind, format!("{name} failed; check {look_at}")))
            }
        }
    }

    fn report(&self, name: &str, took_ms: f64, detail: impl Display) -> std::io::Result<()> {
        let value = json!({ "step": name, "ok": true, "ms": round(took_ms), "detail": detail.to_string() });
        self.output.line(
            &value,
            format!("✓ {name:24} {took_ms:>7.0} ms  {detail}").trim_end(),
        )
    }
}

fn round(milliseconds: f64) -> f64 {
    (milliseconds * 10.0).round() / 10.0
}

async fn wait_for_pong(socket: &mut Socket) -> anyhow::Result<()> {
    while let Some(frame) = socket.next().await? {
        match frame {
            Frame::Pong => return Ok(()),
            Frame::Changes { .. } => {}
            Frame::Error { .. } => {
                let message = "the service does not know heartbeats; deploy the release of this program";
                return Err(failure(Kind::Failed, message));
            }
            Frame::Unknown => {
                return Err(failure(
                    Kind::Failed,
                    "API Gateway answered a message with an error",
                ));
            }
        }
    }
    Err(failure(Kind::Unreachable, "the connection was closed"))
}

async fn wait_for_event(socket: &mut Socket, event_id: EventId) -> anyhow::Result<()> {
    while let Some(frame) = socket.next().await? {
        if let Frame::Changes { changes, .. } = frame
            && changes.iter().any(|change| change.event_id == event_id)
        {
            return Ok(());
        }
    }
    Err(failure(Kind::Unreachable, "the connection was closed"))
}
