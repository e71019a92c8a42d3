//! What copies that ended leave behind in a lane.

use super::super::fingerprint::tests::answer;
use super::*;

fn key(target: &str) -> LaneKey {
    LaneKey {
        cluster: "shop".parse().unwrap(),
        primary: None,
        target: target.parse().unwrap(),
    }
}

fn json(status: u16, body: &str, latency_ms: u64) -> AnswerIn {
    AnswerIn {
        answer: answer(status, &[("content-type", "application/json")], &[body]),
        latency: Duration::from_millis(latency_ms),
    }
}

fn finished(primary: AnswerIn, target: Result<AnswerIn, &'static str>) -> Finished {
    Finished {
        lane: key("next"),
        path: "/items/4711".to_owned(),
        control: false,
        anonymous: false,
        learning: true,
        sample: Sample {
            round: Some(Round(1)),
            coin: Some(50_000),
        },
        primary: Primary::Answered(primary),
        target,
    }
}

fn only(book: &Book) -> LaneView {
    let mut views = book.views();
    assert_eq!(views.len(), 1);
    views.remove(0)
}

#[test]
fn pairs_count_who_failed_and_latencies_who_was_slower() {
    let mut book = Book::default();
    for (primary, target) in [
        (json(200, "1", 10), Ok(json(200, "1", 12))),
        (json(200, "1", 10), Ok(json(200, "1", 13))),
        (json(404, "1", 20), Ok(json(404, "1", 10))),
        (json(200, "1", 10), Ok(json(500, "1", 10))),
        (json(200, "1", 10), Err("timeout")),
        (json(503, "1", 10), Ok(json(200, "1", 10))),
        (json(500, "1", 10), Err("refused")),
    ] {
        book.enter(finished(primary, target));
    }
    let view = only(&book);
    let pairs = Pairs {
        both_good: 3,
        target_bad: 2,
        primary_bad: 1,
        both_bad: 1,
    };
    assert_eq!(view.pairs, pairs);
    assert_eq!((view.slower.primary, view.slower.target), (1, 1));
    assert_eq!((view.copies, view.compared), (7, 5));
    assert_eq!((view.results["timeout"], view.results["refused"]), (1, 1));
}

#[test]
fn noise_is_learned_from_primaries_and_a_regression_is_told_from_it() {
    let mut book = Book::default();
    let body = |n: u32, price: u32| format!("{{\"at\":{n},\"price\":{price}}}");
    for n in 0..400 {
        let mut copy = finished(json(200, &body(n, 5), 1), Ok(json(200, &body(n + 1, 6), 1)));
        if n % 10 == 0 {
            copy.control = true;
            copy.target = Ok(json(200, &body(n + 1, 5), 1));
        }
        book.enter(copy);
    }
    let view = only(&book);
    let verdict = |name: &str| view.fields.iter().find(|f| f.field == name).unwrap().verdict;
    assert_eq!(verdict("body.price"), Verdict::Differs);
    assert_eq!(verdict("body.at"), Verdict::Noise);
    assert_eq!((view.controls, view.compared), (40, 360));
    assert!(view.results["differs"] > 300 && view.results["unclear"] > 0);
    assert_eq!(view.fields[0].field, "body.price");
    assert_eq!(view.fields[0].example, "/items/{}");
    // The same with a target that is as it should be.
    book.enter(finished(json(200, &body(1, 5), 1), Ok(json(200, &body(2, 5), 1))));
    assert_eq!(only(&book).results["noise"], 1);
}

#[test]
fn a_copy_without_credentials_says_nothing_of_its_answer() {
    let mut book = Book::default();
    let mut copy = finished(json(200, "1", 1), Ok(json(401, "2", 1)));
    copy.anonymous = true;
    book.enter(copy);
    let mut control = finished(json(200, "1", 1), Ok(json(401, "2", 1)));
    (control.anonymous, control.control) = (true, true);
    book.enter(control);
    let view = only(&book);
    assert_eq!((view.results["anonymous"], view.results["control"]), (1, 1));
    assert_eq!(
        (view.pairs, view.compared, view.controls),
        (Pairs::default(), 0, 0)
    );
    assert!(view.fields.is_empty());
}

