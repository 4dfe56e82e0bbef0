//! Compared programs: `fan-out`, its baseline and the peers.

use anyhow::Result;
use runner::project::Project;

use super::fixture::{Audience, Delivered, Fixture};
use crate::process::{Process, Program};
use crate::stage::{Stage, Variables};

/// Running processes of the compared programs.
pub(super) struct Cast {
    pub(super) ours: Process,
    pub(super) limit: Process,
    pub(super) peers: Vec<Peer>,
}

/// The same fan-out in its usual form, with an AWS SDK.
pub(super) struct Peer {
    pub(super) name: &'static str,
    /// Goal for the ratio of its CPU time per post to that of `fan-out`.
    pub(super) goal: f64,
    pub(super) process: Process,
}

/// One event delivered by each program.
pub(super) struct Turn {
    pub(super) limit: Delivered,
    pub(super) ours: Delivered,
    /// In the order of [`Cast::peers`].
    pub(super) peers: Vec<Delivered>,
}

impl Cast {
    /// Starts `fan-out` and the baseline, without peers.
    pub(super) async fn start(ours: &Program, limit: &Program) -> Result<Self> {
        Ok(Self {
            ours: ours.start().await?,
            limit: limit.start().await?,
            peers: Vec::new(),
        })
    }

    /// Delivers one event to an audience with each program. The first turn opens the connections.
    pub(super) async fn turn(&mut self, fixture: &Fixture<'_>, audience: &Audience) -> Result<Turn> {
        let limit = fixture.limit(&mut self.limit, audience).await?;
        let ours = fixture.one(&mut self.ours, audience).await?;
        let mut peers = Vec::new();
        for peer in &mut self.peers {
            peers.push(fixture.one(&mut peer.process, audience).await?);
        }
        Ok(Turn { limit, ours, peers })
    }

    /// Runs one turn per round.
    pub(super) async fn turns(&mut self, fixture: &Fixture<'_>, audience: &Audience) -> Result<Vec<Turn>> {
        let mut turns = Vec::new();
        for _ in 0..fixture.stage.rounds() {
            turns.push(self.turn(fixture, audience).await?);
        }
        Ok(turns)
    }
}

/// Starts the peers that are installed.
pub(super) async fn peers(stage: &Stage, variables: &Variables) -> Result<Vec<Peer>> {
    let mut peers = Vec::new();
    if let Some(folder) = &stage.options.node_peer {
        let script = folder.join("bootstrap.mjs").display().to_string();
        let command = vec!["node".to_owned(), script];
        let program = stage.program("peer-node", command, variables.clone());
        peers.push(Peer {
            name: "Node.js peer",
            goal: 20.0,
            process: program.start().await?,
        });
    }
    if let Some(folder) = &stage.options.python_peer {
        let python = folder.join("bin/python").display().to_string();
        let script = Project::find()?
            .root
            .join("tools/bench/peers/python/bootstrap.py");
        let script = script.display().to_string();
        let command = vec![python, "-B".to_owned(), script];
        let program = stage.program("peer-python", command, variables.clone());
        peers.push(Peer {
            name: "Python peer",
            goal: 25.0,
            process: program.start().await?,
        });
    }
    Ok(peers)
}
