//! `syncsphere upload` of many small files and of a large one, compared with curl's presigned PUT requests
//! alone.

mod large;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use client::{Client, LocalFile, Token};
use futures_util::future::try_join_all;
use model::{PresignedPut, SpacePath};
use tokio::process::Command;

use super::{LATENCY_OF_AWS, each, number, progress};
use crate::gateway::Gateway;
use crate::harness::Harness;
use crate::report::{Benchmark, Row, Unit};

/// Size of each file, in bytes.
const SIZE: usize = 4 * 1024;

/// Concurrent PUT requests, of `syncsphere` and of curl.
const REQUESTS: &str = "8";

/// A round, which uploads all files twice.
struct Round {
    /// Files per second by `syncsphere`.
    ours: f64,
    /// Files per second by curl.
    puts: f64,
    invocations: f64,
    /// CPU time of the functions, in microseconds per file.
    cpu: f64,
}

/// Runs the benchmark.
pub(crate) async fn run(harness: &Harness) -> Result<Benchmark> {
    let services = harness.services(false).await?;
    for server in [&services.s3.server, &services.sqs.server] {
        server.set_latency(LATENCY_OF_AWS);
    }
    let user = harness.user().await?;
    let variables = harness.variables(&services, harness.direct_url());
    let gateway = Gateway::start(harness, &variables, &user).await?;
    let files = harness.size(1_000, 100);
    let bench = Bench {
        program: harness.options.syncsphere.clone(),
        device: Client::new(&gateway.url, Token::from(user.id.clone()), None)?,
        token: user.id,
        gateway,
        folder: harness.options.folder.join("upload"),
        cores: (harness.cores > 1).then(|| format!("0-{}", harness.cores - 1)),
        files,
    };
    bench.make_files()?;
    let mut rounds = Vec::new();
    let large = large::run(harness).await?;
    for round in 0..=harness.rounds() {
        progress(&format!("  {files} files of 4 KiB, round {round}"));
        let figures = bench.round(round).await?;
        // The first round only makes connections, and is not counted.
        if round > 0 {
            rounds.push(figures);
        }
    }
    let all = format!("{files} files of 4 KiB");
    Ok(Benchmark {
        name: "upload".to_owned(),
        about: format!(
            "`syncsphere upload` of a folder with {all}, from its start to its end, with {REQUESTS} PUT requests \
                at a time. The control is curl with the same PUT requests, {REQUESTS} at a time, whose URLs \
                were presigned before. The same for one large file in parts, {} at a time. S3 and SQS answer \
                after {} ms. The functions run as deployed, with environments that are warm.",
            large::PARTS_AT_ONCE,
            LATENCY_OF_AWS.as_millis()
        ),
        rows: vec![
            Row::ratio(
                format!("{all}, files per second"),
                Unit::PerSecond,
                each(&rounds, |round| round.ours),
                "curl, PUT requests alone",
                each(&rounds, |round| round.puts),
            )
            .at_least(0.5, Some(0.8)),
            Row::alone(
                "invocations of functions",
                Unit::Number,
                each(&rounds, |round| round.invocations),
            ),
            Row::alone(
                "CPU of functions per file",
                Unit::Microseconds,
                each(&rounds, |round| round.cpu),
            ),
            large,
        ],
        counts: Vec::new(),
        plot: None,
        notes: vec![
            "`syncsphere`, the functions, PostgreSQL and the fakes share the machine's cores; curl shares them \
                with the fake of S3 only."
                .to_owned(),
            "The large file: `syncsphere` computes the SHA-256 of each part and of the whole, and curl none, \
                because its parts were cut and hashed before. Without a network between them and storage, \
                both are limited by the processor."
                .to_owned(),
        ],
    })
}

struct Bench {
    program: PathBuf,
    device: Client,
    token: String,
    gateway: Gateway,
    folder: PathBuf,
    /// Cores of `syncsphere` and curl, in `taskset` syntax. This process leaves one out.
    cores: Option<String>,
    files: usize,
}

