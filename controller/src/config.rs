//! The configuration, checked: what the controller is built from.
//!
//! Read by [`foreshade_settings`] as the proxy's is: every mistake at once, each with its place and a hint. One file
//! may hold both: the keys of the other program are declared here and checked there, so an unknown key is refused by
//! both. Pairs that nobody writes down are those of the file's clusters, so that the smallest file that runs a
//! controller is that of a proxy with the line `controller: {}` added.

mod check;
mod clusters;
mod keys;
pub mod placement;
pub mod policy;
pub mod url;
pub mod window;

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use foreshade_contract::{Name, PairId};
use foreshade_settings::{Read as _, text_of, yaml};

pub use foreshade_settings::{Admin, AdminAddress, Json, Mistake, Mistakes, Resolve, WithoutToken};

pub use self::placement::Placement;
pub use self::policy::Policy;
use self::url::Url;

/// Reads and checks a file. Host names of listeners are resolved by the system, which may block.
///
/// # Errors
/// Everything that is wrong with the file, or that it cannot be read.
pub fn load(path: &Path) -> Result<Config, Mistakes> {
    parse(&text_of(path)?, &path.display().to_string())
}

/// Checks a text. `origin` stands before each place in messages.
///
/// # Errors
/// Everything that is wrong with the text.
pub fn parse(text: &str, origin: &str) -> Result<Config, Mistakes> {
    let by_system = |host: &str, port: u16| (host, port).to_socket_addrs().map(Vec::from_iter);
    parse_with(text, origin, &by_system)
}

/// Like [`parse`], with another way to resolve the host names of listeners.
///
/// # Errors
/// Everything that is wrong with the text.
pub fn parse_with(text: &str, origin: &str, resolve: &Resolve<'_>) -> Result<Config, Mistakes> {
    let mut mistakes = Mistakes::none_yet(origin, text);
    let config = yaml::read(text, &mut mistakes).and_then(|node| {
        let file = keys::File::read(&node, "the file", &mut mistakes)?;
        check::config(file, resolve, &mut mistakes)
    });
    mistakes.or(config)
}

/// The JSON schema (draft 2020-12) of the file as the controller reads it.
pub fn schema() -> Json {
    foreshade_settings::schema::<keys::File>("Configuration of foreshade-controller, version foreshade/v1.")
}

/// A whole, consistent configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where everything lives that must survive.
    pub store: PlannedStore,
    /// Where proxies connect.
    pub link: Link,
    /// Where operators look and act.
    pub api: Api,
    /// How shadows are chosen where nobody names them.
    pub placement: Placement,
    /// How pairs live and are judged. Never empty.
    pub policies: Vec<Policy>,
    /// The pairs.
    pub pairs: Vec<Pair>,
    /// Pairs that move together. No pair is in two of them.
    pub groups: Vec<Group>,
    /// Who is told what happens.
    pub notifications: Vec<Notification>,
}

impl Config {
    /// The policy of a pair.
    pub fn policy_of(&self, pair: &Pair) -> Option<&Policy> {
        self.policies.get(pair.policy)
    }
}

/// Where the controller's state is to live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlannedStore {
    /// In a file of this machine.
    Embedded(PathBuf),
    /// In etcd.
    Etcd(Etcd),
}

/// A cluster of etcd servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Etcd {
    /// Its members. Never empty.
    pub endpoints: Vec<Url>,
    /// What stands before each key.
    pub prefix: String,
    /// Life of the leader's lease.
    pub lease: Duration,
}

/// Where proxies connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Where it listens.
    pub address: SocketAddr,
    /// The file with the bearer token.
    pub token_file: Option<PathBuf>,
    /// Certificates.
    pub tls: Option<Tls>,
}

/// Certificates in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// File with the certificate and what leads to its authority.
    pub certificate: PathBuf,
    /// File with its key.
    pub key: PathBuf,
    /// File with the authorities of proxies.
    pub proxies: Option<PathBuf>,
}

/// Where operators look and act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// The door.
    pub door: Admin,
    /// Links that open gates.
    pub links: Option<Links>,
}

/// Links that carry their own right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Links {
    /// Where the API is reached from outside.
    pub url: Url,
    /// File with the secret.
    pub key_file: PathBuf,
    /// How long a link is good for.
    pub life: Duration,
}

/// A pair as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Its name.
    pub id: PairId,
    /// Its shadow; where `None`, placement chooses one.
    pub shadow: Option<Name>,
    /// Index of its policy.
    pub policy: usize,
}

/// Pairs that move together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: Name,
    /// Its pairs in the order in which they advance; at least two.
    pub pairs: Vec<PairId>,
}

/// Somebody who is told what happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Its name.
    pub name: Name,
    /// Where it is posted.
    pub webhook: Url,
    /// What is told; everything where empty.
    pub on: Vec<Occasion>,
    /// For one attempt.
    pub timeout: Duration,
    /// Attempts in all.
    pub attempts: u32,
    /// The first pause between two of them.
    pub pause: Duration,
}

/// What there is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// A rollout begins.
    Shift,
    /// It takes a step.
    Advance,
    /// It holds.
    Hold,
    /// A gate waits, or was opened or denied.
    Gate,
    /// A shadow is promoted.
    Promotion,
    /// A change is rolled back.
    Rollback,
    /// A primary was gone.
    Failover,
    /// A pair was frozen.
    Frozen,
    /// An operator gave a command.
    Command,
    /// A drill began or ended.
    Drill,
}
