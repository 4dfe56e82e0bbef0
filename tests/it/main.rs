//! All integration tests in one binary: it links once, and they share the stack.

mod connections;
mod end_to_end;
mod fan_out;
mod migrations;
mod problems;
mod samples;
mod storage;
mod template;
mod uploads;
