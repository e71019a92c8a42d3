//! The page as whoever runs `foreshade-bench report` gets it, from files that look like an evening of real runs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test without its files, its program or its markup fails"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use foreshade_bench::results::{FaultResults, Time};
use serde::Serialize;

#[path = "report/sample.rs"]
mod sample;

/// Elements that have no end.
const VOID: [&str; 3] = ["meta", "br", "hr"];

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn write(folder: &Path, name: &str, results: &impl Serialize) -> PathBuf {
    let file = folder.join(name);
    std::fs::write(&file, serde_json::to_vec(results).unwrap()).unwrap();
    file
}

fn report(files: &[PathBuf], out: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_foreshade-bench"))
        .arg("report")
        .args(files)
        .arg("--out")
        .arg(out)
        .output()
        .unwrap()
}

/// The page from `files`, which must be in order.
fn page(files: &[PathBuf], out: &Path) -> String {
    let output = report(files, out);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    std::fs::read_to_string(out).unwrap()
}

/// Names of all elements, in order, after checking that each is closed where it must be. In SVG an element without an end
/// swallows all that follow it, and nothing but an empty picture says so.
fn elements(page: &str) -> Vec<&str> {
    let (mut all, mut open) = (Vec::new(), Vec::new());
    for tag in page.split('<').skip(1) {
        let (inside, _) = tag.split_once('>').expect("every tag ends");
        let name = inside.split([' ', '\n']).next().unwrap_or_default();
        if let Some(ended) = name.strip_prefix('/') {
            assert_eq!(
                open.pop(),
                Some(ended),
                "closed before it was opened, near {tag:.80}"
            );
        } else if !name.starts_with('!') {
            all.push(name);
            if !VOID.contains(&name) {
                open.push(name);
            }
        }
    }
    assert_eq!(open, [""; 0], "never closed");
    all
}

#[test]
fn an_evening_of_runs_is_one_page_under_a_megabyte_that_asks_for_nothing_else() {
    let folder = folder("page");
    let files = [
        write(&folder, "faults.json", &sample::faults(Time::Real, 5)),
        write(&folder, "compare.json", &sample::compare()),
    ];
    let page = page(&files, &folder.join("report.html"));
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
    for foreign in ["http://", "https://", "<script", "src=", "@import", "url(h"] {
        assert!(
            !page.contains(foreign),
            "the page asks for something else: {foreign}"
        );
    }
    let elements = elements(&page);
    assert!(elements.iter().filter(|name| **name == "svg").count() > 100);
    assert!(
        !page.contains("NaN") && !page.contains("inf%"),
        "a number that is none"
    );
}

#[test]
fn every_anchor_is_there_once_and_every_link_leads_to_one() {
    let folder = folder("anchors");
    let files = [
        write(&folder, "faults.json", &sample::faults(Time::Real, 1)),
        write(&folder, "sim.json", &sample::faults(Time::Virtual, 2)),
        write(&folder, "a.json", &sample::load("127.0.0.1:8080", 1.0)),
        write(&folder, "b.json", &sample::load("127.0.0.1:8081", 2.5)),
    ];
    let page = page(&files, &folder.join("report.html"));
    elements(&page);
    let values = |name: &str| -> Vec<String> {
        let opening = format!(" {name}=\"");
        let parts = page.split(&opening).skip(1);
        parts
            .map(|part| part.split('"').next().unwrap().to_owned())
            .collect()
    };
    let mut ids = values("id");
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "an anchor is there twice");
    let links = values("href");
    let labels = values("aria-labelledby");
    let targets = links
        .iter()
        .map(|link| link.trim_start_matches('#'))
        .chain(labels.iter().flat_map(|label| label.split(' ')));
    for target in targets {
        assert!(
            ids.binary_search(&target.to_owned()).is_ok(),
            "{target} leads nowhere"
        );
    }
    assert!(page.contains("Does the simulator agree?") && page.contains("All loads"));
}

