//! Installs the pinned tools, builds the workspace, and runs PostgreSQL and the AWS emulator, all in the
//! project's own folders `.local` and `target`. No tool reaches AWS: all of them get the emulator's address
//! and made-up credentials.

pub mod arguments;
pub mod build;
pub mod environment;
pub mod postgres;
pub mod process;
pub mod project;
pub mod services;
pub mod signals;
pub mod template;
pub mod tools;
pub mod ui;
