//! The metrics page: what the scorer sees, in the formats of Prometheus.
//!
//! Written by hand from the same view that the admin interface shows, so that the two can never disagree, and without a
//! registry: there is no second place where a number lives. Counters are the scorer's sums since the start. Every label
//! is a name out of the configuration or out of a closed set in the code, so the configuration bounds the number of
//! series: about sixty per endpoint. States are one-hot, because a series that vanishes cannot be alerted on.
//!
//! Every metric is listed with its labels in `docs/metrics.md`; a test holds the two against each other. Source of the
//! format: prometheus.io, "Exposition formats", text format 0.0.4; OpenMetrics 1.0; for protobuf see `exposition`.

mod endpoints;
mod exposition;
mod latency;
mod link;
mod mirror;
mod operations;
mod page;
mod policy;
mod process;
pub mod tls;

use std::sync::Arc;

use foreshade_engine::decision::Mode;

use self::endpoints::{Row, write_endpoints, write_shifts};
use self::latency::Latency;
pub use self::page::Form;
use self::page::{Kind, Page};
pub use self::process::Process;
use crate::access_log;
use crate::command::{ClusterView, View};
use crate::config::Cluster;
use crate::names::Known;
use crate::reload::outcome::{RESULTS, Status};
use crate::tally::{Counts, PHASES, Tally};
use crate::tls::Certificate;
use crate::trace::export::Exporting;
use crate::upgrade::start::Upgrades;