#[test]
fn text_from_a_file_is_text_on_the_page() {
    let hostile = "</title></svg><script>alert('x')</script>\"&";
    let folder = folder("hostile");
    let mut faults = sample::faults(Time::Real, 1);
    faults.scenarios.truncate(2);
    faults.provenance.command = hostile.to_owned();
    faults.provenance.processor = hostile.to_owned();
    faults.provenance.skipped = [(hostile.to_owned(), hostile.to_owned())].into();
    faults.provenance.versions = [(hostile.to_owned(), hostile.to_owned())].into();
    for scenario in &mut faults.scenarios {
        scenario.name = hostile.to_owned();
        scenario.id = Some(hostile.to_owned());
        scenario.story = hostile.to_owned();
        scenario.contenders[1].contender = hostile.to_owned();
        scenario.contenders[0].runs[0].figures.broken = vec![hostile.to_owned()];
    }
    // The same name twice would be the same anchor twice.
    faults.scenarios[1].name = "other".to_owned();
    let mut compare = sample::compare();
    compare
        .rows
        .iter_mut()
        .for_each(|row| row.driver = hostile.to_owned());
    let mut load = sample::load(hostile, 1.0);
    load.promises[0].promise = hostile.to_owned();
    load.generator.doubts = vec![hostile.to_owned()];
    load.outcomes = [(hostile.to_owned(), 1)].into();
    let files = [
        write(&folder, "faults.json", &faults),
        write(&folder, "compare.json", &compare),
        write(&folder, "load.json", &load),
    ];
    let page = page(&files, &folder.join("report.html"));
    let elements = elements(&page);
    assert!(!elements.contains(&"script"));
    assert!(page.matches("&lt;script&gt;alert('x')").count() > 20);
    assert!(!page.contains(hostile));
}

#[test]
fn a_run_that_was_cut_short_is_drawn_as_far_as_it_went() {
    let folder = folder("short");
    let mut faults = sample::faults(Time::Real, 1);
    faults.scenarios.truncate(1);
    for contender in &mut faults.scenarios[0].contenders {
        contender.runs[0].seconds.truncate(1);
        contender.runs[0].during.clear();
    }
    faults.scenarios[0].contenders[2].runs.clear();
    let mut nothing = faults.clone();
    nothing.scenarios.clear();
    let mut compare = sample::compare();
    compare.rows.clear();
    let files = [
        write(&folder, "short.json", &faults),
        write(&folder, "nothing.json", &nothing),
        write(&folder, "compare.json", &compare),
    ];
    let page = page(&files, &folder.join("report.html"));
    elements(&page);
    assert!(page.contains("No scenario was played to its end."));
    assert!(page.contains("Nothing was measured to its end."));
    assert!(!page.contains("NaN"));
}

#[test]
fn a_file_that_is_no_result_is_named_and_nothing_is_written() {
    let folder = folder("refused");
    let good = write(&folder, "good.json", &sample::compare());
    let bad = write(&folder, "bad.json", &[1, 2, 3]);
    let out = folder.join("report.html");
    // Left from a run before.
    drop(std::fs::remove_file(&out));
    let output = report(&[good, bad], &out);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        complaint.contains("bad.json: is no result of foreshade-bench"),
        "{complaint}"
    );
    assert!(!out.exists());
}

#[test]
fn a_page_is_never_written_over_a_result() {
    let folder = folder("over");
    let file = write(&folder, "compare.json", &sample::compare());
    let output = report(std::slice::from_ref(&file), &folder.join("../over/compare.json"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.contains("is one of the results"), "{complaint}");
    assert!(
        std::fs::read_to_string(&file)
            .unwrap()
            .starts_with("{\"provenance\"")
    );
}

#[test]
fn the_first_screen_says_who_wins_and_where_it_loses() {
    let folder = folder("summary");
    let mut faults: FaultResults = sample::faults(Time::Real, 3);
    faults.scenarios.truncate(4);
    let files = [
        write(&folder, "faults.json", &faults),
        write(&folder, "compare.json", &sample::compare()),
    ];
    let page = page(&files, &folder.join("report.html"));
    let (header, _) = page
        .split_once("<header>")
        .and_then(|(_, rest)| rest.split_once("</header>"))
        .unwrap();
    insta::assert_snapshot!(words(header));
}

/// What is left without markup: one line per block.
fn words(markup: &str) -> String {
    let mut text = String::new();
    for part in markup.split('<') {
        let (tag, words) = part.split_once('>').unwrap_or(("", part));
        let is_block = ["p", "h1", "h2", "li", "tr", "/p", "/h2", "/li", "/tr"]
            .iter()
            .any(|block| tag.split(' ').next() == Some(block));
        text.push_str(if is_block { "\n" } else { "" });
        text.push_str(if tag.starts_with("td") || tag.starts_with("th") {
            " | "
        } else {
            ""
        });
        text.push_str(words);
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("\n")
}
