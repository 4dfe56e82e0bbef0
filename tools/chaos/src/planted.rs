//! Mutation tests of the harness: defects are planted one at a time, and the harness must find each of them.
//! A defect is a patch in `tools/chaos/planted` whose first line says what it breaks. It is applied to a copy
//! of the functions, never to the original. The folder `by-tests` in it has defects of what the harness does not do; the
//! first line of each names the integration test that finds it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::hostile;
use super::report::Report;
use super::run::{self, Plan};
use runner::environment::command;
use runner::process;
use runner::project::Project;
use runner::ui::{self, Step};

/// The folder of the patches.
const FOLDER: &str = "tools/chaos/planted";

/// The number of seeds that the harness may use to find a defect.
const SEEDS: u64 = 5;

/// A planted defect.
struct Defect {
    name: String,
    /// The promise that it breaks.
    what: String,
    patch: PathBuf,
}

/// The copy of the functions with its builds, and the binaries with the current defect.
struct Copy {
    source: PathBuf,
    target: PathBuf,
    binaries: PathBuf,
}

/// Runs the harness once without a defect and then with each defect in turn, and shows its verdicts. Fails if
/// the harness misses a defect or reports one in the original.
pub(crate) async fn run(project: &Project, seed: u64, uploads: u64) -> Result<()> {
    let folder = project.root.join("target/planted");
    let copy = Copy {
        source: folder.join("source"),
        target: folder.join("build"),
        binaries: folder.join("binaries"),
    };
    let mut table = Vec::new();
    let sound = attempt(project, &copy, None, seed, uploads).await?;
    table.push(("nothing".to_owned(), String::new(), sound.clone()));
    let mut missed: Vec<String> = Vec::new();
    if !sound.is_clean() {
        missed.push("nothing".to_owned());
    }
    for defect in defects(&project.root.join(FOLDER))? {
        let mut report = attempt(project, &copy, Some(&defect), seed, uploads).await?;
        for further in 1..SEEDS {
            if !report.is_clean() {
                break;
            }
            report = again(project, &copy, seed + further, uploads).await?;
        }
        if report.is_clean() {
            missed.push(defect.name.clone());
        }
        table.push((defect.name, defect.what, report));
    }
    show(&table);
    if missed.is_empty() {
        Ok(())
    } else {
        bail!("misjudged: {}", missed.join(", "))
    }
}

fn show(table: &[(String, String, Report)]) {
    ui::output("| planted | seed | lost | unexpected | the first of them |\n|---|---|---|---|---|");
    for (name, what, report) in table {
        let first = report.violations.first().map_or("", |violation| violation.what);
        let name = if what.is_empty() {
            name.clone()
        } else {
            format!("`{name}`: {what}")
        };
        ui::output(format_args!(
            "| {name} | {} | {} | {} | {first} |",
            report.seed, report.lost, report.unexpected
        ));
    }
}

fn defects(folder: &Path) -> Result<Vec<Defect>> {
    let mut defects = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let patch = entry?.path();
        if patch.extension().is_none_or(|extension| extension != "patch") {
            continue;
        }
        let text = fs::read_to_string(&patch).with_context(|| format!("cannot read {}", patch.display()))?;
        defects.push(Defect {
            name: patch
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            what: text.lines().next().unwrap_or_default().to_owned(),
            patch,
        });
    }
    defects.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(defects)
}

