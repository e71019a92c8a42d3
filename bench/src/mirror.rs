//! What a mirror costs: CPU time per request with a share of them mirrored against none, and what users see of a target
//! that hangs.
//!
//! Two proxies with the same configuration but for the mirror, each with endpoints of its own, measured in turns as
//! in [`crate::compare`]: what the machine does to one of them it does to the other. Two processes of the same
//! program differ by several per cent for as long as they live, by where their memory lies; so each round of the cost
//! starts both anew.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::client;
use crate::closed_loop::Asking;
use crate::compare::driver::{Driver, Work};
use crate::compare::measure::{self, CONNECTIONS, Cost};
use crate::farm::fault::Kind;
use crate::load::record::{Records, Span, Window};
use crate::load::{Load, LoadOptions};
use crate::results::Protocol;
use crate::stage::admin::Admin;
use crate::stage::process::{Child, Programs, accepts};
use crate::stage::topology::Topology;
use crate::stage::{PATIENCE, Stage, start_proxy};

/// How to measure.
#[derive(Clone, Copy, Debug)]
pub struct MirrorOptions {
    /// Pairs of measurements.
    pub rounds: usize,
    /// Length of one measurement.
    pub length: Duration,
    /// Not counted at the start of each.
    pub settling: Duration,
}

/// Something measured without and with a mirror, one right after the other.
#[derive(Clone, Copy, Debug)]
pub struct Both<T> {
    /// Without.
    pub off: T,
    /// With.
    pub on: T,
}

/// A proxy and endpoints that answer at once.
#[derive(Debug)]
struct Bench {
    topology: Topology,
    proxy: Child,
    /// Ends with this.
    _endpoints: Child,
}

/// What became of the copies.
#[derive(Clone, Copy, Debug, Default)]
pub struct Copies {
    /// Pairs of answers that were compared, those of primaries included.
    pub compared: u64,
    /// Copies that were not made or were given up.
    pub dropped: u64,
}

/// CPU time per request with `share` of all requests mirrored to shadows that answer, and what became of the copies.
/// Calls
/// `on_round` after each round.
pub fn cost(
    programs: &Programs,
    topology: &Topology,
    (folder, share): (&Path, &str),
    options: &MirrorOptions,
    mut on_round: impl FnMut(usize, &Both<Cost>),
) -> Result<(Vec<Both<Cost>>, Copies)> {
    let mirrored = topology.with_mirror(share);
    let (mut rounds, mut copies) = (Vec::new(), Copies::default());
    for round in 0..options.rounds {
        let start = |topology: &Topology, name: &str| Bench::start(programs, topology, &folder.join(name));
        let (off, on) = (start(topology, "off")?, start(&mirrored, "on")?);
        let measure = |bench: &Bench| bench.cost(programs, options, folder);
        let first = (round % 2 == 1).then(|| measure(&on)).transpose()?;
        let both = Both {
            off: measure(&off)?,
            on: first.map_or_else(|| measure(&on), Ok)?,
        };
        copies.add(&on.topology)?;
        rounds.push(both);
        on_round(round, &both);
    }
    ensure!(copies.compared > 0, "no copy was compared");
    Ok((rounds, copies))
}

impl Copies {
    /// Adds what a proxy says of its mirror.
    fn add(&mut self, topology: &Topology) -> Result<()> {
        let seen = mirror(topology)?;
        let lanes = || seen["lanes"].as_array().into_iter().flatten();
        let sum = |key: &str| lanes().filter_map(|lane| lane[key].as_u64()).sum::<u64>();
        self.compared += sum("compared") + sum("controls");
        let reasons = seen["dropped"][0]["reasons"].as_object().into_iter().flatten();
        self.dropped += reasons.filter_map(|(_, count)| count.as_u64()).sum::<u64>();
        Ok(())
    }
}

/// What users see under `rate` requests per second, while with a mirror all its targets hang.
pub fn hung(
    programs: &Programs,
    topology: &Topology,
    (folder, share): (&Path, &str),
    (rate, options): (f64, &MirrorOptions),
    mut on_round: impl FnMut(usize, &Both<Window>),
) -> Result<Vec<Both<Window>>> {
    let start = |topology: &Topology, name| Stage::start(programs, topology, &folder.join(name), 1);
    let off = start(topology, "users-off")?;
    let on = start(&topology.with_mirror(share), "users-on")?;
    for stage in [&off, &on] {
        for shadow in topology.pairs().iter().filter_map(|pair| pair.shadow.as_deref()) {
            stage.farm.set_faults(shadow, &[Kind::Hang.into()])?;
        }
    }
    let measure = |stage: &Stage, round: usize| -> Result<Window> {
        let mut load = LoadOptions::steady(stage.topology.users(), rate, options.settling + options.length);
        load.seed = round as u64 + 1;
        // Two loads on one farm must not share numbers.
        load.first_number = round as u64 * 100_000_000 + 1;
        let records = Records::from(Load::start(load)?.finish().records);
        let span = Span::new(options.settling, options.settling + options.length);
        records.window(span).context("no request was made")
    };
    let mut rounds = Vec::new();
    for round in 0..options.rounds {
        let both = Both {
            off: measure(&off, round)?,
            on: measure(&on, round)?,
        };
        rounds.push(both);
        on_round(round, &both);
    }
    let seen = mirror(&on.topology)?.to_string();
    ensure!(seen.contains("\"busy\""), "no target hung: {seen}");
    Ok(rounds)
}

impl Bench {
    fn start(programs: &Programs, topology: &Topology, folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let topology = topology.with_workers(1).on_free_ports()?;
        let specs = topology.endpoints();
        let mut arguments: Vec<OsString> = ["endpoints", "--median-us=0", "--body-bytes=100"]
            .map(Into::into)
            .to_vec();
        arguments.extend(
            specs
                .iter()
                .map(|spec| format!("--endpoint={}={}", spec.name, spec.address).into()),
        );
        let mut endpoints = Child::start(programs, "endpoints", &programs.bench, &arguments, folder)?;
        endpoints.wait_until(PATIENCE, || specs.iter().all(|spec| accepts(spec.address)))?;
        let mut proxy = start_proxy(programs, &topology, folder)?;
        let admin = Admin(topology.admin());
        proxy.wait_until(PATIENCE, || admin.is_ready())?;
        Ok(Self {
            topology,
            proxy,
            _endpoints: endpoints,
        })
    }

    /// What a request costs the proxy, flat out.
    fn cost(&self, programs: &Programs, options: &MirrorOptions, folder: &Path) -> Result<Cost> {
        let work = Work {
            target: self.topology.users(),
            asking: Asking {
                protocol: Protocol::Http1,
                connections: CONNECTIONS,
                body_bytes: None,
                posted_bytes: None,
                anew: false,
                rate: None,
                settling: options.settling,
                length: options.length,
            },
        };
        measure::cost(programs, &[self.proxy.id()], (Driver::Ours, &work), folder)
    }
}

/// What the proxy says of its mirror.
fn mirror(topology: &Topology) -> Result<serde_json::Value> {
    client::json(topology.admin(), "GET", "/v1/mirror", "")
}
