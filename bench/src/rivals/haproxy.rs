//! HAProxy: active checks, `observe layer7` beside them, `backup` servers, redispatch and retries.
//!
//! Tuned: a probe every 500 ms and every 100 ms once one has failed; five failed requests in a row put an endpoint
//! down; 250 ms without an answer is a failure. Writes are exempt from retries, because it would repeat them as well.
//! Its agent-check would need an agent at the endpoints, which nobody else is given.

use std::fmt::Write;

use super::{Leash, Recipe, Site};

pub(super) const RECIPE: Recipe = Recipe {
    program: "haproxy",
    install: "run scripts/rivals, or on Debian: apt-get install haproxy",
    version: &["-vv"],
    cannot: |site, found| {
        let lacks_tls = site.encryption().is_some() && !found.build.contains("+OPENSSL");
        lacks_tls.then_some("it was built without TLS")
    },
    configuration: Some(("haproxy.cfg", |site, _| text(site))),
    arguments: |_, folder| vec!["-db".into(), "-f".into(), folder.join("haproxy.cfg").into()],
    ready: |_| true,
    leash: Leash::Kill,
};

/// What its manual offers against failing endpoints.
const FAILOVER: &str = "  balance leastconn
  option httpchk GET /healthz
  option redispatch 1
  retries 3
  retry-on conn-failure empty-response response-timeout 502 503 504
  http-request disable-l7-retry if METH_POST
  default-server check inter 500ms fastinter 100ms fall 2 rise 2 observe layer7 error-limit 5 on-error mark-down
";

fn text(site: &Site) -> String {
    let mode = if site.passes_bytes() { "tcp" } else { "http" };
    let answer_timeout = if site.is_tuned() && !site.passes_bytes() {
        "250ms"
    } else {
        "30s"
    };
    let mut bind = site.listen.to_string();
    // Writing to a string cannot fail.
    if let Some(tls) = site.encryption() {
        let offered = if site.speaks_h2() { "h2" } else { "http/1.1" };
        let _ = write!(bind, " ssl crt {} alpn {offered}", tls.both.display());
    } else if site.speaks_h2() {
        bind.push_str(" proto h2");
    }
    // By itself it wants descriptors for a pipe per four of the connections that it might ever have.
    let pipes = if site.passes_bytes() {
        "  maxpipes 1024\n"
    } else {
        ""
    };
    let mut text = format!(
        "global\n  nbthread {}\n  maxconn 8192\n{pipes}\
         defaults\n  mode {mode}\n  timeout connect 1s\n  timeout client 60s\n  timeout server {answer_timeout}\n\
         frontend web\n  bind {bind} backlog 4096\n  default_backend shop\n\
         backend shop\n",
        site.workers
    );
    if site.passes_bytes() {
        // Bytes that need not be read stay in the kernel, where it finds that worth it.
        text.push_str("  option splice-auto\n");
    } else {
        // Else each new user would cost a new connection to an endpoint.
        text.push_str("  http-reuse always\n");
    }
    text.push_str(match (site.is_tuned(), site.passes_bytes()) {
        (true, false) => FAILOVER,
        (true, true) => {
            "  balance leastconn\n  default-server check inter 500ms fastinter 100ms fall 2 rise 2\n"
        }
        (false, _) => "  balance roundrobin\n  default-server check\n",
    });
    for primary in &site.primaries {
        let _ = writeln!(text, "  server {} {}", primary.name, primary.address);
    }
    for standby in &site.standbys {
        let _ = writeln!(text, "  server {} {} backup", standby.name, standby.address);
    }
    if site.standbys.len() > 1 {
        text.push_str("  option allbackups\n");
    }
    text
}
