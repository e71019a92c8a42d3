//! Plays one scenario: start everything, warm up, break something, heal it, wait for the traffic to come back.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::farm::fault::Fault;
use crate::load::record::{Records, Span, micros};
use crate::load::{Load, LoadOptions};
use crate::scenarios::{FAULTY, RECOVERY, Scenario, WARM_UP, Who};
use crate::stage::process::Programs;
use crate::stage::topology::Topology;
use crate::stage::{Stage, Watcher};
use crate::verdict::Run;

/// The first seconds of the warm-up do not count as healthy: connections are being opened.
const SETTLING: Duration = Duration::from_secs(3);

/// How often a run looks whether the traffic is back.
const BACK_INTERVAL: Duration = Duration::from_secs(1);

/// After the traffic is back, users are watched for a little longer.
const AFTERMATH: Duration = Duration::from_secs(2);

/// Plays `scenario` with the proxy and configuration given, and returns what happened. Files go to `folder`.
pub fn play(
    scenario: &Scenario,
    programs: &Programs,
    topology: &Topology,
    folder: &Path,
    seed: u64,
) -> Result<Run> {
    let mut stage = Stage::start(programs, topology, folder, seed)?;
    set(&stage, &scenario.always)?;
    let length = WARM_UP + scenario.length + RECOVERY + AFTERMATH;
    let mut options = LoadOptions::steady(stage.topology.users(), 0.0, length);
    options.rate = scenario.rate;
    options.seed = seed;
    let load = Load::start(options).context("cannot start the load")?;
    let started = load.started();
    let watcher = Watcher::start(stage.farm, stage.admin, started)?;

    stage.wait_until(started + WARM_UP)?;
    let onset = started.elapsed();
    set(&stage, &scenario.fault)?;
    stage.wait_until(started + onset + scenario.length)?;
    for (who, _) in &scenario.fault {
        names(*who, &stage.topology)
            .iter()
            .try_for_each(|name| stage.farm.heal(name))?;
    }
    let healed = started.elapsed();
    let mut run = Run {
        pairs: stage.topology.pairs().to_vec(),
        faulty: FAULTY,
        healthy: Span::new(SETTLING, onset),
        fault: Span::new(onset, healed),
        ..Run::default()
    };
    if !scenario.fault.is_empty() {
        wait_for_return(&mut stage, &mut run, &watcher, started + healed)?;
    }
    run.end_us = micros(started.elapsed());
    load.stop();
    let report = load.finish();
    run.records = Records::from(report.records);
    run.lag = report.lag;
    run.timeline = watcher.timeline();
    run.ledger = stage.farm.ledger()?;
    Ok(run)
}

fn wait_for_return(stage: &mut Stage, run: &mut Run, watcher: &Watcher, healed: Instant) -> Result<()> {
    while healed.elapsed() < RECOVERY {
        stage.wait_until(Instant::now() + BACK_INTERVAL)?;
        run.timeline = watcher.timeline();
        if run.back_us().is_some() {
            return stage.wait_until(Instant::now() + AFTERMATH);
        }
    }
    Ok(())
}

fn set(stage: &Stage, faults: &[(Who, Fault)]) -> Result<()> {
    for (who, fault) in faults {
        names(*who, &stage.topology)
            .iter()
            .try_for_each(|name| stage.farm.set_fault(name, fault))?;
    }
    Ok(())
}

fn names(who: Who, topology: &Topology) -> Vec<String> {
    let pair = topology.pairs().get(FAULTY);
    match who {
        Who::Faulty => pair.map(|pair| pair.primary.clone()).into_iter().collect(),
        Who::ItsStandby => pair.and_then(|pair| pair.shadow.clone()).into_iter().collect(),
        Who::Everybody => topology
            .endpoints()
            .iter()
            .map(|endpoint| endpoint.name.clone())
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_goes_to_whom_it_is_meant_for() {
        let topology = Topology::parse(
            "{listeners: [{address: '127.0.0.1:8080'}], clusters: [{cohort: {header: x-user}, endpoints: [
                {name: a, address: '127.0.0.1:1'}, {name: b, address: '127.0.0.1:2', shadow: s}],
                shadows: [{name: s, address: '127.0.0.1:3'}]}]}",
        )
        .unwrap();
        assert_eq!(names(Who::Faulty, &topology), ["b"]);
        assert_eq!(names(Who::ItsStandby, &topology), ["s"]);
        assert_eq!(names(Who::Everybody, &topology), ["a", "b", "s"]);
    }
}
