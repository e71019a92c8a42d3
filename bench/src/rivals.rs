//! The contenders: whoever can stand between the same users and the same endpoints, each configured from one
//! description.
//!
//! A comparison is fair when all do the same work, so nobody here has a configuration file of his own: a [`Site`] says
//! who listens where and who stands by for whom, and each contender's module turns it into that program's words. Two
//! settings: [`Setting::Tuned`] is what its manual offers against failures, [`Setting::Defaults`] the same features
//! as they come. In both, nobody writes an access log and everybody keeps connections to endpoints.
//!
//! A contender that is not installed is [`Absent`], with the way to get it; so is one that cannot do what is asked.
//! Both are told to the reader and skipped, never silently.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::farm::EndpointSpec;
use crate::results::{Protocol, Setting};
use crate::stage::process::{Child, Leash, Programs, accepts};
use crate::stage::{PATIENCE, family};

pub mod bare;

mod envoy;
mod foreshade;
mod haproxy;
mod nginx;

/// Folders above this program in which `scripts/rivals` may have left its own: `target/release` is two below.
const FOLDERS_ABOVE_MAX: usize = 4;

/// Who stands between users and endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Contender {
    /// The proxy that all this is about.
    Foreshade,
    /// The same, with its relay on.
    Relay,
    /// The same, with its relay off: every request takes the full path.
    Full,
    /// pingora-proxy, round robin, and nothing else: what foreshade is made of.
    Bare,
    /// From Debian.
    Nginx,
    /// From Debian.
    Haproxy,
    /// From PyPI.
    Envoy,
    /// Round robin over the primaries: nobody notices anything.
    #[value(name = "none")]
    Unmoved,
    /// Knows the fault beforehand.
    Oracle,
}

/// An endpoint that serves users as long as all is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Primary {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub address: SocketAddr,
    /// Name of the standby that takes over; several may share one.
    pub standby: Option<String>,
}

/// Certificate and key of a listener, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Both in one file, certificate first: the only form that HAProxy reads.
    pub both: PathBuf,
}

/// What every contender is configured from.
#[derive(Clone, Debug)]
pub struct Site {
    /// Where users connect.
    pub listen: SocketAddr,
    /// Where the contender shows itself or is taught, if it does either.
    pub admin: SocketAddr,
    /// How users speak to it. To endpoints it speaks HTTP/1.1 on kept connections, or passes bytes on.
    pub protocol: Protocol,
    /// Threads, or processes, that serve.
    pub workers: usize,
    /// Who serves.
    pub primaries: Vec<Primary>,
    /// Who takes over.
    pub standbys: Vec<EndpointSpec>,
    /// Needed for [`Protocol::Https1`] and [`Protocol::H2`].
    pub tls: Option<Tls>,
    /// How well it is configured against failures.
    pub setting: Setting,
    /// Requests that an endpoint works on at once; only the oracle knows.
    pub capacity: usize,
}

impl Site {
    /// Whether users' bytes are passed on unread.
    fn passes_bytes(&self) -> bool {
        self.protocol == Protocol::Tcp
    }

    /// Whether users speak HTTP/2.
    fn speaks_h2(&self) -> bool {
        matches!(self.protocol, Protocol::H2c | Protocol::H2)
    }

    fn is_tuned(&self) -> bool {
        self.setting == Setting::Tuned
    }

    /// Certificate and key, for those protocols that need them.
    fn encryption(&self) -> Option<&Tls> {
        match self.protocol {
            Protocol::Https1 | Protocol::H2 => self.tls.as_ref(),
            Protocol::Http1 | Protocol::H2c | Protocol::Tcp => None,
        }
    }
}

/// A contender that does not take part, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Absent {
    /// Who.
    pub contender: Contender,
    /// Why, and what would change it.
    pub why: String,
}

/// A contender that can be started.
#[derive(Clone, Debug)]
pub struct Found {
    /// Who.
    pub contender: Contender,
    /// Its program.
    pub program: PathBuf,
    /// Its version, as it names itself.
    pub version: String,
    /// What it says about how it was built; some features depend on it.
    build: String,
}

/// Writes a configuration.
type Written = fn(&Site, &Found) -> String;

/// All that one contender's module has to say.
struct Recipe {
    /// Its file, on PATH or where the recipe says.
    program: &'static str,
    /// How to get it.
    install: &'static str,
    /// Makes it tell version and build.
    version: &'static [&'static str],
    /// Why it cannot serve such a site, if it cannot.
    cannot: fn(&Site, &Found) -> Option<&'static str>,
    /// Name of its configuration file, and what to write into it.
    configuration: Option<(&'static str, Written)>,
    /// Its arguments, given the site and the folder that holds the configuration.
    arguments: fn(&Site, &Path) -> Vec<OsString>,
    /// Whether it serves, once it accepts connections.
    ready: fn(&Site) -> bool,
    leash: Leash,
}

impl Contender {
    /// Everybody.
    pub const ALL: [Self; 9] = [
        Self::Foreshade,
        Self::Relay,
        Self::Full,
        Self::Bare,
        Self::Nginx,
        Self::Haproxy,
        Self::Envoy,
        Self::Unmoved,
        Self::Oracle,
    ];

