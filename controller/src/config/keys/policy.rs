//! The keys of a policy: how a pair lives and is judged.
//!
//! The defaults are those of the engine, but for `automatic`; a test holds them to it. Those of the verdict come with
//! tables of how many requests they need: whoever changes one keeps the guarantee, which holds for any, but not the
//! promised numbers.

use foreshade_contract::Name;
use foreshade_engine::verdict as engine;
use foreshade_settings::{
    At, Count, Json, Lasting, Level, List, Mistake, Mistakes, Node, Part, Read, Scalar, Shown, Wrong, choice,
    seconds, section,
};
use serde_json::json;

use super::{Line, Patience};
use crate::config::url::Url;
use crate::config::window::{Clock, Date, Day};

section! {
    /// How pairs live and are judged.
    Policy "a policy":
    /// Name, unique among policies.
    name "name": required At<Name>;
    /// Whether risk alone may begin a shift that the controller leads to a promotion; where false, an operator has to, and the
    /// proxies alone answer risk. Everybody that risk alone has moved comes back as soon as the primary has proven itself.
    /// It is no default, because a step that waits for evidence is a share that does not follow the risk from second to
    /// second as the proxies' own does, and how the two compare has not been measured.
    automatic "automatic": default bool = false;
    /// Whether shadows are kept warm while nothing is wrong.
    always_warm "alwaysWarm": default bool = true;
    /// Whether proxies may fail over by themselves.
    failover "failover": default bool = true;
    /// The most that the proxies' own risk may shift.
    ceiling "ceiling": default Part = Part(1.0);
    /// What mirrored answers are good for: off mirrors nothing, watch keeps users from a shadow that answers worse,
    /// required from one that has not been shown to answer as well.
    mirror "mirror": default MirrorUse = MirrorUse::Off;
    /// Shares of a shift, one after another, each larger than the one before and the last one 100%; 1%, 5%, 10%, 25%,
    /// 50%, 100% where left out.
    steps "steps": optional At<List<At<Part>, 1>>;
    /// How a shadow is judged.
    verdict "verdict": nested Verdict;
    /// What a verdict against the shadow does: auto rolls back, freeze keeps everything as it is, manual holds; both
    /// of these call people.
    rollback "rollback": default Rollback = Rollback::Auto;
    /// What ends a hold that nothing else has ended.
    on_inconclusive "onInconclusive": default Inconclusive = Inconclusive::Rollback;
    /// What becomes of the old primary after a promotion: it becomes the shadow, or goes.
    old_primary "oldPrimary": default OldPrimary = OldPrimary::Shadow;
    /// The marks of risk.
    risk "risk": nested RiskMarks;
    /// Every deadline, and the times in between.
    times "times": nested Times;
    /// What keeps a pair from going back and forth.
    flaps "flaps": nested Flaps;
    /// What a shadow has to have of the state of its primary.
    sync "sync": nested Sync;
    /// What every change of shares has to respect.
    safety "safety": nested Safety;
    /// Looks in a row at a shadow's health until it is believed, for better or worse.
    health_looks "healthLooks": default Count<1, 100> = Count(3);
    /// Requests that a promoted shadow has to serve before the promotion is final.
    bake_requests "bakeRequests": default Count<0, 1_000_000_000> = Count(1000);
    /// Who is asked before something happens.
    gates "gates": list List<Gate, 0>;
    /// When nothing may begin by itself. What is under way goes on, and what is broken is rolled back at any time.
    blocked "blocked": list List<Window, 0>;
    /// Drills that begin by themselves. Without any, they begin by order alone.
    drills "drills": list List<Drill, 0>;
}

section! {
    /// The marks of risk.
    RiskMarks "a risk section":
    /// From here on a shadow is brought up.
    prepare_at "prepareAt": default At<Level> = Level(0.25);
    /// From here on users are led to it; above prepareAt.
    shift_at "shiftAt": default At<Level> = Level(0.35);
    /// This far below shiftAt, for as long as a change of direction takes, they are led back.
    hysteresis "hysteresis": default At<Level> = Level(0.2);
    /// From here on steps are taken without waiting for evidence, because unproven is better than certainly bad; at
    /// least shiftAt.
    severe_at "severeAt": default At<Level> = Level(0.85);
}

section! {
    /// Every deadline, and the times in between.
    Times "a times section":
    /// Until a shadow is there and healthy.
    provisioning "provisioning": default Patience = seconds(300);
    /// Until it has the state of its primary.
    syncing "syncing": default Patience = seconds(900);
    /// Until the comparison of mirrored answers has decided.
    validating "validating": default Patience = seconds(600);
    /// Least time at a step.
    step_min "stepMin": default At<Patience> = seconds(10);
    /// Most time at a step that waits for its evidence; at least stepMin.
    step_max "stepMax": default At<Patience> = seconds(600);
    /// Most time on hold; then onInconclusive is done.
    hold_max "holdMax": default Patience = seconds(1800);
    /// Most time that an operator's pause lasts.
    pause_max "pauseMax": default Patience = seconds(3600);
    /// For each part of a promotion; then it is rolled back.
    promoting "promoting": default Patience = seconds(120);
    /// For each part of a rollback; then people are called.
    rolling_back "rollingBack": default Patience = seconds(10);
    /// Until the proxies have followed a failover.
    failed_over "failedOver": default Patience = seconds(120);
    /// How long a promoted shadow is watched before the promotion is final.
    bake "bake": default At<Patience> = seconds(600);
    /// It is watched no longer; at least bake.
    bake_max "bakeMax": default At<Patience> = seconds(3600);
    /// How long the old primary is kept for a quick undo.
    retain_old "retainOld": default Patience = seconds(1800);
    /// How long a drill may last.
    drill_max "drillMax": default Patience = seconds(1800);
}

