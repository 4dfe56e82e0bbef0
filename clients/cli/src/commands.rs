//! The commands, one module each.

pub(crate) mod account;
mod bases;
pub(crate) mod doctor;
pub(crate) mod files;
pub(crate) mod get;
pub(crate) mod history;
pub(crate) mod invitations;
pub(crate) mod login;
pub(crate) mod prerequisites;
pub(crate) mod spaces;
pub(crate) mod sync;
pub(crate) mod trash;
pub(crate) mod upload;
pub(crate) mod watch;
