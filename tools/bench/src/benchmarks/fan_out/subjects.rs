//! Compared programs: `fan-out`, its baseline and the references.

use anyhow::Result;
use runner::project::Project;

use super::fixture::{Audience, Delivered, Fixture};
use crate::harness::{Harness, Variables};
use crate::process::{Process, Program};

/// Running processes of the compared programs.
pub(super) struct Subjects {
    pub(super) ours: Process,
    pub(super) baseline: Process,
    pub(super) references: Vec<Reference>,
}

/// The same fan-out in its usual form, with an AWS SDK.
pub(super) struct Reference {
    pub(super) name: &'static str,
    /// Goal for the ratio of its CPU time per post to that of `fan-out`.
    pub(super) goal: f64,
    pub(super) process: Process,
}

/// One event delivered by each program.
pub(super) struct Round {
    pub(super) baseline: Delivered,
    pub(super) ours: Delivered,
    /// In the order of [`Subjects::references`].
    pub(super) references: Vec<Delivered>,
}

impl Subjects {
    /// Starts `fan-out` and the baseline, without references.
    pub(super) async fn start(ours: &Program, baseline: &Program) -> Result<Self> {
        Ok(Self {
            ours: ours.start().await?,
            baseline: baseline.start().await?,
            references: Vec::new(),
        })
    }

    /// Delivers one event to an audience with each program. The first round opens the connections.
    pub(super) async fn round(&mut self, fixture: &Fixture<'_>, audience: &Audience) -> Result<Round> {
        let baseline = fixture.baseline(&mut self.baseline, audience).await?;
        let ours = fixture.one(&mut self.ours, audience).await?;
        let mut references = Vec::new();
        for reference in &mut self.references {
            references.push(fixture.one(&mut reference.process, audience).await?);
        }
        Ok(Round {
            baseline,
            ours,
            references,
        })
    }

    /// Runs one round per round.
    pub(super) async fn rounds(&mut self, fixture: &Fixture<'_>, audience: &Audience) -> Result<Vec<Round>> {
        let mut rounds = Vec::new();
        for _ in 0..fixture.harness.rounds() {
            rounds.push(self.round(fixture, audience).await?);
        }
        Ok(rounds)
    }
}

/// Starts the references that are installed.
pub(super) async fn references(harness: &Harness, variables: &Variables) -> Result<Vec<Reference>> {
    let mut references = Vec::new();
    if let Some(folder) = &harness.options.node_reference {
        let script = folder.join("bootstrap.mjs").display().to_string();
        let command = vec!["node".to_owned(), script];
        let program = harness.program("reference-node", command, variables.clone());
        references.push(Reference {
            name: "Node.js reference",
            goal: 20.0,
            process: program.start().await?,
        });
    }
    if let Some(folder) = &harness.options.python_reference {
        let python = folder.join("bin/python").display().to_string();
        let script = Project::find()?
            .root
            .join("tools/bench/references/python/bootstrap.py");
        let script = script.display().to_string();
        let command = vec![python, "-B".to_owned(), script];
        let program = harness.program("reference-python", command, variables.clone());
        references.push(Reference {
            name: "Python reference",
            goal: 25.0,
            process: program.start().await?,
        });
    }
    Ok(references)
}
