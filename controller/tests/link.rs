//! The controller's end of the link against proxies that are played: many of them, slow ones, strangers, and some that
//! speak nonsense.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::sync::Arc;
use std::time::Duration;

use foreshade_contract::report::{Reason, Refused, Segment};
use foreshade_contract::wire::proto::link_client::LinkClient;
use foreshade_contract::wire::proto::{Down, Up, down, up};
use foreshade_contract::wire::{Downward, Gathering, PIECE_BYTES, Upward};
use foreshade_contract::{
    Arm, BootId, Epoch, Generation, Hello, PairId, PairPlan, PairReport, Plan, PlanId, Report, Round, Share,
    Status,
};
use foreshade_controller::link::{Arrival, Arrived, Links, NotNewer, Settings, Tls, Token, serve};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Streaming};

/// Only a broken build takes this long for anything.
const PATIENCE: Duration = Duration::from_secs(60);

fn id(epoch: u64, generation: u64) -> PlanId {
    PlanId {
        epoch: Epoch(epoch),
        generation: Generation(generation),
    }
}

/// Pairs whose ceiling is so many hundredths.
fn pairs(n: usize, hundredths: u32) -> Vec<PairPlan> {
    let pair = |index: usize| PairPlan {
        pair: PairId {
            cluster: format!("cluster-{}", index / 100).parse().unwrap(),
            primary: format!("endpoint-{index}").parse().unwrap(),
        },
        shadow: format!("standby-{index}").parse().unwrap(),
        round: Round(1),
        serving: Arm::Primary,
        ceiling: Share::clamped(f64::from(hundredths) / 100.0),
        directed: None,
        frozen: false,
        failover: true,
        thresholds: None,
    };
    (0..n).map(pair).collect()
}

fn plan(generation: u64, pairs: Vec<PairPlan>) -> Arc<Plan> {
    Arc::new(Plan::new(id(1, generation), None, pairs).unwrap())
}

struct Bench {
    links: Links,
    arrivals: mpsc::Receiver<Arrival>,
    address: String,
}

impl Bench {
    async fn new() -> Self {
        Self::with(None, None, 128).await
    }

    async fn with(token: Option<Token>, tls: Option<Tls>, links_max: usize) -> Self {
        let (arrivals_in, arrivals) = mpsc::channel(1024);
        let settings = Settings {
            epoch: Epoch(1),
            version: "test".to_owned(),
            token,
            links_max,
        };
        let links = Links::new(settings, arrivals_in);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serving = links.clone();
        tokio::spawn(async move { serve(listener, tls, &serving, std::future::pending()).await });
        Self {
            links,
            arrivals,
            address,
        }
    }

    async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        endpoint.connect().await.unwrap()
    }

    async fn joins(&self, name: &str, plan: Option<PlanId>) -> Player {
        let channel = self.channel().await;
        Player::join(channel, name, plan).await.unwrap()
    }

    /// The next thing that a proxy said, and it is not of this kind.
    async fn next(&mut self) -> Arrival {
        timeout(PATIENCE, self.arrivals.recv()).await.unwrap().unwrap()
    }

    async fn until(&self, done: impl Fn(&Links) -> bool) {
        let mut changes = self.links.changes();
        let waited = timeout(PATIENCE, async {
            while !done(&self.links) {
                changes.changed().await.unwrap();
            }
        });
        waited.await.expect("it comes to hold");
    }
}

fn hello(name: &str, plan: Option<PlanId>) -> Hello {
    Hello {
        boot: BootId(7),
        proxy: name.parse().unwrap(),
        version: "played".to_owned(),
        plan,
        pieces: true,
    }
}

/// A proxy that is played.
struct Player {
    say: mpsc::Sender<Up>,
    hears: Streaming<Down>,
    /// What has come of a message in pieces.
    gathering: Gathering,
    /// The longest message that came, in bytes.
    longest: usize,
    /// The plan that it says is in force.
    plan: Option<Plan>,
}