    /// As it is called in results and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Foreshade => "foreshade",
            Self::Relay => "relay",
            Self::Full => "full",
            Self::Bare => "bare",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Unmoved => "none",
            Self::Oracle => "oracle",
        }
    }

    /// Whether it is this project's proxy, however it is set.
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Foreshade | Self::Relay | Self::Full)
    }

    fn recipe(self) -> &'static Recipe {
        match self {
            Self::Foreshade => &foreshade::RECIPE,
            Self::Relay => &foreshade::RELAY,
            Self::Full => &foreshade::FULL,
            Self::Bare | Self::Unmoved => &bare::RECIPE,
            Self::Nginx => &nginx::RECIPE,
            Self::Haproxy => &haproxy::RECIPE,
            Self::Envoy => &envoy::RECIPE,
            Self::Oracle => &bare::ORACLE,
        }
    }

    /// Looks for its program and asks it for its version.
    pub fn find(self, programs: &Programs) -> Result<Found, Absent> {
        let recipe = self.recipe();
        let absent = |why: String| Absent { contender: self, why };
        let program = match self {
            Self::Foreshade | Self::Relay | Self::Full => Some(programs.proxy.clone()),
            Self::Bare | Self::Unmoved | Self::Oracle => Some(programs.bench.clone()),
            Self::Nginx | Self::Haproxy | Self::Envoy => recipe.search(),
        };
        let program = program.ok_or_else(|| absent(format!("not installed; {}", recipe.install)))?;
        let told = Command::new(&program)
            .args(recipe.version)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| absent(format!("{} does not run: {error}", program.display())))?;
        let build = [told.stdout, told.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        let build = build.concat();
        let version = version_in(&build)
            .ok_or_else(|| absent(format!("{} does not tell its version", program.display())))?;
        Ok(Found {
            contender: self,
            program,
            version,
            build,
        })
    }
}

impl Recipe {
    /// On PATH, or in the folder of `scripts/rivals` beside the build.
    fn search(&self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let own = std::env::current_exe().unwrap_or_default();
        let above = own
            .ancestors()
            .skip(1)
            .take(FOLDERS_ABOVE_MAX)
            .map(|folder| folder.join("rivals/bin"));
        std::env::split_paths(&path)
            // Where Debian puts servers, and what a user's PATH leaves out.
            .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
            .chain(above)
            .map(|folder| folder.join(self.program))
            .find(|file| file.is_file())
    }
}

/// The first thing that looks like a version, behind the word if it is there: a path before it may look like one too.
fn version_in(text: &str) -> Option<String> {
    let behind = text.split_once("version").map_or(text, |(_, behind)| behind);
    let pieces = behind.split(|letter: char| letter.is_whitespace() || letter == '/');
    let is_version = |piece: &&str| piece.starts_with(|c: char| c.is_ascii_digit()) && piece.contains('.');
    pieces.into_iter().find(is_version).map(str::to_owned)
}

impl Found {
    /// Why it cannot serve such a site, if it cannot.
    pub fn cannot(&self, site: &Site) -> Option<&'static str> {
        (self.contender.recipe().cannot)(site, self)
    }

    /// What it is configured with; its arguments where it has no file.
    pub fn configuration(&self, site: &Site) -> String {
        let recipe = self.contender.recipe();
        match recipe.configuration {
            Some((_, text)) => text(site, self),
            None => {
                let arguments = (recipe.arguments)(site, Path::new(""));
                let words = arguments.iter().map(|word| word.to_string_lossy());
                words.collect::<Vec<_>>().join(" ")
            }
        }
    }

    /// Starts it and waits until it serves. Files go to `folder`, which it has for itself. To be called from a thread
    /// that lives as long as it shall, like [`Child::start`].
    pub fn start(&self, programs: &Programs, site: &Site, folder: &Path) -> Result<Running> {
        let recipe = self.contender.recipe();
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        if let Some((name, text)) = recipe.configuration {
            let file = folder.join(name);
            std::fs::write(&file, text(site, self))
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        let arguments = (recipe.arguments)(site, folder);
        let name = self.contender.name();
        let mut child = Child::start_on(recipe.leash, programs, (name, &self.program), &arguments, folder)?;
        child.wait_until(PATIENCE, || accepts(site.listen) && (recipe.ready)(site))?;
        // Somebody else may have answered on its port.
        child.check()?;
        Ok(Running {
            contender: self.contender,
            site: site.clone(),
            child,
        })
    }
}

/// A contender that serves. Dropping it ends it with all its processes.
#[derive(Debug)]
pub struct Running {
    /// Who.
    pub contender: Contender,
    /// What it was configured from.
    pub site: Site,
    child: Child,
}

impl Running {
    /// All its processes, workers too.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn processes(&self) -> std::io::Result<Vec<u32>> {
        family::members(self.child.id())
    }

    /// Fails, with the end of its log, if it has ended.
    pub fn check(&mut self) -> Result<()> {
        self.child.check()
    }
}

#[cfg(test)]
mod tests;
