//! Just enough HTTP/1.1 for both ends of the bench: heads by httparse, bodies by Content-Length, keep-alive.
//!
//! A full HTTP stack would cost more CPU than the proxy under test on the machine that they share, and would hide accept
//! and reset, which the faults need. Whatever is outside this subset is an error, never a guess: the bench must not
//! call an answer good that it did not understand.

use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Header that carries a request's unique number.
pub const NUMBER_HEADER: &str = "x-request-number";

/// Most headers in a head: the bench sends five, proxies add a handful.
const HEADERS_MAX: usize = 64;

/// Largest head; what is longer is a broken peer.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Room for one read, at least: a head of the bench fits, and a large body fills what the buffer has grown to.
const READ_BYTES: usize = 1024;

/// Largest body of a request.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// The head of a request; its bytes are still at the front of the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// Whether it may have an effect.
    pub post: bool,
    /// Whether the answer must have no body.
    pub head_only: bool,
    /// Where in the buffer its path and query are.
    pub path: Range<usize>,
    /// Bytes of the head.
    pub head_bytes: usize,
    /// Bytes of the body.
    pub body_bytes: usize,
    /// Its number, if the bench's load sent it and not a probe.
    pub number: Option<u64>,
    /// Whether the connection stays open afterwards.
    pub keep_alive: bool,
}

/// A request that has arrived completely; its bytes are still at the front of the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Whether it may have an effect.
    pub post: bool,
    /// Where in the buffer its path and query are.
    pub path: Range<usize>,
    /// Where in the buffer its body is; the request ends there.
    pub body: Range<usize>,
    /// Its number, if the bench's load sent it and not a probe.
    pub number: Option<u64>,
    /// Whether the connection stays open afterwards.
    pub keep_alive: bool,
}

/// The head of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerHead {
    /// Status code.
    pub status: u16,
    /// Bytes of the head.
    pub head_bytes: usize,
    /// Bytes of the body.
    pub body_bytes: u64,
    /// Whether the connection stays open afterwards.
    pub keep_alive: bool,
}