impl Player {
    async fn join(channel: Channel, name: &str, plan: Option<PlanId>) -> Result<Self, tonic::Status> {
        Self::join_with(LinkClient::new(channel), hello(name, plan), None).await
    }

    async fn join_with(
        client: LinkClient<Channel>,
        hello: Hello,
        token: Option<&str>,
    ) -> Result<Self, tonic::Status> {
        let (say, said) = mpsc::channel(16);
        let said = futures_util::stream::unfold(said, |mut said| async {
            let up = said.recv().await?;
            Some((up, said))
        });
        say.send(Upward::Hello(hello).message()).await.unwrap();
        let mut request = Request::new(said);
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        let mut client = client.max_decoding_message_size(16 << 20);
        let mut hears = client.join(request).await?.into_inner();
        let first = hears.message().await?.expect("a welcome");
        assert!(matches!(Downward::read(first), Ok(Downward::Welcome(_))));
        Ok(Self {
            say,
            hears,
            gathering: Gathering::default(),
            longest: 0,
            plan: None,
        })
    }

    /// The next message about plans, and whether it is a difference.
    async fn hear(&mut self) -> (PlanId, bool) {
        let message = loop {
            let message = timeout(PATIENCE, self.hears.message())
                .await
                .unwrap()
                .unwrap()
                .unwrap();
            self.longest = self.longest.max(message.encoded_len());
            if let Some(whole) = self.gathering.take(message).unwrap() {
                break whole;
            }
        };
        let is_delta = matches!(message.body, Some(down::Body::Delta(_)));
        let next = match Downward::read(message).unwrap() {
            Downward::Plan(plan) => plan,
            Downward::Delta(delta) => self.plan.as_ref().unwrap().with(delta).unwrap(),
            Downward::Welcome(_) => panic!("welcome twice"),
        };
        let id = next.id();
        self.plan = Some(next);
        (id, is_delta)
    }

    async fn say(&self, status: Status) {
        let _ = self.say.send(Upward::Status(status).message()).await;
    }

    async fn acknowledge(&self, plan: PlanId) {
        let status = Status {
            plan: Some(plan),
            persisted: true,
            ..Status::default()
        };
        self.say(status).await;
    }

    async fn refuse(&self, plan: PlanId, reason: Reason) {
        let refused = Refused {
            plan: Some(plan),
            reason,
            detail: "played".to_owned(),
        };
        let status = Status {
            refused: Some(refused),
            ..Status::default()
        };
        self.say(status).await;
    }

    async fn ended(&mut self) -> Code {
        loop {
            match timeout(PATIENCE, self.hears.message()).await.unwrap() {
                Ok(Some(_)) => {}
                Ok(None) => return Code::Ok,
                Err(status) => return status.code(),
            }
        }
    }
}

#[tokio::test]
async fn every_proxy_gets_a_change_of_every_pair_and_all_acknowledge_it() {
    let bench = Bench::new().await;
    let mut playing = Vec::new();
    for n in 0..64 {
        let mut player = bench.joins(&format!("edge-{n}"), None).await;
        playing.push(tokio::spawn(async move {
            for generation in 1..=3 {
                let (heard, is_delta) = player.hear().await;
                // Where every pair changes, the difference is no shorter than the whole.
                assert_eq!((heard, is_delta), (id(1, generation), generation == 2));
                player.acknowledge(heard).await;
            }
            player
        }));
    }
    // All pairs, then one of them, then all again.
    let mut one = pairs(500, 10);
    one[7].frozen = true;
    for (generation, pairs) in [(1, pairs(500, 10)), (2, one), (3, pairs(500, 20))] {
        bench.links.publish(plan(generation, pairs)).unwrap();
        bench
            .until(|links| {
                let acknowledged = links.acknowledged(id(1, generation));
                acknowledged.proxies == 64 && acknowledged.by_all()
            })
            .await;
    }
    for player in playing {
        let player = player.await.unwrap();
        assert_eq!(player.plan.as_ref(), Some(&*plan(3, pairs(500, 20))));
    }
}

