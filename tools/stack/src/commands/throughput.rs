//! `cargo xtask throughput`: compares uploads by `syncsphere` with uploads by plain curl to the same storage,
//! and measures the cost of a kill half way.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use client::{Client, LocalFile, Source as _};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use model::{
    CompleteUploadRequest, CreateUploadRequest, CreatedUpload, PartNumber, PartRequest, PresignedPut,
    Transfer,
};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use syncsphere::accounts::Accounts;
use tokio::process::Command;
use tokio::time::sleep;

use crate::cli_profile::CliProfile;
use crate::deployment::Stack;
use runner::arguments::Profile;
use runner::build::{BUILD_REMEDY, cargo, target};
use runner::process;
use runner::project::Project;
use runner::services::{Ports, Services};
use runner::ui::{self, Step, step};

/// The user of all uploads.
const USER: &str = "throughput";

/// Concurrent file uploads, both of `syncsphere` and of curl.
const FILES_AT_ONCE: usize = 8;

/// Concurrent part uploads, both of `syncsphere` and of curl. The number is the client's default.
const PARTS_AT_ONCE: usize = 4;

/// The size of a small file in bytes.
const SMALL: usize = 4 * 1024;

const MIB: u64 = 1024 * 1024;

/// The amount of data and the number of rounds.
struct Scale {
    files: usize,
    large: u64,
    rounds: usize,
}

/// The median times of a case.
struct Figures {
    ours: Duration,
    /// By curl: only the PUT requests to storage.
    puts: Duration,
    /// By curl: the PUT requests and the requests to the API.
    requests: Duration,
}

/// Runs the measurements. Fails if an upload that was killed half way is not completed correctly afterwards.
pub(crate) async fn run(project: &Project, ports: Ports, quick: bool) -> Result<()> {
    let curl = Command::new("curl")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    ensure!(
        curl.await.is_ok_and(|status| status.success()),
        "curl is missing; install it: apt-get install curl"
    );
    let _lock = project.lock()?;
    let program = build(project, quick).await?;
    let services = Services::start(project, ports).await?;
    let stack = Stack::deploy(project, services.ports, Profile { release: !quick }).await?;
    stack.create_user(USER).await?;
    let session = stack.sign_in(USER).await?;
    let folder = project.run().join("throughput");
    let home = folder.join("home");
    let _known = CliProfile::register(Accounts::in_folder(&home), &stack, &[(USER, session.clone())]).await?;
    let bench = Bench {
        device: stack.device(session)?,
        url: stack.outputs.http_api_url.clone(),
        program,
        home,
        folder,
    };
    let scale = if quick {
        Scale {
            files: 40,
            large: 80 * MIB,
            rounds: 1,
        }
    } else {
        Scale {
            files: 1_000,
            large: 1024 * MIB,
            rounds: 3,
        }
    };
    step("making files", async { bench.make_files(&scale) }).await?;

    let small = bench.small(&scale).await?;
    let large = bench.large(&scale).await?;
    report(&scale, &small, &large);
    bench.kill_small(&scale, small.ours).await?;
    bench.kill_large(&scale, large.ours).await
}

fn report(scale: &Scale, small: &Figures, large: &Figures) {
    ui::line(
        "
                              syncsphere       curl, PUTs only   ÷ it    curl, all requests   ÷ it",
    );
    for (case, figures) in [
        (format!("{} files of 4 KiB", scale.files), small),
        (format!("a file of {} MiB", scale.large / MIB), large),
    ] {
        let seconds = |time: Duration| time.as_secs_f64();
        let (ours, puts, requests) = (figures.ours, figures.puts, figures.requests);
        ui::line(format_args!(
            "{case:<28} {:>9.2} s   {:>13.2} s  ×{:<5.3}   {:>14.2} s     ×{:.3}",
            seconds(ours),
            seconds(puts),
            seconds(puts) / seconds(ours),
            seconds(requests),
            seconds(requests) / seconds(ours),
        ));
    }
    ui::line("");
}

