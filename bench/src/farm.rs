//! A farm of HTTP/1.1 endpoints that can be made faulty while they serve.
//!
//! All endpoints of a farm live on one thread with one single-threaded runtime: at a few thousand requests per second
//! their work is waiting, and the machine's other cores belong to the proxy under test. An endpoint has no queue and no
//! limit of its own: service times are independent, so what users see beyond them is the proxy's doing.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use crate::farm::fault::Fault;
use crate::farm::ledger::{Ledger, LedgerReport};
use crate::farm::service_time::ServiceTime;
use crate::farm::serving::{Core, listen};

pub mod control;
pub mod fault;
pub mod ledger;
pub mod service_time;

mod serving;

/// Paths `/a`, `/b`, ... that are counted apart; all others share the last place.
pub const PATHS_COUNTED: usize = 6;

/// One endpoint to start.
#[derive(Clone, Debug)]
pub struct EndpointSpec {
    /// Name by which faults are set.
    pub name: String,
    /// Where it listens; port 0 picks a free one.
    pub address: SocketAddr,
}

/// What a farm consists of.
#[derive(Clone, Debug)]
pub struct FarmOptions {
    /// Its endpoints; at most 65536.
    pub endpoints: Vec<EndpointSpec>,
    /// Where faults are set over HTTP, if anywhere; see [`control`].
    pub control: Option<SocketAddr>,
    /// Work per request.
    pub service_time: ServiceTime,
    /// Bytes of an answer's body.
    pub body_bytes: usize,
    /// Seed of service times and errors.
    pub seed: u64,
}

impl FarmOptions {
    /// Endpoints with the default work on free ports of the loopback interface.
    pub fn on_free_ports(names: &[&str]) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let endpoints = names
            .iter()
            .map(|name| EndpointSpec {
                name: (*name).to_owned(),
                address,
            })
            .collect();
        Self {
            endpoints,
            control: None,
            service_time: ServiceTime::default(),
            body_bytes: 100,
            seed: 1,
        }
    }
}

/// What an endpoint has done so far. Probes are not counted, only requests that carry a number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointCounts {
    /// Complete requests, by path: `/a`, `/b`, ... and at last all others.
    pub by_path: [u64; PATHS_COUNTED],
    /// Of these, how many were writes.
    pub posts: u64,
    /// Answers with a status of 400 or above.
    pub errors: u64,
    /// Writes that were cut off under way by `refuse` with `cut`, or held by `hang`: nobody can answer them.
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

/// A running farm. Dropping it closes every socket and joins its thread.
#[derive(Debug)]
pub struct Farm {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    control: Option<SocketAddr>,
    /// Dropped to stop the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// There is no endpoint of this name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the farm has no endpoint {0:?}")]
pub struct UnknownEndpoint(pub String);

impl Farm {
    /// Opens all sockets and starts serving. Fails when an address is taken.
    pub fn start(options: FarmOptions) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let shared = Arc::new(Shared::new(&options));
        let (listeners, control) = runtime.block_on(async {
            let listeners = options
                .endpoints
                .iter()
                .map(|spec| listen(spec.address))
                .collect::<io::Result<Vec<_>>>()?;
            Ok::<_, io::Error>((listeners, options.control.map(listen).transpose()?))
        })?;
        let addresses = listeners
            .iter()
            .map(TcpListener::local_addr)
            .collect::<io::Result<Vec<_>>>()?;
        let control_address = control.as_ref().map(TcpListener::local_addr).transpose()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("farm".into()).spawn(move || {
            let core = Rc::new(Core::new(serving, &options));
            let local = tokio::task::LocalSet::new();
            for (index, listener) in listeners.into_iter().enumerate() {
                local.spawn_local(Rc::clone(&core).accept(index, listener));
            }
            if let Some(listener) = control {
                local.spawn_local(control::serve(listener, Arc::clone(&core.shared)));
            }
            // Either the handle is dropped or it is told; both end the farm.
            let _ = local.block_on(&runtime, stopped);
        })?;
        Ok(Self {
            shared,
            addresses,
            control: control_address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where the endpoints listen, in the order of the options.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where faults can be set over HTTP.
    pub fn control_address(&self) -> Option<SocketAddr> {
        self.control
    }

    /// Makes an endpoint faulty, or healthy with [`Fault::Ok`]. Takes effect for requests that arrive from now on, and
    /// for established connections where the fault says so.
    pub fn set_fault(&self, name: &str, fault: Fault) -> Result<(), UnknownEndpoint> {
        self.shared.set_fault(name, fault)
    }

    /// What the endpoints have done so far.
    pub fn counts(&self) -> FarmCounts {
        self.shared.counts()
    }

    /// What the ledger has found so far.
    pub fn ledger(&self) -> LedgerReport {
        self.shared.ledger_report()
    }

    /// Serves until the process is told to end.
    pub fn join(mut self) {
        if let Some(thread) = self.thread.take() {
            // The farm's thread has nobody to report a panic to but the process that it serves.
            let _ = thread.join();
        }
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What is wrong with an endpoint, and since when.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) fault: Fault,
    pub(crate) since: Instant,
}

/// What the farm's thread shares with whoever controls it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) ledger: Mutex<Ledger>,
}

/// One endpoint's state.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) name: String,
    pub(crate) setting: watch::Sender<Setting>,
    pub(crate) by_path: [AtomicU64; PATHS_COUNTED],
    pub(crate) posts: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) posts_lost: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) connections_refused: AtomicU64,
    /// Open now.
    pub(crate) open: AtomicU64,
}

