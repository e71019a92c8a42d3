//! The bench: faulty endpoints, honest load, and the scenarios that the product is judged by.
//!
//! Everything here is a library first, so that the whole-system tests drive the same farm and the same load as the
//! command line does. Read it in the order in which the pieces meet:
//!
//! - **users**: [`schedule`] and [`mix`] decide when and what is asked, [`load`] asks, [`record`] holds what they saw;
//! - **endpoints**: [`endpoints`] answers over [`wire`] as [`fault`] and [`service_time`] tell it, [`ledger`] remembers
//!   which write took effect where, [`control`] lets others set faults;
//! - **a run**: [`topology`] reads the configuration, [`process`] keeps children on a leash, [`stage`] starts farm and
//!   proxy and watches both into a [`timeline`];
//! - **a judgement**: [`scenarios`] is the table of faults and [`claim`]s, [`scenario`] plays one, [`verdict`] judges it,
//!   [`report`] prints it;
//! - **beside that**: [`demo`] on a [`screen`], [`cpu`] against [`bare`] pingora in a [`closed_loop`] on [`cores`] of
//!   their own, [`mirror`]; what is left behind: [`reloads`] and [`soak`] with [`strangers`], their [`usage`] and its
//!   [`growth`].

pub mod mix;
pub mod schedule;

pub mod load;
mod pool;
pub mod record;

pub mod endpoints;
pub mod fault;
pub mod ledger;
pub mod service_time;
mod serving;
pub mod wire;

pub mod client;
pub mod control;

pub mod admin;
pub mod process;
pub mod stage;
pub mod timeline;
pub mod topology;

pub mod claim;
pub mod report;
pub mod scenario;
pub mod scenarios;
pub mod verdict;

pub mod demo;
pub mod screen;

pub mod bare;
pub mod closed_loop;
pub mod cores;
pub mod cpu;
pub mod mirror;

pub mod growth;
pub mod reloads;
pub mod soak;
pub mod strangers;
pub mod usage;

pub mod commands;
pub mod terminal;
