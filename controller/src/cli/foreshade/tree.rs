//! Pairs as text: one as a tree, many as a table. Pure: what is so and what time it is come in, lines come out.

mod shadow;

use std::fmt::Write as _;

pub(super) use self::shadow::mirrored;
use super::screen::{Mark, Screen};
use crate::operator::simulation::Simulation;
use crate::operator::view::{
    Analysis, AnalysisBrief, ArmView, AuditEntry, Change, Drill, Evidence, GateStanding, GateView, Health,
    Mode, OverrideView, PairDetail, PairSummary, Verdict, WaiverView,
};

/// Characters of a sentence in a table.
const REASON_CHARS: usize = 60;

/// A line of a table: cells, and how the one that is marked is marked.
struct Line {
    cells: Vec<String>,
    mark: Option<(usize, Mark)>,
}

/// An icon and a word.
fn health(health: Health) -> String {
    let icon = match health {
        Health::Healthy => "✔",
        Health::Progressing => "◌",
        Health::Paused => "॥",
        Health::Degraded => "✖",
    };
    format!("{icon} {health}")
}

/// Many pairs.
pub(super) fn list(pairs: &[PairSummary], now_ms: u64, screen: &Screen) -> String {
    let head = [
        "PAIR", "STATUS", "STATE", "AGE", "SET", "ACTUAL", "RISK", "SHADOW", "REASON",
    ];
    let lines = pairs.iter().map(|pair| Line {
        cells: vec![
            pair.pair.clone(),
            health(pair.health),
            pair.state.clone(),
            age(pair.since_ms, now_ms),
            share(pair.share_set),
            pair.share_actual.map_or("–".to_owned(), share),
            pair.risk.map_or("–".to_owned(), |risk| format!("{risk:.2}")),
            pair.shadow.clone().unwrap_or_else(|| "–".to_owned()),
            cropped(&pair.reason, REASON_CHARS),
        ],
        mark: Some((1, pair.health.into())),
    });
    table(&head, &lines.collect::<Vec<_>>(), screen)
}

/// One pair: a header, and a tree below it.
pub(super) fn pair(detail: &PairDetail, now_ms: u64, screen: &Screen) -> String {
    let PairDetail { summary, .. } = detail;
    let mut text = String::new();
    let mut line = |key: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:<13}{value}", format!("{key}:"));
    };
    line("Name", &summary.pair);
    line(
        "Status",
        &screen.marked(summary.health.into(), &health(summary.health)),
    );
    line(
        "State",
        &format!("{}, for {}", summary.state, age(summary.since_ms, now_ms)),
    );
    if let Some(step) = &detail.step {
        line("Step", &format!("{}/{}", step.index, step.of));
    }
    line("SetShare", &share(summary.share_set));
    line(
        "ActualShare",
        &summary.share_actual.map_or("not known yet".to_owned(), share),
    );
    line("Serving", &format!("the {}", summary.serving));
    line(
        "RollsBackTo",
        &detail
            .rollback_target
            .map_or("nothing".to_owned(), |side| format!("the {side}")),
    );
    if detail.point_of_no_return {
        line(
            "Warning",
            &screen.marked(
                Mark::Waiting,
                "⚠ past the point of no return: nothing goes back by itself",
            ),
        );
    }
    line("Policy", &summary.policy);
    line("Proxies", &proxies(detail));
    for (key, until) in [
        ("Blocked", detail.blocked_until_ms),
        ("Resting", detail.cooldown_until_ms),
    ] {
        if let Some(until) = until {
            line(key, &format!("for {} more", age(now_ms, until)));
        }
    }
    line("Reason", &summary.reason);
    if let Some(placement) = &detail.placement {
        line("Placement", &placement.reason);
    }
    if let Some(unable) = unapplied(detail) {
        line("Warning", &screen.marked(Mark::Waiting, &unable));
    }
    for obstacle in &detail.obstacles {
        line("Waits", obstacle);
    }
    text.push('\n');
    text + &table(
        &["NAME", "KIND", "STATUS", "AGE", "INFO"],
        &tree(detail, now_ms),
        screen,
    )
}

