//! Where the name of a line stands: beside the line, at the place that is farthest from all other lines.
//!
//! Greedy, in the order of the lines: each candidate lies just above, below or beside a point of the line, must not touch
//! any line or a name that stands already, and must be nearer to its own line than to others. A line without such a
//! place gets no name; the legend has it. Names at the ends of lines, the usual way, would lie upon each other here:
//! after the fault all contenders come to the same.

/// A point in the picture; y grows downwards.
pub(crate) type Point = (f64, f64);

/// A part of the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Area {
    pub(crate) left: f64,
    pub(crate) top: f64,
    pub(crate) right: f64,
    pub(crate) bottom: f64,
}

impl Area {
    /// How far a point is from the area; 0 inside.
    fn distance(&self, (x, y): Point) -> f64 {
        let dx = (self.left - x).max(x - self.right).max(0.0);
        let dy = (self.top - y).max(y - self.bottom).max(0.0);
        dx.hypot(dy)
    }

    fn is_within(&self, outer: &Self) -> bool {
        self.left >= outer.left
            && self.right <= outer.right
            && self.top >= outer.top
            && self.bottom <= outer.bottom
    }

    fn touches(&self, other: &Self) -> bool {
        self.left < other.right + GAP
            && other.left < self.right + GAP
            && self.top < other.bottom
            && other.top < self.bottom
    }
}

/// Height of a name above its baseline, and below it.
const ASCENT: f64 = 8.5;
const DESCENT: f64 = 2.5;

/// Between a name and its own line.
const GAP: f64 = 4.0;

/// A name that is nearer to its own line than this is crossed by it.
const OWN_LEAST: f64 = 1.0;

/// A name that is nearer to another line than this would be taken for that line's.
const OTHERS_LEAST: f64 = 7.0;

/// Beyond this, farther away is no better.
const OTHERS_ENOUGH: f64 = 30.0;

/// Lines are looked at as points this far apart.
const STEP: f64 = 5.0;

/// Baseline and middle of the name of each line, `width` wide, within `area`; absent where there is no room.
/// `lines` are strokes without gaps, several per line.
pub(crate) fn places(lines: &[Vec<Vec<Point>>], widths: &[f64], area: &Area) -> Vec<Option<Point>> {
    let dense: Vec<Vec<Point>> = lines
        .iter()
        .map(|strokes| strokes.iter().flat_map(|stroke| densely(stroke)).collect())
        .collect();
    let mut taken: Vec<Area> = Vec::new();
    let mut places = Vec::with_capacity(lines.len());
    for (index, width) in widths.iter().enumerate().take(dense.len()) {
        let (before, own_and_after) = dense.split_at(index);
        let Some((own, after)) = own_and_after.split_first() else {
            break;
        };
        let others: Vec<&[Point]> = before.iter().chain(after).map(Vec::as_slice).collect();
        let mut best: Option<(f64, Area)> = None;
        for name in candidates(own, *width) {
            if !name.is_within(area) || taken.iter().any(|other| other.touches(&name)) {
                continue;
            }
            // Most candidates are too near to something; that is found without measuring the rest.
            let needed = best.as_ref().map_or(OTHERS_LEAST, |(room, _)| *room);
            let is_near = |line: &&[Point]| line.iter().any(|point| name.distance(*point) <= needed);
            if needed >= OTHERS_ENOUGH || others.iter().any(is_near) {
                continue;
            }
            if own.iter().all(|point| name.distance(*point) >= OWN_LEAST) {
                let distances = others
                    .iter()
                    .flat_map(|line| *line)
                    .map(|point| name.distance(*point));
                best = Some((distances.fold(OTHERS_ENOUGH, f64::min), name));
            }
        }
        taken.extend(best.as_ref().map(|(_, name)| *name));
        places.push(best.map(|(_, name)| (f64::midpoint(name.left, name.right), name.bottom - DESCENT)));
    }
    places
}

/// Above and below the points of a line, and beside them, where the line is steep.
fn candidates(line: &[Point], width: f64) -> impl Iterator<Item = Area> + '_ {
    let aside = width / 2.0 + GAP;
    let middle = f64::midpoint(ASCENT, DESCENT);
    let offsets = [
        (0.0, -GAP - middle),
        (0.0, GAP + middle),
        (aside, 0.0),
        (-aside, 0.0),
    ];
    let places = line
        .iter()
        .flat_map(move |(x, y)| offsets.map(|(dx, dy)| (x + dx, y + dy)));
    places.map(move |(x, y)| Area {
        left: x - width / 2.0,
        right: x + width / 2.0,
        top: y - middle,
        bottom: y + middle,
    })
}

/// The points of a stroke and as many between them as are needed.
fn densely(stroke: &[Point]) -> Vec<Point> {
    let mut points: Vec<Point> = stroke.first().copied().into_iter().collect();
    for ((x, y), (next_x, next_y)) in stroke.iter().zip(stroke.iter().skip(1)) {
        let length = (next_x - x).hypot(next_y - y);
        let mut at = STEP;
        while at < length {
            let part = at / length;
            points.push((x + (next_x - x) * part, y + (next_y - y) * part));
            at += STEP;
        }
        points.push((*next_x, *next_y));
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    const AREA: Area = Area {
        left: 0.0,
        top: 0.0,
        right: 300.0,
        bottom: 100.0,
    };

    #[test]
    fn names_stand_where_lines_part_and_not_where_they_meet() {
        let bump = vec![vec![
            (0.0, 90.0),
            (100.0, 90.0),
            (150.0, 20.0),
            (200.0, 90.0),
            (300.0, 90.0),
        ]];
        let flat = vec![vec![(0.0, 90.0), (300.0, 90.0)]];
        let places = places(&[bump, flat], &[40.0, 20.0], &AREA);
        let (x, y) = places[0].expect("the bump has room at its top");
        assert!((100.0..200.0).contains(&x) && y < 60.0, "{x} {y}");
        let (x, _) = places[1].expect("the flat line is alone below the bump");
        assert!((110.0..190.0).contains(&x), "{x}");
    }

    #[test]
    fn lines_upon_each_other_get_no_names() {
        let flat = vec![vec![(0.0, 50.0), (300.0, 50.0)]];
        assert_eq!(places(&[flat.clone(), flat], &[40.0, 40.0], &AREA), [None, None]);
    }

    #[test]
    fn names_never_touch_each_other_or_leave_the_picture() {
        let at = |y: f64| vec![vec![(0.0, y), (300.0, y)]];
        let lines: Vec<_> = (0..6).map(|index| at(10.0 + 16.0 * f64::from(index))).collect();
        let widths = [60.0; 6];
        let found: Vec<Area> = places(&lines, &widths, &AREA)
            .into_iter()
            .flatten()
            .map(|(x, y)| Area {
                left: x - 30.0,
                right: x + 30.0,
                top: y - ASCENT,
                bottom: y + DESCENT,
            })
            .collect();
        for (index, one) in found.iter().enumerate() {
            assert!(one.is_within(&AREA));
            assert!(found.iter().skip(index + 1).all(|other| !one.touches(other)));
        }
    }
}
