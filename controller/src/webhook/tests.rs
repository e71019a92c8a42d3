//! Against a real server on loopback that answers what it is told to, and remembers what it was sent.

use std::sync::Mutex;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post as on_post;
use foreshade_settings::Scalar as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;

/// What a hook was sent, and what it answers next; the last answer stays.
#[derive(Clone, Default)]
struct Hook(Arc<Mutex<(Vec<Value>, Vec<u16>)>>);

impl Hook {
    async fn stand(answers: &[u16]) -> (Self, Url) {
        let hook = Self::default();
        hook.0.lock().unwrap().1 = answers.iter().rev().copied().collect();
        let router = Router::new()
            .route("/hook", on_post(take))
            .with_state(hook.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (hook, Url::parse(&url).unwrap())
    }

    fn sent(&self) -> Vec<Value> {
        self.0.lock().unwrap().0.clone()
    }
}

async fn take(State(hook): State<Hook>, axum::Json(body): axum::Json<Value>) -> (StatusCode, &'static str) {
    let mut state = hook.0.lock().unwrap();
    state.0.push(body);
    let answer = if state.1.len() > 1 {
        state.1.pop().unwrap()
    } else {
        state.1[0]
    };
    (StatusCode::from_u16(answer).unwrap(), "said the hook")
}

fn payload() -> Payload {
    let pair = PairId {
        cluster: "shop".parse().unwrap(),
        primary: "a".parse().unwrap(),
    };
    Payload::new(&pair, Phase::Progressing, Generation(7), Round(2)).with("gate", "release")
}

fn notification(webhook: Url, on: &[Occasion], attempts: u32) -> Notification {
    Notification {
        name: "pager".parse().unwrap(),
        webhook,
        on: on.to_vec(),
        timeout: Duration::from_secs(5),
        attempts,
        pause: Duration::from_millis(1),
    }
}

async fn until(notifier: &Notifier, wanted: Counted) {
    let reached = async {
        while notifier.counted().next().unwrap().1 != wanted {
            sleep(Duration::from_millis(2)).await;
        }
    };
    let reached = timeout(Duration::from_secs(20), reached).await;
    assert!(
        reached.is_ok(),
        "{:?} instead of {wanted:?}",
        notifier.counted().next()
    );
}

#[tokio::test]
async fn a_gate_is_asked_in_flaggers_form_and_opens_at_200_to_202_only() {
    for (status, opens) in [
        (200, true),
        (201, true),
        (202, true),
        (204, false),
        (403, false),
        (500, false),
    ] {
        let (hook, url) = Hook::stand(&[status]).await;
        let answer = ask(&url, &payload(), Duration::from_secs(5)).await;
        assert_eq!(answer == Answer::Open, opens, "{status}: {answer:?}");
        if status == 403 {
            assert_eq!(answer, Answer::Closed("403 said the hook".to_owned()));
        }
        let sent = hook.sent();
        let checksum = payload().checksum;
        let expected = json!({
            "name": "a", "namespace": "shop", "phase": "Progressing", "checksum": checksum,
            "metadata": { "gate": "release" },
        });
        assert_eq!(sent, [expected]);
    }
}

#[tokio::test]
async fn a_gate_that_cannot_be_asked_is_closed_and_says_why() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/", nobody.local_addr().unwrap())).unwrap();
    let Answer::Closed(why) = ask(&url, &payload(), Duration::from_millis(50)).await else {
        panic!("open")
    };
    assert!(why.contains("did not answer within 50ms"), "{why}");
    drop(nobody);
    let Answer::Closed(why) = ask(&url, &payload(), Duration::from_secs(5)).await else {
        panic!("open")
    };
    assert!(why.contains("cannot connect"), "{why}");
}

#[tokio::test]
async fn what_fails_for_a_while_arrives_and_what_is_refused_is_given_up() {
    let (hook, url) = Hook::stand(&[503, 429, 200]).await;
    let mut tasks = JoinSet::new();
    let notifier = Notifier::start(&[notification(url, &[], 6)], &mut tasks);
    notifier.tell(&[Occasion::Promotion], &payload());
    until(
        &notifier,
        Counted {
            sent: 1,
            retried: 2,
            ..Counted::default()
        },
    )
    .await;
    assert_eq!(hook.sent().len(), 3);

    let (hook, url) = Hook::stand(&[404]).await;
    let notifier = Notifier::start(&[notification(url, &[], 6)], &mut tasks);
    notifier.tell(&[Occasion::Promotion], &payload());
    until(
        &notifier,
        Counted {
            failed: 1,
            ..Counted::default()
        },
    )
    .await;
    assert_eq!(hook.sent().len(), 1);

    let (_, url) = Hook::stand(&[500]).await;
    let notifier = Notifier::start(&[notification(url, &[], 3)], &mut tasks);
    notifier.tell(&[Occasion::Promotion], &payload());
    until(
        &notifier,
        Counted {
            failed: 1,
            retried: 2,
            ..Counted::default()
        },
    )
    .await;
}

#[tokio::test]
async fn only_those_who_want_to_know_are_told() {
    let (hook, url) = Hook::stand(&[200]).await;
    let mut tasks = JoinSet::new();
    let notifier = Notifier::start(&[notification(url, &[Occasion::Rollback], 1)], &mut tasks);
    notifier.tell(&[Occasion::Promotion], &payload());
    notifier.tell(&[Occasion::Rollback], &payload());
    until(
        &notifier,
        Counted {
            sent: 1,
            ..Counted::default()
        },
    )
    .await;
    assert_eq!(hook.sent().len(), 1);
}

#[tokio::test]
async fn a_hook_that_hangs_drops_its_own_messages_and_nobody_waits() {
    // It accepts into its backlog and never answers.
    let hangs = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/", hangs.local_addr().unwrap())).unwrap();
    let mut tasks = JoinSet::new();
    let notifier = Notifier::start(&[notification(url, &[], 1)], &mut tasks);
    for _ in 0..QUEUE_MAX + 10 {
        notifier.tell(&[Occasion::Promotion], &payload());
    }
    // The task has had no turn yet, so the queue holds all that it can.
    assert_eq!(notifier.counted().next().unwrap().1.dropped, 10);
}

#[test]
fn pauses_double_up_to_a_limit_and_chance_shortens_them_by_half_at_most() {
    let first = Duration::from_millis(100);
    assert_eq!(pause(first, 1, 1.0), first);
    assert_eq!(pause(first, 1, 0.0), first / 2);
    assert_eq!(pause(first, 4, 1.0), first * 8);
    assert_eq!(pause(first, u32::MAX, 1.0), PAUSE_MAX);
}

#[test]
fn a_checksum_names_one_intention() {
    let other = Payload::new(
        &PairId {
            cluster: "shop".parse().unwrap(),
            primary: "a".parse().unwrap(),
        },
        Phase::Progressing,
        Generation(8),
        Round(2),
    );
    assert_ne!(payload().checksum, other.checksum);
    assert_eq!(payload().checksum.len(), 16);
}
