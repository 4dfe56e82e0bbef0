//! The state machine.

use model::Role;

use crate::effect::{Effect, Input, Now};
use crate::store::Saved;

/// What the engine is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of the device in conflict names.
    pub device: String,
    /// Random text. Idempotency keys and private names begin with it, so it must be another one at each start.
    pub nonce: String,
    /// Which ways changes go.
    pub direction: Direction,
    /// The deletion guard.
    pub guard: Guard,
}

/// Which ways changes go. No direction overwrites anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Both ways.
    #[default]
    Both,
    /// From the space to the folder only.
    Down,
    /// From the folder to the space only.
    Up,
}

/// Deletions are held if they are more than `count` and more than `percent` of all synced files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// A number that is always allowed.
    pub count: usize,
    /// A share of all synced files that is always allowed.
    pub percent: usize,
    /// A number that is never allowed.
    pub most: usize,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            count: 20,
            percent: 25,
            most: 1_000,
        }
    }
}

/// The state machine.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    saved: Saved,
    role: Option<Role>,
}

impl Engine {
    /// An engine that continues from what a store has. The first [`Engine::step`] takes [`Input::Tick`].
    pub fn new(config: Config, saved: Saved) -> Self {
        Self {
            config,
            saved,
            role: None,
        }
    }

    /// Takes an input and returns the effects, in order.
    pub fn step(&mut self, _now: Now, _input: Input) -> Vec<Effect> {
        let _ = (&self.config, &self.saved, self.role);
        Vec::new()
    }
}
