//! A farm of endpoints that can be made faulty while they serve.
//!
//! All endpoints of a farm live on one thread with one single-threaded runtime: at a few thousand requests per second
//! their work is waiting, and the machine's other cores belong to the proxy under test. So nothing that serves needs
//! a lock, and a farm is as reproducible as its seed and the arrivals are.
//!
//! Without a number of cores, an endpoint has no queue and no limit: service times are independent, and what users
//! see beyond them is the proxy's doing. With one, load costs time as it does in real servers.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::farm::endpoint::Shared;
use crate::farm::fault::Fault;
use crate::farm::ledger::{LedgerReport, Missing};
use crate::farm::service_time::ServiceTime;
use crate::farm::serving::{Core, listen, site};
use crate::farm::talk::{BODY_BYTES_MAX, Language};

pub use endpoint::{EndpointCounts, FarmCounts, FaultError, PATHS_COUNTED, path_index};

pub mod fault;

pub mod control;
pub mod ledger;
pub mod service_time;
pub mod talk;

mod alarm;
mod cores;
mod endpoint;
mod serving;
mod site;

/// Endpoints of one farm: the ledger keeps their indices in 16 bits.
const ENDPOINTS_MAX: usize = 1 << 16;

/// Requests that wait for a core of one endpoint, where that is not said: what the listen queue of a usual server
/// holds.
pub const QUEUE: usize = 1_024;

/// Cores and places in the queue: beyond, a farm that is to have limits has none.
pub const CAPACITY_MAX: usize = 1 << 20;

/// One endpoint to start.
#[derive(Clone, Debug)]
pub struct EndpointSpec {
    /// Name by which faults are set: letters, digits, `-`, `_` and `.`.
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
    /// What its endpoints speak.
    pub language: Language,
    /// Work per request.
    pub service_time: ServiceTime,
    /// Requests that each endpoint works on at once; all there are where `None`.
    pub cores: Option<usize>,
    /// Requests that wait for a core; more are answered with 503 at once.
    pub queue: usize,
    /// Bytes of an answer's body, up to [`BODY_BYTES_MAX`].
    pub body_bytes: usize,
    /// Whether answers carry an ORCA load report. Needs `cores`.
    pub orca: bool,
    /// Faults from the start, by endpoint.
    pub faults: Vec<(String, Vec<Fault>)>,
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
            language: Language::default(),
            service_time: ServiceTime::default(),
            cores: None,
            queue: QUEUE,
            body_bytes: 100,
            orca: false,
            faults: Vec::new(),
            seed: 1,
        }
    }

    fn check(&self) -> Result<(), String> {
        let named = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let mut names = BTreeSet::new();
        for EndpointSpec { name, .. } in &self.endpoints {
            if name.is_empty() || !name.bytes().all(named) {
                return Err(format!(
                    "an endpoint's name has letters, digits, -, _ and ., not {name:?}"
                ));
            }
            if !names.insert(name) {
                return Err(format!("two endpoints are called {name:?}"));
            }
        }
        let capacity = 1..=CAPACITY_MAX;
        match self {
            _ if names.is_empty() => Err("a farm without endpoints serves nothing".to_owned()),
            _ if names.len() > ENDPOINTS_MAX => Err(format!("a farm has at most {ENDPOINTS_MAX} endpoints")),
            _ if self.body_bytes > BODY_BYTES_MAX => {
                Err(format!("a body has at most {BODY_BYTES_MAX} bytes"))
            }
            Self {
                cores: Some(cores), ..
            } if !capacity.contains(cores) => {
                Err(format!("an endpoint has 1 to {CAPACITY_MAX} cores, not {cores}"))
            }
            _ if self.queue > CAPACITY_MAX => Err(format!("a queue has at most {CAPACITY_MAX} places")),
            Self {
                cores: None,
                orca: true,
                ..
            } => Err("a load report needs a number of cores, of which it says how many are busy".to_owned()),
            _ => Ok(()),
        }
    }
}

