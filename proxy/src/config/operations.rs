//! What operators are given: the admin interface, the access log, names of requests. Keys, checks and the checked types
//! together, because none of it is the business of routing.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use foreshade_settings::{
    AbsolutePath, Address, AdminPlace, AdminWritten, At, Choice, Json, Mistakes, Mode, Node, Part, Read,
    SOCKET_PATH_BYTES_MAX, Scalar, Section, Shown, Value, WithoutToken, Wrong, absolute, choice, scalar,
    section,
};
use serde_json::json;

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
    /// How a process is replaced by its successor.
    UpgradeKeys "an upgrade section":
    /// Path of the socket over which a new process takes the listening sockets of this one over, without a lost connection.
    /// Only this user and root may ask there. No upgrade without a restart where left out.
    socket "socket": optional SocketPath;
}

section! {
    /// Names for requests.
    RequestIdKeys "a requestId section":
    /// Whether a request without a well-formed x-request-id is given one on its way to the endpoint.
    make "make": default bool = false;
    /// Whether each answer tells the client the request's name, also those that the proxy gives by itself.
    to_client "toClient": default bool = false;
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

impl From<AdminKeys> for AdminWritten {
    fn from(keys: AdminKeys) -> Self {
        Self {
            address: keys.address,
            mode: keys.mode,
            token_file: keys.token_file,
            without_token: keys.without_token,
        }
    }
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

/// The path of a socket that only its owner may connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SocketPath(pub(super) PathBuf);

impl Scalar for SocketPath {
    fn expected() -> String {
        "the absolute path of a socket, as /run/foreshade/upgrade.sock".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let path = absolute(text)?;
        if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            let fault = format!("has a path of more than {SOCKET_PATH_BYTES_MAX} bytes");
            return Err(Wrong::because(fault));
        }
        Ok(Self(path))
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^/.+$" })
    }
}

impl Shown for SocketPath {
    fn shown(&self) -> Json {
        self.0.display().to_string().into()
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

choice!(Format: "json" Json, "combined" Combined);
