//! foreshade: its one default configuration. There is no other setting, because promising to need none is the point. Its
//! two ways to serve a request can be held against each other, whichever is the default.

use std::fmt::Write;

use super::{Leash, Recipe, Site};
use crate::load::mix::USER_HEADER;
use crate::results::Protocol;
use crate::stage::admin::Admin;

pub(super) const RECIPE: Recipe = Recipe {
    program: "foreshade-proxy",
    install: "build it with `cargo build --release`",
    version: &["--version"],
    cannot: |_, _| None,
    configuration: Some(("foreshade.yaml", |site, _| text(site))),
    arguments: |_, folder| {
        vec![
            "run".into(),
            "--config".into(),
            folder.join("foreshade.yaml").into(),
        ]
    },
    ready: |site| Admin(site.admin).is_ready(),
    leash: Leash::Kill,
};

pub(super) const RELAY: Recipe = Recipe {
    configuration: Some(("foreshade.yaml", |site, _| text(site) + "relay: true\n")),
    ..RECIPE
};

pub(super) const FULL: Recipe = Recipe {
    configuration: Some(("foreshade.yaml", |site, _| text(site) + "relay: false\n")),
    ..RECIPE
};

fn text(site: &Site) -> String {
    let spoken = match site.passes_bytes() {
        true => "protocol: tcp\n    cluster: shop",
        false => "routes: [{ cluster: shop }]",
    };
    let secure = site.encryption().map_or_else(String::new, |tls| {
        let (certificate, key) = (tls.certificate.display(), tls.key.display());
        format!("\n    tls: {{ certificates: [{{ certFile: {certificate}, keyFile: {key} }}] }}")
    });
    // The load of HTTP/2 keeps its connections for as long as it likes: nginx is told so, too. Over TLS HTTP/2 is spoken
    // by itself, and the load says which of the two it wants.
    let http2 = match site.protocol {
        Protocol::H2c => "\n    http2: { enabled: true }\n    limits: { requests: 100000000 }",
        Protocol::H2 => "\n    limits: { requests: 100000000 }",
        Protocol::Http1 | Protocol::Https1 | Protocol::Tcp => "",
    };
    let mut text = format!(
        "apiVersion: foreshade/v1\n\
         workers: {}\n\
         admin: {{ address: {} }}\n\
         listeners:\n  - name: web\n    address: {}{secure}{http2}\n    {spoken}\n\
         clusters:\n  - name: shop\n    cohort: {{ header: {USER_HEADER} }}\n    endpoints:\n",
        site.workers, site.admin, site.listen
    );
    // Writing to a string cannot fail.
    for primary in &site.primaries {
        let (name, address) = (&primary.name, primary.address);
        let shadow = primary
            .standby
            .as_ref()
            .map_or_else(String::new, |s| format!(", shadow: {s}"));
        let _ = writeln!(text, "      - {{ name: {name}, address: {address}{shadow} }}");
    }
    if !site.standbys.is_empty() {
        text.push_str("    shadows:\n");
    }
    for standby in &site.standbys {
        let _ = writeln!(
            text,
            "      - {{ name: {}, address: {} }}",
            standby.name, standby.address
        );
    }
    text
}
