//! What the two processes say to each other. JSON, because they may be years apart: a key that one of them does not
//! know is passed over, and what has to be understood has another [`PROTOCOL`].

use std::collections::BTreeMap;
use std::net::SocketAddr;

use foreshade_contract::PlanId;
use foreshade_engine::moment::Moment;
use serde::{Deserialize, Serialize};

/// The version of this conversation. Another one is refused before anything is handed over.
pub const PROTOCOL: u32 = 1;

/// What whoever has connected says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum Said {
    /// An operator: start a successor, and tell what became of it.
    Upgrade {
        /// See [`PROTOCOL`].
        protocol: u32,
    },
    /// A new process: give me these.
    Hello(Hello),
    /// Nothing is left that could fail.
    Prepared,
    /// Connections are accepted.
    Serving,
}

/// What a new process needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// See [`PROTOCOL`].
    pub protocol: u32,
    /// Of the program, for the log.
    pub version: String,
    /// Where it will listen for users.
    pub listeners: Vec<SocketAddr>,
    /// Where it will take datagrams of users.
    #[serde(default)]
    pub datagrams: Vec<SocketAddr>,
    /// Where it will listen for operators, as the configuration writes it.
    pub admin: String,
    /// Where it will wait for its own successor.
    pub upgrade: Option<String>,
}

/// What the process that serves answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// The sockets come next.
    Welcome(Welcome),
    /// What was known when it was sent.
    State(Box<State>),
    /// The rest is yours.
    Farewell,
    /// To an operator: the successor serves.
    Upgraded {
        /// Its process.
        pid: u32,
    },
    /// No, and everything stays as it is.
    Refused {
        /// Why.
        why: String,
    },
}

/// What is handed over.
#[derive(Debug, Serialize, Deserialize)]
pub struct Welcome {
    /// Of the program, for the log.
    pub version: String,
    /// Where it listens for users, whether it is asked for or not.
    pub listeners: Vec<SocketAddr>,
    /// Where it takes datagrams of users, the same.
    #[serde(default)]
    pub datagrams: Vec<SocketAddr>,
    /// What the descriptors are that follow, in their order.
    pub sockets: Vec<Lent>,
}

/// A listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lent {
    /// One of those on this address, for users.
    Listener(SocketAddr),
    /// One of those for the datagrams to this address. Only to who has asked for it: a version before does not know it.
    Datagrams(SocketAddr),
    /// For operators.
    Admin,
    /// For successors.
    Upgrade,
}

/// What was known, beside the sockets.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// The time by the clock that all moments below are told by, in microseconds.
    pub now_us: u64,
    /// The controller's plan that is in force; it lies on disk.
    pub plan: Option<PlanId>,
    /// Upgrades since the first process, by their result.
    pub upgrades: BTreeMap<String, u64>,
    /// By the names of the clusters, what their engines have learnt; read by whoever knows how.
    pub clusters: BTreeMap<String, serde_json::Value>,
}

impl State {
    /// When it was told, by the clock of whoever told it.
    pub fn now(&self) -> Moment {
        Moment::from_micros(self.now_us)
    }
}
