//! Real sockets, and a real scorer behind them, but that it shows a fixture and remembers what it was told.

use std::net::SocketAddr;

use foreshade_contract::Risk;
use foreshade_engine::cluster::Setting;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;
use crate::clock::Clock;
use crate::command::{Advice, Order};
use crate::config::{AdminAddress, WithoutToken};
use crate::recorder::Place;
use crate::scorer::Scorer;
use crate::topology::ids::EndpointId;

#[derive(Debug)]
enum Told {
    Advice(Advice),
    Order(Order),
    Cleared(EndpointId),
}

fn id(cluster: usize, endpoint: usize) -> EndpointId {
    fixture::topology()
        .endpoint_id(Place { cluster, endpoint })
        .unwrap()
}

struct Stand {
    address: SocketAddr,
    told: mpsc::UnboundedReceiver<Told>,
    readiness: Readiness,
    /// What the handle of the filter needs to be alive.
    _filter: Box<dyn std::any::Any>,
}

async fn stand() -> Stand {
    stand_with(Keys::default()).await
}

async fn stand_with(keys: Keys) -> Stand {
    let (commands, mut asked) = mpsc::channel(4);
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (mut scorer, _table) = Scorer::new(Clock::start(), fixture::topology());
        while let Some(command) = asked.recv().await {
            match &command {
                Command::Advise(advice, _) => tell.send(Told::Advice(advice.clone())).unwrap(),
                Command::Override(order, _) => tell.send(Told::Order(order.clone())).unwrap(),
                Command::ClearOverride(id, _) => tell.send(Told::Cleared(*id)).unwrap(),
                Command::View(_)
                | Command::Explain(..)
                | Command::Follow(..)
                | Command::Tell { .. }
                | Command::Answer(_)
                | Command::Bequeath(_)
                | Command::Adopt(..) => {}
            }
            match command {
                Command::View(to) => drop(to.send(fixture::view())),
                command => scorer.serve(command),
            }
        }
    });
    stand_before(commands, told, keys).await
}

