//! nginx: `backup` servers, passive checks by `max_fails`, and the next endpoint where a request failed.
//!
//! Tuned: the least busy endpoint; three failures put one aside for five seconds; 250 ms without an answer is a
//! failure; a request that is safe to repeat is, and one POST never. Buffers for bodies are larger than it comes with,
//! and nothing of an answer goes to the disk: with the 4 KiB of the default it would take twice the CPU time for large
//! bodies.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::{Found, Leash, Recipe, Site};
use crate::results::Protocol;

/// Where its modules lie if it does not say.
const MODULES: &str = "/usr/lib/nginx/modules";

pub(super) const RECIPE: Recipe = Recipe {
    program: "nginx",
    install: "run scripts/rivals, or on Debian: apt-get install nginx libnginx-mod-stream",
    version: &["-V"],
    cannot: |site, found| {
        let lacks = |part: &str| !found.build.contains(part);
        match site.protocol {
            Protocol::Tcp if stream_module(found).is_none() && lacks("--with-stream ") => {
                Some("its stream module is not installed; on Debian: apt-get install libnginx-mod-stream")
            }
            Protocol::H2 | Protocol::H2c if lacks("--with-http_v2_module") => {
                Some("it was built without HTTP/2")
            }
            Protocol::H2 | Protocol::Https1 if lacks("--with-http_ssl_module") => {
                Some("it was built without TLS")
            }
            _ => None,
        }
    },
    configuration: Some(("nginx.conf", text)),
    arguments: |_, folder| on(folder),
    ready: |_| true,
    // The master must live long enough to end its workers.
    leash: Leash::Terminate,
};

fn on(folder: &Path) -> Vec<std::ffi::OsString> {
    // Without -e it would try to write a log of its own before it has read the file.
    let file = folder.join("nginx.conf");
    vec![
        "-p".into(),
        folder.into(),
        "-c".into(),
        file.into(),
        "-e".into(),
        "stderr".into(),
    ]
}

/// The module for plain TCP, where it is a file of its own.
fn stream_module(found: &Found) -> Option<PathBuf> {
    let told = found
        .build
        .split_ascii_whitespace()
        .find_map(|word| word.strip_prefix("--modules-path="));
    let file = Path::new(told.unwrap_or(MODULES)).join("ngx_stream_module.so");
    file.is_file().then_some(file)
}

fn text(site: &Site, found: &Found) -> String {
    let module = stream_module(found).filter(|_| site.passes_bytes());
    let load = module.map_or_else(String::new, |file| format!("load_module {};\n", file.display()));
    let body = if site.passes_bytes() {
        stream(site)
    } else {
        http(site)
    };
    format!(
        "{load}daemon off;\nworker_processes {};\npid nginx.pid;\nerror_log stderr warn;\n\
         events {{ worker_connections 8192; }}\n{body}",
        site.workers
    )
}

fn http(site: &Site) -> String {
    let mut listen = site.listen.to_string();
    if site.encryption().is_some() {
        listen.push_str(" ssl");
    }
    if site.speaks_h2() {
        listen.push_str(" http2");
    }
    let mut server = format!("    listen {listen} backlog=4096;\n");
    // Writing to a string cannot fail.
    if let Some(tls) = site.encryption() {
        let (certificate, key) = (tls.certificate.display(), tls.key.display());
        let _ = writeln!(
            server,
            "    ssl_certificate {certificate};\n    ssl_certificate_key {key};"
        );
    }
    let attempts = if site.is_tuned() {
        "      proxy_connect_timeout 250ms;\n      proxy_read_timeout 250ms;\n      \
         proxy_next_upstream error timeout http_502 http_503 http_504;\n      proxy_next_upstream_tries 3;\n"
    } else {
        ""
    };
    format!(
        "http {{\n  access_log off;\n  keepalive_timeout 60s;\n  keepalive_requests 100000000;\n  \
         client_body_temp_path body;\n  proxy_temp_path proxy;\n  fastcgi_temp_path fastcgi;\n  \
         uwsgi_temp_path uwsgi;\n  scgi_temp_path scgi;\n\
         {upstream}  server {{\n{server}    location / {{\n      proxy_pass http://shop;\n      \
         proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n      proxy_set_header Host $host;\n      \
         proxy_buffer_size 16k;\n      proxy_buffers 8 64k;\n      proxy_busy_buffers_size 128k;\n      \
         proxy_max_temp_file_size 0;\n{attempts}    }}\n  }}\n}}\n",
        upstream = upstream(site, "    keepalive 1024;\n    keepalive_requests 100000000;\n"),
    )
}

fn stream(site: &Site) -> String {
    format!(
        "stream {{\n  access_log off;\n{}  server {{\n    listen {} backlog=4096;\n    proxy_pass shop;\n    \
         proxy_buffer_size 64k;\n  }}\n}}\n",
        upstream(site, ""),
        site.listen
    )
}

fn upstream(site: &Site, kept: &str) -> String {
    let (balance, fails) = if site.is_tuned() {
        ("    least_conn;\n", " max_fails=3 fail_timeout=5s")
    } else {
        ("", "")
    };
    let mut text = format!("  upstream shop {{\n{balance}");
    for primary in &site.primaries {
        let _ = writeln!(text, "    server {}{fails};", primary.address);
    }
    for standby in &site.standbys {
        let _ = writeln!(text, "    server {}{fails} backup;", standby.address);
    }
    // After the balancing method, or it would replace it.
    text.push_str(kept);
    text.push_str("  }\n");
    text
}
