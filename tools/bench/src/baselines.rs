//! Baselines: the minimal programs that do a function's work under the same Runtime API. The
//! baselines of cold starts are separate programs in `bin`.

pub(crate) mod commits;
pub(crate) mod complete;
pub(crate) mod connect;
pub(crate) mod posts;