/// Builds the client with the profile of a release, or, for a quick run, with the profile of tests.
async fn build(project: &Project, quick: bool) -> Result<PathBuf> {
    let step = Step::begin("building syncsphere");
    let mut cargo = cargo(project);
    cargo.args(["build", "--package", "syncsphere", "--bin", "syncsphere"]);
    let profile = if quick { "debug" } else { "release" };
    cargo.args((!quick).then_some("--release"));
    let log = project.logs().join("syncsphere.log");
    process::run(&step, &log, cargo, BUILD_REMEDY).await?;
    step.done("");
    Ok(target(project).join(profile).join("syncsphere"))
}

struct Bench {
    device: Client,
    url: String,
    program: PathBuf,
    home: PathBuf,
    folder: PathBuf,
}

/// A request in the syntax of curl's configuration file.
struct Request {
    lines: String,
}

impl Bench {
    fn make_files(&self, scale: &Scale) -> Result<()> {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let small = self.folder.join("small");
        fs::create_dir_all(&small)?;
        for number in 0..scale.files {
            let mut content = vec![0; SMALL];
            random.fill_bytes(&mut content);
            fs::write(small.join(format!("{number:04}")), content)?;
        }
        let large = fs::File::create(self.folder.join("large"))?;
        let mut block = vec![0; usize::try_from(MIB)?];
        for number in 0..scale.large / MIB {
            random.fill_bytes(&mut block);
            large.write_all_at(&block, number * MIB)?;
        }
        Ok(())
    }

    async fn small(&self, scale: &Scale) -> Result<Figures> {
        self.rounds(scale, "small", "/", scale.files, async |to| {
            self.small_by_curl(scale, &format!("{to}/")).await
        })
        .await
    }

    async fn large(&self, scale: &Scale) -> Result<Figures> {
        self.rounds(scale, "large", "", 1, async |to| self.large_by_curl(to).await)
            .await
    }

    /// Runs the rounds of a case. Each round uploads once with curl and once with `syncsphere`, to new paths.
    async fn rounds(
        &self,
        scale: &Scale,
        what: &str,
        end: &str,
        files: usize,
        by_curl: impl AsyncFn(&str) -> Result<(Duration, Duration)>,
    ) -> Result<Figures> {
        let mut rounds = Vec::new();
        for round in 1..=scale.rounds {
            let step = Step::begin(format!("{what}, round {round}"));
            let (puts, requests) = by_curl(&format!("/{what}-by-curl-{round}")).await?;
            let ours = self.upload(what, &format!("/{what}-{round}{end}"), files).await?;
            let (seconds, theirs) = (ours.as_secs_f64(), requests.as_secs_f64());
            step.done(format_args!("{seconds:.2} s, curl {theirs:.2} s"));
            rounds.push((ours, puts, requests));
        }
        Ok(median(&rounds))
    }

    /// Returns the time of the PUT requests and the time of all requests.
    async fn small_by_curl(&self, scale: &Scale, to: &str) -> Result<(Duration, Duration)> {
        let names: Vec<String> = (0..scale.files).map(|number| format!("{number:04}")).collect();
        let mut opening = Vec::new();
        for name in &names {
            let file = LocalFile::open(self.folder.join("small").join(name)).await?;
            let describing = self
                .device
                .describe(None, format!("{to}{name}").parse()?, &file, &());
            opening.push(
                self.post("/uploads", &describing.await?, &format!("{name}.json"))
                    .await?,
            );
        }
        let opening = self.curl(&opening, FILES_AT_ONCE).await?;
        let mut putting = Vec::new();
        let mut completing = Vec::new();
        for name in &names {
            let created = fs::read(self.folder.join(format!("{name}.json")))?;
            let created: CreatedUpload =
                serde_json::from_slice(&created).context("an upload was not opened")?;
            let put = created.put().context("an upload is in parts")?;
            putting.push(put_file(put, &self.folder.join("small").join(name)));
            let path = format!("/uploads/{}/complete", created.upload_id);
            completing.push(
                self.post(&path, &CompleteUploadRequest::default(), &format!("{name}.done"))
                    .await?,
            );
        }
        let puts = self.curl(&putting, FILES_AT_ONCE).await?;
        let completing = self.curl(&completing, FILES_AT_ONCE).await?;
        Ok((puts, opening + puts + completing))
    }

