//! Edits of headers out of any bytes, on any head, and what must hold for them.
//!
//! Text, a line each, as in [`super::routing`]. Edits go through the reader of the configuration and heads through the
//! check of heads. The oracle makes the same edits on a list of lines, and has the result checked once more, as bytes: a
//! head that has been edited frames its message as it did before.

use foreshade_proxy::edit::{Facts, HeaderEdits, Template, VALUE_BYTES_MAX};
use foreshade_proxy::framing::{HeadCheck, Limits};
use foreshade_proxy::trace;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

use super::routing::{Asked, checked, read};

/// More says nothing new, and takes its time.
const EDITS_MAX: usize = 10;

/// What frames a message, or belongs to one connection (RFC 9110 section 7.6.1, RFC 9112 sections 3.2, 6 and 7).
const NEVER: [&str; 11] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Far above what the check of heads lets in: what edits add is no client's fault.
fn roomy() -> Limits {
    Limits {
        head_bytes: 1 << 20,
        fields: 256,
        ..Limits::default()
    }
}

/// `-` removes a header, `=` sets and `+` adds one (a name, a colon, a value); `?` is the request line without its version,
/// anything else a header of the head. `@` is the client, `i` says that a name was made for the request, `f` puts any text
/// in the place of host, path and method, with `\n`, `\r` and `\0` for what no line of this text can have.
pub(crate) fn edits(data: &[u8]) {
    let mut made = HeaderEdits::default();
    let (mut target, mut lines) = (b"GET /".to_vec(), Vec::new());
    let (mut client, mut id, mut forged) = (None, None, None);
    let mut count = 0;
    for line in data.split(|byte| *byte == b'\n') {
        let Some((key, rest)) = line.split_first() else {
            continue;
        };
        let text = String::from_utf8_lossy(rest);
        match key {
            b'-' | b'=' | b'+' if count < EDITS_MAX => {
                count += 1;
                take(*key, text.trim_start(), &mut made);
            }
            b'?' => target = rest.trim_ascii().to_vec(),
            b'@' => client = text.trim().parse().ok(),
            b'i' => id = Some(*b"0123456789abcdef0123456789abcdef"),
            b'f' => {
                forged = Some(
                    text.replace("\\n", "\n")
                        .replace("\\r", "\r")
                        .replace("\\0", "\0"),
                )
            }
            _ => lines.extend([line, b"\r\n"].concat()),
        }
    }
    let bytes = [&target[..], b" HTTP/1.1\r\n", &lines, b"\r\n"].concat();
    let Some(asked) = checked(&bytes, &roomy()) else {
        return;
    };
    let path = String::from_utf8_lossy(&asked.target);
    let facts = Facts {
        client,
        host: &asked.host,
        path: &path,
        method: &asked.method,
        scheme: "http",
        route: "r",
        cluster: "c",
        made_id: id.as_ref(),
        came: Some((&asked.headers).into()),
    };
    keeps_its_frame(&made, &asked, &facts, &bytes);
    if let Some(forged) = &forged {
        let (host, path, method) = (forged.as_str(), forged.as_str(), forged.as_str());
        let facts = Facts {
            host,
            path,
            method,
            ..facts
        };
        makes_what_it_says(&made, &asked.headers, &facts);
    }
}

/// Takes an edit, if the configuration does.
fn take(key: u8, text: &str, made: &mut HeaderEdits) {
    let (name, value) = text.split_once(':').unwrap_or((text, ""));
    let value = value.strip_prefix(' ').unwrap_or(value);
    let edits = match key {
        b'-' => json!({ "remove": [name] }),
        b'=' => json!({ "set": [{ "name": name, "value": value }] }),
        _ => json!({ "add": [{ "name": name, "value": value }] }),
    };
    let route = json!({ "cluster": "c", "requestHeaders": edits, "responseHeaders": edits });
    let never = NEVER.contains(&name.to_ascii_lowercase().as_str());
    let Some(route) = read(0, &route) else {
        return;
    };
    assert!(!never, "{name} can be edited");
    let edits = route.edits.expect("what was read has an effect");
    assert_eq!(edits.request, edits.response);
    made.remove.extend(edits.request.remove.iter().cloned());
    made.set.extend(edits.request.set.iter().cloned());
    made.add.extend(edits.request.add.iter().cloned());
}

/// A head that passed passes with its edits, and frames its message as before.
fn keeps_its_frame(made: &HeaderEdits, asked: &Asked, facts: &Facts<'_>, came: &[u8]) {
    let headers = makes_what_it_says(made, &asked.headers, facts);
    let line = [asked.method.as_bytes(), b" ", &asked.target, b" HTTP/1.1\r\n"].concat();
    let mut bytes = line;
    for (name, value) in &headers {
        bytes.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    bytes.extend(b"\r\n");
    let verdict = |bytes: &[u8]| HeadCheck::default().advance(bytes, &roomy());
    let (before, after) = (verdict(came), verdict(&bytes));
    let (Ok(Some(before)), Ok(Some(after))) = (&before, &after) else {
        panic!("{before:?} became {after:?}: {}", bytes.escape_ascii());
    };
    assert_eq!(after.place, 0..bytes.len(), "{}", bytes.escape_ascii());
    let told =
        |head: &foreshade_proxy::framing::Head| (head.framing, head.keep_alive, head.upgrade, head.expect);
    assert_eq!(told(before), told(after), "{}", bytes.escape_ascii());
}

/// Removed is gone, set is alone, added is last, and what is not named stays: in this order, on a list of lines.
fn makes_what_it_says(made: &HeaderEdits, came: &HeaderMap, facts: &Facts<'_>) -> HeaderMap {
    let mut headers = came.clone();
    made.apply(&mut headers, facts);
    let mut lines: Vec<(HeaderName, HeaderValue)> =
        came.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
    lines.retain(|(name, _)| !made.remove.contains(name));
    for (name, template) in &made.set {
        if let Some(value) = sound(template, facts) {
            lines.retain(|(other, _)| other != name);
            lines.push((name.clone(), value));
        }
    }
    for (name, template) in &made.add {
        if let Some(value) = sound(template, facts) {
            lines.push((name.clone(), value));
        }
    }
    assert_eq!(headers.len(), lines.len(), "{headers:?}\n{lines:?}");
    for name in headers.keys() {
        let expected = lines
            .iter()
            .filter(|(other, _)| other == name)
            .map(|(_, value)| value);
        assert!(headers.get_all(name).iter().eq(expected), "{name} of {headers:?}");
    }
    headers
}

/// The value, if there is one: no longer than what it is made of, and on one line.
fn sound(template: &Template, facts: &Facts<'_>) -> Option<HeaderValue> {
    let text = template.text(facts);
    let id = facts
        .came
        .and_then(trace::request_id)
        .map_or(32, <[u8]>::len)
        .max(32);
    // The shortest variable has six letters with its braces, and stands for the longest fact at most.
    let longest = [facts.host.len(), facts.path.len(), facts.method.len(), id, 45]
        .into_iter()
        .max();
    assert!(text.len() <= VALUE_BYTES_MAX + VALUE_BYTES_MAX / 6 * longest.unwrap_or_default());
    let value = template.value(facts)?;
    assert_eq!(value.as_bytes(), text.as_bytes());
    assert!(
        !value.as_bytes().iter().any(|b| matches!(b, b'\r' | b'\n' | 0)),
        "{value:?}"
    );
    Some(value)
}
