//! The API as operators and pipelines use it: over real sockets, before a test double that keeps what it is told.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what a test cannot set up it has to fail with"
)]

#[path = "api/links.rs"]
mod links;
mod stand;

use std::time::Duration;

use foreshade_controller::config::WithoutToken;
use foreshade_controller::operator::{Operator as _, Standing};
use foreshade_door::Keys;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use stand::memory::NOON_MS;
use stand::{Answer, Stand};

impl Stand {
    async fn order(&self, path: &str, body: &Value) -> Answer {
        self.send(&format!("POST {path}"), "", body).await
    }
}

fn said() -> Value {
    json!({ "actor": "jane", "reason": "a good one" })
}

fn with(mut body: Value, key: &str, value: Value) -> Value {
    body[key] = value;
    body
}

#[tokio::test]
async fn pairs_are_shown_with_the_generation_that_an_order_may_name() {
    let stand = Stand::open();
    let list = stand.see("/v1/pairs").await;
    assert_eq!(list.status, 200);
    let list = list.json();
    assert_eq!(
        (&list[0]["pair"], &list[1]["pair"]),
        (&json!("shop/a"), &json!("shop/b"))
    );
    let shown = stand.see("/v1/pairs/shop/a").await;
    assert_eq!(shown.header("etag"), Some("\"7\""));
    assert_eq!(shown.json()["summary"], list[0]);
    assert_eq!(
        stand.see("/v1/pairs/shop/a/analysis").await.json()["brief"]["verdict"],
        "undecided"
    );
    assert_eq!(stand.see("/v1/pairs/shop/b/analysis").await.json(), Value::Null);
    let unknown = stand.see("/v1/pairs/shop/nobody").await;
    assert_eq!(
        (unknown.status, &unknown.json()["type"]),
        (404, &json!("urn:foreshade:unknown-pair"))
    );
}

#[tokio::test]
async fn every_verb_does_what_it_says_and_stands_in_the_audit_log() {
    let stand = Stand::open();
    for (path, body, state) in [
        ("/v1/pairs/shop/a/promote", said(), "Shifting.Advancing"),
        ("/v1/pairs/shop/a/pause", said(), "Shifting.Paused"),
        ("/v1/pairs/shop/a/resume", said(), "Shifting.Advancing"),
        (
            "/v1/pairs/shop/a/gates/release/approve",
            said(),
            "Shifting.Advancing",
        ),
        (
            "/v1/pairs/shop/a/gates/release/deny",
            said(),
            "Shifting.Advancing",
        ),
        ("/v1/pairs/shop/a/abort", said(), "Failed"),
        ("/v1/pairs/shop/a/retry", said(), "Warm.Idle"),
        (
            "/v1/pairs/shop/a/promote",
            with(said(), "full", json!(true)),
            "Committed",
        ),
        ("/v1/pairs/shop/a/undo", said(), "Warm.Idle"),
        ("/v1/pairs/shop/a/freeze", said(), "Frozen"),
        ("/v1/pairs/shop/a/unfreeze", said(), "Warm.Idle"),
    ] {
        let answer = stand.order(path, &body).await;
        assert_eq!(
            (answer.status, &answer.json()["state"]),
            (200, &json!(state)),
            "{path}: {}",
            answer.text
        );
        assert_eq!(answer.json()["changed"], true, "{path}");
    }
    let audit = stand.see("/v1/audit").await.json();
    let verbs: Vec<_> = audit
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["command"].as_str().unwrap())
        .collect();
    let expected = [
        "unfreeze", "freeze", "undo", "promote", "retry", "abort", "deny", "approve", "resume", "pause",
        "promote",
    ];
    assert_eq!(verbs, expected);
    assert_eq!(
        (&audit[0]["actor"], &audit[0]["reason"]),
        (&json!("jane"), &json!("a good one"))
    );
    // In pages, none twice and none missing.
    let first = stand.see("/v1/audit?limit=4").await.json();
    let before = first[3]["seq"].as_u64().unwrap();
    let second = stand
        .see(&format!("/v1/audit?limit=100&before={before}"))
        .await
        .json();
    assert_eq!(
        (first.as_array().unwrap().len(), second.as_array().unwrap().len()),
        (4, 7)
    );
    assert_eq!(
        stand.see("/v1/pairs/shop/a/history").await.json()[0]["to"],
        "Warm.Idle"
    );
}

