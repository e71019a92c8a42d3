//! What policies refused, and what they would have refused.

use std::collections::BTreeMap;

use super::page::{Kind, Page};
use crate::command::View;
use crate::config::Config;
use crate::policy::{Gate, Policed, issuers};

pub(super) fn write(page: &mut Page, view: &View) {
    refusals(page, &view.policed);
    let config = view.topology.config();
    fetches(page, config);
    compression(page, &view.policed);
    concurrency(page, config);
}

fn refusals(page: &mut Page, policed: &Policed) {
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
    page.family(
        "foreshade_authorization_answers_total",
        Kind::Counter,
        "Questions whether a request may go on, by what was said.",
    );
    for (result, n) in policed.authorized.iter() {
        page.sample(&[("result", result)], n as f64);
    }
    page.family(
        "foreshade_faults_injected_total",
        Kind::Counter,
        "Faults that were made on purpose, by which.",
    );
    for (fault, n) in policed.faults.iter() {
        page.sample(&[("fault", fault)], n as f64);
    }
}

fn fetches(page: &mut Page, config: &Config) {
    page.family(
        "foreshade_jwks_fetches_total",
        Kind::Counter,
        "Fetches of the keys of those who sign tokens, by where they are and what came of it.",
    );
    let mut fetches = BTreeMap::<_, [u64; 2]>::new();
    for issuer in issuers(config) {
        // Two that trust others for one URL are one to whoever looks at it.
        let counts = fetches.entry(issuer.place().url.to_string()).or_default();
        for (sum, n) in counts.iter_mut().zip(issuer.counts()) {
            *sum += n;
        }
    }
    for (url, counts) in &fetches {
        for (result, n) in ["ok", "failed"].into_iter().zip(counts) {
            page.sample(&[("url", url), ("result", result)], *n as f64);
        }
    }
}

fn compression(page: &mut Page, policed: &Policed) {
    page.family(
        "foreshade_compressed_answers_total",
        Kind::Counter,
        "Answers that were compressed, by how; busy for those that were not, because there were too many.",
    );
    for (coding, n) in policed.compressed.iter() {
        page.sample(&[("encoding", coding)], n as f64);
    }
    page.family(
        "foreshade_compressed_bytes_total",
        Kind::Counter,
        "Bytes of bodies that were compressed to their end: in, as they came, and out, as they went.",
    );
    for (side, n) in ["in", "out"].into_iter().zip(policed.compressed_bytes) {
        page.sample(&[("side", side)], n as f64);
    }
}

fn concurrency(page: &mut Page, config: &Config) {
    page.family(
        "foreshade_concurrency_requests",
        Kind::Gauge,
        "Requests at a limit of concurrency, of a route or a cluster: under way, and waiting.",
    );
    for (kind, name, gate) in gates(config) {
        let (under_way, waiting) = gate.counts();
        for (state, n) in [("under_way", under_way), ("waiting", waiting)] {
            page.sample(&[("kind", kind), ("name", &name), ("state", state)], f64::from(n));
        }
    }
    page.family(
        "foreshade_concurrency_limit",
        Kind::Gauge,
        "Requests that may be under way at a limit of concurrency, as configured; of an adaptive one those that may wait \
         for an endpoint to answer, as it has found.",
    );
    for (kind, name, gate) in gates(config) {
        page.sample(&[("kind", kind), ("name", &name)], f64::from(gate.limit_now()));
    }
    page.family(
        "foreshade_concurrency_base_seconds",
        Kind::Gauge,
        "What a request takes when nothing waits, as an adaptive limit of concurrency has measured it.",
    );
    for (kind, name, gate) in gates(config) {
        if let Some(base) = gate.base() {
            page.sample(&[("kind", kind), ("name", &name)], base.as_secs_f64());
        }
    }
}

/// All limits of concurrency: of what, and whose.
fn gates(config: &Config) -> impl Iterator<Item = (&'static str, String, &Gate)> {
    let of_routes = config.listeners.iter().flat_map(|listener| {
        listener.routes.iter().filter_map(|route| {
            let gate = route.policy.as_ref()?.gate.as_deref()?;
            Some(("route", format!("{}/{}", listener.name, route.called()), gate))
        })
    });
    let of_clusters = config
        .clusters
        .iter()
        .filter_map(|cluster| Some(("cluster", cluster.name.to_string(), cluster.gate.as_deref()?)));
    of_routes.chain(of_clusters)
}
