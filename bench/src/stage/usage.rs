//! What a process uses of memory, descriptors and threads: read from the proxy's own metrics.
//!
//! Under load the descriptors say little: each side keeps as many connections as were needed at once during its idle
//! timeout, so their number follows the machine's last stall. What a leak leaves behind shows *at rest*: when the load
//! has gone, and what was kept has timed out.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::client;

/// Longest wait for rest: the idle timeouts of both sides, 60 s by default, and as much again as a busy machine is late.
const PATIENCE: Duration = Duration::from_secs(90);

/// Between two looks. In step with the probes, which have descriptors too, every look would find them under way.
const LOOK_INTERVAL: Duration = Duration::from_millis(370);

/// Looks after which the least counts, where nothing is expected: a probe that is under way has a descriptor, too.
const LOOKS: usize = 8;

/// What the proxy uses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Resident memory.
    pub resident_mib: f64,
    /// Open descriptors, the one included that the question takes.
    pub descriptors: f64,
    /// Threads.
    pub threads: f64,
}

/// What the proxy behind this admin interface uses now.
pub fn usage(admin: SocketAddr) -> Result<Usage> {
    let (_, page) = client::request(admin, "GET", "/metrics", "").context("cannot read the metrics")?;
    parse(&page)
}

fn parse(page: &str) -> Result<Usage> {
    let value = |name: &str| {
        let sample = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        sample
            .and_then(|s| s.parse::<f64>().ok())
            .with_context(|| format!("no {name}"))
    };
    Ok(Usage {
        resident_mib: value("process_resident_memory_bytes")? / f64::from(1 << 20),
        descriptors: value("process_open_fds")?,
        threads: value("process_threads")?,
    })
}

/// What a proxy uses that has nothing to do yet.
pub fn before_load(admin: SocketAddr) -> Result<Usage> {
    least(admin, |looks, _| looks >= LOOKS)
}

/// What it uses when the load has gone: as soon as its descriptors are no more than `expected`, and otherwise the least
/// that was seen in [`PATIENCE`].
pub fn after_load(admin: SocketAddr, expected: f64) -> Result<Usage> {
    let since = Instant::now();
    least(admin, |_, seen| {
        seen.descriptors <= expected || since.elapsed() > PATIENCE
    })
}

/// The reading with the fewest descriptors, until `enough` of the number of looks and of what was seen.
fn least(admin: SocketAddr, enough: impl Fn(usize, &Usage) -> bool) -> Result<Usage> {
    let mut seen = usage(admin)?;
    let mut looks = 1;
    while !enough(looks, &seen) {
        std::thread::sleep(LOOK_INTERVAL);
        let now = usage(admin)?;
        if now.descriptors <= seen.descriptors {
            seen = now;
        }
        looks += 1;
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_figures_are_found_among_others() {
        let page = "# HELP process_open_fds x\n# TYPE process_open_fds gauge\nprocess_open_fds 42\n\
                    process_resident_memory_bytes 3145728\nprocess_threads 7\nprocess_open_fds_more 1\n";
        let usage = parse(page).unwrap();
        let expected = Usage {
            resident_mib: 3.0,
            descriptors: 42.0,
            threads: 7.0,
        };
        assert_eq!(usage, expected);
    }

    #[test]
    fn a_figure_that_is_missing_is_named() {
        let error = parse("process_resident_memory_bytes 1\nprocess_threads 7\n").unwrap_err();
        assert!(error.to_string().contains("process_open_fds"), "{error}");
    }
}
