//! Line charts as SVG, small and without a script: axes, lines with gaps, the stretch of the fault, names at the lines.
//!
//! Colours, dashes and fonts are the style sheet's, so that the same chart serves on a light screen, on a dark one and in
//! print. A chart says by title and description what it shows; its numbers stand in a table beside it.

use std::fmt::Write;

use maud::{Markup, html};

use crate::report::axis::Axis;
use crate::report::label::{self, Area, Point};

/// The picture's size, in the units of its text: at this size it stands three in a row on a wide screen, and hardly
/// shrinks on a narrow one.
const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 230.0;

/// Where the lines are; around it stand ticks and names of axes.
const PLOT: Area = Area {
    left: 48.0,
    top: 18.0,
    right: 392.0,
    bottom: 192.0,
};

/// Width of a character of a name, on average, and a little more.
const CHARACTER: f64 = 6.3;

/// Markers per line: enough to tell it by them, and few enough to leave the line visible.
const MARKERS: usize = 6;

/// Two words above the fault need this much room beside each other.
const WORD: f64 = 36.0;

/// One chart.
pub(crate) struct LineChart<'a> {
    /// Unique on the page.
    pub(crate) id: String,
    /// What is drawn, and in what.
    pub(crate) title: &'a str,
    /// The same for whoever cannot see it, with what there is to see.
    pub(crate) description: String,
    pub(crate) x: Axis,
    pub(crate) x_name: &'a str,
    pub(crate) x_text: fn(f64) -> String,
    pub(crate) y: Axis,
    pub(crate) y_text: fn(f64) -> String,
    /// From onset to healing, on the x axis.
    pub(crate) fault: Option<(f64, f64)>,
    /// The first one lies on top.
    pub(crate) lines: Vec<Line>,
}

/// One line.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) look: usize,
    /// A value that is absent interrupts the line.
    pub(crate) points: Vec<(f64, Option<f64>)>,
    /// Whether it stands beside the others and is no contender of its own: thin, without markers.
    pub(crate) is_aside: bool,
}

impl LineChart<'_> {
    pub(crate) fn draw(&self) -> Markup {
        let strokes: Vec<Vec<Vec<Point>>> = self.lines.iter().map(|line| self.strokes(line)).collect();
        let widths: Vec<f64> = self
            .lines
            .iter()
            .map(|line| line.name.chars().count() as f64 * CHARACTER)
            .collect();
        let names = label::places(&strokes, &widths, &PLOT);
        let count = self.lines.len();
        let drawn = self.lines.iter().zip(&strokes).enumerate().rev();
        let (title, description) = (format!("{}-t", self.id), format!("{}-d", self.id));
        html! {
            figure.chart {
                figcaption { (self.title) }
                svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-labelledby={ (title) " " (description) } {
                    title id=(title) { (self.title) }
                    desc id=(description) { (self.description) }
                    (self.axes())
                    @if let Some(fault) = self.fault { (self.stretch(fault)) }
                    @for (index, (line, strokes)) in drawn {
                        g.{ "k" (line.look) }.aside[line.is_aside] {
                            title { (line.name) }
                            path.line d=(path(strokes)) {}
                            @if !line.is_aside { path.dots d=(dots(strokes, index, count)) {} }
                        }
                    }
                    @for (line, place) in self.lines.iter().zip(&names) {
                        @if let Some((x, y)) = place {
                            text.name.{ "k" (line.look) } x=(tenths(*x)) y=(tenths(*y)) { (line.name) }
                        }
                    }
                }
            }
        }
    }

    /// The points of a line in the picture, cut at its gaps.
    fn strokes(&self, line: &Line) -> Vec<Vec<Point>> {
        let mut strokes = Vec::new();
        for stroke in line.points.split(|(_, value)| value.is_none()) {
            let points = stroke
                .iter()
                .filter_map(|(x, y)| Some((across(&self.x, *x), down(&self.y, (*y)?))));
            let points: Vec<Point> = points.collect();
            if !points.is_empty() {
                strokes.push(points);
            }
        }
        strokes
    }

    fn axes(&self) -> Markup {
        let mut grid = String::new();
        for tick in &self.y.ticks {
            // Writing to a string cannot fail.
            let _ = write!(
                grid,
                "M{} {}H{}",
                PLOT.left,
                tenths(down(&self.y, *tick)),
                PLOT.right
            );
        }
        let mut feet = format!("M{} {}H{}", PLOT.left, PLOT.bottom, PLOT.right);
        for tick in &self.x.ticks {
            let _ = write!(feet, "M{} {}v4", tenths(across(&self.x, *tick)), PLOT.bottom);
        }
        html! {
            path.grid d=(grid) {}
            path.feet d=(feet) {}
            g.ticks.at-y {
                @for tick in &self.y.ticks {
                    text x=(PLOT.left - 6.0) y=(tenths(down(&self.y, *tick) + 4.0)) { ((self.y_text)(*tick)) }
                }
            }
            g.ticks.at-x {
                @for tick in &self.x.ticks {
                    text x=(tenths(across(&self.x, *tick))) y=(PLOT.bottom + 16.0) { ((self.x_text)(*tick)) }
                }
                text x=(f64::midpoint(PLOT.left, PLOT.right)) y=(PLOT.bottom + 33.0) { (self.x_name) }
            }
        }
    }

    /// The time of the fault, with words at its ends where there is room.
    fn stretch(&self, (onset, healed): (f64, f64)) -> Markup {
        let (left, right) = (across(&self.x, onset), across(&self.x, healed));
        let (top, height) = (PLOT.top, PLOT.bottom - PLOT.top);
        let has_room = right - left > WORD && right < PLOT.right - WORD;
        html! {
            rect.fault x=(tenths(left)) y=(top) width=(tenths((right - left).max(1.0))) height=(height) {}
            path.ends d={
                "M" (tenths(left)) " " (top - 12.0) "V" (PLOT.bottom)
                @if !self.x.is_off(healed) { "M" (tenths(right)) " " (top - 12.0) "V" (PLOT.bottom) }
            } {}
            g.ticks.at-fault {
                text x=(tenths(left + 4.0)) y=(top - 4.0) { "fault" }
                @if has_room { text x=(tenths(right + 4.0)) y=(top - 4.0) { "healed" } }
            }
        }
    }
}

