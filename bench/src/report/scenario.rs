//! One scenario on the page: what users saw of each contender, over time and by percentile, and what it came to.

use maud::{Markup, html};

use crate::report::axis::Axis;
use crate::report::chart::{Line, LineChart};
use crate::report::curve;
use crate::report::figures;
use crate::report::look::{Cast, Who};
use crate::report::numbers::{milliseconds, number, percent};
use crate::report::page::{legend, scrolling};
use crate::report::series::{self, Moment};
use crate::report::standing;
use crate::report::{anchor, describe_lines};
use crate::results::{ContenderResult, Percentile, ScenarioResult, SeedResult, Time};

/// Points of a line; more cannot be told apart at the size of a chart.
const POINTS_MAX: usize = 240;

/// Rows of the table behind the lines: enough to check a line by, and short enough to read.
const ROWS_MAX: usize = 30;

/// Lines in one chart. Whoever comes after these stands in the tables only.
const LINES_MAX: usize = 7;

/// Shares of failed requests are drawn on at least this much of an axis: a single failure must not look like a disaster.
const FAILED_LEAST: f64 = 0.01;

/// A share of traffic beyond this is drawn at this.
const SHARE_MOST: f64 = 2.0;

/// A contender with its course, already put together from its seeds.
struct Course<'a> {
    who: Who<'a>,
    look: usize,
    moments: Vec<Moment>,
    runs: &'a [SeedResult],
}

/// The scenario of one file; `prefix` keeps its anchors apart from those of other files.
pub(crate) fn article(scenario: &ScenarioResult, time: Time, cast: &Cast, prefix: &str) -> Markup {
    let mut contenders: Vec<&ContenderResult> = scenario.contenders.iter().collect();
    contenders.sort_by_key(|contender| cast.rank(contender.who()));
    let courses = courses(scenario, &contenders, cast);
    let id = anchor(prefix, &scenario.name);
    let has_curves = courses
        .iter()
        .any(|course| course.runs.iter().any(|run| !run.during.is_empty()));
    let shown: Vec<(String, usize)> = courses
        .iter()
        .map(|course| (course.who.label(), course.look))
        .collect();
    let whos: Vec<Who<'_>> = courses.iter().map(|course| course.who).collect();
    let others = contenders
        .iter()
        .filter(|contender| !whos.contains(&contender.who()));
    let absent: Vec<String> = others.map(|contender| contender.who().label()).collect();
    let broken = figures::broken(&contenders);
    html! {
        article.scenario id=(id) {
            h3 { (title(scenario)) }
            p.story { (scenario.story) }
            @if !broken.is_empty() {
                ul.broken { @for promise in &broken { li { strong { "Promise broken: " } (promise) } } }
            }
            (legend(&shown))
            div.charts {
                @for chart in over_time(scenario, &courses, &id) { (chart.draw()) }
                @if has_curves { @for chart in curves(&courses, &id) { (chart.draw()) } }
                (figures::short(&contenders, &whos, cast))
            }
            @if !absent.is_empty() { p.note { "In the tables only: " (absent.join("; ")) "." } }
            @if time == Time::Virtual { p.note { "Lines are those of the first seed; figures are those of all seeds." } }
            details.keep { summary { "All figures" } (figures::full(&contenders)) }
            details { summary { "Numbers behind the lines" } (seconds_table(&courses)) }
            @if has_curves {
                details { summary { "Numbers behind the latency curves" } (curve_table(&courses)) }
            }
        }
    }
}

/// Its number and its name.
pub(crate) fn title(scenario: &ScenarioResult) -> String {
    match &scenario.id {
        Some(id) if *id != scenario.name => format!("{id} {}", scenario.name),
        _ => scenario.name.clone(),
    }
}

