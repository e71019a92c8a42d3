//! What operators run the proxy by, and no cluster is to blame for: connections, the access log, traces, the admin
//! interface.

use super::Extra;
use super::page::{Kind, Page};

pub(super) fn write(page: &mut Page, extra: &Extra) {
    let plain = [
        (
            "foreshade_connections_accepted_total",
            Kind::Counter,
            "Clients' connections that were accepted.",
            extra.connections_accepted,
        ),
        (
            "foreshade_connections_open",
            Kind::Gauge,
            "Clients' connections that are open.",
            extra.connections_open,
        ),
        (
            "foreshade_admin_refused_total",
            Kind::Counter,
            "Requests to the admin interface without its token.",
            extra.admin_refused,
        ),
        (
            "foreshade_access_log_lines_total",
            Kind::Counter,
            "Lines of the access log that were written.",
            extra.access_log.written,
        ),
        (
            "foreshade_trace_spans_exported_total",
            Kind::Counter,
            "Spans that the collector has taken.",
            extra.traces.exported(),
        ),
    ];
    for (name, kind, help, value) in plain {
        page.family(name, kind, help);
        page.sample(&[], value as f64);
    }
    page.family(
        "foreshade_access_log_dropped_total",
        Kind::Counter,
        "Lines of the access log that were lost.",
    );
    let (behind, failed) = (extra.access_log.dropped_behind, extra.access_log.dropped_failed);
    for (reason, value) in [("behind", behind), ("failed", failed)] {
        page.sample(&[("reason", reason)], value as f64);
    }
    page.family(
        "foreshade_trace_spans_dropped_total",
        Kind::Counter,
        "Spans that were lost.",
    );
    for (reason, value) in extra.traces.lost() {
        page.sample(&[("reason", reason)], value as f64);
    }
}
