//! The control plane: it keeps pairs, judges shadows, promotes them and rolls back.
//!
//! Read the modules from the ground up:
//!
//! - [`store`]: where everything lives that must survive, with the semantics of etcd and three backends;
//! - [`leader`]: which controller acts, and what keeps a deposed one from acting;
//! - [`link`]: the streams to the proxies: plans down, reports and status up;
//! - [`config`]: what it is told before it starts;
//! - a tick of the leader: [`fleet`] (what proxies said), [`evidence`] (what the judge says of it), [`reconcile`] (what the
//!   engine decides), [`journal`] (written down), and only then proxies and people are told; [`lead`] is the loop around it;
//! - [`operator`]: what people may ask and order; [`api`] offers it over HTTP, [`cli`] as a command; [`webhook`] asks
//!   and tells those who cannot come by themselves.

#![warn(clippy::indexing_slicing)]

pub mod leader;
pub mod link;
pub mod store;

pub mod config;

pub mod evidence;
pub mod fleet;
pub mod journal;
pub mod placing;
pub mod reconcile;
pub mod spec;
pub mod timetable;

mod desk;
pub mod lead;
mod metrics;
mod outside;
pub mod serve;

pub mod api;
pub mod client;
pub mod operator;
pub mod webhook;

pub mod cli;
