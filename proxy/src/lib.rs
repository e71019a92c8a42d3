//! The data plane: it serves requests, sees risk, and moves traffic to the shadow.
//!
//! Read the modules in the order in which data meets them:
//!
//! - **a request**: [`relay`], or [`http`] (pingora's phases, a line or two each) -> [`path`] -> [`client`] -> [`route`]
//!   -> [`cohort`] -> [`table`] -> [`worker`] (pick, attempts, failover) -> [`edit`], [`rewrite`] -> [`upstream`],
//!   [`grpc`] -> ([`mirror`]) -> [`outcome`] -> [`recorder`];
//! - **a connection whose bytes are carried and not read**: [`tcp`] -> [`worker`] (the same steps) -> [`outcome`] ->
//!   [`recorder`]; who the client is, a balancer may have said in [`proxy_protocol`];
//! - **a tick**: [`recorder`] -> [`scorer`] -> the engine -> [`table`];
//! - **an operator**: [`admin`] -> [`command`] -> [`scorer`]; [`explain`] asks the steps of a request by themselves;
//! - **a new process**: [`upgrade`] hands over to it; [`supervisor`] is told;
//! - **a configuration**: [`config`] -> [`topology`] -> [`reload`] -> [`scorer`] -> [`table`] -> [`worker`];
//! - **a certificate** that is ordered: [`acme`] -> its file -> [`reload`].
//!
//! Only [`server`], [`http`] and [`upstream`] know pingora.

#![warn(clippy::indexing_slicing)]

pub mod acme;
pub mod config;
pub mod tls;
pub mod topology;

pub mod access_log;
pub mod cidr;
pub mod client;
pub mod cohort;
mod copying;
mod disk;
pub mod edit;
mod fetch;
pub mod fields;
pub mod framing;
mod gather;
pub mod grpc;
pub mod http;
pub mod ledger;
mod lend;
pub mod mirror;
pub mod outcome;
pub mod path;
pub mod policy;
pub mod proxy_protocol;
pub mod recorder;
pub mod relay;
mod report;
pub mod request;
pub mod rewrite;
pub mod route;
mod socket;
pub mod table;
pub mod tally;
pub mod tcp;
pub mod trace;
pub mod udp;
pub mod upstream;
pub mod worker;

pub mod clock;
pub mod health;
pub mod link;
pub mod names;
pub mod orca;
pub mod plan;
pub mod reload;
pub mod scorer;
pub mod supervisor;
pub mod upgrade;

pub mod admin;
pub mod cli;
pub mod command;
pub mod explain;
pub mod metrics;
pub mod verbosity;

pub mod server;