#[tokio::test]
async fn a_proxy_that_does_not_read_keeps_nobody_waiting_and_gets_the_newest_plan_alone() {
    let bench = Bench::new().await;
    let mut slow = bench.joins("slow", None).await;
    let mut quick = bench.joins("quick", None).await;
    // Large enough that the transport cannot take them all.
    for generation in 1..=20 {
        let hundredths = u32::try_from(generation).unwrap();
        bench
            .links
            .publish(plan(generation, pairs(3_000, hundredths)))
            .unwrap();
        while quick.hear().await.0 != id(1, generation) {}
        quick.acknowledge(id(1, generation)).await;
        bench
            .until(|links| links.acknowledged(id(1, generation)).following == 1)
            .await;
    }
    let mut heard = 0;
    while slow.hear().await.0 != id(1, 20) {
        heard += 1;
    }
    assert!(heard < 19, "it was spared some: {heard}");
    assert_eq!(slow.plan, quick.plan);
}

#[tokio::test]
async fn a_long_plan_comes_in_pieces_and_whole_to_an_older_proxy() {
    let bench = Bench::new().await;
    let mut newer = bench.joins("newer", None).await;
    let older = Hello {
        pieces: false,
        ..hello("older", None)
    };
    let client = LinkClient::new(bench.channel().await);
    let mut older = Player::join_with(client, older, None).await.unwrap();
    let mut one = pairs(3_000, 10);
    one[7].frozen = true;
    // The whole, a difference of one pair, and one of all.
    for (generation, pairs) in [(1, pairs(3_000, 10)), (2, one), (3, pairs(3_000, 20))] {
        bench.links.publish(plan(generation, pairs)).unwrap();
        for player in [&mut newer, &mut older] {
            assert_eq!(player.hear().await.0, id(1, generation));
        }
    }
    assert_eq!(newer.plan.as_ref(), Some(&*plan(3, pairs(3_000, 20))));
    assert_eq!(newer.plan, older.plan);
    assert!(newer.longest < PIECE_BYTES + 64, "{}", newer.longest);
    assert!(older.longest > 2 * PIECE_BYTES, "{}", older.longest);
}

#[tokio::test]
async fn a_proxy_that_comes_back_gets_what_it_has_not() {
    let bench = Bench::new().await;
    for generation in 1..=3 {
        bench.links.publish(plan(generation, pairs(50, 10))).unwrap();
    }
    let mut few = pairs(50, 10);
    few[3].frozen = true;
    bench.links.publish(plan(4, few.clone())).unwrap();
    let mut knows = bench.joins("knows", Some(id(1, 3))).await;
    knows.plan = Some(Plan::clone(&plan(3, pairs(50, 10))));
    assert_eq!(knows.hear().await, (id(1, 4), true));
    assert_eq!(knows.plan.as_ref(), Some(&*plan(4, few)));
    // Of another epoch, which nobody remembers.
    let mut stranger = bench.joins("stranger", Some(id(0, 9))).await;
    assert_eq!(stranger.hear().await, (id(1, 4), false));
    // Who has it already is told nothing, and counts as following.
    let _has = bench.joins("has", Some(id(1, 4))).await;
    bench
        .until(|links| links.acknowledged(id(1, 4)).following == 1)
        .await;
}

#[tokio::test]
async fn a_difference_that_does_not_fit_is_followed_by_the_whole_plan_and_not_again_and_again() {
    let bench = Bench::new().await;
    bench.links.publish(plan(1, pairs(50, 10))).unwrap();
    let mut player = bench.joins("edge", None).await;
    assert_eq!(player.hear().await, (id(1, 1), false));
    let mut few = pairs(50, 10);
    few[3].frozen = true;
    bench.links.publish(plan(2, few)).unwrap();
    assert_eq!(player.hear().await, (id(1, 2), true));
    player.refuse(id(1, 2), Reason::WrongBase).await;
    assert_eq!(player.hear().await, (id(1, 2), false));
    // The whole plan is refused as well: only the next one is another one.
    player.refuse(id(1, 2), Reason::Malformed).await;
    bench
        .until(|links| links.acknowledged(id(1, 2)).refusing == 1)
        .await;
    bench.links.publish(plan(3, pairs(50, 30))).unwrap();
    assert_eq!(player.hear().await.0, id(1, 3));
}

