//! What must hold of the relay for any bytes: what it writes is what it read, but for what is one connection's own.

use foreshade_proxy::client::{Client, ToldBy, Trust};
use foreshade_proxy::framing::{Framing, HeadCheck};
use foreshade_proxy::relay::dry::{self, Passed};
use foreshade_proxy::trace::Named;

use super::limits;

/// A header as another parser reads it: its name in lower case, and its value.
type Field = (String, Vec<u8>);

fn field(header: &httparse::Header<'_>) -> Field {
    // Some readers drop only spaces and tabs, and so does this proxy.
    (
        header.name.to_ascii_lowercase(),
        header.value.trim_ascii().to_vec(),
    )
}

/// The head of a request. The first byte says who is believed and which attempt it is.
pub(crate) fn relay_request(data: &[u8]) {
    let Some((how, bytes)) = data.split_first() else {
        return;
    };
    let Ok(Some(head)) = HeadCheck::default().advance(bytes, &limits()) else {
        return;
    };
    let came = request(&bytes[head.place.clone()]);
    let trust = Trust {
        proxies: (how & 1 > 0)
            .then(|| "192.0.2.0/24".parse().unwrap())
            .into_iter()
            .collect(),
        told_by: match (how >> 1) % 3 {
            0 => ToldBy::XForwardedFor,
            1 => ToldBy::Forwarded,
            _ => ToldBy::Nothing,
        },
    };
    let mut headers = http::HeaderMap::new();
    for (name, value) in &came.1 {
        let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, http::HeaderValue::from_bytes(value).unwrap());
    }
    let client = Client::of(&trust, Some("192.0.2.7".parse().unwrap()), &headers);
    let attempt = 1 + u32::from(how >> 4 & 1);
    let Some(written) = dry::request(bytes, &head, &client, &Named::default(), attempt) else {
        return;
    };
    let (line, sent) = request(&written);
    assert_eq!(line, came.0, "another request line");
    // The same by the way of the full path, whose map knows no order between names.
    let mut told = headers.clone();
    client.tell(&mut told, &headers);
    told.remove("connection");
    if told.contains_key("transfer-encoding") {
        told.insert("transfer-encoding", http::HeaderValue::from_static("chunked"));
    }
    if attempt > 1 {
        told.insert("x-foreshade-attempt", attempt.into());
    }
    let mut expected: Vec<Field> = told
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().trim_ascii().to_vec()))
        .collect();
    let mut sent = sent;
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    sent.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(sent, expected);
    // An endpoint as strict as this proxy finds the same body behind it.
    let wide = foreshade_proxy::framing::Limits {
        head_bytes: 4096,
        fields: 32,
        ..limits()
    };
    let again = HeadCheck::default().advance(&written, &wide).unwrap().unwrap();
    assert_eq!((again.framing, again.place.end), (head.framing, written.len()));
    assert!(!again.upgrade && !again.expect);
}

/// Request line and fields, by another parser.
fn request(bytes: &[u8]) -> (String, Vec<Field>) {
    let mut room = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut room);
    assert_eq!(parsed.parse(bytes), Ok(httparse::Status::Complete(bytes.len())));
    let line = format!("{:?} {:?} {:?}", parsed.method, parsed.path, parsed.version);
    (line, parsed.headers.iter().map(field).collect())
}

/// The head of an answer. The first byte says whether it is one to HEAD, and how large the pieces are in which it comes.
pub(crate) fn relay_answer(data: &[u8]) {
    let Some((how, bytes)) = data.split_first() else {
        return;
    };
    let head_only = how & 1 > 0;
    let whole = dry::answer(bytes, head_only);
    let mut pieced = Ok(None);
    for end in (1..=bytes.len())
        .step_by(usize::from(how >> 1).max(1))
        .chain([bytes.len()])
    {
        pieced = dry::answer(&bytes[..end], head_only);
        if !matches!(pieced, Ok(None)) {
            break;
        }
    }
    assert_eq!(whole, pieced, "another verdict in pieces");
    let Ok(Some(passed)) = whole else { return };
    assert!(passed.length <= bytes.len());
    is_passed_on(&bytes[..passed.length], &passed, head_only);
}

fn is_passed_on(came: &[u8], passed: &Passed, head_only: bool) {
    let (status, fields) = answer(came);
    let (told, written) = answer(&passed.head);
    assert_eq!((status, told), (passed.status, passed.status));
    let named = |fields: &[Field], wanted: &str| fields.iter().filter(|(name, _)| name == wanted).count();
    if passed.status >= 200 {
        assert_eq!((named(&written, "connection"), named(&written, "date")), (1, 1));
    }
    for gone in [
        "keep-alive",
        "proxy-connection",
        "endpoint-load-metrics",
        "endpoint-load-metrics-bin",
    ] {
        assert_eq!(named(&written, gone), 0, "{gone} passed");
    }
    // Nothing is made up but what is said above, and how the body ends.
    for (name, value) in &written {
        let ours = ["connection", "date", "transfer-encoding"].contains(&name.as_str());
        assert!(
            ours || fields.contains(&(name.clone(), value.clone())),
            "{name} was made up"
        );
    }
    // A client that reads as this proxy does finds the same end; what ended with the connection ends with a chunk.
    let bodiless = head_only || matches!(passed.status, 100..=199 | 204 | 304);
    match (passed.framing, bodiless) {
        (Some(framing), true) => assert_eq!(framing, Framing::None),
        (framing, _) => {
            let again = dry::answer(&passed.head, head_only).unwrap().unwrap();
            assert_eq!(again.framing, Some(framing.unwrap_or(Framing::Chunked)));
            assert_eq!(again.length, passed.head.len());
            assert!(!(named(&written, "content-length") > 0 && named(&written, "transfer-encoding") > 0));
        }
    }
    assert!(!passed.keeps_alive || passed.framing.is_some());
}

/// Status and fields, by another parser.
fn answer(bytes: &[u8]) -> (u16, Vec<Field>) {
    let mut room = [httparse::EMPTY_HEADER; 300];
    let mut parsed = httparse::Response::new(&mut room);
    assert_eq!(parsed.parse(bytes), Ok(httparse::Status::Complete(bytes.len())));
    (parsed.code.unwrap(), parsed.headers.iter().map(field).collect())
}