fn across(axis: &Axis, value: f64) -> f64 {
    PLOT.left + axis.place(value) * (PLOT.right - PLOT.left)
}

fn down(axis: &Axis, value: f64) -> f64 {
    PLOT.bottom - axis.place(value) * (PLOT.bottom - PLOT.top)
}

/// A coordinate with the one decimal that can be seen, and none where there is none.
fn tenths(value: f64) -> String {
    let text = format!("{value:.1}");
    let text = text.strip_suffix(".0").unwrap_or(&text);
    match text.split_once("0.") {
        _ if text == "-0" => "0".to_owned(),
        // The zero before the point says nothing, and there are ten thousand of them on a page.
        Some((sign @ ("" | "-"), part)) => format!("{sign}.{part}"),
        _ => text.to_owned(),
    }
}

/// Path data of several strokes, each point relative to the one before: half as long as absolute. What goes on level is
/// one step, since the healthy stretches of most lines are.
fn path(strokes: &[Vec<Point>]) -> String {
    let mut data = String::new();
    for stroke in strokes {
        let mut points = stroke.iter().map(|(x, y)| (round(*x), round(*y)));
        let Some((mut x, mut y)) = points.next() else {
            continue;
        };
        // Writing to a string cannot fail.
        let _ = write!(data, "M{} {}", tenths(x), tenths(y));
        // With round ends, a stroke of no length is a dot.
        let mut level = (stroke.len() == 1).then_some(0.0);
        for (next_x, next_y) in points {
            let (dx, dy) = (tenths(next_x - x), tenths(next_y - y));
            if dy == "0" {
                level = Some(level.unwrap_or_default() + next_x - x);
            } else {
                let flat = level
                    .take()
                    .map(|dx| format!("h{}", tenths(dx)))
                    .unwrap_or_default();
                // A minus sign separates as well as a space.
                let space = if dy.starts_with('-') { "" } else { " " };
                let _ = write!(data, "{flat}l{dx}{space}{dy}");
            }
            (x, y) = (next_x, next_y);
        }
        if let Some(dx) = level {
            let _ = write!(data, "h{}", tenths(dx));
        }
    }
    data
}

