//! What a scenario came to, in tables: a short one beside the charts, and all figures below them.

use maud::{Markup, html};

use crate::report::look::{Cast, Who};
use crate::report::numbers::{milliseconds, number, percent, seconds, spread};
use crate::report::page::{scrolling, swatch};
use crate::report::standing::harm_per_thousand;
use crate::results::{ContenderResult, Figures};

/// One figure: its name, where it comes from, how it is written, and what it is.
struct Kind {
    name: &'static str,
    of: fn(&Figures) -> Option<f64>,
    text: fn(f64) -> String,
    meaning: &'static str,
}

#[rustfmt::skip]
const KINDS: [Kind; 18] = [
    kind("avoided harm", |f| f.avoided_harm, percent, "part of what the oracle avoids compared with no action"),
    kind("harm per 1,000 requests", harm_per_thousand, number,
         "1 for a failure, up to .2 for a request that waits a second longer than the healthy p99"),
    kind("requests", |f| Some(f.requests as f64), number, "of all users, after the warm-up"),
    kind("failed GETs", |f| Some(f.failed_gets as f64), number, "no answer, or one of 400 and above"),
    kind("failed POSTs", |f| Some(f.failed_posts as f64), number, "the same; most proxies may not try these again"),
    kind("writes twice", |f| Some(f.posts_twice as f64), number, "writes that took effect at two endpoints"),
    kind("writes lost", |f| f.posts_missing.map(|lost| lost as f64), number,
         "writes that users were told are done and that never took effect"),
    kind("healthy p99", |f| Some(f.healthy_p99_ms), milliseconds, "99 of 100 waited less before the fault"),
    kind("p50", |f| Some(f.p50_ms), milliseconds, "half waited less during the fault"),
    kind("p99", |f| Some(f.p99_ms), milliseconds, "99 of 100 waited less during the fault"),
    kind("p99.9", |f| Some(f.p999_ms), milliseconds, "999 of 1,000"),
    kind("longest wait", |f| Some(f.max_ms), milliseconds, "of anybody during the fault"),
    kind("detected after", |f| f.detect_s, seconds,
         "of the onset: foreshade's risk rises, or traffic to the faulty endpoint falls under 80 % of normal"),
    kind("traffic away after", |f| f.to_90_s, seconds, "of the onset: at most 10 % left at the faulty endpoint, for good"),
    kind("traffic back after", |f| f.recovery_s, seconds, "of healing, 80 % of normal, for good"),
    kind("reversals", |f| Some(f.reversals as f64), number, "turns of the share beyond away and back"),
    kind("attempts per request", |f| f.amplification, number, "attempts at endpoints; above 1 are retries"),
    kind("lateness of the load, p99", |f| Some(f.lag_p99_ms), milliseconds, "above 1 ms the run is in doubt"),
];

const fn kind(
    name: &'static str,
    of: fn(&Figures) -> Option<f64>,
    text: fn(f64) -> String,
    meaning: &'static str,
) -> Kind {
    Kind {
        name,
        of,
        text,
        meaning,
    }
}

/// Failed requests of both methods.
fn failed(figures: &Figures) -> Option<f64> {
    Some((figures.failed_gets + figures.failed_posts) as f64)
}

/// The figures that one looks for first, medians only, of those whose lines are beside.
pub(crate) fn short(contenders: &[&ContenderResult], shown: &[Who<'_>], cast: &Cast) -> Markup {
    let contenders = || {
        contenders
            .iter()
            .filter(|contender| shown.contains(&contender.who()))
    };
    let cell = |contender: &ContenderResult, of: fn(&Figures) -> Option<f64>, text: fn(f64) -> String| {
        html! { td {
            @match contender.figure(of) {
                Some(spread) => (text(spread.median)),
                None => "–",
            }
        } }
    };
    let has_seeds = contenders().any(|contender| contender.runs.len() > 1);
    html! {
        figure.short {
            figcaption { "What it came to" @if has_seeds { ", median of the seeds" } }
            table {
                thead { tr {
                    th scope="col" {}
                    th scope="col" { "failed" }
                    th scope="col" { "p99" }
                    th scope="col" { "seen after" }
                    th scope="col" { "avoided" }
                } }
                tbody { @for contender in contenders() {
                    tr.ours[contender.who().is_foreshade()] {
                        th scope="row" { (swatch(cast.look(&contender.contender))) (contender.who().label()) }
                        (cell(contender, failed, number))
                        (cell(contender, |figures| Some(figures.p99_ms), milliseconds))
                        (cell(contender, |figures| figures.detect_s, seconds))
                        (cell(contender, |figures| figures.avoided_harm, percent))
                    }
                } }
            }
        }
    }
}

/// Every figure with its spread. Contenders are columns: they are fewer.
pub(crate) fn full(contenders: &[&ContenderResult]) -> Markup {
    scrolling(&html! {
        table.figures {
            thead { tr {
                th scope="col" {}
                @for contender in contenders {
                    th scope="col" { (contender.who().label()) small { (seeds(contender.runs.len())) } }
                }
            } }
            tbody { @for kind in &KINDS {
                tr {
                    th scope="row" { (kind.name) }
                    @for contender in contenders { td {
                        @match contender.figure(kind.of) {
                            Some(figure) => {
                                @let (median, ends) = spread(figure, kind.text);
                                (median)
                                @if let Some(ends) = ends { small { (ends) } }
                                @if figure.runs < contender.runs.len() {
                                    small { "in " (figure.runs) " of " (contender.runs.len()) }
                                }
                            }
                            None => "–",
                        }
                    } }
                }
            } }
        }
    })
}

/// What the figures mean, once for all tables.
pub(crate) fn glossary() -> Markup {
    html! {
        details {
            summary { "What the figures mean" }
            dl.glossary { @for kind in &KINDS { dt { (kind.name) } dd { (kind.meaning) } } }
        }
    }
}

fn seeds(count: usize) -> String {
    match count {
        1 => "1 seed".to_owned(),
        count => format!("{} seeds", number(count as f64)),
    }
}

/// The promises that did not hold, each once, with how often.
pub(crate) fn broken(contenders: &[&ContenderResult]) -> Vec<String> {
    let mut counted: Vec<(&str, usize)> = Vec::new();
    let mut runs = 0;
    for contender in contenders {
        if contender.runs.iter().any(|run| !run.figures.broken.is_empty()) {
            runs += contender.runs.len();
        }
        for promise in contender.runs.iter().flat_map(|run| &run.figures.broken) {
            match counted.iter_mut().find(|(known, _)| known == promise) {
                Some((_, count)) => *count += 1,
                None => counted.push((promise, 1)),
            }
        }
    }
    counted
        .into_iter()
        .map(|(promise, count)| match runs {
            1 => promise.to_owned(),
            runs => format!("{promise} (in {count} of {runs} runs)"),
        })
        .collect()
}
