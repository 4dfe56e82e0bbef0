//! Runs the tests of the template and of the tools in Python, which need no service.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::available_parallelism;

use anyhow::{Context as _, Result};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::environment::command;
use crate::process;
use crate::project::Project;
use crate::tools::{CHECKOV, SAM, TEMPLATE, Tool};
use crate::ui::Step;

/// The tools that [`check`] needs.
pub const TOOLS: &[Tool] = &[SAM, TEMPLATE, CHECKOV];

/// The folders that contain Python test modules.
const FOLDERS: [&str; 2] = ["tools", "tools/template"];

/// Runs all test modules, as many at once as there are cores. Fails if one of them fails. `begin` starts the
/// step.
pub async fn check(project: &Project, begin: fn(String) -> Step) -> Result<()> {
    let modules = modules(project)?;
    let step = Arc::new(begin("testing the template (python)".to_owned()));
    let cores = Arc::new(Semaphore::new(available_parallelism().map_or(1, usize::from)));
    let count = modules.len();
    let mut running = JoinSet::new();
    for module in modules {
        let (project, step, cores) = (project.clone(), Arc::clone(&step), Arc::clone(&cores));
        running.spawn(async move {
            let _core = cores.acquire().await?;
            test(&project, &module, &step).await
        });
    }
    while let Some(outcome) = running.join_next().await {
        outcome.context("a test could not be waited for")??;
    }
    if let Some(step) = Arc::into_inner(step) {
        step.done(format_args!("{count} modules"));
    }
    Ok(())
}

fn modules(project: &Project) -> Result<Vec<PathBuf>> {
    let mut modules = Vec::new();
    for folder in FOLDERS {
        let folder = project.root.join(folder);
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        modules.extend(
            entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|file| {
                    let name = file.file_name().unwrap_or_default().to_string_lossy();
                    name.starts_with("test_") && name.ends_with(".py")
                }),
        );
    }
    modules.sort();
    Ok(modules)
}

async fn test(project: &Project, module: &Path, step: &Step) -> Result<()> {
    let name = module
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let python = project.tools().join("template/bin/python");
    let mut test = command(project, &python.display().to_string());
    test.args(["-m", "unittest", &name])
        .env("PYTHONPATH", module.parent().unwrap_or(module));
    let log = project.logs().join(format!("{name}.log"));
    process::run(step, &log, test, "correct the template or the test").await
}
