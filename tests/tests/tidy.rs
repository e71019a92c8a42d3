//! The rules of the house, applied to this repository: each a claim about every file that it concerns.
//!
//! The rules themselves, each with a breach that it must find, are in `tests/src/tidy`. A test here fails with every breach
//! at once, as `path:line: what is wrong`.

use std::path::Path;
use std::sync::OnceLock;

use foreshade_tests::tidy::{self, File, Finding, boundaries, concepts, documents, sources, words};

fn repository() -> &'static [File] {
    static FILES: OnceLock<Vec<File>> = OnceLock::new();
    FILES.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        tidy::read(&root).unwrap_or_else(|error| panic!("{}: {error}", root.display()))
    })
}

/// Fails with all breaches, and fails too if there was nothing to look at.
fn holds_for(concerned: impl Fn(&File) -> bool, rule: impl Fn(&File) -> Vec<Finding>) {
    let files: Vec<&File> = repository().iter().filter(|file| concerned(file)).collect();
    assert!(!files.is_empty(), "this rule concerns no file at all");
    report(&files.into_iter().flat_map(rule).collect::<Vec<_>>());
}

fn report(findings: &[Finding]) {
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert!(
        lines.is_empty(),
        "{} breaches:\n{}\n",
        lines.len(),
        lines.join("\n")
    );
}

fn rust(file: &File) -> bool {
    file.ends(".rs")
}

fn manifest(file: &File) -> bool {
    file.ends("/Cargo.toml")
}

fn markdown(file: &File) -> bool {
    file.ends(".md")
}

fn script(file: &File) -> bool {
    file.path.starts_with("scripts/") || file.path.starts_with(".ci/")
}

fn any(_: &File) -> bool {
    true
}

#[test]
fn every_source_says_first_what_it_is_for() {
    holds_for(rust, sources::header);
}

#[test]
fn no_source_is_longer_than_600_lines_before_its_tests() {
    holds_for(rust, sources::length);
}

#[test]
fn no_line_is_wider_than_120_characters() {
    holds_for(
        |f| rust(f) || f.ends(".yaml") || f.path == "Makefile" || script(f),
        sources::width,
    );
}

#[test]
fn every_lint_that_is_switched_off_has_a_reason() {
    holds_for(rust, sources::lint_reasons);
}

#[test]
fn nothing_is_named_get_util_helper_common_or_manager() {
    holds_for(rust, sources::names);
}

#[test]
fn crates_depend_on_each_other_in_one_direction() {
    holds_for(manifest, boundaries::dependencies);
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    holds_for(manifest, boundaries::lints);
}

#[test]
fn only_the_edge_knows_pingora() {
    holds_for(rust, boundaries::pingora);
}

#[test]
fn only_the_crate_of_system_calls_says_unsafe() {
    holds_for(rust, boundaries::safety);
}

#[test]
fn the_engine_knows_no_clock_no_task_no_socket_and_no_chance_of_its_own() {
    holds_for(|file| file.path.starts_with("engine/src/"), boundaries::purity);
}

#[test]
fn nothing_is_left_for_later() {
    holds_for(any, words::unfinished);
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    holds_for(any, words::machine_paths);
}

#[test]
fn no_file_names_a_host_of_a_registry() {
    holds_for(any, words::registries);
}

#[test]
fn every_cited_requirement_is_in_the_table() {
    report(&concepts::known(repository()));
}

#[test]
fn the_table_has_each_requirement_once() {
    report(&concepts::distinct(repository()));
}

#[test]
fn every_requirement_that_is_done_is_cited_in_code_and_in_a_test() {
    report(&concepts::cited(repository()));
}

#[test]
fn the_table_points_at_modules_and_tests_that_exist() {
    report(&concepts::pointed_at(repository()));
}

#[test]
fn every_document_has_one_title() {
    holds_for(markdown, documents::title);
}

#[test]
fn every_link_inside_the_repository_leads_somewhere() {
    holds_for(markdown, |file| documents::links(file, repository()));
}

#[test]
fn the_change_log_has_a_place_for_what_comes_next() {
    holds_for(|file| file.path == "CHANGELOG.md", documents::change_log);
}

#[test]
fn the_architecture_is_short_and_prints_every_invariant_in_bold() {
    holds_for(|file| file.path == "ARCHITECTURE.md", documents::architecture);
}

#[test]
fn every_example_configuration_says_what_it_is_for() {
    holds_for(
        |file| file.path.starts_with("configs/") && file.ends(".yaml"),
        documents::example,
    );
}

#[test]
fn every_script_can_run_says_what_it_does_and_stops_at_a_failure() {
    holds_for(script, documents::script);
}