/// What proxies cannot do of it.
fn unapplied(detail: &PairDetail) -> Option<String> {
    let unable = detail.unapplied.as_ref()?;
    let proxies = match unable.proxies {
        1 => "1 proxy".to_owned(),
        proxies => format!("{proxies} proxies"),
    };
    Some(format!("⚠ not carried out by {proxies}: {}", unable.why))
}

/// How its shadow was chosen, and what stands in the way of that.
pub(super) fn placed(detail: &PairDetail) -> String {
    let mut text = String::new();
    if let Some(placement) = &detail.placement {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\nshadow: {}", placement.reason);
        for candidate in &placement.candidates {
            let _ = writeln!(text, "  {candidate}");
        }
        if placement.further > 0 {
            let _ = writeln!(text, "  and {} more", placement.further);
        }
    }
    if let Some(unable) = unapplied(detail) {
        let _ = writeln!(text, "\n{unable}");
    }
    text
}

fn proxies(detail: &PairDetail) -> String {
    let proxies = detail.proxies;
    let stale = match proxies.stale {
        0 => String::new(),
        stale => format!(", {stale} not heard of lately"),
    };
    format!("{} of {} follow{stale}", proxies.acknowledged, proxies.connected)
}

fn tree(detail: &PairDetail, now_ms: u64) -> Vec<Line> {
    let PairDetail { summary, .. } = detail;
    let mode = match (summary.mode, summary.suspended) {
        (Mode::Live, false) => "",
        (Mode::Live, true) => "paused by an operator",
        (Mode::DryRun, _) => "dry run: moves nobody",
        (Mode::Drill, _) => "drill",
    };
    let root = Line {
        cells: cells(
            &format!("⟳ {}", summary.pair),
            "Pair",
            &health(summary.health),
            &age(summary.since_ms, now_ms),
            mode,
        ),
        mark: Some((2, summary.health.into())),
    };
    let mut branches = vec![Line {
        cells: cells(
            &format!("# generation {}", summary.generation),
            "Plan",
            "",
            "",
            &format!("round {}", summary.round),
        ),
        mark: None,
    }];
    let arms = detail.arms.iter().map(arm).collect::<Vec<_>>();
    branches.extend(detail.analysis.as_ref().map(analysis));
    branches.extend(detail.mirror.as_ref().map(shadow::copies));
    branches.extend(detail.gates.iter().map(gate));
    branches.extend(detail.overrides.iter().map(|set| set_by_hand(set, now_ms)));
    branches.extend(detail.waived.iter().map(|waived| waiver(waived, now_ms)));
    branches.extend(detail.drill.map(|id| Line {
        cells: cells(&format!("⊞ drill {id}"), "Drill", "◌ Running", "", ""),
        mark: Some((2, Mark::Moving)),
    }));
    branches.extend(
        detail
            .timetable
            .iter()
            .map(|entry| shadow::timetable(entry, now_ms)),
    );
    let mut lines = vec![root];
    let last = branches.len().saturating_sub(1);
    for (index, mut branch) in branches.into_iter().enumerate() {
        lead(&mut branch, if index == last { "└──" } else { "├──" });
        lines.push(branch);
        // The endpoints hang below the plan, which is the first branch.
        let below: &[Line] = if index == 0 { &arms } else { &[] };
        for (at, arm) in below.iter().enumerate() {
            let trunk = if index == last { "   " } else { "│  " };
            let fork = if at + 1 == below.len() {
                "└──"
            } else {
                "├──"
            };
            let mut arm = Line {
                cells: arm.cells.clone(),
                mark: arm.mark,
            };
            lead(&mut arm, &format!("{trunk}{fork}"));
            lines.push(arm);
        }
    }
    lines
}

