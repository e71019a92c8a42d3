//! Pairs that name no shadow: what they get, for how long, and what makes it another one.
// Concept: endpoint-shadow-choice

use foreshade_engine::placement::{Candidate, Place, PlacementPolicy, Site};

use super::*;
use crate::config::placement::Ground;

const DUBLIN: (f64, f64) = (53.35, -6.26);
const STOCKHOLM: (f64, f64) = (59.33, 18.07);

/// Ticks of a minute.
const MINUTE: u64 = 240;

/// What the tests of the loop do: enough to be alive, and well.
const WELL: (Does, Does) = ((250, 1), (0, 0));

fn place(site: (f64, f64)) -> Place {
    Place {
        site: Some(Site::new(site.0, site.1).unwrap()),
        ..Place::default()
    }
}

fn candidate(text: &str, site: (f64, f64)) -> Candidate {
    Candidate {
        name: name(text),
        place: place(site),
        latency: Some(Duration::from_millis(40)),
        spare_rps: None,
        cost: None,
        fit: true,
        taken_by: None,
    }
}

fn near() -> Candidate {
    candidate("near", DUBLIN)
}

fn far() -> Candidate {
    candidate("far", STOCKHOLM)
}

fn choosing(primary: &str, candidates: Vec<Candidate>) -> PairSpec {
    let [led] = spec().pairs.try_into().unwrap();
    PairSpec {
        id: PairId {
            primary: name(primary),
            ..pair()
        },
        shadow: None,
        ground: Some(Ground {
            policy: Arc::new(PlacementPolicy::default()),
            shared: false,
            primary: place(DUBLIN),
            candidates,
        }),
        ..led
    }
}

fn of(pairs: Vec<PairSpec>) -> Spec {
    Spec {
        pairs,
        groups: Vec::new(),
    }
}

impl Play {
    async fn choosing(candidates: Vec<Candidate>) -> Self {
        let mut play = Self::of(of(vec![choosing("a", candidates)])).await;
        play.until(WELL, 200, |state| matches!(state, State::Warm(_)))
            .await;
        play
    }

    async fn ticks(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.tick(WELL.0, WELL.1).await;
        }
    }

    fn shadow(&self) -> Option<&str> {
        self.view().pair.shadow.as_ref().map(Name::as_str)
    }

    fn reason(&self) -> &str {
        &self.view().placement.unwrap().reason
    }

    /// Another configuration, from the next leader on.
    async fn configured(&mut self, candidates: Vec<Candidate>) {
        self.spec = of(vec![choosing("a", candidates)]);
        self.crash().await;
    }
}

fn faster(by_ms: u64) -> Candidate {
    Candidate {
        latency: Some(Duration::from_millis(40 - by_ms)),
        ..candidate("rival", STOCKHOLM)
    }
}

#[tokio::test]
async fn a_pair_that_names_no_shadow_gets_the_best_and_the_proxies_are_told() {
    let play = Play::choosing(vec![near(), far()]).await;
    let planned = play.reconciler.plan.as_ref().and_then(|plan| plan.pair(&play.id));
    assert_eq!(planned.map(|planned| planned.shadow.as_str()), Some("far"));
    let chosen = play.view().placement.unwrap();
    assert_eq!(chosen.shadow, Some(name("far")));
    let [best, next] = chosen.candidates.as_slice() else {
        panic!("{:?}", chosen.candidates)
    };
    assert!(
        best.starts_with("far scores") && next.starts_with("near scores"),
        "{best} {next}"
    );
}

#[tokio::test]
async fn what_was_chosen_stands_after_a_restart_until_another_is_better_by_the_margin() {
    let mut play = Play::choosing(vec![far()]).await;
    // The scores of latency are 0.5 and 0.67, a third of the whole.
    play.configured(vec![far(), faster(10)]).await;
    play.ticks(2 * MINUTE).await;
    assert_eq!(play.shadow(), Some("far"));
    assert!(
        play.reason().contains("which is not better by the margin"),
        "{}",
        play.reason()
    );
    assert!(matches!(play.state(), State::Warm(_)));
    play.configured(vec![far(), faster(20)]).await;
    play.ticks(2 * MINUTE).await;
    assert_eq!(play.shadow(), Some("rival"), "{}", play.reason());
    assert!(matches!(play.state(), State::Warm(_)));
}

