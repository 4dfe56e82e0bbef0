//! Tests of the JavaScript client and of the web page: their types, their modules under Node.js, the packed client
//! against the local stack, and the page in Chromium against the local stack.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::deployment::{PASSWORD, Stack};
use crate::page::Page;
use runner::environment::command;
use runner::postgres::program;
use runner::process;
use runner::project::Project;
use runner::services::Ports;
use runner::tools;
use runner::ui::{self, Step};
use tokio::process::Command;

/// The folder of the page's development files in the project.
const FOLDER: &str = "clients/web";

/// The names of Chromium's program in different packages.
const BROWSERS: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome-stable",
    "google-chrome",
];

/// The users in the browser test.
const USERS: [&str; 2] = ["web-alice", "web-bob"];

/// The users in the test of the client.
const CLIENT_USERS: [&str; 2] = ["js-alice", "js-bob"];

/// Where the output of the tests goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// To the terminal.
    Shown,
    /// To log files, because another program writes to the terminal.
    Logged,
}

/// The file of tests that replace the stack's database, so that nothing else can use it meanwhile.
const RESTORE: &str = "restore.test.mjs";

/// Runs all tests of the page. If a required program is missing, prints the command that installs it.
pub(crate) async fn run(project: &Project, ports: Ports, stack: &Stack, output: Output) -> Result<()> {
    run_beside(project, ports, stack, output).await?;
    run_alone(project, ports, stack, output).await
}

/// Runs the tests that leave the stack usable for others.
pub(crate) async fn run_beside(project: &Project, ports: Ports, stack: &Stack, output: Output) -> Result<()> {
    let Some(packages) = tools::install_web(project).await? else {
        skipped(
            "the page's tests",
            "there is no npm",
            "apt-get install nodejs npm",
        );
        return Ok(());
    };
    in_node(project, stack, &packages, output).await?;

    let Some(browser) = browser() else {
        skipped(
            "the page in a browser",
            "there is no Chromium",
            "apt-get install chromium",
        );
        return Ok(());
    };
    let files = browser_tests(project, |file| !file.ends_with(RESTORE))?;
    in_browser(project, ports, stack, (&packages, &browser), output, files).await
}

/// Tests the client and the page's modules.
async fn in_node(project: &Project, stack: &Stack, packages: &Path, output: Output) -> Result<()> {
    tools::install_client(project).await?;
    let client = project.root.join(tools::CLIENT);
    types(project, &client, &client, output).await?;
    let modules = tests_in(&client.join("test"))?;
    node(project, "the client's modules", &client, output, modules, None).await?;

    stack.create_users(&CLIENT_USERS).await?;
    let settings = json!({
        "httpApiUrl": stack.outputs.http_api_url,
        "cognitoEndpoint": stack.aws_endpoint,
        "userPoolClientId": stack.outputs.user_pool_client_id,
        "users": CLIENT_USERS,
        "password": PASSWORD,
    });
    let settings = Some(("SYNCSPHERE_CLIENT", settings.to_string()));
    let packed = tests_in(&client.join("stack"))?;
    node(project, "the packed client", &client, output, packed, settings).await?;

    let page = project.root.join(FOLDER);
    types(project, &page, packages, output).await?;
    let modules = tests_in(&page.join("test"))?;
    node(project, "the page's modules", &page, output, modules, None).await
}

/// Runs test files under Node.js, with an environment variable.
async fn node(
    project: &Project,
    name: &str,
    folder: &Path,
    output: Output,
    files: Vec<PathBuf>,
    settings: Option<(&str, String)>,
) -> Result<()> {
    let mut node = command(project, "node");
    node.current_dir(folder).arg("--test").args(files).envs(settings);
    let log = format!("{}.log", name.replace([' ', '\''], "-"));
    tests(project, &format!("{name} (node --test)"), &log, node, output).await
}

/// Runs the tests in a browser that replace the stack's database. Without a browser there are none.
pub(crate) async fn run_alone(project: &Project, ports: Ports, stack: &Stack, output: Output) -> Result<()> {
    let (Some(packages), Some(browser)) = (tools::install_web(project).await?, browser()) else {
        return Ok(());
    };
    let files = browser_tests(project, |file| file.ends_with(RESTORE))?;
    in_browser(project, ports, stack, (&packages, &browser), output, files).await
}

fn browser_tests(project: &Project, selected: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let mut files = tests_in(&project.root.join(FOLDER).join("browser"))?;
    files.retain(|file| selected(file));
    Ok(files)
}

/// Runs tests, and fails if one of them fails.
async fn tests(project: &Project, name: &str, log: &str, node: Command, output: Output) -> Result<()> {
    if output == Output::Logged {
        let step = Step::beside(name);
        process::run(&step, &project.run().join(log), node, "see which test failed").await?;
        step.done("");
        return Ok(());
    }
    ui::line(format_args!("… {name}"));
    if !process::attached(node).await?.success() {
        bail!("{name}: a test failed");
    }
    Ok(())
}

fn skipped(what: &str, why: &str, remedy: &str) {
    ui::line(format_args!("! SKIPPED {what}, for {why}: {remedy}"));
}

async fn types(project: &Project, folder: &Path, packages: &Path, output: Output) -> Result<()> {
    let name = format!(
        "checking the types of {} (tsc)",
        folder.strip_prefix(&project.root)?.display()
    );
    let step = match output {
        Output::Shown => Step::begin(name),
        Output::Logged => Step::beside(name),
    };
    let mut tsc = command(project, "node");
    tsc.current_dir(folder)
        .arg(packages.join("node_modules/typescript/bin/tsc"))
        .args(["--project", "tsconfig.json"]);
    process::run(&step, &project.run().join("tsc.log"), tsc, "mend the types").await?;
    step.done("");
    Ok(())
}

/// Tests two users in separate browser windows against the stack.
async fn in_browser(
    project: &Project,
    ports: Ports,
    stack: &Stack,
    (packages, browser): (&Path, &Path),
    output: Output,
    files: Vec<PathBuf>,
) -> Result<()> {
    let page = Page::serve(project, ports, stack).await?;
    stack.create_users(&USERS).await?;
    let shots = project.run().join("screenshots");
    fs::create_dir_all(&shots).with_context(|| format!("cannot create {}", shots.display()))?;
    let settings = json!({
        "page": ports.web_origin(),
        "aws": stack.aws_endpoint,
        "userPoolId": stack.outputs.user_pool_id,
        "databaseUrl": stack.database_url,
        "psql": program(project, "psql")?,
        "users": USERS,
        "password": PASSWORD,
        "browser": browser,
        "packages": packages,
        "screenshots": shots,
    });

    let mut node = command(project, "node");
    node.current_dir(project.root.join(FOLDER))
        // One file after the other: the windows of one have enough to do.
        .args(["--test", "--test-reporter=spec", "--test-concurrency=1"])
        .args(files)
        .env("SYNCSPHERE_PAGE", settings.to_string());
    let outcome = tests(project, "the page in Chromium", "page.log", node, output).await;
    drop(page);
    outcome.context("the page's screenshots are in .local/run/screenshots")
}

/// The paths of the test files in a folder. They are passed one by one, because versions of Node.js treat a
/// folder differently.
fn tests_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut tests: Vec<_> = files
        .filter(|file| file.to_string_lossy().ends_with(".test.mjs"))
        .collect();
    tests.sort();
    Ok(tests)
}

fn browser() -> Option<PathBuf> {
    let folders = env::var_os("PATH")?;
    env::split_paths(&folders)
        .flat_map(|folder| BROWSERS.map(|name| folder.join(name)))
        .find(|program| program.is_file())
}