/// What is on the page and not in the scorer's view.
#[derive(Clone, Debug)]
pub struct Extra {
    /// Whether users may be sent here.
    pub ready: bool,
    /// Results of probes that the scorer did not collect.
    pub probes_dropped: u64,
    /// Which configuration runs, and how reloads went.
    pub reload: Status,
    /// What the names of endpoints stand for.
    pub names: Arc<Known>,
    /// What the mirror has seen.
    pub mirror: crate::mirror::View,
    /// What the process uses.
    pub process: Process,
    /// Clients' connections accepted since the start.
    pub connections_accepted: u64,
    /// Clients' connections open now.
    pub connections_open: u64,
    /// Handshakes of TLS since the start: version, whether resumed, how many.
    pub handshakes: Vec<(&'static str, &'static str, u64)>,
    /// Handshakes of TLS that came to nothing, by why.
    pub handshakes_failed: Vec<(&'static str, u64)>,
    /// The certificates that clients are shown, and by which listener.
    pub certificates: Vec<(String, Certificate)>,
    /// The endpoints that are spoken to in TLS.
    pub secured: Vec<tls::Secured>,
    /// The certificates that endpoints are shown, and by which cluster.
    pub shown: Vec<(String, Certificate)>,
    /// What became of the access log's lines.
    pub access_log: access_log::Counts,
    /// What became of spans.
    pub traces: Exporting,
    /// Requests of operators without the token.
    pub admin_refused: u64,
    /// Upgrades since the first process.
    pub upgrades: Upgrades,
    /// Certificates that are ordered.
    pub ordered: Vec<crate::acme::Row>,
    /// The link to the controller, where there is one.
    pub link: Option<crate::link::view::View>,
}

/// Classes of answers, in the order of [`Tally::answers`].
const CODE_CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

const MODES: [Mode; 3] = [Mode::Normal, Mode::Frozen, Mode::Panic];

/// Counters by label: name, label, help, and where they are.
type Counted = (&'static str, &'static str, &'static str, fn(&Tally) -> &Counts);

/// The whole page, in this form.
pub fn render(view: &View, extra: &Extra, form: Form) -> Vec<u8> {
    let mut page = Page::new(form);
    let clusters: Vec<_> = view
        .topology
        .config()
        .clusters
        .iter()
        .zip(&view.clusters)
        .collect();
    write_proxy(&mut page, view, extra);
    policy::write(&mut page, view);
    operations::write(&mut page, extra);
    tls::write(&mut page, extra);
    tls::write_ordered(&mut page, extra);
    tls::write_endpoints(&mut page, extra);
    link::write(&mut page, extra, view);
    write_clusters(&mut page, &clusters);
    write_carried(&mut page, &clusters);
    let endpoints: Vec<_> = clusters
        .iter()
        .flat_map(|(cluster, seen)| {
            cluster
                .endpoints
                .iter()
                .zip(&seen.endpoints)
                .map(|(endpoint, seen)| Row::new(cluster, endpoint, seen))
        })
        .collect();
    write_endpoints(&mut page, &endpoints);
    write_shifts(&mut page, &endpoints);
    mirror::write_mirror(&mut page, &extra.mirror);
    extra.process.write(&mut page);
    page.finish()
}

fn write_proxy(page: &mut Page, view: &View, extra: &Extra) {
    page.family(
        "foreshade_build_info",
        Kind::Gauge,
        "Always 1; the version is in the label.",
    );
    page.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    page.family(
        "foreshade_ready",
        Kind::Gauge,
        "Whether users may be sent to this proxy.",
    );
    page.sample(&[], f64::from(u8::from(extra.ready)));
    page.family(
        "foreshade_unrouted_requests_total",
        Kind::Counter,
        "Requests that no route matched.",
    );
    page.sample(&[], view.unrouted as f64);
    page.family(
        "foreshade_answers_without_endpoint_total",
        Kind::Counter,
        "Requests that their route answers without an endpoint, by why.",
    );
    for (reason, n) in view.answered_here.iter() {
        page.sample(&[("reason", reason)], n as f64);
    }
    page.family(
        "foreshade_refused_total",
        Kind::Counter,
        "Clients that were refused before routing, or gave cause within a body, by why.",
    );
    for (reason, n) in view.refused.iter() {
        page.sample(&[("reason", reason)], n as f64);
    }
    page.family(
        "foreshade_scorer_lag_seconds",
        Kind::Gauge,
        "How long the slowest worker took to report last.",
    );
    page.sample(&[], view.lag.as_secs_f64());
    page.family(
        "foreshade_late_workers_total",
        Kind::Counter,
        "Reports of workers that missed their tick.",
    );
    page.sample(&[], view.late as f64);
    page.family(
        "foreshade_dropped_probes_total",
        Kind::Counter,
        "Results of probes that nobody collected in time.",
    );
    page.sample(&[], extra.probes_dropped as f64);
    write_reloads(page, &extra.reload, &extra.upgrades);
    write_names(page, &extra.names);
}

fn write_names(page: &mut Page, known: &Known) {
    let labelled: Vec<_> = known.rows.iter().map(|row| (row.name.to_string(), row)).collect();
    page.family(
        "foreshade_name_addresses",
        Kind::Gauge,
        "Addresses that the name of an endpoint stands for.",
    );
    for (name, row) in &labelled {
        page.sample(&[("name", name)], row.addresses.len() as f64);
    }
    page.family(
        "foreshade_name_age_seconds",
        Kind::Gauge,
        "Since the last good answer for the name.",
    );
    for (name, row) in &labelled {
        if let Some(answered) = row.answered {
            page.sample(&[("name", name)], answered.elapsed().as_secs_f64());
        }
    }
    page.family(
        "foreshade_name_lookups_total",
        Kind::Counter,
        "Lookups of the name, by whether they brought an answer.",
    );
    for (name, row) in &labelled {
        for (result, n) in [("ok", row.ok), ("failed", row.failed)] {
            page.sample(&[("name", name), ("result", result)], n as f64);
        }
    }
}

fn write_reloads(page: &mut Page, status: &Status, upgrades: &Upgrades) {
    page.family(
        "foreshade_config_info",
        Kind::Gauge,
        "Always 1; the hash of the text that runs is in the label.",
    );
    page.sample(&[("hash", &format!("{:016x}", status.hash))], 1.0);
    page.family(
        "foreshade_config_generation",
        Kind::Gauge,
        "Which configuration of this process runs, counted from 1.",
    );
    page.sample(&[], status.generation as f64);
    page.family(
        "foreshade_config_reloads_total",
        Kind::Counter,
        "Reloads that were asked for, by what became of them.",
    );
    for (result, n) in RESULTS.iter().zip(status.counts) {
        page.sample(&[("result", result)], n as f64);
    }
    page.family(
        "foreshade_upgrades_total",
        Kind::Counter,
        "Upgrades since the first process of this row, by what became of them.",
    );
    for result in Upgrades::RESULTS {
        page.sample(&[("result", result)], upgrades.count(result) as f64);
    }
}

fn write_clusters(page: &mut Page, clusters: &[(&Cluster, &ClusterView)]) {
    page.family(
        "foreshade_cluster_mode",
        Kind::Gauge,
        "1 for the mode that the cluster is in.",
    );
    for (cluster, seen) in clusters {
        for mode in MODES {
            let labels = [("cluster", cluster.name.as_str()), ("mode", mode.label())];
            page.sample(&labels, f64::from(u8::from(seen.mode == mode)));
        }
    }
    page.family(
        "foreshade_answers_total",
        Kind::Counter,
        "Answers that users got, by the hundreds of their status.",
    );
    for (cluster, seen) in clusters {
        for (label, n) in CODE_CLASSES.iter().zip(seen.total.answers) {
            page.sample(
                &[("cluster", cluster.name.as_str()), ("code_class", label)],
                n as f64,
            );
        }
    }
    let help = "Time from a request's head to the first byte of its answer, as the user saw it.";
    page.family("foreshade_answer_latency_seconds", Kind::Histogram, help);
    for (cluster, seen) in clusters {
        page.histogram(&[("cluster", cluster.name.as_str())], &Latency::of(&seen.total));
    }
    write_phases(page, clusters);
    let counts: [Counted; 5] = [
        (
            "foreshade_failovers_total",
            "reason",
            "Requests that went on to another endpoint.",
            |t| &t.moved,
        ),
        (
            "foreshade_kept_failures_total",
            "reason",
            "Failed requests that did not go on, by why not.",
            |t| &t.kept,
        ),
        (
            "foreshade_picks_total",
            "why",
            "Attempts, by why their endpoint was chosen.",
            |t| &t.picked,
        ),
        (
            "foreshade_sticky_answers_total",
            "result",
            "Answers of endpoints to users who stay with their slot, by what became of their cookie.",
            |t| &t.stuck,
        ),
        (
            "foreshade_mirror_dropped_copies_total",
            "reason",
            "Copies for a mirror that were not made or given up, by why.",
            |t| &t.unmirrored,
        ),
    ];
    for (name, label, help, of) in counts {
        page.family(name, Kind::Counter, help);
        for (cluster, seen) in clusters {
            for (value, n) in of(&seen.total).iter() {
                page.sample(&[("cluster", cluster.name.as_str()), (label, value)], n as f64);
            }
        }
    }
}

fn write_phases(page: &mut Page, clusters: &[(&Cluster, &ClusterView)]) {
    page.family(
        "foreshade_request_phase_seconds_total",
        Kind::Counter,
        "Time of requests, by what it was spent on.",
    );
    for (cluster, seen) in clusters {
        for (phase, time) in PHASES.iter().zip(seen.total.phases) {
            let labels = [("cluster", cluster.name.as_str()), ("phase", *phase)];
            page.sample(&labels, time.as_secs_f64());
        }
    }
}

fn write_carried(page: &mut Page, clusters: &[(&Cluster, &ClusterView)]) {
    page.family(
        "foreshade_carried_bytes_total",
        Kind::Counter,
        "Bytes of connections and datagrams that were carried and not read, by where they went.",
    );
    write_both_ways(page, clusters, |tally| tally.carried);
    page.family(
        "foreshade_carried_datagrams_total",
        Kind::Counter,
        "Datagrams of UDP, by where they went.",
    );
    write_both_ways(page, clusters, |tally| tally.datagrams);
}

fn write_both_ways(page: &mut Page, clusters: &[(&Cluster, &ClusterView)], of: fn(&Tally) -> (u64, u64)) {
    for (cluster, seen) in clusters {
        let (up, down) = of(&seen.total);
        for (direction, n) in [("to_endpoint", up), ("to_client", down)] {
            let labels = [("cluster", cluster.name.as_str()), ("direction", direction)];
            page.sample(&labels, n as f64);
        }
    }
}

#[cfg(test)]
mod tests;
