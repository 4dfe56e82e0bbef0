//! `cargo xtask test`: all tests, together with the services that they need.

use anyhow::{Result, bail};

use super::page_tests::{self, Output};
use super::schemathesis;
use crate::deployment::Stack;
use runner::arguments::Profile;
use runner::build::cargo;
use runner::process;
use runner::project::Project;
use runner::services::{Ports, Services};
use runner::template;
use runner::ui::{self, Step};

/// The feature with which the sync engine's simulation is compiled and tested.
pub(super) const SIMULATION: &str = "sync/simulation";

/// Deploys the stack, and runs schemathesis, the tests of the web page and `cargo test` against it. With
/// `arguments`, runs only the tests that they select; with `page`, only those of the web page.
pub(crate) async fn run(project: &Project, ports: Ports, page: bool, arguments: &[String]) -> Result<()> {
    let _lock = project.lock()?;
    let services = Services::start(project, ports).await?;
    let stack = Stack::deploy(project, services.ports, Profile { release: false }).await?;
    if page {
        return page_tests::run(project, services.ports, &stack, Output::Shown).await;
    }
    if arguments.is_empty() {
        // These come first, because readers look for the result of `cargo test` at the end, and because some of
        // its tests replace the stack's database. Each uses the processor while the others wait.
        tokio::try_join!(
            template::check(project, Step::beside),
            page_tests::run_beside(project, services.ports, &stack, Output::Logged),
            schemathesis::run(project, &stack),
        )?;
        page_tests::run_alone(project, services.ports, &stack, Output::Logged).await?;
    }

    ui::line("… cargo test");
    let mut test = cargo(project);
    test.args(["test", "--workspace", "--features", SIMULATION])
        .args(arguments)
        .env("SYNCSPHERE_STACK", project.stack_file());
    let status = process::attached(test).await?;
    if !status.success() {
        bail!("tests failed; logs of the stack are in .local/run");
    }
    Ok(())
}