/// A running farm. Dropping it closes every socket and joins its thread.
#[derive(Debug)]
pub struct Farm {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    control: Option<SocketAddr>,
    /// Dropped to stop the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Farm {
    /// Opens all sockets and starts serving. Fails when an address is taken or the options contradict each other.
    pub fn start(options: FarmOptions) -> io::Result<Self> {
        let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
        options.check().map_err(invalid)?;
        let names = options.endpoints.iter().map(|spec| spec.name.as_str());
        let shared = Arc::new(Shared::new(names, options.cores.is_some()));
        for (name, faults) in &options.faults {
            shared
                .set_faults(name, faults)
                .map_err(|error| invalid(error.to_string()))?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (listeners, control) = runtime.block_on(async {
            let specs = options.endpoints.iter();
            let listeners = specs
                .map(|spec| open(spec.address))
                .collect::<io::Result<Vec<_>>>()?;
            Ok::<_, io::Error>((listeners, options.control.map(open).transpose()?))
        })?;
        let addresses = listeners.iter().map(TcpListener::local_addr);
        let addresses = addresses.collect::<io::Result<Vec<_>>>()?;
        let control_address = control.as_ref().map(TcpListener::local_addr).transpose()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let served = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("farm".into()).spawn(move || {
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async {
                let core = Rc::new(Core::new(&options)?);
                for (index, listener) in listeners.into_iter().enumerate() {
                    let site = Rc::new(site(&served, index, &options));
                    tokio::task::spawn_local(Rc::clone(&core).accept(Rc::clone(&site), listener));
                    tokio::task::spawn_local(async move { site.direct().await });
                }
                if let Some(listener) = control {
                    tokio::task::spawn_local(control::serve(listener, served));
                }
                tokio::select! {
                    // The handle is dropped.
                    _ = stopped => Ok(()),
                    error = core.alarm.run() => Err(error),
                }
            })
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

    /// Replaces what is wrong with an endpoint; nothing, and it is healthy. A fault that was there already goes on as
    /// it was. Takes effect for requests that arrive from now on, and for established connections where the fault
    /// says so.
    pub fn set_faults(&self, name: &str, faults: &[Fault]) -> Result<(), FaultError> {
        self.shared.set_faults(name, faults)
    }

    /// What the endpoints have done so far.
    pub fn counts(&self) -> FarmCounts {
        self.shared.counts()
    }

    /// What the ledger has found so far.
    pub fn ledger(&self) -> LedgerReport {
        self.shared.ledger().report()
    }

    /// Of writes that were answered as done, those that never took effect.
    pub fn missing(&self, answered: &[u64]) -> Missing {
        self.shared.ledger().missing(answered)
    }

    /// Serves until the process is told to end, or the farm can no longer keep time.
    pub fn join(mut self) -> io::Result<()> {
        let thread = self.thread.take();
        thread.map_or(Ok(()), |thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the farm's thread panicked")))
        })
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Whoever drops a farm has no use for its errors.
            let _ = thread.join();
        }
    }
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    listen(address).map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_taken_is_an_error_that_names_it_and_not_a_silent_farm() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let mut options = FarmOptions::on_free_ports(&["a"]);
        options.endpoints[0].address = address;
        let error = Farm::start(options).unwrap_err().to_string();
        assert!(error.contains(&address.to_string()), "{error}");
    }

    #[test]
    fn options_that_cannot_be_served_are_refused() {
        let refused = |change: fn(&mut FarmOptions)| {
            let mut options = FarmOptions::on_free_ports(&["a", "b"]);
            change(&mut options);
            Farm::start(options).unwrap_err().to_string()
        };
        assert!(refused(|o| o.endpoints[1].name = "a".into()).contains("two endpoints are called \"a\""));
        assert!(refused(|o| o.endpoints.clear()).contains("without endpoints"));
        assert!(refused(|o| o.endpoints[0].name = "a b".into()).contains("\"a b\""));
        assert!(refused(|o| o.body_bytes = 2_000_000).contains("1048576"));
        assert!(refused(|o| o.orca = true).contains("cores"));
        assert!(refused(|o| o.cores = Some(0)).contains("cores"));
        assert!(refused(|o| o.faults = vec![("z".into(), vec![])]).contains("no endpoint \"z\""));
    }
}
