//! Links that open one gate: by a button, for a while, and nothing else.

use std::time::Duration;

use foreshade_controller::api::links::Signer;
use foreshade_controller::config::{Links, url::Url};
use foreshade_door::Keys;
use foreshade_settings::Scalar as _;
use serde_json::json;

use crate::stand::memory::pair;
use crate::stand::{Answer, Stand};

fn signer() -> Signer {
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("key");
    std::fs::write(&key_file, [7; 32]).unwrap();
    let links = Links {
        url: Url::parse("https://foreshade.example").unwrap(),
        key_file,
        life: Duration::from_secs(3600),
    };
    Signer::load(&links).unwrap()
}

/// The path of the link to the gate of `shop/a`.
async fn link(stand: &Stand) -> String {
    stand.memory.waits_for_gate(&pair("shop", "a"));
    let detail = stand.see("/v1/pairs/shop/a").await.json();
    let link = detail["gates"][0]["link"].as_str().unwrap();
    link.strip_prefix("https://foreshade.example").unwrap().to_owned()
}

async fn press(stand: &Stand, link: &str, answer: &str) -> Answer {
    // As a browser sends it.
    let request = format!(
        "POST {link}&answer={answer} HTTP/1.1\r\nhost: x\r\norigin: https://foreshade.example\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: 0\r\n\r\n"
    );
    stand.raw(&request).await
}

#[tokio::test]
async fn a_link_opens_its_gate_by_a_button_and_never_by_being_looked_at() {
    let stand = Stand::with(Keys::default(), Some(signer()));
    let link = link(&stand).await;
    let page = stand
        .raw(&format!("GET {link} HTTP/1.1\r\nhost: x\r\n\r\n"))
        .await;
    assert_eq!(
        (page.status, page.header("referrer-policy")),
        (200, Some("no-referrer"))
    );
    assert!(
        page.text.contains("release") && page.text.contains("shop/a"),
        "{}",
        page.text
    );
    assert_eq!(stand.see("/v1/audit").await.json(), json!([]));

    let pressed = press(&stand, &link, "approve").await;
    assert_eq!(pressed.status, 200, "{}", pressed.text);
    let audit = stand.see("/v1/audit").await.json();
    assert_eq!(
        (&audit[0]["command"], &audit[0]["actor"]),
        (&json!("approve"), &json!("link"))
    );
    // Once the pair has moved on, the link is of the past.
    let said = json!({"actor": "ann", "reason": "it is well"});
    let moved = stand.send("POST /v1/pairs/shop/a/promote", "", &said).await;
    assert_eq!(moved.status, 200, "{}", moved.text);
    let again = press(&stand, &link, "deny").await;
    assert_eq!(again.status, 412);
    assert!(again.text.contains("Nothing was changed"), "{}", again.text);
}

#[tokio::test]
async fn each_press_of_a_button_is_an_order_of_its_own() {
    let stand = Stand::with(Keys::default(), Some(signer()));
    let link = link(&stand).await;
    for (answer, standing) in [
        ("deny", "denied"),
        ("approve", "open"),
        ("deny", "denied"),
        ("deny", "denied"),
    ] {
        let pressed = press(&stand, &link, answer).await;
        assert_eq!(pressed.status, 200, "{}", pressed.text);
        let detail = stand.see("/v1/pairs/shop/a").await.json();
        assert_eq!(detail["gates"][0]["standing"], standing, "after {answer}");
    }
}

#[tokio::test]
async fn a_link_that_is_not_ours_opens_nothing() {
    let stand = Stand::with(Keys::default(), Some(signer()));
    let link = link(&stand).await;
    for wrong in [
        "/v1/approve".to_owned(),
        "/v1/approve?token=".to_owned(),
        "/v1/approve?token=a.b".to_owned(),
        link.replace("token=e", "token=f"),
    ] {
        let separator = if wrong.contains('?') { "" } else { "?x=y" };
        let pressed = press(&stand, &format!("{wrong}{separator}"), "approve").await;
        assert_eq!(pressed.status, 403, "{wrong}");
    }
    assert_eq!(press(&stand, &link, "maybe").await.status, 403);
    let without = Stand::open();
    assert_eq!(press(&without, &link, "approve").await.status, 403);
    assert_eq!(stand.see("/v1/audit").await.json(), json!([]));
}
