//! `cargo xtask chaos`: runs the deployed functions while their dependencies fail, then checks the outcome.
//!
//! The functions are real processes and PostgreSQL is real. S3, SQS, EventBridge and API Gateway are faked in
//! this process so that they can fail at chosen moments. The checker compares only what clients, fakes and
//! PostgreSQL observed, never what a function reports.

mod api;
mod bus;
mod checker;
mod cluster;
mod database;
mod device;
mod event_source_mapping;
mod faults;
mod functions;
mod history;
mod hostile;
mod metrics;
mod outage;
mod phase;
mod planted;
mod proxy;
mod replica;
mod report;
mod run;
mod s3;
mod schedule;
mod sharing;
mod sqs;
mod upload;
mod violations;
mod websocket_api;
mod workload;

use anyhow::{Result, bail};
use futures_util::stream::{self, StreamExt as _};

use report::Report;
use run::Plan;
use runner::arguments::Chaos;
use runner::build::build_functions;
use runner::project::Project;
use runner::ui;

/// Runs the requested kind of chaos test. Fails if anything was lost or unexpected.
pub async fn run(project: &Project, options: &Chaos) -> Result<()> {
    let _lock = project.lock()?;
    let first = options.seed.unwrap_or_else(fresh_seed);
    ui::line(format_args!("seed {first}"));
    if options.planted {
        return planted::run(project, first, options.uploads).await;
    }
    let binaries = match &options.binaries {
        Some(folder) => std::path::absolute(folder)?,
        None => build_functions(project, &project.root).await?,
    };
    if options.outage {
        let plan = Plan {
            binaries,
            seed: first,
            uploads: options.uploads,
        };
        return outage::run(project, &plan, options.json).await;
    }
    if options.hostile {
        let plan = Plan {
            binaries,
            seed: first,
            uploads: options.uploads,
        };
        let report = hostile::run(project, &plan, options.json).await?;
        report.show();
        if !report.is_clean() {
            bail!("{} lost, {} unexpected", report.lost, report.unexpected);
        }
        return Ok(());
    }
    let plans = (0..options.seeds).map(|number| Plan {
        binaries: binaries.clone(),
        seed: first.wrapping_add(number),
        uploads: options.uploads,
    });
    let runs = stream::iter(plans).map(|plan| async move { run::run(project, &plan).await });
    let mut runs = runs.buffer_unordered(options.jobs.max(1));
    let (mut done, mut failed) = (0_u64, Vec::new());
    let (mut lost, mut unexpected) = (0, 0);
    while let Some(report) = runs.next().await {
        let report = report?;
        done += 1;
        lost += report.lost;
        unexpected += report.unexpected;
        if !report.is_clean() {
            failed.push(report.seed);
        }
        show(&report, options)?;
    }
    if options.seeds > 1 {
        ui::line(format_args!(
            "{done} runs: lost {lost}, unexpected {unexpected}; seeds that failed: {failed:?}"
        ));
    }
    if !failed.is_empty() {
        bail!("{lost} lost, {unexpected} unexpected");
    }
    Ok(())
}

fn show(report: &Report, options: &Chaos) -> Result<()> {
    if options.json {
        ui::output(serde_json::to_string(report)?);
    }
    if options.seeds == 1 {
        report.show();
    } else {
        report.show_violations();
    }
    Ok(())
}

fn fresh_seed() -> u64 {
    // A seed that is short enough to type.
    let (_, low) = platform::ids::new_id().as_u64_pair();
    low % 1_000_000
}
