//! The pinned tools. uv, npm or cargo installs each of them into an environment of its own.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;
use tokio::task::spawn_blocking;

use crate::environment::command;
use crate::process;
use crate::project::Project;
use crate::ui::{self, Step};

/// A tool from the Python package index with all its dependencies, pinned by version.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    name: &'static str,
    requirements: &'static str,
}

/// The AWS emulator.
pub const EMULATOR: Tool = Tool {
    name: "emulator",
    requirements: include_str!("../../requirements/emulator.txt"),
};

/// The PostgreSQL server and its client programs.
pub const POSTGRES: Tool = Tool {
    name: "postgres",
    requirements: include_str!("../../requirements/postgres.txt"),
};

/// The AWS SAM CLI. It is separate from the emulator because the two need different versions of the same
/// packages.
pub const SAM: Tool = Tool {
    name: "sam",
    requirements: include_str!("../../requirements/sam.txt"),
};

/// cargo-lambda with Zig as its linker.
pub const CARGO_LAMBDA: Tool = Tool {
    name: "cargo-lambda",
    requirements: include_str!("../../requirements/cargo-lambda.txt"),
};

/// A property-based tester that generates requests from the API's `OpenAPI` description.
pub const SCHEMATHESIS: Tool = Tool {
    name: "schemathesis",
    requirements: include_str!("../../requirements/schemathesis.txt"),
};

/// Another implementation of S3, against which uploads are tested in addition to the emulator.
pub const SEAWEEDFS: Tool = Tool {
    name: "seaweedfs",
    requirements: include_str!("../../storage/requirements.txt"),
};

/// The checkers of the template: SAM's translator, cfn-lint and the list of all IAM actions.
pub const TEMPLATE: Tool = Tool {
    name: "template",
    requirements: include_str!("../../template/requirements.txt"),
};

/// Another checker of the template. It is separate because it needs other versions of the same packages.
pub const CHECKOV: Tool = Tool {
    name: "checkov",
    requirements: include_str!("../../template/checkov.txt"),
};

/// The Python implementation that benchmarks compare with.
const PYTHON_REFERENCE: Tool = Tool {
    name: "reference-python",
    requirements: include_str!("../../bench/references/python/requirements.txt"),
};

/// The installer of all other Python tools.
const UV: Tool = Tool {
    name: "uv",
    requirements: include_str!("../../requirements/uv.txt"),
};

/// The tools that `cargo xtask tools` installs and prints.
const ALL: [Tool; 5] = [EMULATOR, POSTGRES, SAM, CARGO_LAMBDA, SCHEMATHESIS];

/// The oldest Python version that all tools support.
const OLDEST_PYTHON: (u32, u32) = (3, 11);

/// The advice that is shown after a failed installation.
const INDEX_REMEDY: &str = "check the connection to the Python package index (uv's own settings apply, UV_DEFAULT_INDEX, HTTPS_PROXY and \
                            SSL_CERT_FILE among them) and run the command again";

/// Installs the tools that are missing. An interrupted installation is repeated.
pub async fn install(project: &Project, tools: &[Tool]) -> Result<()> {
    let is_missing = |tool: &&Tool| !is_installed(project, tool);
    if !tools.iter().any(|tool| is_missing(&tool)) {
        return Ok(());
    }
    let _lock = lock(project).await?;
    // Another command may have installed them in the meantime.
    let missing: Vec<&Tool> = tools.iter().filter(is_missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|tool| tool.name).collect();
    let step = Step::begin("installing tools");
    if !is_installed(project, &UV) {
        step.note("uv");
        install_uv(project, &step).await?;
    }
    for tool in missing {
        step.note(tool.name);
        install_one(project, tool, &step).await?;
    }
    step.done(names.join(", "));
    Ok(())
}

