//! Where a contender's time goes: a flame graph of a profile by perf, while it serves.
//!
//! perf looks at where the process is, some hundred times per second, and at who has called it; stacks that begin alike
//! share a box, as wide as they are frequent. The picture is one SVG without scripts: names and shares show where the
//! pointer rests. Boxes too narrow to see are left out.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::case::{Case, Question};
use super::driver::{Driver, Work, installed};
use super::measure::{self, Terms};
use crate::closed_loop::Asking;
use crate::rivals::Running;
use crate::stage::process::{Child, Programs};

/// Looks per second: no multiple of any tick, so that nothing that ticks hides.
const LOOKS_PER_SECOND: u32 = 997;

/// Bytes of each stack that are kept for unwinding; the programs are built without frame pointers.
const STACK_BYTES: u32 = 16_384;

/// How much longer than asked perf may take to write what it has.
const PATIENCE: Duration = Duration::from_secs(30);

/// Width of the picture, in its own units.
const WIDTH: f64 = 1_200.0;

/// Height of a box.
const ROW: f64 = 16.0;

/// Narrower boxes are left out.
const WIDTH_MIN: f64 = 0.4;

/// A letter's width.
const LETTER: f64 = 6.6;

/// Deeper stacks are cut: nobody reads them, and recursion would fill the page.
const DEPTH_MAX: usize = 96;

/// Why nothing can be profiled here, if perf is not there.
pub fn missing() -> Option<String> {
    installed("perf", "linux-perf")
        .err()
        .map(|error| error.to_string())
}

/// Profiles a contender while it is asked, and writes the picture.
///
/// # Errors
/// When perf is not installed, or not allowed here: in its own words.
pub fn draw(
    programs: &Programs,
    (running, case): (&Running, &Case),
    terms: &Terms,
    file: &Path,
) -> Result<()> {
    let Question::Serving(bodies) = case.question else {
        bail!("only serving can be profiled");
    };
    let folder = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let recorded = file.with_extension("perf");
    let processes = running.processes()?;
    let ids: Vec<_> = processes.iter().map(u32::to_string).collect();
    // Long enough for all of the load.
    let seconds = (terms.settling + terms.length).as_secs().max(1);
    let options = format!(
        "record --quiet --event cpu-clock --freq {LOOKS_PER_SECOND} --call-graph dwarf,{STACK_BYTES} --pid {}",
        ids.join(",")
    );
    let mut arguments: Vec<std::ffi::OsString> = options.split(' ').map(Into::into).collect();
    arguments.extend([
        "--output".into(),
        recorded.clone().into(),
        "--".into(),
        "sleep".into(),
    ]);
    arguments.push(seconds.to_string().into());
    let mut perf = Child::start(programs, "perf", Path::new("perf"), &arguments, folder)?;
    let asking = Asking {
        body_bytes: bodies.answered(),
        posted_bytes: bodies.posted(),
        rate: terms.rate,
        ..terms.asking(running, measure::CONNECTIONS)
    };
    let work = Work {
        target: running.site.listen,
        asking,
    };
    measure::cost(programs, &processes, (Driver::Ours, &work), folder)?;
    perf.finish(PATIENCE).context("perf")?;
    let script = Command::new("perf")
        .args(["script", "--no-inline", "--fields", "comm,ip,sym", "--input"])
        .arg(&recorded)
        .stdin(Stdio::null())
        .output()
        .context("cannot run perf")?;
    // As large as a hundred pictures, and of no use any more.
    let _ = std::fs::remove_file(&recorded);
    let root = stacks(&String::from_utf8_lossy(&script.stdout));
    ensure!(
        root.looks > 0,
        "perf saw nothing: {}",
        String::from_utf8_lossy(&script.stderr).trim()
    );
    let title = format!("{} {case}", running.contender.name());
    std::fs::write(file, picture(&root, &title)).with_context(|| format!("cannot write {}", file.display()))
}

/// A function in the place from which it was called, and how often it was seen there.
#[derive(Debug, Default, PartialEq)]
struct Frame {
    looks: u64,
    called: BTreeMap<String, Frame>,
}

