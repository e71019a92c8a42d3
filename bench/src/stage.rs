//! The stage of a run: a farm and a proxy as processes of their own, on free ports, and an eye on both.
//!
//! Real processes on real sockets, because that is what is shipped. The watcher asks both sides ten times per second
//! from a thread of its own, so that whoever directs the run may wait without missing anything.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::client::FarmControl;
use crate::farm::EndpointSpec;
use crate::load::record::micros;
use crate::scenario::Service;
use crate::stage::admin::Admin;
use crate::stage::process::{Child, Programs};
use crate::stage::timeline::{Sample, Timeline};
use crate::stage::topology::Topology;

pub mod admin;
pub mod cores;
pub mod family;
pub mod interrupt;
pub mod network;
pub mod ports;
pub mod process;
pub mod timeline;
pub mod topology;
pub mod usage;

/// How long a process may take to serve.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// Between two looks.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// A farm and a proxy before it. Dropping it ends both.
#[derive(Debug)]
pub struct Stage {
    /// Where everything listens.
    pub topology: Topology,
    /// The farm's control.
    pub farm: FarmControl,
    /// The proxy's admin interface.
    pub admin: Admin,
    proxy: Child,
    endpoints: Child,
}

impl Stage {
    /// Starts a farm and a proxy with `topology`, moved to free ports, and waits until both serve. Files go to
    /// `folder`.
    pub fn start(programs: &Programs, topology: &Topology, folder: &Path, seed: u64) -> Result<Self> {
        Self::start_here(programs, topology.on_free_ports()?, folder, seed)
    }

    /// The same on the ports that `topology` has.
    pub fn start_here(programs: &Programs, topology: Topology, folder: &Path, seed: u64) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let farm = FarmControl(topology.control());
        let plan = FarmPlan {
            endpoints: topology.endpoints(),
            control: topology.control(),
            seed,
            service: None,
            inside: Vec::new(),
        };
        let mut endpoints = start_farm(programs, &plan, folder)?;
        endpoints.wait_until(PATIENCE, || farm.counts().is_ok())?;
        let admin = Admin(topology.admin());
        let mut proxy = start_proxy(programs, &topology, folder)?;
        proxy.wait_until(PATIENCE, || admin.is_ready())?;
        Ok(Self {
            topology,
            farm,
            admin,
            proxy,
            endpoints,
        })
    }

    /// Where the proxy's configuration lies.
    pub fn config_file(folder: &Path) -> PathBuf {
        folder.join("proxy.yaml")
    }

    /// The process id of the proxy.
    pub fn proxy(&self) -> u32 {
        self.proxy.id()
    }

    /// Waits, as long as both processes live.
    pub fn wait_until(&mut self, until: Instant) -> Result<()> {
        loop {
            self.proxy.check()?;
            self.endpoints.check()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(WATCH_INTERVAL));
        }
    }
}

/// A farm that is to be started.
#[derive(Clone, Debug)]
pub struct FarmPlan<'a> {
    /// Its endpoints.
    pub endpoints: &'a [EndpointSpec],
    /// Where it is controlled.
    pub control: SocketAddr,
    /// Seed of service times and errors.
    pub seed: u64,
    /// What its endpoints do for a request, if not the usual.
    pub service: Option<Service>,
    /// What stands before its command, if it is not to run like any other program.
    pub inside: Vec<OsString>,
}

/// Starts a farm as a process. What it prints goes to `folder`.
pub fn start_farm(programs: &Programs, plan: &FarmPlan<'_>, folder: &Path) -> Result<Child> {
    let mut words = plan.inside.clone();
    words.push(programs.bench.clone().into_os_string());
    words.push("endpoints".into());
    words.push(format!("--control={}", plan.control).into());
    words.push(format!("--seed={}", plan.seed).into());
    if let Some(service) = plan.service {
        words.push(format!("--service={}", service.time()).into());
        words.push(format!("--cores={}", service.cores).into());
    }
    let endpoints = plan.endpoints.iter();
    words.extend(endpoints.map(|spec| format!("--endpoint={}={}", spec.name, spec.address).into()));
    let program = PathBuf::from(words.remove(0));
    Child::start(programs, "endpoints", &program, &words, folder)
}

/// Starts `foreshade-proxy run` with the configuration, written to `folder`.
pub fn start_proxy(programs: &Programs, topology: &Topology, folder: &Path) -> Result<Child> {
    let file = Stage::config_file(folder);
    std::fs::write(&file, topology.text()).with_context(|| format!("cannot write {}", file.display()))?;
    let arguments = [OsString::from("run"), "--config".into(), file.into_os_string()];
    Child::start(programs, "proxy", &programs.proxy, &arguments, folder)
}

/// Looks at farm and proxy until it is stopped.
#[derive(Debug)]
pub struct Watcher {
    timeline: Arc<Mutex<Timeline>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Starts looking; samples are dated from `started`.
    pub fn start(farm: FarmControl, admin: Option<Admin>, started: Instant) -> Result<Self> {
        let (timeline, stop) = (
            Arc::new(Mutex::new(Timeline::default())),
            Arc::new(AtomicBool::new(false)),
        );
        let (samples, ended) = (Arc::clone(&timeline), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("watcher".into())
            .spawn(move || {
                for turn in 1.. {
                    if ended.load(Ordering::Relaxed) {
                        return;
                    }
                    // A look that fails is a gap; the director notices dead processes by itself.
                    if let Ok(counts) = farm.counts() {
                        let at_us = micros(started.elapsed());
                        let sample = Sample {
                            at_us,
                            counts,
                            views: admin.and_then(|admin| admin.endpoints().ok()),
                        };
                        samples
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .0
                            .push(sample);
                    }
                    let next = started + WATCH_INTERVAL * turn;
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                }
            })?;
        Ok(Self {
            timeline,
            stop,
            thread: Some(thread),
        })
    }

    /// What was seen so far.
    pub fn timeline(&self) -> Timeline {
        self.timeline
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The last looks, at most `count`.
    pub fn recent(&self, count: usize) -> Timeline {
        let timeline = self.timeline.lock().unwrap_or_else(PoisonError::into_inner);
        let older = timeline.0.len().saturating_sub(count);
        Timeline(timeline.0.iter().skip(older).cloned().collect())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Whatever it has seen is in the timeline.
            let _ = thread.join();
        }
    }
}
