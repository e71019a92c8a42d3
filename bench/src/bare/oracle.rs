//! The oracle: what somebody could do at best who is told of a fault in the very moment in which it comes.
//!
//! It is the upper end of the scale on which contenders are placed; the lower one is who notices nothing. So it knows
//! what nobody can know (who is faulty, which class of requests fails there, how much everybody can carry), and uses
//! it: new requests go round robin as long as all is well, and around what is faulty from the first one on, to whoever
//! is least busy and has room. What failed without effect is tried again, what may have had one is not. It is no
//! magician: a write that was under way at an endpoint that dies is lost.
//!
//! It is taught over a tiny HTTP, because it is a process of its own like every contender.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType};
use pingora_http::ResponseHeader;
use pingora_proxy::{ProxyHttp, Session};
use serde::{Deserialize, Serialize};

use crate::farm::EndpointSpec;
use crate::wire;

/// Attempts per request, the first included.
const ATTEMPTS_MAX: usize = 3;

/// How long an answer to a request that is safe to repeat is waited for, once: whoever hangs is left behind. Healthy
/// endpoints answer within a tenth of it.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(250);

/// How long a teacher may take for his sentence.
const LESSON_TIMEOUT: Duration = Duration::from_secs(2);

/// The answer's status asks for another try.
const ELSEWHERE: ErrorType = ErrorType::Custom("elsewhere");

/// What is wrong now; nothing where empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Teaching {
    /// Who fails, and at what.
    pub faulty: Vec<Faulty>,
}

/// One endpoint that fails at some requests, or at all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Faulty {
    /// Its name.
    pub endpoint: String,
    /// Only requests whose path starts so; all where absent.
    #[serde(default)]
    pub path_prefix: Option<String>,
    /// Only requests with a body larger than this, or which ask for a larger one with `?bytes=N`; all where absent.
    #[serde(default)]
    pub body_over: Option<u64>,
    /// The part of these requests that it can still serve, 0 to 1.
    #[serde(default)]
    pub keep: f64,
}

/// What makes a bare proxy an oracle.
#[derive(Clone, Debug)]
pub struct OracleOptions {
    /// Where it is taught.
    pub control: SocketAddr,
    /// Who takes over.
    pub standbys: Vec<EndpointSpec>,
    /// Requests that an endpoint works on at once.
    pub capacity: usize,
}

/// What all its workers know.
#[derive(Debug)]
pub(super) struct Mind {
    /// Primaries first.
    members: Vec<Member>,
    primaries: usize,
    capacity: usize,
    turn: AtomicUsize,
    taught: RwLock<Teaching>,
}

#[derive(Debug)]
struct Member {
    name: String,
    peer: HttpPeer,
    in_flight: AtomicUsize,
    /// Requests that it was asked to keep a part of.
    weighed: AtomicU64,
}

/// What the oracle looks at in a request.
struct Asked<'a> {
    path: &'a str,
    body_bytes: u64,
}

impl Faulty {
    fn concerns(&self, asked: &Asked<'_>) -> bool {
        let prefix = self.path_prefix.as_deref().unwrap_or_default();
        asked.path.starts_with(prefix) && self.body_over.is_none_or(|most| asked.body_bytes > most)
    }
}

impl Mind {
    /// Knows everybody, and listens to its teacher from now on.
    pub(super) fn awake(primaries: &[EndpointSpec], options: &OracleOptions) -> io::Result<Arc<Self>> {
        let listener = TcpListener::bind(options.control)?;
        let mind = Arc::new(Self::new(primaries, options));
        let taught = Arc::clone(&mind);
        std::thread::Builder::new()
            .name("teacher".into())
            .spawn(move || {
                for stream in listener.incoming().flatten() {
                    // A lesson that breaks off concerns only the teacher, who sees it end.
                    let _ = taught.lesson(stream);
                }
            })?;
        Ok(mind)
    }

    fn new(primaries: &[EndpointSpec], options: &OracleOptions) -> Self {
        let member = |spec: &EndpointSpec| Member {
            name: spec.name.clone(),
            peer: HttpPeer::new(spec.address, false, String::new()),
            in_flight: AtomicUsize::new(0),
            weighed: AtomicU64::new(0),
        };
        Self {
            members: primaries.iter().chain(&options.standbys).map(member).collect(),
            primaries: primaries.len(),
            capacity: options.capacity.max(1),
            turn: AtomicUsize::new(0),
            taught: RwLock::default(),
        }
    }

