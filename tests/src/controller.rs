//! The controller's end of the link in this process: it publishes what the test says, and keeps what proxies tell.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use foreshade_contract::{
    Arm, Epoch, Generation, PairId, PairPlan, PairReport, Plan, PlanId, Round, Share, Status,
};
use foreshade_controller::link::{Acknowledged, Arrived, Links, Settings, Tls, Token, serve};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

use crate::proxy::PATIENCE;

/// What proxies have told, newest first in each of them.
#[derive(Debug, Default)]
pub struct Heard {
    /// By proxy, its last status.
    pub statuses: BTreeMap<String, Status>,
    /// By pair, the last report of it.
    pub pairs: BTreeMap<String, PairReport>,
    /// How often a proxy has joined.
    pub joined: usize,
    /// Reports that have come.
    pub reports: usize,
}

/// A controller's end of the link. Dropping it closes every link.
#[derive(Debug)]
pub struct Controller {
    /// Where proxies connect.
    pub address: SocketAddr,
    /// Its links.
    pub links: Links,
    heard: Arc<Mutex<Heard>>,
    epoch: Epoch,
    stop: Option<oneshot::Sender<()>>,
    stopped: Option<std::sync::mpsc::Receiver<()>>,
    _runtime: Runtime,
}

impl Controller {
    /// Listens on this address, for this epoch.
    ///
    /// # Panics
    /// When it cannot.
    pub fn start(address: SocketAddr, epoch: u64) -> Self {
        Self::start_with(address, epoch, None, None)
    }

    /// The same, for proxies that show a token or speak TLS.
    ///
    /// # Panics
    /// When it cannot.
    pub fn start_with(address: SocketAddr, epoch: u64, token: Option<&[u8]>, tls: Option<Tls>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("threads");
        let epoch = Epoch(epoch);
        let settings = Settings {
            epoch,
            version: "test".to_owned(),
            token: token.map(Token::new),
            links_max: 8,
        };
        let (arrivals, mut arrived) = mpsc::channel(64);
        let links = Links::new(settings, arrivals);
        let heard = Arc::<Mutex<Heard>>::default();
        let listener = runtime
            .block_on(TcpListener::bind(address))
            .expect("a free address");
        let address = listener.local_addr().expect("its address");
        let (stop, stopping) = oneshot::channel::<()>();
        let (tell, stopped) = std::sync::mpsc::channel();
        let serving = links.clone();
        runtime.spawn(async move {
            let stop = async {
                let _ = stopping.await;
            };
            serve(listener, tls, &serving, stop).await.expect("it serves");
            let _ = tell.send(());
        });
        let keeps = heard.clone();
        runtime.spawn(async move {
            while let Some(arrival) = arrived.recv().await {
                let mut heard = keeps.lock().expect("nobody panics with it");
                match arrival.what {
                    Arrived::Joined(_) => heard.joined += 1,
                    Arrived::Status(status) => {
                        heard.statuses.insert(arrival.proxy.to_string(), status);
                    }
                    Arrived::Report(report) => {
                        heard.reports += 1;
                        let pairs = report.pairs.into_iter();
                        heard
                            .pairs
                            .extend(pairs.map(|pair| (pair.pair.to_string(), pair)));
                    }
                    Arrived::Left => {}
                }
            }
        });
        Self {
            address,
            links,
            heard,
            epoch,
            stop: Some(stop),
            stopped: Some(stopped),
            _runtime: runtime,
        }
    }

    /// Publishes a plan of this generation, and does not wait.
    ///
    /// # Panics
    /// When it is no plan, or not newer.
    pub fn publish(&self, generation: u64, pairs: Vec<PairPlan>) -> PlanId {
        let id = PlanId {
            epoch: self.epoch,
            generation: Generation(generation),
        };
        let plan = Plan::new(id, self.links.published(), pairs).expect("a plan");
        self.links.publish(Arc::new(plan)).expect("a newer plan");
        id
    }

    /// Publishes a plan, and waits until all proxies follow it. There has to be one.
    ///
    /// # Panics
    /// When they do not.
    pub fn enact(&self, generation: u64, pairs: Vec<PairPlan>) -> PlanId {
        let id = self.publish(generation, pairs);
        self.wait_for("a plan that all follow", |c| {
            let acknowledged = c.links.acknowledged(id);
            acknowledged.proxies > 0 && acknowledged.by_all()
        });
        id
    }

    /// How far a plan has come.
    pub fn acknowledged(&self, plan: PlanId) -> Acknowledged {
        self.links.acknowledged(plan)
    }

    /// Looks at what proxies have told so far. An acknowledgement may be counted before its status is found here.
    ///
    /// # Panics
    /// When the one who keeps it has.
    pub fn heard<T>(&self, look: impl FnOnce(&Heard) -> T) -> T {
        look(&self.heard.lock().expect("nobody panics with it"))
    }

    fn wait_heard<T>(&self, what: &str, look: impl Fn(&Heard) -> Option<T>) -> T {
        let mut found = None;
        self.wait_for(what, |c| {
            found = c.heard(&look);
            found.is_some()
        });
        found.expect("it was waited for")
    }

    /// Waits for a status of this proxy of which that holds.
    ///
    /// # Panics
    /// When none comes.
    pub fn wait_status(&self, what: &str, proxy: &str, holds: impl Fn(&Status) -> bool) -> Status {
        self.wait_heard(what, |heard| {
            heard.statuses.get(proxy).filter(|status| holds(status)).cloned()
        })
    }

    /// Waits for a report on this pair of which that holds.
    ///
    /// # Panics
    /// When none comes.
    pub fn wait_report(&self, what: &str, pair: &str, holds: impl Fn(&PairReport) -> bool) -> PairReport {
        self.wait_heard(what, |heard| {
            heard.pairs.get(pair).filter(|report| holds(report)).cloned()
        })
    }

    /// Waits until `done` holds.
    ///
    /// # Panics
    /// When it does not come to hold.
    pub fn wait_for(&self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            assert!(
                begun.elapsed() < PATIENCE,
                "still not {what}: {:?}",
                self.links.proxies()
            );
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// Closes every link and the address.
    ///
    /// # Panics
    /// When they do not close.
    pub fn stop(mut self) {
        drop(self.stop.take());
        if let Some(stopped) = self.stopped.take() {
            stopped.recv_timeout(PATIENCE).expect("every link closes");
        }
    }
}

/// The pair `shop/<primary>` with the shadow `<primary>-standby`, in its first round and without any limit.
///
/// # Panics
/// When that is no name.
pub fn pair(primary: &str) -> PairPlan {
    let name = |text: &str| text.parse().expect("a name");
    PairPlan {
        pair: PairId {
            cluster: name("shop"),
            primary: name(primary),
        },
        shadow: name(&format!("{primary}-standby")),
        round: Round(1),
        serving: Arm::Primary,
        ceiling: Share::ONE,
        directed: None,
        frozen: false,
        failover: true,
        thresholds: None,
    }
}

/// The same with a share that is set.
pub fn directed(primary: &str, share: f64) -> PairPlan {
    PairPlan {
        directed: Some(Share::clamped(share)),
        ..pair(primary)
    }
}
