//! What is known of a shadow beside the verdict, as text: what it answered to copies, and when it is drilled.

use super::{Line, Mark, PairDetail, Screen, age, cells, evidence, span, table, verdict};
use crate::operator::view::{CheckView, MirrorView, TimetableView};

/// In the tree of a pair.
pub(super) fn copies(mirror: &MirrorView) -> Line {
    let (icon, mark): (_, Mark) = verdict(mirror.verdict);
    let said = format!("{icon} {}", mirror.verdict);
    let info = format!("E_worse {}  {}", evidence(mirror.worse), mirror.sentence);
    Line {
        cells: cells("= mirror", "Mirror", &said, "", &info),
        mark: Some((2, mark)),
    }
}

/// The next drill that begins by itself.
pub(super) fn timetable(entry: &TimetableView, now_ms: u64) -> Line {
    let next = match entry.next_ms {
        Some(next) if next <= now_ms => "due".to_owned(),
        Some(next) => format!("next in {}", age(now_ms, next)),
        None => "never: the calendar has no moment for it".to_owned(),
    };
    Line {
        cells: cells(
            "⊞ timetable",
            "Drill",
            "",
            "",
            &format!("{} once in {}, {next}", entry.scenario, span(entry.every_ms)),
        ),
        mark: None,
    }
}

/// All of it; nothing where nothing was mirrored.
pub(in crate::cli::foreshade) fn mirrored(detail: &PairDetail, screen: &Screen) -> String {
    let Some(mirror) = &detail.mirror else {
        return String::new();
    };
    let (icon, mark) = verdict(mirror.verdict);
    let said = screen.marked(mark, &format!("{icon} {}", mirror.verdict));
    let line = |check: &CheckView| Line {
        cells: vec![
            check.check.clone(),
            format!("{} of {}", check.bad, check.copies),
            format!("{} of {}", check.others_bad, check.others),
            evidence(check.worse),
            evidence(check.ok),
        ],
        mark: None,
    };
    let lines: Vec<_> = mirror.checks.iter().map(line).collect();
    let titles = ["COPIES THAT", "TO THE SHADOW", "OTHERS", "E_WORSE", "E_OK"];
    let table = table(&titles, &lines, screen);
    format!("\nmirror: {said}: {}\n\n{table}", mirror.sentence)
}