    /// One request of the teacher.
    fn lesson(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(LESSON_TIMEOUT))?;
        stream.set_write_timeout(Some(LESSON_TIMEOUT))?;
        let (mut read, mut piece) = (Vec::new(), [0; 4_096]);
        let request = loop {
            if let Some(request) = wire::parse_request(&read)? {
                break request;
            }
            match stream.read(&mut piece)? {
                0 => return Ok(()),
                bytes => read.extend_from_slice(piece.get(..bytes).unwrap_or_default()),
            }
        };
        let (status, body) = match read.get(request.body).filter(|_| request.post) {
            None => ("200 OK", self.recite()),
            Some(words) => match self.learn(words) {
                Ok(()) => ("200 OK", self.recite()),
                Err(why) => ("400 Bad Request", serde_json::json!({ "error": why }).to_string()),
            },
        };
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes())
    }

    fn recite(&self) -> String {
        let taught = self.taught.read().unwrap_or_else(PoisonError::into_inner);
        serde_json::json!(*taught).to_string()
    }

    fn learn(&self, words: &[u8]) -> Result<(), String> {
        let teaching: Teaching = serde_json::from_slice(words).map_err(|error| error.to_string())?;
        for faulty in &teaching.faulty {
            if self.members.iter().all(|member| member.name != faulty.endpoint) {
                return Err(format!("there is no endpoint {:?}", faulty.endpoint));
            }
            if !(0.0..=1.0).contains(&faulty.keep) {
                return Err(format!("a part lies between 0 and 1, not at {}", faulty.keep));
            }
        }
        *self.taught.write().unwrap_or_else(PoisonError::into_inner) = teaching;
        Ok(())
    }

    /// Who serves a request that was `tried` at others.
    fn choose(&self, asked: &Asked<'_>, tried: &[usize]) -> Option<usize> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.primaries.max(1);
        let taught = self.taught.read().unwrap_or_else(PoisonError::into_inner);
        let healthy = |index: &usize| {
            let name = self.members.get(*index).map(|member| &member.name);
            let mut faults = taught.faulty.iter();
            !faults.any(|faulty| Some(&faulty.endpoint) == name && faulty.concerns(asked))
        };
        let untried = |index: &usize| !tried.contains(index);
        let busy = |index: &usize| self.members.get(*index).map_or(usize::MAX, Member::busy);
        let own_turn = untried(&turn) && busy(&turn) < self.capacity;
        if own_turn && (healthy(&turn) || self.keeps(turn, asked, &taught)) {
            return Some(turn);
        }
        // Standbys before primaries that are as busy: they have less to do in the long run.
        let others = || (0..self.members.len()).rev().filter(untried);
        others()
            .filter(healthy)
            .min_by_key(busy)
            .or_else(|| others().min_by_key(busy))
            .or_else(|| tried.last().copied())
    }

    /// Whether this is one of the requests that a faulty endpoint can still serve: every n-th.
    fn keeps(&self, index: usize, asked: &Asked<'_>, taught: &Teaching) -> bool {
        let Some(member) = self.members.get(index) else {
            return false;
        };
        let faults = taught.faulty.iter();
        let keep = faults
            .filter(|faulty| faulty.endpoint == member.name && faulty.concerns(asked))
            .map(|faulty| faulty.keep)
            .fold(1.0, f64::min);
        let weighed = member.weighed.fetch_add(1, Ordering::Relaxed);
        let kept_before = |requests: u64| (requests as f64 * keep).floor();
        kept_before(weighed + 1) > kept_before(weighed)
    }
}

impl Member {
    fn busy(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }
}

/// A request under way. Dropping it frees its place, however it ended.
pub(super) struct Attempt {
    mind: Arc<Mind>,
    tried: Vec<usize>,
    current: Option<usize>,
}

impl Attempt {
    fn leave(&mut self) {
        if let Some(index) = self.current.take() {
            if let Some(member) = self.mind.members.get(index) {
                member.in_flight.fetch_sub(1, Ordering::Relaxed);
            }
            self.tried.push(index);
        }
    }

    /// Whether there may be another attempt, after the current one.
    fn may_repeat(&self) -> bool {
        self.tried.len() + 1 < ATTEMPTS_MAX
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.leave();
    }
}

/// One worker's part in it.
pub(super) struct Oracle(pub(super) Arc<Mind>);

fn is_safe(session: &Session) -> bool {
    session.req_header().method.is_safe()
}

#[async_trait]
impl ProxyHttp for Oracle {
    type CTX = Attempt;

