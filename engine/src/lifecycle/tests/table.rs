//! The table as a whole: no state without a way in, and none that waits without a way out.

use std::collections::BTreeSet;

use super::super::policy::Policy;
use super::super::state::State;
use super::super::table;

#[test]
fn a_state_that_waits_has_a_deadline_or_a_way_out_by_time() {
    let policy = Policy::default();
    for state in State::ALL.into_iter().filter(|state| !state.is_resting()) {
        let by_rest = state == State::Failed;
        assert!(state.deadline(&policy).is_some() || by_rest, "{state}");
    }
    for state in State::ALL.into_iter().filter(|state| state.is_resting()) {
        assert_eq!(state.deadline(&policy), None, "{state}");
    }
}

#[test]
fn every_state_is_entered_and_left_by_the_table_or_by_a_law() {
    let rows = table();
    let ends: BTreeSet<State> = rows.iter().map(|row| row.to).collect();
    let starts: BTreeSet<State> = rows.iter().map(|row| row.from).collect();
    let named = |states: BTreeSet<State>| -> Vec<String> {
        let others = State::ALL.into_iter().filter(|state| !states.contains(state));
        others.map(|state| state.to_string()).collect()
    };
    // Into these lead a law or an order.
    assert_eq!(
        named(ends),
        [
            "Shifting.Paused",
            "RollingBack.Fence",
            "FailedOver",
            "Frozen",
            "Retired"
        ]
    );
    // And these are left by an order or a deadline.
    assert_eq!(named(starts), ["Shifting.Paused", "Frozen", "Retired"]);
}

#[test]
fn a_row_reads_as_a_question_with_conditions() {
    let rows: Vec<String> = table().iter().map(ToString::to_string).collect();
    let expected =
        "Promoting.CatchUp -> Promoting.Flip: all that was written has arrived\n    if the standby is well";
    assert!(rows.iter().any(|row| row == expected), "{rows:#?}");
    let distinct: BTreeSet<&String> = rows.iter().collect();
    assert_eq!(distinct.len(), rows.len());
}

#[test]
fn the_document_prints_the_table_as_it_is() {
    let document = include_str!("../../../../docs/lifecycle.md");
    let printed: Vec<&str> = document
        .lines()
        .skip_while(|line| *line != "```text table")
        .skip(1)
        .take_while(|line| *line != "```")
        .collect();
    let rows: Vec<String> = table().iter().map(ToString::to_string).collect();
    let rows = rows.join("\n");
    assert!(
        printed.join("\n") == rows,
        "docs/lifecycle.md should say:\n{rows}"
    );
}
