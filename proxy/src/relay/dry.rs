//! What the relay makes of heads, without any socket: for whoever tries all bytes on it.

use http::HeaderValue;

use super::answer::{Answer, End, Passing};
use super::request::{self, Telling};
use crate::client::Client;
use crate::fields::Lines;
use crate::framing::{Framing, Head};
use crate::path::PathPolicy;
use crate::trace::Named;

/// The head of an answer that would be passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// How long it was.
    pub length: usize,
    /// Its status.
    pub status: u16,
    /// How its body ends; `None` where that is with the connection.
    pub framing: Option<Framing>,
    /// The endpoint's connection can serve again.
    pub keeps_alive: bool,
    /// What the client is sent.
    pub head: Vec<u8>,
}

/// What an endpoint is sent of the head of a request that has been checked. `None` where it is for the full path.
pub fn request(bytes: &[u8], head: &Head, client: &Client, named: &Named, attempt: u32) -> Option<Vec<u8>> {
    let (mut lines, mut out) = (Vec::new(), Vec::new());
    let bytes = bytes.get(head.place.clone())?;
    let request = request::read(bytes, head, PathPolicy::default(), &mut lines)?;
    let telling = Telling {
        client,
        named: Some(named),
        changes: None,
        target: None,
        attempt,
    };
    request.write(&telling, &mut out);
    Some(out)
}

/// What becomes of the head of an answer. `None` while it is not complete.
///
/// # Errors
/// Where it is no answer.
#[expect(clippy::result_unit_err, reason = "there is nothing to tell: it is none")]
pub fn answer(bytes: &[u8], head_only: bool) -> Result<Option<Passed>, ()> {
    let mut lines = Vec::new();
    let Some(answer) = Answer::read(bytes, head_only, &mut lines).map_err(drop)? else {
        return Ok(None);
    };
    let lines = Lines { bytes, lines: &lines };
    let mut head = Vec::new();
    if answer.status < 200 {
        answer.write_interim(lines, &mut head);
    } else {
        let passing = Passing {
            close: false,
            date: &HeaderValue::from_static("now"),
            edits: None,
            marks: None,
            request_id: None,
            varies: false,
            server_timing: None,
        };
        answer.write(lines, &passing, &mut head);
    }
    Ok(Some(Passed {
        length: answer.length,
        status: answer.status,
        framing: match answer.end {
            End::Framed(framing) => Some(framing),
            End::Close => None,
        },
        keeps_alive: answer.keeps_alive,
        head,
    }))
}
