//! What one load saw of its target: latency by percentile and over time, failures, and what the generator says of itself.
//!
//! Several loads are drawn into one chart of latency curves, too: two gateways, or one before and after a change, are what
//! people compare.

use maud::{Markup, html};

use crate::report::axis::Axis;
use crate::report::chart::{Line, LineChart};
use crate::report::curve;
use crate::report::input::{Input, Results};
use crate::report::look::LOOKS;
use crate::report::numbers::{bytes, milliseconds, number, percent, seconds};
use crate::report::page::{legend, scrolling};
use crate::report::{describe_lines, of_all};
use crate::results::{LoadResults, Pacing, Second};

/// Looks of the two lines of one chart.
const P99: usize = 0;
const P50: usize = 7;

/// Points of a line, as in scenarios.
const POINTS_MAX: usize = 240;

/// Failures are drawn on at least this much of an axis.
const FAILED_LEAST: f64 = 0.01;

/// One sentence for the first screen.
pub(crate) fn lead(results: &LoadResults) -> String {
    let p99 = at(results, 99.0).map(|ms| format!("; 99 of 100 waited less than {}", milliseconds(ms)));
    let failed = match results.failed {
        0 => "none of them failed".to_owned(),
        failed => format!(
            "{} of them failed",
            percent(failed as f64 / results.requests.max(1) as f64)
        ),
    };
    format!(
        "{} was asked {} times in {}, and {failed}{}.",
        results.target,
        number(results.requests as f64),
        seconds(results.lasted_s),
        p99.unwrap_or_default()
    )
}

fn at(results: &LoadResults, percentile: f64) -> Option<f64> {
    let point = results
        .latency
        .iter()
        .find(|point| (point.percentile - percentile).abs() < 1e-9);
    point.map(|point| point.ms)
}

/// Everything about one file.
pub(crate) fn section(results: &LoadResults, prefix: &str) -> Markup {
    html! {
        section {
            h2 { "Load on " (results.target) }
            @if results.pacing == Pacing::Closed {
                p.note {
                    "A closed loop: each request waited for the answer to another, so these latencies leave out what a "
                    "stalled target would have done to those who were not asked."
                }
            }
            (legend(&[("99th percentile".to_owned(), P99), ("median".to_owned(), P50)]))
            div.charts {
                @for chart in charts(results, prefix) { (chart.draw()) }
                (figures(results))
            }
            @if !results.promises.is_empty() { (promises(results)) }
            details.keep { summary { "Paths and outcomes" } (paths(results)) (outcomes(results)) }
            details { summary { "Numbers behind the latency curve" } (curve_table(results)) }
            details { summary { "Numbers behind the lines" } (seconds_table(results)) }
        }
    }
}

fn line(name: &str, look: usize, points: Vec<(f64, Option<f64>)>) -> Line {
    Line {
        name: name.to_owned(),
        look,
        points,
        is_aside: false,
    }
}

fn latencies(name: &str, look: usize, results: &LoadResults) -> Line {
    let points = results
        .latency
        .iter()
        .map(|point| (point.percentile, Some(point.ms)));
    line(name, look, points.collect())
}

fn over_time(seconds: &[Second], of: impl Fn(&Second) -> Option<f64>) -> Vec<(f64, Option<f64>)> {
    let every = seconds.len().div_ceil(POINTS_MAX).max(1);
    let points = seconds.chunks(every).filter_map(|chunk| {
        let worst = chunk.iter().filter_map(&of).reduce(f64::max);
        Some((chunk.first()?.at_s + 0.5 * every as f64, worst))
    });
    points.collect()
}

fn charts<'a>(results: &LoadResults, prefix: &str) -> Vec<LineChart<'a>> {
    let asked = |second: &Second| second.requests > 0;
    let p99 = over_time(&results.seconds, |second| asked(second).then_some(second.p99_ms));
    let p50 = over_time(&results.seconds, |second| asked(second).then_some(second.p50_ms));
    let failed = over_time(&results.seconds, |second| {
        asked(second).then(|| second.failed as f64 / second.requests as f64)
    });
    let last = results.seconds.last().map_or(1.0, |second| second.at_s + 1.0);
    let chart = |name: &str, title, y: Axis, y_text, lines: Vec<Line>| LineChart {
        id: format!("{prefix}-{name}"),
        title,
        description: describe_lines("Second by second", &lines, y_text),
        x: Axis::exact(results.seconds.first().map_or(0.0, |second| second.at_s), last),
        x_name: "seconds since the start",
        x_text: number,
        y,
        y_text,
        fault: None,
        lines,
    };
    let mut charts = Vec::new();
    if !results.latency.is_empty() {
        let line = latencies("latency", P99, results);
        charts.push(curve::chart(
            format!("{prefix}-curve"),
            "Latency by percentile",
            vec![line],
            None,
        ));
    }
    if !results.seconds.is_empty() {
        let values = p99.iter().chain(&p50).filter_map(|(_, ms)| *ms);
        let axis = Axis::log(values.collect::<Vec<_>>());
        let lines = vec![line("99th percentile", P99, p99), line("median", P50, p50)];
        charts.push(chart(
            "latency",
            "Latency of each second",
            axis,
            milliseconds,
            lines,
        ));
        let values = failed.iter().filter_map(|(_, part)| *part);
        let axis = Axis::linear(values.chain([0.0, FAILED_LEAST]).collect::<Vec<_>>());
        let lines = vec![line("failed", P99, failed)];
        charts.push(chart("failed", "Requests that failed", axis, percent, lines));
    }
    charts
}

