//! What a load is judged by: `p99<20ms,errors<0.1%,rate>950`.
//!
//! Parsed before the first request, so that a slip is not found at the end of an hour. Every bound is strict or not as it
//! is written. Where nothing was measured no promise holds: a run without requests must not pass.

use std::fmt;
use std::str::FromStr;

use crate::load::Totals;
use crate::load::tally::ms;
use crate::quantity;
use crate::results::Promise;

/// Promises, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slo(Vec<Bound>);

/// One promise.
#[derive(Clone, Debug, PartialEq)]
struct Bound {
    text: String,
    figure: Figure,
    order: Order,
    limit: f64,
}

/// What is bounded. Latencies are in milliseconds, errors a part of all requests, the rate is what was answered well.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Figure {
    Quantile(f64),
    Mean,
    Errors,
    Rate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Below,
    AtMost,
    Above,
    AtLeast,
}

/// A promise that cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SloError {
    /// No `<`, `<=`, `>` or `>=`.
    #[error("{0:?} has no bound: expected something like p99<20ms, max<1s, errors<0.1% or rate>950")]
    Order(String),
    /// Not a figure.
    #[error(
        "{0:?} is not measured: there are p50, p90, p99, p99.9 (any percentile), max, mean, errors and rate"
    )]
    Figure(String),
    /// The bound does not fit the figure.
    #[error("{text:?}: {why}")]
    Limit {
        /// The promise.
        text: String,
        /// What is wrong with its bound.
        why: String,
    },
    /// Nothing is promised.
    #[error("there is an empty promise; expected something like p99<20ms,errors<0.1%")]
    Empty,
}

impl FromStr for Slo {
    type Err = SloError;

