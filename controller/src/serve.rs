//! The controller as a process: store, API, links and loop, from a configuration to the end.
//!
//! Whatever can be wrong before anything runs is found before anything runs: addresses are bound, secrets are read, the
//! store is opened. SIGTERM and SIGINT give the leadership up, so that the next one does not wait for a lease to end.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use foreshade_contract::Epoch;
use foreshade_door::{Door, Keys, TokenError, read_token};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::api::Api;
use crate::api::links::{SecretError, Signer};
use crate::config::{Config, Link, PlannedStore};
use crate::desk::Desk;
use crate::journal::{Journal, ROOT};
use crate::lead::{Controller, Fatal, LinkMaker};
use crate::link::{Arrival, LINKS_MAX, Links, Settings, Tls, Token, serve};
use crate::outside::Outside;
use crate::spec::Spec;
use crate::store::{Etcd, EtcdOptions, Redb, Store, StoreError};
use crate::webhook::Notifier;

/// The lease of a leader whose store is a file. No other process can have it open, so it only has to end soon after a
/// crash, for the restart waits for that.
const FILE_LEASE: Duration = Duration::from_secs(2);

/// How long a call to etcd may take.
const ETCD_DEADLINE: Duration = Duration::from_secs(5);

/// How long a link's address may be taken by a predecessor that is about to end.
const BIND_PAUSE: Duration = Duration::from_millis(200);

/// Why the controller does not start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The store cannot be used.
    #[error("the store cannot be used")]
    Store(#[from] StoreError),
    /// The folder of the store cannot be made.
    #[error("the folder {0} cannot be made")]
    Folder(PathBuf, #[source] io::Error),
    /// An address cannot be listened on.
    #[error("cannot listen on {0}")]
    Listen(String, #[source] io::Error),
    /// A file with a secret or a certificate cannot be used.
    #[error("{} cannot be read", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// A token cannot be used.
    #[error("{}", .0.display())]
    Token(PathBuf, #[source] TokenError),
    /// The secret of links cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// It cannot go on.
    #[error(transparent)]
    Fatal(#[from] Fatal),
    /// The system takes no handler of signals.
    #[error("signals cannot be heard")]
    Signals(#[source] io::Error),
}

/// Runs the controller until a signal ends it.
///
/// # Errors
/// Why it does not start, or what does not go away by waiting.
pub async fn run(config: &Config) -> Result<(), ServeError> {
    let spec = Spec::of(config);
    let (store, ttl, root) = open(&config.store).await?;
    let (desk, notes, board) = Desk::new();
    let mut tasks = JoinSet::new();
    let signer = config.api.links.as_ref().map(Signer::load).transpose()?;
    tasks.spawn(api(config, desk, signer.clone())?);
    let links = Maker::new(&config.link).await?;
    let controller = Controller {
        spec,
        journal: Journal::new(root),
        store,
        who: who(&config.link),
        ttl,
        notes,
        board,
        links: Box::new(links),
        outside: Outside::new(Notifier::start(&config.notifications, &mut tasks), signer),
        ending: ending()?,
    };
    tracing::info!(links = %config.link.address, api = %config.api.door.address, "controller runs");
    controller.run().await?;
    tracing::info!("controller ends");
    Ok(())
}

/// The store, how long its leader's lease lives, and where keys begin.
async fn open(planned: &PlannedStore) -> Result<(Arc<dyn Store>, Duration, &str), ServeError> {
    match planned {
        PlannedStore::Embedded(path) => {
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                fs::create_dir_all(folder).map_err(|error| ServeError::Folder(folder.to_owned(), error))?;
            }
            Ok((Arc::new(Redb::open(path).await?), FILE_LEASE, ROOT))
        }
        PlannedStore::Etcd(etcd) => {
            let options = EtcdOptions {
                deadline: ETCD_DEADLINE,
                ..EtcdOptions::new(etcd.endpoints.iter().map(ToString::to_string))
            };
            Ok((Arc::new(Etcd::new(&options)?), etcd.lease, &etcd.prefix))
        }
    }
}

/// The API, ready to serve.
fn api(
    config: &Config,
    desk: Desk,
    signer: Option<Signer>,
) -> Result<impl Future<Output = ()> + use<>, ServeError> {
    let api = &config.api;
    let keys = match &api.door.token_file {
        Some(file) => Keys::load(file, api.door.without_token)
            .map_err(|error| ServeError::Token(file.clone(), error))?,
        None => Keys::default(),
    };
    let door = Door::open(&api.door.address)
        .map_err(|error| ServeError::Listen(api.door.address.to_string(), error))?;
    let api = Api::new(Arc::new(desk), keys, signer);
    Ok(async move {
        if let Err(error) = api.serve(door).await {
            tracing::error!(%error, "the API is not served");
        }
    })
}

/// Its name among candidates: for people, and unique enough for them.
fn who(link: &Link) -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}/{}/{}", host.trim(), link.address, std::process::id())
}

/// Turns true with the first signal.
fn ending() -> Result<watch::Receiver<bool>, ServeError> {
    let (end, ending) = watch::channel(false);
    let mut term = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    let mut int = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;
    tokio::spawn(async move {
        tokio::select! { _ = term.recv() => {} _ = int.recv() => {} }
        end.send_replace(true);
    });
    Ok(ending)
}

/// Makes the links of each epoch on the same address.
struct Maker {
    address: SocketAddr,
    token: Option<Token>,
    tls: Option<Tls>,
}

impl Maker {
    /// Reads what is needed, and finds out whether the address can be had.
    async fn new(link: &Link) -> Result<Self, ServeError> {
        let read = |path: &Path| fs::read(path).map_err(|error| ServeError::File(path.to_owned(), error));
        let token = link
            .token_file
            .as_deref()
            .map(|path| read_token(path).map_err(|error| ServeError::Token(path.to_owned(), error)));
        let tls = link.tls.as_ref().map(|tls| {
            Ok::<_, ServeError>(Tls {
                certificate: read(&tls.certificate)?,
                key: read(&tls.key)?,
                client_authority: tls.proxies.as_deref().map(read).transpose()?,
            })
        });
        let tried = TcpListener::bind(link.address).await;
        tried.map_err(|error| ServeError::Listen(link.address.to_string(), error))?;
        Ok(Self {
            address: link.address,
            token: token.transpose()?.map(|token| Token::new(&token)),
            tls: tls.transpose()?,
        })
    }
}

impl LinkMaker for Maker {
    fn open(&self, epoch: Epoch, arrivals: mpsc::Sender<Arrival>, tasks: &mut JoinSet<()>) -> Links {
        let settings = Settings {
            epoch,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            token: self.token.clone(),
            links_max: LINKS_MAX,
        };
        let links = Links::new(settings, arrivals);
        let (address, tls, serving) = (self.address, self.tls.clone(), links.clone());
        tasks.spawn(async move {
            let listener = loop {
                match TcpListener::bind(address).await {
                    Ok(listener) => break listener,
                    Err(error) => tracing::warn!(%address, %error, "the links' address is taken"),
                }
                sleep(BIND_PAUSE).await;
            };
            if let Err(error) = serve(listener, tls, &serving, std::future::pending()).await {
                tracing::error!(%error, "the links are not served");
            }
        });
        links
    }
}