/// Who is drawn, and when what happened to it.
fn courses<'a>(
    scenario: &ScenarioResult,
    contenders: &[&'a ContenderResult],
    cast: &Cast,
) -> Vec<Course<'a>> {
    let shown = standing::once_each(contenders.iter().map(|contender| contender.who()));
    contenders
        .iter()
        .filter(|contender| shown.contains(&contender.who()))
        .take(LINES_MAX)
        .map(|contender| Course {
            who: contender.who(),
            look: cast.look(&contender.contender),
            moments: series::moments(&contender.runs, scenario.onset_s),
            runs: &contender.runs,
        })
        .collect()
}

fn lines(courses: &[Course<'_>], of: impl Fn(&Moment) -> Option<f64>) -> Vec<Line> {
    let line = |course: &Course<'_>| Line {
        name: course.who.label(),
        look: course.look,
        points: series::points(&series::thin(&course.moments, POINTS_MAX), &of),
        is_aside: false,
    };
    courses
        .iter()
        .map(line)
        .filter(|line| line.points.iter().any(|(_, value)| value.is_some()))
        .collect()
}

fn values(lines: &[Line]) -> Vec<f64> {
    let points = lines.iter().flat_map(|line| &line.points);
    points.filter_map(|(_, value)| *value).collect()
}

fn over_time<'a>(scenario: &ScenarioResult, courses: &[Course<'_>], id: &str) -> Vec<LineChart<'a>> {
    let length = scenario.healed_s - scenario.onset_s;
    let p99 = lines(courses, |moment| moment.p99_ms);
    let failed = lines(courses, Moment::failed_part);
    let share = lines(courses, |moment| moment.share.map(|share| share.min(SHARE_MOST)));
    let points = [&p99, &failed, &share]
        .into_iter()
        .flatten()
        .flat_map(|line| &line.points);
    let (first, last) = points.fold((f64::INFINITY, f64::NEG_INFINITY), |(first, last), (at, _)| {
        (first.min(at.floor()), last.max(at.ceil()))
    });
    let chart = |name: &str, title, y: Axis, y_text, lines: Vec<Line>| LineChart {
        id: format!("{id}-{name}"),
        title,
        description: describe_lines(&scenario.story, &lines, y_text),
        x: Axis::exact(first, last),
        x_name: "seconds since the fault",
        x_text: number,
        y,
        y_text,
        fault: (length > 0.0).then_some((0.0, length)),
        lines,
    };
    let failed_axis = Axis::linear(values(&failed).into_iter().chain([0.0, FAILED_LEAST]));
    let share_axis = Axis::linear(values(&share).into_iter().chain([0.0, 1.0]));
    let p99_axis = Axis::log(values(&p99));
    let mut charts = Vec::new();
    if !p99.is_empty() {
        let title = "Latency: 99th percentile of each second";
        charts.push(chart("p99", title, p99_axis, milliseconds, p99));
    }
    if !failed.is_empty() {
        charts.push(chart(
            "failed",
            "Requests that failed",
            failed_axis,
            percent,
            failed,
        ));
    }
    if !share.is_empty() {
        let title = "Traffic at the faulty endpoint, of its normal traffic";
        let mut share = share;
        share.extend(risk(courses));
        charts.push(chart("share", title, share_axis, percent, share));
    }
    charts
}

