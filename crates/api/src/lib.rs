//! The HTTP API as its users see it: requests, responses, and problems with all their sentences.

pub mod http;
mod problem;
mod rejection;

pub use problem::Problem;
