//! What a fleet costs its controller: the real program in a process of its own, a fleet of played proxies in this one.
//!
//! `cargo build --release -p foreshade-controller && cargo run --release -p foreshade-controller --example fleet --
//! [proxies] [pairs]`; 1000 and 10000 where left out. Needs a file descriptor per proxy here and there.
//!
//! The played proxies do what real ones of one configuration do without traffic: they say hello, report every pair once,
//! acknowledge each plan, and are silent from then on. They read a plan's name and not its pairs, so that what is
//! measured is the controller and not a thousand proxies on its machine.
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "an example says what it finds, and stops where it cannot go on"
)]

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use foreshade_contract::report::Health;
use foreshade_contract::wire::proto::link_client::LinkClient;
use foreshade_contract::wire::proto::{Down, PlanId as ProtoId, Up, down};
use foreshade_contract::wire::{Gathering, Upward, report_pieces};
use foreshade_contract::{
    Arm, BootId, Hello, PairId, PairReport, PlanId, Report, Risk, Round, Share, Status,
};
use prost::Message as _;
use tokio::sync::{Semaphore, mpsc, watch};
use tonic::transport::Endpoint;

/// Pairs of one cluster.
const PAIRS_PER_CLUSTER: usize = 100;

/// Proxies that connect at the same time: a fleet starts one machine after another.
const JOIN_AT_ONCE: usize = 16;

/// How long anything may take before the fleet gives up.
const PATIENCE: Duration = Duration::from_secs(300);

/// The beginning of a plan or a difference: which one it is.
#[derive(Clone, PartialEq, prost::Message)]
struct Named {
    #[prost(message, optional, tag = "1")]
    id: Option<ProtoId>,
}

/// Which plan each proxy follows.
type Following = watch::Sender<Vec<Option<PlanId>>>;

/// The controller, and where it is asked.
struct Controller {
    process: Child,
    api: SocketAddr,
    link: SocketAddr,
    folder: PathBuf,
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address")
}

fn pair_of(index: usize) -> (String, String) {
    (
        format!("cluster-{}", index / PAIRS_PER_CLUSTER),
        format!("endpoint-{index}"),
    )
}

/// The pairs as a configuration has them.
fn configuration(api: SocketAddr, link: SocketAddr, folder: &Path, pairs: usize) -> String {
    let store = folder.join("controller.redb");
    let mut text = format!(
        "apiVersion: foreshade/v1\ncontroller:\n  store: {}\n  api: {{ address: \"{api}\" }}\n  link: {{ address: \
         \"{link}\" }}\nclusters:\n",
        store.display()
    );
    for first in (0..pairs).step_by(PAIRS_PER_CLUSTER) {
        let (cluster, _) = pair_of(first);
        let members = first..pairs.min(first + PAIRS_PER_CLUSTER);
        let _ = writeln!(text, "  - name: {cluster}\n    endpoints:");
        for n in members.clone() {
            let (address, (_, name)) = (format!("10.{}.{}.1:80", n / 256, n % 256), pair_of(n));
            let _ = writeln!(
                text,
                "      - {{ name: {name}, address: \"{address}\", shadow: {name}-standby }}"
            );
        }
        let _ = writeln!(text, "    shadows:");
        for n in members {
            let (address, (_, name)) = (format!("10.{}.{}.2:80", n / 256, n % 256), pair_of(n));
            let _ = writeln!(text, "      - {{ name: {name}-standby, address: \"{address}\" }}");
        }
    }
    text
}

/// The programs stand beside this one's folder.
fn program(name: &str) -> PathBuf {
    let here = std::env::current_exe().expect("this program");
    let folder = here.parent().and_then(Path::parent).expect("the target's folder");
    folder.join(name)
}

