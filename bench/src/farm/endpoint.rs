//! What the farm's thread shares with whoever controls it: the faults of each endpoint, and what it has done.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::farm::fault::{FAULTS_MAX, Fault, Kind};
use crate::farm::ledger::Ledger;

/// Paths `/a`, `/b`, ... that are counted apart; all others share the last place.
pub const PATHS_COUNTED: usize = 6;

/// What an endpoint has done so far. Probes are not counted, only requests that carry a number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointCounts {
    /// Complete requests, by path: `/a`, `/b`, ... and at last all others.
    pub by_path: [u64; PATHS_COUNTED],
    /// Of these, how many were writes.
    pub posts: u64,
    /// Answers with a status of 400 or above.
    pub errors: u64,
    /// Of these, how many because the queue was full: nobody worked on them, and no write of them took effect.
    #[serde(default)]
    pub turned_away: u64,
    /// Writes that took effect and that nobody was told of: cut off under way, held by a hang, or answered by a reset, garbage
    /// or half an answer.
    pub posts_lost: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Connections closed at once because there were too many.
    pub connections_refused: u64,
}

impl EndpointCounts {
    /// Complete requests on all paths.
    pub fn requests(&self) -> u64 {
        self.by_path.iter().sum()
    }
}

/// Counts of all endpoints by name.
pub type FarmCounts = BTreeMap<String, EndpointCounts>;

/// Why faults cannot be set.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// There is no endpoint of this name.
    #[error("the farm has no endpoint {0:?}, only {1}")]
    UnknownEndpoint(String, String),
    /// A fault contradicts itself.
    #[error("{0}")]
    Nonsense(String),
    /// There are too many at once.
    #[error("an endpoint has at most {FAULTS_MAX} faults at a time, not {0}")]
    TooMany(usize),
    /// The capacity of endpoints that have no limit cannot shrink.
    #[error("a fault of capacity needs a farm with a number of cores (`--cores`)")]
    NoCapacity,
}

/// A fault, and when it was set.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) fault: Fault,
    pub(crate) since: Instant,
}

impl Standing {
    /// The fault, and how old it is.
    pub(crate) fn aged(&self, now: Instant) -> (&Fault, Duration) {
        (&self.fault, now.saturating_duration_since(self.since))
    }

    /// When the fault may change next.
    pub(crate) fn next_edge(&self, now: Instant) -> Option<Instant> {
        let (fault, age) = self.aged(now);
        self.since.checked_add(fault.next_edge(age)?)
    }
}

/// The endpoints of a farm.
#[derive(Debug)]
pub(crate) struct Shared {
    endpoints: Vec<Endpoint>,
    ledger: Mutex<Ledger>,
    has_cores: bool,
}

/// One endpoint.
#[derive(Debug, Default)]
pub(crate) struct Endpoint {
    name: String,
    faults: Mutex<Vec<Standing>>,
    /// Of the faults: raised with every change.
    pub(crate) generation: AtomicU64,
    /// The faults have changed.
    pub(crate) changed: Notify,
    pub(crate) by_path: [AtomicU64; PATHS_COUNTED],
    pub(crate) posts: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) turned_away: AtomicU64,
    pub(crate) posts_lost: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) connections_refused: AtomicU64,
}

