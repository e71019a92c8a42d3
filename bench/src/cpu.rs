//! CPU time per request, ours against the bare proxy, in turns.
//!
//! The unit is what an operator pays: user and system time of the proxy's process, divided by the requests it served
//! meanwhile. Throughput would measure the harness too, which shares the machine. The two are measured in turns (A B A
//! B ...), each pair giving one ratio, because a machine's speed drifts more from minute to minute than the two differ.
//!
//! Both serve the same number of requests per second, below what either could. Flat out, the faster one leaves those around
//! it less time to sleep and is spared the cost of waking them, so that the ratio would say as much about the harness as
//! about the proxies.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::closed_loop::{self, Asking};
use crate::stage::admin::Admin;
use crate::stage::cores::Cores;
use crate::stage::process::{Child, Programs};
use crate::stage::start_proxy;
use crate::stage::topology::Topology;

/// Keep-alive connections.
pub const CONNECTIONS: u32 = 64;

/// How long a proxy may take to serve.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// Clock ticks per second in `/proc/PID/stat`: fixed by the kernel's interface to user space on every architecture that
/// matters here, whatever the kernel's own tick.
const TICKS_PER_SECOND: f64 = 100.0;

/// What to measure.
#[derive(Clone, Debug)]
pub struct CpuOptions {
    /// Pairs of measurements.
    pub rounds: usize,
    /// Length of one measurement.
    pub length: Duration,
    /// Not counted at the start of each.
    pub settling: Duration,
    /// Requests per second; flat out where `None`.
    pub rate: Option<f64>,
}

/// One measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// User time per request in microseconds.
    pub user_us: f64,
    /// System time per request in microseconds.
    pub system_us: f64,
    /// Requests per second meanwhile.
    pub rps: f64,
}

impl Cost {
    /// User and system time per request in microseconds.
    pub fn total_us(&self) -> f64 {
        self.user_us + self.system_us
    }
}

/// One round: ours, then the bare one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Round {
    /// `foreshade-proxy`.
    pub ours: Cost,
    /// Bare pingora-proxy.
    pub bare: Cost,
}

/// CPU time of a process so far, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct CpuTime {
    user_s: f64,
    system_s: f64,
}

/// Measures with the endpoints of `topology`, one worker each; calls `on_round` after each round. Files go to `folder`.
pub fn measure(
    programs: &Programs,
    topology: &Topology,
    folder: &Path,
    options: &CpuOptions,
    mut on_round: impl FnMut(usize, &Round),
) -> Result<Vec<Round>> {
    let cores = Cores::divide()?;
    let ours = topology.with_workers(1).on_free_ports()?;
    let mut endpoints = start_endpoints(programs, &ours, folder)?;
    let primaries: Vec<_> = ours
        .endpoints()
        .iter()
        .take(ours.pairs().len())
        .map(|spec| spec.address)
        .collect();
    endpoints.wait_until(PATIENCE, || primaries.iter().all(answers))?;
    let mut proxy = apart(cores.as_ref(), || start_proxy(programs, &ours, folder))?;
    let admin = Admin(ours.admin());
    proxy.wait_until(PATIENCE, || admin.is_ready())?;
    // The control's port belongs to this set of ports and nobody uses it here.
    let listen = ours.control();
    let mut bare = apart(cores.as_ref(), || {
        start_bare(programs, listen, &primaries, folder)
    })?;
    bare.wait_until(PATIENCE, || answers(&listen))?;

    let mut rounds = Vec::new();
    for round in 0..options.rounds {
        let ours = one(&proxy, ours.users(), options).context("foreshade-proxy")?;
        let bare = one(&bare, listen, options).context("bare pingora-proxy")?;
        rounds.push(Round { ours, bare });
        on_round(round, &Round { ours, bare });
    }
    Ok(rounds)
}

/// Starts something on a core of its own, where there are several.
fn apart(cores: Option<&Cores>, start: impl FnOnce() -> Result<Child>) -> Result<Child> {
    match cores {
        Some(cores) => cores.measured(start)?,
        None => start(),
    }
}

