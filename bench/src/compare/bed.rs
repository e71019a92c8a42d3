//! Where contenders are measured: endpoints that answer at once, and each contender before them, alone on its core.
//!
//! All of a protocol's contenders live at the same time, for one round, so that a case is put to one right after the
//! other. Two processes of the same program differ by some per cent for as long as they live, by where their memory
//! lies; so each round starts everybody anew.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};

use crate::farm::EndpointSpec;
use crate::results::{Protocol, Setting};
use crate::rivals::{Found, Primary, Running, Site, Tls};
use crate::stage::cores::Cores;
use crate::stage::process::{Child, Programs, accepts};
use crate::stage::{PATIENCE, ports};

/// Primaries; each has a standby.
const PRIMARIES: usize = 4;

/// Requests at once that an oracle would grant an endpoint; there is none here.
const CAPACITY: usize = 16;

/// Endpoints that answer at once, in a process of their own. Dropping it ends them.
#[derive(Debug)]
pub struct Endpoints {
    primaries: Vec<Primary>,
    standbys: Vec<EndpointSpec>,
    _process: Child,
}

impl Endpoints {
    /// Starts them and waits until they serve.
    pub fn start(programs: &Programs, folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let addresses = ports::free(2 * PRIMARIES)?;
        let names = || ('a'..).take(PRIMARIES).map(String::from);
        let standby = |name: String| format!("{name}-standby");
        let specs: Vec<_> = names()
            .chain(names().map(standby))
            .zip(addresses)
            .map(|(name, address)| EndpointSpec { name, address })
            .collect();
        let mut arguments: Vec<OsString> = ["endpoints", "--median-us=0", "--body-bytes=100"]
            .map(Into::into)
            .to_vec();
        arguments.extend(
            specs
                .iter()
                .map(|spec| format!("--endpoint={}={}", spec.name, spec.address).into()),
        );
        let mut process = Child::start(programs, "endpoints", &programs.bench, &arguments, folder)?;
        process.wait_until(PATIENCE, || specs.iter().all(|spec| accepts(spec.address)))?;
        let (primaries, standbys) = specs.split_at(PRIMARIES);
        let primary = |spec: &EndpointSpec| Primary {
            name: spec.name.clone(),
            address: spec.address,
            standby: Some(standby(spec.name.clone())),
        };
        Ok(Self {
            primaries: primaries.iter().map(primary).collect(),
            standbys: standbys.to_vec(),
            _process: process,
        })
    }

    /// One of them, to be asked directly.
    pub fn direct(&self) -> Option<SocketAddr> {
        self.primaries.first().map(|primary| primary.address)
    }

    /// A site before them, on free ports. As the rivals come: what they could do against failures would only cost them.
    pub fn site(&self, protocol: Protocol, workers: usize, tls: &Tls) -> Result<Site> {
        let mut addresses = ports::free(2)?.into_iter();
        let mut next = || addresses.next().context("no free ports");
        Ok(Site {
            listen: next()?,
            admin: next()?,
            protocol,
            workers,
            primaries: self.primaries.clone(),
            standbys: self.standbys.clone(),
            tls: Some(tls.clone()),
            setting: Setting::Defaults,
            capacity: CAPACITY,
        })
    }
}

/// Starts a contender on the core that is kept free, where there are several.
pub fn start_apart(
    cores: Option<&Cores>,
    programs: &Programs,
    (found, site): (&Found, &Site),
    folder: &Path,
) -> Result<Running> {
    let start = || found.start(programs, site, folder);
    match cores {
        Some(cores) => cores.measured(start)?,
        None => start(),
    }
}