fn broken(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// What a head says about the bytes after it.
struct Framing {
    content_length: Option<u64>,
    keep_alive: bool,
    number: Option<u64>,
}

fn framing(headers: &[httparse::Header<'_>], version: Option<u8>) -> io::Result<Framing> {
    let mut found = Framing {
        content_length: None,
        keep_alive: version == Some(1),
        number: None,
    };
    for header in headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        // Most headers are none of these, and their lengths tell.
        match header.name.len() {
            10 if is("connection") => found.keep_alive &= !header.value.eq_ignore_ascii_case(b"close"),
            14 if is("content-length") => {
                let length = decimal(header.value);
                found.content_length = Some(length.ok_or_else(|| broken("content-length is not a number"))?);
            }
            16 if is(NUMBER_HEADER) => found.number = decimal(header.value),
            17 if is("transfer-encoding") => {
                return Err(broken("chunked bodies are not part of the bench's HTTP"));
            }
            _ => {}
        }
    }
    Ok(found)
}

fn decimal(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Parses the head of the request at the front of `buffer`; `None` while it is incomplete.
pub fn parse_head(buffer: &[u8]) -> io::Result<Option<RequestHead>> {
    // Uninitialised: clearing two kilobytes for each request would cost more than parsing it.
    let mut headers = [MaybeUninit::uninit(); HEADERS_MAX];
    let mut head = httparse::Request::new(&mut []);
    let status = head
        .parse_with_uninit_headers(buffer, &mut headers)
        .map_err(|_| broken("not an HTTP/1.1 request"))?;
    let httparse::Status::Complete(head_bytes) = status else {
        return if buffer.len() > HEAD_BYTES_MAX {
            Err(broken("the head is too long"))
        } else {
            Ok(None)
        };
    };
    let framing = framing(head.headers, head.version)?;
    let body_bytes = usize::try_from(framing.content_length.unwrap_or(0)).unwrap_or(usize::MAX);
    if body_bytes > BODY_BYTES_MAX {
        return Err(broken("the body is too long"));
    }
    let (method, path) = (head.method.unwrap_or(""), head.path.unwrap_or("/"));
    // The path follows the method and one space; httparse skips empty lines before the method.
    let method_at = buffer
        .iter()
        .position(|byte| !byte.is_ascii_whitespace())
        .unwrap_or(0);
    let path_at = method_at + method.len() + 1;
    Ok(Some(RequestHead {
        post: !matches!(method, "GET" | "HEAD" | "OPTIONS"),
        head_only: method == "HEAD",
        path: path_at..path_at + path.len(),
        head_bytes,
        body_bytes,
        number: framing.number,
        keep_alive: framing.keep_alive,
    }))
}

/// Parses the request at the front of `buffer`; `None` while it is incomplete.
pub fn parse_request(buffer: &[u8]) -> io::Result<Option<Request>> {
    let whole = |head: &RequestHead| buffer.len() >= head.head_bytes + head.body_bytes;
    Ok(parse_head(buffer)?.filter(whole).map(|head| Request {
        post: head.post,
        path: head.path,
        body: head.head_bytes..head.head_bytes + head.body_bytes,
        number: head.number,
        keep_alive: head.keep_alive,
    }))
}

/// Reads until `buffer` starts with a complete request. `None` when the peer has closed the connection between requests.
///
/// Safe to cancel: what was read stays in `buffer`.
pub async fn read_request(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> io::Result<Option<Request>> {
    loop {
        if !buffer.is_empty()
            && let Some(request) = parse_request(buffer)?
        {
            return Ok(Some(request));
        }
        if !read_more(stream, buffer).await? {
            return Ok(None);
        }
    }
}

/// The same for a head alone: the body may not be there yet.
pub async fn read_head(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> io::Result<Option<RequestHead>> {
    loop {
        if !buffer.is_empty()
            && let Some(head) = parse_head(buffer)?
        {
            return Ok(Some(head));
        }
        if !read_more(stream, buffer).await? {
            return Ok(None);
        }
    }
}

/// Reads `bytes` of a body and drops them; `buffer` has what is there already, and keeps what follows.
pub async fn skip_body(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    bytes: u64,
) -> io::Result<()> {
    let mut missing = bytes;
    loop {
        let here = usize::try_from(missing).unwrap_or(usize::MAX).min(buffer.len());
        buffer.advance(here);
        missing -= here as u64;
        if missing == 0 {
            return Ok(());
        }
        if !read_more(stream, buffer).await? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Reads what there is; false where the peer has ended the connection between two messages.
async fn read_more(stream: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut) -> io::Result<bool> {
    buffer.reserve(READ_BYTES);
    match stream.read_buf(buffer).await? {
        0 if buffer.is_empty() => Ok(false),
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(true),
    }
}

/// Parses the head of an answer to a GET or POST; `None` while it is incomplete.
pub fn parse_answer(buffer: &[u8]) -> io::Result<Option<AnswerHead>> {
    let mut headers = [MaybeUninit::uninit(); HEADERS_MAX];
    let mut head = httparse::Response::new(&mut []);
    let status = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut head, buffer, &mut headers)
        .map_err(|_| broken("not an HTTP/1.1 answer"))?;
    let httparse::Status::Complete(head_bytes) = status else {
        return if buffer.len() > HEAD_BYTES_MAX {
            Err(broken("the head is too long"))
        } else {
            Ok(None)
        };
    };
    let status = head.code.ok_or_else(|| broken("an answer without a status"))?;
    let framing = framing(head.headers, head.version)?;
    let body_bytes = match (status, framing.content_length) {
        (100..=199 | 204 | 304, _) => 0,
        (_, Some(bytes)) => bytes,
        (_, None) => return Err(broken("an answer without content-length")),
    };
    Ok(Some(AnswerHead {
        status,
        head_bytes,
        body_bytes,
        keep_alive: framing.keep_alive,
    }))
}

/// Reads one whole answer and leaves in `buffer` what follows it. The body is counted and dropped.
pub async fn read_answer(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> io::Result<AnswerHead> {
    let head = loop {
        if !buffer.is_empty()
            && let Some(head) = parse_answer(buffer)?
        {
            buffer.advance(head.head_bytes);
            if !(100..=199).contains(&head.status) {
                break head;
            }
        } else if !read_more(stream, buffer).await? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    skip_body(stream, buffer, head.body_bytes).await?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POST: &[u8] =
        b"POST /a/1 HTTP/1.1\r\nHost: x\r\nX-Request-Number: 42\r\nContent-Length: 5\r\n\r\nhello";

    #[test]
    fn a_request_arrives_with_its_last_byte_and_not_before() {
        for length in 0..POST.len() {
            assert_eq!(parse_request(&POST[..length]).unwrap(), None);
        }
        let request = parse_request(POST).unwrap().unwrap();
        assert!(request.post && request.keep_alive);
        assert_eq!(request.number, Some(42));
        assert_eq!(&POST[request.path], b"/a/1");
        assert_eq!(&POST[request.body], b"hello");
    }

    #[test]
    fn a_request_without_a_number_is_a_probe() {
        let request = parse_request(b"GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n")
            .unwrap()
            .unwrap();
        assert_eq!(
            (request.number, request.keep_alive, request.post),
            (None, false, false)
        );
    }

    #[test]
    fn what_the_bench_does_not_understand_is_an_error() {
        assert!(parse_request(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(parse_request(b"POST / HTTP/1.1\r\ncontent-length: 1e3\r\n\r\n").is_err());
        assert!(parse_request(&[b'x'; 20_000]).is_err());
        assert!(parse_answer(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[tokio::test]
    async fn an_answer_in_pieces_is_read_whole_and_the_next_one_is_left_alone() {
        let (mut near, mut far) = tokio::io::duplex(8);
        let writer = tokio::spawn(async move {
            let text = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 No\r\ncontent-length: 30\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut far, text).await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut far, &[b'x'; 30])
                .await
                .unwrap();
        });
        let mut buffer = BytesMut::new();
        let answer = read_answer(&mut near, &mut buffer).await.unwrap();
        assert_eq!(
            (answer.status, answer.body_bytes, answer.keep_alive),
            (503, 30, true)
        );
        assert!(buffer.is_empty());
        writer.await.unwrap();
    }

    #[tokio::test]
    async fn an_answer_that_is_cut_is_an_error() {
        let mut cut: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 30\r\n\r\nhalf";
        assert!(read_answer(&mut cut, &mut BytesMut::new()).await.is_err());
    }
}
