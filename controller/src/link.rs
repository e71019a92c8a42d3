//! The controller's end of the link: many proxies, one plan for all of them, and what they say of it.
//!
//! Each proxy holds one stream. Its downward half is made when there is room to send, from the newest plan there is: so a
//! proxy that reads slowly skips plans instead of queueing them, and nobody waits for it. A plan is encoded once, and as a
//! difference wherever the proxy has one of the last few plans. Its upward half is checked message by message, and what is
//! sound goes to one queue, bounded in messages and in bytes; where that is full, the stream is not read, and the proxy
//! drops its oldest reports itself.
//!
//! What a proxy has acknowledged is what it says that is in force there, and nothing else. A message that cannot be read
//! costs that message: it is counted, and changes nothing. Links, connections, messages and everything in them are bounded.

mod downstream;
mod listen;
mod published;
mod registry;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use foreshade_contract::wire::proto::link_server::{Link, LinkServer};
use foreshade_contract::wire::proto::{Down, Up, up};
use foreshade_contract::wire::{MESSAGE_BYTES_MAX, Upward};
use foreshade_contract::{BootId, Epoch, Hello, Name, Plan, PlanId, Report, Status as PlanStatus};
use futures_util::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};

use self::downstream::{Downstream, LARGE_AT_ONCE};
pub use self::listen::{LinkError, Tls, serve, serve_on};
use self::published::Board;
pub use self::published::NotNewer;
pub use self::registry::{Acknowledged, Proxy};
use self::registry::{Registry, Seat};

/// Proxies at a time: twice what one controller is built for.
pub const LINKS_MAX: usize = 2048;

/// How long a proxy may take to say who it is.
const HELLO_PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of reports that were read and not heard yet, as they came; decoded they take some seven times as much.
const UNHEARD_BYTES_MAX: u32 = 8 * 1024 * 1024;

/// Messages in a row that cannot be read, after which the link is closed: whoever sends them is no proxy.
const UNREADABLE_MAX: u32 = 100;

/// What all links of a controller share.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The epoch in which this controller writes.
    pub epoch: Epoch,
    /// Its version, for people.
    pub version: String,
    /// The token that proxies have to show; everybody is let in where `None`.
    pub token: Option<Token>,
    /// Proxies at a time, at most [`LINKS_MAX`].
    pub links_max: usize,
}

/// A secret that is never shown.
#[derive(Clone)]
pub struct Token(Arc<[u8]>);

impl Token {
    /// This one.
    pub fn new(secret: &[u8]) -> Self {
        Self(secret.into())
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(hidden)")
    }
}

/// Something that a proxy said, checked.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Which proxy.
    pub proxy: Name,
    /// Which start of it: counters of another one began at 0.
    pub boot: BootId,
    /// What.
    pub what: Arrived,
    /// The room that it takes until it is dropped.
    _room: Room,
}

/// Room for what is not heard yet; none for what needs next to none.
type Room = Option<Arc<OwnedSemaphorePermit>>;

/// What a proxy said.
#[derive(Clone, Debug)]
pub enum Arrived {
    /// It is there, with this plan in force.
    Joined(Option<PlanId>),
    /// What it saw.
    Report(Report),
    /// What became of plans.
    Status(PlanStatus),
    /// It is gone, or speaks through a newer connection from here on.
    Left,
}

/// The links, for whoever publishes plans and asks who follows them. All clones are the same.
#[derive(Clone, Debug)]
pub struct Links {
    settings: Arc<Settings>,
    board: Arc<Board>,
    registry: Arc<Registry>,
    arrivals: mpsc::Sender<Arrival>,
    /// Large messages under way.
    large: Arc<Semaphore>,
    /// Bytes of reports that may still come.
    room: Arc<Semaphore>,
}

impl Links {
    /// Links that nobody has joined yet. What proxies say goes to `arrivals`.
    pub fn new(settings: Settings, arrivals: mpsc::Sender<Arrival>) -> Self {
        Self {
            registry: Arc::new(Registry::new(settings.links_max.min(LINKS_MAX))),
            settings: Arc::new(settings),
            board: Arc::default(),
            arrivals,
            large: Arc::new(Semaphore::new(LARGE_AT_ONCE)),
            room: Arc::new(Semaphore::new(UNHEARD_BYTES_MAX as usize)),
        }
    }

    /// Has all proxies, those of now and those to come, follow this plan.
    ///
    /// # Errors
    /// When it is not newer than the last one that was published, or of another epoch than this controller's.
    pub fn publish(&self, plan: Arc<Plan>) -> Result<(), NotNewer> {
        self.board.publish(plan, self.settings.epoch)
    }

    /// The plan that was published last.
    pub fn published(&self) -> Option<PlanId> {
        self.board.newest().map(|published| published.id())
    }

