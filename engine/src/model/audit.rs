//! What has to hold at every tick of every run, whatever the scenario: the invariants of the engine.
//!
//! The numbers are those of the risk design (4.9). Each breach is told with its moment, so that a trace of the same
//! scenario and seed shows what led to it. Bounds are checked on what really happened to requests (attempts, sides,
//! repeated posts), not on what the engine says about itself, wherever the model knows it better.

use super::record::{EndpointTick, Record, ShiftTick, Tick};
use super::scenario::Scenario;
use crate::assessment::Standing;
use crate::decision::{Mode, Phase};
use crate::moment::Moment;

/// Risk that an endpoint without a fault may seem to have: below the least that could release a shift.
const HEALTHY_RISK_MAX: f64 = 0.10;

/// Every breach of an invariant in a run, one line each; empty where all held.
pub fn breaches(scenario: &Scenario, record: &Record) -> Vec<String> {
    let mut found = whole_run(scenario, record);
    for (before, tick) in record.ticks.iter().zip(record.ticks.iter().skip(1)) {
        let breached = between(before, tick)
            .into_iter()
            .chain(tick_alone(scenario, tick));
        found.extend(breached.map(|breach| format!("{:.1}s: {breach}", tick.at.seconds_since(Moment::ZERO))));
    }
    found
}

/// 14: repeated requests stay within the budget, and what must not be repeated is not.
fn whole_run(scenario: &Scenario, record: &Record) -> Vec<String> {
    let mut found = Vec::new();
    if record.repeated_posts > 0 {
        found.push(format!(
            "invariant 14: {} posts reached two endpoints",
            record.repeated_posts
        ));
    }
    let spent = record.retries as f64 + 0.5 * record.moves as f64;
    // Retries succeed as well, and earn.
    let earned = 0.1 * record.attempts as f64 + 10.0 * scenario.length.as_secs_f64() + 100.0;
    if spent > earned {
        found.push(format!(
            "invariant 14: retries cost {spent} tokens, {earned} could be earned"
        ));
    }
    let begun: u64 = record
        .ticks
        .iter()
        .flat_map(|t| &t.endpoints)
        .map(|e| u64::from(e.started))
        .sum();
    // What began after the last tick has not been reported yet.
    if begun > record.attempts || record.attempts - begun > 1 + record.attempts / 20 {
        found.push(format!(
            "invariant 1: {} attempts, {begun} reported",
            record.attempts
        ));
    }
    found
}

fn tick_alone(scenario: &Scenario, tick: &Tick) -> Vec<String> {
    let mut found = Vec::new();
    for (index, endpoint) in tick.endpoints.iter().enumerate() {
        let hazard: f64 = endpoint.hazards.iter().sum();
        if (endpoint.raw - (1.0 - (-hazard).exp())).abs() > 1e-9 {
            found.push(format!(
                "invariant 17: endpoint {index} {} is not {hazard}",
                endpoint.raw
            ));
        }
        let faulty = scenario
            .faults
            .iter()
            .any(|f| f.endpoint == index && f.from <= tick.at);
        let excused = faulty || scenario.suspended.is_some();
        if !excused && endpoint.risk > HEALTHY_RISK_MAX {
            found.push(format!(
                "invariant 5: healthy endpoint {index} has a risk of {:.3}",
                endpoint.risk
            ));
        }
        if tick.mode == Mode::Panic && is_ignored(endpoint) {
            found.push(format!("invariant 15: endpoint {index} is ignored in panic"));
        }
        if let Some(shift) = endpoint.shift {
            found.extend(shift_alone(index, &shift, excused));
        }
    }
    found
}

fn is_ignored(endpoint: &EndpointTick) -> bool {
    endpoint.standing != Standing::Dead && (endpoint.weight <= 0.0 || !endpoint.available)
}

fn shift_alone(index: usize, shift: &ShiftTick, excused: bool) -> Option<String> {
    let ShiftTick {
        share, class_share, ..
    } = *shift;
    if !(0.0..=1.0).contains(&share) || class_share < share {
        return Some(format!(
            "invariant 1: endpoint {index} has shares {share} and {class_share}"
        ));
    }
    (!excused && class_share > 0.0)
        .then(|| format!("invariant 5: healthy endpoint {index} is shifted by {class_share}"))
}

fn between(before: &Tick, tick: &Tick) -> Vec<String> {
    let mut found = Vec::new();
    for (index, (was, is)) in before.endpoints.iter().zip(&tick.endpoints).enumerate() {
        let (Some(was), Some(now)) = (was.shift, is.shift) else {
            continue;
        };
        // 6: one tick to come down to a cap that fell.
        if now.phase != Phase::Override && now.share > now.cap.max(was.cap) + 1e-9 {
            found.push(format!(
                "invariant 6: endpoint {index} {:.3} above its cap {:.3}",
                now.share, now.cap
            ));
        }
        // 13: what hits everybody moves nobody.
        let frozen = tick.mode == Mode::Frozen && before.mode == Mode::Frozen;
        // Who lost his endpoint altogether may still move.
        if frozen && now.phase != Phase::FailOver && (now.share - was.share).abs() > 1e-9 {
            found.push(format!(
                "invariant 13: endpoint {index} {:.3} -> {:.3} while frozen",
                was.share, now.share
            ));
        }
    }
    found
}
