//! What people see: the help, and pairs as text at a fixed time.

use clap::CommandFactory as _;

use super::screen::Screen;
use super::{Arguments, tree};
use crate::operator::simulation::{Foreseen, Simulation};
use crate::operator::view::{
    Analysis, AnalysisBrief, ArmView, Evidence, GateStanding, GateView, Health, MetricView, Mode,
    OverrideView, PairDetail, PairSummary, ProxiesView, Side, StepView, Verdict, WaiverView,
};
use crate::operator::{Rule, What};

const NOW_MS: u64 = 1_795_694_400_000;

fn plain() -> Screen {
    Screen::new(Vec::new(), false)
}

fn summary() -> PairSummary {
    PairSummary {
        pair: "shop/a".to_owned(),
        shadow: Some("a-standby".to_owned()),
        state: "Shifting.Advancing".to_owned(),
        health: Health::Progressing,
        since_ms: NOW_MS - 12_000,
        generation: 7,
        round: 3,
        serving: Side::Primary,
        share_set: 0.1,
        share_actual: Some(0.0984),
        risk: Some(0.52),
        mode: Mode::Live,
        suspended: false,
        policy: "default".to_owned(),
        reason: "risk 0.52 is at or above 0.35".to_owned(),
    }
}

fn brief() -> AnalysisBrief {
    AnalysisBrief {
        verdict: Verdict::Undecided,
        worse: Evidence {
            e: 0.31,
            limit: 100.0,
        },
        ok: Some(Evidence { e: 12.4, limit: 20.0 }),
        needed_requests: Some(140),
        eta_ms: Some(9_000),
        sentence: "undecided: failures: about 140 more requests".to_owned(),
    }
}

fn arm(endpoint: &str, arm: Side, health: &str, lag_ms: Option<u64>) -> ArmView {
    ArmView {
        endpoint: endpoint.to_owned(),
        arm,
        health: health.to_owned(),
        risk: Some(if arm == Side::Primary { 0.52 } else { 0.03 }),
        requests: 9_000,
        failures: 21,
        lag_ms,
    }
}

fn detail() -> PairDetail {
    PairDetail {
        summary: summary(),
        arms: vec![
            arm("a", Side::Primary, "sick", None),
            arm("a-standby", Side::Shadow, "well", Some(140)),
        ],
        step: Some(StepView {
            index: 3,
            of: 6,
            share: 0.1,
        }),
        rollback_target: Some(Side::Primary),
        point_of_no_return: false,
        gates: vec![GateView {
            name: "release".to_owned(),
            before: "promote".to_owned(),
            standing: GateStanding::Waiting,
            said: Some("403 not on fridays".to_owned()),
            link: None,
        }],
        overrides: vec![OverrideView {
            what: What::Share,
            value: 0.1,
            until_ms: NOW_MS + 900_000,
            actor: "jane".to_owned(),
            reason: "calm".to_owned(),
        }],
        waived: vec![WaiverView {
            rule: Rule::Capacity,
            until_ms: NOW_MS + 60_000,
            actor: "jane".to_owned(),
            reason: "it was measured too low".to_owned(),
        }],
        obstacles: vec!["gate release is closed".to_owned()],
        proxies: ProxiesView {
            connected: 3,
            acknowledged: 2,
            stale: 1,
        },
        blocked_until_ms: None,
        cooldown_until_ms: None,
        drill: None,
        timetable: Vec::new(),
        analysis: Some(brief()),
        mirror: None,
        placement: None,
        unapplied: None,
    }
}

#[test]
fn whoever_has_no_name_in_the_environment_has_one_on_the_machine() {
    let accounts = "root:x:0:0:root:/root:/bin/sh\nnobody\n# a comment\njane:x:1000:100::/srv/jane:/bin/sh\n";
    let name = |uid| super::ask::account_of(uid, accounts);
    assert_eq!(
        (name(0).as_deref(), name(1000).as_deref()),
        (Some("root"), Some("jane"))
    );
    assert_eq!(name(7), None);
}

