//! TLS, with clients and with endpoints: how handshakes went, and how long certificates last.

use std::time::Duration;

use super::Extra;
use super::page::{Kind, Page};
use crate::config::{Cluster, Config, Endpoint};
use crate::tls::Certificate;

pub(super) fn write(page: &mut Page, extra: &Extra) {
    page.family(
        "foreshade_tls_handshakes_total",
        Kind::Counter,
        "Handshakes with clients that were completed, by version and whether a session was resumed.",
    );
    for (version, resumed, n) in &extra.handshakes {
        page.sample(&[("version", version), ("resumed", resumed)], *n as f64);
    }
    page.family(
        "foreshade_tls_handshakes_failed_total",
        Kind::Counter,
        "Handshakes with clients that came to nothing, by why.",
    );
    for (reason, n) in &extra.handshakes_failed {
        page.sample(&[("reason", reason)], *n as f64);
    }
    page.family(
        "foreshade_tls_certificate_expiry_timestamp_seconds",
        Kind::Gauge,
        "When the certificate in this file ends, seconds since 1970.",
    );
    for (listener, certificate) in &extra.certificates {
        let file = certificate.file.to_string_lossy();
        page.sample(
            &[("listener", listener), ("file", &file)],
            certificate.expires_s as f64,
        );
    }
}

/// Certificates that an authority issues when it is asked.
pub(super) fn write_ordered(page: &mut Page, extra: &Extra) {
    page.family(
        "foreshade_acme_orders_total",
        Kind::Counter,
        "Orders of certificates by the first of their names and by whether they came to one.",
    );
    for row in &extra.ordered {
        for (result, n) in [("issued", row.issued), ("failed", row.failed)] {
            page.sample(&[("name", &row.name), ("result", result)], n as f64);
        }
    }
    page.family(
        "foreshade_acme_last_order_succeeded",
        Kind::Gauge,
        "Whether the last order came to a certificate: 1 or 0.",
    );
    for row in &extra.ordered {
        if let Some(last) = row.last {
            page.sample(&[("name", &row.name)], f64::from(u8::from(last)));
        }
    }
    page.family(
        "foreshade_acme_next_order_timestamp_seconds",
        Kind::Gauge,
        "When the certificate is ordered next, seconds since 1970.",
    );
    for row in &extra.ordered {
        page.sample(&[("name", &row.name)], row.next_s as f64);
    }
}

/// An endpoint that is spoken to in TLS.
#[derive(Clone, Debug)]
pub struct Secured {
    /// Its cluster.
    pub cluster: String,
    /// Its name.
    pub endpoint: String,
    /// Handshakes that were completed: version, whether resumed, how many.
    pub done: Vec<(&'static str, &'static str, u64)>,
    /// What those that were completed took, all together.
    pub took: Duration,
    /// Handshakes that came to nothing, by why.
    pub failed: Vec<(&'static str, u64)>,
    /// When the certificate that it showed last ends, in seconds since 1970.
    pub expires_s: Option<i64>,
}

/// All endpoints that are spoken to in TLS.
pub fn secured(config: &Config) -> Vec<Secured> {
    let endpoints = config.clusters.iter().flat_map(|cluster| {
        let of = move |endpoint: &Endpoint| {
            let handshakes = endpoint.tls.as_ref()?.handshakes();
            Some(Secured {
                cluster: cluster.name.to_string(),
                endpoint: endpoint.name.to_string(),
                done: handshakes.all_done().collect(),
                took: handshakes.took(),
                failed: handshakes.all_failed().collect(),
                expires_s: handshakes.expires_s(),
            })
        };
        cluster.endpoints.iter().filter_map(of)
    });
    endpoints.collect()
}

/// The certificates that endpoints are shown, and by which cluster.
pub fn shown(config: &Config) -> Vec<(String, Certificate)> {
    let of = |cluster: &Cluster| {
        let certificate = cluster.tls.as_ref()?.certificate()?;
        Some((cluster.name.to_string(), certificate.clone()))
    };
    config.clusters.iter().filter_map(of).collect()
}

/// What is known of the endpoints that are spoken to in TLS.
pub(super) fn write_endpoints(page: &mut Page, extra: &Extra) {
    fn labels(of: &Secured) -> [(&'static str, &str); 2] {
        [("cluster", &of.cluster), ("endpoint", &of.endpoint)]
    }
    page.family(
        "foreshade_endpoint_tls_handshakes_total",
        Kind::Counter,
        "Handshakes with an endpoint that were completed, by version and whether a session was resumed.",
    );
    for endpoint in &extra.secured {
        let [cluster, name] = labels(endpoint);
        for (version, resumed, n) in &endpoint.done {
            page.sample(
                &[cluster, name, ("version", version), ("resumed", resumed)],
                *n as f64,
            );
        }
    }
    page.family(
        "foreshade_endpoint_tls_handshake_seconds_total",
        Kind::Counter,
        "What handshakes with an endpoint that were completed took, all together.",
    );
    for endpoint in &extra.secured {
        page.sample(&labels(endpoint), endpoint.took.as_secs_f64());
    }
    page.family(
        "foreshade_endpoint_tls_handshakes_failed_total",
        Kind::Counter,
        "Handshakes with an endpoint that came to nothing, by why.",
    );
    for endpoint in &extra.secured {
        let [cluster, name] = labels(endpoint);
        for (reason, n) in &endpoint.failed {
            page.sample(&[cluster, name, ("reason", reason)], *n as f64);
        }
    }
    page.family(
        "foreshade_endpoint_tls_expiry_timestamp_seconds",
        Kind::Gauge,
        "When the certificate that an endpoint showed last ends, seconds since 1970.",
    );
    for endpoint in &extra.secured {
        if let Some(at) = endpoint.expires_s {
            page.sample(&labels(endpoint), at as f64);
        }
    }
    page.family(
        "foreshade_cluster_tls_certificate_expiry_timestamp_seconds",
        Kind::Gauge,
        "When the certificate in this file, which endpoints are shown, ends, seconds since 1970.",
    );
    for (cluster, certificate) in &extra.shown {
        let file = certificate.file.to_string_lossy();
        page.sample(
            &[("cluster", cluster), ("file", &file)],
            certificate.expires_s as f64,
        );
    }
}
