//! Certificates that an authority issues when it is asked (ACME, RFC 8555).
//!
//! One thread orders what is due, one certificate at a time, beside everything else: nobody waits for it. What was issued
//! is kept as a file, which is a certificate's file like any other: the listener is loaded with it at the start, and when
//! it is replaced, the configuration is read again ([`crate::reload`]). So nothing serves that would not be there after a
//! restart, and there is one way for a certificate to be renewed, whoever renews it. Until there is one, a listener shows
//! a certificate that it has made itself, which no client believes, but which lets everything else be tried.
//!
//! Who orders shows that the names lead here ([`challenges`]). When, says [`schedule`].

pub mod challenges;
mod client;
mod order;
pub mod schedule;
mod store;

use std::fmt;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use foreshade_door::{SecretError, read_secret};
use futures_util::FutureExt as _;
use instant_acme::{Account, AccountCredentials, Error, ExternalAccountKey, NewAccount};
use rand::RngExt as _;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use self::challenges::{Challenges, Unanswerable};
use self::client::{Client, Rest};
pub use self::schedule::Row;
use self::schedule::{Kept, Schedule};
use self::store::Store;
use crate::disk::Replacement;
use crate::tls;
use crate::tls::origination::{self, Origination};
use crate::topology::Topology;

/// Names of one certificate: as many as public authorities take.
pub const NAMES_MAX: usize = 100;

/// Longest first name of a certificate: it names a file, and one beside it while that is written.
pub(crate) const FIRST_NAME_BYTES_MAX: usize = 255 - ".pem.new".len();

/// How often what is kept is looked at, for somebody else may have renewed it, and a clock may have been set.
const LOOK: Duration = Duration::from_secs(60);

/// How long an order may take in all.
const ORDER_TIME_MAX: Duration = Duration::from_secs(600);

/// How long somebody else who orders is left alone.
const BUSY_PAUSE: Duration = Duration::from_secs(5);

/// Room on the disk that is taken before anything is ordered: what is issued and cannot be kept counts with the authority
/// all the same. Chains have some kilobytes.
const ROOM_BYTES: usize = 64 * 1024;

/// Largest file of a key for an external account.
const KEY_BYTES_MAX: usize = 4 * 1024;

/// Who issues, as the configuration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// URL of its directory.
    pub directory: String,
    /// Whom it may write to, as URLs.
    pub contacts: Vec<String>,
    /// The folder of all that is kept of it.
    pub folder: PathBuf,
    /// The authorities that vouch for its own certificate, in PEM; those that this machine trusts where `None`.
    pub ca_file: Option<PathBuf>,
    /// The account elsewhere that this one is bound to.
    pub external: Option<External>,
}

/// An account that somebody has with the authority already (RFC 8555 section 7.3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct External {
    /// Its name.
    pub key_id: String,
    /// File with its key, in base64url.
    pub key_file: PathBuf,
}

/// A certificate that is to be ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The names that it is to bear, in lower case.
    pub names: Vec<String>,
    /// How it is shown that they lead here.
    pub proof: Proof,
    /// Where it is kept, with its key.
    pub file: PathBuf,
}

/// How it is shown that a name leads here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// By a request in the clear (HTTP-01).
    Http,
    /// By a handshake (TLS-ALPN-01).
    TlsAlpn,
}

