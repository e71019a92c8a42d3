//! Where operators are let in, as written: an address or a socket, and what is asked of them there.
//!
//! Two rules that need more than one value: a door that others than this machine can reach needs a token, and `mode`
//! needs a socket. The token itself is not read here: a configuration is also checked where the secret is not, and a
//! secret that was never read cannot be shown.

use std::net::{IpAddr, SocketAddr};
use std::path::{Component, Path, PathBuf};

use serde_json::{Value as Json, json};

use crate::address::{Address, Resolve, address};
use crate::mistake::{Mistake, Mistakes};
use crate::read::{At, Scalar, Shown, Wrong};

/// Longest path of a socket: what the kernel's `sockaddr_un` holds, without its final zero.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The admin interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens.
    pub address: AdminAddress,
    /// The file with the bearer token. Always there where others than this machine can reach the address.
    pub token_file: Option<PathBuf>,
    /// What may be asked without the token, where there is one.
    pub without_token: WithoutToken,
}

/// Where the admin interface listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix {
        /// Absolute, at most 107 bytes.
        path: PathBuf,
        /// Permission bits of the socket: who may connect.
        mode: u32,
    },
}

impl std::fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What may be asked without the token. Each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WithoutToken {
    /// Nothing.
    Nothing,
    /// Liveness and readiness, which balancers ask that hold no secrets.
    Health,
    /// And the metrics.
    Metrics,
    /// And everything else that only looks. Orders need the token.
    Reading,
}

/// The keys of an admin interface, as they were written. Which section has them, and with which default, is for the
/// program to say.
#[derive(Debug)]
pub struct AdminWritten {
    /// Where it listens.
    pub address: At<AdminPlace>,
    /// Who may connect to the socket.
    pub mode: Option<At<Mode>>,
    /// The file with the token.
    pub token_file: Option<AbsolutePath>,
    /// What may be asked without it.
    pub without_token: WithoutToken,
}

/// The admin interface, if it is one that only those can reach who may.
pub fn admin(keys: AdminWritten, resolve: &Resolve<'_>, mistakes: &mut Mistakes) -> Option<Admin> {
    let token_file = keys.token_file.map(|path| path.0);
    let address = match &keys.address.value {
        AdminPlace::Unix(path) => AdminAddress::Unix {
            path: path.clone(),
            mode: keys.mode.map_or(0o600, |mode| mode.value.0),
        },
        AdminPlace::Tcp(written) => {
            if let Some(mode) = &keys.mode {
                let what = "mode: a TCP address has no permissions";
                let mistake = Mistake::at(mode.place(), what).expected("mode only with unix:");
                mistakes.add(mistake.hint("remove mode, or listen on a socket".to_owned()));
            }
            let found = address(Some(&keys.address.with(written.clone())), resolve, mistakes)?.value;
            if token_file.is_none() && !is_of_this_machine(found.ip()) {
                let what = format!(
                    "address: {found} can be reached from elsewhere, and nothing is asked of whoever does"
                );
                mistakes.add(
                    Mistake::at(keys.address.place(), what)
                        .expected("a loopback address, a socket, or a tokenFile")
                        .hint("add tokenFile: with the path of a file that holds a secret".to_owned()),
                );
            }
            AdminAddress::Tcp(found)
        }
    };
    Some(Admin {
        address,
        token_file,
        without_token: keys.without_token,
    })
}

/// Whether nobody but this machine can reach it. An IPv4 address inside of an IPv6 one counts as what it is.
pub fn is_of_this_machine(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// An address for the admin interface.
#[derive(Clone, Debug)]
pub enum AdminPlace {
    /// An address.
    Tcp(Address),
    /// The path of a socket.
    Unix(PathBuf),
}

impl Scalar for AdminPlace {
    fn expected() -> String {
        "an address, as 127.0.0.1:9901, or a socket, as unix:/run/foreshade/admin.sock".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let Some(path) = text.strip_prefix("unix:") else {
            return Address::parse(text).map(Self::Tcp);
        };
        let path = absolute(path.strip_prefix("//").unwrap_or(path))?;
        if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            let fault = format!("has a path of more than {SOCKET_PATH_BYTES_MAX} bytes");
            return Err(Wrong::because(fault).hint("the kernel takes no longer one".to_owned()));
        }
        Ok(Self::Unix(path))
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^unix:/.+$|^.+:[0-9]{1,5}$" })
    }
}

impl Shown for AdminPlace {
    fn shown(&self) -> Json {
        match self {
            Self::Tcp(address) => address.shown(),
            Self::Unix(path) => format!("unix:{}", path.display()).into(),
        }
    }
}

/// Permission bits.
#[derive(Clone, Copy, Debug)]
pub struct Mode(u32);

impl Scalar for Mode {
    fn expected() -> String {
        "permissions in octal, as 0600 or 0660".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let octal = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
        let mode = u32::from_str_radix(text, 8)
            .ok()
            .filter(|mode| octal && *mode <= 0o777);
        mode.map(Self).ok_or_else(Wrong::default)
    }

    fn schema() -> Json {
        json!({ "type": ["string", "integer"], "pattern": "^0?[0-7]{3}$" })
    }
}

/// A path that means the same wherever the process was started.
#[derive(Clone, Debug)]
pub struct AbsolutePath(pub PathBuf);

impl Scalar for AbsolutePath {
    fn expected() -> String {
        "the absolute path of a file".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        absolute(text).map(Self)
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^/.+$" })
    }
}

/// A path that needs no working directory, and leads nowhere but where it says.
///
/// # Errors
/// What is wrong with it.
pub fn absolute(text: &str) -> Result<PathBuf, Wrong> {
    let path = Path::new(text);
    if !path.is_absolute() || path.file_name().is_none() || text.chars().any(char::is_control) {
        return Err(Wrong::because("is not the absolute path of a file"));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(Wrong::because("leads through .."));
    }
    Ok(path.to_owned())
}

crate::choice!(WithoutToken: "nothing" Nothing, "health" Health, "metrics" Metrics, "reading" Reading);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_address_is_a_port_or_a_socket() {
        for text in [
            "127.0.0.1:9901",
            "[::1]:1",
            "unix:/run/a.sock",
            "unix:///run/a.sock",
        ] {
            assert!(AdminPlace::parse(text).is_ok(), "{text}");
        }
        let long = format!("unix:/{}", "x".repeat(SOCKET_PATH_BYTES_MAX));
        for text in [
            "unix:",
            "unix:/",
            "unix:a.sock",
            "unix:/run/../a",
            "/run/a.sock",
            &long,
        ] {
            assert!(AdminPlace::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn permissions_are_octal() {
        for (text, mode) in [("0600", 0o600), ("660", 0o660), ("0777", 0o777)] {
            assert_eq!(Mode::parse(text).unwrap().0, mode);
        }
        for text in ["", "0", "0o600", "0888", "1777", "+600", "rw"] {
            assert!(Mode::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_loopback_is_of_this_machine() {
        for (ip, is) in [
            ("127.0.0.1", true),
            ("127.1.2.3", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("0.0.0.0", false),
            ("::", false),
            ("10.0.0.1", false),
            ("::ffff:10.0.0.1", false),
        ] {
            assert_eq!(is_of_this_machine(ip.parse().unwrap()), is, "{ip}");
        }
    }
}
