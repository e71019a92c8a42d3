//! What a choice promises: nobody who is ruled out, no dithering, and a reason for each.
// Concept: endpoint-shadow-choice

use proptest::prelude::*;

use super::*;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn place(site: (f64, f64), zone: &str, region: &str) -> Place {
    Place {
        site: Some(Site::new(site.0, site.1).unwrap()),
        zone: Some(name(zone)),
        region: Some(name(region)),
    }
}

fn candidate(text: &str, place: Place) -> Candidate {
    Candidate {
        name: name(text),
        place,
        latency: Some(Duration::from_millis(20)),
        spare_rps: Some(2000.0),
        cost: Some(1.0),
        fit: true,
        taken_by: None,
    }
}

const DUBLIN: (f64, f64) = (53.35, -6.26);
const STOCKHOLM: (f64, f64) = (59.33, 18.07);
const LONDON: (f64, f64) = (51.51, -0.13);

struct Case {
    primary: Place,
    policy: PlacementPolicy,
    current: Option<Name>,
}

impl Case {
    fn new() -> Self {
        Self {
            primary: place(DUBLIN, "eu-west-1a", "eu-west"),
            policy: PlacementPolicy::default(),
            current: None,
        }
    }

    fn choose(&self, candidates: &[Candidate]) -> Choice {
        let need = Need {
            primary: &self.primary,
            name: &name("a"),
            demand_rps: 500.0,
            current: self.current.as_ref(),
        };
        choose(&need, candidates, &self.policy)
    }

    /// Why the only candidate is ruled out.
    fn excluded(&self, candidate: Candidate) -> Option<Exclusion> {
        self.choose(&[candidate]).judged[0].excluded.clone()
    }
}

fn near() -> Candidate {
    candidate("near", place(DUBLIN, "eu-west-1a", "eu-west"))
}

fn far() -> Candidate {
    candidate("far", place(STOCKHOLM, "eu-north-1a", "eu-north"))
}

#[test]
fn the_far_and_diverse_one_is_chosen_and_the_reason_has_its_numbers() {
    let choice = Case::new().choose(&[near(), far()]);
    assert_eq!(choice.shadow, Some(name("far")));
    assert!(choice.changed);
    assert_eq!(choice.reason, "far scores 1.000, the most");
    assert_eq!(
        choice.judged[1].sentence,
        "near scores 0.444: distance 0.00 km (0.00), diversity 0.00 (0.00), latency 20.00 ms (1.00), \
         capacity 3.20 times what is needed (1.00)"
    );
}

#[test]
fn each_rule_of_the_policy_rules_out_and_says_why() {
    let case = |change: fn(&mut PlacementPolicy)| {
        let mut case = Case::new();
        change(&mut case.policy);
        case
    };
    let plain = Case::new();
    assert_eq!(plain.excluded(far()), None);
    assert_eq!(
        plain.excluded(candidate("a", far().place)),
        Some(Exclusion::Itself)
    );
    assert_eq!(
        plain.excluded(Candidate { fit: false, ..far() }),
        Some(Exclusion::Unfit)
    );
    let taken_by = Some(name("b"));
    assert_eq!(
        plain
            .excluded(Candidate { taken_by, ..far() })
            .map(|why| why.to_string()),
        Some("it is the shadow of b already".to_owned())
    );
    let spare_rps = Some(600.0);
    assert!(matches!(
        plain.excluded(Candidate { spare_rps, ..far() }),
        Some(Exclusion::TooSmall { times_needed }) if (times_needed - 0.96).abs() < 1e-9
    ));
    let by_name = case(|policy| policy.excluded = vec![name("far")]);
    assert_eq!(by_name.excluded(far()), Some(Exclusion::ByName));
    let distant = case(|policy| policy.distance_min_km = 1000.0);
    assert_eq!(distant.excluded(far()), None);
    let london = candidate("london", place(LONDON, "eu-west-2a", "eu-west"));
    assert!(
        matches!(distant.excluded(london.clone()), Some(Exclusion::TooNear { km, .. }) if (km - 464.0).abs() < 5.0)
    );
    let nowhere = Candidate {
        place: Place::default(),
        ..far()
    };
    assert_eq!(
        distant.excluded(nowhere.clone()),
        Some(Exclusion::DistanceUnknown { min_km: 1000.0 })
    );
    let zone = case(|policy| policy.zone = Diversity::Required);
    assert_eq!(zone.excluded(near()), Some(Exclusion::SameZone));
    assert_eq!(zone.excluded(nowhere.clone()), Some(Exclusion::ZoneUnknown));
    let region = case(|policy| policy.region = Diversity::Required);
    assert_eq!(region.excluded(london), Some(Exclusion::SameRegion));
    assert_eq!(region.excluded(nowhere), Some(Exclusion::RegionUnknown));
    let fast = case(|policy| policy.latency_max = Some(Duration::from_millis(10)));
    assert!(matches!(fast.excluded(far()), Some(Exclusion::TooSlow { .. })));
    let cheap = case(|policy| policy.cost_max = Some(0.5));
    assert_eq!(
        cheap.excluded(far()).map(|why| why.to_string()),
        Some("it costs 1.00 per hour, at most 0.50 are allowed".to_owned())
    );
}