fn set_by_hand(set: &OverrideView, now_ms: u64) -> Line {
    let info = format!(
        "ends in {}, by {}: {}",
        age(now_ms, set.until_ms),
        set.actor,
        set.reason
    );
    let name = format!("⚑ {} {}", set.what, share(set.value));
    Line {
        cells: cells(&name, "Override", "॥ Set", "", &info),
        mark: Some((2, Mark::Waiting)),
    }
}

fn waiver(waived: &WaiverView, now_ms: u64) -> Line {
    let ends = age(now_ms, waived.until_ms);
    let info = format!("ends in {ends}, by {}: {}", waived.actor, waived.reason);
    let name = format!("⚑ {}", dashed(&waived.rule));
    Line {
        cells: cells(&name, "Safety", "॥ Waived", "", &info),
        mark: Some((2, Mark::Waiting)),
    }
}

/// Puts a branch before the name.
fn lead(line: &mut Line, branch: &str) {
    if let Some(name) = line.cells.first_mut() {
        name.insert_str(0, branch);
    }
}

fn cells(name: &str, kind: &str, status: &str, age: &str, info: &str) -> Vec<String> {
    [name, kind, status, age, info].map(str::to_owned).to_vec()
}

fn arm(arm: &ArmView) -> Line {
    let (icon, mark) = match arm.health.as_str() {
        "well" => ("✔", Mark::Good),
        "unknown" => ("◌", Mark::Quiet),
        "draining" => ("॥", Mark::Waiting),
        _ => ("✖", Mark::Bad),
    };
    let mut info = arm
        .risk
        .map(|risk| format!("risk {risk:.2}  "))
        .unwrap_or_default();
    let good = arm.requests.saturating_sub(arm.failures);
    info += &format!("✔ {good}, ✖ {}", arm.failures);
    if let Some(lag) = arm.lag_ms {
        info += &format!("  {} behind", span(lag));
    }
    let kind = match arm.arm {
        crate::operator::view::Side::Primary => "Primary",
        crate::operator::view::Side::Shadow => "Shadow",
    };
    Line {
        cells: cells(
            &format!("□ {}", arm.endpoint),
            kind,
            &format!("{icon} {}", arm.health),
            "",
            &info,
        ),
        mark: Some((2, mark)),
    }
}

fn analysis(brief: &AnalysisBrief) -> Line {
    let (icon, mark) = verdict(brief.verdict);
    let mut info = format!("E_worse {}", evidence(brief.worse));
    if let Some(ok) = brief.ok {
        info += &format!("  E_ok {}", evidence(ok));
    }
    if let Some(needed) = brief.needed_requests {
        info += &format!("  needs ~{needed} requests");
        if let Some(eta) = brief.eta_ms {
            info += &format!(" (~{})", span(eta));
        }
    }
    Line {
        cells: cells(
            "α analysis",
            "Analysis",
            &format!("{icon} {}", brief.verdict),
            "",
            &info,
        ),
        mark: Some((2, mark)),
    }
}

fn verdict(verdict: Verdict) -> (&'static str, Mark) {
    match verdict {
        Verdict::Worse => ("✖", Mark::Bad),
        Verdict::NotWorse => ("✔", Mark::Good),
        Verdict::Undecided => ("◌", Mark::Moving),
    }
}

/// As much as is there, of as much as is wanted.
fn evidence(evidence: Evidence) -> String {
    let short = |number: f64| match number {
        number if number >= 1e5 => format!("{number:.0e}"),
        number if number >= 10.0 => format!("{number:.0}"),
        number => format!("{number:.1}"),
    };
    format!("{}/{}", short(evidence.e), short(evidence.limit))
}

fn gate(gate: &GateView) -> Line {
    let (icon, mark) = match gate.standing {
        GateStanding::Idle => ("·", Mark::Quiet),
        GateStanding::Waiting => ("॥", Mark::Waiting),
        GateStanding::Open => ("✔", Mark::Good),
        GateStanding::Denied => ("✖", Mark::Bad),
    };
    let said = gate
        .said
        .as_ref()
        .map(|said| format!(": {said}"))
        .unwrap_or_default();
    Line {
        cells: cells(
            &format!("Σ {}", gate.name),
            "Gate",
            &format!("{icon} {}", gate.standing),
            "",
            &format!("before {}{said}", gate.before),
        ),
        mark: Some((2, mark)),
    }
}

