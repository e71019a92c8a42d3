//! The subcommands: arguments in, text out. What they do is in the modules above.

pub mod bare;
pub mod cpu;
pub mod demo;
pub mod endpoints;
pub mod guard;
pub mod load;
pub mod mirror;
pub mod reloads;
pub mod scenarios;
pub mod soak;
