//! The limits: the least that could do a function's work, under the same Runtime API.

pub(crate) mod posts;
