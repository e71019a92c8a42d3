//! `foreshade-bench guard`: what every child of the bench runs as first; see [`crate::stage::process`].

use std::ffi::OsString;

use anyhow::{Context, Result};

use crate::stage::process::{self, Leash};

/// What to become, and whose child to be.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Process id of the parent with which to end.
    #[arg(long)]
    parent: u32,
    /// What the kernel does to it then.
    #[arg(long, value_enum, default_value_t = Leash::Kill)]
    leash: Leash,
    /// Program and arguments.
    #[arg(last = true, required = true)]
    program: Vec<OsString>,
}

/// Becomes the program. Returns only on failure.
pub fn run(arguments: &Arguments) -> Result<()> {
    Err(process::guard(
        arguments.parent,
        arguments.leash,
        &arguments.program,
    ))
    .context("cannot run the program")
}
