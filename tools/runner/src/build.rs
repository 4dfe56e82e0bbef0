//! Builds with cargo for this machine and with cargo-lambda for Lambda.

use std::env;
use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

use crate::environment::command;
use crate::process;
use crate::project::Project;
use crate::ui::Step;

/// The advice that is shown after a failed build.
pub const BUILD_REMEDY: &str = "correct the code and run the command again";

/// Builds programs for this machine in the development profile and returns their folder. Each program has the
/// name of its package.
///
/// All packages are built in one call, because the packages of a call determine the features of their common
/// dependencies, and cargo compiles a crate once for each set of features.
pub async fn build(project: &Project, packages: &[String]) -> Result<PathBuf> {
    let step = Step::begin(format!("compiling {}", described(packages)));
    let mut cargo = cargo(project);
    cargo.args(["build", "--bins"]);
    for package in packages {
        cargo.args(["--package", package]);
    }
    process::run(&step, &project.logs().join("cargo.log"), cargo, BUILD_REMEDY).await?;
    step.done("");
    Ok(programs(project))
}

fn described(packages: &[String]) -> String {
    match packages {
        [one] => one.clone(),
        several => format!("{} programs", several.len()),
    }
}

/// The folder in which cargo puts programs.
pub fn programs(project: &Project) -> PathBuf {
    target(project).join("debug")
}

/// The build folder of cargo.
pub fn target(project: &Project) -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => project.root.join(folder),
        None => project.root.join("target"),
    }
}

/// The cargo that started this program.
pub fn cargo(project: &Project) -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    command(project, &cargo.to_string_lossy())
}

/// Builds the functions of the release in `folder` with the flags of a deployment to AWS. Returns a folder
/// with a subfolder for each function, which contains `bootstrap`.
pub async fn build_functions(project: &Project, folder: &Path) -> Result<PathBuf> {
    let step = Step::begin("building (cargo lambda)");
    // The functions with and without an S3 client are built separately. The S3 client depends on crc-fast,
    // which is also a C library, and its dependencies are then compiled differently. SAM builds one function
    // at a time and would otherwise compile half of them again.
    let (with_s3, without): (Vec<_>, Vec<_>) = functions(folder)?
        .into_iter()
        .partition(|(_, manifest)| manifest.contains("storage = "));
    for part in [with_s3, without] {
        let binaries = part.into_iter().flat_map(|(name, _)| ["--bin".to_owned(), name]);
        cargo_lambda_build(project, folder, &binaries.collect::<Vec<_>>(), &step).await?;
    }
    step.done("");
    Ok(folder.join("target/lambda"))
}

/// `cargo lambda build --release` with some arguments.
pub async fn cargo_lambda_build(
    project: &Project,
    folder: &Path,
    arguments: &[String],
    step: &Step,
) -> Result<()> {
    let mut cargo = command(project, "cargo");
    cargo.current_dir(folder);
    cargo.args(["lambda", "build", "--release"]).args(arguments);
    if architecture()? == "arm64" {
        cargo.arg("--arm64");
    }
    process::run(
        step,
        &project.logs().join("cargo-lambda.log"),
        cargo,
        BUILD_REMEDY,
    )
    .await
}

/// The names of the functions in this checkout.
pub fn function_names(project: &Project) -> Result<Vec<String>> {
    let functions = functions(&project.root)?;
    Ok(functions.into_iter().map(|(name, _)| name).collect())
}

/// The functions of the release in `folder`, as pairs of name and manifest. They are the packages in
/// `functions/` that have a program.
fn functions(folder: &Path) -> Result<Vec<(String, String)>> {
    let all = folder.join("functions");
    let entries = fs::read_dir(&all).with_context(|| format!("cannot read {}", all.display()))?;
    let mut functions = Vec::new();
    for entry in entries.filter_map(Result::ok) {
        let function = entry.path();
        if function.join("src/main.rs").exists() {
            let manifest =
                fs::read_to_string(function.join("Cargo.toml")).context("a function has no manifest")?;
            functions.push((entry.file_name().to_string_lossy().into_owned(), manifest));
        }
    }
    functions.sort_unstable();
    Ok(functions)
}

/// The name that Lambda uses for this machine's architecture.
pub fn architecture() -> Result<&'static str> {
    match ARCH {
        "x86_64" => Ok("x86_64"),
        "aarch64" => Ok("arm64"),
        other => bail!("Lambda does not run on {other}, so its functions cannot run on this machine"),
    }
}