async fn stand_before(
    commands: mpsc::Sender<Command>,
    told: mpsc::UnboundedReceiver<Told>,
    keys: Keys,
) -> Stand {
    let (filter, verbosity) = Verbosity::new(Some("info"));
    let readiness = Readiness::default();
    readiness.serving();
    let admin = Admin {
        link: None,
        commands,
        reload: Desk::closed(fixture::topology()),
        readiness: readiness.clone(),
        probes_dropped: Dropped::default(),
        keys,
        verbosity,
        access_log: None,
        traces: None,
        connections: Connections::new(1),
        mirror: crate::mirror::channel().1,
        upgrades: Upgrades::default(),
        ordered: watch::channel(Vec::new()).1,
    };
    let door = Door::open(&AdminAddress::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
    let address = door.tcp().unwrap();
    tokio::spawn(serve(door, admin, std::future::pending()));
    Stand {
        address,
        told,
        readiness,
        _filter: Box::new(tracing_subscriber::registry().with(filter)),
    }
}

impl Stand {
    /// Sends these bytes and reads the answer to its end: head and body.
    async fn raw(&self, request: &[u8]) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_lowercase(), body.to_owned())
    }

    async fn call(&self, line: &str, body: &str) -> (u16, Value) {
        let length = body.len();
        let request = format!(
            "{line} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        let (status, head, body) = self.raw(request.as_bytes()).await;
        if status >= 400 {
            assert!(head.contains("content-type: application/json"), "{head}");
            let error = serde_json::from_str::<Value>(&body).unwrap();
            assert!(error["error"].is_string(), "{body}");
        }
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    async fn refused(&self, line: &str, body: &Value) -> (u16, String) {
        let (status, answer) = self.call(line, &body.to_string()).await;
        assert!(status >= 400, "{line} {body}: {answer}");
        (status, answer["error"].as_str().unwrap().to_owned())
    }
}

fn advisory() -> Value {
    json!({
        "cluster": "shop", "endpoint": "alpha", "source": "status page", "reason": "maintenance at noon",
        "risk": 0.8, "trust": 0.5, "half_life": 300, "ttl": "10m",
    })
}

fn with(mut body: Value, key: &str, value: Value) -> Value {
    body[key] = value;
    body
}

#[tokio::test]
async fn readiness_follows_the_proxy_and_liveness_does_not() {
    let stand = stand().await;
    assert_eq!(stand.call("GET /readyz", "").await.0, 200);
    stand.readiness.draining();
    let (status, error) = stand.refused("GET /readyz", &json!(null)).await;
    assert_eq!((status, error.starts_with("draining")), (503, true), "{error}");
    stand.readiness.0.send_replace(Stage::default());
    let (status, error) = stand.refused("GET /readyz", &json!(null)).await;
    assert_eq!((status, error.starts_with("starting")), (503, true), "{error}");
    assert_eq!(stand.call("GET /livez", "").await.0, 200);
}

#[tokio::test]
async fn the_index_lists_every_path() {
    let stand = stand().await;
    let (status, index) = stand.call("GET /", "").await;
    assert_eq!(status, 200);
    let index = index.as_str().unwrap();
    for path in [
        "/livez",
        "/readyz",
        "/metrics",
        "/v1/endpoints",
        "/v1/explain/",
        "/v1/advisories",
        "/v1/overrides",
        "/v1/config",
        "/v1/log",
    ] {
        assert!(index.contains(path), "{path}");
    }
}

#[tokio::test]
async fn metrics_are_served_as_prometheus_wants_them() {
    let (status, head, body) = stand()
        .await
        .raw(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(
        body.contains("\nforeshade_ready 1\n") && body.contains("\nprocess_threads "),
        "{body}"
    );
}

// Concept: endpoint-risk-score
#[tokio::test]
async fn endpoints_are_listed_with_their_terms_and_shares() {
    let (status, body) = stand().await.call("GET /v1/endpoints", "").await;
    assert_eq!(status, 200);
    let shop = &body["clusters"][0];
    assert_eq!((&shop["name"], &shop["mode"]), (&json!("shop"), &json!("frozen")));
    let alpha = &shop["endpoints"][0];
    let expected = json!({
        "name": "alpha", "address": "127.0.0.1:9001", "region": "eu-west", "role": "primary", "shadow": "standby",
        "risk": 0.7, "raw": 0.6, "standing": "known", "top_group": "performance",
        "share": 0.25, "wanted": 0.9, "cap": 0.5, "bound": "ramp", "phase": "ramp",
        "p50_us": 40_000, "p99_us": 90_000, "p999_baseline_us": 20_000, "attempt_timeout_us": 150_000,
        "in_flight": 17, "available": true, "weight": 1.0, "slowdown": 1.0, "eta_seconds": 12.0,
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&alpha[key], value, "{key}");
    }
    assert_eq!(alpha["terms"][0]["component"], "own_latency");
    assert_eq!(
        (&alpha["class_shares"][2], &alpha["class_shares"][3]),
        (&json!(0.25), &json!(1.0))
    );
    assert_eq!(
        (&alpha["counts"]["ok"], &alpha["counts"]["timeout"]),
        (&json!(100), &json!(2))
    );
    let standby = &shop["endpoints"][1];
    assert_eq!(
        (&standby["role"], &standby["p999_baseline_us"]),
        (&json!("shadow"), &Value::Null)
    );
    assert!(standby.get("share").is_none() && standby.get("phase").is_none());
    assert_eq!(body["clusters"][1]["endpoints"][1]["name"], "beta");
}

#[tokio::test]
async fn an_endpoint_is_explained_by_its_name_alone_if_it_is_the_only_one() {
    let stand = stand().await;
    let (status, body) = stand.call("GET /v1/explain/beta", "").await;
    assert_eq!(
        (status, &body["cluster"], &body["endpoint"]),
        (200, &json!("api"), &json!("beta"))
    );
    let now = body["records"].as_array().unwrap().len();
    assert!(
        now > 0 && body["decisions"].as_array().unwrap().len() == body["changes"].as_array().unwrap().len()
    );
    assert_eq!(body["decisions"][0]["sentence"], body["sentence"]);
    assert_eq!(stand.call("GET /v1/explain/shop/alpha", "").await.0, 200);
    let (status, body) = stand.call("GET /v1/explain/alpha", "").await;
    assert_eq!(
        (status, &body["choices"]),
        (409, &json!(["shop/alpha", "api/alpha"]))
    );
}

#[tokio::test]
async fn an_unknown_name_is_answered_with_what_was_meant() {
    let stand = stand().await;
    let (status, body) = stand.call("GET /v1/explain/aplha", "").await;
    assert_eq!((status, &body["choices"]), (404, &json!(["alpha"])));
    assert_eq!(body["error"], "no endpoint \"aplha\"; did you mean \"alpha\"?");
    let (status, body) = stand.call("GET /v1/explain/shoq/alpha", "").await;
    assert_eq!((status, &body["choices"]), (404, &json!(["shop"])));
    let (status, body) = stand.call("GET /v1/explain/shop/nothing-like-it", "").await;
    assert_eq!((status, &body["choices"]), (404, &json!(["alpha", "standby"])));
    assert_eq!(stand.call("DELETE /v1/overrides/shop/beta", "").await.0, 404);
    assert_eq!(stand.call("GET /v1/explain/%ff", "").await.0, 400);
    assert_eq!(stand.call("GET /v2", "").await.0, 404);
}

// Concept: endpoint-external
#[tokio::test]
async fn an_advisory_reaches_the_scorer_as_it_was_meant() {
    let mut stand = stand().await;
    let (status, body) = stand.call("POST /v1/advisories", &advisory().to_string()).await;
    assert_eq!(
        (status, body),
        (
            200,
            json!({ "cluster": "shop", "endpoint": "alpha", "ttl_seconds": 600.0 })
        )
    );
    let Told::Advice(advice) = stand.told.try_recv().unwrap() else {
        panic!()
    };
    assert_eq!(advice.endpoint, id(0, 0));
    assert_eq!(
        (advice.source.as_str(), advice.reason.as_str()),
        ("status page", "maintenance at noon")
    );
    assert_eq!((advice.value.value(), advice.trust), (0.8, 0.5));
    assert_eq!(
        (advice.half_life, advice.ttl),
        (Duration::from_secs(300), Duration::from_secs(600))
    );
}

#[tokio::test]
async fn what_is_wrong_with_an_advisory_is_said_and_nothing_is_done() {
    let mut stand = stand().await;
    let wrong = [
        ("ttl", json!(null), 422, "duration"),
        ("ttl", json!("1y"), 422, "unit"),
        ("ttl", json!("10"), 422, "no unit"),
        ("ttl", json!("48h"), 422, "from 1s to 24h"),
        ("ttl", json!(0), 422, "from 1s to 24h"),
        ("ttl", json!(-5), 422, "duration"),
        ("half_life", json!(1e300), 422, "out of range"),
        ("risk", json!(1.5), 422, "between 0 and 1"),
        ("trust", json!(-0.1), 422, "between 0 and 1"),
        ("source", json!(" "), 422, "empty"),
        ("reason", json!("two\nlines"), 422, "one line"),
        ("reason", json!("x".repeat(257)), 422, "256"),
        ("severity", json!(1), 422, "unknown field `severity`"),
        ("endpoint", json!("alpho"), 404, "did you mean"),
        ("cluster", json!(null), 409, "several clusters"),
    ];
    for (key, value, status, hint) in wrong {
        let body = with(advisory(), key, value);
        let (got, error) = stand.refused("POST /v1/advisories", &body).await;
        assert_eq!(got, status, "{body}: {error}");
        assert!(error.contains(hint), "{body}: {error}");
    }
    let mut without = advisory();
    without.as_object_mut().unwrap().remove("ttl");
    let (status, error) = stand.refused("POST /v1/advisories", &without).await;
    assert_eq!(
        (status, error.contains("missing field `ttl`")),
        (422, true),
        "{error}"
    );
    assert_eq!(stand.call("POST /v1/advisories", "{").await.0, 400);
    assert!(stand.told.try_recv().is_err());
}

#[tokio::test]
async fn an_override_is_set_and_taken_back() {
    let mut stand = stand().await;
    let order = json!({ "endpoint": "standby", "risk": 0.5, "reason": "test", "ttl": "24h" });
    let (status, body) = stand.call("POST /v1/overrides", &order.to_string()).await;
    assert_eq!((status, &body["ttl_seconds"]), (200, &json!(86_399.0)), "{body}");
    let Told::Order(order) = stand.told.try_recv().unwrap() else {
        panic!()
    };
    assert_eq!(order.endpoint, id(0, 1));
    assert_eq!(order.setting, Setting::Risk(Risk::clamped(0.5)));
    assert_eq!(stand.call("DELETE /v1/overrides/shop/standby", "").await.0, 204);
    let Told::Cleared(cleared) = stand.told.try_recv().unwrap() else {
        panic!()
    };
    assert_eq!(cleared, id(0, 1));
    let (status, error) = stand
        .refused("DELETE /v1/overrides/shop/standby", &json!(null))
        .await;
    assert_eq!((status, error.as_str()), (404, "no override is set"));
}

#[tokio::test]
async fn an_override_that_cannot_be_is_refused() {
    let stand = stand().await;
    let order =
        json!({ "cluster": "shop", "endpoint": "alpha", "share": 0.5, "reason": "test", "ttl": 5400.5 });
    assert_eq!(stand.call("POST /v1/overrides", &order.to_string()).await.0, 200);
    for (key, value, hint) in [
        ("risk", json!(0.5), "either share or risk"),
        ("share", json!(null), "either share or risk"),
        ("endpoint", json!("standby"), "standby: "),
        ("ttl", json!("25h"), "from 1s to 24h"),
        ("reason", json!(""), "empty"),
    ] {
        let body = with(order.clone(), key, value);
        let (status, error) = stand.refused("POST /v1/overrides", &body).await;
        assert_eq!((status, error.contains(hint)), (422, true), "{body}: {error}");
    }
}

#[tokio::test]
async fn a_wrong_method_is_refused_with_the_right_ones() {
    let stand = stand().await;
    let (status, head, _) = stand.raw(b"PUT /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(status, 405);
    assert!(head.contains("allow: get,head"), "{head}");
    assert_eq!(stand.call("GET /v1/overrides", "").await.0, 405);
    assert_eq!(stand.call("POST /v1/endpoints", "{}").await.0, 405);
}

#[tokio::test]
async fn a_web_page_cannot_give_orders() {
    let mut stand = stand().await;
    let body = advisory().to_string();
    let request = |header: &str| {
        let length = body.len();
        format!(
            "POST /v1/advisories HTTP/1.1\r\nhost: x\r\n{header}\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    };
    assert_eq!(
        stand.raw(request("content-type: text/plain").as_bytes()).await.0,
        415
    );
    let cross = "content-type: application/json\r\norigin: http://localhost:9901";
    assert_eq!(stand.raw(request(cross).as_bytes()).await.0, 403);
    assert!(stand.told.try_recv().is_err());
}

#[tokio::test]
async fn the_running_configuration_is_shown_with_its_digest() {
    let (status, body) = stand().await.call("GET /v1/config", "").await;
    assert_eq!((status, &body["origin"]), (200, &json!("fixture")));
    assert_eq!(body["sha256"].as_str().unwrap().len(), 64);
    assert!(body["loaded_at"].as_u64().unwrap() > 1_600_000_000);
    assert_eq!(
        body["config"]["clusters"][0]["endpoints"][0]["address"],
        "127.0.0.1:9001"
    );
}

#[tokio::test]
async fn the_log_filter_is_shown_changed_and_refused() {
    let stand = stand().await;
    let (status, body) = stand.call("GET /v1/log", "").await;
    let expected = json!({ "filter": "info", "usual": "info", "falls_back_in_seconds": null });
    assert_eq!((status, body), (200, expected));
    let order = json!({ "filter": "debug,hyper=off", "ttl": "10m" });
    let (status, body) = stand.call("PUT /v1/log", &order.to_string()).await;
    assert_eq!(
        (status, &body["filter"], &body["usual"]),
        (200, &json!("debug,hyper=off"), &json!("info"))
    );
    assert!(
        (590.0..=600.0).contains(&body["falls_back_in_seconds"].as_f64().unwrap()),
        "{body}"
    );
    for (wrong, hint) in [
        (json!({ "filter": "loud" }), "filter: "),
        (json!({ "filter": "" }), "1 to 1024"),
        (json!({ "filter": "info", "ttl": "25h" }), "from 1s to 24h"),
        (json!({ "filter": "info", "for": "1h" }), "unknown field"),
    ] {
        let (status, error) = stand.refused("PUT /v1/log", &wrong).await;
        assert_eq!((status, error.contains(hint)), (422, true), "{wrong}: {error}");
    }
    assert_eq!(stand.call("GET /v1/log", "").await.1["filter"], "debug,hyper=off");
}

#[tokio::test]
async fn without_the_token_only_what_is_open_is_answered() {
    let secret = std::env::temp_dir().join(format!("foreshade-admin-token-{}", std::process::id()));
    std::fs::write(&secret, "correct-horse-battery\n").unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let keys = Keys::load(&secret, WithoutToken::Health).unwrap();
    std::fs::remove_file(&secret).unwrap();
    let mut stand = stand_with(keys).await;
    assert_eq!(stand.call("GET /readyz", "").await.0, 200);
    for line in [
        "GET /metrics",
        "GET /v1/endpoints",
        "GET /v1/config",
        "GET /",
        "POST /v1/overrides",
        "GET /nothing",
    ] {
        assert_eq!(stand.refused(line, &json!(null)).await.0, 401, "{line}");
    }
    let with = |line: &str, token: &str| {
        format!("{line} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n").into_bytes()
    };
    let (status, head, body) = stand.raw(&with("GET /metrics", "wrong-horse-battery")).await;
    assert_eq!(
        (status, head.contains("www-authenticate: bearer")),
        (401, true),
        "{head}"
    );
    assert!(!body.contains("horse"), "{body}");
    let (status, _, page) = stand.raw(&with("GET /metrics", "correct-horse-battery")).await;
    assert_eq!(status, 200);
    assert!(page.contains("\nforeshade_admin_refused_total 7\n"), "{page}");
    assert!(stand.told.try_recv().is_err());
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused() {
    let stand = stand().await;
    let request = format!(
        "POST /v1/advisories HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        BODY_BYTES_MAX + 1
    );
    let (status, _, body) = stand.raw(request.as_bytes()).await;
    assert_eq!(status, 413);
    assert!(body.contains("\"error\""), "{body}");
}

#[tokio::test(start_paused = true)]
async fn a_scorer_that_does_not_answer_is_a_503_and_so_is_one_that_is_gone() {
    let (commands, asked) = mpsc::channel(1);
    let (_tell, told) = mpsc::unbounded_channel();
    let stand = stand_before(commands, told, Keys::default()).await;
    for line in [
        "GET /metrics",
        "GET /v1/endpoints",
        "GET /v1/explain/beta",
        "DELETE /v1/overrides/api/beta",
    ] {
        let (status, error) = stand.refused(line, &json!(null)).await;
        assert_eq!(status, 503, "{line}: {error}");
        assert!(error.contains("does not answer"), "{error}");
    }
    drop(asked);
    let (status, error) = stand.refused("GET /metrics", &json!(null)).await;
    assert_eq!((status, error.as_str()), (503, "the scorer has stopped"));
    assert_eq!(stand.call("GET /livez", "").await.0, 200);
}

/// As many clients as the port serves at a time send this and nothing more; then somebody asks properly.
async fn survives(start: &[u8]) {
    let stand = stand().await;
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut stream = TcpStream::connect(stand.address).await.unwrap();
        stream.write_all(start).await.unwrap();
        clients.push(stream);
    }
    assert_eq!(stand.call("GET /livez", "").await.0, 200);
    drop(clients);
}

#[tokio::test(start_paused = true)]
async fn clients_that_never_finish_do_not_keep_others_out() {
    survives(b"").await;
    survives(b"GET /livez HTTP/1.1\r\nhos").await;
    let half_a_body = b"POST /v1/overrides HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
        content-length: 100\r\n\r\n{";
    survives(half_a_body).await;
}