#[tokio::test]
async fn nobody_is_taken_along_to_another_shadow() {
    let mut play = Play::choosing(vec![far()]).await;
    // The proxies have moved some by themselves.
    play.moved = Share::clamped(0.1);
    play.ticks(8).await;
    play.configured(vec![far(), faster(20)]).await;
    play.ticks(2 * MINUTE).await;
    assert_eq!(play.shadow(), Some("far"));
    // A shift is under way.
    play.moved = Share::ZERO;
    play.reconciler.order(&play.id, order("k1")).unwrap();
    play.until(WELL, 200, |state| matches!(state, State::Shifting(_)))
        .await;
    play.ticks(MINUTE).await;
    assert!(matches!(play.state(), State::Shifting(_)));
    assert_eq!(play.shadow(), Some("far"));
}

#[tokio::test]
async fn a_shadow_that_does_not_come_up_is_given_up_and_left_alone() {
    let mut play = Play::of(of(vec![choosing("a", vec![near(), far()])])).await;
    play.shadow_is = Seen::Down;
    play.ticks(MINUTE / 2).await;
    assert_eq!((play.shadow(), play.state()), (Some("far"), State::Provisioning));
    while play.shadow() == Some("far") {
        assert!(play.tick < 2 * MINUTE);
        play.tick(WELL.0, WELL.1).await;
    }
    assert_eq!(play.shadow(), Some("near"));
    // What the proxy has said so far was about the other one.
    play.quiet().await;
    assert_eq!(play.view().sight.arm(Arm::Shadow), &Default::default());
    play.shadow_is = Seen::Up;
    play.until(WELL, 200, |state| matches!(state, State::Warm(_)))
        .await;
    // Also by the next leader.
    play.crash().await;
    play.ticks(10 * MINUTE).await;
    assert_eq!(play.shadow(), Some("near"), "{}", play.reason());
    assert!(matches!(play.state(), State::Warm(_)));
}

#[tokio::test]
async fn a_shadow_that_proxies_do_not_know_is_said_to_be_that_and_is_given_up() {
    let mut play = Play::of(of(vec![choosing("a", vec![near(), far()])])).await;
    play.unknown = vec![name("far")];
    play.ticks(8).await;
    let unable = play.view().unapplied.unwrap();
    assert_eq!(
        (unable.proxies, unable.why.as_str()),
        (1, "the cluster has no endpoint of the shadow's name")
    );
    play.until(WELL, 2 * MINUTE, |state| matches!(state, State::Warm(_)))
        .await;
    assert_eq!((play.shadow(), play.view().unapplied), (Some("near"), None));
}

#[tokio::test]
async fn a_standby_that_one_pair_has_is_no_other_ones() {
    let both =
        |candidates: Vec<Candidate>| of(vec![choosing("a", candidates.clone()), choosing("b", candidates)]);
    let b = PairId {
        primary: name("b"),
        ..pair()
    };
    let mut play = Play::of(both(vec![near(), far()])).await;
    play.ticks(8).await;
    let of_b = play.reconciler.view(&b).unwrap();
    assert_eq!(
        (play.shadow(), &of_b.pair.shadow),
        (Some("far"), &Some(name("near")))
    );
    let mut play = Play::of(both(vec![far()])).await;
    play.ticks(8).await;
    let of_b = play.reconciler.view(&b).unwrap();
    assert_eq!((play.shadow(), &of_b.pair.shadow), (Some("far"), &None));
    assert_eq!(
        of_b.placement.unwrap().candidates,
        ["far is ruled out: it is the shadow of a already"]
    );
    assert_eq!(of_b.waiting, [Obstacle::NoPlacement]);
}

#[tokio::test]
async fn what_was_chosen_for_a_pair_that_names_another_shadow_now_is_free() {
    let mut play = Play::choosing(vec![far()]).await;
    assert_eq!(play.shadow(), Some("far"));
    let [led] = spec().pairs.try_into().unwrap();
    let named = PairSpec {
        shadow: Some(name("near")),
        ..led
    };
    play.spec = of(vec![named, choosing("b", vec![far()])]);
    play.crash().await;
    play.ticks(MINUTE).await;
    let b = PairId {
        primary: name("b"),
        ..pair()
    };
    let of_b = play.reconciler.view(&b).unwrap();
    assert_eq!(
        (play.shadow(), &of_b.pair.shadow),
        (Some("near"), &Some(name("far"))),
        "{:?}",
        of_b.placement
    );
}
