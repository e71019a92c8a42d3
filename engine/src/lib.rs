//! Every decision of foreshade, pure: `(state, observation, now, rng) -> (state, decision)`.
//!
//! No clock, no task, no socket, no global randomness. The proxy runs this crate on live traffic, the bench grades it in
//! virtual time, and the controller will replay it. Read the modules in the order in which data meets them:
//!
//! - **a request** is hashed into a cohort ([`cohort`]), balanced over the cluster's pairs ([`balance`]), and, where an
//!   attempt failed, moved or not ([`failover`], within [`budget`]); how many may be under way shows in what they take
//!   ([`gradient`]);
//! - **its end** is an [`outcome`], counted in an [`observation`] (while it waits: in [`in_flight`]);
//! - **each tick** the observations become an [`assessment`] per endpoint ([`risk`]), the assessments become shares
//!   ([`shift`]), and both become one [`decision`] ([`cluster`]) that can be explained ([`explain`]);
//! - **over minutes** the controller chooses a shadow ([`placement`]) and leads the pair through its life ([`lifecycle`]);
//! - **a rollout** is judged by what its two arms counted, with a stated probability of being wrong ([`verdict`]).

#![warn(clippy::indexing_slicing)]

pub mod lineage;
pub mod moment;

pub mod balance;
pub mod budget;
pub mod cohort;
pub mod failover;
pub mod gradient;

pub mod in_flight;
pub mod latencies;
pub mod observation;
pub mod outcome;

pub mod assessment;
pub mod baseline;
pub mod common_cause;
pub mod cusum;
pub mod health;
pub mod risk;
pub mod spectrum;

pub mod verdict;

pub mod capacity;
pub mod cluster;
pub mod decision;
pub mod explain;
pub mod panic;
pub mod shift;

pub mod lifecycle;
pub mod placement;

pub mod ablation;
pub mod model;
pub mod spec;