    /// Returns the time of the PUT requests, and the time including the completion. Creating and presigning
    /// take almost no time and are not included.
    async fn large_by_curl(&self, to: &str) -> Result<(Duration, Duration)> {
        let content = LocalFile::open(self.folder.join("large")).await?;
        let describing = self.device.describe(None, to.parse()?, &content, &());
        let description: CreateUploadRequest = describing.await?;
        let created = self.device.create_upload(&description, None).await?;
        let Transfer::Multipart(cut) = created.transfer else {
            bail!("the large file is not sent in parts");
        };
        let mut parts = Vec::new();
        for number in 1..=cut.part_count.get() {
            let part_number = PartNumber::try_from(number)?;
            let length = cut
                .size_of(part_number, description.size)
                .context("a part too many")?;
            let offset = (number - 1) * cut.part_size.get();
            let piece = content
                .read(offset.unsigned_abs(), length.get().unsigned_abs())
                .await?;
            // curl can only send whole files, so each part gets its own file.
            fs::write(self.part(part_number), &piece)?;
            let sha256 = client::sha256(&piece);
            parts.push(PartRequest { part_number, sha256 });
        }
        let pages: Vec<Vec<PartRequest>> = parts.chunks(100).map(<[_]>::to_vec).collect();
        let presigning = stream::iter(pages)
            .map(|page| self.device.presign_parts(created.upload_id, page))
            .buffered(1);
        let presigned: Vec<_> = presigning.try_collect().await?;
        let presigned = presigned.into_iter().flat_map(|page| page.parts);
        let putting = presigned.map(|part| put_file(&part.put, &self.part(part.part_number)));
        let puts = self.curl(&putting.collect::<Vec<_>>(), PARTS_AT_ONCE).await?;
        let path = format!("/uploads/{}/complete", created.upload_id);
        let completing = self
            .post(&path, &CompleteUploadRequest::default(), "large.done")
            .await?;
        let completing = self.curl(&[completing], 1).await?;
        Ok((puts, puts + completing))
    }

    fn part(&self, number: PartNumber) -> PathBuf {
        self.folder.join(format!("part-{number}"))
    }

    /// A POST request to the API. curl writes the response to the file `answer`.
    async fn post(&self, path: &str, body: &impl serde::Serialize, answer: &str) -> Result<Request> {
        let token = self.device.session().token().await?;
        let body = serde_json::to_string(body)?
            .replace('\\', r"\\")
            .replace('"', "\\\"");
        let (url, answer) = (&self.url, self.folder.join(answer));
        let lines = format!(
            "url = \"{url}{path}\"\nrequest = POST\nheader = \"Authorization: Bearer {}\"\n\
             header = \"Content-Type: application/json\"\ndata = \"{body}\"\noutput = \"{}\"\n",
            token.as_str(),
            answer.display()
        );
        Ok(Request { lines })
    }