#[tokio::test]
async fn only_a_newer_plan_of_this_epoch_is_published() {
    let bench = Bench::new().await;
    bench.links.publish(plan(2, pairs(1, 1))).unwrap();
    for generation in [1, 2] {
        let refused = bench.links.publish(plan(generation, pairs(1, 1)));
        assert_eq!(
            refused,
            Err(NotNewer::Generation {
                plan: id(1, generation),
                published: id(1, 2)
            })
        );
    }
    let other = Arc::new(Plan::new(id(2, 9), None, Vec::new()).unwrap());
    assert!(matches!(bench.links.publish(other), Err(NotNewer::Epoch { .. })));
    assert_eq!(bench.links.published(), Some(id(1, 2)));
}

#[tokio::test]
async fn what_cannot_be_read_is_counted_and_changes_nothing() {
    let mut bench = Bench::new().await;
    let player = bench.joins("edge", None).await;
    assert!(matches!(bench.next().await.what, Arrived::Joined(None)));
    let nonsense = Up {
        body: Some(up::Body::Report(b"\xff\xff nonsense".as_slice().into())),
    };
    player.say.send(nonsense).await.unwrap();
    let report = Report {
        sequence: 2,
        complete: false,
        pairs: Vec::new(),
    };
    player
        .say
        .send(Upward::Report(report.clone()).message())
        .await
        .unwrap();
    let Arrived::Report(arrived) = bench.next().await.what else {
        panic!("the sound one alone")
    };
    assert_eq!(arrived, report);
    let [proxy] = &bench.links.proxies()[..] else {
        panic!("one proxy")
    };
    assert_eq!((proxy.unreadable, proxy.reports), (1, 1));
}

#[tokio::test]
async fn who_never_makes_sense_is_let_go() {
    let bench = Bench::new().await;
    let mut player = bench.joins("edge", None).await;
    for _ in 0..100 {
        let _ = player.say.send(Up { body: None }).await;
    }
    assert_ne!(player.ended().await, Code::Ok);
    bench.until(|links| links.proxies().is_empty()).await;
}

#[tokio::test]
async fn a_newer_connection_takes_the_name_and_the_older_one_ends() {
    let mut bench = Bench::new().await;
    let mut older = bench.joins("edge", None).await;
    let _newer = bench.joins("edge", Some(id(1, 1))).await;
    assert_eq!(older.ended().await, Code::Aborted);
    for _ in 0..2 {
        assert!(matches!(
            bench.next().await.what,
            Arrived::Joined(_) | Arrived::Left
        ));
    }
    bench.until(|links| links.proxies().len() == 1).await;
    assert_eq!(bench.links.proxies()[0].acknowledged, Some(id(1, 1)));
}

#[tokio::test]
async fn the_first_word_is_a_hello_and_there_are_not_too_many() {
    let bench = Bench::with(None, None, 1).await;
    let _first = bench.joins("edge", None).await;
    let refused = Player::join(bench.channel().await, "other", None).await;
    assert_eq!(
        refused.err().map(|status| status.code()),
        Some(Code::ResourceExhausted)
    );
    let up = Upward::Status(Status::default()).message();
    let said = futures_util::stream::iter([up]);
    let refused = LinkClient::new(bench.channel().await).join(said).await;
    assert_eq!(
        refused.err().map(|status| status.code()),
        Some(Code::InvalidArgument)
    );
}

