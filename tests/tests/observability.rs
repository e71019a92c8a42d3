//! The dashboard and the alerts speak of metrics that exist, with labels that exist, and every alert leads somewhere.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use foreshade_tests::promtool;
use foreshade_tests::proxy::root;
use serde_json::Value;

const RULES: &str = "docs/alerts/foreshade.rules.yml";

/// Labels that a scraper adds, and that of a histogram's buckets.
const FOREIGN_LABELS: [&str; 3] = ["job", "instance", "le"];

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect(path)
}

/// Every metric of docs/metrics.md with its labels; a test of the proxy holds that list against the page.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let document = read("docs/metrics.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `"));
    let parsed = rows.map(|row| {
        let cells: Vec<_> = row.split('|').collect();
        let labels = cells[2]
            .split(',')
            .map(|label| label.trim().trim_matches('`').to_owned());
        let name = cells[0].trim().trim_matches('`').to_owned();
        (name, labels.filter(|label| !label.is_empty()).collect())
    });
    parsed.collect()
}

/// The metrics of an expression, each with the labels in the braces behind it.
fn named(expression: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for prefix in ["foreshade_", "process_"] {
        for (at, _) in expression.match_indices(prefix) {
            let rest = &expression[at..];
            let end = rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                .unwrap_or(rest.len());
            let braces = rest[end..]
                .strip_prefix('{')
                .and_then(|inside| inside.split('}').next());
            let labels = braces
                .into_iter()
                .flat_map(|inside| inside.split("\","))
                .map(|pair| {
                    let end = pair.find(['=', '!']).unwrap_or(pair.len());
                    pair[..end].trim().to_owned()
                });
            found.push((rest[..end].to_owned(), labels.collect()));
        }
    }
    found
}

fn exist(expression: &str, documented: &BTreeMap<String, BTreeSet<String>>) {
    let all = named(expression);
    assert!(
        !all.is_empty() || expression.starts_with("up{"),
        "{expression} names no metric of ours"
    );
    for (name, labels) in all {
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|part| {
                name.strip_suffix(part)
                    .filter(|family| documented.contains_key(*family))
            })
            .unwrap_or(&name);
        let known = documented
            .get(family)
            .unwrap_or_else(|| panic!("no metric {name}, in {expression}"));
        for label in labels {
            let exists = known.contains(&label) || FOREIGN_LABELS.contains(&label.as_str());
            assert!(exists, "{name} has no label {label}, in {expression}");
        }
    }
}

#[test]
fn expressions_are_read_as_they_are_meant() {
    let expression = "rate(foreshade_a_total{x=\"1\",y!~\"a,b\"}[5m]) / process_b";
    let expected = [
        (
            "foreshade_a_total".to_owned(),
            vec!["x".to_owned(), "y".to_owned()],
        ),
        ("process_b".to_owned(), vec![]),
    ];
    assert_eq!(named(expression), expected);
}

#[test]
fn every_query_of_the_dashboard_uses_metrics_that_exist() {
    let dashboard: Value = serde_json::from_str(&read("docs/dashboards/foreshade.json")).unwrap();
    let documented = documented();
    let mut ids = BTreeSet::new();
    let mut queries = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(
            ids.insert(panel["id"].as_u64().unwrap()),
            "two panels with one id: {}",
            panel["title"]
        );
        for target in panel["targets"].as_array().into_iter().flatten() {
            assert!(
                panel["description"].is_string(),
                "{} says nothing of itself",
                panel["title"]
            );
            exist(target["expr"].as_str().unwrap(), &documented);
            queries += 1;
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if let Some(query) = variable["definition"].as_str() {
            exist(query, &documented);
            queries += 1;
        }
    }
    assert!(queries > 30, "{queries}");
}

/// An alert, as far as it matters here.
#[derive(Debug, Default)]
struct Alert {
    name: String,
    expression: String,
    lines: String,
}

/// The alerts of the rules, taken apart by their indentation.
fn alerts() -> Vec<Alert> {
    let mut alerts: Vec<Alert> = Vec::new();
    let mut in_expression = false;
    for line in read(RULES).lines() {
        if let Some(name) = line.trim_start().strip_prefix("- alert: ") {
            alerts.push(Alert {
                name: name.to_owned(),
                ..Alert::default()
            });
        }
        let Some(alert) = alerts.last_mut() else { continue };
        alert.lines += line.trim();
        alert.lines.push('\n');
        match line.strip_prefix("        expr: ") {
            Some(expression) => {
                alert.expression = expression.trim_start_matches('|').to_owned();
                in_expression = true;
            }
            None if in_expression && line.starts_with("          ") => alert.expression += line,
            None => in_expression = false,
        }
    }
    alerts
}

#[test]
fn every_alert_is_of_metrics_that_exist_has_a_severity_and_a_section_in_the_runbook() {
    let documented = documented();
    let runbook = read("docs/operating.md");
    let alerts = alerts();
    assert!(alerts.len() > 10);
    for alert in &alerts {
        let Alert {
            name,
            expression,
            lines,
        } = alert;
        exist(expression.trim(), &documented);
        let severe = ["labels: { severity: page }", "labels: { severity: ticket }"];
        assert!(
            severe.iter().any(|severity| lines.contains(severity)),
            "{name} has no severity"
        );
        assert!(lines.contains("summary: \""), "{name} has no summary");
        let anchor = format!("runbook: docs/operating.md#{}\n", name.to_lowercase());
        assert!(lines.contains(&anchor), "{name} lacks {anchor}");
        assert!(
            runbook.contains(&format!("\n### {name}\n")),
            "docs/operating.md has no section {name}"
        );
    }
    let sections = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("### Foreshade"));
    assert_eq!(
        sections.count(),
        alerts.len(),
        "a section of docs/operating.md has no alert"
    );
}

#[test]
fn every_alert_has_a_test_in_which_it_fires() {
    let tests = read("docs/alerts/foreshade.test.yml");
    for Alert { name, .. } in alerts() {
        let fires = format!("alertname: {name}\n        exp_alerts:\n          - exp_labels:");
        assert!(tests.contains(&fires), "no test fires {name}");
        let silent = format!("alertname: {name}, exp_alerts: [] }}");
        assert!(tests.contains(&silent), "no test keeps {name} silent");
    }
}

#[test]
fn promtool_takes_the_rules_and_their_tests_pass() {
    promtool::check(&["check", "rules", RULES], "");
    promtool::check(&["test", "rules", "docs/alerts/foreshade.test.yml"], "");
}
