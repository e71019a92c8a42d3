//! Rules on documents, example configurations and scripts.

use super::{File, Finding};

/// Three pages.
pub const ARCHITECTURE_LINES_MAX: usize = 180;

/// What the product rests on. `ARCHITECTURE.md` prints each one in bold, word for word, so that a change to one of them is
/// a change to this list, and is seen as that.
pub const INVARIANTS: [&str; 10] = [
    "A request loads one immutable snapshot once (`arc-swap`). Nothing else on its path is shared and mutable, except the \
     worker's own recorder.",
    "The engine never reads a clock, spawns, or draws from global randomness.",
    "The proxy keeps serving when the controller is gone: it acts alone inside the limits that its last plan granted, and \
     starts from its last good plan on disk.",
    "A proxy never accepts a plan of an older generation or epoch.",
    "The executor makes no choices: what can be chosen is in the plan, and `replay` of the journal gives the same plan.",
    "Silence is not recovery: an endpoint that gets no traffic keeps its risk until evidence (probe, canary, mirror) \
     clears it.",
    "A shadow is never given more than it can carry; when nothing fits, shed by priority, never spread the fire.",
    "No request that may have had an effect is sent twice.",
    "Every queue, table, window, retry and label set has a bound, named where it is set; what is dropped is counted.",
    "Every shift can be explained: the terms, samples and limits that produced it are kept and served.",
];

/// One title per document, in its first line.
pub fn title(file: &File) -> Vec<Finding> {
    let titles: Vec<usize> = prose(file)
        .filter(|(_, line)| line.starts_with("# "))
        .map(|(index, _)| index)
        .collect();
    match titles.as_slice() {
        [0] => Vec::new(),
        [] => vec![file.finding(0, "has no title")],
        [.., last] => vec![file.finding(*last, "one title, in the first line")],
    }
}

/// Links inside the repository lead somewhere.
pub fn links(file: &File, files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in prose(file) {
        for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let wanted = resolve(&file.path, path);
            let folder = format!("{wanted}/");
            if !files
                .iter()
                .any(|f| f.path == wanted || f.path.starts_with(&folder))
            {
                findings.push(file.finding(index, format!("leads nowhere: {target}")));
            }
        }
    }
    findings
}

/// The change log has a place for what comes next.
pub fn change_log(file: &File) -> Vec<Finding> {
    let has = file
        .text
        .lines()
        .any(|line| line.trim_matches(['#', ' ', '[', ']']) == "Unreleased" && line.starts_with("## "));
    if has {
        Vec::new()
    } else {
        vec![file.finding(0, "has no section `## Unreleased`")]
    }
}

/// The architecture is short, and holds every invariant in bold.
pub fn architecture(file: &File) -> Vec<Finding> {
    let text = file.text.split_whitespace().collect::<Vec<_>>().join(" ");
    let missing = INVARIANTS
        .iter()
        .filter(|sentence| !text.contains(&format!("**{sentence}**")));
    let mut findings: Vec<_> = missing
        .map(|s| file.finding(0, format!("lacks the invariant in bold: {s}")))
        .collect();
    if file.text.lines().count() > ARCHITECTURE_LINES_MAX {
        findings.push(file.finding(ARCHITECTURE_LINES_MAX, "longer than three pages"));
    }
    findings
}

/// An example says in its first line what it is an example of.
pub fn example(file: &File) -> Vec<Finding> {
    let says = file
        .text
        .lines()
        .next()
        .is_some_and(|line| line.starts_with("# ") && line.split(' ').count() > 4);
    if says {
        Vec::new()
    } else {
        vec![file.finding(0, "does not begin with a comment that says what it is for")]
    }
}

/// A script can be run, says what it does, and stops at the first failure.
pub fn script(file: &File) -> Vec<Finding> {
    let mut lines = file.text.lines();
    let mut findings = Vec::new();
    if !file.executable {
        findings.push(file.finding(0, "cannot be executed"));
    }
    if lines.next() != Some("#!/usr/bin/env bash") {
        findings.push(file.finding(0, "does not begin with #!/usr/bin/env bash"));
    }
    if !lines.next().is_some_and(|line| line.starts_with("# ")) {
        findings.push(file.finding(1, "does not say what it does"));
    }
    if !file.text.contains("\nset -euo pipefail\n") {
        findings.push(file.finding(0, "goes on after a failure; set -euo pipefail"));
    }
    findings
}

/// The lines outside of fenced code.
fn prose(file: &File) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    file.text.lines().enumerate().filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

fn resolve(from: &str, link: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in link.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn markdown(text: &str) -> File {
        File::sample("docs/adr/a.md", text)
    }

    #[test]
    fn no_title_two_titles_and_a_late_title_are_found() {
        assert_eq!(title(&markdown("text\n")).len(), 1);
        assert_eq!(title(&markdown("# one\n\n# two\n")).len(), 1);
        assert_eq!(title(&markdown("\n# late\n")).len(), 1);
        assert_eq!(title(&markdown("# one\n\n```sh\n# a comment\n```\n")), []);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let files = [
            markdown(""),
            File::sample("README.md", ""),
            File::sample("engine/src/lib.rs", ""),
        ];
        let found = |text: &str| links(&markdown(text), &files).len();
        assert_eq!(found("[a](../b.md) and [c](README.md)\n"), 2);
        assert_eq!(
            found(
                "[a](../../README.md#x), [b](../../engine/), [c](a.md), [d](#e), [f](https://g.example/h)\n"
            ),
            0
        );
    }

    #[test]
    fn a_change_log_without_a_next_version_is_found() {
        assert_eq!(change_log(&markdown("# Changes\n\n## 0.1.0\n")).len(), 1);
        assert_eq!(change_log(&markdown("# Changes\n\n## [Unreleased]\n")), []);
    }

    #[test]
    fn an_invariant_that_is_changed_plain_or_missing_is_found() {
        let all: String = INVARIANTS
            .iter()
            .map(|s| format!("- **{}**\n", s.replacen(' ', "\n  ", 1)))
            .collect();
        assert_eq!(architecture(&markdown(&all)), []);
        assert_eq!(
            architecture(&markdown(&all.replace("sent twice.**", "sent twice**."))).len(),
            1
        );
        assert_eq!(
            architecture(&markdown(&all.replace("**", ""))).len(),
            INVARIANTS.len()
        );
        assert_eq!(
            architecture(&markdown(&format!(
                "{all}{}",
                "x\n".repeat(ARCHITECTURE_LINES_MAX)
            )))
            .len(),
            1
        );
    }

    #[test]
    fn an_example_without_a_word_about_it_is_found() {
        let found = |text| example(&File::sample("configs/a.yaml", text)).len();
        assert_eq!(
            (
                found("apiVersion: x\n"),
                found("# x\n"),
                found("# The smallest file that works.\n")
            ),
            (1, 1, 0)
        );
    }

    #[test]
    fn a_script_that_cannot_run_or_does_not_stop_is_found() {
        let mut file = File::sample("scripts/a", "echo\n");
        assert_eq!(script(&file).len(), 4);
        file.text = "#!/usr/bin/env bash\n# Says a.\nset -euo pipefail\necho a\n".to_owned();
        file.executable = true;
        assert_eq!(script(&file), []);
    }
}
