//! How a successor is started, and how often that has been tried.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// How a successor is started: as this process was.
#[derive(Clone, Debug)]
pub struct Start {
    /// The configuration.
    pub config: PathBuf,
    /// One JSON object per log line.
    pub log_json: bool,
    /// Where the process is asked whose place is to be taken.
    pub take_over: Option<PathBuf>,
}

/// Upgrades since the first process, by result. All clones speak of the same ones.
#[derive(Clone, Debug, Default)]
pub struct Upgrades(Arc<Mutex<BTreeMap<String, u64>>>);

impl Upgrades {
    /// The results that there can be.
    pub const RESULTS: [&str; 2] = ["done", "failed"];

    /// Those that processes before this one have counted.
    pub fn going_on_from(counts: BTreeMap<String, u64>) -> Self {
        Self(Arc::new(Mutex::new(counts)))
    }

    /// So many had this result.
    pub fn count(&self, result: &str) -> u64 {
        self.all().get(result).copied().unwrap_or_default()
    }

    pub(super) fn all(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn add(&self, result: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(result.to_owned()).or_default() += 1;
    }
}

impl Start {
    /// A process like this one, of the program that lies now where this one was started from. Where its end is told,
    /// and its number.
    pub(super) fn successor(&self, socket: &Path) -> io::Result<(u32, oneshot::Receiver<ExitStatus>)> {
        // As it was written: behind a link there may be another version by now.
        let program = std::env::args_os()
            .next()
            .map_or_else(std::env::current_exe, |program| Ok(program.into()))?;
        let mut successor = Command::new(program);
        successor.args(["run", "--config"]).arg(&self.config);
        if self.log_json {
            successor.arg("--log-json");
        }
        successor.arg("--take-over").arg(socket);
        // It says whom the supervisor expects signs of life from, and would be wrong.
        successor.env_remove("WATCHDOG_PID");
        let mut child = successor.spawn()?;
        let pid = child.id();
        let (tell, told) = oneshot::channel();
        std::thread::Builder::new()
            .name("successor".to_owned())
            .spawn(move || {
                if let Ok(status) = child.wait() {
                    // Nobody asks once it serves.
                    let _ = tell.send(status);
                }
            })?;
        Ok((pid, told))
    }
}
