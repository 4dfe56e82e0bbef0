//! The limits: the least that could do a function's work, under the same Runtime API. Those of starting up are programs of their own, in `bin`.

pub(crate) mod commits;
pub(crate) mod complete;
pub(crate) mod connect;
pub(crate) mod posts;
