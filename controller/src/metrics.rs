//! The controller's own metrics, in the text format of Prometheus. Listed in `docs/metrics.md`.
//!
//! One series per state and word of health, not per pair: ten thousand pairs would be ten thousand labels. What one pair
//! does is in the API and in the event log.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::fleet::Fleet;
use crate::outside::Outside;
use crate::reconcile::Reconciler;

/// The page as of now.
pub(crate) fn page(reconciler: &Reconciler, fleet: &Fleet, outside: &Outside) -> String {
    let (mut states, mut healths) = (BTreeMap::<String, u64>::new(), BTreeMap::<String, u64>::new());
    for view in reconciler.views() {
        *states.entry(view.pair.state.to_string()).or_default() += 1;
        *healths.entry(view.health.to_string()).or_default() += 1;
    }
    let linked = fleet.proxies().filter(|(_, proxy)| proxy.linked).count();
    let mut page = String::new();
    family(
        &mut page,
        "foreshade_controller_pairs",
        "gauge",
        "Pairs by state.",
        "state",
        &states,
    );
    family(
        &mut page,
        "foreshade_controller_pairs_health",
        "gauge",
        "Pairs by health.",
        "health",
        &healths,
    );
    plain(
        &mut page,
        "foreshade_controller_proxies",
        "gauge",
        "Proxies that are linked.",
        linked as u64,
    );
    let plan = reconciler.plan_id();
    plain(
        &mut page,
        "foreshade_controller_epoch",
        "gauge",
        "Epoch of this leader.",
        plan.epoch.0,
    );
    plain(
        &mut page,
        "foreshade_controller_plan_generation",
        "gauge",
        "Generation of the last plan.",
        plan.generation.0,
    );
    let mut hooks = [BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), BTreeMap::new()];
    for (name, counted) in outside.notifier().counted() {
        let counts = [counted.sent, counted.retried, counted.failed, counted.dropped];
        for (family, count) in hooks.iter_mut().zip(counts) {
            family.insert(name.to_owned(), count);
        }
    }
    let kinds = ["sent", "retried", "failed", "dropped"];
    for (kind, counts) in kinds.into_iter().zip(&hooks) {
        let name = format!("foreshade_controller_notifications_{kind}_total");
        family(
            &mut page,
            &name,
            "counter",
            "Notifications by hook.",
            "hook",
            counts,
        );
    }
    page
}

fn plain(page: &mut String, name: &str, kind: &str, help: &str, value: u64) {
    // Writing to a string cannot fail.
    let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
}

fn family(
    page: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    label: &str,
    values: &BTreeMap<String, u64>,
) {
    if values.is_empty() {
        return;
    }
    let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (value, count) in values {
        let _ = writeln!(page, "{name}{{{label}=\"{value}\"}} {count}");
    }
}
