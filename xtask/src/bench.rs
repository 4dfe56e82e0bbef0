//! `cargo xtask bench`: builds the functions and the benchmark program, and runs the benchmarks with their
//! own PostgreSQL.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use runner::arguments::Bench;
use runner::build::{self, build_functions, cargo_lambda_build};
use runner::environment::command;
use runner::postgres::{Postgres, free_address};
use runner::process;
use runner::project::Project;
use runner::tools::{self, CARGO_LAMBDA, POSTGRES};
use runner::ui::Step;

use crate::packages;

/// The package of the benchmark program.
const PACKAGE: &str = "bench";

/// The package of the command that one of the benchmarks runs.
const COMMAND: &str = "syncsphere";

/// Runs the selected benchmarks. A full run of all of them writes docs/performance.md.
pub(crate) async fn run(project: &Project, options: &Bench) -> Result<()> {
    let _lock = project.lock()?;
    tools::install(project, &[POSTGRES, CARGO_LAMBDA]).await?;
    let (node, python) = tools::install_references(project).await?;
    let binaries = match &options.binaries {
        Some(binaries) => binaries.clone(),
        None => build_functions(project, &project.root).await?,
    };
    let (program, syncsphere) = if options.quick {
        let mut packages = packages(project, PACKAGE)?;
        packages.push(COMMAND.to_owned());
        let programs = build::build(project, &packages).await?;
        (programs.join(PACKAGE), programs.join(COMMAND))
    } else {
        build_optimized(project).await?
    };

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
        .arg("--syncsphere")
        .arg(syncsphere)
        .arg("--python-reference")
        .arg(python);
    if let Some(node) = node {
        bench.arg("--node-reference").arg(node);
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

/// Builds the benchmark program with the flags of the functions, because it contains the baselines, and
/// `syncsphere` as in a release. Returns both. A quick run does not need this, because its figures mean
/// nothing. There the programs are built like all other tools, and only the functions are built as they are
/// deployed.
async fn build_optimized(project: &Project) -> Result<(PathBuf, PathBuf)> {
    let step = Step::begin("building the benchmarks");
    let arguments = [
        "--package",
        PACKAGE,
        "--bin",
        PACKAGE,
        "--bin",
        "baseline-empty",
        "--bin",
        "baseline-database",
    ]
    .map(str::to_owned);
    cargo_lambda_build(project, &project.root, &arguments, &step).await?;
    step.done("");
    let step = Step::begin("building syncsphere");
    let mut cargo = build::cargo(project);
    cargo.args(["build", "--release", "--package", COMMAND, "--bin", COMMAND]);
    let log = project.logs().join("syncsphere.log");
    process::run(&step, &log, cargo, build::BUILD_REMEDY).await?;
    step.done("");
    let program = project.root.join("target/lambda").join(PACKAGE).join("bootstrap");
    Ok((program, build::target(project).join("release").join(COMMAND)))
}
