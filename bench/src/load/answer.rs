//! Reads HTTP/1.1 answers as they arrive, however they are cut into pieces, and keeps nothing of them but figures.
//!
//! Unlike [`wire`](crate::wire), which knows only what the bench's own endpoints say, this takes what any server may send:
//! bodies with a length, in chunks or until the connection ends, and interim answers (RFC 9112 sections 6 and 7). Bodies
//! are counted and dropped where they were read; only a head or a line that is cut is copied, to be whole when the rest
//! comes.

use std::io;
use std::mem::MaybeUninit;

/// Most headers in a head.
const HEADERS_MAX: usize = 128;

/// Largest head, and most bytes of all lines between the chunks' bytes that are waited for.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// One answer after another on one connection.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    state: State,
    /// Of a head or line that is not whole yet.
    cut: Vec<u8>,
    /// Status code; 0 before the head has come.
    pub(crate) status: u16,
    /// Bytes of the body so far.
    pub(crate) body_bytes: u64,
    /// Whether the connection may be used again.
    pub(crate) keep_alive: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    /// Bytes of the body that are missing.
    Length(u64),
    ChunkSize,
    /// Bytes of the chunk that are missing, with its line end.
    Chunk(u64),
    Trailers,
    UntilClose,
    Done,
}

fn broken(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl Answer {
    /// Before the first byte of the next answer.
    pub(crate) fn begin(&mut self) {
        self.cut.clear();
        (self.state, self.status, self.body_bytes, self.keep_alive) = (State::Head, 0, 0, false);
    }

    /// Takes what was read, and says whether the answer is whole. One that is `head_only`, to a HEAD request, has no body
    /// whatever it says. What follows the answer was not asked for, and the connection is not kept then.
    pub(crate) fn take(&mut self, mut bytes: &[u8], head_only: bool) -> io::Result<bool> {
        while !bytes.is_empty() && self.state != State::Done {
            bytes = match self.state {
                State::Head => self.head(bytes, head_only)?,
                State::Length(missing) => self.body(bytes, missing, State::Length, State::Done),
                State::Chunk(missing) => self.body(bytes, missing, State::Chunk, State::ChunkSize),
                State::ChunkSize | State::Trailers => self.line(bytes)?,
                State::UntilClose => {
                    self.body_bytes += bytes.len() as u64;
                    &[]
                }
                State::Done => bytes,
            };
        }
        self.keep_alive &= bytes.is_empty();
        Ok(self.state == State::Done)
    }

    /// Whether the answer is whole now that the connection has ended.
    pub(crate) fn ended(&mut self) -> bool {
        self.keep_alive = false;
        matches!(self.state, State::UntilClose | State::Done)
    }

    fn head<'a>(&mut self, bytes: &'a [u8], head_only: bool) -> io::Result<&'a [u8]> {
        let before = self.cut.len();
        if before == 0
            && let Some(length) = self.parse_head(bytes, head_only)?
        {
            return Ok(bytes.get(length..).unwrap_or_default());
        }
        self.cut.extend_from_slice(bytes);
        if self.cut.len() == bytes.len() {
            return Ok(&[]);
        }
        let whole = std::mem::take(&mut self.cut);
        match self.parse_head(&whole, head_only)? {
            Some(length) => Ok(bytes.get(length - before..).unwrap_or_default()),
            None if whole.len() > HEAD_BYTES_MAX => Err(broken("the head is too long")),
            None => {
                self.cut = whole;
                Ok(&[])
            }
        }
    }

    /// Length of the head, if it is whole.
    fn parse_head(&mut self, bytes: &[u8], head_only: bool) -> io::Result<Option<usize>> {
        let mut headers = [MaybeUninit::uninit(); HEADERS_MAX];
        let mut head = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default()
            .parse_response_with_uninit_headers(&mut head, bytes, &mut headers)
            .map_err(|_| broken("not an HTTP/1.1 answer"))?;
        let httparse::Status::Complete(length) = parsed else {
            return Ok(None);
        };
        let status = head.code.ok_or_else(|| broken("an answer without a status"))?;
        if (100..=199).contains(&status) {
            // An interim answer; the one that counts follows.
            return Ok(Some(length));
        }
        self.status = status;
        self.keep_alive = head.version == Some(1);
        let framing = framing(head.headers, &mut self.keep_alive)?;
        self.state = if head_only || matches!(status, 204 | 304) {
            State::Done
        } else {
            framing
        };
        self.keep_alive &= self.state != State::UntilClose;
        Ok(Some(length))
    }

    fn body<'a>(
        &mut self,
        bytes: &'a [u8],
        missing: u64,
        rest: impl Fn(u64) -> State,
        then: State,
    ) -> &'a [u8] {
        let here = usize::try_from(missing).unwrap_or(usize::MAX).min(bytes.len());
        self.body_bytes += here as u64;
        self.state = match missing - here as u64 {
            0 => then,
            missing => rest(missing),
        };
        if then == State::ChunkSize && self.state == State::ChunkSize {
            // Its line end is no part of the body.
            self.body_bytes -= 2;
        }
        bytes.get(here..).unwrap_or_default()
    }

    /// A line between chunks, or after the last.
    fn line<'a>(&mut self, bytes: &'a [u8]) -> io::Result<&'a [u8]> {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            self.cut.extend_from_slice(bytes);
            return if self.cut.len() > HEAD_BYTES_MAX {
                Err(broken("a line between chunks is too long"))
            } else {
                Ok(&[])
            };
        };
        let (line, rest) = bytes.split_at(end + 1);
        self.cut.extend_from_slice(line);
        let empty = matches!(self.cut.as_slice(), b"\r\n" | b"\n");
        if self.state == State::Trailers {
            if empty {
                self.state = State::Done;
            }
        } else {
            self.state = match httparse::parse_chunk_size(&self.cut) {
                Ok(httparse::Status::Complete((_, 0))) => State::Trailers,
                Ok(httparse::Status::Complete((_, size))) => State::Chunk(size.saturating_add(2)),
                _ => return Err(broken("not the size of a chunk")),
            };
        }
        self.cut.clear();
        Ok(rest)
    }
}

