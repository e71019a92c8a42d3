//! The bench: faulty endpoints, honest load, rivals side by side, and the scenarios that the product is judged by.
//!
//! Everything here is a library first, so that the whole-system tests drive the same farm and the same load as the
//! command line does. Read it in the order in which the pieces meet:
//!
//! - **users**: [`load`] asks what its schedule and mix say, and records what they saw; [`closed_loop`] asks as fast as
//!   answers come;
//! - **endpoints**: [`farm`] answers over [`wire`] as its faults tell it, and remembers which write took effect where;
//!   [`client`] asks one thing at a time;
//! - **a run**: [`stage`] starts farm and proxy as processes on a leash, and watches both;
//! - **a judgement**: [`scenarios`] is the table of faults and [`claim`]s, [`scenario`] plays one, [`verdict`] judges it,
//!   [`table`] prints it;
//! - **beside that**: [`demo`] on a [`screen`], [`cpu`] against [`bare`] pingora, [`mirror`]; what is left behind:
//!   [`reloads`] and [`soak`] with [`strangers`], and its [`growth`].

pub mod load;

pub mod client;
pub mod farm;
pub mod wire;

pub mod stage;

pub mod results;

pub mod claim;
pub mod scenario;
pub mod scenarios;
pub mod table;
pub mod verdict;

pub mod demo;
pub mod screen;

pub mod bare;
pub mod closed_loop;
pub mod cpu;
pub mod mirror;

pub mod growth;
pub mod reloads;
pub mod soak;
pub mod strangers;

pub mod commands;
pub mod terminal;
