//! Rules on the requirements: what `docs/concepts.md` claims is in the code, and in a test.
//!
//! A requirement is cited where code carries it out and where a test proves it, in a comment that begins with the word
//! `Concept` and a colon, followed by its id, or several with commas; words in brackets may follow. The table has one row
//! per requirement: id, how, modules, tests, status. A row that says *done* is a claim, and each part of it is checked.

use std::collections::BTreeMap;

use super::{File, Finding};

/// Where the claims stand.
pub const TABLE: &str = "docs/concepts.md";

const MARK: &str = concat!("// Con", "cept:");

/// A citation of a requirement.
#[derive(Clone, Debug)]
struct Citation<'a> {
    id: String,
    file: &'a File,
    index: usize,
    in_test: bool,
}

/// A requirement as the table has it.
#[derive(Clone, Debug)]
struct Row<'a> {
    id: String,
    table: &'a File,
    index: usize,
    modules: Vec<String>,
    tests: Vec<String>,
    done: bool,
}

/// Every citation names a requirement of the table.
pub fn known(files: &[File]) -> Vec<Finding> {
    let rows = rows(files);
    let unknown = citations(files)
        .into_iter()
        .filter(|c| rows.iter().all(|row| row.id != c.id));
    unknown
        .map(|c| {
            c.file
                .finding(c.index, format!("`{}` is no requirement of {TABLE}", c.id))
        })
        .collect()
}

/// Every requirement stands in the table once, and says whether it is done or planned.
pub fn distinct(files: &[File]) -> Vec<Finding> {
    let mut seen = BTreeMap::new();
    let rows = rows(files);
    let again = rows
        .iter()
        .filter(|row| seen.insert(row.id.clone(), ()).is_some());
    let mut findings: Vec<_> = again
        .map(|row| row.table.finding(row.index, "stands here twice"))
        .collect();
    if rows.is_empty() {
        findings.push(Finding {
            place: (TABLE.to_owned(), 1),
            what: "there is no table of requirements".to_owned(),
        });
    }
    findings
}

/// What is claimed as done is cited in code and in a test.
pub fn cited(files: &[File]) -> Vec<Finding> {
    let citations = citations(files);
    let mut findings = Vec::new();
    for row in rows(files).into_iter().filter(|row| row.done) {
        for (in_test, place) in [(false, "code"), (true, "test")] {
            if !citations.iter().any(|c| c.id == row.id && c.in_test == in_test) {
                findings.push(
                    row.table
                        .finding(row.index, format!("no {place} cites `{}`", row.id)),
                );
            }
        }
    }
    findings
}

/// What the table points at is there: modules as files, tests as functions. What is planned points at nothing.
pub fn pointed_at(files: &[File]) -> Vec<Finding> {
    let exists = |module: &String| files.iter().any(|file| &file.path == module);
    let is_test = |name: &String| {
        let function = format!("fn {name}(");
        files
            .iter()
            .any(|file| file.ends(".rs") && file.text.contains(&function))
    };
    let mut findings = Vec::new();
    for row in rows(files) {
        let lost = row.modules.iter().filter(|module| !exists(module));
        let lost = lost.chain(row.tests.iter().filter(|test| !is_test(test)));
        findings.extend(lost.map(|name| row.table.finding(row.index, format!("`{name}` does not exist"))));
        match (row.done, row.modules.is_empty(), row.tests.is_empty()) {
            (true, false, false) | (false, true, true) => {}
            (true, ..) => findings.push(
                row.table
                    .finding(row.index, "done, but without a module or a test"),
            ),
            (false, ..) => findings.push(
                row.table
                    .finding(row.index, "planned, and yet it points at something"),
            ),
        }
    }
    findings
}

fn citations(files: &[File]) -> Vec<Citation<'_>> {
    let mut citations = Vec::new();
    for file in files.iter().filter(|file| file.ends(".rs")) {
        let tests_from = file.lines_before_tests();
        for (index, line) in file.text.lines().enumerate() {
            let Some((_, ids)) = line.split_once(MARK) else {
                continue;
            };
            let ids = ids.split_once('(').map_or(ids, |(ids, _)| ids);
            citations.extend(
                ids.split(',')
                    .map(str::trim)
                    .filter(|id| !id.is_empty())
                    .map(|id| Citation {
                        id: id.to_owned(),
                        file,
                        index,
                        in_test: index >= tests_from,
                    }),
            );
        }
    }
    citations
}

fn rows(files: &[File]) -> Vec<Row<'_>> {
    let Some(table) = files.iter().find(|file| file.path == TABLE) else {
        return Vec::new();
    };
    let row = |(index, line): (usize, &str)| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.split('|').map(str::trim).collect();
        let [id, _, modules, tests, status, ..] = cells.as_slice() else {
            return None;
        };
        let (id, done) = (id.trim_end_matches('`').to_owned(), status.starts_with("done"));
        Some(Row {
            id,
            table,
            index,
            modules: in_ticks(modules),
            tests: in_ticks(tests),
            done,
        })
    };
    table.text.lines().enumerate().filter_map(row).collect()
}

fn in_ticks(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &str) -> File {
        File::sample(
            TABLE,
            &format!("# Concepts\n\n| id | how | module | test | status |\n|---|---|---|---|---|\n{rows}"),
        )
    }

    fn rust(code: &str, test: &str) -> File {
        let text = format!(
            "{MARK} {code}\nfn a() {{}}\n#[cfg(test)]\nmod tests {{\n    {MARK} {test}\n    fn b() {{}}\n}}\n"
        );
        File::sample("engine/src/a.rs", &text)
    }

    const DONE: &str = "| `one` | so | `engine/src/a.rs` | `b` | done |\n";

    #[test]
    fn a_claim_that_code_and_test_cite_stands() {
        let files = [table(DONE), rust("one, one (again)", "one")];
        for rule in [known, distinct, cited, pointed_at] {
            assert_eq!(rule(&files), []);
        }
    }

    #[test]
    fn a_claim_without_code_or_without_test_is_found() {
        let plan = "| `two` | so | | | planned |\n";
        assert_eq!(
            cited(&[table(&format!("{DONE}{plan}")), rust("one", "two")]).len(),
            1
        );
        assert_eq!(
            cited(&[table(&format!("{DONE}{plan}")), rust("two", "one")]).len(),
            1
        );
        assert_eq!(cited(&[table(DONE)]).len(), 2);
    }

    #[test]
    fn an_unknown_id_a_second_row_and_a_missing_table_are_found() {
        assert_eq!(known(&[table(DONE), rust("one", "three")])[0].place.1, 5);
        assert_eq!(distinct(&[table(&format!("{DONE}{DONE}"))]).len(), 1);
        assert_eq!(distinct(&[rust("one", "one")]).len(), 1);
    }

    #[test]
    fn a_claim_that_points_at_nothing_is_found() {
        let found = |row: &str| pointed_at(&[table(row), rust("one", "one")]).len();
        assert_eq!(found("| `one` | so | `engine/src/b.rs` | `c` | done |\n"), 2);
        assert_eq!(found("| `one` | so | `engine/src/a.rs` | | done |\n"), 1);
        assert_eq!(found("| `one` | so | `engine/src/a.rs` | | planned |\n"), 1);
    }
}
