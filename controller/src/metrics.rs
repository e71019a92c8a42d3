//! The controller's own metrics, in the text format of Prometheus. Listed in `docs/controller.md`.
//!
//! One series per state and word of health, not per pair: ten thousand pairs would be ten thousand labels. What one pair
//! does is in the API and in the event log.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::fleet::Fleet;
use crate::operator::Standing;
use crate::outside::Outside;
use crate::reconcile::Reconciler;

/// What all names begin with.
const PREFIX: &str = "foreshade_controller_";

/// The page as of now.
pub(crate) fn page(reconciler: &Reconciler, fleet: &Fleet, outside: &Outside) -> String {
    let (mut states, mut healths) = (BTreeMap::<String, u64>::new(), BTreeMap::<String, u64>::new());
    for view in reconciler.views() {
        *states.entry(view.pair.state.to_string()).or_default() += 1;
        *healths.entry(view.health.to_string()).or_default() += 1;
    }
    let linked = fleet.proxies().filter(|(_, proxy)| proxy.linked).count();
    let plan = reconciler.plan_id();
    let mut page = String::new();
    for (name, help, label, values) in [
        ("pairs", "Pairs by state.", "state", &states),
        ("pairs_health", "Pairs by health.", "health", &healths),
    ] {
        family(&mut page, (name, "gauge", help), label, values);
    }
    for (name, kind, help, value) in [
        ("proxies", "gauge", "Proxies that are linked.", linked as u64),
        (
            "intervals_dropped_total",
            "counter",
            "Intervals that the judge was not given, for want of room.",
            fleet.dropped(),
        ),
        ("epoch", "gauge", "Epoch of this leader.", plan.epoch.0),
        (
            "plan_generation",
            "gauge",
            "Generation of the last plan of this epoch.",
            plan.generation.0,
        ),
    ] {
        head(&mut page, (name, kind, help));
        let _ = writeln!(page, "{PREFIX}{name} {value}");
    }
    let mut hooks = [BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), BTreeMap::new()];
    for (name, counted) in outside.notifier().counted() {
        let counts = [counted.sent, counted.retried, counted.failed, counted.dropped];
        for (family, count) in hooks.iter_mut().zip(counts) {
            family.insert(name.to_owned(), count);
        }
    }
    let kinds = ["sent", "retried", "failed", "dropped"];
    for (kind, counts) in kinds.into_iter().zip(&hooks) {
        let name = format!("notifications_{kind}_total");
        family(
            &mut page,
            (&name, "counter", "Notifications by hook."),
            "hook",
            counts,
        );
    }
    page
}

/// How this controller stands, as of now.
pub(crate) fn standing(standing: &Standing) -> String {
    let now = match standing {
        Standing::Leading => "leading",
        Standing::Starting => "starting",
        Standing::Following { .. } => "following",
        Standing::ReadOnly { .. } => "read_only",
    };
    let all = ["leading", "starting", "following", "read_only"];
    let values = all.map(|each| (each.to_owned(), u64::from(each == now)));
    let mut page = String::new();
    let of = (
        "standing",
        "gauge",
        "How this controller stands: 1 at one of them.",
    );
    family(&mut page, of, "standing", &BTreeMap::from(values));
    page
}

/// The lines before the values of a family: its name without [`PREFIX`], its type and its meaning.
fn head(page: &mut String, (name, kind, help): (&str, &str, &str)) {
    // Writing to a string cannot fail.
    let _ = writeln!(page, "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}");
}

/// A family with one label; nothing where it has no values.
fn family(page: &mut String, of: (&str, &str, &str), label: &str, values: &BTreeMap<String, u64>) {
    if values.is_empty() {
        return;
    }
    head(page, of);
    for (value, count) in values {
        let _ = writeln!(page, "{PREFIX}{}{{{label}=\"{value}\"}} {count}", of.0);
    }
}