    fn new_ctx(&self) -> Attempt {
        Attempt {
            mind: Arc::clone(&self.0),
            tried: Vec::new(),
            current: None,
        }
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        attempt: &mut Attempt,
    ) -> pingora_core::Result<Box<HttpPeer>> {
        attempt.leave();
        let request = session.req_header();
        let path = request.uri.path_and_query().map_or("/", |path| path.as_str());
        let number = |text: &str| text.parse::<u64>().ok();
        let sent = request
            .headers
            .get("content-length")
            .and_then(|value| number(value.to_str().ok()?));
        let wanted = path.split_once("?bytes=").and_then(|(_, bytes)| number(bytes));
        let asked = Asked {
            path,
            body_bytes: sent.max(wanted).unwrap_or(0),
        };
        let index = self.0.choose(&asked, &attempt.tried);
        let member = index.and_then(|index| self.0.members.get(index));
        let Some(member) = member else {
            return Error::e_explain(ErrorType::ConnectNoRoute, "no endpoint");
        };
        member.in_flight.fetch_add(1, Ordering::Relaxed);
        attempt.current = index;
        let mut peer = member.peer.clone();
        if is_safe(session) && attempt.tried.is_empty() {
            peer.options.read_timeout = Some(ANSWER_TIMEOUT);
        }
        Ok(Box::new(peer))
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        attempt: &mut Attempt,
        mut error: Box<Error>,
    ) -> Box<Error> {
        // Nothing was sent: a write may be repeated, too.
        error.set_retry(attempt.may_repeat());
        error
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        attempt: &mut Attempt,
    ) -> pingora_core::Result<()> {
        if response.status.is_server_error() && is_safe(session) && attempt.may_repeat() {
            return Error::e_explain(ELSEWHERE, "the endpoint failed");
        }
        Ok(())
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        attempt: &mut Attempt,
        _reused: bool,
    ) -> Box<Error> {
        let seen = session.as_downstream().response_written().is_some();
        error.set_retry(is_safe(session) && !seen && attempt.may_repeat());
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mind() -> Mind {
        let spec = |name: &str, port| EndpointSpec {
            name: name.to_owned(),
            address: SocketAddr::from(([127, 0, 0, 1], port)),
        };
        let options = OracleOptions {
            control: SocketAddr::from(([127, 0, 0, 1], 1)),
            standbys: vec![spec("a-standby", 3)],
            capacity: 2,
        };
        Mind::new(&[spec("a", 1), spec("b", 2)], &options)
    }

    fn chosen(mind: &Mind, path: &str, count: usize) -> Vec<Option<usize>> {
        let asked = Asked { path, body_bytes: 0 };
        (0..count).map(|_| mind.choose(&asked, &[])).collect()
    }

    #[test]
    fn as_long_as_all_is_well_primaries_take_turns() {
        assert_eq!(chosen(&mind(), "/a", 4), [Some(0), Some(1), Some(0), Some(1)]);
    }

    #[test]
    fn what_fails_goes_elsewhere_and_nothing_else_does() {
        let mind = mind();
        mind.learn(br#"{"faulty":[{"endpoint":"b","path_prefix":"/e"}]}"#)
            .unwrap();
        assert_eq!(chosen(&mind, "/e/1", 2), [Some(0), Some(2)]);
        assert_eq!(chosen(&mind, "/a", 2), [Some(0), Some(1)]);
        mind.learn(br#"{"faulty":[]}"#).unwrap();
        assert_eq!(chosen(&mind, "/e/1", 2), [Some(0), Some(1)]);
    }

    #[test]
    fn a_faulty_endpoint_keeps_the_part_that_it_can_serve() {
        let mind = mind();
        mind.learn(br#"{"faulty":[{"endpoint":"a","keep":0.25}]}"#)
            .unwrap();
        let kept = chosen(&mind, "/", 80)
            .into_iter()
            .filter(|index| *index == Some(0));
        assert_eq!(kept.count(), 10);
    }

    #[test]
    fn nobody_gets_more_than_he_can_work_on_while_others_have_room() {
        let mind = mind();
        mind.members[0].in_flight.store(2, Ordering::Relaxed);
        mind.members[2].in_flight.store(1, Ordering::Relaxed);
        assert_eq!(chosen(&mind, "/", 1), [Some(1)]);
        mind.learn(br#"{"faulty":[{"endpoint":"b"}]}"#).unwrap();
        assert_eq!(chosen(&mind, "/", 2), [Some(2), Some(2)]);
    }

    #[test]
    fn the_next_attempt_goes_to_somebody_else() {
        let mind = mind();
        let asked = Asked {
            path: "/",
            body_bytes: 0,
        };
        assert_eq!(mind.choose(&asked, &[0]), Some(2));
        assert!(mind.choose(&asked, &[0, 1, 2]).is_some(), "somebody has to");
    }

    #[test]
    fn nonsense_is_not_learnt() {
        let mind = mind();
        let unknown = mind.learn(br#"{"faulty":[{"endpoint":"z"}]}"#).unwrap_err();
        assert!(unknown.contains("\"z\""), "{unknown}");
        assert!(mind.learn(br#"{"faulty":[{"endpoint":"a","keep":2}]}"#).is_err());
        assert!(mind.learn(br#"{"broken":[]}"#).is_err());
        assert_eq!(*mind.taught.read().unwrap(), Teaching::default());
    }
}
