//! The command `foreshade` against a real API: what it orders, what it prints, and with which code it ends.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what a test cannot set up it has to fail with"
)]

mod stand;

use std::io::Write;
use std::sync::{Arc, Mutex};

use clap::Parser as _;
use foreshade_controller::api::Api;
use foreshade_controller::cli::foreshade::{Arguments, AskError, Screen, run};
use foreshade_controller::config::{AdminAddress, WithoutToken};
use foreshade_controller::operator::Standing;
use foreshade_door::{Door, Keys};
use serde_json::{Value, json};

use stand::Stand;
use stand::memory::{Memory, pair};

/// Something that is printed to, and can be looked at.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs the command: its exit code and what it printed.
async fn command(server: &str, line: &str) -> Result<(u8, String), AskError> {
    let words = ["foreshade", "--server", server]
        .into_iter()
        .chain(line.split_whitespace());
    let arguments = Arguments::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"));
    let paper = Paper::default();
    let code = run(arguments, &mut Screen::new(paper.clone(), false)).await?;
    let text = String::from_utf8(paper.0.lock().unwrap().clone()).unwrap();
    Ok((code, text))
}

impl Stand {
    async fn say(&self, line: &str) -> (u8, String) {
        command(&format!("http://{}", self.address), line)
            .await
            .unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    async fn refused(&self, line: &str) -> String {
        command(&format!("http://{}", self.address), line)
            .await
            .unwrap_err()
            .to_string()
    }
}

#[tokio::test]
async fn every_verb_reaches_its_path_with_actor_and_reason() {
    let stand = Stand::open();
    for (line, verb) in [
        ("promote shop/a", "promote"),
        ("pause shop/a", "pause"),
        ("resume shop/a", "resume"),
        ("gate approve shop/a release", "approve"),
        ("gate deny shop/a release", "deny"),
        ("set weight shop/a 5% --ttl 15m", "override"),
        ("clear weight shop/a", "clear-override"),
        ("abort shop/a", "abort"),
        ("retry shop/a", "retry"),
        ("promote shop/a --full", "promote"),
        ("undo shop/a --to 7", "undo"),
        ("waive capacity shop/a --ttl 15m", "override"),
        ("restore capacity shop/a", "clear-override"),
        ("freeze shop/a", "freeze"),
        ("unfreeze shop/a", "unfreeze"),
        ("drill start shop/a --scenario primary-gone", "drill"),
    ] {
        let (code, text) = stand
            .say(&format!("{line} --actor jane --reason because-of-it"))
            .await;
        assert_eq!(code, 0, "{line}");
        assert!(
            text.starts_with("shop/a: ") && text.contains("at generation"),
            "{line}: {text}"
        );
        let entry = &stand.see("/v1/audit?limit=1").await.json()[0];
        let expected = (&json!(verb), &json!("jane"), &json!("because-of-it"));
        assert_eq!(
            (&entry["command"], &entry["actor"], &entry["reason"]),
            expected,
            "{line}"
        );
        assert!(entry["key"].is_string(), "{line}");
    }
    let id = stand.see("/v1/drills").await.json()[0]["id"].clone();
    stand
        .say(&format!("drill stop {id} --actor jane --reason done"))
        .await;
    let (_, report) = stand.say(&format!("drill report {id}")).await;
    assert!(
        report.contains("Interrupted") && report.contains("  ended by an operator"),
        "{report}"
    );
    let (_, audit) = stand.say("audit -n 3").await;
    assert_eq!(audit.lines().count(), 4, "{audit}");
    assert!(stand.say("history shop/a").await.1.contains("Frozen → Warm.Idle"));
}

#[tokio::test]
async fn what_is_so_is_shown_as_text_or_as_json() {
    let stand = Stand::open();
    let (_, list) = stand.say("list").await;
    assert!(
        list.contains("shop/a") && list.contains("◌ Progressing") && !list.contains('\u{1b}'),
        "{list}"
    );
    assert!(stand.say("get shop/a").await.1.contains("├──α analysis"));
    assert!(stand.say("explain shop/a").await.1.contains("E_WORSE"));
    let json: Value = serde_json::from_str(&stand.say("get shop/a --json").await.1).unwrap();
    assert_eq!(json, stand.see("/v1/pairs/shop/a").await.json());
}

#[tokio::test]
async fn a_simulation_says_what_would_become_of_a_pair() {
    let stand = Stand::open();
    let (code, text) = stand
        .say("simulate shop/a --suppose primary-gone --order promote-full --within 5m")
        .await;
    assert_eq!(code, 0);
    for said in [
        "the order would be: done",
        "FailedOver",
        "PrimaryGone",
        "after 5m",
        "waits: evidence",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    assert_eq!(stand.see("/v1/audit").await.json(), json!([]));
}

#[tokio::test]
async fn a_status_is_an_exit_code() {
    let stand = Stand::open();
    let reason = "--actor jane --reason x";
    assert_eq!(stand.say("status shop/b").await.0, 0);
    assert_eq!(stand.say("status shop/a").await.0, 2);
    assert_eq!(stand.say("status shop/a --watch --timeout 0s").await.0, 2);
    stand.memory.waits_for_gate(&pair("shop", "a"));
    assert_eq!(stand.say("status shop/a --watch --timeout 1ms").await.0, 3);
    stand.say(&format!("abort shop/a {reason}")).await;
    assert_eq!(stand.say("status shop/a --watch").await.0, 1);
    stand.say(&format!("retry shop/a {reason}")).await;
    assert_eq!(stand.say("status shop/a --watch").await.0, 0);
}

#[tokio::test]
async fn a_status_that_is_waited_for_ends_when_the_pair_is_well() {
    let stand = Stand::open();
    let (waited, _) = tokio::join!(
        stand.say("status shop/a --watch --timeout 1m"),
        stand.say("promote shop/a --full --actor jane --reason x"),
    );
    assert_eq!(waited.0, 0);
}

#[tokio::test]
async fn what_the_controller_refuses_is_said_in_its_words() {
    let stand = Stand::open();
    let reason = "--actor jane --reason x";
    assert_eq!(
        stand.refused("get shop/nobody").await,
        "there is no pair shop/nobody"
    );
    let refused = stand.refused(&format!("undo shop/b {reason}")).await;
    assert_eq!(refused, "a pair in Warm.Idle cannot undo");
    let refused = stand
        .refused(&format!("abort shop/a --if-generation 3 {reason}"))
        .await;
    assert!(refused.contains("at generation 7, not at 3"), "{refused}");
    let (_, tried) = stand.say(&format!("abort shop/a --dry-run {reason}")).await;
    assert!(tried.contains("dry run"), "{tried}");
    assert_eq!(stand.see("/v1/audit").await.json(), json!([]));
    stand.memory.stands(Standing::Following {
        leader: Some("10.0.0.7".to_owned()),
    });
    assert_eq!(
        stand.refused(&format!("abort shop/a {reason}")).await,
        "another controller acts: 10.0.0.7"
    );
}

#[tokio::test]
async fn a_controller_that_is_away_is_called_so() {
    let error = command("http://127.0.0.1:1", "list").await.unwrap_err();
    assert!(matches!(error, AskError::Away { .. }), "{error}");
    assert!(error.to_string().contains("is it running"), "{error}");
    let error = command("unix:/nowhere/api.sock", "list").await.unwrap_err();
    assert!(matches!(error, AskError::Away { .. }), "{error}");
}

#[tokio::test]
async fn somebody_else_is_not_taken_for_the_controller() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let page = axum::Router::new().fallback(|| async { "<html>" });
    tokio::spawn(async move { axum::serve(listener, page).await });
    let error = command(&server, "list").await.unwrap_err();
    assert!(matches!(error, AskError::Gibberish(_)), "{error}");
}

#[tokio::test]
async fn a_socket_and_a_token_open_the_same_door() {
    let folder = tempfile::tempdir().unwrap();
    let (token, socket) = (folder.path().join("token"), folder.path().join("api.sock"));
    std::fs::write(&token, "correct-horse-battery\n").unwrap();
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let keys = Keys::load(&token, WithoutToken::Health).unwrap();
    let address = AdminAddress::Unix {
        path: socket.clone(),
        mode: 0o600,
    };
    tokio::spawn(Api::new(Arc::<Memory>::default(), keys, None).serve(Door::open(&address).unwrap()));
    let server = format!("unix:{}", socket.display());
    let refused = command(&server, "list").await.unwrap_err();
    assert!(refused.to_string().contains("asks for a token"), "{refused}");
    let other = folder.path().join("other");
    std::fs::write(&other, "incorrect-horse-battery\n").unwrap();
    let refused = command(&server, &format!("list --token-file {}", other.display()))
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("does not take this token"),
        "{refused}"
    );
    let (code, text) = command(&server, &format!("list --token-file {}", token.display()))
        .await
        .unwrap();
    assert!(code == 0 && text.contains("shop/a"), "{text}");
}

#[tokio::test]
async fn completions_and_the_manual_need_no_controller() {
    for (line, wanted) in [
        ("completions bash", "_foreshade"),
        ("completions zsh", "#compdef foreshade"),
        ("man", ".TH foreshade"),
    ] {
        let (code, text) = command("http://127.0.0.1:1", line).await.unwrap();
        assert!(code == 0 && text.contains(wanted), "{line}");
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/controller.yaml");
    let (code, text) = command("http://127.0.0.1:1", &format!("lint -f {file}"))
        .await
        .unwrap();
    assert!(code == 0 && text.contains("well"), "{text}");
    let (code, _) = command("http://127.0.0.1:1", "lint -f /nowhere.yaml")
        .await
        .unwrap();
    assert_eq!(code, 1);
}