impl Shared {
    fn new(options: &FarmOptions) -> Self {
        let endpoint = |spec: &EndpointSpec| Endpoint {
            name: spec.name.clone(),
            setting: watch::Sender::new(Setting {
                fault: Fault::Ok,
                since: Instant::now(),
            }),
            by_path: Default::default(),
            posts: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            posts_lost: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            connections_refused: AtomicU64::new(0),
            open: AtomicU64::new(0),
        };
        Self {
            endpoints: options.endpoints.iter().map(endpoint).collect(),
            ledger: Mutex::default(),
        }
    }

    pub(crate) fn set_fault(&self, name: &str, fault: Fault) -> Result<(), UnknownEndpoint> {
        let endpoint = self.endpoints.iter().find(|endpoint| endpoint.name == name);
        let endpoint = endpoint.ok_or_else(|| UnknownEndpoint(name.to_owned()))?;
        endpoint.setting.send_replace(Setting {
            fault,
            since: Instant::now(),
        });
        Ok(())
    }

    pub(crate) fn faults(&self) -> BTreeMap<String, Fault> {
        let fault = |endpoint: &Endpoint| (endpoint.name.clone(), endpoint.setting.borrow().fault.clone());
        self.endpoints.iter().map(fault).collect()
    }

    pub(crate) fn counts(&self) -> FarmCounts {
        self.endpoints
            .iter()
            .map(|endpoint| (endpoint.name.clone(), endpoint.counts()))
            .collect()
    }

    pub(crate) fn ledger_report(&self) -> LedgerReport {
        self.ledger
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .report()
    }
}

impl Endpoint {
    fn counts(&self) -> EndpointCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        EndpointCounts {
            by_path: self.by_path.each_ref().map(read),
            posts: read(&self.posts),
            errors: read(&self.errors),
            posts_lost: read(&self.posts_lost),
            connections: read(&self.connections),
            connections_refused: read(&self.connections_refused),
        }
    }
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
    fn an_address_that_is_taken_is_an_error_and_not_a_silent_farm() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut options = FarmOptions::on_free_ports(&["a"]);
        options.endpoints[0].address = taken.local_addr().unwrap();
        assert!(Farm::start(options).is_err());
    }

    #[test]
    fn an_unknown_endpoint_is_named_in_the_error() {
        let farm = Farm::start(FarmOptions::on_free_ports(&["a"])).unwrap();
        assert_eq!(farm.set_fault("x", Fault::Hang), Err(UnknownEndpoint("x".into())));
        assert_eq!(farm.set_fault("a", Fault::Hang), Ok(()));
    }
}
