//! What a load came to, for people and for other programs: the same figures as a table and as JSON.
//!
//! The generator reports on itself as loudly as on the target: whatever may make a figure its own and not the target's is
//! among the doubts, and a table with doubts ends with them.

use std::fmt::Write;

use hdrhistogram::Histogram;

use crate::load::record::Outcome;
use crate::load::schedule::Arrivals;
use crate::load::tally::{PathTally, ms};
use crate::load::{LoadOptions, Totals};
use crate::results::{Generator, LoadResults, Pacing, PathResult, Promise, Protocol, Provenance};

/// Lag above this is told, in microseconds: users of a gateway notice milliseconds.
const LAG_US_MAX: u64 = 1_000;

/// A thread that rests for less than the rest of this may be the limit itself.
const BUSY_MAX: f64 = 0.9;

/// Part of the time for which others may have had the thread's core.
const STARVED_MAX: f64 = 0.05;

/// What is known beside the totals.
#[derive(Clone, Debug)]
pub struct Circumstances<'a> {
    /// Where it was made.
    pub provenance: Provenance,
    /// The target as it was named.
    pub target: &'a str,
    /// How users spoke.
    pub protocol: Protocol,
    /// What was asked for.
    pub options: &'a LoadOptions,
    /// Whether somebody ended it early.
    pub interrupted: bool,
    /// Promises and their verdicts.
    pub promises: Vec<Promise>,
}

/// Everything that is to be said about a load.
pub fn results(totals: &Totals, circumstances: Circumstances<'_>) -> LoadResults {
    let (tally, options) = (&totals.tally, circumstances.options);
    let open = options.closed.is_none();
    let paths = options.mix.paths.iter().zip(&tally.paths);
    let path = |((path, _), tally): (&(String, f64), &PathTally)| PathResult {
        path: path.clone(),
        requests: tally.counts.requests,
        failed: tally.counts.failed,
        p50_ms: ms(&tally.latency, 0.5),
        p99_ms: ms(&tally.latency, 0.99),
    };
    LoadResults {
        target: circumstances.target.to_owned(),
        protocol: circumstances.protocol,
        pacing: match (open, options.arrivals) {
            (false, _) => Pacing::Closed,
            (true, Arrivals::Constant) => Pacing::Constant,
            (true, Arrivals::Poisson) => Pacing::Poisson,
        },
        intended_rate: open.then(|| options.rate.mean(options.length)),
        lasted_s: totals.lasted.as_secs_f64(),
        warm_up_s: options.warm_up.as_secs_f64(),
        interrupted: circumstances.interrupted,
        requests: tally.all.requests,
        failed: tally.all.failed,
        writes: tally.writes.requests,
        failed_writes: tally.writes.failed,
        outcomes: tally
            .outcomes
            .iter()
            .map(|(outcome, count)| (outcome.to_string(), *count))
            .collect(),
        unfinished: totals.unfinished,
        rate: totals.rate(),
        bytes_per_second: tally.body_bytes as f64 / totals.lasted.as_secs_f64().max(1e-3),
        mean_ms: tally.latency.mean() / 1e3,
        latency: tally.curve(),
        seconds: tally.seconds(),
        paths: paths.map(path).collect(),
        generator: generator(totals, options),
        promises: circumstances.promises,
        provenance: circumstances.provenance,
    }
}

fn generator(totals: &Totals, options: &LoadOptions) -> Generator {
    let lag = &totals.tally.lag;
    let lag_at = |part| options.closed.is_none().then(|| ms(lag, part));
    Generator {
        lag_p50_ms: lag_at(0.5),
        lag_p99_ms: lag_at(0.99),
        lag_max_ms: lag_at(1.0),
        busy: totals.occupation.map(|occupation| occupation.busy),
        starved: totals.occupation.map(|occupation| occupation.starved),
        waited: totals.tally.waited,
        connections_peak: totals.connections_peak as u64,
        connections_opened: totals.connections_opened,
        doubts: doubts(totals, options),
    }
}