    /// All proxies that are there, by name.
    pub fn proxies(&self) -> Vec<Proxy> {
        self.registry.proxies()
    }

    /// How many of them follow this plan, or a later one of its epoch.
    pub fn acknowledged(&self, plan: PlanId) -> Acknowledged {
        self.registry.acknowledged(plan)
    }

    /// Changes whenever a proxy comes, goes, or acknowledges.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.registry.changes()
    }

    /// Waits until there is room for what a message becomes when it is read.
    async fn room_for(&self, message: &Up) -> Room {
        let Some(up::Body::Report(bytes)) = &message.body else {
            return None;
        };
        let bytes = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let permit = self.room.clone().acquire_many_owned(bytes.min(UNHEARD_BYTES_MAX));
        // It is never closed.
        permit.await.ok().map(Arc::new)
    }

    /// The service itself.
    fn service(&self) -> LinkServer<Door> {
        LinkServer::new(Door(self.clone()))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Only who shows the token is let in.
    fn authorize(&self, request: &Request<Streaming<Up>>) -> Result<(), Status> {
        let Some(Token(token)) = &self.settings.token else {
            return Ok(());
        };
        let shown = request.metadata().get("authorization");
        let shown = shown.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        match shown {
            Some(shown) if verify_slices_are_equal(shown, token).is_ok() => Ok(()),
            _ => Err(Status::unauthenticated("this needs the token")),
        }
    }
}

/// Where proxies come in.
#[derive(Debug)]
struct Door(Links);

#[tonic::async_trait]
impl Link for Door {
    type JoinStream = Pin<Box<dyn Stream<Item = Result<Down, Status>> + Send>>;

    async fn join(&self, request: Request<Streaming<Up>>) -> Result<Response<Self::JoinStream>, Status> {
        let links = &self.0;
        links.authorize(&request)?;
        let peer = request.remote_addr();
        let mut incoming = request.into_inner();
        let hello = match timeout(HELLO_PATIENCE, incoming.message()).await {
            Ok(first) => first?.ok_or_else(|| Status::invalid_argument("nothing was said"))?,
            Err(_) => return Err(Status::deadline_exceeded("no hello in time")),
        };
        let hello = match Upward::read(hello) {
            Ok(Upward::Hello(hello)) => hello,
            Ok(_) => return Err(Status::invalid_argument("the first message is a hello")),
            Err(error) => return Err(Status::invalid_argument(format!("the hello is refused: {error}"))),
        };
        let seat = links.registry.seat(&hello, peer)?;
        tracing::info!(proxy = %hello.proxy, peer = peer.map(tracing::field::display), "proxy joined");
        let stream = Downstream::new(links, &seat, &hello).into_stream();
        tokio::spawn(listen(links.clone(), seat, hello, incoming));
        Ok(Response::new(Box::pin(stream)))
    }
}

/// Hears one proxy until it goes, or another connection takes its name.
async fn listen(links: Links, seat: Arc<Seat>, hello: Hello, mut incoming: Streaming<Up>) {
    let arrival = |what, room| Arrival {
        proxy: hello.proxy.clone(),
        boot: hello.boot,
        what,
        _room: room,
    };
    // A receiver that is gone ends the controller; that is seen elsewhere.
    let _ = links
        .arrivals
        .send(arrival(Arrived::Joined(hello.plan), None))
        .await;
    let mut unreadable = 0;
    let why = loop {
        let message = tokio::select! {
            message = incoming.message() => message,
            () = seat.ended() => break "replaced",
        };
        let message = match message {
            Ok(Some(message)) => message,
            Ok(None) => break "closed",
            Err(_) => break "lost",
        };
        let room = links.room_for(&message).await;
        let what = match Upward::read(message) {
            Ok(Upward::Report(report)) => Arrived::Report(report),
            Ok(Upward::Status(status)) => {
                // Before the queue: whoever waits for it does not wait for reports.
                links.registry.heard(&seat, &status);
                Arrived::Status(status)
            }
            Ok(Upward::Hello(_)) => break "said hello twice",
            Err(error) => {
                unreadable += 1;
                links.registry.unreadable(&seat);
                tracing::warn!(proxy = %hello.proxy, %error, "message refused, nothing is changed");
                if unreadable >= UNREADABLE_MAX {
                    break "cannot be understood";
                }
                continue;
            }
        };
        unreadable = 0;
        links.registry.noted(&seat, &what);
        if links.arrivals.send(arrival(what, room)).await.is_err() {
            break "the controller is about to stop";
        }
    };
    seat.end();
    links.registry.leave(&seat);
    tracing::info!(proxy = %hello.proxy, why, "proxy left");
    let _ = links.arrivals.send(arrival(Arrived::Left, None)).await;
}
