//! The link to the controller and the plan in force. Families without a controller are there, and have no samples.

use foreshade_contract::report::Reason;

use super::Extra;
use super::page::{Kind, Page};
use crate::command;
use crate::link::view::View;

/// Gauges and counters of the link: name, type, help, value.
type Plain = (&'static str, Kind, &'static str, fn(&View) -> Option<f64>);

const PLAIN: [Plain; 9] = [
    (
        "foreshade_controller_connected",
        Kind::Gauge,
        "Whether there is a link to the controller.",
        |view| Some(f64::from(u8::from(view.is_connected()))),
    ),
    (
        "foreshade_controller_alone_seconds",
        Kind::Gauge,
        "How long the proxy has been without its controller; 0 while it is there.",
        |view| Some(view.alone_for().as_secs_f64()),
    ),
    (
        "foreshade_controller_dials_total",
        Kind::Counter,
        "Tries to connect to the controller.",
        |view| Some(view.dials as f64),
    ),
    (
        "foreshade_plan_epoch",
        Kind::Gauge,
        "Epoch of the plan in force.",
        |view| view.plan.map(|id| id.epoch.0 as f64),
    ),
    (
        "foreshade_plan_generation",
        Kind::Gauge,
        "Generation of the plan in force.",
        |view| view.plan.map(|id| id.generation.0 as f64),
    ),
    (
        "foreshade_plan_pairs",
        Kind::Gauge,
        "Pairs of the plan in force.",
        |view| view.plan.map(|_| view.pairs as f64),
    ),
    (
        "foreshade_plan_unapplied_pairs",
        Kind::Gauge,
        "Pairs of the plan in force that this proxy cannot carry out.",
        |view| view.plan.map(|_| view.unapplied_total as f64),
    ),
    (
        "foreshade_plan_persisted",
        Kind::Gauge,
        "Whether the plan in force is on disk.",
        |view| view.plan.map(|_| f64::from(u8::from(view.persisted))),
    ),
    (
        "foreshade_link_dropped_reports_total",
        Kind::Counter,
        "Reports that the controller did not take in time.",
        |view| Some(view.reports_dropped as f64),
    ),
];

pub(super) fn write(page: &mut Page, extra: &Extra, view: &command::View) {
    for (name, kind, help, value) in PLAIN {
        page.family(name, kind, help);
        if let Some(value) = extra.link.as_ref().and_then(value) {
            page.sample(&[], value);
        }
    }
    page.family(
        "foreshade_plan_refused_total",
        Kind::Counter,
        "Plans that were refused, by why.",
    );
    if let Some(link) = &extra.link {
        for (reason, n) in Reason::ALL.iter().zip(link.refusals) {
            page.sample(&[("reason", reason.label())], n as f64);
        }
    }
    page.family(
        "foreshade_uncounted_requests_total",
        Kind::Counter,
        "Requests that were not counted for a pair under analysis, for want of room.",
    );
    page.sample(&[], view.uncounted as f64);
    page.family(
        "foreshade_forgotten_segments_total",
        Kind::Counter,
        "Probabilities that were forgotten because a pair under analysis had too many.",
    );
    page.sample(&[], view.forgotten as f64);
}