/// Path data whose vertices bear the markers. Each line starts elsewhere, so that lines upon each other show theirs in
/// turn.
fn dots(strokes: &[Vec<Point>], index: usize, lines: usize) -> String {
    let all: Vec<Point> = strokes.iter().flatten().copied().collect();
    let every = all.len().div_ceil(MARKERS).max(1);
    let first = every * index / lines.max(1);
    let vertices = all.iter().skip(first).step_by(every).enumerate();
    vertices
        .map(|(turn, (x, y))| {
            let letter = if turn == 0 { 'M' } else { 'L' };
            format!("{letter}{} {}", tenths(*x), tenths(*y))
        })
        .collect()
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::numbers::number;

    fn chart(lines: Vec<Line>) -> LineChart<'static> {
        LineChart {
            id: "c".into(),
            title: "A title",
            description: "What it shows.".into(),
            x: Axis::exact(0.0, 10.0),
            x_name: "seconds",
            x_text: number,
            y: Axis::linear([0.0, 4.0]),
            y_text: number,
            fault: Some((2.0, 6.0)),
            lines,
        }
    }

    fn line(name: &str, points: &[(f64, Option<f64>)]) -> Line {
        Line {
            name: name.into(),
            look: 1,
            points: points.to_vec(),
            is_aside: false,
        }
    }

    #[test]
    fn a_chart_is_complete_in_itself() {
        let points = [(0.0, Some(1.0)), (5.0, Some(4.0)), (10.0, Some(1.0))];
        let drawn = chart(vec![line("nginx", &points)]).draw().into_string();
        insta::assert_snapshot!(drawn.replace('>', ">\n"));
    }

    #[test]
    fn a_value_that_is_absent_interrupts_the_line() {
        let gap = line(
            "x",
            &[(0.0, Some(0.0)), (1.0, None), (2.0, Some(1.0)), (3.0, Some(2.0))],
        );
        let strokes = chart(Vec::new()).strokes(&gap);
        assert_eq!(strokes.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2]);
        let data = path(&strokes);
        assert_eq!(data.matches('M').count(), 2);
        assert!(data.contains("h0"), "a lonely point is drawn as a dot: {data}");
    }

    #[test]
    fn names_are_text_and_never_markup() {
        let hostile = "</svg><script>alert(1)</script>\"'&";
        let drawn = chart(vec![line(hostile, &[(0.0, Some(1.0)), (10.0, Some(1.0))])])
            .draw()
            .into_string();
        assert!(!drawn.contains("<script") && drawn.contains("&lt;script&gt;alert(1)"));
        assert_eq!(drawn.matches("</svg>").count(), 1);
    }

    /// Where a path ends, by walking along it as a browser does.
    fn end(data: &str) -> Point {
        let spaced = data.replace('-', " -").replace(['M', 'l', 'h'], " $0");
        let mut at = (0.0, 0.0);
        let mut letters = data.chars().filter(|letter| "Mlh".contains(*letter));
        for step in spaced.split("$0").skip(1) {
            let numbers: Vec<f64> = step
                .split_whitespace()
                .map(|number| number.parse().unwrap())
                .collect();
            at = match letters.next() {
                Some('M') => (numbers[0], numbers[1]),
                Some('l') => (at.0 + numbers[0], at.1 + numbers[1]),
                _ => (at.0 + numbers[0], at.1),
            };
        }
        at
    }

    #[test]
    fn rounding_does_not_add_up_along_a_line() {
        for slope in [0.0, 0.012_3, -0.07] {
            let points = (0..1_000).map(|step| (f64::from(step) * 0.333_3, 50.0 + slope * f64::from(step)));
            let points: Vec<Point> = points.collect();
            let (x, y) = end(&path(std::slice::from_ref(&points)));
            let (last_x, last_y) = points[999];
            assert!(
                (x - last_x).abs() < 0.1 && (y - last_y).abs() < 0.1,
                "{slope}: {x} {y}"
            );
        }
    }

    #[test]
    fn what_goes_on_level_is_one_step() {
        let level = vec![(0.0, 5.0), (1.0, 5.0), (2.0, 5.0), (3.0, 9.0), (4.0, 9.0)];
        assert_eq!(path(&[level]), "M0 5h2l1 4h1");
        assert_eq!(path(&[vec![(1.5, 0.25)]]), "M1.5 .3h0");
    }
}
