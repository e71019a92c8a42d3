//! Names become addresses, beside everything else: on a task of their own, never on the path of a request.
//!
//! Whoever loads a configuration says which names it has ([`Names::want`]); the answers are there to be read at any time
//! ([`Names::known`]), and a change of them wakes the reloader, which makes a new configuration of the same text with
//! them: one way for a change to take, whoever it comes from. What was learnt is kept in [`book`], who is asked in
//! [`lookup`].
//!
//! A name is asked again when its answer expires, between a second and five minutes after it came and a little early by
//! chance, so that a fleet does not ask at once. The last good answer holds for ever: a name server that is gone, or that
//! denies a name it knew, must not take endpoints away that still serve. Its age is shown.

mod book;
mod lookup;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use self::book::{Answer, Book};
pub use self::book::{Known, NameRow};
use self::lookup::Lookup;
use crate::config::{Config, DnsName};

/// Lookups at a time. A file with a thousand names asks for them in turn.
const LOOKUPS_MAX: usize = 16;

/// How long a start or a reload waits for the first answers to names that are new.
const FIRST_ANSWERS: Duration = Duration::from_secs(5);

/// Part of an answer's life, at most, by which it is asked for early.
const JITTER: f64 = 0.1;

/// What shall be known.
#[derive(Clone, Debug, Default, PartialEq)]
struct Wanted {
    names: BTreeSet<DnsName>,
    servers: Vec<SocketAddr>,
    /// Counted on to have the machine's own configuration read again.
    reads: u64,
}

/// The way to the task that resolves names. All clones speak of the same one.
#[derive(Clone, Debug)]
pub struct Names {
    wanted: watch::Sender<Wanted>,
    known: watch::Receiver<Arc<Known>>,
}

impl Names {
    /// Starts the task on the current runtime. It ends with the last clone.
    pub fn start() -> Self {
        let (wanted, wishes) = watch::channel(Wanted::default());
        let (tell, known) = watch::channel(Arc::new(Known::default()));
        tokio::spawn(run(wishes, tell));
        Self { wanted, known }
    }

    /// What is known now; changes wake whoever waits for them.
    pub fn known(&self) -> &watch::Receiver<Arc<Known>> {
        &self.known
    }

    /// Asks for the names of these configurations from here on, and for no others, by the name servers of the first. Waits
    /// until each name has been asked for once, but not for long.
    pub async fn want(&self, configs: &[&Config]) -> Arc<Known> {
        let names: BTreeSet<DnsName> = configs.iter().flat_map(|c| c.names()).collect();
        let servers = configs.first().map(|c| c.name_servers.clone());
        self.wanted.send_modify(|wanted| {
            wanted.names.clone_from(&names);
            wanted.servers = servers.unwrap_or_default();
            wanted.reads += 1;
        });
        let mut known = self.known.clone();
        let all_asked = known.wait_for(|known| names.iter().all(|name| known.is_asked(name)));
        // Late answers come in like any other change.
        let _ = timeout(FIRST_ANSWERS, all_asked).await;
        self.known.borrow().clone()
    }
}

type Looked = (DnsName, Result<Answer, String>);

async fn run(mut wishes: watch::Receiver<Wanted>, tell: watch::Sender<Arc<Known>>) {
    let mut book = Book::default();
    let mut wanted = wishes.borrow_and_update().clone();
    let mut lookup = Lookup::new(&wanted.servers);
    // The first wish may have come before this task was run.
    book.want(&wanted.names, Instant::now());
    let mut asking: JoinSet<Looked> = JoinSet::new();
    loop {
        while asking.len() < LOOKUPS_MAX {
            let Some(name) = book.next_due(Instant::now()) else {
                break;
            };
            let lookup = lookup.clone();
            asking.spawn(async move {
                let answer = lookup.ask(&name).await;
                (name, answer)
            });
        }
        let due = book.due_at().filter(|_| asking.len() < LOOKUPS_MAX);
        let far = Instant::now() + Duration::from_secs(3600);
        tokio::select! {
            wish = wishes.changed() => {
                if wish.is_err() {
                    return;
                }
                wanted.clone_from(&wishes.borrow_and_update());
                lookup = Lookup::new(&wanted.servers);
                book.want(&wanted.names, Instant::now());
            }
            Some(looked) = asking.join_next() => {
                // A lookup that panicked would leave its name asked for ever; the book asks again by itself.
                if let Ok((name, answer)) = looked {
                    let early = 1.0 - rand::rng().random_range(0.0..JITTER);
                    book.record(&name, answer, Instant::now(), early);
                }
            }
            () = sleep_until(due.unwrap_or(far)) => continue,
        }
        tell.send_replace(Arc::new(book.known()));
    }
}