/// How the body ends.
fn framing(headers: &[httparse::Header<'_>], keep_alive: &mut bool) -> io::Result<State> {
    let (mut length, mut chunked) = (None, false);
    for header in headers {
        let name = header.name;
        if name.eq_ignore_ascii_case("content-length") {
            let digits = std::str::from_utf8(header.value).ok();
            length = Some(
                digits
                    .and_then(|digits| digits.parse::<u64>().ok())
                    .ok_or_else(|| broken("content-length is not a number"))?,
            );
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = header.value.eq_ignore_ascii_case(b"chunked");
            if !chunked {
                return Err(broken("a transfer coding other than chunked"));
            }
        } else if name.eq_ignore_ascii_case("connection") {
            if header.value.eq_ignore_ascii_case(b"close") {
                *keep_alive = false;
            } else if header.value.eq_ignore_ascii_case(b"keep-alive") {
                *keep_alive = true;
            }
        }
    }
    Ok(match (chunked, length) {
        (true, _) => State::ChunkSize,
        (false, Some(0)) => State::Done,
        (false, Some(bytes)) => State::Length(bytes),
        (false, None) => State::UntilClose,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Status, bytes of the body and whether the connection stays, however the answer is cut in two.
    fn read(text: &[u8]) -> (u16, u64, bool) {
        let mut seen = None;
        for cut in 0..text.len() {
            let mut answer = Answer::default();
            answer.begin();
            assert!(
                cut == 0 || !answer.take(&text[..cut], false).unwrap(),
                "cut at {cut}"
            );
            let whole = answer.take(&text[cut..], false).unwrap() || answer.ended();
            assert!(whole, "cut at {cut}");
            let this = (answer.status, answer.body_bytes, answer.keep_alive);
            assert_eq!(*seen.get_or_insert(this), this, "cut at {cut}");
        }
        seen.unwrap()
    }

    #[test]
    fn an_answer_is_the_same_however_it_is_cut() {
        assert_eq!(
            read(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"),
            (200, 5, true)
        );
        assert_eq!(read(b"HTTP/1.1 204 No\r\n\r\n"), (204, 0, true));
        assert_eq!(
            read(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
            (503, 0, false)
        );
        assert_eq!(
            read(b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\nx"),
            (200, 1, false)
        );
        assert_eq!(
            read(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Made\r\ncontent-length: 1\r\n\r\nx"),
            (201, 1, true)
        );
    }

    #[test]
    fn chunks_are_counted_without_what_is_between_them() {
        let text = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
            5;a=b\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\nx: y\r\n\r\n";
        assert_eq!(read(text), (200, 21, true));
    }

    #[test]
    fn without_a_length_the_end_of_the_connection_is_the_end_of_the_answer() {
        let mut answer = Answer::default();
        answer.begin();
        assert!(!answer.take(b"HTTP/1.1 200 OK\r\n\r\nhalf", false).unwrap());
        assert!(answer.ended() && !answer.keep_alive);
        assert_eq!(answer.body_bytes, 4);
    }

    #[test]
    fn an_answer_that_is_cut_off_is_not_whole() {
        for text in [
            "",
            "HTTP/1.1 20",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell",
        ] {
            let mut answer = Answer::default();
            answer.begin();
            assert!(
                !answer.take(text.as_bytes(), false).unwrap() && !answer.ended(),
                "{text}"
            );
        }
    }

    #[test]
    fn what_was_not_asked_for_costs_the_connection() {
        let mut answer = Answer::default();
        answer.begin();
        assert!(answer.take(b"HTTP/1.1 204 No\r\n\r\nHTTP", false).unwrap());
        assert!(!answer.keep_alive);
    }

    #[test]
    fn an_answer_to_head_has_no_body() {
        let mut answer = Answer::default();
        answer.begin();
        assert!(
            answer
                .take(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", true)
                .unwrap()
        );
        assert!(answer.keep_alive);
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for text in [
            "SSH-2.0-x\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        ] {
            let mut answer = Answer::default();
            answer.begin();
            assert!(answer.take(text.as_bytes(), false).is_err(), "{text}");
        }
        let mut answer = Answer::default();
        answer.begin();
        assert!(!answer.take(b"HTTP/1.1 200 ", false).unwrap());
        let endless = (0..20).try_for_each(|_| answer.take(&[b'a'; 4_096], false).map(drop));
        assert!(endless.is_err());
    }
}