fn figures(results: &LoadResults) -> Markup {
    let generator = &results.generator;
    let mut rows = vec![
        ("requests", number(results.requests as f64)),
        ("failed", of_all(results.failed, results.requests)),
        (
            "writes that failed",
            of_all(results.failed_writes, results.writes),
        ),
        ("answered per second", number(results.rate)),
        ("bytes per second", bytes(results.bytes_per_second)),
        ("mean latency", milliseconds(results.mean_ms)),
        ("still under way at the end", number(results.unfinished as f64)),
        ("most connections", number(generator.connections_peak as f64)),
    ];
    if let Some(rate) = results.intended_rate {
        rows.insert(3, ("meant per second", number(rate)));
    }
    if let Some(lag) = generator.lag_p99_ms {
        rows.push(("lateness of the load, p99", milliseconds(lag)));
    }
    html! {
        figure.short {
            figcaption { "What it came to" }
            table { tbody { @for (name, value) in rows { tr { th scope="row" { (name) } td { (value) } } } } }
        }
    }
}

fn promises(results: &LoadResults) -> Markup {
    html! {
        h3 { "What was asked of it" }
        (scrolling(&html! { table.figures {
            thead { tr { th scope="col" { "promise" } th scope="col" { "measured" } th scope="col" { "verdict" } } }
            tbody { @for promise in &results.promises { tr {
                th scope="row" { (promise.promise) }
                td { (promise.measured) }
                td { @if promise.holds { "kept" } @else { strong.behind { "broken" } } }
            } } }
        } }))
    }
}

fn paths(results: &LoadResults) -> Markup {
    scrolling(&html! { table.figures {
        thead { tr {
            th scope="col" { "path" }
            th scope="col" { "requests" }
            th scope="col" { "failed" }
            th scope="col" { "p50" }
            th scope="col" { "p99" }
        } }
        tbody { @for path in &results.paths { tr {
            th scope="row" { code { (path.path) } }
            td { (number(path.requests as f64)) }
            td { (number(path.failed as f64)) }
            td { (milliseconds(path.p50_ms)) }
            td { (milliseconds(path.p99_ms)) }
        } } }
    } })
}

fn outcomes(results: &LoadResults) -> Markup {
    scrolling(&html! { table.figures {
        thead { tr { th scope="col" { "outcome" } th scope="col" { "requests" } } }
        tbody { @for (outcome, count) in &results.outcomes { tr {
            th scope="row" { (outcome) }
            td { (of_all(*count, results.requests)) }
        } } }
    } })
}

fn curve_table(results: &LoadResults) -> Markup {
    scrolling(&html! { table.dense {
        thead { tr { th scope="col" { "percentile" } th scope="col" { "ms" } } }
        tbody { @for point in &results.latency { tr {
            th scope="row" { (point.percentile) }
            td { (number(point.ms)) }
        } } }
    } })
}

fn seconds_table(results: &LoadResults) -> Markup {
    let every = results.seconds.len().div_ceil(POINTS_MAX).max(1);
    scrolling(&html! { table.dense {
        thead { tr {
            th scope="col" { "second" }
            th scope="col" { "requests" }
            th scope="col" { "failed" }
            th scope="col" { "p50, ms" }
            th scope="col" { "p99, ms" }
        } }
        tbody { @for second in results.seconds.iter().step_by(every) { tr {
            th scope="row" { (number(second.at_s)) }
            td { (second.requests) }
            td { (second.failed) }
            td { @if second.requests > 0 { (number(second.p50_ms)) } }
            td { @if second.requests > 0 { (number(second.p99_ms)) } }
        } } }
    } })
}

/// The latency curves of all loads in one chart; absent unless there are two at least.
pub(crate) fn together(inputs: &[Input]) -> Option<Markup> {
    let loads = inputs.iter().filter_map(|input| match &input.results {
        Results::Load(results) => Some((input.name.trim_end_matches(".json"), results)),
        _ => None,
    });
    let lines: Vec<Line> = loads
        .enumerate()
        .map(|(index, (name, results))| latencies(name, index % LOOKS, results))
        .collect();
    if lines.len() < 2 {
        return None;
    }
    let names: Vec<(String, usize)> = lines.iter().map(|line| (line.name.clone(), line.look)).collect();
    let chart = curve::chart("loads".to_owned(), "Latency by percentile", lines, None);
    Some(html! { section { h2 { "All loads" } (legend(&names)) div.charts { (chart.draw()) } } })
}