/// Why the judge says what it says.
pub(super) fn explained(pair: &str, analysis: Option<&Analysis>, screen: &Screen) -> String {
    let Some(analysis) = analysis else {
        return format!("{pair}: nothing is being judged\n");
    };
    let (icon, mark) = verdict(analysis.brief.verdict);
    let said = screen.marked(mark, &format!("{icon} {}", analysis.brief.verdict));
    let requests: Vec<_> = analysis.requests.iter().map(u64::to_string).collect();
    let warming = if analysis.warming {
        "; latency is left out while the shadow warms up"
    } else {
        ""
    };
    let head = format!(
        "{pair}: {said}: {}\nrequests on primary and shadow: {}{warming}\n\n",
        analysis.brief.sentence,
        requests.join(" and "),
    );
    let lines = analysis.metrics.iter().map(|metric| Line {
        cells: vec![
            metric.metric.clone(),
            format!("{} of {}", metric.on_shadow, metric.events),
            evidence(metric.worse),
            metric.ok.map_or("–".to_owned(), evidence),
            ratio(metric.ratio_low, metric.ratio_high),
            metric
                .needed_requests
                .map_or("–".to_owned(), |needed| format!("~{needed}")),
        ],
        mark: None,
    });
    let titles = [
        "METRIC",
        "ON SHADOW",
        "E_WORSE",
        "E_OK",
        "TIMES THE PRIMARY'S RATE",
        "NEEDS",
    ];
    let mut text = head + &table(&titles, &lines.collect::<Vec<_>>(), screen);
    text.push('\n');
    for metric in &analysis.metrics {
        text += &format!("{}\n", metric.sentence);
    }
    text
}

fn ratio(low: Option<f64>, high: Option<f64>) -> String {
    match (low, high) {
        (Some(low), Some(high)) => format!("{low:.2} to {high:.2}"),
        (Some(low), None) => format!("at least {low:.2}"),
        (None, Some(high)) => format!("at most {high:.2}"),
        (None, None) => "any".to_owned(),
    }
}

/// What became of a pair.
pub(super) fn history(changes: &[Change], now_ms: u64, screen: &Screen) -> String {
    let lines = changes.iter().map(|change| Line {
        cells: vec![
            change.seq.to_string(),
            age(change.at_ms, now_ms),
            format!("{} → {}", change.from, change.to),
            share(change.share),
            change.generation.to_string(),
            change.actor.clone().unwrap_or_else(|| "–".to_owned()),
            change.cause.clone(),
        ],
        mark: None,
    });
    table(
        &["SEQ", "AGE", "CHANGE", "SHARE", "GENERATION", "BY", "CAUSE"],
        &lines.collect::<Vec<_>>(),
        screen,
    )
}

/// Who ordered what.
pub(super) fn audit(entries: &[AuditEntry], now_ms: u64, screen: &Screen) -> String {
    let lines = entries.iter().map(|entry| Line {
        cells: vec![
            entry.seq.to_string(),
            age(entry.at_ms, now_ms),
            entry.pair.clone(),
            match &entry.with {
                Some(with) => format!("{} {with}", entry.command),
                None => entry.command.clone(),
            },
            entry.actor.to_string(),
            entry.reason.to_string(),
            entry.outcome.clone(),
        ],
        mark: None,
    });
    table(
        &["SEQ", "AGE", "PAIR", "COMMAND", "BY", "REASON", "OUTCOME"],
        &lines.collect::<Vec<_>>(),
        screen,
    )
}

