//! Child processes that never outlive the bench, whatever ends it.
//!
//! An orderly end and a panic drop the handle, which kills. A killed bench drops nothing, so each child first runs as
//! `foreshade-bench guard`, which asks the kernel to kill it together with its parent (`PR_SET_PDEATHSIG`, which
//! survives exec) and then becomes the real program. That works for any program, and leaves its process id alone.
//!
//! A program with workers of its own has to end them itself, because the kernel's promise is not inherited: it is told
//! to end ([`Leash::Terminate`]) where others are killed, and whoever is left after a while is killed with it.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::stage::family;

/// Lines of a child's log that an error shows.
const LOG_LINES_SHOWN: usize = 12;

/// Pause between two looks at something that is not ready yet.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// How long a program that was told to end may take, before it and its workers are killed.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long a connection on the loopback interface may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(100);

/// How a child ends with its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Leash {
    /// At once.
    Kill,
    /// It is told to, because it has children that only it can end.
    Terminate,
}

impl Leash {
    fn signal(self) -> Signal {
        match self {
            Self::Kill => Signal::SIGKILL,
            Self::Terminate => Signal::SIGTERM,
        }
    }
}

/// Whether somebody accepts connections there.
pub fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).is_ok()
}

/// The programs of a run.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `foreshade-bench`: guards all children, and serves the farm.
    pub bench: PathBuf,
    /// `foreshade-proxy`.
    pub proxy: PathBuf,
}

impl Programs {
    /// This program, and the proxy at the given path or else beside this program.
    pub fn find(proxy: Option<&Path>) -> Result<Self> {
        let bench = std::env::current_exe().context("cannot find this program's own file")?;
        let proxy = proxy.map_or_else(|| bench.with_file_name("foreshade-proxy"), Path::to_owned);
        if !proxy.is_file() {
            bail!(
                "there is no {}; build it with `cargo build --release` or name it with --proxy",
                proxy.display()
            );
        }
        Ok(Self { bench, proxy })
    }
}

/// A running child; dropping it kills it.
#[derive(Debug)]
pub struct Child {
    name: &'static str,
    process: std::process::Child,
    leash: Leash,
    log: PathBuf,
}

impl Child {
    /// Starts `program` under the guard; what it prints goes to `{name}.log` in `folder`. To be called from a thread
    /// that lives as long as the child shall: for the kernel, the thread is the parent.
    pub fn start(
        programs: &Programs,
        name: &'static str,
        program: &Path,
        arguments: &[OsString],
        folder: &Path,
    ) -> Result<Self> {
        Self::start_on(Leash::Kill, programs, (name, program), arguments, folder)
    }

    /// The same on a leash of one's choice.
    pub fn start_on(
        leash: Leash,
        programs: &Programs,
        (name, program): (&'static str, &Path),
        arguments: &[OsString],
        folder: &Path,
    ) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let process = Command::new(&programs.bench)
            .arg("guard")
            .arg(format!("--parent={}", std::process::id()))
            .arg(if leash == Leash::Kill {
                "--leash=kill"
            } else {
                "--leash=terminate"
            })
            .arg("--")
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self {
            name,
            process,
            leash,
            log,
        })
    }

    /// Its process id, the same under the guard and after.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Fails, with the end of its log, if it has ended.
    pub fn check(&mut self) -> Result<()> {
        let Some(status) = self.process.try_wait()? else {
            return Ok(());
        };
        bail!("{} ended with {status}:\n{}", self.name, self.log_end())
    }

    /// Waits until `ready`, for as long as the child lives and `patience` lasts.
    pub fn wait_until(&mut self, patience: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        let asked = Instant::now();
        while !ready() {
            self.check()?;
            if asked.elapsed() > patience {
                bail!(
                    "{} is not ready after {patience:?}:\n{}",
                    self.name,
                    self.log_end()
                );
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }

    /// Waits until it has ended well, and returns what it printed.
    pub fn finish(&mut self, patience: Duration) -> Result<String> {
        let asked = Instant::now();
        let status = loop {
            if let Some(status) = self.process.try_wait()? {
                break status;
            }
            if asked.elapsed() > patience {
                bail!(
                    "{} has not ended after {patience:?}:\n{}",
                    self.name,
                    self.log_end()
                );
            }
            std::thread::sleep(LOOK_INTERVAL);
        };
        if !status.success() {
            bail!("{} ended with {status}:\n{}", self.name, self.log_end());
        }
        std::fs::read_to_string(&self.log).with_context(|| format!("cannot read {}", self.log.display()))
    }

    fn log_end(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines
            .get(lines.len().saturating_sub(LOG_LINES_SHOWN)..)
            .unwrap_or_default()
            .join("\n")
    }
}

impl Child {
    /// Lets it end by itself, and then kills whoever of its family is left.
    fn terminate(&mut self) {
        // Where `/proc` cannot be read there is nobody to kill but itself.
        let members = family::members(self.id()).unwrap_or_default();
        let all = || {
            members
                .iter()
                .filter_map(|id| i32::try_from(*id).ok().map(Pid::from_raw))
        };
        if let Some(own) = all().next() {
            let _ = kill(own, Signal::SIGTERM);
        }
        let asked = Instant::now();
        while matches!(self.process.try_wait(), Ok(None)) && asked.elapsed() < LAST_WORDS {
            std::thread::sleep(LOOK_INTERVAL);
        }
        for left in all().skip(1) {
            let _ = kill(left, Signal::SIGKILL);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.leash == Leash::Terminate && matches!(self.process.try_wait(), Ok(None)) {
            self.terminate();
        }
        // Already ended is as good as killed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A folder for configurations and logs, removed in the end.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new folder below the system's temporary one.
    pub fn new(purpose: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("foreshade-bench-{purpose}-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left-overs in the temporary folder are a nuisance, not an error.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Ties this process to the life of `parent`, then becomes `program`. Returns only on failure.
pub fn guard(parent: u32, leash: Leash, program: &[OsString]) -> io::Error {
    let Some((program, arguments)) = program.split_first() else {
        return io::Error::new(io::ErrorKind::InvalidInput, "no program to run");
    };
    #[cfg(target_os = "linux")]
    {
        if let Err(error) = nix::sys::prctl::set_pdeathsig(leash.signal()) {
            return error.into();
        }
        // The parent may have died before the kernel was asked.
        if u32::try_from(nix::unistd::getppid().as_raw()) != Ok(parent) {
            return io::Error::other("the parent is gone");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (parent, leash);
    Command::new(program).args(arguments).exec()
}