/// Reasons not to take the figures for the target's.
fn doubts(totals: &Totals, options: &LoadOptions) -> Vec<String> {
    let (tally, mut doubts) = (&totals.tally, Vec::new());
    if let Some(lag) = late(&tally.lag) {
        doubts.push(lag);
    }
    if let Some(occupation) = totals.occupation {
        if occupation.busy > BUSY_MAX {
            doubts.push(format!(
                "the generator was busy for {:.0} % of the time: it, not the target, may be the limit",
                occupation.busy * 100.0
            ));
        }
        if occupation.starved > STARVED_MAX {
            doubts.push(format!(
                "others had the generator's core for {:.0} % of the time: give it one of its own",
                occupation.starved * 100.0
            ));
        }
    }
    let overrun = tally.outcomes.get(&Outcome::OVERRUN);
    if let Some(overrun) = overrun {
        doubts.push(format!(
            "{overrun} requests were given up because no connection came free for them, or this machine had no port or \
             descriptor left: {} connections are too few for this rate and this target",
            options.connections_max
        ));
    } else if tally.waited > 0 {
        doubts.push(format!(
            "{} requests waited for one of the {} connections: their latency holds that wait",
            tally.waited, options.connections_max
        ));
    }
    doubts
}

/// How late requests left, if any left later than it may pass unmentioned.
fn late(lag: &Histogram<u64>) -> Option<String> {
    let late = lag.len() - lag.count_between(0, LAG_US_MAX);
    if late == 0 {
        return None;
    }
    let (p99_ms, max_ms) = (ms(lag, 0.99), ms(lag, 1.0));
    let share = late as f64 / lag.len() as f64;
    let verdict = if p99_ms * 1e3 > LAG_US_MAX as f64 {
        "the generator, not the target, is the limit"
    } else {
        "the highest percentiles hold the generator's own lag"
    };
    Some(format!(
        "{late} requests ({:.3} %) left more than 1 ms after their time (p99 {p99_ms:.3} ms, \
         at most {max_ms:.3} ms): {verdict}",
        share * 100.0
    ))
}

/// The table for people.
pub fn table(results: &LoadResults) -> String {
    let mut text = format!(
        "{}\n\n{}\n{}",
        heading(results),
        counts(results),
        latencies(results)
    );
    // Writing to a string cannot fail.
    let _ = writeln!(text, "\n  {}", of_the_generator(&results.generator));
    for doubt in &results.generator.doubts {
        let _ = writeln!(text, "  doubt: {doubt}");
    }
    for promise in &results.promises {
        let verdict = if promise.holds { "kept  " } else { "BROKEN" };
        let _ = writeln!(text, "  {verdict} {}: {}", promise.promise, promise.measured);
    }
    text.truncate(text.trim_end().len());
    text
}

fn counts(results: &LoadResults) -> String {
    let bytes = match results.bytes_per_second {
        rate if rate < 1e6 => format!("{:.1} kB/s", rate / 1e3),
        rate => format!("{:.1} MB/s", rate / 1e6),
    };
    let part = results.failed as f64 / results.requests.max(1) as f64;
    let mut text = format!(
        "  requests  {:>10}   {:.1}/s answered in time, {bytes}\n  failed    {:>10}   {:.3} %{}\n",
        results.requests,
        results.rate,
        results.failed,
        part * 100.0,
        reasons(results)
    );
    if results.writes > 0 {
        let failed = results.failed_writes;
        let _ = writeln!(
            text,
            "  writes    {:>10}   {failed} of them failed",
            results.writes
        );
    }
    if results.unfinished > 0 {
        let unfinished = results.unfinished;
        let _ = writeln!(
            text,
            "  cut off   {unfinished:>10}   were under way and count nowhere"
        );
    }
    text
}