/// What would become of a pair.
pub(super) fn simulation(simulation: &Simulation, screen: &Screen) -> String {
    let mut text = simulation
        .answer
        .as_ref()
        .map(|answer| format!("{}: the order would be: {answer}\n\n", simulation.pair))
        .unwrap_or_default();
    if simulation.told.is_empty() {
        text += &format!("{}: nothing would happen\n", simulation.pair);
    } else {
        let lines = simulation.told.iter().map(|foreseen| Line {
            cells: vec![
                span(foreseen.after_ms),
                format!("{} → {}", foreseen.from, foreseen.to),
                share(foreseen.share),
                foreseen.cause.clone(),
            ],
            mark: None,
        });
        let titles = ["AFTER", "CHANGE", "SHARE", "CAUSE"];
        text += &table(&titles, &lines.collect::<Vec<_>>(), screen);
    }
    text += &format!(
        "\nafter {}: {}, the {} serves, the shadow has {}\n",
        span(simulation.looked_ms),
        simulation.state,
        simulation.serving,
        share(simulation.share),
    );
    for obstacle in &simulation.obstacles {
        text += &format!("waits: {obstacle}\n");
    }
    text
}

/// How drills went.
pub(super) fn drills(drills: &[Drill], now_ms: u64, screen: &Screen) -> String {
    let measured = |ms: Option<u64>| ms.map_or("–".to_owned(), span);
    let lines = drills.iter().map(|drill| Line {
        cells: vec![
            drill.id.to_string(),
            drill.pair.clone(),
            dashed(&drill.scenario),
            drill.result.to_string(),
            age(drill.started_ms, now_ms),
            measured(drill.rto_ms),
            measured(drill.rpo_ms),
            drill.actor.clone(),
        ],
        mark: None,
    });
    let mut text = table(
        &["ID", "PAIR", "SCENARIO", "RESULT", "AGE", "RTO", "RPO", "BY"],
        &lines.collect::<Vec<_>>(),
        screen,
    );
    if let [drill] = drills {
        for line in &drill.report {
            text += &format!("  {line}\n");
        }
    }
    text
}

/// Columns as wide as their widest cell, but for the last.
fn table(head: &[&str], lines: &[Line], screen: &Screen) -> String {
    let width = |index: usize| {
        let cells = lines
            .iter()
            .filter_map(|line| line.cells.get(index))
            .map(String::as_str);
        cells
            .chain(head.get(index).copied())
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let head = Line {
        cells: head.iter().map(|cell| (*cell).to_owned()).collect(),
        mark: None,
    };
    let mut text = String::new();
    for (row, line) in std::iter::once(&head).chain(lines).enumerate() {
        let mut shown = String::new();
        for (index, (cell, width)) in line.cells.iter().zip(&widths).enumerate() {
            let mark = match line.mark {
                _ if row == 0 => Some(Mark::Strong),
                Some((at, mark)) if at == index => Some(mark),
                _ => None,
            };
            let padding = " ".repeat(width.saturating_sub(cell.chars().count()) + 2);
            shown += &mark.map_or_else(|| cell.clone(), |mark| screen.marked(mark, cell));
            shown += &padding;
        }
        text += shown.trim_end();
        text.push('\n');
    }
    text
}

fn cropped(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

fn share(share: f64) -> String {
    // Two digits behind the point are what the lifecycle keeps; most shares have none.
    let percent = (share * 1e4).round() / 1e2;
    format!("{percent}%")
}

/// A word as it is said on the command line.
fn dashed(word: &impl ToString) -> String {
    word.to_string().replace('_', "-")
}

/// From one moment to a later one.
fn age(from_ms: u64, to_ms: u64) -> String {
    span(to_ms.saturating_sub(from_ms))
}

/// As people say it: the largest unit that it has one of.
fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..120_000 => format!("{}s", ms / 1_000),
        120_000..7_200_000 => format!("{}m", ms / 60_000),
        7_200_000..172_800_000 => format!("{}h", ms / 3_600_000),
        _ => format!("{}d", ms / 86_400_000),
    }
}