#[test]
fn without_learning_every_difference_counts() {
    let mut book = Book::default();
    let mut copy = finished(json(200, "1", 1), Ok(json(200, "2", 1)));
    copy.learning = false;
    book.enter(copy);
    assert_eq!(only(&book).results["differs"], 1);
}

#[test]
fn lanes_and_fields_are_bounded_and_the_quietest_lane_makes_room() {
    let mut book = Book::default();
    book.lost(&key("first"), "both_slow");
    for n in 0..LANES_MAX {
        book.lost(&key(&format!("t{n}")), "both_slow");
        book.lost(&key("t0"), "both_slow");
    }
    assert_eq!(book.lanes.len(), LANES_MAX);
    assert!(!book.lanes.contains_key(&key("first")) && book.lanes.contains_key(&key("t0")));

    let mut lane = Lane::new();
    let names: BTreeSet<_> = (0..2 * FIELDS_MAX).map(|n| n.to_string()).collect();
    lane.remember(&names, "/", |field| field.target += 1);
    assert_eq!(lane.fields.len(), FIELDS_MAX + 1);
    assert_eq!(lane.fields["(others)"].target, FIELDS_MAX as u64);
}

#[test]
fn news_of_a_shadow_is_told_once_and_noise_is_known_before_it_counts() {
    let mut book = Book::default();
    let mut of_shadow = |control: bool, coin: Option<u32>, at: [&str; 2]| {
        let [primary, target] = at.map(|at| json(200, &format!("{{\"at\":{at}}}"), 10));
        let mut copy = finished(primary, Ok(target));
        (copy.control, copy.sample.coin) = (control, coin);
        copy.lane.primary = Some("a".parse().unwrap());
        book.enter(copy);
        let untold = book.untold();
        book.told();
        untold.into_iter().map(|(_, _, news)| news).next()
    };
    // A field that has never been compared among primaries may be the shadow's.
    let news = of_shadow(false, Some(50_000), ["1", "2"]).unwrap();
    let one = |differed| Compared {
        answers: 1,
        differed,
        slower: 0,
    };
    assert_eq!((news.copies, news.pairs()), (one(1), 1));
    // It counts in the comparison that shows it to be noise, and in none after that.
    let news = of_shadow(true, Some(50_000), ["2", "3"]).unwrap();
    assert_eq!((news.controls, news.copies), (one(1), Compared::default()));
    assert_eq!(of_shadow(false, Some(50_000), ["3", "4"]).unwrap().copies, one(0));
    assert_eq!(
        of_shadow(true, Some(50_000), ["4", "5"]).unwrap().controls,
        one(0)
    );
    // Where it was not left to chance whether it is a control, who failed counts and nothing else.
    let news = of_shadow(false, None, ["5", "5"]).unwrap();
    assert_eq!((news.pairs(), news.copies), (1, Compared::default()));
    assert!(book.untold().is_empty());
}

#[test]
fn a_copy_that_ends_after_its_round_is_shown_and_not_told() {
    let mut book = Book::default();
    let mut of_round = |round: Option<u64>| {
        let mut copy = finished(json(200, "1", 10), Err("timeout"));
        copy.sample.round = round.map(Round);
        copy.lane.primary = Some("a".parse().unwrap());
        book.enter(copy);
        book.untold()
    };
    let told = |news: &News| {
        let told = news.iter().map(|(_, round, news)| (round.0, news.copy_bad));
        told.collect::<Vec<_>>()
    };
    assert_eq!(told(&of_round(None)), []);
    assert_eq!(told(&of_round(Some(1))), [(1, 1)]);
    assert_eq!(told(&of_round(Some(2))), [(2, 1)]);
    assert_eq!(told(&of_round(Some(1))), [(2, 1)]);
    assert_eq!(told(&of_round(Some(2))), [(2, 2)]);
    assert_eq!(only(&book).pairs.target_bad, 5);
    book.told();
    assert!(book.untold().is_empty());
}
