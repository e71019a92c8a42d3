//! The families of the mirror: how copies ended, and how the two sides compare.
//!
//! By cluster and target (a shadow, or another cluster), so that the configuration bounds the series. Fields are not here:
//! their names come from answers.

use std::collections::BTreeMap;

use super::page::{Kind, Page};
use crate::mirror::{LaneView, Pairs, Sides, View};

/// A quantile: the name of its family, its help, and where it is.
type Quantile = (&'static str, &'static str, fn(&LaneView) -> Sides<u64>);

const QUANTILES: [Quantile; 2] = [
    (
        "foreshade_mirror_latency_p50_seconds",
        "Median time to the first byte, of requests that both sides answered.",
        |lane| Sides {
            primary: lane.latency.primary.p50_us,
            target: lane.latency.target.p50_us,
        },
    ),
    (
        "foreshade_mirror_latency_p99_seconds",
        "99th percentile of the time to the first byte, of requests that both sides answered.",
        |lane| Sides {
            primary: lane.latency.primary.p99_us,
            target: lane.latency.target.p99_us,
        },
    ),
];

pub(super) fn write_mirror(page: &mut Page, view: &View) {
    let gauges = [
        (
            "foreshade_mirror_in_flight_copies",
            "Copies under way.",
            view.under_way,
        ),
        (
            "foreshade_mirror_held_bytes",
            "Bytes of bodies that copies hold.",
            view.held_bytes,
        ),
    ];
    for (name, help, value) in gauges {
        page.family(name, Kind::Gauge, help);
        page.sample(&[], value as f64);
    }
    page.family(
        "foreshade_mirror_results_total",
        Kind::Counter,
        "Copies by how they ended.",
    );
    for (lane, results) in lanes(view, |lane| lane.results.clone(), add_results) {
        for (result, n) in results {
            let labels = [("cluster", lane.0), ("target", lane.1), ("result", result)];
            page.sample(&labels, n as f64);
        }
    }
    page.family(
        "foreshade_mirror_pairs_total",
        Kind::Counter,
        "Copied requests by which side failed.",
    );
    for (lane, pairs) in lanes(view, |lane| lane.pairs, add_pairs) {
        let sides = [
            ("neither", pairs.both_good),
            ("target", pairs.target_bad),
            ("primary", pairs.primary_bad),
            ("both", pairs.both_bad),
        ];
        for (bad, n) in sides {
            page.sample(&[("cluster", lane.0), ("target", lane.1), ("bad", bad)], n as f64);
        }
    }
    let help = "Copied requests for which a side took a quarter longer than the other.";
    page.family("foreshade_mirror_slower_total", Kind::Counter, help);
    for (lane, slower) in lanes(view, |lane| lane.slower, add_sides) {
        write_sides(page, lane, slower, |n| n as f64);
    }
    for (name, help, of) in QUANTILES {
        page.family(name, Kind::Gauge, help);
        for (lane, quantile) in lanes(view, of, worst) {
            write_sides(page, lane, quantile, |us| us as f64 / 1e6);
        }
    }
}

fn write_sides(
    page: &mut Page,
    (cluster, target): (&str, &str),
    sides: Sides<u64>,
    as_shown: fn(u64) -> f64,
) {
    for (side, value) in [("primary", sides.primary), ("target", sides.target)] {
        let labels = [("cluster", cluster), ("target", target), ("side", side)];
        page.sample(&labels, as_shown(value));
    }
}

/// One value per cluster and target: a shadow of several primaries has a lane for each.
fn lanes<T>(view: &View, of: fn(&LaneView) -> T, add: fn(&mut T, T)) -> BTreeMap<(&str, &str), T> {
    let mut sums = BTreeMap::new();
    for lane in &view.lanes {
        let value = of(lane);
        match sums.entry((lane.cluster.as_str(), lane.target.as_str())) {
            std::collections::btree_map::Entry::Vacant(entry) => drop(entry.insert(value)),
            std::collections::btree_map::Entry::Occupied(mut entry) => add(entry.get_mut(), value),
        }
    }
    sums
}

type Results = BTreeMap<&'static str, u64>;

fn add_results(sum: &mut Results, more: Results) {
    more.into_iter()
        .for_each(|(result, n)| *sum.entry(result).or_default() += n);
}

fn add_pairs(sum: &mut Pairs, more: Pairs) {
    sum.both_good += more.both_good;
    sum.target_bad += more.target_bad;
    sum.primary_bad += more.primary_bad;
    sum.both_bad += more.both_bad;
}

fn add_sides(sum: &mut Sides<u64>, more: Sides<u64>) {
    sum.primary += more.primary;
    sum.target += more.target;
}

fn worst(so_far: &mut Sides<u64>, more: Sides<u64>) {
    so_far.primary = so_far.primary.max(more.primary);
    so_far.target = so_far.target.max(more.target);
}