/// Reads what `perf script` prints: for each look the program's name, its stack from the inside out, and an empty line.
fn stacks(script: &str) -> Frame {
    let mut root = Frame::default();
    for look in script.split("\n\n") {
        let mut lines = look.lines().filter(|line| !line.trim().is_empty());
        let Some(program) = lines.next() else { continue };
        let function = |line: &str| {
            line.trim()
                .split_once(' ')
                .map_or("[unknown]", |(_, name)| name)
                .to_owned()
        };
        let mut names: Vec<_> = lines.map(function).collect();
        names.push(program.trim().to_owned());
        root.looks += 1;
        let mut frame = &mut root;
        for name in names.into_iter().rev().take(DEPTH_MAX) {
            frame = frame.called.entry(name).or_default();
            frame.looks += 1;
        }
    }
    root
}

impl Frame {
    fn depth(&self) -> usize {
        self.called
            .values()
            .map(|frame| 1 + frame.depth())
            .max()
            .unwrap_or(0)
    }
}

fn picture(root: &Frame, title: &str) -> String {
    let height = (root.depth() + 3) as f64 * ROW;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"monospace\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fffdf8\"/>\n\
         <text x=\"8\" y=\"16\">{}: {} looks, {LOOKS_PER_SECOND} per second</text>\n",
        escaped(title),
        root.looks
    );
    boxes(&mut svg, root, root.looks, (0.0, height - ROW));
    svg.push_str("</svg>\n");
    svg
}

/// Draws what `frame` calls from left to right, and upwards from there.
fn boxes(svg: &mut String, frame: &Frame, all: u64, (left, bottom): (f64, f64)) {
    let mut x = left;
    for (name, called) in &frame.called {
        let width = called.looks as f64 / all.max(1) as f64 * WIDTH;
        if width >= WIDTH_MIN {
            let y = bottom - ROW;
            let share = 100.0 * called.looks as f64 / all.max(1) as f64;
            // Neighbours differ, and the same function looks the same everywhere.
            let hue = name
                .bytes()
                .fold(7_u32, |sum, byte| sum.wrapping_mul(31) + u32::from(byte))
                % 50;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a count of letters on a page"
            )]
            let room = (width / LETTER) as usize;
            let shown: String = if room >= 4 {
                name.chars().take(room - 1).collect()
            } else {
                String::new()
            };
            // Writing to a string cannot fail.
            let _ = writeln!(
                svg,
                "<g><title>{title}: {share:.2} %</title><rect x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" \
                 height=\"15\" rx=\"1\" fill=\"hsl({hue},80%,70%)\"/><text x=\"{text:.1}\" y=\"{base}\">{shown}</text></g>",
                title = escaped(name),
                text = x + 2.0,
                base = y + 11.5,
                shown = escaped(&shown),
            );
            boxes(svg, called, all, (x, y));
        }
        x += width;
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "nginx \n\t  55d0 ngx_parse\n\t  55aa main\n\nnginx \n\t  55d1 write<T>\n\t  55aa main\n\n\
                          nginx \n\t  55d1 write<T>\n\t  55aa main\n\n";

    #[test]
    fn stacks_that_begin_alike_share_their_beginning() {
        let root = stacks(SCRIPT);
        assert_eq!((root.looks, root.depth()), (3, 3));
        let main = &root.called["nginx"].called["main"];
        assert_eq!(
            (
                main.looks,
                main.called["write<T>"].looks,
                main.called["ngx_parse"].looks
            ),
            (3, 2, 1)
        );
        assert_eq!(stacks(""), Frame::default());
    }

    #[test]
    fn a_box_is_as_wide_as_it_is_frequent_and_nothing_breaks_the_page() {
        let svg = picture(&stacks(SCRIPT), "nginx & friends");
        assert!(
            svg.contains("<title>write&lt;T&gt;: 66.67 %</title>") && svg.contains("width=\"800.0\""),
            "{svg}"
        );
        assert!(svg.contains("nginx &amp; friends: 3 looks"), "{svg}");
        assert_eq!(svg.matches("<rect").count(), 1 + 4);
    }
}