    fn from_str(text: &str) -> Result<Self, SloError> {
        text.split(',')
            .map(|bound| bound.trim().parse())
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl FromStr for Bound {
    type Err = SloError;

    fn from_str(text: &str) -> Result<Self, SloError> {
        if text.is_empty() {
            return Err(SloError::Empty);
        }
        // The longer ones first, or `<=` would be a `<` before something odd.
        let orders = [
            ("<=", Order::AtMost),
            (">=", Order::AtLeast),
            ("<", Order::Below),
            (">", Order::Above),
        ];
        let split = |(sign, order)| {
            text.split_once(sign)
                .map(|(figure, limit)| (figure.trim(), limit.trim(), order))
        };
        let (figure, limit, order) = orders
            .into_iter()
            .find_map(split)
            .ok_or_else(|| SloError::Order(text.to_owned()))?;
        let figure: Figure = figure.parse()?;
        let limit = figure.limit(limit).map_err(|why| SloError::Limit {
            text: text.to_owned(),
            why,
        })?;
        Ok(Self {
            text: text.to_owned(),
            figure,
            order,
            limit,
        })
    }
}

impl FromStr for Figure {
    type Err = SloError;

    fn from_str(text: &str) -> Result<Self, SloError> {
        match text {
            "max" => return Ok(Self::Quantile(1.0)),
            "mean" => return Ok(Self::Mean),
            "errors" => return Ok(Self::Errors),
            "rate" => return Ok(Self::Rate),
            _ => {}
        }
        let percentile = text
            .strip_prefix('p')
            .and_then(|digits| digits.parse::<f64>().ok());
        percentile
            .filter(|percentile| (0.0..=100.0).contains(percentile))
            .map(|percentile| Self::Quantile(percentile / 100.0))
            .ok_or_else(|| SloError::Figure(text.to_owned()))
    }
}

impl Figure {
    fn limit(self, text: &str) -> Result<f64, String> {
        match self {
            Self::Quantile(_) | Self::Mean => match text.parse::<f64>() {
                Ok(_) => Err("a latency needs a unit, for example 20ms".to_owned()),
                Err(_) => quantity::duration(text).map(|limit| limit.as_secs_f64() * 1e3),
            },
            Self::Errors => quantity::share(text),
            Self::Rate => quantity::rate(text.strip_suffix("/s").unwrap_or(text)),
        }
    }

    /// `None` where there was nothing to measure.
    fn measure(self, totals: &Totals) -> Option<f64> {
        let tally = &totals.tally;
        if tally.all.requests == 0 {
            return None;
        }
        Some(match self {
            Self::Quantile(part) => ms(&tally.latency, part),
            Self::Mean => tally.latency.mean() / 1e3,
            Self::Errors => tally.all.failed_part(),
            Self::Rate => totals.rate(),
        })
    }

    fn show(self, value: f64) -> String {
        match self {
            Self::Quantile(_) | Self::Mean => format!("{value:.3} ms"),
            Self::Errors => format!("{:.4} %", value * 100.0),
            Self::Rate => format!("{value:.1}/s"),
        }
    }
}

impl Slo {
    /// Each promise with its verdict.
    pub fn judge(&self, totals: &Totals) -> Vec<Promise> {
        self.0.iter().map(|bound| bound.judge(totals)).collect()
    }
}

impl Bound {
    fn judge(&self, totals: &Totals) -> Promise {
        let measured = self.figure.measure(totals);
        let holds = measured.is_some_and(|value| match self.order {
            Order::Below => value < self.limit,
            Order::AtMost => value <= self.limit,
            Order::Above => value > self.limit,
            Order::AtLeast => value >= self.limit,
        });
        Promise {
            promise: self.text.clone(),
            measured: measured.map_or("nothing was measured".to_owned(), |value| self.figure.show(value)),
            holds,
        }
    }
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<_> = self.0.iter().map(|bound| bound.text.as_str()).collect();
        f.write_str(&texts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::record::tests::get;
    use crate::load::tally::Tally;

    /// 1,000 requests of 1 to 1,000 ms, of which the first `failed` failed, within 10 s.
    fn totals(failed: u32) -> Totals {
        let mut tally = Tally::new(1, Duration::ZERO, Duration::from_secs(10), Duration::from_secs(2));
        for latency_ms in 1..=1_000 {
            let status = if latency_ms <= failed { 503 } else { 200 };
            tally.note(&get(0, latency_ms, status), 0, 0);
        }
        Totals {
            lasted: Duration::from_secs(10),
            ..Totals::of(tally)
        }
    }

    fn holds(slo: &str, totals: &Totals) -> bool {
        slo.parse::<Slo>()
            .unwrap()
            .judge(totals)
            .iter()
            .all(|promise| promise.holds)
    }

    #[test]
    fn each_figure_is_bounded_on_the_side_that_is_written() {
        let totals = totals(10);
        for slo in [
            "p50<501ms",
            "p50>=499ms",
            "p99<1s",
            "p99.9<=1001ms",
            "max<1.1s",
            "mean<510ms",
            "p90>890000us",
            "errors<=1%",
            "errors>0.5%",
            "rate>98.9",
            "rate>=99/s",
            " p50 < 501ms , errors <= 1% ",
        ] {
            assert!(holds(slo, &totals), "{slo}");
        }
        for slo in [
            "p50<490ms",
            "max<900ms",
            "errors<1%",
            "rate>99",
            "p99<2s,errors<0.1%",
        ] {
            assert!(!holds(slo, &totals), "{slo}");
        }
    }

    #[test]
    fn nothing_measured_keeps_no_promise() {
        let nothing = Totals::of(Tally::new(
            1,
            Duration::ZERO,
            Duration::from_secs(10),
            Duration::from_secs(2),
        ));
        assert!(!holds("p99<20ms", &nothing) && !holds("errors<1%", &nothing));
    }

    #[test]
    fn a_verdict_says_what_was_measured() {
        let promises = "errors<0.1%,p50<1s".parse::<Slo>().unwrap().judge(&totals(10));
        assert_eq!(
            (promises[0].promise.as_str(), promises[0].holds),
            ("errors<0.1%", false)
        );
        assert_eq!(promises[0].measured, "1.0000 %");
        assert!(promises[1].measured.ends_with(" ms") && promises[1].holds);
    }

    #[test]
    fn a_slip_is_named() {
        let said = |text: &str| text.parse::<Slo>().unwrap_err().to_string();
        let slips = [
            ("p99", "has no bound"),
            ("", "empty promise"),
            ("p99<20ms,,errors<1%", "empty promise"),
            ("p101<1ms", "is not measured"),
            ("latency<1ms", "is not measured"),
            ("p99<20", "needs a unit"),
            ("p99<fast", "is not a duration"),
            ("errors<1ms", "is not a part"),
            ("errors<200%", "between 0% and 100%"),
            ("rate>many", "is not a rate"),
            ("p99=20ms", "has no bound"),
        ];
        for (text, part) in slips {
            assert!(said(text).contains(part), "{text}: {}", said(text));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,40}") {
            let _ = text.parse::<Slo>();
        }
    }
}
