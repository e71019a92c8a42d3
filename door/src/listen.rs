//! Where operators are listened to: a TCP address, or a socket in the file system.
//!
//! A socket is bound by nobody else while its owner lives, and is left behind when the owner dies without notice. So
//! one that nobody answers on is replaced, one that somebody answers on is in use, and what is no socket is not
//! touched. Its permissions are set before it listens: until then nobody can connect.
//!
//! A door may be left to another process ([`Door::heir`], [`Door::inherit`]): the same socket is then open in both,
//! whoever waits in its queue is let in by one of them, and its file stays.

use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use foreshade_settings::AdminAddress;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

/// Operators' connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// A listening socket, not yet registered with a runtime.
#[derive(Debug)]
pub enum Door {
    /// On a TCP address.
    Tcp(std::net::TcpListener),
    /// In the file system; removed when dropped.
    Unix(std::os::unix::net::UnixListener, Remove),
}

/// Removes a socket's file when dropped, unless the socket has been left to another process.
#[derive(Debug)]
pub struct Remove {
    path: PathBuf,
    left: Arc<AtomicBool>,
}

impl Remove {
    fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            left: Arc::default(),
        }
    }
}

impl Drop for Remove {
    fn drop(&mut self) {
        if !self.left.load(Ordering::Relaxed) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What another process needs to go on listening where a [`Door`] does.
#[derive(Debug)]
pub struct Heir {
    /// The same socket once more.
    pub socket: OwnedFd,
    left: Option<Arc<AtomicBool>>,
}

impl Heir {
    /// The other process has it: its file is not removed when the door here is dropped.
    pub fn leave(&self) {
        if let Some(left) = &self.left {
            left.store(true, Ordering::Relaxed);
        }
    }
}

/// A [`Door`] that a runtime knows.
#[derive(Debug)]
pub enum Listening {
    /// On a TCP address.
    Tcp(TcpListener),
    /// In the file system.
    Unix(
        UnixListener,
        /// Removes the file when dropped.
        Remove,
    ),
}

/// A conversation, over whatever it goes.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Door {
    /// Opens the door.
    ///
    /// # Errors
    /// What the system says: in use, no permission, no such folder.
    pub fn open(address: &AdminAddress) -> io::Result<Self> {
        match address {
            AdminAddress::Tcp(address) => exclusive(*address).map(Self::Tcp),
            AdminAddress::Unix { path, mode } => {
                make_room(path)?;
                let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
                socket.bind(&SockAddr::unix(path)?)?;
                let remove = Remove::new(path);
                fs::set_permissions(path, Permissions::from_mode(*mode))?;
                socket.listen(BACKLOG)?;
                Ok(Self::Unix(socket.into(), remove))
            }
        }
    }

    /// The door of a process before this one; `socket` is what its [`Heir`] held. Until it is [taken](Self::take) it
    /// is the other one's: dropped here, its file stays.
    ///
    /// # Errors
    /// Its permissions are others now, and cannot be set.
    pub fn inherit(address: &AdminAddress, socket: OwnedFd) -> io::Result<Self> {
        Ok(match address {
            AdminAddress::Tcp(_) => Self::Tcp(socket.into()),
            AdminAddress::Unix { path, mode } => {
                fs::set_permissions(path, Permissions::from_mode(*mode))?;
                let remove = Remove::new(path);
                remove.left.store(true, Ordering::Relaxed);
                Self::Unix(socket.into(), remove)
            }
        })
    }

    /// The door is this process's from here on.
    pub fn take(&self) {
        if let Self::Unix(_, remove) = self {
            remove.left.store(false, Ordering::Relaxed);
        }
    }

    /// The same socket for another process.
    ///
    /// # Errors
    /// When there are too many open files.
    pub fn heir(&self) -> io::Result<Heir> {
        Ok(match self {
            Self::Tcp(listener) => Heir {
                socket: listener.try_clone()?.into(),
                left: None,
            },
            Self::Unix(listener, remove) => Heir {
                socket: listener.try_clone()?.into(),
                left: Some(remove.left.clone()),
            },
        })
    }

    /// The TCP address, where it is one.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }

    /// Registers it with this runtime.
    ///
    /// # Errors
    /// When the runtime takes no more.
    pub fn register(self) -> io::Result<Listening> {
        match self {
            Self::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener).map(Listening::Tcp)
            }
            Self::Unix(listener, remove) => {
                listener.set_nonblocking(true)?;
                UnixListener::from_std(listener).map(|listener| Listening::Unix(listener, remove))
            }
        }
    }
}

impl Listening {
    /// The next conversation.
    ///
    /// # Errors
    /// What the system says, usually that there are too many open files.
    pub async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Box::new(stream) as _),
            Self::Unix(listener, _) => listener.accept().await.map(|(stream, _)| Box::new(stream) as _),
        }
    }
}

/// The only listening socket on `address`.
fn exclusive(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    // Connections of a predecessor in TIME_WAIT must not keep its successor from starting.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Removes the socket of a predecessor that is gone.
fn make_room(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        let why = "there is a file of this name, and it is no socket";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "somebody answers on this socket",
        )),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(name: &str, mode: u32) -> AdminAddress {
        let path = std::env::temp_dir().join(format!("foreshade-door-{}-{name}", std::process::id()));
        AdminAddress::Unix { path, mode }
    }

    fn path(address: &AdminAddress) -> &Path {
        match address {
            AdminAddress::Unix { path, .. } => path,
            AdminAddress::Tcp(_) => unreachable!(),
        }
    }

    #[test]
    fn a_socket_has_its_permissions_is_exclusive_and_leaves_nothing_behind() {
        let address = socket("exclusive", 0o620);
        let door = Door::open(&address).unwrap();
        let mode = fs::metadata(path(&address)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o620);
        assert_eq!(Door::open(&address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(door);
        assert!(!path(&address).exists());
    }

    #[test]
    fn the_socket_of_a_dead_predecessor_is_replaced() {
        let address = socket("stale", 0o600);
        drop(std::os::unix::net::UnixListener::bind(path(&address)).unwrap());
        assert!(path(&address).exists());
        drop(Door::open(&address).unwrap());
    }

    #[test]
    fn a_door_that_was_left_is_the_same_door_and_keeps_its_file() {
        let address = socket("left", 0o600);
        let door = Door::open(&address).unwrap();
        let heir = door.heir().unwrap();
        let _waits = UnixStream::connect(path(&address)).unwrap();
        heir.leave();
        drop(door);
        assert!(path(&address).exists());
        let inherited = Door::inherit(&address, heir.socket.try_clone().unwrap()).unwrap();
        drop(inherited);
        assert!(path(&address).exists(), "it was not taken");
        let inherited = Door::inherit(&address, heir.socket).unwrap();
        inherited.take();
        let Door::Unix(listener, _) = &inherited else {
            unreachable!()
        };
        listener.accept().unwrap();
        drop(inherited);
        assert!(!path(&address).exists());
    }

    #[test]
    fn what_is_no_socket_is_not_touched() {
        let address = socket("file", 0o600);
        fs::write(path(&address), "precious").unwrap();
        assert_eq!(
            Door::open(&address).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(fs::read_to_string(path(&address)).unwrap(), "precious");
        fs::remove_file(path(&address)).unwrap();
    }
}
