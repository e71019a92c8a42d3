//! `foreshade-bench report`: the results of other commands as one page.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::report::{self, input};
use crate::terminal;

/// What to draw.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Results, as `faults`, `sim`, `compare` and `load` write them.
    #[arg(required = true, value_name = "FILE.json")]
    files: Vec<PathBuf>,
    /// Where to write the page.
    #[arg(long, default_value = "report.html")]
    out: PathBuf,
}

/// Reads all files, and writes the page if they are all in order.
pub fn run(arguments: &Arguments) -> Result<()> {
    let out = &arguments.out;
    let is_input = |file: &PathBuf| same(file, out);
    ensure!(
        !arguments.files.iter().any(is_input),
        "{}: is one of the results, and the page would be written over it",
        out.display()
    );
    let inputs = arguments
        .files
        .iter()
        .map(|file| input::read(file))
        .collect::<Result<Vec<_>, _>>()?;
    let page = report::html(&inputs);
    std::fs::write(out, &page).with_context(|| format!("{}: cannot be written", out.display()))?;
    terminal::line(&format!("{}: {} KiB", out.display(), page.len().div_ceil(1024)));
    Ok(())
}

/// Whether both lead to the same file. A file that is not there yet is none of the others.
fn same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}
