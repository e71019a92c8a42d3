//! Bars with their spread: one row per scenario or case, one lane per contender.
//!
//! Names and numbers are text of the page and the bars are placed in percent of their row, so that a narrow screen
//! makes the bars shorter and never the letters smaller. A bar ends in its contender's marker; the thin line across the
//! marker goes from one end of the spread to the other. What lies beyond the axis ends in an arrow.

use maud::{Markup, html};

use crate::report::axis::Axis;
use crate::report::look::LOOKS;
use crate::report::spread::Spread;

/// Height of a lane, and of the air around all lanes of a row.
const LANE: usize = 10;
const AIR: usize = 6;

/// A chart of bars.
pub(crate) struct Lanes<'a> {
    /// What is drawn, and in what.
    pub(crate) title: Markup,
    /// What each row is.
    pub(crate) row_name: &'a str,
    pub(crate) axis: Axis,
    /// Where bars begin.
    pub(crate) base: f64,
    pub(crate) text: fn(f64) -> String,
    pub(crate) rows: Vec<Row>,
}

/// A row.
pub(crate) struct Row {
    /// As it is shown, and as plain words.
    pub(crate) name: Markup,
    pub(crate) words: String,
    pub(crate) lanes: Vec<Lane>,
}

/// A bar.
pub(crate) struct Lane {
    pub(crate) name: String,
    pub(crate) look: usize,
    /// Absent where nothing was measured: the lane stays empty.
    pub(crate) spread: Option<Spread>,
    /// The same contender as it comes: a hollow marker without a bar.
    pub(crate) hollow: Option<Spread>,
}

impl Lanes<'_> {
    pub(crate) fn draw(&self) -> Markup {
        html! {
            figure.lanes {
                figcaption { (self.title) }
                div.lane-rows {
                    (self.scale())
                    @for row in &self.rows {
                        div.lane-name { (row.name) }
                        (self.row(row))
                    }
                    (self.scale())
                }
            }
        }
    }

    fn x(&self, value: f64) -> String {
        format!("{:.1}%", self.axis.place(value) * 100.0)
    }

    fn scale(&self) -> Markup {
        html! {
            div.lane-name.scale { (self.row_name) }
            svg.scale height="16" aria-hidden="true" {
                @for tick in &self.axis.ticks {
                    text x=(self.x(*tick)) y="12" { ((self.text)(*tick)) }
                }
            }
        }
    }

    fn row(&self, row: &Row) -> Markup {
        let height = row.lanes.len() * LANE + AIR;
        let words: Vec<String> = row
            .lanes
            .iter()
            .filter_map(|lane| Some(format!("{} {}", lane.name, (self.text)(lane.spread?.median))))
            .collect();
        html! {
            svg height=(height) role="img" {
                title { (row.words) ": " (words.join("; ")) }
                @for tick in &self.axis.ticks {
                    @let x = self.x(*tick);
                    line.grid x1=(x) x2=(x) y1="0" y2=(height) {}
                }
                @let base = self.x(self.base);
                line.base x1=(base) x2=(base) y1="0" y2=(height) {}
                @for (index, lane) in row.lanes.iter().enumerate() {
                    (self.lane(lane, AIR / 2 + index * LANE + LANE / 2))
                }
            }
        }
    }

    fn lane(&self, lane: &Lane, y: usize) -> Markup {
        html! {
            g.{ "k" (lane.look) } {
                @if let Some(spread) = lane.spread {
                    @let end = self.x(spread.median);
                    line.stem x1=(self.x(self.base)) x2=(end) y1=(y) y2=(y) {}
                    @if spread.runs > 1 {
                        line.whisker x1=(self.x(spread.low)) x2=(self.x(spread.high)) y1=(y) y2=(y) {}
                    }
                    use href=(self.shape(lane.look, spread.median)) x=(end) y=(y) {}
                }
                @if let Some(hollow) = lane.hollow {
                    use.hollow href=(self.shape(lane.look, hollow.median)) x=(self.x(hollow.median)) y=(y) {}
                }
            }
        }
    }

    /// The marker at the end of a bar.
    fn shape(&self, look: usize, end: f64) -> String {
        match (self.axis.is_off(end), end < self.base) {
            (false, _) => format!("#m{}", look % LOOKS),
            (true, true) => "#off-left".to_owned(),
            (true, false) => "#off-right".to_owned(),
        }
    }
}

/// A bar for a single number in a list or a table, from `from` to `to`, both 0 to 1 of its width.
pub(crate) fn bar(look: &str, from: f64, to: f64) -> Markup {
    let (left, right) = (from.min(to).clamp(0.0, 1.0), from.max(to).clamp(0.0, 1.0));
    html! {
        svg.bar height="12" aria-hidden="true" {
            rect.(look) x=(format!("{:.1}%", left * 100.0)) width=(format!("{:.1}%", (right - left) * 100.0)) y="1"
                height="10" {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::numbers::percent;

    fn chart(values: &[Option<f64>]) -> Lanes<'static> {
        let lane = |value: &Option<f64>| Lane {
            name: "a <b>".into(),
            look: 3,
            spread: value.map(|value| Spread::of([value - 0.1, value, value + 0.1]).unwrap()),
            hollow: value.and_then(|value| Spread::of([value / 2.0])),
        };
        Lanes {
            title: html! { "Title" },
            row_name: "scenario",
            axis: Axis::linear([0.0, 1.0]),
            base: 0.0,
            text: percent,
            rows: vec![Row {
                name: html! { "row" },
                words: "row".into(),
                lanes: values.iter().map(lane).collect(),
            }],
        }
    }

    #[test]
    fn a_row_of_bars_is_complete_in_itself() {
        let drawn = chart(&[Some(0.5), None, Some(-2.0)]).draw().into_string();
        insta::assert_snapshot!(drawn.replace('>', ">\n"));
    }

    #[test]
    fn what_was_not_measured_has_no_bar() {
        let bars = |values| {
            chart(values)
                .draw()
                .into_string()
                .matches("class=\"stem\"")
                .count()
        };
        assert_eq!(bars(&[Some(0.0), Some(0.5)]), 2);
        assert_eq!(bars(&[None, Some(0.5)]), 1);
    }
}
