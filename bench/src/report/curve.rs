//! Latency curves: how long how many waited, with the same width for each nine, so that the tail can be seen.

use crate::report::axis::Axis;
use crate::report::chart::{Line, LineChart};
use crate::report::describe_lines;
use crate::report::numbers::{milliseconds, percentile};

/// The curves in one chart. Charts that are to be compared share an axis of `ms`; one by itself has its own.
pub(crate) fn chart(id: String, title: &str, lines: Vec<Line>, ms: Option<Axis>) -> LineChart<'_> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let below_all = points()
        .map(|(percentile, _)| *percentile)
        .filter(|at| *at < 100.0);
    LineChart {
        id,
        title,
        description: describe_lines("Each nine takes the same width", &lines, milliseconds),
        x: Axis::nines(below_all.fold(90.0, f64::max)),
        x_name: "percent of requests that waited less",
        x_text: percentile,
        y: ms.unwrap_or_else(|| Axis::log(points().filter_map(|(_, ms)| *ms))),
        y_text: milliseconds,
        fault: None,
        lines,
    }
}
