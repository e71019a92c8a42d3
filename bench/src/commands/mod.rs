//! The subcommands: arguments in, text out. What they do is in the modules above.

pub mod agree;
pub mod bare;
pub mod compare;
pub mod demo;
pub mod endpoints;
pub mod faults;
pub mod guard;
pub mod judge;
pub mod load;
pub mod mirror;
pub mod outage;
pub mod reloads;
pub mod report;
pub mod scenarios;
pub mod sim;
pub mod soak;
