//! What a caller needs to know that does not run for ever: the end, and the plan.

use super::config::{ATTEMPTS, settings};
use super::{Engine, Failed, Phase};
use crate::plan::{Claims, Decided, plan};

impl Engine {
    /// Whether everything is equal, except what is held, and what was tried several times in vain.
    pub fn is_done(&self) -> bool {
        let is_given_up = |failed: &Failed| failed.hold.is_some() && failed.tries >= ATTEMPTS;
        let is_waiting = |item| self.failed.get(item).is_some_and(is_given_up);
        let is_unreadable = |path| self.folders.is_unreadable(path);
        self.is_listed()
            && self.trees.unread().iter().all(is_unreadable)
            && self.trees.dirty().iter().all(is_waiting)
            && self.folders.rechecks.is_empty()
            && self.failed.values().all(is_given_up)
    }

    /// Whether both sides are known to their end.
    pub fn is_observed(&self) -> bool {
        self.is_listed() && self.trees.unread().is_empty()
    }

    fn is_listed(&self) -> bool {
        self.phase == Phase::Running
            && self.role.is_some()
            && self.flights.is_empty()
            && self.queue.is_empty()
            && self.feed.is_current(self.trees.cursor)
            && self.is_scanned()
            && self.trees.unconfirmed().is_empty()
    }

    /// What the engine would do next. Operations that depend on others are not in it.
    pub fn planned(&self) -> Vec<Decided> {
        let label = self.label();
        let hiding = |path: &str| self.rules.hiding(path);
        let settings = settings(&self.config, self.role, self.is_scanned(), &label, &hiding);
        plan(&self.trees, &settings, &mut Claims::default(), usize::MAX)
    }
}
