//! What the life of a pair promises. The parts: one pair from start to end, the laws that hold in many states, orders,
//! groups, drills, simulations; then all reachable states by model checking, and long random lives by simulation.

mod course;
mod drills;
mod fixture;
mod groups;
mod laws;
mod model;
mod orders;
mod simulate;
mod simulation;
mod table;
