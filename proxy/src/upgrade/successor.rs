//! The side of the new process: what it asks for, and what becomes of it.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use socket2::Socket;

use super::line::{Line, LineError, Peer};
use super::words::{Answer, Hello, Lent, PROTOCOL, Said, State, Welcome};
use super::{PATIENCE, UPGRADE_MAX};
use crate::config::{Config, Transport};
use crate::server::listen::{Spot, spot};

/// Why this process cannot take the place of the other one.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// Nobody is there whose place could be taken.
    #[error("nobody can be asked at {}", path.display())]
    Nobody {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Who is there is somebody else's.
    #[error("the process {} there is of user {}, and neither root's nor of this user", .0.pid, .0.uid)]
    Stranger(Peer),
    /// It does not want to.
    #[error("the process that serves refuses: {0}")]
    Refused(String),
    /// It cannot be understood, or has gone.
    #[error(transparent)]
    Line(#[from] LineError),
    /// It says what does not belong here.
    #[error("the process that serves answers what was not asked")]
    Unexpected,
}

/// The process that serves, seen by the one that is to.
#[derive(Debug)]
pub struct Predecessor(Line);

/// The sockets of another process.
#[derive(Debug, Default)]
pub struct Left {
    /// Where it listens for users.
    pub(crate) addresses: Vec<Spot>,
    /// The sockets there, by their address, in the order of the workers.
    pub(crate) listeners: HashMap<Spot, Vec<Socket>>,
    /// Its admin interface, where it is where this process wants to have it.
    pub admin: Option<OwnedFd>,
    /// Where it waited for this process, the same.
    pub upgrade: Option<OwnedFd>,
}

impl Predecessor {
    /// Asks whoever waits at `path` for the sockets that `config` needs.
    ///
    /// # Errors
    /// Why they are not given.
    pub fn ask(path: &Path, config: &Config) -> Result<(Self, Left), UpgradeError> {
        let mut line = reach(path)?;
        let on = |transport| {
            let spots = config.listeners.iter().map(spot);
            spots
                .filter_map(|spot| (spot.0 == transport).then_some(spot.1))
                .collect()
        };
        let hello = Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            listeners: on(Transport::Tcp),
            datagrams: on(Transport::Udp),
            admin: config.admin.address.to_string(),
            upgrade: config
                .upgrade_socket
                .as_ref()
                .map(|path| path.display().to_string()),
        };
        line.say(&Said::Hello(hello), PATIENCE)?;
        let Answer::Welcome(welcome) = heard(&mut line)? else {
            return Err(UpgradeError::Unexpected);
        };
        let sockets = line.take(welcome.sockets.len(), PATIENCE)?;
        tracing::info!(version = welcome.version, sockets = sockets.len(), "taking over");
        Ok((Self(line), Left::of(welcome, sockets)))
    }

    /// Says that nothing is left that could fail, and gets what the other process knows now.
    ///
    /// # Errors
    /// It has changed its mind.
    pub fn prepared(&mut self) -> Result<State, UpgradeError> {
        self.0.say(&Said::Prepared, PATIENCE)?;
        match heard(&mut self.0)? {
            Answer::State(state) => Ok(*state),
            _ => Err(UpgradeError::Unexpected),
        }
    }

    /// Says that this process serves. From here on it does alone: also where the other one died before it could say
    /// so.
    ///
    /// # Errors
    /// The other one goes on by itself, and this one must not.
    pub fn take_place(mut self) -> Result<(), UpgradeError> {
        let answer = match self.0.say(&Said::Serving, PATIENCE) {
            Ok(()) => heard(&mut self.0),
            Err(error) => Err(error.into()),
        };
        match answer {
            Ok(Answer::Farewell) => Ok(()),
            Ok(_) => Err(UpgradeError::Unexpected),
            Err(UpgradeError::Line(LineError::Gone)) => {
                tracing::warn!("the process before this one died before it was done");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// Has the process that waits at `path` start its successor, and waits until that serves: its process.
///
/// # Errors
/// Why it does not.
pub fn order(path: &Path) -> Result<u32, UpgradeError> {
    let mut line = reach(path)?;
    line.say(&Said::Upgrade { protocol: PROTOCOL }, PATIENCE)?;
    match line.hear(UPGRADE_MAX + PATIENCE)? {
        Answer::Upgraded { pid } => Ok(pid),
        Answer::Refused { why } => Err(UpgradeError::Refused(why)),
        _ => Err(UpgradeError::Unexpected),
    }
}

fn reach(path: &Path) -> Result<Line, UpgradeError> {
    let nobody = |source| UpgradeError::Nobody {
        path: path.to_owned(),
        source,
    };
    let line = Line::to(path).map_err(nobody)?;
    let peer = line.peer().map_err(nobody)?;
    if peer.is_trusted() {
        Ok(line)
    } else {
        Err(UpgradeError::Stranger(peer))
    }
}

fn heard(line: &mut Line) -> Result<Answer, UpgradeError> {
    match line.hear(PATIENCE)? {
        Answer::Refused { why } => Err(UpgradeError::Refused(why)),
        answer => Ok(answer),
    }
}

impl Left {
    fn of(welcome: Welcome, sockets: Vec<OwnedFd>) -> Self {
        let with = |transport| move |address| (transport, address);
        let streams = welcome.listeners.into_iter().map(with(Transport::Tcp));
        let datagrams = welcome.datagrams.into_iter().map(with(Transport::Udp));
        let mut left = Self {
            addresses: streams.chain(datagrams).collect(),
            ..Self::default()
        };
        for (what, socket) in welcome.sockets.into_iter().zip(sockets) {
            match what {
                Lent::Listener(address) => left.take((Transport::Tcp, address), socket),
                Lent::Datagrams(address) => left.take((Transport::Udp, address), socket),
                Lent::Admin => left.admin = Some(socket),
                Lent::Upgrade => left.upgrade = Some(socket),
            }
        }
        left
    }

    fn take(&mut self, spot: Spot, socket: OwnedFd) {
        self.listeners.entry(spot).or_default().push(Socket::from(socket));
    }
}