/// Prevents other commands from installing at the same time, for as long as the file is open.
async fn lock(project: &Project) -> Result<File> {
    let folder = project.tools();
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let path = folder.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let step = Step::begin("waiting for another command that installs tools");
            let file = spawn_blocking(move || file.lock().map(|()| file)).await??;
            step.done("");
            Ok(file)
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// The files with which `npm ci` installs the Node.js implementation that benchmarks compare with.
const NODE_REFERENCE: [(&str, &str); 5] = [
    (
        "package.json",
        include_str!("../../bench/references/node/package.json"),
    ),
    (
        "package-lock.json",
        include_str!("../../bench/references/node/package-lock.json"),
    ),
    (".npmrc", include_str!("../../bench/references/node/.npmrc")),
    (
        "bootstrap.mjs",
        include_str!("../../bench/references/node/bootstrap.mjs"),
    ),
    (
        "handler.mjs",
        include_str!("../../bench/references/node/handler.mjs"),
    ),
];

/// Installs the implementations that benchmarks compare with, and returns their folders. The first one is for
/// Node.js and contains the program; it is `None` without npm. The second one is for Python and contains
/// `bin/python`.
pub async fn install_references(project: &Project) -> Result<(Option<PathBuf>, PathBuf)> {
    install(project, &[PYTHON_REFERENCE]).await?;
    let node = if has_npm(project).await {
        Some(install_packages(project, "reference-node", &NODE_REFERENCE).await?)
    } else {
        ui::line(
            "… without the reference implementation in Node.js, because npm is missing: `apt-get install nodejs npm` or https://nodejs.org/",
        );
        None
    };
    Ok((node, folder(project, &PYTHON_REFERENCE)))
}

/// The files of the packages that test the web page: TypeScript's type checker and a browser driver. The page
/// itself needs none of them.
const WEB: [(&str, &str); 3] = [
    ("package.json", include_str!("../../../clients/web/package.json")),
    (
        "package-lock.json",
        include_str!("../../../clients/web/package-lock.json"),
    ),
    (".npmrc", include_str!("../../../clients/web/.npmrc")),
];

/// Installs the packages that test the web page. Returns their folder, or `None` without npm.
pub async fn install_web(project: &Project) -> Result<Option<PathBuf>> {
    if !has_npm(project).await {
        return Ok(None);
    }
    install_packages(project, "web", &WEB).await.map(Some)
}

/// The folder of the JavaScript client in the project.
pub const CLIENT: &str = "clients/js";

/// Installs the packages that check and test the JavaScript client. They are in its folder, where Node.js looks
/// for them. Returns false without npm.
pub async fn install_client(project: &Project) -> Result<bool> {
    if !has_npm(project).await {
        return Ok(false);
    }
    let folder = project.root.join(CLIENT);
    let file = folder.join("package-lock.json");
    let lock = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    // npm deletes the folder, and the receipt with it, before it installs.
    let receipt = folder.join("node_modules/.installed.json");
    if !fs::read_to_string(&receipt).is_ok_and(|installed| installed == lock) {
        let step = Step::begin("installing the packages of clients/js");
        npm_ci(
            project,
            &folder,
            &project.tools().join("client-install.log"),
            &[],
            &step,
        )
        .await?;
        fs::write(&receipt, lock).context("cannot record the installation")?;
        step.done("");
    }
    Ok(true)
}

/// Runs `npm ci` in a folder.
async fn npm_ci(project: &Project, folder: &Path, log: &Path, arguments: &[&str], step: &Step) -> Result<()> {
    let mut npm = command(project, "npm");
    npm.current_dir(folder)
        .args(["ci", "--no-audit", "--no-fund"])
        .args(arguments);
    let remedy =
        "check the connection to the npm registry (npm's own settings apply) and run the command again";
    process::run(step, log, npm, remedy).await
}

async fn has_npm(project: &Project) -> bool {
    let asking = command(project, "npm").arg("--version").output();
    asking.await.is_ok_and(|answer| answer.status.success())
}

/// Runs `npm ci` with these files in a folder of their own.
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
        npm_ci(
            project,
            &folder,
            &folder.join("install.log"),
            &["--omit=dev"],
            &step,
        )
        .await?;
        fs::write(&receipt, all).context("cannot record the installation")?;
        step.done("");
    }
    Ok(folder)
}

