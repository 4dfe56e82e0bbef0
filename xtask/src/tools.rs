//! The pinned tools, each in a Python environment of its own.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

use crate::environment::command;
use crate::process;
use crate::project::Project;
use crate::ui::{self, Step};

/// A tool and everything that it needs, version by version.
struct Tool {
    name: &'static str,
    requirements: &'static str,
}

/// The emulator and SAM need different versions of the same packages, so each tool is on its own.
const TOOLS: [Tool; 5] = [
    Tool {
        name: "emulator",
        requirements: include_str!("../requirements/emulator.txt"),
    },
    Tool {
        name: "postgres",
        requirements: include_str!("../requirements/postgres.txt"),
    },
    Tool {
        name: "sam",
        requirements: include_str!("../requirements/sam.txt"),
    },
    Tool {
        name: "cargo-lambda",
        requirements: include_str!("../requirements/cargo-lambda.txt"),
    },
    Tool {
        name: "schemathesis",
        requirements: include_str!("../requirements/schemathesis.txt"),
    },
];

/// The oldest Python that all tools run on.
const OLDEST_PYTHON: (u32, u32) = (3, 10);

/// Installs what is missing. An installation that was interrupted is done again.
pub(crate) async fn install(project: &Project) -> Result<()> {
    let missing: Vec<&Tool> = TOOLS.iter().filter(|tool| !is_installed(project, tool)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let python = python(project).await?;
    for tool in missing {
        install_one(project, tool, python).await?;
    }
    Ok(())
}

/// What `npm ci` installs a peer from.
const NODE_PEER: [(&str, &str); 5] = [
    (
        "package.json",
        include_str!("../../bench/peers/node/package.json"),
    ),
    (
        "package-lock.json",
        include_str!("../../bench/peers/node/package-lock.json"),
    ),
    (".npmrc", include_str!("../../bench/peers/node/.npmrc")),
    (
        "bootstrap.mjs",
        include_str!("../../bench/peers/node/bootstrap.mjs"),
    ),
    ("handler.mjs", include_str!("../../bench/peers/node/handler.mjs")),
];

/// The packages of the peer in Python.
const PYTHON_PEER: Tool = Tool {
    name: "peer-python",
    requirements: include_str!("../../bench/peers/python/requirements.txt"),
};

/// Installs the peers of benchmarks, and returns their folders: of Node.js, with the program in it, if there is one; and of Python, with
/// `bin/python`.
pub(crate) async fn install_peers(project: &Project) -> Result<(Option<PathBuf>, PathBuf)> {
    if !is_installed(project, &PYTHON_PEER) {
        install_one(project, &PYTHON_PEER, python(project).await?).await?;
    }
    let node = if has_npm(project).await {
        Some(install_packages(project, "peer-node", &NODE_PEER).await?)
    } else {
        ui::line(
            "… without the peer in Node.js, for there is no npm: `apt-get install nodejs npm` or https://nodejs.org/",
        );
        None
    };
    Ok((node, folder(project, &PYTHON_PEER)))
}

/// What the page is tested with: TypeScript's checker, and what drives a browser. The page itself needs no package.
const WEB: [(&str, &str); 3] = [
    ("package.json", include_str!("../../client/web/package.json")),
    (
        "package-lock.json",
        include_str!("../../client/web/package-lock.json"),
    ),
    (".npmrc", include_str!("../../client/web/.npmrc")),
];

/// Installs what the page is tested with, and returns its folder, if there is an npm.
pub(crate) async fn install_web(project: &Project) -> Result<Option<PathBuf>> {
    if !has_npm(project).await {
        return Ok(None);
    }
    install_packages(project, "web", &WEB).await.map(Some)
}

async fn has_npm(project: &Project) -> bool {
    let asking = command(project, "npm").arg("--version").output();
    asking.await.is_ok_and(|answer| answer.status.success())
}

/// `npm ci` of these files, in a folder of their own.
async fn install_packages(project: &Project, name: &str, files: &[(&str, &str)]) -> Result<PathBuf> {
    let folder = project.tools().join(name);
    let all: String = files.iter().map(|(_, text)| *text).collect();
    let receipt = folder.join("installed.txt");
    if !fs::read_to_string(&receipt).is_ok_and(|installed| installed == all) {
        let step = Step::begin(format!("installing {name}"));
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        for (name, text) in files {
            fs::write(folder.join(name), text).with_context(|| format!("cannot write {name}"))?;
        }
        let mut npm = command(project, "npm");
        npm.current_dir(&folder)
            .args(["ci", "--omit=dev", "--no-audit", "--no-fund"]);
        let remedy =
            "check the connection to the npm registry (npm's own settings apply) and run the command again";
        process::run(&step, &folder.join("install.log"), npm, remedy).await?;
        fs::write(&receipt, all).context("cannot record the installation")?;
        step.done("");
    }
    Ok(folder)
}

/// `cargo xtask tools`.
pub(crate) async fn show(project: &Project) -> Result<()> {
    // Asking where they are is fine while something runs.
    if TOOLS.iter().any(|tool| !is_installed(project, tool)) {
        let _lock = project.lock()?;
        install(project).await?;
    }
    for tool in TOOLS {
        ui::output(folder(project, &tool).join("bin").display());
    }
    Ok(())
}

fn folder(project: &Project, tool: &Tool) -> PathBuf {
    project.tools().join(tool.name)
}

/// Written last, with what was installed, so that a half-done or outdated installation does not count.
fn receipt(project: &Project, tool: &Tool) -> PathBuf {
    folder(project, tool).join("installed.txt")
}

fn is_installed(project: &Project, tool: &Tool) -> bool {
    fs::read_to_string(receipt(project, tool)).is_ok_and(|installed| installed == tool.requirements)
}

async fn python(project: &Project) -> Result<&'static str> {
    let remedy = "install Python 3.10 or newer: `apt-get install python3 python3-venv` or https://www.python.org/downloads/";
    let asking = command(project, "python3")
        .args([
            "-c",
            "import sys, venv, ensurepip; print(sys.version_info.major, sys.version_info.minor)",
        ])
        .output();
    let answer = asking
        .await
        .with_context(|| format!("python3 is missing; {remedy}"))?;
    if !answer.status.success() {
        bail!("this python3 cannot make virtual environments; {remedy}");
    }
    let answer = String::from_utf8_lossy(&answer.stdout);
    let version: Vec<u32> = answer
        .split_whitespace()
        .filter_map(|part| part.parse().ok())
        .collect();
    match version[..] {
        [major, minor] if (major, minor) >= OLDEST_PYTHON => Ok("python3"),
        _ => bail!("python3 is version {}; {remedy}", answer.trim()),
    }
}

async fn install_one(project: &Project, tool: &Tool, python: &str) -> Result<()> {
    let folder = folder(project, tool);
    let step = Step::begin(format!("installing {}", tool.name));
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let log = folder.join("install.log");

    let mut environment = command(project, python);
    environment.args(["-m", "venv"]).arg(&folder);
    process::run(&step, &log, environment, "is there space on the disk?").await?;

    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, tool.requirements)
        .with_context(|| format!("cannot write {}", requirements.display()))?;
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args([
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--disable-pip-version-check",
        "--progress-bar",
        "off",
        "-r",
    ]);
    pip.arg(&requirements);
    let remedy = "check the connection to the Python package index (pip's own settings apply) and run the command again";
    process::run(&step, &log, pip, remedy).await?;

    fs::write(receipt(project, tool), tool.requirements).context("cannot record the installation")?;
    step.done("");
    Ok(())
}
