//! What operators are given: the admin interface, the access log, names and traces of requests. Keys, checks and the
//! checked types together, because none of it is the business of routing.
//!
//! Two rules that need more than one value: an admin interface that others than this machine can reach needs a token,
//! and `mode` needs a socket. The token itself is not read here: a configuration is also checked where the secret is
//! not, and a secret that was never read cannot be shown.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value as Json, json};

use super::check::{Resolve, address};
use super::mistake::{Mistake, Mistakes};
use super::read::{
    At, Entries, Read, Scalar, Section, Shown, Wrong, described, scalar, section, section_schema,
};
use super::scalar::{Choice, Part, word};
use super::text::Address;
use super::yaml::{Node, Value};

/// Longest path of a socket: what the kernel's `sockaddr_un` holds, without its final zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;

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

/// A line per request.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLog {
    /// Where lines go.
    pub sink: Sink,
    /// What a line looks like.
    pub format: Format,
    /// The share of requests that get a line, above 0 and up to 1.
    pub sample: f64,
    /// Requests that failed get one whatever the sample says.
    pub always_errors: bool,
    /// Query strings are written; they may hold secrets.
    pub query: bool,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Standard output.
    Stdout,
    /// A file, appended to. Absolute.
    File(PathBuf),
}

/// What a line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object, with everything that is known.
    Json,
    /// The combined format of Apache and nginx, to the byte, for tools that read nothing else.
    Combined,
}

/// Names for requests: the header `x-request-id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestIds {
    /// A request without a well-formed name is given one.
    pub make: bool,
    /// The name is shown to the client.
    pub to_client: bool,
}

/// The proxy's part in traces.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Traces {
    /// What is done with `traceparent`.
    pub mode: TraceMode,
    /// The share of traces begun here that are marked to be recorded, 0 to 1.
    pub sampled: f64,
}

/// What is done with `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceMode {
    /// It passes as it came.
    Pass,
    /// A valid one gets a span of the proxy's own; an invalid one is removed.
    Join,
    /// The same, and a request without a valid one begins a trace.
    Start,
}

section! {
    /// The admin interface.
    AdminKeys "the admin section":
    /// Address of the admin interface, or unix: and the path of a socket. Whoever reaches it can act; beyond loopback
    /// it needs tokenFile.
    address "address": default At<AdminPlace> = AdminPlace::Tcp(Address::Ip((Ipv4Addr::LOCALHOST, 9901).into()));
    /// Who may connect to the socket, in octal; 0600 where left out. Only with unix:.
    mode "mode": optional At<Mode>;
    /// File with the bearer token that every request then needs. Others may not read it, the group may not write it.
    token_file "tokenFile": optional AbsolutePath;
    /// What may be asked without the token: each word includes those before it; health is /livez and /readyz, reading
    /// is everything but orders.
    without_token "withoutToken": default WithoutToken = WithoutToken::Health;
}

section! {
    /// A line per request.
    AccessLogSection "an access log":
    /// Where lines go: stdout, or the path of a file, which is appended to and opened anew on SIGUSR1.
    to "to": default Sink = Sink::Stdout;
    /// What a line looks like. Only json tells why a request ended and where its time went.
    format "format": default Format = Format::Json;
    /// Share of requests that get a line.
    sample "sample": default Part = Part(1.0);
    /// Requests that failed (5xx, or no whole answer) get a line whatever sample says.
    always_errors "alwaysErrors": default bool = true;
    /// Whether query strings are written, those of referers included. Write false where they hold secrets.
    query "query": default bool = true;
}

section! {
    /// Names for requests.
    RequestIdKeys "a requestId section":
    /// Whether a request without a well-formed x-request-id is given one on its way to the endpoint.
    make "make": default bool = false;
    /// Whether each answer tells the client the request's name, also those that the proxy gives by itself.
    to_client "toClient": default bool = false;
}

section! {
    /// The proxy's part in distributed traces.
    TraceKeys "a trace section":
    /// pass leaves traceparent as it came; join gives a valid one a span of this proxy and removes an invalid one;
    /// start does the same and begins a trace where there is none.
    mode "mode": default TraceMode = TraceMode::Pass;
    /// Share of the traces begun here that are marked to be recorded.
    sampled "sampled": default Part = Part(1.0);
}