impl Proof {
    /// As RFC 8555 and RFC 8737 call it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Http => "http-01",
            Self::TlsAlpn => "tls-alpn-01",
        }
    }
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{} {source}", path.display())]
    Secret { path: PathBuf, source: SecretError },
    #[error("what was issued cannot be written, and is kept until it can be: {}: {source}", path.display())]
    Unwritten {
        path: PathBuf,
        source: io::Error,
        issued: Issued,
    },
    #[error("the authority cannot be spoken to in TLS: {0}")]
    Tls(String),
    #[error("{0}")]
    Acme(#[from] Error),
    #[error("the authority does not offer {0} for {1}")]
    NotOffered(&'static str, String),
    #[error("{0}")]
    Unanswerable(#[from] Unanswerable),
    #[error("the authority does not believe that the names lead here: {0}")]
    Invalid(String),
    #[error("no key or request can be made: {0}")]
    Key(#[from] rcgen::Error),
    #[error("what was issued cannot be used: {0}")]
    Useless(String),
    #[error("it has taken too long")]
    Slow,
    #[error("it has panicked")]
    Panicked,
}

/// What an authority has issued, with its key, in PEM.
#[derive(Clone, PartialEq, Eq)]
struct Issued(Arc<[u8]>);

/// Without the key.
impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Issued(hidden)")
    }
}

/// What an order has come to.
enum Outcome {
    Issued,
    /// Somebody else has renewed it.
    Kept,
    /// Somebody else is about to.
    Busy,
}

/// Orders what the configuration wants, for as long as there is one. What became of it is told in `book`.
pub(crate) async fn run(
    mut topologies: watch::Receiver<Arc<Topology>>,
    challenges: &Challenges,
    book: watch::Sender<Vec<Row>>,
) {
    let mut schedule = Schedule::default();
    loop {
        let topology = topologies.borrow_and_update().clone();
        let authority = topology.config().acme.as_deref();
        let wanted: Vec<_> = topology.config().wanted().cloned().collect();
        let kept = wanted.into_iter().map(|wanted| {
            let kept = tls::kept(&wanted.file);
            (wanted, kept)
        });
        schedule.follow(topology.config().acme.as_ref(), kept.collect(), chance);
        book.send_replace(schedule.rows());
        let now = SystemTime::now();
        let (next, pause) = match (authority, schedule.next(now)) {
            (Some(authority), Some((wanted, pause))) => (Some((authority, wanted)), pause),
            _ => (None, LOOK),
        };
        match next.filter(|_| pause.is_zero()) {
            Some((authority, wanted)) => attempt(authority, &wanted, challenges, &mut schedule).await,
            None => tokio::select! {
                changed = topologies.changed() => if changed.is_err() {
                    return;
                },
                () = sleep(pause.min(LOOK)) => {}
            },
        }
    }
}

fn chance() -> f64 {
    rand::rng().random_range(0.0..1.0)
}

/// Orders one, and takes note of what becomes of it.
async fn attempt(
    authority: &Authority,
    wanted: &Arc<Wanted>,
    challenges: &Challenges,
    schedule: &mut Schedule,
) {
    let (name, file) = (wanted.names.first(), wanted.file.as_path());
    let rest = Rest::default();
    let known = (schedule.kept(file), schedule.unwritten(file));
    let tried = bounded(obtain(authority, (wanted, known), challenges, &rest)).await;
    let now = SystemTime::now();
    match tried {
        Ok(Outcome::Issued) => {
            tracing::info!(name, file = %file.display(), "certificate issued");
            schedule.issued(file, now);
        }
        Ok(Outcome::Kept) => tracing::info!(name, "certificate was renewed by another process"),
        Ok(Outcome::Busy) => schedule.postponed(file, now + BUSY_PAUSE),
        Err(failed) => {
            let pause = schedule.failed(file, now, rest.asked(), chance());
            let (error, pause_s) = (&failed as &dyn std::error::Error, pause.as_secs());
            tracing::error!(name, error, pause_s, "no certificate was issued");
            if let Failed::Unwritten { issued, .. } = failed {
                schedule.keep(file, issued);
            }
        }
    }
}

/// What an order comes to, in time. One that panics has failed like any other, and the others go on.
async fn bounded(order: impl Future<Output = Result<Outcome, Failed>>) -> Result<Outcome, Failed> {
    // What it leaves behind is dropped with it, and the store is made for orders that end anywhere.
    let order = AssertUnwindSafe(order).catch_unwind();
    match timeout(ORDER_TIME_MAX, order).await {
        Ok(Ok(tried)) => tried,
        Ok(Err(_)) => Err(Failed::Panicked),
        Err(_) => Err(Failed::Slow),
    }
}

/// Has a certificate issued, unless somebody else does, or has since it was `seen`, or one was that only has to be written.
async fn obtain(
    authority: &Authority,
    (wanted, (seen, unwritten)): (&Arc<Wanted>, (Option<Kept>, Option<Issued>)),
    challenges: &Challenges,
    rest: &Rest,
) -> Result<Outcome, Failed> {
    let folder = &authority.folder;
    let failed = |source| Failed::File {
        path: folder.clone(),
        source,
    };
    let store = Store::open(folder).map_err(failed)?;
    let Some(_locked) = store.lock().map_err(failed)? else {
        return Ok(Outcome::Busy);
    };
    if tls::kept(&wanted.file) != seen {
        return Ok(Outcome::Kept);
    }
    let file = Replacement::prepare(&wanted.file, ROOM_BYTES).map_err(failed)?;
    let issued = match unwritten {
        Some(issued) => issued,
        None => order(authority, &store, wanted, challenges, rest).await?,
    };
    match file.put(&issued.0) {
        Ok(()) => Ok(Outcome::Issued),
        Err(source) => Err(Failed::Unwritten {
            path: wanted.file.clone(),
            source,
            issued,
        }),
    }
}

/// Orders one, with the account that is kept or a new one.
async fn order(
    authority: &Authority,
    store: &Store,
    wanted: &Arc<Wanted>,
    challenges: &Challenges,
    rest: &Rest,
) -> Result<Issued, Failed> {
    let client = Client::new(trust(authority)?, rest.clone());
    let account = account(authority, store, client).await?;
    let ordered = order::order(&account, wanted, challenges).await;
    if let Err(Failed::Acme(error)) = &ordered
        && is_unknown(error)
    {
        // The next try makes another one.
        store.set_account_aside().map_err(|source| Failed::File {
            path: authority.folder.clone(),
            source,
        })?;
    }
    ordered
}

/// Whether the authority does not know the account. Source: RFC 8555 section 6.7.
fn is_unknown(error: &Error) -> bool {
    let Error::Api(problem) = error else {
        return false;
    };
    problem.r#type.as_deref() == Some("urn:ietf:params:acme:error:accountDoesNotExist")
}

/// What the authority is spoken to with: read for each order, so that a file that was renewed counts.
fn trust(authority: &Authority) -> Result<Arc<Origination>, Failed> {
    let settings = origination::Settings::of_server(authority.ca_file.clone());
    Origination::load(&settings, SystemTime::now()).map_err(|faults| {
        let told = faults
            .iter()
            .map(|fault| format!("{} {}", fault.file.display(), fault.what));
        Failed::Tls(told.collect::<Vec<_>>().join("; "))
    })
}

/// The account that is kept, or a new one.
async fn account(authority: &Authority, store: &Store, client: Client) -> Result<Account, Failed> {
    let failed = |source| Failed::File {
        path: authority.folder.clone(),
        source,
    };
    let builder = Account::builder_with_http(Box::new(client));
    if let Some(kept) = store.account().map_err(failed)? {
        let credentials: AccountCredentials = serde_json::from_slice(&kept).map_err(Error::Json)?;
        return Ok(builder.from_credentials(credentials).await?);
    }
    let external = authority.external.as_ref().map(external).transpose()?;
    let contacts: Vec<_> = authority.contacts.iter().map(String::as_str).collect();
    let asked = NewAccount {
        contact: &contacts,
        // The configuration says so, or it would not be one.
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let directory = authority.directory.clone();
    let file = store.prepare_account().map_err(failed)?;
    let (account, credentials) = builder.create(&asked, directory, external.as_ref()).await?;
    let bytes = serde_json::to_vec(&credentials).map_err(Error::Json)?;
    file.put(&bytes).map_err(failed)?;
    Ok(account)
}

/// The key of the account elsewhere.
fn external(external: &External) -> Result<ExternalAccountKey, Failed> {
    let path = &external.key_file;
    let text = read_secret(path, KEY_BYTES_MAX).map_err(|source| Failed::Secret {
        path: path.clone(),
        source,
    })?;
    let text = text.trim();
    // Some authorities print it with padding.
    let key = URL_SAFE_NO_PAD.decode(text).or_else(|_| URL_SAFE.decode(text));
    let key = key.map_err(|error| Failed::File {
        path: path.clone(),
        source: io::Error::other(error),
    })?;
    Ok(ExternalAccountKey::new(external.key_id.clone(), &key))
}

/// The folder of an authority below `storage`: one for each directory, so that what one has issued for a try is never taken
/// for what the other is to issue. Escaped as in a URL, so that no two of them have the same.
pub(crate) fn folder(storage: &Path, directory: &str) -> PathBuf {
    let mut name = String::new();
    for byte in directory.strip_prefix("https://").unwrap_or(directory).bytes() {
        match byte {
            b'.' if name.is_empty() => name.push_str("%2E"),
            b'-' | b'.' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => name.push(char::from(byte)),
            _ => name.extend([format!("%{byte:02X}")]),
        }
    }
    storage.join(name)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// An authority that nobody can reach, and what it is asked for.
    fn stage(name: &str) -> (Authority, Arc<Wanted>) {
        let folder = std::env::temp_dir().join(format!("foreshade-order-{}-{name}", std::process::id()));
        let wanted = Wanted {
            names: vec!["a.example".to_owned()],
            proof: Proof::Http,
            file: folder.join("a.example.pem"),
        };
        let authority = Authority {
            directory: "https://acme.example/dir".to_owned(),
            contacts: Vec::new(),
            ca_file: Some(folder.join("gone")),
            folder,
            external: None,
        };
        fs::create_dir_all(&authority.folder).unwrap();
        (authority, Arc::new(wanted))
    }

    async fn obtain_with(
        unwritten: Option<&Issued>,
        (authority, wanted): &(Authority, Arc<Wanted>),
    ) -> Result<Outcome, Failed> {
        let known = (None, unwritten.cloned());
        obtain(
            authority,
            (wanted, known),
            &Challenges::default(),
            &Rest::default(),
        )
        .await
    }

    #[tokio::test]
    async fn nothing_is_ordered_without_room_for_it() {
        let stage = stage("room");
        let beside = stage.0.folder.join("a.example.pem.new");
        fs::create_dir_all(beside.join("in the way")).unwrap();
        let tried = obtain_with(None, &stage).await;
        assert!(matches!(tried, Err(Failed::File { .. })), "{:?}", tried.err());
        fs::remove_dir_all(&beside).unwrap();
        let tried = obtain_with(None, &stage).await;
        assert!(matches!(tried, Err(Failed::Tls(_))), "{:?}", tried.err());
        assert!(!beside.exists());
        fs::remove_dir_all(&stage.0.folder).unwrap();
    }

    #[tokio::test]
    async fn what_was_issued_and_could_not_be_written_is_written_before_anybody_is_asked() {
        let stage = stage("unwritten");
        let first = Issued(b"issued".as_slice().into());
        fs::create_dir_all(stage.1.file.join("in the way")).unwrap();
        let tried = obtain_with(Some(&first), &stage).await;
        let Err(Failed::Unwritten { issued, .. }) = tried else {
            panic!("{:?}", tried.err());
        };
        assert_eq!(issued, first);
        fs::remove_dir_all(&stage.1.file).unwrap();
        assert!(matches!(
            obtain_with(Some(&issued), &stage).await,
            Ok(Outcome::Issued)
        ));
        assert_eq!(fs::read(&stage.1.file).unwrap(), b"issued");
        fs::remove_dir_all(&stage.0.folder).unwrap();
    }

    #[test]
    fn a_key_that_others_can_read_is_not_taken() {
        use std::os::unix::fs::PermissionsExt as _;
        let (authority, _) = stage("key");
        let bound = External {
            key_id: "kid-1".to_owned(),
            key_file: authority.folder.join("key"),
        };
        fs::write(&bound.key_file, "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wE\n").unwrap();
        let permit = |mode| fs::set_permissions(&bound.key_file, fs::Permissions::from_mode(mode)).unwrap();
        permit(0o644);
        assert!(matches!(external(&bound), Err(Failed::Secret { .. })));
        permit(0o600);
        assert!(external(&bound).is_ok());
        fs::remove_dir_all(&authority.folder).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_order_that_panics_or_never_ends_has_failed() {
        let tried = bounded(async { panic!("on purpose") }).await;
        assert!(matches!(tried, Err(Failed::Panicked)));
        let tried = bounded(std::future::pending()).await;
        assert!(matches!(tried, Err(Failed::Slow)));
    }
}