#[test]
fn where_nobody_fits_nobody_is_chosen() {
    let mut case = Case::new();
    case.current = Some(name("far"));
    let choice = case.choose(&[Candidate { fit: false, ..far() }]);
    assert_eq!((choice.shadow, choice.changed), (None, true));
    assert_eq!(case.choose(&[]).reason, "every candidate is ruled out");
}

#[test]
fn the_one_that_stands_is_replaced_by_the_margin_and_by_nothing_less() {
    let mut case = Case::new();
    case.current = Some(name("far"));
    let slower = |ms| Candidate {
        latency: Some(Duration::from_millis(ms)),
        ..far()
    };
    let rival = candidate("rival", far().place);
    let choice = case.choose(&[slower(24), rival.clone()]);
    assert!(!choice.changed, "{}", choice.reason);
    let choice = case.choose(&[slower(60), rival.clone()]);
    assert_eq!(choice.shadow, Some(name("rival")), "{}", choice.reason);
    let gone = case.choose(&[rival]);
    assert_eq!(
        gone.reason,
        "far is no candidate any more; rival scores 1.000, the most"
    );
}

#[test]
fn latency_that_nobody_measured_is_estimated_from_where_the_users_are() {
    let mut case = Case::new();
    let site = |at: (f64, f64)| Site::new(at.0, at.1).unwrap();
    case.policy.users = vec![(site(STOCKHOLM), 3.0), (site(LONDON), 1.0)];
    let unmeasured = Candidate {
        latency: None,
        ..far()
    };
    let judged = case.choose(&[unmeasured]).judged;
    let latency = judged[0]
        .terms
        .iter()
        .find(|term| term.respect == Respect::Latency)
        .unwrap();
    // A quarter of the users is 1431 km away.
    assert!((latency.found.unwrap() - 1431.0 * 1.5 / 100.0 / 4.0).abs() < 0.1);
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let one = (
        (-90.0..=90.0f64, -180.0..=180.0f64),
        prop::option::of(1u64..400),
        prop::option::of(0.0..5000.0f64),
        prop::option::of(0.0..4.0f64),
        any::<bool>(),
        0usize..3,
    );
    prop::collection::vec(one, 1..12).prop_map(|all| {
        let zones = ["eu-west-1a", "eu-west-1b", "us-east-1a"];
        let each = all.into_iter().enumerate();
        each.map(|(index, (site, latency, spare_rps, cost, fit, zone))| Candidate {
            name: name(&format!("c{index}")),
            place: place(site, zones[zone], &zones[zone][..7]),
            latency: latency.map(Duration::from_millis),
            spare_rps,
            cost,
            fit,
            taken_by: None,
        })
        .collect()
    })
}

proptest! {
    #[test]
    fn nobody_who_is_ruled_out_is_chosen_and_every_score_is_a_fraction(all in candidates(), stands in 0usize..12) {
        let mut case = Case::new();
        case.policy.cost_max = Some(3.0);
        case.policy.distance_min_km = 300.0;
        case.current = Some(name(&format!("c{stands}")));
        let choice = case.choose(&all);
        prop_assert_eq!(choice.judged.len(), all.len());
        for judged in &choice.judged {
            prop_assert!((0.0..=1.0).contains(&judged.score));
            prop_assert!(judged.sentence.starts_with(judged.name.as_str()));
            prop_assert!(judged.excluded.is_none() || choice.shadow.as_ref() != Some(&judged.name));
        }
        prop_assert_eq!(choice.shadow.is_none(), choice.judged.iter().all(|judged| judged.excluded.is_some()));
    }

    #[test]
    fn the_order_in_which_candidates_are_told_decides_nothing(all in candidates(), turn in 0usize..12) {
        let case = Case::new();
        let mut other = all.clone();
        other.rotate_left(turn % all.len());
        prop_assert_eq!(case.choose(&all), case.choose(&other));
    }

    // Whoever has been chosen stays chosen while scores move by less than half the margin, however long that goes on.
    #[test]
    fn noise_below_the_margin_never_changes_the_shadow(
        all in candidates(),
        noise in prop::collection::vec(-1.0..1.0f64, 200),
    ) {
        let mut case = Case::new();
        let all: Vec<Candidate> = all.into_iter().map(|c| Candidate { fit: true, spare_rps: None, ..c }).collect();
        case.current = case.choose(&all).shadow;
        let mut noise = noise.into_iter().cycle();
        for _ in 0..50 {
            // Latency weighs a quarter of the score at most 0.31 with the weights that count here: 10 % of it is less
            // than half the margin.
            let jittered: Vec<Candidate> = all
                .iter()
                .map(|c| Candidate {
                    latency: c.latency.map(|own| own.mul_f64(1.0 + 0.1 * noise.next().unwrap())),
                    ..c.clone()
                })
                .collect();
            let choice = case.choose(&jittered);
            prop_assert!(!choice.changed, "{}", choice.reason);
        }
    }

    #[test]
    fn doing_better_in_one_respect_never_lowers_a_score(all in candidates(), faster in 0.1..1.0f64) {
        let case = Case::new();
        let first = &all[0];
        let better = Candidate {
            latency: first.latency.map(|own| own.mul_f64(faster)),
            spare_rps: first.spare_rps.map(|own| own / faster),
            ..first.clone()
        };
        let score = |candidate: &Candidate| case.choose(std::slice::from_ref(candidate)).judged[0].score;
        prop_assert!(score(&better) >= score(first) - 1e-12);
    }
}
