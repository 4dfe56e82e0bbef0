//! `cargo xtask cost`: runs workloads, counts what AWS would bill, and multiplies the counts with AWS's prices.
//!
//! The functions are real processes and PostgreSQL is real. S3, SQS, API Gateway and the event source mapping
//! are fakes in this process, which count. The clients are the command `syncsphere` and the client library.

mod api;
mod counts;
mod document;
mod functions;
mod prices;
mod queue;
mod sockets;
mod tables;
mod template;
mod text;
mod workloads;
mod world;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, ensure};
use runner::arguments::Cost;
use runner::build::{self, BUILD_REMEDY, build_functions, cargo};
use runner::process;
use runner::project::Project;
use runner::ui::{self, Step};

use counts::Recorded;
use prices::Prices;
use template::Template;
use workloads::Scale;

/// Runs the workloads and writes their price into docs/operations.md. Quick runs write nothing.
pub async fn run(project: &Project, options: &Cost) -> Result<()> {
    let prices = Prices::read(project)?;
    let template = Arc::new(Template::read(project)?);
    if options.recorded {
        let recorded = Recorded::read(project)?;
        return document::write(project, &tables::tables(&recorded, &prices, &template));
    }
    let _lock = project.lock()?;
    let command = build_command(project).await?;
    let (binaries, profile) = match &options.binaries {
        Some(folder) => (std::path::absolute(folder)?, "release"),
        None if options.quick || options.development => (functions::development(project)?, "development"),
        None => (build_functions(project, &project.root).await?, "release"),
    };
    let scale = if options.quick { Scale::QUICK } else { Scale::FULL };
    let counted = workloads::run(project, &template, &binaries, &command, &scale).await?;
    let recorded = Recorded::new(profile, counted);
    let tables = tables::tables(&recorded, &prices, &template);
    ui::output(&tables);
    if options.quick {
        let differences = recorded.differences(&Recorded::read(project)?);
        ensure!(
            differences.is_empty(),
            "the price in docs/operations.md is of other requests; run `cargo xtask cost`:\n{}",
            differences.join("\n")
        );
        return Ok(());
    }
    recorded.write(project)?;
    document::write(project, &tables)
}

/// Builds the command `syncsphere` and returns its path.
async fn build_command(project: &Project) -> Result<PathBuf> {
    let step = Step::begin("building syncsphere");
    let mut cargo = cargo(project);
    cargo.args(["build", "--package", "syncsphere", "--bin", "syncsphere"]);
    let log = project.logs().join("syncsphere.log");
    process::run(&step, &log, cargo, BUILD_REMEDY).await?;
    step.done("");
    Ok(build::programs(project).join("syncsphere"))
}
