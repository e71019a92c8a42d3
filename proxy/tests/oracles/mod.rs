//! What must hold for any bytes at all: one function per parser, called by the fuzz targets and by `corpus`.
//!
//! Each takes bytes, and panics where a promise is broken: the same verdict for every cut, the same reading as another
//! parser's for what passes, numbers that can be believed.

mod carried;
mod edits;
mod relay;
mod routing;

use foreshade_proxy::config::{self, Answers};
use foreshade_proxy::framing::{Body, Framing, Head, HeadCheck, Limits, Refusal};
use foreshade_proxy::orca;
use http::{HeaderMap, HeaderValue};

pub(crate) use self::carried::{client_hello, proxy_protocol};
pub(crate) use self::edits::edits;
pub(crate) use self::relay::{relay_answer, relay_request};
pub(crate) use self::routing::routing;

/// Small, so that short inputs reach them.
fn limits() -> Limits {
    Limits {
        head_bytes: 512,
        fields: 12,
        target_bytes: 128,
        body_bytes: Some(4096),
        ..Limits::default()
    }
}

/// The head of a request. The first byte says how large the pieces are in which the rest comes.
pub(crate) fn framing_head(data: &[u8]) {
    let Some((size, bytes)) = data.split_first() else {
        return;
    };
    let whole = HeadCheck::default().advance(bytes, &limits());
    let mut check = HeadCheck::default();
    let mut pieced = Ok(None);
    for end in (1..=bytes.len())
        .step_by(usize::from(*size).max(1))
        .chain([bytes.len()])
    {
        pieced = check.advance(&bytes[..end], &limits());
        if !matches!(pieced, Ok(None)) {
            break;
        }
    }
    assert_eq!(whole, pieced, "another verdict in pieces of {size}");
    if let Ok(Some(head)) = whole {
        is_read_alike(&head, bytes);
    }
}

/// What passes is what httparse reads, which is what pingora reads by; and it frames in one way.
fn is_read_alike(head: &Head, bytes: &[u8]) {
    let mut fields = [httparse::EMPTY_HEADER; 256];
    let mut other = httparse::Request::new(&mut fields);
    let length = other.parse(&bytes[head.place.start..]);
    assert_eq!(length, Ok(httparse::Status::Complete(head.place.len())));
    assert_eq!(other.method.map(str::as_bytes), Some(&bytes[head.method.clone()]));
    assert_eq!(other.path.map(str::as_bytes), Some(&bytes[head.target.clone()]));
    assert!(other.headers.len() <= limits().fields as usize);
    if bytes.get(head.target.start) == Some(&b'/') {
        assert!(http::uri::PathAndQuery::try_from(&bytes[head.target.clone()]).is_ok());
    }
    let named = |name: &str| {
        other
            .headers
            .iter()
            .filter(|h| h.name.eq_ignore_ascii_case(name))
            .count()
    };
    let (lengths, codings, hosts) = (named("content-length"), named("transfer-encoding"), named("host"));
    let expected = match head.framing {
        Framing::None => (0, 0),
        Framing::Length(_) => (1, 0),
        Framing::Chunked => (0, 1),
    };
    assert_eq!((lengths, codings), expected);
    assert!(hosts == 1 || hosts == 0 && other.version == Some(0));
    let text = &bytes[head.place.clone()];
    let alone = |at: usize| match text[at] {
        b'\r' => text.get(at + 1) != Some(&b'\n'),
        b'\n' => at == 0 || text[at - 1] != b'\r',
        byte => byte < 0x20 && byte != b'\t',
    };
    assert!(!(0..text.len()).any(alone), "a control character passed");
}

/// A chunked body. The first byte says how large the pieces are in which the rest comes.
pub(crate) fn framing_chunked(data: &[u8]) {
    let Some((size, bytes)) = data.split_first() else {
        return;
    };
    let whole = taken(bytes, bytes.len().max(1));
    assert_eq!(
        whole,
        taken(bytes, usize::from(*size).max(1)),
        "another verdict in pieces of {size}"
    );
    if let Ok(Some(end)) = whole {
        assert_eq!(by_httparse(bytes), Some(end));
    }
}

/// Where the body in `bytes` ends, and its data; `None` where it does not.
fn taken(bytes: &[u8], size: usize) -> Result<Option<(usize, Vec<u8>)>, Refusal> {
    let mut body = Body::new(Framing::Chunked, limits().body_bytes);
    let (mut taken, mut data) = (0, Vec::new());
    for piece in bytes.chunks(size) {
        taken += body.take_data(piece, |part| data.extend_from_slice(part))?;
        if body.is_done() {
            assert_eq!(body.seen(), data.len() as u64);
            return Ok(Some((taken, data)));
        }
    }
    Ok(None)
}

fn by_httparse(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let (mut at, mut data) = (0, Vec::new());
    loop {
        let httparse::Status::Complete((line, size)) = httparse::parse_chunk_size(bytes.get(at..)?).ok()?
        else {
            return None;
        };
        at += line;
        if size == 0 {
            // The trailers end with the first empty line.
            let rest = bytes.get(at..)?;
            if rest.starts_with(b"\r\n") {
                return Some((at + 2, data));
            }
            return Some((at + rest.windows(4).position(|w| w == b"\r\n\r\n")? + 4, data));
        }
        let end = at + usize::try_from(size).ok()?;
        data.extend_from_slice(bytes.get(at..end)?);
        at = end;
        if bytes.get(at..at + 2)? != b"\r\n" {
            return None;
        }
        at += 2;
    }
}

/// A configuration file: a whole configuration, or mistakes that can be shown.
pub(crate) fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let nobody = |_: &str, port: u16| Ok(vec![([127, 0, 0, 1], port).into()]);
    match config::parse_with(&text, "fuzzed", &nobody, &Answers::default()) {
        Ok(config) => {
            assert!(!config.listeners.is_empty() && !config.clusters.is_empty());
            let clusters = config.clusters.len();
            for listener in &config.listeners {
                let served_by = listener.clusters();
                assert!(served_by.iter().all(|cluster| *cluster < clusters));
                assert!(listener.is_http() || !served_by.is_empty() && listener.routes.is_empty());
            }
        }
        Err(mistakes) => {
            assert!(mistakes.count() > 0);
            assert!(mistakes.to_string().contains("mistake"));
        }
    }
}

/// A load report. The first byte says in which header.
pub(crate) fn orca(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else {
        return;
    };
    let Ok(value) = HeaderValue::from_bytes(bytes) else {
        return;
    };
    let name = &orca::HEADERS[usize::from(which % 2)];
    let mut headers = HeaderMap::new();
    headers.insert(name, value);
    if let Some(report) = orca::parse(&headers) {
        let numbers = [report.utilization, report.memory, report.rps, report.eps];
        assert!(
            numbers.iter().flatten().all(|n| n.is_finite() && *n >= 0.0),
            "{report:?}"
        );
    }
}