fn latencies(results: &LoadResults) -> String {
    let at = |percentile: f64| {
        let mut points = results.latency.iter();
        let point = points.find(|point| (point.percentile - percentile).abs() < 1e-9);
        point.map_or(f64::NAN, |point| point.ms)
    };
    let columns = [
        ("mean", results.mean_ms),
        ("p50", at(50.0)),
        ("p90", at(90.0)),
        ("p99", at(99.0)),
        ("p99.9", at(99.9)),
        ("p99.99", at(99.99)),
        ("max", at(100.0)),
    ];
    let mut text = format!(
        "  latency in ms, from {}\n  {}\n  {}\n",
        start_of_latency(results.pacing),
        columns.map(|(name, _)| format!("{name:>10}")).concat(),
        columns.map(|(_, ms)| format!("{ms:>10.3}")).concat()
    );
    if results.paths.len() > 1 {
        let _ = writeln!(
            text,
            "\n  {:>10}{:>10}{:>10}{:>10}  path",
            "requests", "failed", "p50", "p99"
        );
        for path in &results.paths {
            let _ = writeln!(
                text,
                "  {:>10}{:>10}{:>10.3}{:>10.3}  {}",
                path.requests, path.failed, path.p50_ms, path.p99_ms, path.path
            );
        }
    }
    text
}

fn heading(results: &LoadResults) -> String {
    let protocol = match results.protocol {
        Protocol::Http1 => "HTTP/1.1",
        Protocol::Https1 => "HTTP/1.1 over TLS",
        Protocol::H2c => "HTTP/2 with prior knowledge",
        Protocol::H2 => "HTTP/2 over TLS",
        Protocol::Tcp => "TCP",
    };
    let pacing = match (results.pacing, results.intended_rate) {
        (Pacing::Closed, _) | (_, None) => "closed loop".to_owned(),
        (Pacing::Poisson, Some(rate)) => format!("{rate}/s meant, as of independent users"),
        (Pacing::Constant, Some(rate)) => format!("{rate}/s meant, evenly"),
    };
    let early = if results.interrupted { ", ended early" } else { "" };
    format!(
        "{}: {protocol}, {pacing}, {:.1} s{early}",
        results.target, results.lasted_s
    )
}

fn start_of_latency(pacing: Pacing) -> &'static str {
    match pacing {
        Pacing::Poisson | Pacing::Constant => "the intended start; failures included",
        Pacing::Closed => "the actual start: what a stall did to those who were not asked is not in it",
    }
}

/// What failed requests met, the most frequent first.
fn reasons(results: &LoadResults) -> String {
    let failed = |outcome: &str| !outcome.parse::<u16>().is_ok_and(|status| status < 400);
    let mut reasons: Vec<_> = results
        .outcomes
        .iter()
        .filter(|(outcome, _)| failed(outcome))
        .collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let reasons: Vec<_> = reasons
        .iter()
        .map(|(outcome, count)| format!("{count} {outcome}"))
        .collect();
    if reasons.is_empty() {
        String::new()
    } else {
        format!(": {}", reasons.join(", "))
    }
}

