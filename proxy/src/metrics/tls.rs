//! TLS with clients: how handshakes went, and how long certificates last.

use super::Extra;
use super::page::{Kind, Page};

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
