//! Calls of the API. An order has a key of its own, so that it can be sent again when its answer was lost: it is
//! carried out once.

use std::path::PathBuf;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, IF_MATCH};
use axum::http::{HeaderValue, Method, Request, Response, StatusCode};
use foreshade_contract::PairId;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::arguments::{Place, Said, Server};
use crate::client::{self, CallError, Target};
use crate::operator::Actor;
use crate::operator::view::Outcome;

/// For one call: a little more than the API grants its operator.
const PATIENCE: Duration = Duration::from_secs(12);

/// Where the controller is, unless somebody says otherwise.
const HERE: &str = "127.0.0.1";
const HERE_PORT: u16 = 9902;

/// How often an order is sent whose answer was lost.
const ATTEMPTS: u32 = 2;

/// Longest token.
const TOKEN_BYTES_MAX: usize = 4096;

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The controller is not there.
    #[error("{hint}")]
    Away {
        /// What to do.
        hint: String,
        /// What happened.
        #[source]
        source: CallError,
    },
    /// It does not want to.
    #[error("{detail}")]
    Refused {
        /// The status of its answer.
        status: u16,
        /// Its words.
        detail: String,
    },
    /// It does not know who asks.
    #[error("{hint}")]
    Unknown {
        /// What to do.
        hint: &'static str,
    },
    /// What it said makes no sense.
    #[error(
        "{0} answered something that this program does not understand; is it foreshade-controller, and as old as this?"
    )]
    Gibberish(String),
    /// The token cannot be read.
    #[error("the token in {0} cannot be read")]
    Token(PathBuf, #[source] std::io::Error),
    /// The token is none.
    #[error("{0} holds no token: one line of visible characters")]
    NoToken(PathBuf),
    /// Nobody says who he is.
    #[error("who are you? Say it with --actor, or in FORESHADE_ACTOR")]
    Nobody,
    /// There is no drill to end.
    #[error("no drill runs on {0}")]
    NoDrill(PairId),
    /// It cannot be shown.
    #[error("cannot print")]
    Print(#[from] std::io::Error),
}

impl AskError {
    /// Whether nobody was there to refuse, or nobody who could do otherwise: a controller that starts, or does not lead.
    pub(super) fn is_away(&self) -> bool {
        matches!(self, Self::Away { .. } | Self::Refused { status: 503, .. })
    }

    /// Whether it answers otherwise after a while: who only looks again and again may wait for that.
    pub(super) fn passes(&self) -> bool {
        self.is_away() || matches!(self, Self::Refused { status: 429, .. })
    }

    /// Whether it was said wrongly here, before anybody was asked.
    pub(super) fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Nobody | Self::Token(..) | Self::NoToken(_) | Self::NoDrill(_)
        )
    }
}

/// The controller's API.
pub(super) struct Controller {
    target: Target,
    host: HeaderValue,
    /// What stands before each path: the URL's own.
    prefix: String,
    token: Option<HeaderValue>,
}

impl Controller {
    pub(super) fn new(server: Server) -> Result<Self, AskError> {
        let token = server.token_file.map(token).transpose()?;
        let (target, host, prefix) = match server.server {
            None => (
                Target::Tcp(HERE.to_owned(), HERE_PORT),
                format!("{HERE}:{HERE_PORT}"),
                String::new(),
            ),
            Some(Place::Unix(path)) => (Target::Unix(path), "localhost".to_owned(), String::new()),
            Some(Place::Url(url)) => {
                let host = url
                    .uri()
                    .authority()
                    .map(|authority| authority.to_string())
                    .unwrap_or_default();
                let prefix = url.uri().path().trim_end_matches('/').to_owned();
                // A URL is checked to have either scheme.
                let target = Target::of(url.uri()).unwrap_or_else(|| Target::Tcp(host.clone(), 80));
                (target, host, prefix)
            }
        };
        Ok(Self {
            target,
            host: HeaderValue::try_from(host).unwrap_or(HeaderValue::from_static("localhost")),
            prefix,
            token,
        })
    }

