//! What became of a reload, as operators, logs and metrics tell it: one table of results, one text per refusal.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::Outcome;
use crate::config::{Config, Mistakes};
use crate::server::ServerError;
use crate::topology::Topology;

/// Every result that a reload can have, as its label.
pub const RESULTS: [&str; 6] = [
    "applied",
    "unchanged",
    "invalid",
    "needs_restart",
    "address_taken",
    "not_ready",
];

/// The configuration that was asked for runs.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Which configuration of this process it is.
    pub generation: u64,
    /// Of its text.
    pub hash: u64,
    /// What came and went; `None` where it ran already.
    pub changes: Option<Changes>,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The file cannot be read, or has mistakes.
    #[error("{0}")]
    Invalid(Mistakes),
    /// It changes what cannot change while the process runs; one sentence each.
    #[error("{}", .0.join("; "))]
    NeedsRestart(Vec<String>),
    /// A new listener's address cannot be listened on.
    #[error("{}", chain(.0))]
    Listen(#[from] ServerError),
    /// The proxy starts, stops, or is stuck.
    #[error("{0}")]
    NotReady(&'static str),
}

/// How many came and went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changes {
    /// Listeners.
    pub listeners: Change,
    /// Clusters.
    pub clusters: Change,
    /// Endpoints and shadows, over all clusters.
    pub endpoints: Change,
}

/// Of one kind of thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// New.
    pub added: usize,
    /// Gone.
    pub removed: usize,
}

/// What has been tried since the start.
#[derive(Clone, Debug)]
pub struct Status {
    /// Which configuration of this process runs, from 1.
    pub generation: u64,
    /// Of its text.
    pub hash: u64,
    /// Reloads by result, in the order of [`RESULTS`].
    pub counts: [u64; RESULTS.len()],
    /// The last one, and when it was.
    pub last: Option<(Instant, Arc<Outcome>)>,
}

impl Applied {
    pub(super) fn unchanged(running: &Topology) -> Self {
        Self {
            generation: running.generation(),
            hash: running.config().source.hash,
            changes: None,
        }
    }

    pub(super) fn new(before: &Topology, after: &Topology) -> Self {
        Self {
            changes: Some(Changes::between(before, after)),
            ..Self::unchanged(after)
        }
    }
}

impl Refused {
    /// Its label in metrics and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid",
            Self::NeedsRestart(_) => "needs_restart",
            Self::Listen(_) => "address_taken",
            Self::NotReady(_) => "not_ready",
        }
    }

    /// All that is wrong, one sentence each.
    pub fn mistakes(&self) -> Vec<String> {
        match self {
            Self::Invalid(mistakes) => mistakes.iter().map(ToString::to_string).collect(),
            Self::NeedsRestart(changes) => changes.clone(),
            Self::Listen(_) | Self::NotReady(_) => Vec::new(),
        }
    }
}

/// The label of a result.
pub fn label(outcome: &Outcome) -> &'static str {
    match outcome {
        Ok(Applied { changes: Some(_), .. }) => "applied",
        Ok(_) => "unchanged",
        Err(refused) => refused.label(),
    }
}

impl Changes {
    fn between(before: &Topology, after: &Topology) -> Self {
        Self {
            listeners: Change::between(
                before.listeners().map(|(id, _)| id),
                after.listeners().map(|(id, _)| id),
            ),
            clusters: Change::between(before.cluster_ids(), after.cluster_ids()),
            endpoints: Change::between(before.endpoint_ids(), after.endpoint_ids()),
        }
    }
}

impl Change {
    fn between<T: Eq + std::hash::Hash>(
        before: impl Iterator<Item = T>,
        after: impl Iterator<Item = T>,
    ) -> Self {
        let before: std::collections::HashSet<T> = before.collect();
        let (mut stay, mut added) = (0, 0);
        for id in after {
            if before.contains(&id) {
                stay += 1;
            } else {
                added += 1;
            }
        }
        Self {
            added,
            removed: before.len() - stay,
        }
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            ("listeners", self.listeners),
            ("clusters", self.clusters),
            ("endpoints", self.endpoints),
        ];
        for (at, (kind, change)) in kinds.into_iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{kind} +{} -{}", change.added, change.removed)?;
        }
        Ok(())
    }
}

impl Status {
    /// Nothing has been tried.
    pub fn first(running: &Topology) -> Self {
        Self {
            generation: running.generation(),
            hash: running.config().source.hash,
            counts: [0; RESULTS.len()],
            last: None,
        }
    }

    pub(super) fn record(&mut self, running: &Topology, outcome: Arc<Outcome>) {
        self.generation = running.generation();
        self.hash = running.config().source.hash;
        let index = RESULTS.iter().position(|result| *result == label(&outcome));
        if let Some(count) = index.and_then(|index| self.counts.get_mut(index)) {
            *count += 1;
        }
        self.last = Some((Instant::now(), outcome));
    }
}

/// What a running process cannot change, one sentence each.
pub(super) fn needs_restart(before: &Config, after: &Config) -> Vec<String> {
    let mut changes = Vec::new();
    let mut compare = |key: &str, before: String, after: String| {
        if before != after {
            changes.push(format!(
                "{key} changes from {before} to {after}, which needs a restart"
            ));
        }
    };
    compare(
        "admin.address",
        before.admin.address.to_string(),
        after.admin.address.to_string(),
    );
    compare("workers", before.workers.to_string(), after.workers.to_string());
    let same_address = before.admin.address.to_string() == after.admin.address.to_string();
    for (key, changed) in [
        ("the rest of admin", same_address && before.admin != after.admin),
        ("upgrade.socket", before.upgrade_socket != after.upgrade_socket),
        ("accessLog", before.access_log != after.access_log),
        ("trace.export", before.trace_export != after.trace_export),
        ("controller", before.controller != after.controller),
    ] {
        if changed {
            changes.push(format!("{key} changes, which needs a restart"));
        }
    }
    changes
}

/// An error and what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