/// `cargo xtask tools`: installs the tools and prints their locations.
pub async fn show(project: &Project) -> Result<()> {
    install(project, &ALL).await?;
    for tool in ALL {
        ui::output(folder(project, &tool).join("bin").display());
    }
    Ok(())
}

fn folder(project: &Project, tool: &Tool) -> PathBuf {
    project.tools().join(tool.name)
}

/// The file that marks an installation as complete. It is written last, so that an incomplete or outdated
/// installation does not count.
fn receipt_file(folder: &Path) -> PathBuf {
    folder.join("installed.txt")
}

/// The text of the receipt: the requirements and the folder. The folder is included because the programs of a
/// Python environment do not work after it has been moved or copied.
fn receipt(folder: &Path, tool: &Tool) -> String {
    format!("# in {}\n{}", folder.display(), tool.requirements)
}

fn is_installed(project: &Project, tool: &Tool) -> bool {
    let folder = folder(project, tool);
    fs::read_to_string(receipt_file(&folder)).is_ok_and(|installed| installed == receipt(&folder, tool))
}

async fn python(project: &Project) -> Result<&'static str> {
    let remedy = "install Python 3.11 or newer: `apt-get install python3 python3-venv` or https://www.python.org/downloads/";
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

/// Creates an empty folder for a tool.
fn emptied(project: &Project, tool: &Tool) -> Result<PathBuf> {
    let folder = folder(project, tool);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

/// Installs uv with the pip of a Python virtual environment.
async fn install_uv(project: &Project, step: &Step) -> Result<()> {
    let python = python(project).await?;
    let folder = emptied(project, &UV)?;
    let log = project.logs().join("uv.log");
    let mut environment = command(project, python);
    environment.args(["-m", "venv"]).arg(&folder);
    process::run(step, &log, environment, "is there space on the disk?").await?;

    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, UV.requirements)
        .with_context(|| format!("cannot write {}", requirements.display()))?;
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "install", "--no-deps", "--disable-pip-version-check"]);
    pip.args(["--progress-bar", "off", "-r"]).arg(&requirements);
    let remedy = "check the connection to the Python package index (pip's own settings apply) and run the command again";
    process::run(step, &log, pip, remedy).await?;
    fs::write(receipt_file(&folder), receipt(&folder, &UV)).context("cannot record the installation")
}

/// Installs a tool with uv, which takes seconds where pip takes minutes.
async fn install_one(project: &Project, tool: &Tool, step: &Step) -> Result<()> {
    let folder = emptied(project, tool)?;
    let log = project.logs().join(format!("{}.log", tool.name));
    let mut environment = uv(project);
    environment
        .args(["venv", "--quiet", "--allow-existing", "--python", "python3"])
        .arg(&folder);
    process::run(step, &log, environment, "is there space on the disk?").await?;

    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, tool.requirements)
        .with_context(|| format!("cannot write {}", requirements.display()))?;
    let mut install = uv(project);
    install
        .args(["pip", "install", "--no-deps", "--python"])
        .arg(folder.join("bin/python"))
        .arg("-r")
        .arg(&requirements);
    process::run(step, &log, install, INDEX_REMEDY).await?;
    fs::write(receipt_file(&folder), receipt(&folder, tool)).context("cannot record the installation")
}

/// A uv command that uses this machine's Python and certificates.
fn uv(project: &Project) -> Command {
    let program = folder(project, &UV).join("bin/uv");
    let mut uv = command(project, &program.display().to_string());
    uv.env("UV_NO_PROGRESS", "1")
        .env("UV_PYTHON_DOWNLOADS", "never")
        .env("UV_SYSTEM_CERTS", "1");
    uv
}
