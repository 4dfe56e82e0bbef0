//! The tests of the template and of the tools in Python, which need no service.

use anyhow::{Result, bail};

use crate::environment::command;
use crate::process;
use crate::project::Project;
use crate::tools::{CHECKOV, SAM, TEMPLATE, Tool};
use crate::ui;

/// The tools that [`check`] needs.
pub const TOOLS: &[Tool] = &[SAM, TEMPLATE, CHECKOV];

/// Folders of `tools/` with tests.
const FOLDERS: [&str; 2] = ["tools", "tools/template"];

/// Runs the tests; fails if one does.
pub async fn check(project: &Project) -> Result<()> {
    let python = project.tools().join("template/bin/python");
    for folder in FOLDERS {
        ui::line(format_args!("… python -m unittest ({folder})"));
        let mut tests = command(project, &python.display().to_string());
        tests.args(["-m", "unittest", "discover", "-s", folder]);
        if !process::attached(tests).await?.success() {
            bail!("tests of {folder} fail");
        }
    }
    Ok(())
}
