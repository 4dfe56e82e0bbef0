//! Simulations: the planner alone on trees, and the engine in a world of virtual disks, a virtual service and
//! users. Everything follows from a seed. Development only.

pub mod hits;
pub mod planner;
