//! Measures the functions as deployed and compares them with baselines and references. `cargo xtask bench`
//! builds everything needed and runs this program.

mod baselines;
mod benchmarks;
mod database;
mod gateway;
mod harness;
mod posts;
mod process;
mod report;
mod requests;
mod settings;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};

use harness::{Harness, Options};
use report::{Machine, Report};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run benchmarks.
    Run(Box<Arguments>),
    /// Runs the baseline of posting as a function, like the commands below.
    BaselinePosts,
    BaselineComplete,
    BaselineCommits,
    BaselineConnect,
}

#[derive(clap::Args)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Where the figures go, as JSON.
    #[arg(long)]
    json: PathBuf,
    /// Where the page goes, and its plots beside it.
    #[arg(long)]
    page: Option<PathBuf>,
    /// Which; all if none is named.
    #[arg(value_parser = runner::arguments::BENCHMARKS)]
    names: Vec<String>,
}

fn main() -> ExitCode {
    match main_with_result() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "talking to the developer")]
            {
                eprintln!("✗ {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn main_with_result() -> Result<()> {
    let cli = Cli::parse();
    match cli.command {
        Command::BaselinePosts => function(baselines::posts::run()),
        Command::BaselineComplete => function(baselines::complete::run()),
        Command::BaselineCommits => function(baselines::commits::run()),
        Command::BaselineConnect => function(baselines::connect::run()),
        Command::Run(arguments) => run(*arguments),
    }
}

/// Runs a function on a single thread, as the deployed functions do.
fn function(work: impl Future<Output = Result<(), lambda_runtime::Error>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(work).map_err(|error| anyhow::anyhow!(error))
}

fn run(arguments: Arguments) -> Result<()> {
    let Arguments {
        options,
        json,
        page,
        names,
    } = arguments;
    // Must run before any thread starts, because threads inherit the affinity.
    let cores = process::leave_core()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    let report = runtime.block_on(async {
        let harness = Harness::start(options, cores).await?;
        let benchmarks = benchmarks::run(&harness, &names).await?;
        Ok::<_, anyhow::Error>(Report {
            machine: machine(cores),
            quick: harness.options.quick,
            benchmarks,
        })
    })?;
    fs::write(json, serde_json::to_vec_pretty(&report)?).context("cannot write the figures")?;
    if let Some(page) = page {
        let plots = page.with_extension("");
        fs::create_dir_all(&plots).context("cannot create the plots' folder")?;
        for benchmark in &report.benchmarks {
            if let Some(plot) = &benchmark.plot {
                let path = plots.join(format!("{}.svg", benchmark.name));
                fs::write(&path, report::svg(plot)?).context("cannot write a plot")?;
            }
        }
        fs::write(&page, report::page(&report)).context("cannot write the page")?;
    }
    #[expect(clippy::print_stdout, reason = "the program's result")]
    {
        println!("{}", report::terminal(&report));
    }
    let exceeded: Vec<String> = report
        .exceeded()
        .map(|(benchmark, count)| {
            format!(
                "{}: {} is {}, at most {}",
                benchmark.name, count.what, count.counted, count.most
            )
        })
        .collect();
    if !exceeded.is_empty() {
        bail!("counted too often: {}", exceeded.join("; "));
    }
    Ok(())
}

fn machine(cores: usize) -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processor = read("/proc/cpuinfo");
    let processor = processor
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    Machine {
        processor: processor.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned()),
        cores,
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
    }
}
