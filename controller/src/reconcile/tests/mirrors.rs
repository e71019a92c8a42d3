//! What mirrors say of a shadow: kept, judged, and in the way of a shift.

use foreshade_engine::lifecycle::policy::{MirrorUse, Policy};
use foreshade_engine::lifecycle::state::Warm;
use foreshade_engine::verdict::Verdict;

use super::*;

/// Requests of a tick: all of the primary's.
const SERVED: (Does, Does) = ((250, 1), (0, 0));

/// A warm shadow whose mirrors have the word.
async fn mirroring(mirror: MirrorUse) -> Play {
    let mut spec = spec();
    spec.pairs[0].policy = Arc::new(Policy {
        mirror,
        ..Policy::default()
    });
    let mut play = Play::of(spec).await;
    play.until(SERVED, 200, |state| state == State::Warm(Warm::Mirroring))
        .await;
    for _ in 0..8 {
        play.tick(SERVED.0, SERVED.1).await;
    }
    play
}

/// A tick's copies, of which so many failed.
fn copies(copy_bad: u64) -> Mirrored {
    let compared = foreshade_contract::report::Compared {
        answers: 25 - copy_bad,
        ..Default::default()
    };
    Mirrored {
        both_good: 25 - copy_bad,
        copy_bad,
        copies: compared,
        ..Mirrored::default()
    }
}

fn says(play: &Play) -> Option<Verdict> {
    let explained = play.reconciler.explain_mirror(&play.id);
    explained.map(|explained| explained.verdict)
}

#[tokio::test]
async fn a_shift_waits_for_mirrors_where_they_are_required_and_begins_when_they_have_decided() {
    let mut play = mirroring(MirrorUse::Required).await;
    assert_eq!(says(&play), None);
    play.reconciler.order(&play.id, order("k1")).unwrap();
    for _ in 0..12 {
        play.tick(SERVED.0, SERVED.1).await;
    }
    assert_eq!(play.state(), State::Warm(Warm::Validating));
    play.copies = copies(0);
    let ticks = play
        .until(SERVED, 200, |state| matches!(state, State::Shifting(_)))
        .await;
    // 433 copies without a failure exclude one percent.
    assert_eq!(ticks, 433_u64.div_ceil(25));
    // What was found before is not carried into the next analysis.
    play.copies = Mirrored::default();
    play.tick(SERVED.0, SERVED.1).await;
    assert_eq!(says(&play), None);
}

#[tokio::test]
async fn a_shadow_that_fails_copies_gets_no_users_until_somebody_says_that_it_was_mended() {
    let mut play = mirroring(MirrorUse::Watch).await;
    play.copies = copies(5);
    // Three ticks of a second and a half.
    for _ in 0..13 {
        play.tick(SERVED.0, SERVED.1).await;
    }
    assert_eq!(says(&play), Some(Verdict::Worse));
    let explained = play.reconciler.explain_mirror(&play.id).unwrap();
    assert!(
        explained.sentence.contains("copies failed"),
        "{}",
        explained.sentence
    );
    play.reconciler.order(&play.id, order("k1")).unwrap();
    for _ in 0..12 {
        play.tick(SERVED.0, SERVED.1).await;
    }
    assert_eq!(play.state(), State::Warm(Warm::Mirroring));
    assert!(play.view().waiting.contains(&Obstacle::MirrorWorse));
    play.copies = copies(0);
    let retry = Order {
        command: Command::Retry,
        ..order("k2")
    };
    play.reconciler.order(&play.id, retry).unwrap();
    play.until(SERVED, 20, |state| matches!(state, State::Shifting(_)))
        .await;
}

#[tokio::test]
async fn a_controller_that_dies_does_not_begin_the_mirrors_alpha_anew() {
    let mut play = mirroring(MirrorUse::Required).await;
    play.copies = copies(1);
    for _ in 0..20 {
        play.tick(SERVED.0, SERVED.1).await;
    }
    let counted = |play: &Play| {
        let explained = play.reconciler.explain_mirror(&play.id).unwrap();
        explained.checks[0].copies
    };
    let before = counted(&play);
    assert_eq!(before, [20 * 25, 20]);
    play.crash().await;
    let after = counted(&play);
    // At most what a second may cost, and nothing twice.
    assert!(
        after[0] <= before[0] && after[0] + 5 * 25 >= before[0],
        "{after:?} of {before:?}"
    );
    play.tick(SERVED.0, SERVED.1).await;
    assert!(
        counted(&play)[0] <= before[0],
        "{:?} of {before:?}",
        counted(&play)
    );
}
