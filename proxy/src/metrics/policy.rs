//! What policies refused, and what they would have refused.

use super::page::{Kind, Page};
use crate::command::View;

pub(super) fn write(page: &mut Page, view: &View) {
    let policed = &view.policed;
    page.family(
        "foreshade_policy_refused_total",
        Kind::Counter,
        "Requests that the policy of their listener or route refused, by why.",
    );
    for (reason, n) in policed.refused.iter() {
        page.sample(&[("reason", reason)], n as f64);
    }
    page.family(
        "foreshade_policy_spared_total",
        Kind::Counter,
        "Requests that a policy would have refused if it did not only count, by why.",
    );
    for (reason, n) in policed.spared.iter() {
        page.sample(&[("reason", reason)], n as f64);
    }
    page.family(
        "foreshade_rate_limit_forgotten_keys_total",
        Kind::Counter,
        "Keys that a rate limit had to forget because too many were in use.",
    );
    page.sample(&[], policed.forgotten_keys as f64);
}
