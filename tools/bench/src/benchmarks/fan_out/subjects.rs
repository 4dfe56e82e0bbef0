//! What is compared: `fan-out`, its limit, and the peers.

use anyhow::Result;
use runner::project::Project;

use super::fixture::{Audience, Delivered, Fixture};
use crate::process::{Process, Program};
use crate::stage::{Stage, Variables};

/// Those that take turns.
pub(super) struct Cast {
    pub(super) ours: Process,
    pub(super) limit: Process,
    pub(super) peers: Vec<Peer>,
}

/// The same fan-out as it is ordinarily written.
pub(super) struct Peer {
    pub(super) name: &'static str,
    /// How much more CPU it should take for a post.
    pub(super) goal: f64,
    pub(super) process: Process,
}

/// One event delivered by each.
pub(super) struct Turn {
    pub(super) limit: Delivered,
    pub(super) ours: Delivered,
    /// In the cast's order.
    pub(super) peers: Vec<Delivered>,
}

impl Cast {
    /// Without peers.
    pub(super) async fn start(ours: &Program, limit: &Program) -> Result<Self> {
        Ok(Self {
            ours: ours.start().await?,
            limit: limit.start().await?,
            peers: Vec::new(),
        })
    }

    /// One event to an audience by each. The first turn is for connections to be made.
    pub(super) async fn turn(&mut self, fixture: &Fixture<'_>, audience: &Audience) -> Result<Turn> {
        let limit = fixture.limit(&mut self.limit, audience).await?;
        let ours = fixture.one(&mut self.ours, audience).await?;
        let mut peers = Vec::new();
        for peer in &mut self.peers {
            peers.push(fixture.one(&mut peer.process, audience).await?);
        }
        Ok(Turn { limit, ours, peers })
    }

    /// As many turns as there are rounds.
    pub(super) async fn turns(&mut self, fixture: &Fixture<'_>, audience: &Audience) -> Result<Vec<Turn>> {
        let mut turns = Vec::new();
        for _ in 0..fixture.stage.rounds() {
            turns.push(self.turn(fixture, audience).await?);
        }
        Ok(turns)
    }
}

/// Starts those that are installed.
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