    /// Sends requests with up to `at_once` in parallel and returns the total time. Fails if a request fails.
    async fn curl(&self, requests: &[Request], at_once: usize) -> Result<Duration> {
        let mut config = String::new();
        for (number, request) in requests.iter().enumerate() {
            if number > 0 {
                config.push_str("next\n");
            }
            writeln!(config, "{}fail\nsilent\nshow-error", request.lines)?;
        }
        let file = self.folder.join("curl.config");
        fs::write(&file, config)?;
        let mut curl = Command::new("curl");
        curl.args([
            "--parallel",
            "--parallel-immediate",
            "--parallel-max",
            &at_once.to_string(),
            "--config",
        ])
        .arg(&file)
        .env("NO_PROXY", "127.0.0.1")
        .kill_on_drop(true);
        let began = Instant::now();
        let output = curl.output().await.context("cannot run curl")?;
        let took = began.elapsed();
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "curl failed: {}", said.trim());
        Ok(took)
    }

    fn syncsphere(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .current_dir(&self.folder)
            .env("SYNCSPHERE_HOME", &self.home)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs `syncsphere` and returns the JSON values that it prints, one per line.
    async fn output(&self, arguments: &[&str]) -> Result<Vec<Value>> {
        let output = self
            .syncsphere(arguments)
            .output()
            .await
            .context("cannot run syncsphere")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "syncsphere failed: {}", said.trim());
        let text = String::from_utf8(output.stdout)?;
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    async fn upload(&self, what: &str, to: &str, files: usize) -> Result<Duration> {
        let began = Instant::now();
        let output = self.output(&["--json", "upload", what, "--to", to]).await?;
        let took = began.elapsed();
        let uploaded = output.iter().filter(|it| it["outcome"] == "uploaded").count();
        ensure!(uploaded == files, "{uploaded} of {files} files were uploaded");
        Ok(took)
    }

    async fn kill(&self, what: &str, to: &str, after: Duration) -> Result<()> {
        let mut killed = self.syncsphere(&["--json", "upload", what, "--to", to]).spawn()?;
        sleep(after).await;
        killed.start_kill()?;
        let status = killed.wait().await?;
        ensure!(status.code().is_none(), "it had ended already");
        Ok(())
    }

    async fn kill_small(&self, scale: &Scale, took: Duration) -> Result<()> {
        let step = Step::begin("small files, killed half way and run again");
        let to = "/killed/";
        self.kill("small", to, took / 2).await?;
        let output = self.output(&["--json", "upload", "small", "--to", to]).await?;
        let there = output.iter().filter(|it| it["outcome"] == "unchanged").count();
        ensure!(output.len() == scale.files, "{} files were listed", output.len());
        let listed = self.output(&["--json", "ls", to]).await?;
        let right = listed.iter().filter(|file| file["version"] == 1).count();
        ensure!(
            right == scale.files,
            "{right} of {} files are there, once",
            scale.files
        );
        step.done(format_args!(
            "{there} were there already; all are there, each once"
        ));
        Ok(())
    }

    async fn kill_large(&self, scale: &Scale, took: Duration) -> Result<()> {
        let step = Step::begin("the large file, killed half way and run again");
        let to = "/killed-large";
        self.kill("large", to, took / 2).await?;
        let output = self.output(&["--json", "upload", "large", "--to", to]).await?;
        let sent = output.first().and_then(|it| it["sentBytes"].as_u64());
        let sent = sent.context("it does not say how much it sent")?;
        ensure!(sent <= scale.large, "{sent} bytes were sent again");
        self.output(&["--json", "get", to, "--output", "copy"]).await?;
        let same = fs::read(self.folder.join("large"))? == fs::read(self.folder.join("copy"))?;
        ensure!(same, "what was uploaded comes down as something else");
        step.done(format_args!(
            "{} of {} MiB were sent by the second run; it comes down the same",
            sent / MIB,
            scale.large / MIB
        ));
        Ok(())
    }
}

fn put_file(put: &PresignedPut, file: &Path) -> Request {
    let mut lines = format!(
        "url = \"{}\"\nupload-file = \"{}\"\noutput = /dev/null\n",
        put.url,
        file.display()
    );
    for (name, value) in &put.headers {
        // curl computes the length itself.
        if !name.eq_ignore_ascii_case("content-length") {
            let _ = writeln!(lines, "header = \"{name}: {value}\"");
        }
    }
    Request { lines }
}

fn median(rounds: &[(Duration, Duration, Duration)]) -> Figures {
    let middle = |of: fn(&(Duration, Duration, Duration)) -> Duration| {
        let mut times: Vec<Duration> = rounds.iter().map(of).collect();
        times.sort();
        times.get(times.len() / 2).copied().unwrap_or_default()
    };
    Figures {
        ours: middle(|round| round.0),
        puts: middle(|round| round.1),
        requests: middle(|round| round.2),
    }
}