    /// Looks at something.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, AskError> {
        let answer = client::call(
            &self.target,
            self.request(Method::GET, path, Body::empty()),
            PATIENCE,
        )
        .await;
        self.read(&answer.map_err(|error| self.away(error))?)
    }

    /// Orders something. Every attempt has the same key.
    pub(super) async fn order(
        &self,
        method: Method,
        path: &str,
        body: &Json,
        said: &Said,
    ) -> Result<Outcome, AskError> {
        let key = format!("{:032x}", rand::random::<u128>());
        let mut attempt = 0;
        loop {
            attempt += 1;
            let mut request = self.request(method.clone(), path, Body::from(body.to_string()));
            let headers = request.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            if let Ok(key) = HeaderValue::try_from(key.as_str()) {
                headers.insert("idempotency-key", key);
            }
            if let Some(expected) = said
                .if_generation
                .and_then(|number| HeaderValue::try_from(format!("\"{number}\"")).ok())
            {
                headers.insert(IF_MATCH, expected);
            }
            match client::call(&self.target, request, PATIENCE).await {
                Ok(answer) => return self.read(&answer),
                Err(CallError::Broken(..) | CallError::Body(..) | CallError::Late(..))
                    if attempt < ATTEMPTS => {}
                Err(error) => return Err(self.away(error)),
            }
        }
    }

    /// Listens: the answer does not end.
    pub(super) async fn listen(&self, path: &str, after: Option<u64>) -> Result<Body, AskError> {
        let mut request = self.request(Method::GET, path, Body::empty());
        if let Some(after) = after {
            request.headers_mut().insert("last-event-id", after.into());
        }
        let answer = tokio::time::timeout(PATIENCE, client::open(&self.target, request)).await;
        let answer = answer.unwrap_or_else(|_| Err(CallError::Late(self.target.clone(), PATIENCE)));
        let answer = answer.map_err(|error| self.away(error))?;
        if answer.status() != StatusCode::OK {
            let (head, body) = answer.into_parts();
            let body = axum::body::to_bytes(body, 1 << 16).await.unwrap_or_default();
            return Err(self.refused(head.status, &body));
        }
        Ok(answer.into_body())
    }

    fn request(&self, method: Method, path: &str, body: Body) -> Request<Body> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        // Names, numbers and words of ours need no escapes.
        *request.uri_mut() = format!("{}{path}", self.prefix).parse().unwrap_or_default();
        request.headers_mut().insert(HOST, self.host.clone());
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        request
    }

    fn read<T: DeserializeOwned>(&self, answer: &Response<Bytes>) -> Result<T, AskError> {
        if !answer.status().is_success() {
            return Err(self.refused(answer.status(), answer.body()));
        }
        serde_json::from_slice(answer.body()).map_err(|_| AskError::Gibberish(self.target.to_string()))
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> AskError {
        if status == StatusCode::UNAUTHORIZED {
            return AskError::Unknown {
                hint: match self.token {
                    Some(_) => {
                        "the controller does not take this token; is it the right file (--token-file)?"
                    }
                    None => {
                        "the controller asks for a token: name its file with --token-file, or in FORESHADE_TOKEN_FILE"
                    }
                },
            };
        }
        refusal(status, body).unwrap_or_else(|| AskError::Gibberish(self.target.to_string()))
    }

    fn away(&self, source: CallError) -> AskError {
        let hint = "no answer from the controller; is it running, and is this its address (--server)?";
        AskError::Away {
            hint: hint.to_owned(),
            source,
        }
    }
}

/// What an answer refuses. What stands before the controllers says in words of its own, or in none, that none of them
/// answers just now.
fn refusal(status: StatusCode, body: &[u8]) -> Option<AskError> {
    let problem: Option<Json> = serde_json::from_slice(body).ok();
    let detail = problem
        .as_ref()
        .and_then(|problem| problem.get("detail")?.as_str());
    if let Some(detail) = detail {
        return Some(AskError::Refused {
            status: status.as_u16(),
            detail: detail.to_owned(),
        });
    }
    let status_of = match status {
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        StatusCode::TOO_MANY_REQUESTS => status,
        _ => return None,
    };
    Some(AskError::Refused {
        status: status_of.as_u16(),
        detail: format!("whatever stands before the controller answers {status}"),
    })
}

fn token(path: PathBuf) -> Result<HeaderValue, AskError> {
    let text = std::fs::read_to_string(&path).map_err(|error| AskError::Token(path.clone(), error))?;
    let token = text.trim_end();
    let sound =
        !token.is_empty() && token.len() <= TOKEN_BYTES_MAX && token.bytes().all(|b| b.is_ascii_graphic());
    let header = sound
        .then(|| HeaderValue::try_from(format!("Bearer {token}")).ok())
        .flatten();
    let mut header = header.ok_or(AskError::NoToken(path))?;
    header.set_sensitive(true);
    Ok(header)
}

/// Who gives an order: who says so, or whoever is at this machine.
pub(super) fn actor(said: &Said) -> Result<Actor, AskError> {
    if let Some(actor) = &said.actor {
        return Ok(actor.clone());
    }
    let named = |name: &str| std::env::var(name).ok().filter(|user| !user.trim().is_empty());
    let user = named("USER").or_else(|| named("LOGNAME")).or_else(account);
    let user = user.unwrap_or_default();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = match (user.trim(), host.trim()) {
        ("", _) => return Err(AskError::Nobody),
        (user, "") => user.to_owned(),
        (user, host) => format!("{user}@{host}"),
    };
    Actor::try_from(name).map_err(|_| AskError::Nobody)
}

/// What this machine calls the user of this process. In a container nobody may have said.
fn account() -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;
    let uid = std::fs::metadata("/proc/self").ok()?.uid();
    let accounts = std::fs::read_to_string("/etc/passwd").ok()?;
    account_of(uid, &accounts)
}

/// The name of a user in what passwd(5) describes.
pub(super) fn account_of(uid: u32, accounts: &str) -> Option<String> {
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, known) = (fields.next()?, fields.next()?, fields.next()?);
        (known.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_balancer_without_a_leader_behind_it_is_a_controller_that_is_away() {
        let page = b"<html><h1>Bad Gateway</h1></html>";
        for status in [502, 503, 504] {
            let refused = refusal(StatusCode::from_u16(status).unwrap(), page);
            assert!(refused.is_some_and(|error| error.is_away()), "{status}");
        }
        let busy = refusal(StatusCode::TOO_MANY_REQUESTS, b"").unwrap();
        assert!(busy.passes() && !busy.is_away());
        for status in [200, 404, 500, 501] {
            let refused = refusal(StatusCode::from_u16(status).unwrap(), page);
            assert!(refused.is_none(), "{status}");
        }
    }

    #[test]
    fn a_controller_that_says_why_is_believed() {
        let refused = refusal(StatusCode::CONFLICT, br#"{"detail": "not now"}"#);
        assert!(matches!(refused, Some(AskError::Refused { status: 409, detail }) if detail == "not now"));
    }
}