impl Shared {
    /// Healthy endpoints with these names.
    pub(crate) fn new<'a>(names: impl IntoIterator<Item = &'a str>, has_cores: bool) -> Self {
        let endpoint = |name: &str| Endpoint {
            name: name.to_owned(),
            ..Endpoint::default()
        };
        Self {
            endpoints: names.into_iter().map(endpoint).collect(),
            ledger: Mutex::default(),
            has_cores,
        }
    }

    /// The endpoint at `index`, which is one of the farm's.
    pub(crate) fn endpoint(&self, index: usize) -> &Endpoint {
        &self.endpoints[index]
    }

    /// Replaces the faults of an endpoint. One that is there already keeps its age.
    pub(crate) fn set_faults(&self, name: &str, faults: &[Fault]) -> Result<(), FaultError> {
        let endpoint = self.endpoints.iter().find(|endpoint| endpoint.name == name);
        let endpoint = endpoint.ok_or_else(|| {
            let names: Vec<_> = self.endpoints.iter().map(|endpoint| &*endpoint.name).collect();
            FaultError::UnknownEndpoint(name.to_owned(), names.join(", "))
        })?;
        for fault in faults {
            fault.check().map_err(FaultError::Nonsense)?;
            if matches!(fault.kind, Kind::Capacity { .. }) && !self.has_cores {
                return Err(FaultError::NoCapacity);
            }
        }
        if faults.len() > FAULTS_MAX {
            return Err(FaultError::TooMany(faults.len()));
        }
        endpoint.replace(faults);
        Ok(())
    }

    /// What is wrong with whom.
    pub(crate) fn faults(&self) -> BTreeMap<String, Vec<Fault>> {
        let faults = |endpoint: &Endpoint| {
            let standing = endpoint.standing().into_iter();
            (
                endpoint.name.clone(),
                standing.map(|standing| standing.fault).collect(),
            )
        };
        self.endpoints.iter().map(faults).collect()
    }

    /// What each has done.
    pub(crate) fn counts(&self) -> FarmCounts {
        self.endpoints
            .iter()
            .map(|endpoint| (endpoint.name.clone(), endpoint.counts()))
            .collect()
    }

    /// The writes that took effect.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Endpoint {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn standing(&self) -> Vec<Standing> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Standing>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(&self, faults: &[Fault]) {
        let mut standing = self.lock();
        let mut before = std::mem::take(&mut *standing);
        let now = Instant::now();
        for fault in faults {
            let known = before.iter().position(|standing| standing.fault == *fault);
            standing.push(known.map_or_else(
                || Standing {
                    fault: fault.clone(),
                    since: now,
                },
                |index| before.swap_remove(index),
            ));
        }
        // Under the lock, so that whoever sees the new number finds the new faults.
        self.generation.fetch_add(1, Ordering::Release);
        drop(standing);
        // There is one director; if it is not waiting at the moment, it finds the permit.
        self.changed.notify_one();
    }

    fn counts(&self) -> EndpointCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        EndpointCounts {
            by_path: self.by_path.each_ref().map(read),
            posts: read(&self.posts),
            errors: read(&self.errors),
            turned_away: read(&self.turned_away),
            posts_lost: read(&self.posts_lost),
            connections: read(&self.connections),
            connections_refused: read(&self.connections_refused),
        }
    }
}

/// Counts one more.
pub(crate) fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Place of a path in [`EndpointCounts::by_path`].
pub fn path_index(path: &[u8]) -> usize {
    let other = PATHS_COUNTED - 1;
    match path {
        [b'/', letter @ b'a'..=b'z', b'/' | b'?', ..] | [b'/', letter @ b'a'..=b'z'] => {
            usize::from(letter - b'a').min(other)
        }
        _ => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_counted_by_their_first_segment() {
        let places =
            ["/a", "/b/7", "/e?x=1", "/f", "/z", "/", "/about"].map(|path| path_index(path.as_bytes()));
        assert_eq!(places, [0, 1, 4, 5, 5, 5, 5]);
    }

    #[test]
    fn what_cannot_be_set_changes_nothing() {
        let shared = Shared::new(["a", "b"], false);
        let set = |name, faults: &[Fault]| shared.set_faults(name, faults).unwrap_err().to_string();
        assert!(set("x", &[]).contains("no endpoint \"x\", only a, b"));
        assert!(set("a", &[Fault::slow(2.0), Fault::errors(7.0)]).contains("between 0 and 1"));
        assert!(set("a", &[Kind::Capacity { left: 0.5 }.into()]).contains("--cores"));
        assert!(set("a", &vec![Fault::slow(2.0); FAULTS_MAX + 1]).contains("at most 16"));
        assert!(shared.faults().values().all(Vec::is_empty));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_that_stays_in_the_list_keeps_its_age() {
        let shared = Shared::new(["a"], false);
        let (stays, comes) = (Fault::slow(2.0), Fault::errors(0.5));
        shared.set_faults("a", std::slice::from_ref(&stays)).unwrap();
        tokio::time::advance(Duration::from_secs(5)).await;
        shared.set_faults("a", &[comes, stays]).unwrap();
        let now = Instant::now();
        let ages = shared.endpoint(0).standing();
        let ages: Vec<_> = ages
            .iter()
            .map(|standing| standing.aged(now).1.as_secs())
            .collect();
        assert_eq!(ages, [0, 5]);
    }
}
