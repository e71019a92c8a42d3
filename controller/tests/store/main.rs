//! What a store promises, kept by all three: every rule is a test of each backend, and the hard ones have their own.
//!
//! The tests register themselves here instead of with the usual runner, because that one cannot say that a test was
//! skipped: where there is no etcd, its tests are listed as ignored, each by name, and a line says so.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "a test that cannot go on has failed; what is skipped has to be said; small numbers fit"
)]

mod bench;
mod checker;
mod cluster;
mod crash;
mod etcd_server;
mod foreign;
mod full;
mod kill;
mod leadership;
mod model;
mod recorded;
mod rules;
mod together;

use std::process::ExitCode;

use bench::{Bench, Kind, block_on};
use etcd_server::EtcdServer;
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    if kill::is_child() {
        kill::write_until_killed();
    }
    let mut tests: Vec<(String, Box<dyn FnOnce() + Send>)> = Vec::new();
    for kind in Kind::ALL {
        let durable = if kind == Kind::Memory {
            &[]
        } else {
            rules::OF_DURABLE
        };
        for (name, rule) in rules::OF_ALL.iter().chain(durable).chain(leadership::OF_ALL) {
            let run = move || block_on(async move { rule(Bench::new(kind).await).await });
            tests.push((format!("{kind}::{name}"), Box::new(run)));
        }
    }
    for (name, run) in alone() {
        tests.push((name.to_owned(), Box::new(run)));
    }
    let etcd = EtcdServer::is_here();
    let trial = |(name, run): (String, Box<dyn FnOnce() + Send>)| {
        let missing = match name.as_str() {
            name if name.starts_with("etcd::") && !etcd => {
                Some("an etcd; on Debian: apt-get install etcd-server")
            }
            "redb::a_full_file_system_stops_writes" if !full::can_mount() => Some("the right to mount"),
            _ => None,
        };
        if let Some(what) = missing {
            eprintln!("SKIPPED: {name}: it takes {what}");
        }
        let test = move || {
            run();
            Ok(())
        };
        Trial::test(name, test).with_ignored_flag(missing.is_some())
    };
    let trials = tests.into_iter().map(trial).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Tests that are not a rule of every backend.
fn alone() -> Vec<(&'static str, fn())> {
    let mut tests: Vec<(&'static str, fn())> = vec![
        (
            "redb::does_what_the_model_does",
            model::redb_does_what_the_model_does,
        ),
        (
            "etcd::does_what_the_model_does",
            model::etcd_does_what_the_model_does,
        ),
        (
            "redb::a_power_cut_at_any_point_loses_nothing",
            crash::a_power_cut_at_any_point_loses_nothing,
        ),
        ("redb::kill_9_loses_nothing", kill::kill_9_loses_nothing),
        (
            "redb::a_full_disk_stops_writes_and_is_noticed_when_it_has_space",
            full::a_full_disk,
        ),
        ("redb::a_full_file_system_stops_writes", full::a_full_file_system),
        (
            "redb::what_is_no_store_is_left_as_it_is",
            foreign::what_is_no_store,
        ),
        ("redb::a_rotten_file_is_never_served", foreign::a_rotten_file),
        ("redb::two_processes_cannot_have_one_file", foreign::two_at_once),
        ("etcd::a_quota_that_is_used_up_is_said", full::etcd_at_its_quota),
        (
            "etcd::without_a_server_nothing_is_said_to_be_written",
            foreign::no_etcd,
        ),
        (
            "etcd::members_that_die_lose_nothing",
            cluster::members_that_die_lose_nothing,
        ),
        (
            "etcd::a_leader_outlives_a_member",
            cluster::a_leader_outlives_a_member,
        ),
        (
            "etcd::certificates_are_asked_for_and_shown",
            cluster::certificates_are_asked_for_and_shown,
        ),
        (
            "memory::a_leader_steps_down_at_two_thirds",
            leadership::steps_down_at_two_thirds,
        ),
        (
            "memory::a_silent_leader_is_followed",
            leadership::a_silent_leader_is_followed,
        ),
        (
            "redb::writes_that_wait_share_a_sync",
            together::writes_that_wait_share_a_sync,
        ),
        (
            "redb::what_is_not_on_disk_is_not_seen",
            together::what_is_not_on_disk_is_not_seen,
        ),
    ];
    tests.extend(checker::validators());
    tests
}