#[tokio::test]
async fn without_the_token_nobody_joins() {
    let bench = Bench::with(Some(Token::new(b"a-long-secret-indeed")), None, 8).await;
    for (token, is_let_in) in [
        (None, false),
        (Some("another"), false),
        (Some("a-long-secret-indeed"), true),
    ] {
        let client = LinkClient::new(bench.channel().await);
        let joined = Player::join_with(client, hello("edge", None), token).await;
        let code = joined.as_ref().err().map(tonic::Status::code);
        assert_eq!(code, (!is_let_in).then_some(Code::Unauthenticated));
    }
}

#[tokio::test]
async fn with_tls_both_sides_prove_who_they_are() {
    // As `main` does it: the client of this test needs one as well.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // Two authorities: that of the house, and somebody else's.
    let authority = || {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        (pem, rcgen::Issuer::new(params, key))
    };
    let ((house_pem, house), (_, other)) = (authority(), authority());
    let issued = |name: &str, by: &rcgen::Issuer<'_, rcgen::KeyPair>| {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, by).unwrap().pem(), key.serialize_pem())
    };
    let (certificate, key) = issued("controller.test", &house);
    let tls = Tls {
        certificate: certificate.into_bytes(),
        key: key.into_bytes(),
        client_authority: Some(house_pem.clone().into_bytes()),
    };
    let bench = Bench::with(None, Some(tls), 8).await;
    for (identity, is_let_in) in [
        (Some(issued("edge", &house)), true),
        (Some(issued("edge", &other)), false),
        (None, false),
    ] {
        let mut config = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&house_pem))
            .domain_name("controller.test");
        if let Some((certificate, key)) = identity {
            config = config.identity(Identity::from_pem(certificate, key));
        }
        let endpoint = Endpoint::from_shared(format!("https://{}", bench.address)).unwrap();
        // A refusal may come with the handshake or, in TLS 1.3, with the first word after it.
        let joined = match endpoint.tls_config(config).unwrap().connect().await {
            Ok(channel) => Player::join(channel, "edge", None).await.is_ok(),
            Err(_) => false,
        };
        assert_eq!(joined, is_let_in);
    }
}

/// A report of more than four mebibytes.
fn heavy() -> Upward {
    let segment = |n: u32| Segment {
        share: Share::clamped(f64::from(n) / 100.0),
        arms: Default::default(),
    };
    let report = |plan: PairPlan| PairReport {
        pair: plan.pair,
        round: plan.round,
        serving: plan.serving,
        share: Share::ZERO,
        risk: [None; 2],
        health: Default::default(),
        arms: Default::default(),
        segments: (1..40).map(segment).collect(),
        latency: Default::default(),
        network: Default::default(),
        mirrored: Default::default(),
    };
    Upward::Report(Report {
        sequence: 1,
        complete: true,
        pairs: pairs(10_000, 1).into_iter().map(report).collect(),
    })
}

#[tokio::test]
async fn reports_that_nobody_has_heard_yet_are_bounded_in_bytes_and_none_is_lost() {
    let mut bench = Bench::new().await;
    let players = [bench.joins("one", None).await, bench.joins("two", None).await];
    for _ in &players {
        assert!(matches!(bench.next().await.what, Arrived::Joined(_)));
    }
    let message = heavy().message();
    assert!(prost::Message::encoded_len(&message) > 4 << 20);
    for player in &players {
        player.say.send(message.clone()).await.unwrap();
    }
    let first = bench.next().await;
    assert!(matches!(first.what, Arrived::Report(_)));
    // There is room for one of them at a time. On a machine that is slower than this, nothing is shown.
    let second = timeout(Duration::from_millis(300), bench.arrivals.recv()).await;
    assert!(second.is_err(), "it is read before the first was heard");
    // Who has less to say is heard meanwhile.
    let third = bench.joins("three", None).await;
    assert!(matches!(bench.next().await.what, Arrived::Joined(_)));
    third.acknowledge(id(1, 1)).await;
    assert!(matches!(bench.next().await.what, Arrived::Status(_)));
    drop(first);
    assert!(matches!(bench.next().await.what, Arrived::Report(_)));
}
