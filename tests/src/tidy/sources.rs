//! Rules on each Rust source by itself: how it opens, how long it is, what it calls things.

use super::code::{code, has_word};
use super::{File, Finding};

/// Lines of a file before its tests. Beyond that nobody reads it in one go.
pub const LINES_MAX: usize = 600;

/// Characters of text in a line; what stands before them (indentation, the mark of a comment) is not read.
pub const WIDTH_MAX: usize = 120;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 6] = ["util", "utils", "helper", "helpers", "common", "manager"];

/// The first words of a file say what it is for. A sentence has five words at least, a stand-in has fewer.
pub fn header(file: &File) -> Vec<Finding> {
    let header: Vec<&str> = file
        .text
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .collect();
    match header.join(" ").split_whitespace().count() {
        0 => vec![file.finding(
            0,
            "does not open with `//!`: say what this file decides or carries, and why so",
        )],
        1..=4 => vec![file.finding(0, "its header is no sentence")],
        _ => Vec::new(),
    }
}

/// No file has more than [`LINES_MAX`] lines before its tests.
pub fn length(file: &File) -> Vec<Finding> {
    let lines = file.lines_before_tests();
    let too_long = format!("{lines} lines before its tests; {LINES_MAX} are the most");
    if lines > LINES_MAX {
        vec![file.finding(LINES_MAX, too_long)]
    } else {
        Vec::new()
    }
}

/// No line has more than [`WIDTH_MAX`] characters of text. An address cannot be broken, so a line with one may.
pub fn width(file: &File) -> Vec<Finding> {
    let text = |line: &str| line.trim_start_matches([' ', '/', '!', '#']).chars().count();
    let lines = file
        .text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.contains("://"));
    let wide = lines
        .map(|(index, line)| (index, text(line)))
        .filter(|(_, width)| *width > WIDTH_MAX);
    wide.map(|(index, width)| file.finding(index, format!("{width} characters wide")))
        .collect()
}

/// Every lint that is switched off says why.
pub fn lint_reasons(file: &File) -> Vec<Finding> {
    let code = code(&file.text);
    let mut findings = Vec::new();
    for opening in ["#[allow(", "#![allow(", "#[expect(", "#![expect("] {
        for (at, _) in code.match_indices(opening) {
            let attribute = code
                .get(at..)
                .and_then(|rest| rest.split_once(")]"))
                .map(|(inside, _)| inside);
            if !attribute.is_some_and(|inside| has_word(inside, "reason")) {
                let index = code.get(..at).unwrap_or_default().matches('\n').count();
                findings.push(file.finding(index, format!("`{opening}...)]` without a reason")));
            }
        }
    }
    findings
}

/// Nothing is named by what it is not: no `get_`, no module for the rest.
pub fn names(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    let stem = file
        .path
        .rsplit('/')
        .find_map(|part| match part.trim_end_matches(".rs") {
            "mod" => None,
            stem => Some(stem),
        });
    if let Some(stem) = stem.filter(|stem| EMPTY_NAMES.contains(stem)) {
        findings.push(file.finding(
            0,
            format!("a module named `{stem}` collects what belongs elsewhere"),
        ));
    }
    // What a foreign trait calls its functions is not ours to choose.
    let mut for_a_trait = false;
    for (index, line) in code(&file.text).lines().enumerate() {
        for_a_trait = if line.starts_with("impl") {
            line.contains(" for ")
        } else {
            for_a_trait && line != "}"
        };
        if line.contains("fn get_") && !for_a_trait {
            findings.push(file.finding(index, "a `get_` function: name what it returns"));
        }
        let module = line.trim_start().trim_start_matches("pub ").strip_prefix("mod ");
        let name = module.and_then(|rest| rest.split([' ', ';', '{']).next());
        if let Some(name) = name.filter(|name| EMPTY_NAMES.contains(name)) {
            findings.push(file.finding(
                index,
                format!("a module named `{name}` collects what belongs elsewhere"),
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rust(text: &str) -> File {
        File::sample("engine/src/sample.rs", text)
    }

    #[test]
    fn a_file_without_a_sentence_at_its_top_is_found() {
        assert_eq!(header(&rust("use std::fmt;\n")).len(), 1);
        assert_eq!(header(&rust("//! (written next)\n")).len(), 1);
        assert_eq!(header(&rust("\n//! Too late to say what it is for.\n")).len(), 1);
        assert_eq!(header(&rust("//! What this file is for, and why.\n")), []);
    }

    #[test]
    fn a_long_file_is_found_and_long_tests_are_not() {
        let (code, tests) = (
            "x\n".repeat(LINES_MAX),
            "#[cfg(test)]\nmod tests {\n}\n".to_owned(),
        );
        assert_eq!(length(&rust(&format!("{code}{tests}{code}"))), []);
        assert_eq!(length(&rust(&format!("{code}x\n{tests}"))).len(), 1);
    }

    #[test]
    fn a_wide_line_is_found_unless_an_address_makes_it_wide() {
        let wide = "ü".repeat(WIDTH_MAX + 1);
        assert_eq!(width(&rust(&format!("x\n{wide}\n")))[0].place.1, 2);
        assert_eq!(width(&rust(&format!("    //! {}", "ü".repeat(WIDTH_MAX)))), []);
        assert_eq!(width(&rust(&format!("// https://{wide}\n"))), []);
    }

    #[test]
    fn a_lint_without_a_reason_is_found_over_several_lines_too() {
        let found = lint_reasons(&rust(
            "#![allow(\n    dead_code\n)]\n#[expect(a::b, reason = \"c\")]\n#[expect(d)]\n",
        ));
        assert_eq!(found.iter().map(|f| f.place.1).collect::<Vec<_>>(), [1, 5]);
        assert_eq!(lint_reasons(&rust("// like #[allow(x)]\n")), []);
    }

    #[test]
    fn names_that_say_nothing_are_found() {
        assert_eq!(
            names(&rust("pub fn get_share() {}\nmod helpers;\npub mod utils {}\n")).len(),
            3
        );
        assert_eq!(
            names(&rust("impl A for B {\n    fn get_a() {}\n}\nfn get_b() {}\n")).len(),
            1
        );
        assert_eq!(names(&File::sample("proxy/src/common/mod.rs", "")).len(), 1);
        assert_eq!(
            names(&File::sample("engine/src/common_cause.rs", "fn forget() {}\n")),
            []
        );
    }
}