/// What foreshade thought of the endpoint meanwhile, beside the traffic that it sent there.
fn risk(courses: &[Course<'_>]) -> Option<Line> {
    let ours = courses.iter().find(|course| course.who.is_foreshade())?;
    let points = series::points(&series::thin(&ours.moments, POINTS_MAX), |moment| moment.risk);
    points.iter().any(|(_, value)| value.is_some()).then(|| Line {
        name: "foreshade's risk".to_owned(),
        look: ours.look,
        points,
        is_aside: true,
    })
}

fn curves<'a>(courses: &[Course<'_>], id: &str) -> Vec<LineChart<'a>> {
    let line = |of: fn(&SeedResult) -> &[Percentile]| {
        let lines = courses.iter().map(|course| Line {
            name: course.who.label(),
            look: course.look,
            points: series::curve(course.runs, of)
                .into_iter()
                .map(|(percentile, ms)| (percentile, Some(ms)))
                .collect(),
            is_aside: false,
        });
        lines.filter(|line| !line.points.is_empty()).collect::<Vec<_>>()
    };
    let both = [
        (
            "healthy",
            "Latency by percentile, before the fault",
            line(|run| &run.healthy),
        ),
        (
            "during",
            "Latency by percentile, during the fault",
            line(|run| &run.during),
        ),
    ];
    // The same axis for both, so that they can be compared with one look.
    let ms = Axis::log(both.iter().flat_map(|(.., lines)| values(lines)));
    let drawn = both.into_iter().filter(|(.., lines)| !lines.is_empty());
    drawn
        .map(|(name, title, lines)| curve::chart(format!("{id}-{name}"), title, lines, Some(ms.clone())))
        .collect()
}

fn seconds_table(courses: &[Course<'_>]) -> Markup {
    let courses: Vec<(String, Vec<Moment>)> = courses
        .iter()
        .map(|course| (course.who.label(), series::thin(&course.moments, ROWS_MAX)))
        .collect();
    // Not everybody's run has the same length: the longest one names the rows.
    let times = courses
        .iter()
        .map(|(_, moments)| moments)
        .max_by_key(|moments| moments.len());
    let cell = |value: Option<f64>, text: fn(f64) -> String| value.map(text).unwrap_or_default();
    scrolling(&html! {
        table.dense.by-three {
            thead {
                tr {
                    th rowspan="2" scope="col" { "seconds since the fault" }
                    @for (name, _) in &courses { th colspan="3" scope="colgroup" { (name) } }
                }
                tr { @for _ in &courses {
                    th scope="col" { "p99, ms" } th scope="col" { "failed" } th scope="col" { "share, %" }
                } }
            }
            tbody {
                @for (index, row) in times.into_iter().flatten().enumerate() {
                    tr {
                        th scope="row" { (number(row.at_s)) }
                        @for (_, moments) in &courses {
                            @let moment = moments.get(index).filter(|moment| (moment.at_s - row.at_s).abs() < 0.5);
                            td { (cell(moment.and_then(|moment| moment.p99_ms), number)) }
                            td { (moment.filter(|m| m.requests > 0).map(|m| m.failed.to_string()).unwrap_or_default()) }
                            td { (cell(moment.and_then(|moment| moment.share), |share| number((share * 100.0).round()))) }
                        }
                    }
                }
            }
        }
    })
}

fn curve_table(courses: &[Course<'_>]) -> Markup {
    let healthy = |course: &Course<'_>| series::curve(course.runs, |run| &run.healthy);
    let during = |course: &Course<'_>| series::curve(course.runs, |run| &run.during);
    let curves: Vec<_> = courses
        .iter()
        .map(|course| (course.who.label(), healthy(course), during(course)))
        .collect();
    let longest = curves
        .iter()
        .flat_map(|(_, healthy, during)| [healthy, during])
        .max_by_key(|curve| curve.len());
    let at = |curve: &[(f64, f64)], percentile: f64| {
        let point = curve.iter().find(|(at, _)| (at - percentile).abs() < 1e-9);
        point.map(|(_, ms)| number(*ms)).unwrap_or_default()
    };
    scrolling(&html! {
        table.dense.by-two {
            thead {
                tr {
                    th rowspan="2" scope="col" { "percentile" }
                    @for (name, ..) in &curves { th colspan="2" scope="colgroup" { (name) ", ms" } }
                }
                tr { @for _ in &curves { th scope="col" { "before" } th scope="col" { "during" } } }
            }
            tbody {
                @for (percentile, _) in longest.into_iter().flatten() {
                    tr {
                        th scope="row" { (percentile) }
                        @for (_, healthy, during) in &curves {
                            td { (at(healthy, *percentile)) }
                            td { (at(during, *percentile)) }
                        }
                    }
                }
            }
        }
    })
}