#[tokio::test]
async fn an_order_that_changes_nothing_is_well_and_one_that_cannot_be_is_a_conflict() {
    let stand = Stand::open();
    let answer = stand.order("/v1/pairs/shop/b/abort", &said()).await;
    assert_eq!((answer.status, &answer.json()["changed"]), (200, &json!(false)));
    let answer = stand.order("/v1/pairs/shop/b/undo", &said()).await;
    assert_eq!(
        (answer.status, &answer.json()["type"]),
        (409, &json!("urn:foreshade:not-now"))
    );
    let answer = stand
        .order("/v1/pairs/shop/b/gates/nobody/approve", &said())
        .await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn what_is_decided_on_a_generation_that_has_passed_is_not_done() {
    let stand = Stand::open();
    let pause = |tag: &str| {
        let headers = format!("if-match: {tag}\r\n");
        let stand = &stand;
        async move { stand.send("POST /v1/pairs/shop/a/pause", &headers, &said()).await }
    };
    let stale = pause("\"6\"").await;
    assert_eq!((stale.status, &stale.json()["generation"]), (412, &json!(7)));
    assert_eq!(stale.header("etag"), Some("\"7\""));
    let done = pause("\"7\"").await;
    assert_eq!((done.status, done.header("etag")), (200, Some("\"8\"")));
    assert_eq!(pause("\"7\"").await.status, 412);
    assert_eq!(pause("*").await.status, 200);
    for tag in ["\"x\"", "W/\"9\"", "\"7\", \"8\"", "-1"] {
        assert_eq!(pause(tag).await.status, 400, "{tag}");
    }
}

#[tokio::test]
async fn an_order_that_comes_twice_is_carried_out_once() {
    let stand = Stand::open();
    let promote = |key: &str, body: Value| {
        let headers = format!("idempotency-key: {key}\r\n");
        let stand = &stand;
        async move { stand.send("POST /v1/pairs/shop/a/promote", &headers, &body).await }
    };
    let first = promote("k-1", said()).await;
    let second = promote("k-1", said()).await;
    assert_eq!((first.status, second.status), (200, 200));
    assert_eq!(first.json(), second.json());
    assert_eq!(
        (
            first.header("idempotency-replayed"),
            second.header("idempotency-replayed")
        ),
        (None, Some("true"))
    );
    assert_eq!(
        stand.see("/v1/pairs/shop/a").await.json()["summary"]["generation"],
        8
    );
    let other = promote("k-1", with(said(), "full", json!(true))).await;
    assert_eq!(
        (other.status, &other.json()["type"]),
        (422, &json!("urn:foreshade:key-reused"))
    );
    assert_eq!(promote("k-2", said()).await.json()["generation"], 9);
    assert_eq!(promote(&"x".repeat(200), said()).await.status, 400);
    assert_eq!(stand.see("/v1/audit").await.json()[0]["key"], "k-2");
    // What was refused may come again under its key.
    let undo = "POST /v1/pairs/shop/b/undo";
    let key = "idempotency-key: k-3\r\n";
    assert_eq!(stand.send(undo, key, &said()).await.status, 409);
    assert_eq!(
        stand
            .send("POST /v1/pairs/shop/b/promote", key, &said())
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_condition_that_nobody_can_read_is_not_answered_from_memory() {
    let stand = Stand::open();
    let abort = "POST /v1/pairs/shop/a/abort";
    let key = "idempotency-key: k-1\r\n";
    assert_eq!(stand.send(abort, key, &said()).await.status, 200);
    for condition in ["if-match: \r\n", "if-match: \"x\"\r\n"] {
        let answer = stand.send(abort, &format!("{key}{condition}"), &said()).await;
        assert_eq!(answer.status, 400, "{condition}");
    }
}

#[tokio::test]
async fn a_method_that_a_path_does_not_take_is_told_so_whatever_its_key() {
    let stand = Stand::open();
    let key = "idempotency-key: k-1\r\n";
    stand.send("POST /v1/pairs/shop/a/abort", key, &said()).await;
    for line in [
        "DELETE /v1/pairs/shop/a/abort",
        "POST /v1/pairs/shop/a/override/share",
    ] {
        assert_eq!(stand.send(line, key, &said()).await.status, 405, "{line}");
    }
    // A key is one order's, by whatever method it comes.
    let clear = "DELETE /v1/pairs/shop/a/override/share?actor=jane&reason=x";
    assert_eq!(stand.send(clear, key, &Value::Null).await.status, 422);
}

#[tokio::test]
async fn pairs_are_the_configurations_and_whoever_puts_one_is_told_so() {
    let stand = Stand::open();
    let put = stand.send("PUT /v1/pairs/shop/a", "", &said()).await;
    assert_eq!((put.status, put.header("allow")), (405, Some("get,head")));
    let detail = put.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("change the file"), "{detail}");
    let elsewhere = stand.send("PUT /v1/audit", "", &said()).await.json();
    assert!(
        !elsewhere["detail"].as_str().unwrap().contains("the file"),
        "{elsewhere}"
    );
}

#[tokio::test]
async fn a_reason_is_as_long_as_it_may_be_in_every_script() {
    let stand = Stand::open();
    let path = "/v1/pairs/shop/a/pause";
    for (reason, status) in [
        ("ᐁ".repeat(256), 200),
        ("x".repeat(257), 422),
        ("ᐁ".repeat(257), 422),
    ] {
        let order = json!({ "actor": "jane", "reason": reason });
        assert_eq!(stand.order(path, &order).await.status, status, "{reason}");
    }
}

#[tokio::test]
async fn a_safety_rule_is_waived_for_a_while_and_asked_again() {
    let stand = Stand::open();
    let path = "/v1/pairs/shop/a/waive";
    let waiver = with(with(said(), "rule", json!("capacity")), "ttl", json!("15m"));
    assert_eq!(stand.order(path, &waiver).await.status, 200);
    let shown = &stand.see("/v1/pairs/shop/a").await.json()["waived"][0];
    let expected = json!({
        "rule": "capacity", "until_ms": NOON_MS + 900_000, "actor": "jane", "reason": "a good one"
    });
    assert_eq!(*shown, expected);
    for (key, wrong) in [
        ("rule", json!("gravity")),
        ("ttl", json!("25h")),
        ("value", json!(1)),
    ] {
        assert_eq!(
            stand.order(path, &with(waiver.clone(), key, wrong)).await.status,
            422,
            "{key}"
        );
    }
    let again = "DELETE /v1/pairs/shop/a/waive/capacity?actor=jane&reason=measured";
    assert_eq!(stand.send(again, "", &Value::Null).await.json()["changed"], true);
    assert_eq!(stand.send(again, "", &Value::Null).await.json()["changed"], false);
    assert_eq!(stand.see("/v1/pairs/shop/a").await.json()["waived"], json!([]));
}

#[tokio::test]
async fn an_undo_may_name_the_generation_that_it_goes_back_to() {
    let stand = Stand::open();
    stand
        .order("/v1/pairs/shop/a/promote", &with(said(), "full", json!(true)))
        .await;
    let undo = |to: Value| {
        let stand = &stand;
        async move {
            stand
                .order("/v1/pairs/shop/a/undo", &with(said(), "to", to))
                .await
        }
    };
    assert_eq!(undo(json!(99)).await.status, 404);
    assert_eq!(undo(json!("last")).await.status, 422);
    assert_eq!(undo(json!(7)).await.json()["state"], "Warm.Idle");
}

#[tokio::test]
async fn a_simulation_is_asked_for_without_actor_and_changes_nothing() {
    let stand = Stand::open();
    let path = "/v1/pairs/shop/a/simulation";
    let told = stand
        .see(&format!("{path}?suppose=primary_gone&order=promote&within=1h"))
        .await
        .json();
    assert_eq!(
        (&told["looked_ms"], &told["told"][0]["to"]),
        (&json!(3_600_000), &json!("FailedOver"))
    );
    let cause = told["told"][0]["cause"].as_str().unwrap();
    assert!(
        cause.contains("PrimaryGone") && cause.contains("promote"),
        "{cause}"
    );
    assert_eq!(stand.see(path).await.json()["looked_ms"], 600_000);
    for wrong in [
        "suppose=rain",
        "within=3h",
        "within=0s",
        "order=dance",
        "who=jane",
    ] {
        assert_eq!(stand.see(&format!("{path}?{wrong}")).await.status, 400, "{wrong}");
    }
    assert_eq!(stand.see("/v1/pairs/shop/nobody/simulation").await.status, 404);
    assert_eq!(stand.see("/v1/audit").await.json(), json!([]));
}

#[tokio::test]
async fn a_trial_says_what_would_happen_and_changes_nothing() {
    let stand = Stand::open();
    let before = stand.see("/v1/pairs/shop/a").await.json();
    let tried = stand
        .order("/v1/pairs/shop/a/abort?dry_run=1", &said())
        .await
        .json();
    assert_eq!(
        (&tried["dry_run"], &tried["state"]),
        (&json!(true), &json!("Failed"))
    );
    assert_eq!(stand.see("/v1/pairs/shop/a").await.json(), before);
    assert_eq!(stand.see("/v1/audit").await.json(), json!([]));
    assert_eq!(
        stand
            .order("/v1/pairs/shop/a/abort?dry_run=maybe", &said())
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn an_order_needs_an_actor_a_reason_and_nothing_unknown() {
    let stand = Stand::open();
    let path = "/v1/pairs/shop/a/abort";
    for (body, status) in [
        (json!({ "actor": "jane" }), 422),
        (json!({ "reason": "x" }), 422),
        (json!({ "actor": "", "reason": "x" }), 422),
        (json!({ "actor": "jane", "reason": "two\nlines" }), 422),
        (json!({ "actor": "x".repeat(65), "reason": "x" }), 422),
        (json!({ "actor": "jane", "reason": "x", "force": true }), 422),
        (json!([]), 422),
    ] {
        let answer = stand.order(path, &body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text);
    }
    let not_json = stand
        .raw("POST /v1/pairs/shop/a/abort HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
        .await;
    assert_eq!(not_json.status, 415);
    let broken = "POST /v1/pairs/shop/a/abort HTTP/1.1\r\nhost: x\r\n\
        content-type: application/json\r\ncontent-length: 1\r\n\r\n{";
    assert_eq!(stand.raw(broken).await.status, 400);
    let long = with(said(), "reason", json!("x".repeat(70_000)));
    assert_eq!(stand.order(path, &long).await.status, 413);
    let keyed = stand
        .send(&format!("POST {path}"), "idempotency-key: k\r\n", &long)
        .await;
    assert_eq!(keyed.status, 413);
    assert_eq!(stand.see("/v1/audit").await.json(), json!([]));
}

#[tokio::test]
async fn what_is_set_by_hand_has_an_end_and_can_be_ended() {
    let stand = Stand::open();
    let path = "/v1/pairs/shop/a/override";
    let body = json!({ "actor": "jane", "reason": "calm", "what": "share", "value": 0.05, "ttl": "15m" });
    assert_eq!(stand.order(path, &body).await.status, 200);
    let set = &stand.see("/v1/pairs/shop/a").await.json()["overrides"][0];
    assert_eq!(
        (&set["value"], &set["until_ms"]),
        (&json!(0.05), &json!(NOON_MS + 900_000))
    );
    for (key, value) in [
        ("value", json!(1.5)),
        ("value", json!(-0.1)),
        ("ttl", json!("25h")),
        ("ttl", json!("15")),
        ("ttl", json!(900)),
        ("what", json!("weather")),
    ] {
        let wrong = with(body.clone(), key, value.clone());
        assert_eq!(stand.order(path, &wrong).await.status, 422, "{key} {value}");
    }
    let clear = "DELETE /v1/pairs/shop/a/override/share?actor=jane&reason=over";
    assert_eq!(stand.send(clear, "", &Value::Null).await.json()["changed"], true);
    assert_eq!(stand.see("/v1/pairs/shop/a").await.json()["overrides"], json!([]));
    assert_eq!(
        stand
            .send(
                "DELETE /v1/pairs/shop/a/override/share?actor=jane",
                "",
                &Value::Null
            )
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn a_drill_is_begun_shown_and_ended() {
    let stand = Stand::open();
    let body = json!({
        "actor": "jane", "reason": "friday", "pair": { "cluster": "shop", "primary": "b" },
        "scenario": "primary_gone",
    });
    let begun = stand.order("/v1/drills", &body).await.json();
    let id = begun["drill"].as_u64().unwrap();
    assert_eq!(stand.order("/v1/drills", &body).await.status, 409);
    let drill = stand.see(&format!("/v1/drills/{id}")).await.json();
    assert_eq!(
        (&drill["result"], &drill["until_ms"]),
        (&json!("running"), &json!(NOON_MS + 1_800_000))
    );
    assert_eq!(
        stand
            .order(&format!("/v1/drills/{id}/cancel"), &said())
            .await
            .status,
        200
    );
    assert_eq!(
        stand
            .order(&format!("/v1/drills/{id}/cancel"), &said())
            .await
            .status,
        409
    );
    assert_eq!(stand.see("/v1/drills").await.json()[0]["result"], "interrupted");
    assert_eq!(stand.see("/v1/drills/999").await.status, 404);
    assert_eq!(stand.see("/v1/drills/x").await.status, 400);
}

#[tokio::test]
async fn readiness_and_orders_follow_the_standing_and_liveness_does_not() {
    let stand = Stand::open();
    assert_eq!(stand.see("/readyz").await.status, 200);
    for (standing, said_so) in [
        (
            Standing::Following {
                leader: Some("10.0.0.7".to_owned()),
            },
            "10.0.0.7 acts",
        ),
        (
            Standing::ReadOnly {
                why: "the disk is full".to_owned(),
            },
            "the disk is full",
        ),
    ] {
        stand.memory.stands(standing);
        let answer = stand.see("/readyz").await;
        assert_eq!(answer.status, 503);
        assert!(answer.text.contains(said_so), "{}", answer.text);
        let refused = stand.order("/v1/pairs/shop/a/abort", &said()).await;
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("2")));
        assert_eq!(stand.see("/healthz").await.status, 200);
        assert_eq!(stand.see("/v1/pairs").await.status, 200);
    }
}

#[tokio::test]
async fn without_the_token_only_what_is_open_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "correct-horse-battery\n").unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let stand = Stand::with(Keys::load(&path, WithoutToken::Health).unwrap(), None);
    for (path, status) in [
        ("/healthz", 200),
        ("/readyz", 200),
        ("/v1/pairs", 401),
        ("/metrics", 401),
        ("/nothing", 404),
    ] {
        assert_eq!(stand.see(path).await.status, status, "{path}");
    }
    let refused = stand.order("/v1/pairs/shop/a/abort", &said()).await;
    assert_eq!(
        (refused.status, refused.header("www-authenticate")),
        (401, Some("bearer"))
    );
    let token = "authorization: Bearer correct-horse-battery\r\n";
    let page = stand.send("GET /metrics", token, &Value::Null).await;
    assert!(
        page.text.contains("\nforeshade_controller_api_refused_total 3\n"),
        "{}",
        page.text
    );
    assert_eq!(stand.see("/v1/audit").await.status, 401);
}

#[tokio::test]
async fn a_web_page_can_give_no_orders() {
    let stand = Stand::open();
    let origin = "origin: http://evil.example\r\n";
    assert_eq!(
        stand
            .send("POST /v1/pairs/shop/a/abort", origin, &said())
            .await
            .status,
        403
    );
    assert_eq!(
        stand.send("GET /v1/pairs", origin, &Value::Null).await.status,
        200
    );
    assert_eq!(stand.see("/v1/audit").await.json(), json!([]));
}

#[tokio::test]
async fn what_is_not_there_and_what_is_not_taken_are_problems_too() {
    let stand = Stand::open();
    assert_eq!(stand.see("/v1/nothing").await.status, 404);
    let wrong = stand.order("/v1/pairs", &said()).await;
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("get,head")));
    assert_eq!(stand.see("/v1/pairs/sh%20op/a").await.status, 400);
    assert_eq!(stand.see("/v1/audit?limit=0").await.status, 400);
    assert_eq!(stand.see("/v1/audit?page=2").await.status, 400);
}

/// Reads a stream of events until it has said this.
async fn heard(stream: &mut TcpStream, wanted: &str) -> String {
    let mut text = String::new();
    let reading = async {
        while !text.contains(wanted) {
            let mut bytes = [0; 4096];
            let count = stream.read(&mut bytes).await.unwrap();
            assert!(count > 0, "the stream ended: {text}");
            text += std::str::from_utf8(&bytes[..count]).unwrap();
        }
    };
    let heard = tokio::time::timeout(Duration::from_secs(20), reading).await;
    assert!(heard.is_ok(), "never {wanted:?}: {text}");
    text
}

async fn listen(stand: &Stand, path: &str, after: &str) -> TcpStream {
    let mut stream = TcpStream::connect(&stand.address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n{after}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn a_listener_hears_what_happens_and_goes_on_where_it_was() {
    let stand = Stand::open();
    let mut all = listen(&stand, "/v1/events", "").await;
    let head = heard(&mut all, "\r\n\r\n").await;
    assert!(
        head.to_lowercase().contains("content-type: text/event-stream"),
        "{head}"
    );
    stand.order("/v1/pairs/shop/a/pause", &said()).await;
    stand.order("/v1/pairs/shop/b/promote", &said()).await;
    let text = heard(&mut all, "id: 2").await;
    assert!(text.contains("id: 1\n") || text.contains("\nid: 1"), "{text}");
    drop(all);

    let mut rest = listen(&stand, "/v1/events", "last-event-id: 1\r\n").await;
    let text = heard(&mut rest, "a shift begins").await;
    assert!(!text.contains("id: 1\n"), "{text}");

    let mut of_a = listen(&stand, "/v1/pairs/shop/a/events", "last-event-id: 0\r\n").await;
    stand.order("/v1/pairs/shop/a/resume", &said()).await;
    let text = heard(&mut of_a, "the shift goes on").await;
    assert!(
        text.contains("the share stays") && !text.contains("a shift begins"),
        "{text}"
    );

    let mut lost = listen(&stand, "/v1/events", "last-event-id: 99\r\n").await;
    assert!(heard(&mut lost, "id: 3").await.contains("event: gap"));
    assert_eq!(stand.see("/v1/pairs/shop/nobody/events").await.status, 404);
    assert_eq!(
        stand
            .send("GET /v1/events", "last-event-id: x\r\n", &Value::Null)
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn the_document_that_is_served_is_the_one_in_the_repository() {
    let stand = Stand::open();
    let served = stand.see("/openapi.json").await;
    assert_eq!(served.text, foreshade_controller::api::openapi());
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written.trim_end() == served.text.trim_end(),
        "docs/openapi.json is old: foreshade-controller openapi > docs/openapi.json"
    );
}

#[tokio::test]
async fn every_change_in_the_document_wants_an_actor_and_a_reason() {
    let document: Value = serde_json::from_str(&foreshade_controller::api::openapi()).unwrap();
    let mut changes = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations
            .as_object()
            .unwrap()
            .iter()
            .filter(|(method, _)| *method != "get")
        {
            let body = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
            let in_body = body.as_str().is_some_and(|name| {
                let name = name.rsplit('/').next().unwrap();
                let required = document["components"]["schemas"][name]["required"]
                    .as_array()
                    .unwrap();
                ["actor", "reason"]
                    .iter()
                    .all(|key| required.contains(&json!(key)))
            });
            let parameters = operation["parameters"].as_array().unwrap();
            let in_query = ["actor", "reason"].iter().all(|key| {
                parameters
                    .iter()
                    .any(|parameter| parameter["name"] == *key && parameter["required"] == true)
            });
            assert!(in_body || in_query, "{method} {path}");
            changes += 1;
        }
    }
    assert!(changes >= 14, "{changes}");
    let _ = stand::memory::Memory::default().events().newest();
}