/// Whether somebody listens.
pub(crate) fn answers(address: &SocketAddr) -> bool {
    std::net::TcpStream::connect_timeout(address, Duration::from_millis(100)).is_ok()
}

/// Endpoints that answer at once.
pub(crate) fn start_endpoints(programs: &Programs, topology: &Topology, folder: &Path) -> Result<Child> {
    let mut arguments = vec![
        OsString::from("endpoints"),
        "--median-us=0".into(),
        "--body-bytes=100".into(),
    ];
    let specs = topology.endpoints().iter();
    arguments.extend(specs.map(|spec| format!("--endpoint={}={}", spec.name, spec.address).into()));
    Child::start(programs, "endpoints", &programs.bench, &arguments, folder)
}

fn start_bare(
    programs: &Programs,
    listen: SocketAddr,
    upstreams: &[SocketAddr],
    folder: &Path,
) -> Result<Child> {
    let mut arguments = vec![OsString::from("bare"), format!("--listen={listen}").into()];
    arguments.extend(
        upstreams
            .iter()
            .map(|upstream| format!("--upstream={upstream}").into()),
    );
    Child::start(programs, "bare", &programs.bench, &arguments, folder)
}

/// One measurement of a process that users reach at `target`.
pub(crate) fn one(process: &Child, target: SocketAddr, options: &CpuOptions) -> Result<Cost> {
    let asking = Asking {
        connections: CONNECTIONS,
        rate: options.rate,
        settling: options.settling,
        length: options.length,
    };
    let meter = || cpu_time(process.id());
    let (done, before, after) = closed_loop::run(target, &asking, meter)?;
    ensure!(
        done.failed == 0,
        "{} of {CONNECTIONS} connections failed",
        done.failed
    );
    ensure!(done.requests > 0, "no request was answered");
    let spent = after.user_s + after.system_s - before.user_s - before.system_s;
    ensure!(
        spent > 0.0,
        "the process spent no CPU time; a wrapper around the real one?"
    );
    let per_request = |seconds: f64| seconds * 1e6 / done.requests as f64;
    Ok(Cost {
        user_us: per_request(after.user_s - before.user_s),
        system_us: per_request(after.system_s - before.system_s),
        rps: done.requests as f64 / options.length.as_secs_f64(),
    })
}

fn cpu_time(process: u32) -> io::Result<CpuTime> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    parse_stat(&text).ok_or_else(|| io::Error::other("unexpected format of /proc/PID/stat"))
}

/// Fields 14 and 15 of proc_pid_stat(5). The second field, the name, may hold anything, so counting starts behind it.
fn parse_stat(text: &str) -> Option<CpuTime> {
    let behind_name = text.rsplit_once(')')?.1;
    let mut fields = behind_name.split_ascii_whitespace().skip(11);
    let mut seconds = || Some(fields.next()?.parse::<f64>().ok()? / TICKS_PER_SECOND);
    Some(CpuTime {
        user_s: seconds()?,
        system_s: seconds()?,
    })
}

/// Median of some numbers, and the smallest and largest. Zeros where there are none.
pub fn spread(values: impl IntoIterator<Item = f64>) -> (f64, f64, f64) {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or_default();
    let middle = f64::midpoint(at(values.len().saturating_sub(1) / 2), at(values.len() / 2));
    (middle, at(0), at(values.len().saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_brackets_does_not_move_the_fields() {
        let text = "42 (a) b (c) S 1 42 42 0 -1 4194304 1 0 0 0 250 125 0 0 20 0 3 0 1 1 1";
        assert_eq!(
            parse_stat(text),
            Some(CpuTime {
                user_s: 2.5,
                system_s: 1.25
            })
        );
    }

    #[test]
    fn the_own_process_can_be_read() {
        assert!(cpu_time(std::process::id()).is_ok());
    }

    #[test]
    fn a_spread_has_the_median_between_its_ends() {
        assert_eq!(spread([3.0, 1.0, 2.0]), (2.0, 1.0, 3.0));
        assert_eq!(spread([4.0, 1.0, 2.0, 3.0]), (2.5, 1.0, 4.0));
        assert_eq!(spread([]), (0.0, 0.0, 0.0));
    }
}