fn of_the_generator(generator: &Generator) -> String {
    let lag = match (generator.lag_p50_ms, generator.lag_p99_ms, generator.lag_max_ms) {
        (Some(p50), Some(p99), Some(max)) => {
            format!("requests left {p50:.3} ms late (p50; p99 {p99:.3}, at most {max:.3}); ")
        }
        _ => String::new(),
    };
    let busy = generator
        .busy
        .map(|busy| format!("busy for {:.0} % of the time; ", busy * 100.0));
    format!(
        "generator: {lag}{}{} connections at once, {} opened",
        busy.unwrap_or_default(),
        generator.connections_peak,
        generator.connections_opened
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::load::Closed;
    use crate::load::occupation::Occupation;
    use crate::load::record::Record;
    use crate::load::record::tests::get;
    use crate::load::tally::Tally;

    fn options() -> LoadOptions {
        LoadOptions::steady("127.0.0.1:80".parse().unwrap(), 10.0, Duration::from_secs(10))
    }

    /// 100 requests that left so late, and took 5 ms.
    fn totals(lag_us: u64) -> Totals {
        let mut tally = Tally::new(5, Duration::ZERO, Duration::from_secs(10), Duration::from_secs(2));
        for at in 0..100 {
            tally.note(&get(at * 100, 5, 200), lag_us, 100);
        }
        Totals {
            lasted: Duration::from_secs(10),
            ..Totals::of(tally)
        }
    }

    fn summed_up(totals: &Totals, options: &LoadOptions) -> LoadResults {
        let provenance = Provenance {
            format: crate::results::FORMAT,
            command: String::new(),
            cores: 2,
            processor: "P".into(),
            versions: BTreeMap::new(),
            skipped: BTreeMap::new(),
        };
        let circumstances = Circumstances {
            provenance,
            target: "http://shop.example",
            protocol: Protocol::Http1,
            options,
            interrupted: false,
            promises: "p99<20ms,errors<0.1%"
                .parse::<crate::load::slo::Slo>()
                .unwrap()
                .judge(totals),
        };
        results(totals, circumstances)
    }

    #[test]
    fn own_lag_above_a_millisecond_is_never_hidden() {
        let doubts = |totals: &Totals| summed_up(totals, &options()).generator.doubts.join("\n");
        assert_eq!(doubts(&totals(900)), "");
        assert!(doubts(&totals(1_500)).contains("the generator, not the target, is the limit"));
        // A single one shows, too.
        let mut one = totals(10);
        for _ in 0..1_000 {
            one.tally.note(&get(0, 5, 200), 10, 0);
        }
        one.tally.note(&get(0, 5, 200), 4_000, 0);
        let doubt = doubts(&one);
        assert!(
            doubt.starts_with("1 requests (0.091 %) left more than 1 ms after their time"),
            "{doubt}"
        );
        assert!(doubt.contains("hold the generator's own lag"), "{doubt}");
    }

    #[test]
    fn a_generator_that_never_rests_is_named_as_the_limit_in_a_closed_loop_too() {
        let mut options = options();
        options.closed = Some(Closed { lines: 4, rate: None });
        let mut totals = totals(0);
        totals.occupation = Some(Occupation {
            busy: 0.97,
            starved: 0.2,
        });
        let results = summed_up(&totals, &options);
        assert_eq!(results.generator.doubts.len(), 2);
        assert!(results.generator.doubts[0].contains("busy for 97 %"));
        assert_eq!(
            (
                results.generator.lag_p99_ms,
                results.pacing,
                results.intended_rate
            ),
            (None, Pacing::Closed, None)
        );
    }

    #[test]
    fn requests_that_found_no_connection_are_the_load_own_failure() {
        let mut totals = totals(0);
        totals.tally.note(
            &Record {
                outcome: Outcome::OVERRUN,
                ..get(0, 5, 200)
            },
            0,
            0,
        );
        assert!(summed_up(&totals, &options()).generator.doubts[0].starts_with("1 requests were given up"));
    }

    #[test]
    fn the_table_says_what_was_measured_and_the_json_can_be_read_back() {
        let results = summed_up(&totals(200), &options());
        let table = table(&results);
        let first = "http://shop.example: HTTP/1.1, 10/s meant, as of independent users, 10.0 s\n";
        assert!(table.starts_with(first), "{table}");
        for part in [
            "requests         100   10.0/s answered in time, 1.0 kB/s",
            "failed             0   0.000 %",
            "kept   p99<20ms: 5.003 ms",
            "generator: requests left 0.200 ms late (p50; p99 0.200, at most 0.200)",
        ] {
            assert!(table.contains(part), "{part}\n{table}");
        }
        let json = serde_json::to_string(&results).unwrap();
        assert_eq!(serde_json::from_str::<LoadResults>(&json).unwrap(), results);
    }

    #[test]
    fn failures_are_told_by_what_they_met() {
        let mut totals = totals(0);
        for _ in 0..3 {
            totals.tally.note(&get(0, 1, 503), 0, 0);
        }
        totals.tally.note(
            &Record {
                outcome: Outcome::CUT,
                post: true,
                ..get(0, 1, 200)
            },
            0,
            0,
        );
        let table = table(&summed_up(&totals, &options()));
        assert!(table.contains("3.846 %: 3 503, 1 cut"), "{table}");
        assert!(table.contains("BROKEN errors<0.1%: 3.8462 %"), "{table}");
    }
}