impl Bench {
    fn make_files(&self) -> Result<()> {
        fs::create_dir_all(self.folder.join("small")).context("cannot make a folder")?;
        for number in 0..self.files {
            // Each file has another content.
            let content = number.to_be_bytes().repeat(SIZE / size_of::<usize>());
            fs::write(self.file(number), content).context("cannot make a file")?;
        }
        Ok(())
    }

    fn file(&self, number: usize) -> PathBuf {
        self.folder.join("small").join(format!("{number:04}"))
    }

    async fn round(&self, round: usize) -> Result<Round> {
        let puts = self.by_curl(round).await?;
        self.gateway.take();
        let ours = self.by_syncsphere(round).await?;
        let (invocations, cpu) = self.gateway.take();
        let files = number(self.files);
        let count = |count: u64| u32::try_from(count).map_or(f64::INFINITY, f64::from);
        Ok(Round {
            ours: files / ours.as_secs_f64(),
            puts: files / puts.as_secs_f64(),
            invocations: count(invocations),
            cpu: count(cpu) * 1e3 / files,
        })
    }

    /// The time of the PUT requests. Opening the uploads is not part of it.
    async fn by_curl(&self, round: usize) -> Result<Duration> {
        let opening = (0..self.files).map(async |number| {
            let file = LocalFile::open(self.file(number)).await?;
            let path: SpacePath = format!("/curl-{round}/{number:04}").parse()?;
            let description = self.device.describe(None, path, &file, &()).await?;
            let created = self.device.create_upload(&description, None).await?;
            let put = created.put().context("an upload is in parts")?.clone();
            anyhow::Ok(put)
        });
        let mut config = String::new();
        for (number, put) in try_join_all(opening).await?.iter().enumerate() {
            write_put(&mut config, put, &self.file(number))?;
        }
        let file = self.folder.join("curl.config");
        fs::write(&file, config).context("cannot write curl's configuration")?;
        let mut curl = self.command(Path::new("curl"));
        curl.args(["--parallel", "--parallel-immediate", "--parallel-max", REQUESTS]);
        timed(curl.arg("--config").arg(file)).await
    }

    async fn by_syncsphere(&self, round: usize) -> Result<Duration> {
        let mut upload = self.command(&self.program);
        upload
            .args(["--json", "upload", "small/.", "--jobs", REQUESTS, "--to"])
            .arg(format!("/syncsphere-{round}/"))
            .env("SYNCSPHERE_URL", &self.gateway.url)
            .env("SYNCSPHERE_TOKEN", &self.token)
            .env("SYNCSPHERE_HOME", self.folder.join("home"));
        timed(&mut upload).await
    }

    fn command(&self, program: &Path) -> Command {
        command(program, self.cores.as_deref(), &self.folder)
    }
}

/// A command on these cores, in this folder.
fn command(program: &Path, cores: Option<&str>, folder: &Path) -> Command {
    let mut command = match cores {
        Some(cores) => {
            let mut taskset = Command::new("taskset");
            taskset.args(["-c", cores]).arg(program);
            taskset
        }
        None => Command::new(program),
    };
    command
        .current_dir(folder)
        .env("NO_PROXY", "127.0.0.1")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Runs a program to its end and returns its duration. Fails if the program fails.
async fn timed(command: &mut Command) -> Result<Duration> {
    let began = Instant::now();
    let output = command.output().await.context("cannot run a program")?;
    let took = began.elapsed();
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "a program failed: {}", stderr.trim());
    Ok(took)
}

/// Adds a request to curl's configuration.
fn write_put(config: &mut String, put: &PresignedPut, file: &Path) -> Result<()> {
    if !config.is_empty() {
        config.push_str("next\n");
    }
    let (url, file) = (&put.url, file.display());
    writeln!(
        config,
        "url = \"{url}\"\nupload-file = \"{file}\"\noutput = /dev/null\nfail\nsilent\nshow-error"
    )?;
    // The fake does not answer `Expect: 100-continue`, and curl would wait for a second.
    config.push_str("header = \"Expect:\"\n");
    for (name, value) in &put.headers {
        // curl computes the length itself.
        if !name.eq_ignore_ascii_case("content-length") {
            writeln!(config, "header = \"{name}: {value}\"")?;
        }
    }
    Ok(())
}