async fn attempt(
    project: &Project,
    copy: &Copy,
    defect: Option<&Defect>,
    seed: u64,
    uploads: u64,
) -> Result<Report> {
    let name = defect.map_or("nothing", |defect| &defect.name);
    let step = Step::begin(format!("planting {name}"));
    copy_files(project, &copy.source).await?;
    if let Some(defect) = defect {
        let mut git = command(project, "git");
        // Without this, git would find the enclosing checkout and apply the patch there.
        git.current_dir(&copy.source)
            .env(
                "GIT_CEILING_DIRECTORIES",
                copy.source.parent().unwrap_or(&copy.source),
            )
            .args(["apply"])
            .arg(&defect.patch);
        let log = project.run().join("plant.log");
        process::run(&step, &log, git, "bring the patch up to date with the code").await?;
    }
    let mut cargo = command(project, "cargo");
    cargo
        .current_dir(&copy.source)
        .env("CARGO_TARGET_DIR", &copy.target)
        .arg("build");
    let log = project.run().join("plant-build.log");
    process::run(&step, &log, cargo, "bring the patch up to date with the code").await?;
    gather(copy)?;
    step.done("");
    again(project, copy, seed, uploads).await
}

async fn again(project: &Project, copy: &Copy, seed: u64, uploads: u64) -> Result<Report> {
    let plan = Plan {
        binaries: copy.binaries.clone(),
        seed,
        uploads,
    };
    let report = run::run(project, &plan).await?;
    if !report.is_clean() {
        return Ok(report);
    }
    hostile::run(project, &plan, false).await
}

/// Copies the checkout. Unchanged files are not written again, so that cargo compiles little.
async fn copy_files(project: &Project, source: &Path) -> Result<()> {
    let mut git = command(project, "git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listed = git.output().await.context("cannot run git")?;
    if !listed.status.success() {
        bail!(
            "git cannot list the files: {}",
            String::from_utf8_lossy(&listed.stderr)
        );
    }
    for name in String::from_utf8_lossy(&listed.stdout)
        .split('\0')
        .filter(|name| !name.is_empty())
    {
        let Ok(content) = fs::read(project.root.join(name)) else {
            // The file was deleted but is still in git's index.
            continue;
        };
        let to = source.join(name);
        if fs::read(&to).is_ok_and(|there| there == content) {
            continue;
        }
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        fs::write(&to, content).with_context(|| format!("cannot write {}", to.display()))?;
    }
    Ok(())
}

/// Copies the binaries to the folder in which the harness looks for them.
fn gather(copy: &Copy) -> Result<()> {
    let functions = copy.source.join("functions");
    for entry in fs::read_dir(&functions).with_context(|| format!("cannot read {}", functions.display()))? {
        let name = entry?.file_name();
        let binary = copy.target.join("debug").join(&name);
        if !binary.is_file() {
            continue;
        }
        let folder = copy.binaries.join(&name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        fs::copy(&binary, folder.join("bootstrap"))
            .with_context(|| format!("cannot copy {}", binary.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applies(project: &Project, patch: &Path) -> bool {
        let mut git = std::process::Command::new("git");
        git.current_dir(&project.root)
            .args(["apply", "--check"])
            .arg(patch);
        git.status().unwrap().success()
    }

    #[test]
    fn every_defect_can_still_be_planted() {
        let project = Project::find().unwrap();
        let defects = defects(&project.root.join(FOLDER)).unwrap();
        assert!(defects.len() >= 6);
        for Defect { name, what, patch } in defects {
            assert!(what.ends_with('.'), "{name} does not say what it breaks");
            assert!(applies(&project, &patch), "{name} does not apply any more");
        }
    }

    #[test]
    fn every_defect_that_tests_find_can_still_be_planted_and_names_a_test() {
        let project = Project::find().unwrap();
        let tests = fs::read_dir(project.root.join("tests/it")).unwrap();
        let tests = tests.map(|entry| entry.unwrap().path());
        let tests: String = tests
            .filter(|path| path.is_file())
            .map(|path| fs::read_to_string(path).unwrap())
            .collect();
        let defects = defects(&project.root.join(FOLDER).join("by-tests")).unwrap();
        assert!(defects.len() >= 4);
        for Defect { name, what, patch } in defects {
            let test = what.split('`').nth(1).unwrap_or_default();
            assert!(tests.contains(&format!("fn {test}(")), "{name}: no test {test:?}");
            assert!(applies(&project, &patch), "{name} does not apply any more");
        }
    }
}
