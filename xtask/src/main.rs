//! `cargo xtask`: installs the tools for a command, builds the program that runs it, and replaces itself by
//! that program.

mod bench;

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::Parser as _;
use runner::arguments::{Cli, Command};
use runner::build;
use runner::environment;
use runner::project::Project;
use runner::services::Ports;
use runner::signals::until_interrupted;
use runner::template;
use runner::tools::{
    self, CARGO_LAMBDA, CHECKOV, EMULATOR, POSTGRES, SAM, SCHEMATHESIS, SEAWEEDFS, TEMPLATE, Tool,
};
use runner::ui::Step;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    until_interrupted(run(&cli)).await
}

async fn run(cli: &Cli) -> Result<()> {
    let project = Project::find()?;
    match &cli.command {
        Command::Tools => return tools::show(&project).await,
        Command::Template => {
            tools::install(&project, template::TOOLS).await?;
            return template::check(&project, Step::begin).await;
        }
        Command::Bench(options) => return bench::run(&project, options).await,
        Command::Simulate { arguments } => return Err(simulate(&project, arguments)),
        _ => {}
    }
    check(&project, cli)?;
    let program = program(&cli.command);
    let packages = packages(&project, program)?;
    let (folder, ()) = tokio::try_join!(
        build::build(&project, &packages),
        tools::install(&project, tools_of(&cli.command)),
    )?;
    Err(replace_by(&project, &folder.join(program)))
}

/// Finds predictable failures of a command before the build, which takes minutes.
fn check(project: &Project, cli: &Cli) -> Result<()> {
    if let Command::Deploy { .. } = cli.command {
        // A running stack holds the lock on the services.
        ensure!(
            project.check_unused().is_err(),
            "no stack is running; start one: cargo xtask up"
        );
        return Ok(());
    }
    if let Command::Demo { file, .. } = &cli.command {
        File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    }
    project.check_unused()?;
    if uses_ports(&cli.command) {
        Ports::from_base(cli.port)?.check()?;
    }
    Ok(())
}

/// Whether a command starts services on the ports from its command line. Other commands choose free ports.
fn uses_ports(command: &Command) -> bool {
    match command {
        Command::Up { address, .. } => address.is_loopback(),
        Command::Chaos(_) | Command::Cost(_) | Command::Deploy { .. } | Command::Samples => false,
        _ => true,
    }
}

/// The name of the program that runs a command.
fn program(command: &Command) -> &'static str {
    match command {
        Command::Chaos(_) => "chaos",
        Command::Cost(_) => "cost",
        _ => "stack",
    }
}

/// The packages to compile for a program. All sets contain the functions and the local stack, even where they
/// are not used. The packages of a call determine the features of their common dependencies, and cargo
/// compiles a crate once for each set of features.
fn packages(project: &Project, program: &str) -> Result<Vec<String>> {
    let mut packages = build::function_names(project)?;
    packages.push("stack".to_owned());
    if program != "stack" {
        packages.push(program.to_owned());
    }
    Ok(packages)
}

/// The tools that a command needs.
fn tools_of(command: &Command) -> &'static [Tool] {
    const LOCAL: &[Tool] = &[EMULATOR, POSTGRES, SAM];
    const RELEASE: &[Tool] = &[EMULATOR, POSTGRES, SAM, CARGO_LAMBDA];
    match command {
        Command::Up { services: true, .. } => &[EMULATOR, POSTGRES, CARGO_LAMBDA],
        Command::Demo { profile, .. } | Command::Up { profile, .. } | Command::Deploy { profile } => {
            if profile.release {
                RELEASE
            } else {
                LOCAL
            }
        }
        Command::Test {
            page: false,
            arguments,
        } if arguments.is_empty() => &[
            EMULATOR,
            POSTGRES,
            SAM,
            SCHEMATHESIS,
            SEAWEEDFS,
            TEMPLATE,
            CHECKOV,
        ],
        Command::Test { .. } => &[EMULATOR, POSTGRES, SAM, SEAWEEDFS],
        Command::Policies | Command::Throughput { quick: true } => LOCAL,
        Command::Throughput { quick: false } | Command::Update { .. } | Command::Samples => RELEASE,
        Command::Chaos(_) => &[POSTGRES, CARGO_LAMBDA],
        Command::Cost(options) => {
            if options.quick || options.development || options.recorded || options.binaries.is_some() {
                &[POSTGRES]
            } else {
                &[POSTGRES, CARGO_LAMBDA]
            }
        }
        // These commands install their own tools.
        Command::Bench(_) | Command::Simulate { .. } | Command::Template | Command::Tools => &[],
    }
}

/// Replaces this process by a program with the same arguments, so that the program handles signals and sets
/// the exit status. Returns only if the replacement fails.
fn replace_by(project: &Project, program: &Path) -> anyhow::Error {
    let mut command = environment::command(project, &program.display().to_string());
    // Relative paths on the command line refer to the developer's current folder.
    if let Ok(folder) = std::env::current_dir() {
        command.current_dir(folder);
    }
    let error = command.as_std_mut().args(std::env::args_os().skip(1)).exec();
    anyhow::Error::new(error).context(format!("cannot start {}", program.display()))
}

/// Replaces this program by cargo, which builds and runs the simulation of the sync engine alone: it needs neither
/// services nor tools.
fn simulate(project: &Project, arguments: &[String]) -> anyhow::Error {
    let mut command = environment::command(project, "cargo");
    command.args(["run", "--quiet", "--package", "sync", "--no-default-features"]);
    command.args(["--features", "simulation", "--bin", "simulate", "--"]);
    let error = command.as_std_mut().args(arguments).exec();
    anyhow::Error::new(error).context("cannot start cargo")
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::process;

    use super::*;

    /// The features of each crate when cargo compiles these packages.
    fn features(project: &Project, arguments: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
        let output = process::Command::new(env!("CARGO"))
            .current_dir(&project.root)
            .args(["tree", "--locked", "--prefix", "none", "--format", "{p} [{f}]"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let mut crates: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let text = String::from_utf8_lossy(&output.stdout);
        for line in text.lines().filter(|line| !line.is_empty()) {
            let (name, features) = line.trim_end_matches(" (*)").rsplit_once(" [").unwrap();
            let features = features.trim_end_matches(']').split(',').map(str::to_owned);
            crates.entry(name.to_owned()).or_default().extend(features);
        }
        crates
    }

    #[test]
    fn demo_quick_benchmarks_and_tests_share_what_they_compile() {
        let project = Project::find().unwrap();
        let tests = features(&project, &["--workspace", "--edges", "normal,build,dev"]);
        for program in ["stack", "bench"] {
            let packages = packages(&project, program).unwrap();
            let mut arguments = vec!["--edges", "normal,build"];
            for package in &packages {
                arguments.extend(["--package", package]);
            }
            for (name, features) in features(&project, &arguments) {
                assert_eq!(features, tests[&name], "{name}; see tools/{program}/Cargo.toml");
            }
        }
    }
}