impl Controller {
    fn start(pairs: usize) -> Self {
        let (api, link) = (free_address(), free_address());
        let folder = std::env::temp_dir().join(format!("foreshade-fleet-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let file = folder.join("fleet.yaml");
        std::fs::write(&file, configuration(api, link, &folder, pairs)).expect("a file");
        let process = Command::new(program("foreshade-controller"))
            .args(["run", "--config"])
            .arg(&file)
            .env("FORESHADE_LOG", "error")
            .stdout(Stdio::null())
            .spawn()
            .expect("foreshade-controller is built");
        Self {
            process,
            api,
            link,
            folder,
        }
    }

    /// Gives an order by the operator's command, and waits for its answer.
    fn order(&self, words: &[&str]) {
        let mut command = Command::new(program("foreshade"));
        command
            .env("FORESHADE_SERVER", format!("http://{}", self.api))
            .args(words)
            .stdout(Stdio::null());
        let status = command.status().expect("foreshade is built");
        assert!(status.success(), "{words:?}: {status}");
    }

    /// Resident memory in MiB, and processor time so far.
    fn used(&self) -> (u64, Duration) {
        let of = |file: &str| {
            std::fs::read_to_string(format!("/proc/{}/{file}", self.process.id())).unwrap_or_default()
        };
        let status = of("status");
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = kib.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        let stat = of("stat");
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: u64 = fields
            .skip(11)
            .take(2)
            .filter_map(|n| n.parse::<u64>().ok())
            .sum();
        (kib.unwrap_or_default() / 1024, Duration::from_millis(ticks * 10))
    }
}

/// What a proxy says once of all pairs: they are there, and nobody asks for them.
fn complete(pairs: usize) -> Vec<Up> {
    let pair = |index: usize| {
        let (cluster, primary) = pair_of(index);
        PairReport {
            pair: PairId {
                cluster: cluster.parse().expect("a name"),
                primary: primary.parse().expect("a name"),
            },
            round: Round(1),
            serving: Arm::Primary,
            share: Share::ZERO,
            risk: [Some(Risk::clamped(0.0)); 2],
            health: [Health::Up; 2],
            arms: Default::default(),
            segments: Vec::new(),
            latency: Default::default(),
            network: Default::default(),
            mirrored: Default::default(),
        }
    };
    let report = Report {
        sequence: 1,
        complete: true,
        pairs: (0..pairs).map(pair).collect(),
    };
    report_pieces(&report)
}

fn named(message: &Down) -> Option<PlanId> {
    let (down::Body::Plan(bytes) | down::Body::Delta(bytes)) = message.body.as_ref()? else {
        return None;
    };
    Named::decode(&bytes[..]).ok()?.id.map(PlanId::from)
}

/// Plays a proxy: reports once, and acknowledges whatever comes.
async fn play(
    n: usize,
    link: SocketAddr,
    report: Arc<Vec<Up>>,
    turns: Arc<Semaphore>,
    following: Arc<Following>,
) {
    let turn = turns.acquire_owned().await.expect("turns");
    let endpoint = Endpoint::from_shared(format!("http://{link}")).expect("an address");
    let channel = endpoint.connect().await.expect("a connection");
    let (say, said) = mpsc::channel(4);
    let hello = Upward::Hello(Hello {
        boot: BootId(1),
        proxy: format!("edge-{n}").parse().expect("a name"),
        version: String::new(),
        plan: None,
        pieces: true,
    });
    say.send(hello.message()).await.expect("room");
    let said = futures_util::stream::unfold(said, |mut said: mpsc::Receiver<Up>| async {
        let up = said.recv().await?;
        Some((up, said))
    });
    let mut client = LinkClient::new(channel).max_decoding_message_size(16 << 20);
    let mut hears = client.join(said).await.expect("a link").into_inner();
    for piece in report.iter() {
        say.send(piece.clone()).await.expect("room");
    }
    drop(report);
    let mut turn = Some(turn);
    let mut gathering = Gathering::default();
    while let Ok(Some(message)) = hears.message().await {
        let message = gathering.take(message).expect("pieces that fit");
        let Some(plan) = message.as_ref().and_then(named) else {
            continue;
        };
        let status = Upward::Status(Status {
            plan: Some(plan),
            persisted: true,
            ..Status::default()
        });
        let _ = say.send(status.message()).await;
        following.send_modify(|all| {
            if let Some(mine) = all.get_mut(n) {
                *mine = Some(plan);
            }
        });
        turn.take();
    }
}

/// Waits until all proxies follow a plan that is later than this one, and says how long that took and which it is.
async fn all_past(
    following: &Following,
    before: Option<PlanId>,
    begun: Instant,
) -> (Duration, Option<PlanId>) {
    let mut seen = following.subscribe();
    let followed = seen.wait_for(|all| all.iter().all(|plan| *plan > before));
    let followed = tokio::time::timeout(PATIENCE, followed).await.expect("in time");
    let lowest = followed
        .expect("the fleet is there")
        .iter()
        .min()
        .copied()
        .flatten();
    (begun.elapsed(), lowest)
}

#[tokio::main]
async fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|text| text.parse().ok());
    let (proxies, pairs) = (numbers.next().unwrap_or(1_000), numbers.next().unwrap_or(10_000));
    let mut controller = Controller::start(pairs);
    let begun = Instant::now();
    while std::net::TcpStream::connect(controller.link).is_err() {
        let ended = controller.process.try_wait().expect("a process of ours");
        assert!(ended.is_none(), "the controller ended: {ended:?}");
        assert!(begun.elapsed() < PATIENCE, "the controller does not listen");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (mib, cpu) = controller.used();
    println!(
        "{proxies} proxies, {pairs} pairs\nthe controller listens after {:.1?}, {cpu:.1?} of CPU, {mib} MiB",
        begun.elapsed()
    );
    let (following, turns) = (
        Arc::new(watch::Sender::new(vec![None; proxies])),
        Arc::new(Semaphore::new(JOIN_AT_ONCE)),
    );
    let (report, begun, before) = (Arc::new(complete(pairs)), Instant::now(), controller.used().1);
    for n in 0..proxies {
        let (report, turns, following) = (report.clone(), turns.clone(), following.clone());
        tokio::spawn(play(n, controller.link, report, turns, following));
    }
    drop(report);
    let (took, mut plan) = all_past(&following, None, begun).await;
    // What the last of them reported is still being read.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (mib, cpu) = controller.used();
    println!(
        "all have joined and follow after {took:.1?}, {:.1?} of CPU, {mib} MiB",
        cpu - before
    );
    for what in ["freeze", "unfreeze", "freeze"] {
        let (begun, before) = (Instant::now(), controller.used().1);
        let words = [what, "cluster-0/endpoint-1", "--reason", "a measurement"];
        tokio::task::block_in_place(|| controller.order(&words));
        let (took, followed) = all_past(&following, plan, begun).await;
        plan = followed;
        let (mib, cpu) = controller.used();
        println!(
            "{what} of one pair: all follow after {took:.2?}, {:.2?} of CPU, {mib} MiB",
            cpu - before
        );
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let before = controller.used().1;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let rest = controller.used().1 - before;
    println!("at rest: {:.0} % of a core", rest.as_secs_f64() * 5.0);
}
