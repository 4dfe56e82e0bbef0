//! Simulations: the planner alone on trees, and the engine in a world of virtual disks, a virtual service and
//! users. Everything follows from a seed. Development only.

pub mod actors;
pub mod disk;
pub mod hits;
pub mod ledger;
pub mod planner;
pub mod scenario;
pub mod server;
pub mod shrink;
pub mod sweep;
mod web;
pub mod world;
