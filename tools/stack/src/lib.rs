//! The local stack: the template deployed to the AWS emulator, its users, and the commands that use it.

mod cli_profile;
mod commands;
mod cors;
mod deployment;
pub mod emulator;
mod logs;
mod page;
mod resources;
mod secrets;

pub use commands::run;
pub use deployment::{Outputs, PASSWORD, STACK, Stack};
pub use secrets::OWNER_SECRET;