#[test]
fn a_simulation_is_a_table_and_where_it_ends() {
    let foreseen = |after_ms, from: &str, to: &str, share| Foreseen {
        after_ms,
        from: from.to_owned(),
        to: to.to_owned(),
        share,
        cause: "it was ordered: promote".to_owned(),
    };
    let mut simulation = Simulation {
        pair: "shop/a".to_owned(),
        answer: Some("done".to_owned()),
        told: vec![
            foreseen(0, "Warm.Idle", "Warm.Idle", 0.0),
            foreseen(61_000, "Warm.Idle", "Shifting.Advancing", 0.01),
        ],
        state: "Shifting.Advancing".to_owned(),
        serving: Side::Primary,
        share: 0.01,
        obstacles: vec!["evidence is missing".to_owned()],
        looked_ms: 600_000,
    };
    insta::assert_snapshot!(tree::simulation(&simulation, &plain()));
    (simulation.answer, simulation.told) = (None, Vec::new());
    assert!(tree::simulation(&simulation, &plain()).starts_with("shop/a: nothing would happen\n"));
}

#[test]
fn a_pair_is_a_tree() {
    insta::assert_snapshot!(tree::pair(&detail(), NOW_MS, &plain()));
}

#[test]
fn a_promoted_pair_says_that_nothing_goes_back() {
    let mut promoted = detail();
    promoted.summary = PairSummary {
        state: "Baking".to_owned(),
        serving: Side::Shadow,
        share_set: 1.0,
        share_actual: None,
        ..promoted.summary
    };
    promoted.rollback_target = None;
    promoted.point_of_no_return = true;
    promoted.cooldown_until_ms = Some(NOW_MS + 300_000);
    (promoted.step, promoted.analysis) = (None, None);
    promoted.gates.clear();
    promoted.overrides.clear();
    insta::assert_snapshot!(tree::pair(&promoted, NOW_MS, &plain()));
}

#[test]
fn many_pairs_are_a_table() {
    let healthy = PairSummary {
        pair: "payments/primary-with-a-long-name".to_owned(),
        shadow: None,
        state: "Unassigned".to_owned(),
        health: Health::Healthy,
        since_ms: NOW_MS - 200_000_000,
        share_set: 0.0,
        share_actual: None,
        risk: None,
        reason: "nothing is wrong, and this sentence is much longer than what a table has room for"
            .to_owned(),
        ..summary()
    };
    insta::assert_snapshot!(tree::list(&[summary(), healthy], NOW_MS, &plain()));
}

#[test]
fn an_explanation_has_each_metric_and_its_sentence() {
    let metric = |name: &str, ok, low, high| MetricView {
        metric: name.to_owned(),
        events: 1_230,
        on_shadow: 112,
        worse: Evidence {
            e: 3.2e6,
            limit: 250.0,
        },
        ok,
        ratio_low: low,
        ratio_high: high,
        needed_requests: None,
        eta_ms: None,
        sentence: format!("{name}: 112 of 1230 on the shadow"),
    };
    let analysis = Analysis {
        brief: brief(),
        requests: vec![9_000, 1_000],
        warming: true,
        metrics: vec![
            metric(
                "failures",
                Some(Evidence { e: 12.4, limit: 20.0 }),
                Some(0.81),
                Some(1.62),
            ),
            metric("slower than p99.9", None, None, None),
        ],
    };
    insta::assert_snapshot!(tree::explained("shop/a", Some(&analysis), &plain()));
    assert_eq!(
        tree::explained("shop/a", None, &plain()),
        "shop/a: nothing is being judged\n"
    );
}

#[test]
fn colours_say_nothing_that_the_words_do_not() {
    let coloured = tree::pair(&detail(), NOW_MS, &Screen::coloured());
    assert!(coloured.contains('\u{1b}'));
    let mut bare = String::new();
    let mut parts = coloured.split('\u{1b}');
    bare += parts.next().unwrap();
    for part in parts {
        bare += part.split_once('m').unwrap().1;
    }
    assert_eq!(bare, tree::pair(&detail(), NOW_MS, &plain()));
}

/// The help of a command and of everything below it.
fn help(command: &mut clap::Command, name: &str, text: &mut String) {
    *text += &format!("$ {name} --help\n{}\n", command.render_help());
    let below: Vec<String> = command
        .get_subcommands()
        .map(|sub| sub.get_name().to_owned())
        .collect();
    for sub in below.iter().filter(|sub| *sub != "help") {
        help(
            command.find_subcommand_mut(sub).unwrap(),
            &format!("{name} {sub}"),
            text,
        );
    }
}

#[test]
fn the_help_says_what_can_be_said() {
    let mut text = String::new();
    // Values of this machine's environment are not shown.
    help(
        &mut Arguments::command()
            .version("0")
            .mut_args(|arg| arg.hide_env(true)),
        "foreshade",
        &mut text,
    );
    insta::assert_snapshot!(text);
}

#[test]
fn the_command_line_is_sound() {
    Arguments::command().debug_assert();
}