impl From<AccessLogKeys> for Option<AccessLog> {
    fn from(keys: AccessLogKeys) -> Self {
        let AccessLogKeys::On(section) = keys else {
            return None;
        };
        Some(AccessLog {
            sink: section.to,
            format: section.format,
            sample: section.sample.0,
            always_errors: section.always_errors,
            query: section.query,
        })
    }
}

impl From<RequestIdKeys> for RequestIds {
    fn from(keys: RequestIdKeys) -> Self {
        Self {
            make: keys.make,
            to_client: keys.to_client,
        }
    }
}

impl From<TraceKeys> for Traces {
    fn from(keys: TraceKeys) -> Self {
        Self {
            mode: keys.mode,
            sampled: keys.sampled.0,
        }
    }
}

/// The admin interface, if it is one that only those can reach who may.
pub(super) fn admin(keys: AdminKeys, resolve: &Resolve<'_>, mistakes: &mut Mistakes) -> Option<Admin> {
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

/// An IPv4 address inside of an IPv6 one counts as what it is.
fn is_of_this_machine(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// The access log, or none.
#[derive(Debug)]
pub(super) enum AccessLogKeys {
    Off,
    On(AccessLogSection),
}

#[derive(Clone, Copy, Debug)]
enum AccessLogWord {
    Off,
    Stdout,
}

impl Choice for AccessLogWord {
    const ALL: &'static [(&'static str, Self)] = &[("off", Self::Off), ("stdout", Self::Stdout)];
}

impl Read for AccessLogKeys {
    fn read(node: &Node, key: &str, mistakes: &mut Mistakes) -> Option<Self> {
        if matches!(node.value, Value::Map(_)) {
            return AccessLogSection::read(node, key, mistakes).map(Self::On);
        }
        scalar(node, key, &Self::title(), mistakes).map(|word| match word {
            AccessLogWord::Off => Self::Off,
            AccessLogWord::Stdout => Self::On(AccessLogSection::unwritten()),
        })
    }

    fn title() -> String {
        "off, stdout, or a mapping".to_owned()
    }

    fn schema() -> Json {
        json!({ "anyOf": [<AccessLogWord as Read>::schema(), AccessLogSection::schema()] })
    }
}

impl Shown for AccessLogKeys {
    fn shown(&self) -> Json {
        // Only none of it is a default.
        match self {
            Self::Off => "off".into(),
            Self::On(_) => "stdout".into(),
        }
    }
}

/// An address for the admin interface.
#[derive(Clone, Debug)]
pub(super) enum AdminPlace {
    Tcp(Address),
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
pub(super) struct Mode(u32);

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
pub(super) struct AbsolutePath(PathBuf);

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

impl Scalar for Sink {
    fn expected() -> String {
        "stdout, or the absolute path of a file".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "stdout" => Ok(Self::Stdout),
            path => absolute(path).map(Self::File),
        }
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^stdout$|^/.+$" })
    }
}

impl Shown for Sink {
    fn shown(&self) -> Json {
        match self {
            Self::Stdout => "stdout".into(),
            Self::File(path) => path.display().to_string().into(),
        }
    }
}

fn absolute(text: &str) -> Result<PathBuf, Wrong> {
    let path = Path::new(text);
    if !path.is_absolute() || path.file_name().is_none() || text.chars().any(char::is_control) {
        return Err(Wrong::because("is not the absolute path of a file"));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(Wrong::because("leads through .."));
    }
    Ok(path.to_owned())
}

macro_rules! choice {
    ($Type:ident: $($word:literal $Variant:ident),+) => {
        impl Choice for $Type {
            const ALL: &'static [(&'static str, Self)] = &[$(($word, Self::$Variant)),+];
        }

        impl Shown for $Type {
            fn shown(&self) -> Json {
                word(*self).into()
            }
        }
    };
}

choice!(WithoutToken: "nothing" Nothing, "health" Health, "metrics" Metrics, "reading" Reading);
choice!(Format: "json" Json, "combined" Combined);
choice!(TraceMode: "pass" Pass, "join" Join, "start" Start);

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
