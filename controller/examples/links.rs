//! What many links cost: so many proxies in this process, so many pairs, and plans that change all or one of them.
//!
//! `cargo run --release -p foreshade-controller --example links -- [proxies] [pairs]`; 1000 and 10000 where left out. Needs
//! two file descriptors per proxy. The proxies are played: they read a plan's name and not its pairs, so that what is
//! measured is the controller and not a thousand proxies on its machine.
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "an example says what it finds, and stops where it cannot go on"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use foreshade_contract::wire::Upward;
use foreshade_contract::wire::proto::link_client::LinkClient;
use foreshade_contract::wire::proto::{Down, PlanId as ProtoId, down};
use foreshade_contract::{
    Arm, BootId, Epoch, Generation, Hello, PairId, PairPlan, Plan, PlanId, Round, Share, Status,
};
use foreshade_controller::link::{Links, Settings, serve};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::transport::Endpoint;

/// The beginning of a plan or a difference: which one it is.
#[derive(Clone, PartialEq, prost::Message)]
struct Named {
    #[prost(message, optional, tag = "1")]
    id: Option<ProtoId>,
}

fn plan(generation: u64, pairs: usize, ceiling: f64, frozen: Option<usize>) -> Arc<Plan> {
    let name = |text: String| text.parse().expect("a name");
    let pair = |index: usize| PairPlan {
        pair: PairId {
            cluster: name(format!("cluster-{}", index / 100)),
            primary: name(format!("endpoint-{index}")),
        },
        shadow: name(format!("standby-{index}")),
        round: Round(1),
        serving: Arm::Primary,
        ceiling: Share::clamped(ceiling),
        directed: None,
        frozen: frozen == Some(index),
        failover: true,
        thresholds: None,
    };
    let id = PlanId {
        epoch: Epoch(1),
        generation: Generation(generation),
    };
    Arc::new(Plan::new(id, None, (0..pairs).map(pair).collect()).expect("a plan"))
}

fn named(message: &Down) -> Option<PlanId> {
    let (down::Body::Plan(bytes) | down::Body::Delta(bytes)) = message.body.as_ref()? else {
        return None;
    };
    Named::decode(&bytes[..]).ok()?.id.map(PlanId::from)
}

/// Plays a proxy: acknowledges whatever comes.
async fn play(address: String, n: usize) {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    let channel = endpoint.connect().await.expect("a connection");
    let (say, said) = mpsc::channel(4);
    let hello = Upward::Hello(Hello {
        boot: BootId(1),
        proxy: format!("edge-{n}").parse().expect("a name"),
        version: String::new(),
        plan: None,
    });
    say.send(hello.message()).await.expect("room");
    let said = futures_util::stream::unfold(said, |mut said: mpsc::Receiver<_>| async {
        let up = said.recv().await?;
        Some((up, said))
    });
    let mut client = LinkClient::new(channel).max_decoding_message_size(16 << 20);
    let mut hears = client.join(said).await.expect("a link").into_inner();
    while let Ok(Some(message)) = hears.message().await {
        if let Some(plan) = named(&message) {
            let status = Upward::Status(Status {
                plan: Some(plan),
                persisted: true,
                ..Status::default()
            });
            let _ = say.send(status.message()).await;
        }
    }
}

/// Resident memory in MiB, and processor time so far.
fn used() -> (u64, Duration) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = kib.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields
        .skip(11)
        .take(2)
        .filter_map(|n| n.parse::<u64>().ok())
        .sum();
    (kib.unwrap_or_default() / 1024, Duration::from_millis(ticks * 10))
}

async fn until(links: &Links, done: impl Fn(&Links) -> bool) -> Duration {
    let (begun, mut changes) = (Instant::now(), links.changes());
    while !done(links) {
        let _ = changes.changed().await;
    }
    begun.elapsed()
}

#[tokio::main]
async fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|text| text.parse().ok());
    let (proxies, pairs) = (numbers.next().unwrap_or(1_000), numbers.next().unwrap_or(10_000));
    let (arrivals, mut arrived) = mpsc::channel(1024);
    tokio::spawn(async move { while arrived.recv().await.is_some() {} });
    let settings = Settings {
        epoch: Epoch(1),
        version: String::new(),
        token: None,
        links_max: proxies,
    };
    let links = Links::new(settings, arrivals);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    let serving = links.clone();
    tokio::spawn(async move { serve(listener, None, &serving, std::future::pending()).await });
    for n in 0..proxies {
        tokio::spawn(play(address.clone(), n));
    }
    until(&links, |links| links.proxies().len() == proxies).await;
    println!("{proxies} proxies, {pairs} pairs; the proxies are in the same process");
    for (generation, what) in [
        (1, "the first plan"),
        (2, "all pairs change"),
        (3, "one pair changes"),
    ] {
        let plan = match generation {
            1 => plan(1, pairs, 1.0, None),
            2 => plan(2, pairs, 0.5, None),
            _ => plan(3, pairs, 0.5, Some(pairs / 2)),
        };
        let (id, before) = (plan.id(), used().1);
        links.publish(plan).expect("a newer plan");
        let took = until(&links, |links| links.acknowledged(id).following == proxies).await;
        let (mib, cpu) = used();
        println!(
            "{what}: all follow after {took:.2?}, {:.2?} of CPU, {mib} MiB",
            cpu - before
        );
    }
    let before = used().1;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let rest = used().1 - before;
    println!("at rest: {:.1} % of a core", rest.as_secs_f64() * 10.0);
}
