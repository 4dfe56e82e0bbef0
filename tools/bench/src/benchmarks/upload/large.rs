//! `syncsphere upload` of one large file, which is sent in parts.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use client::{Client, LocalFile, Source as _, Token};
use fakes::http::Fault;
use fakes::s3::S3;
use model::{PartNumber, PartRequest, PresignPartsRequest, Transfer};

use super::{command, timed, write_put};
use crate::benchmarks::{LATENCY_OF_AWS, each, number, progress};
use crate::gateway::Gateway;
use crate::harness::{Harness, with};
use crate::report::{Row, Unit};
use crate::settings::BUCKET;

/// Concurrent parts, of `syncsphere` and of curl.
pub(super) const PARTS_AT_ONCE: usize = 4;

const MIB: usize = 1024 * 1024;

/// MiB per second.
struct Round {
    ours: f64,
    puts: f64,
}

/// Measures the upload with a fake of S3 that has only the objects that it was sent.
pub(super) async fn run(harness: &Harness) -> Result<Row> {
    let services = harness.services(false).await?;
    let s3 = S3::start(None, BUCKET, || Fault::None).await?;
    for server in [&s3.server, &services.sqs.server] {
        server.set_latency(LATENCY_OF_AWS);
    }
    let user = harness.user().await?;
    let variables = harness.variables(&services, harness.direct_url());
    let variables = with(variables, "AWS_ENDPOINT_URL_S3", &s3.endpoint());
    let gateway = Gateway::start(harness, &variables, &user).await?;
    let bench = Bench {
        program: harness.options.syncsphere.clone(),
        device: Client::new(&gateway.url, Token::from(user.id.clone()), None)?,
        token: user.id,
        url: gateway.url.clone(),
        folder: harness.options.folder.join("large"),
        cores: (harness.cores > 1).then(|| format!("0-{}", harness.cores - 1)),
        mebibytes: harness.size(1_024, 80),
    };
    bench.make_file()?;
    let mut rounds = Vec::new();
    for round in 0..=harness.rounds() {
        progress(&format!("  a file of {} MiB, round {round}", bench.mebibytes));
        let figures = bench.round(round).await?;
        // The first round only makes connections, and is not counted.
        if round > 0 {
            rounds.push(figures);
        }
    }
    Ok(Row::ratio(
        format!("a file of {} MiB, MiB per second", bench.mebibytes),
        Unit::PerSecond,
        each(&rounds, |round| round.ours),
        "curl, PUT requests alone",
        each(&rounds, |round| round.puts),
    )
    .at_least(0.7, Some(0.9)))
}

struct Bench {
    program: PathBuf,
    device: Client,
    token: String,
    url: String,
    folder: PathBuf,
    /// Cores of `syncsphere` and curl, in `taskset` syntax. This process leaves one out.
    cores: Option<String>,
    mebibytes: usize,
}

impl Bench {
    fn make_file(&self) -> Result<()> {
        fs::create_dir_all(&self.folder).context("cannot make a folder")?;
        let mut file = File::create(self.file()).context("cannot make a file")?;
        for number in 0..self.mebibytes {
            let block = number.to_be_bytes().repeat(MIB / size_of::<usize>());
            file.write_all(&block).context("cannot write a file")?;
        }
        Ok(())
    }

    fn file(&self) -> PathBuf {
        self.folder.join("film")
    }

    async fn round(&self, round: usize) -> Result<Round> {
        let puts = self.by_curl(round).await?;
        let ours = self.by_syncsphere(round).await?;
        let speed = |time: Duration| number(self.mebibytes) / time.as_secs_f64();
        Ok(Round {
            ours: speed(ours),
            puts: speed(puts),
        })
    }

    /// The time of the PUT requests. The upload is not completed.
    async fn by_curl(&self, round: usize) -> Result<Duration> {
        let content = LocalFile::open(self.file()).await?;
        let path = format!("/film-by-curl-{round}").parse()?;
        let description = self.device.describe_unread(None, path, &content)?;
        let created = self.device.create_upload(&description, None).await?;
        let Transfer::Multipart(layout) = created.transfer else {
            bail!("the file is not sent in parts");
        };
        let mut parts = Vec::new();
        for number in 1..=layout.part_count.get() {
            let part_number = PartNumber::try_from(number)?;
            let length = layout.size_of(part_number, description.size);
            let length = length.context("a part too many")?.get().unsigned_abs();
            let offset = ((number - 1) * layout.part_size.get()).unsigned_abs();
            let piece = content.read(offset, length).await?;
            // curl can only send whole files.
            fs::write(self.part(part_number), &piece).context("cannot write a part")?;
            let sha256 = client::sha256(&piece);
            parts.push(PartRequest { part_number, sha256 });
        }
        let mut config = String::new();
        for page in parts.chunks(PresignPartsRequest::MAX_PARTS) {
            let presigned = self.device.presign_parts(created.upload_id, page.to_vec());
            for part in presigned.await?.parts {
                write_put(&mut config, &part.put, &self.part(part.part_number))?;
            }
        }
        let file = self.folder.join("curl.config");
        fs::write(&file, config).context("cannot write curl's configuration")?;
        let mut curl = self.command(Path::new("curl"));
        curl.args(["--parallel", "--parallel-immediate", "--parallel-max"]);
        curl.arg(PARTS_AT_ONCE.to_string()).arg("--config").arg(file);
        let took = timed(&mut curl).await?;
        self.device.abort_upload(created.upload_id).await?;
        Ok(took)
    }

    fn part(&self, number: PartNumber) -> PathBuf {
        self.folder.join(format!("part-{number}"))
    }

    async fn by_syncsphere(&self, round: usize) -> Result<Duration> {
        let mut upload = self.command(&self.program);
        upload
            .args(["--json", "upload", "film", "--to"])
            .arg(format!("/film-{round}"))
            .env("SYNCSPHERE_URL", &self.url)
            .env("SYNCSPHERE_TOKEN", &self.token)
            .env("SYNCSPHERE_HOME", self.folder.join("home"));
        timed(&mut upload).await
    }

    fn command(&self, program: &Path) -> tokio::process::Command {
        command(program, self.cores.as_deref(), &self.folder)
    }
}