section! {
    /// What keeps a pair from going back and forth.
    Flaps "a flaps section":
    /// Changes of roles within the window; whoever would make one more freezes the pair.
    changes "changes": default Count<1, 16> = Count(3);
    /// The window.
    window "window": default Patience = seconds(3600);
    /// Between a shift in one direction and one in the other.
    dwell "dwell": default Patience = seconds(30);
    /// Rest after a failure; doubled by each further one.
    cooldown "cooldown": default At<Patience> = seconds(300);
    /// Longest rest; at least cooldown.
    cooldown_max "cooldownMax": default At<Patience> = seconds(21_600);
}

section! {
    /// What a shadow has to have of the state of its primary.
    Sync "a sync section":
    /// How far a warm shadow may lag behind.
    lag_warm "lagWarm": default At<Patience> = seconds(10);
    /// How far one may that is about to be promoted; at most lagWarm.
    lag_promote "lagPromote": default At<Patience> = seconds(1);
    /// Whether the old primary follows the new one after a promotion, so that there is a way back.
    reverse "reverse": default bool = true;
}

section! {
    /// What every change of shares has to respect.
    Safety "a safety section":
    /// Arms that are well keep at least this much together, unless a change brings them more.
    healthy_floor "healthyFloor": default Part = Part(0.5);
    /// No change moves more at once towards a shadow that has not been proven.
    delta_max "deltaMax": default Part = Part(0.5);
}

section! {
    /// How a shadow is judged.
    Verdict "a verdict section":
    /// Chance that a shadow within every tolerance is ever rolled back.
    alpha "alpha": default At<Part> = Part(0.01);
    /// Chance that one beyond a margin is ever promoted.
    beta "beta": default At<Part> = Part(0.05);
    /// What the beginning of a step does not count for, because caches are cold. Failures count from the first request
    /// on.
    warm_up "warmUp": nested WarmUp;
    /// Requests that fail: no connection, reset, timeout, 5xx.
    failures "failures": default Metric = Metric { weight: 0.4, tolerance: 1.25, margin: Some(1.5), ceiling: Some(0.001) };
    /// Requests slower than the primary's median before the analysis.
    p50 "p50": default Metric = Metric { weight: 0.1, tolerance: 1.2, margin: Some(1.4), ceiling: None };
    /// Slower than its 90th percentile.
    p90 "p90": default Metric = Metric { weight: 0.2, tolerance: 1.5, margin: Some(2.0), ceiling: None };
    /// Slower than its 99th percentile.
    p99 "p99": default Metric = Metric { weight: 0.2, tolerance: 2.0, margin: Some(3.0), ceiling: None };
    /// Slower than its 99.9th percentile.
    p999 "p999": default Metric = Metric { weight: 0.1, tolerance: 2.5, margin: None, ceiling: None };
}

impl Verdict {
    /// The metrics, in the engine's order.
    pub(crate) fn metrics(&self) -> [(engine::Metric, &Metric); 5] {
        [
            (engine::Metric::Failures, &self.failures),
            (engine::Metric::OverP50, &self.p50),
            (engine::Metric::OverP90, &self.p90),
            (engine::Metric::OverP99, &self.p99),
            (engine::Metric::OverP999, &self.p999),
        ]
    }
}

section! {
    /// What the beginning of a step does not count for.
    WarmUp "a warmUp section":
    /// Over after so long, or after that many requests, whichever comes first.
    span "span": default Lasting<0, 3_600_000> = seconds(30);
    /// Over after so many requests of the shadow.
    requests "requests": default Count<0, 1_000_000_000> = Count(200);
}

/// What is asked of one kind of event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metric {
    pub(crate) weight: f64,
    pub(crate) tolerance: f64,
    pub(crate) margin: Option<f64>,
    pub(crate) ceiling: Option<f64>,
}

section! {
    /// The written form of [`Metric`].
    MetricSection "a metric":
    /// Part of alpha that it may spend, in proportion to the others; 0 can never roll back.
    weight "weight": required Relative;
    /// Up to so many times as many events are tolerated.
    tolerance "tolerance": required At<Ratio>;
    /// From so many times as many on the shadow must not be promoted; above tolerance. Without margin and ceiling the
    /// metric can roll back, and does not hold up a promotion.
    margin "margin": optional At<Ratio>;
    /// A share of events below which the shadow passes, whatever its primary does: for events that are too rare to
    /// compare.
    ceiling "ceiling": optional Part;
}

