//! `cargo xtask bench`: builds what is to be measured and what measures it, and runs it against a PostgreSQL of its own.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::environment::command;
use crate::postgres::{Postgres, free_address};
use crate::process;
use crate::project::Project;
use crate::stack::{build_functions, cargo_lambda_build};
use crate::tools;
use crate::ui::Step;

/// The package.
const PACKAGE: &str = "bench";

/// The benchmarks, in order.
pub const BENCHMARKS: [&str; 7] = [
    "complete",
    "fan-out",
    "cold",
    "feed",
    "connect",
    "backlog",
    "end-to-end",
];

/// What is measured, and how thoroughly.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Which benchmarks; all if none is named.
    #[arg(value_parser = BENCHMARKS)]
    names: Vec<String>,
    /// Only show that the benchmarks work: seconds instead of minutes, and figures that mean nothing.
    #[arg(long)]
    quick: bool,
    /// Measure these binaries instead of building the functions: a folder like target/lambda.
    #[arg(long)]
    binaries: Option<PathBuf>,
}

/// Runs benchmarks. A full run of all of them writes docs/performance.md.
pub(crate) async fn run(project: &Project, options: &Options) -> Result<()> {
    let _lock = project.lock()?;
    tools::install(project).await?;
    let (node, python) = tools::install_peers(project).await?;
    let binaries = match &options.binaries {
        Some(binaries) => binaries.clone(),
        None => build_functions(project, &project.root).await?,
    };
    let program = build(project).await?;

    let folder = project.run().join("bench");
    fs::create_dir_all(&folder).context("cannot create the benchmarks' folder")?;
    let step = Step::begin("starting PostgreSQL");
    let postgres = Postgres::start(project, &folder, free_address()?, &step).await?;
    step.done("");

    let mut bench = command(project, &program.display().to_string());
    let results = project.root.join("target").join(PACKAGE);
    fs::create_dir_all(&results).context("cannot create the results' folder")?;
    bench
        .arg("run")
        .args(["--database-url", &postgres.url()])
        .arg("--binaries")
        .arg(binaries)
        .arg("--events")
        .arg(project.root.join("events"))
        .arg("--folder")
        .arg(&folder)
        .arg("--json")
        .arg(results.join("results.json"))
        .arg("--python-peer")
        .arg(python);
    if let Some(node) = node {
        bench.arg("--node-peer").arg(node);
    }
    let whole = options.names.is_empty() && !options.quick;
    let page = if whole { project.root.join("docs") } else { results };
    bench.arg("--page").arg(page.join("performance.md"));
    if options.quick {
        bench.arg("--quick");
    }
    bench.args(&options.names);
    let status = process::attached(bench).await?;
    if !status.success() {
        bail!("a benchmark failed; the logs are in .local/run/bench");
    }
    Ok(())
}

/// With the same flags as the functions, since the limits are in it.
async fn build(project: &Project) -> Result<PathBuf> {
    let step = Step::begin("building the benchmarks");
    let arguments = [
        "--package",
        PACKAGE,
        "--bin",
        PACKAGE,
        "--bin",
        "limit-empty",
        "--bin",
        "limit-database",
    ]
    .map(str::to_owned);
    cargo_lambda_build(project, &project.root, &arguments, &step).await?;
    step.done("");
    Ok(project.root.join("target/lambda").join(PACKAGE).join("bootstrap"))
}
