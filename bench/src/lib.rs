//! The bench: faulty endpoints, honest load, rivals side by side, and the scenarios that the product is judged by.
//!
//! Everything here is a library first, so that the whole-system tests drive the same farm and the same load as the
//! command line does. Read it in the order in which the pieces meet:
//!
//! - **words**: [`quantity`] is how durations, parts, rates and sizes are written in files and options;
//! - **users**: [`load`] asks what its schedule and mix say, and records what they saw; [`closed_loop`] has it ask as
//!   fast as answers come, while a meter runs;
//! - **endpoints**: [`farm`] answers over [`wire`] as its faults tell it, and remembers which write took effect where;
//!   [`client`] asks one thing at a time;
//! - **a run**: [`stage`] starts farm and proxy as processes on a leash, and watches both;
//! - **a judgement**: a [`scenario`] is a file with faults and [`claim`]s, [`play`] plays one, a [`run`] is what is
//!   left of it, [`verdict`] judges it, [`figures`] measures it, [`table`] prints it;
//! - **the rivals**: [`rivals`] finds, configures and starts whoever is compared, [`bare`] pingora among them;
//!   [`compare`] measures what serving costs them, [`faults`] sets them side by side in the scenarios;
//! - **many judgements**: [`sim`] plays the same files in virtual time, a thousand seeds instead of one; [`agreement`]
//!   says whether that leads to the same conclusions; [`judge`] has verdicts about canaries compared;
//! - **a page**: [`report`] draws what runs left behind as [`results`];
//! - **beside that**: [`demo`] on a [`screen`], [`mirror`]; what is left behind:
//!   [`reloads`] and [`soak`] with [`strangers`], and its [`growth`].

pub mod quantity;

pub mod load;

pub mod client;
pub mod farm;
pub mod wire;

pub mod stage;

pub mod report;
pub mod results;

pub mod claim;
pub mod figures;
pub mod play;
pub mod run;
pub mod scenario;
pub mod table;
pub mod verdict;

pub mod agreement;
pub mod sim;

pub mod judge;

pub mod demo;
pub mod screen;

pub mod bare;
pub mod rivals;

pub mod closed_loop;
pub mod compare;
pub mod faults;
pub mod mirror;
pub mod outage;

pub mod growth;
pub mod reloads;
pub mod soak;
pub mod strangers;

pub mod commands;
pub mod terminal;
