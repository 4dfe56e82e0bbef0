//! The two-way sync engine: a folder on a disk and a space of the service become equal, and no edit is lost.
//!
//! # Architecture
//!
//! The engine keeps three [trees](tree::Trees) of observations: *remote* is what the space has, *local* is what
//! the folder has, and *synced* is the last state in which both agreed. The trees are in memory; a
//! [`Store`](store::Store) persists each change of a row and loads them at the start. No queue of work is
//! persisted. After a crash the engine looks at the folder and the space, and plans again.
//!
//! | Module | Does | I/O |
//! |---|---|---|
//! | [`names`], [`portable_names`] | compare names as the volume and as other systems do | no |
//! | [`tree`] | the rows of the trees and their indexes | no |
//! | [`plan`] | what to do with a file: a pure function of the trees | no |
//! | [`engine`] | the state machine: [`Engine::step`](engine::Engine::step) takes an input and returns effects | no |
//! | [`execute`] | short sequences of calls of a [`Disk`](disk::Disk) that replace, move and remove files safely | by the trait |
//! | [`disk`], [`store`] | the traits of the disk and of the store, and their implementations | in the implementations |
//! | `driver` | runs the engine with the disk of this machine, a database and the client library | yes |
//!
//! A *driver* performs the effects with a real disk, a database and the client library, and reports each
//! result as an input. The simulation (feature `simulation`) performs the same effects with a virtual disk and
//! a virtual service, and the code of [`execute`] is the same in both. The engine has no clock, no randomness,
//! no threads and no I/O: the time is a part of each input. Equal inputs therefore give equal effects.
//!
//! # Rules of the driver
//!
//! 1. Effects of all steps are taken in order. [`Effect::Commit`](effect::Effect::Commit) must be durable before
//!    a later effect starts. If it fails, the engine is dropped and the process ends.
//! 2. The engine itself serializes the disk jobs that change something. It may ask for several jobs that only
//!    read at the same time; [`Job::is_read_only`](execute::Job::is_read_only) tells them apart.
//! 3. Uploads, fetches and requests run concurrently, and their results may arrive in any order. Each effect
//!    with an id has exactly one result, unless the process ends.
//! 4. Hints of a watcher may be late, merged, repeated or lost, except that losing is reported by
//!    [`Input::WatchOverflow`](effect::Input::WatchOverflow). A scan of everything at least once an hour finds the
//!    rest.
//!
//! # Safety
//!
//! - A file of the user leaves its place only by a rename: into the engine's trash, into `aside`, or to another
//!   name. The engine looks at a file *after* it has captured it, and disposes of it only then, so an edit
//!   between the last look and the rename is found.
//! - Everything that is placed is placed without replacing, or by an exchange of two names.
//! - The order of durability is: content, rename, folders, database. The database may lag behind the disk, and
//!   never leads.
//! - An error is *unknown*, and never *absent*.

#![warn(missing_docs)]

pub mod disk;
#[cfg(feature = "driver")]
pub mod driver;
pub mod effect;
pub mod engine;
pub mod execute;
pub mod names;
pub mod path;
pub mod plan;
pub mod planted;
pub mod portable_names;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod store;
pub mod tree;