impl Read for Metric {
    fn read(node: &Node, key: &str, mistakes: &mut Mistakes) -> Option<Self> {
        let section = MetricSection::read(node, key, mistakes)?;
        let tolerance = section.tolerance?;
        if let Some(margin) = section
            .margin
            .as_ref()
            .filter(|margin| margin.value.0 <= tolerance.value.0)
        {
            let what = format!("{key}: the margin {margin} is not above the tolerance {tolerance}");
            let expected =
                "a margin above the tolerance: between them nothing is promoted and nothing rolled back";
            mistakes.add(Mistake::at(margin.place(), what).expected(expected));
        }
        Some(Self {
            weight: section.weight?.0,
            tolerance: tolerance.value.0,
            margin: section.margin.map(|margin| margin.value.0),
            ceiling: section.ceiling.map(|ceiling| ceiling.0),
        })
    }

    fn title() -> String {
        MetricSection::title()
    }

    fn schema() -> Json {
        MetricSection::schema()
    }
}

impl Shown for Metric {
    fn shown(&self) -> Json {
        let written = [
            ("weight", Some(self.weight)),
            ("tolerance", Some(self.tolerance)),
            ("margin", self.margin),
            ("ceiling", self.ceiling),
        ];
        let pairs = written
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?.into())));
        Json::Object(pairs.collect())
    }
}

/// How many times as many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ratio(pub(crate) f64);

impl Scalar for Ratio {
    fn expected() -> String {
        "a factor from 1 to 100".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let number: f64 = text.parse().map_err(|_| Wrong::default())?;
        if (1.0..=100.0).contains(&number) {
            return Ok(Self(number));
        }
        Err(Wrong::because("is out of range"))
    }

    fn schema() -> Json {
        json!({ "type": "number", "minimum": 1, "maximum": 100 })
    }
}

impl Shown for Ratio {
    fn shown(&self) -> Json {
        self.0.into()
    }
}

/// A part of something, relative to the others'.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Relative(pub(crate) f64);

impl Scalar for Relative {
    fn expected() -> String {
        "a number from 0 to 1".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let number: f64 = text.parse().map_err(|_| Wrong::default())?;
        if (0.0..=1.0).contains(&number) {
            return Ok(Self(number));
        }
        Err(Wrong::because("is out of range"))
    }

    fn schema() -> Json {
        json!({ "type": "number", "minimum": 0, "maximum": 1 })
    }
}

section! {
    /// Somebody who is asked before something happens.
    Gate "a gate":
    /// Name, unique among the gates of the policy.
    name "name": required At<Name>;
    /// What has to wait for it.
    before "before": required GateAt;
    /// Who is asked: a webhook that answers 200 to 202 opens it. Where left out, an operator opens it.
    webhook "webhook": optional Url;
    /// How long one question may take.
    timeout "timeout": default Lasting<100, 60_000> = seconds(10);
    /// Between two questions.
    every "every": default Lasting<1000, 3_600_000> = seconds(10);
}

section! {
    /// A drill that begins by itself, once in each period: never where nothing may begin, nor while anything is wrong.
    Drill "a drill":
    /// What is rehearsed; each of them once.
    scenario "scenario": required At<Rehearsed>;
    /// How long a period is. Each pair has its own, so that not all are drilled at once.
    every "every": default Lasting<3_600_000, 31_536_000_000> = seconds(604_800);
    /// When it may begin; at any time where left out.
    within "within": list List<Window, 0>;
}

section! {
    /// Some days of each week, or some dates, from one time of the day to another. In UTC.
    Window "a window":
    /// Days of the week; every day where neither days nor dates are there.
    days "days": list List<Day, 0>;
    /// Single dates, as 2026-12-24.
    dates "dates": list List<Date, 0>;
    /// From this time of the day.
    from "from": default At<Clock> = Clock(0);
    /// To this time of the day; of the next one where it is not after from.
    to "to": default At<Clock> = Clock(24 * 60);
    /// Why, for whoever wonders.
    reason "reason": optional Line;
}

macro_rules! words {
    ($(#[doc = $doc:literal])+ $Name:ident: $($word:literal $Variant:ident),+) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $Name { $($Variant),+ }

        choice!($Name: $($word $Variant),+);
    };
}

words! {
    /// What ends a hold that nothing else has ended.
    Inconclusive: "rollback" Rollback, "promote" Promote
}

words! {
    /// What a verdict against the shadow does.
    Rollback: "auto" Auto, "freeze" Freeze, "manual" Manual
}

words! {
    /// What becomes of the old primary.
    OldPrimary: "shadow" Shadow, "retire" Retire
}

words! {
    /// What a drill rehearses.
    Rehearsed: "primary-gone" PrimaryGone, "primary-at-risk" PrimaryAtRisk, "shadow-worse" ShadowWorse
}

words! {
    /// What mirrored answers are good for.
    MirrorUse: "off" Off, "watch" Watch, "required" Required
}

words! {
    /// What has to wait for a gate: the first user, each larger share, the change of roles.
    GateAt: "shift" Shift, "increase" Increase, "promote" Promote
}
