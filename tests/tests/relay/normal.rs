//! Messages without what may differ between the two paths.

use foreshade_tests::wire::{find, unchunked};

/// What may differ:
/// - letters and order of header lines, which mean nothing (RFC 9110 section 5.1, 5.3); lines of one name keep theirs;
/// - spaces around values;
/// - the time in `Date`, which is the proxy's own;
/// - `Connection: keep-alive`, which says what HTTP/1.1 means anyway;
/// - the words behind a status, which nobody reads (RFC 9112 section 4): pingora writes the usual ones;
/// - where one chunk ends and the next begins;
/// - names that were made: both make their own.
pub(crate) fn normal(bytes: &[u8]) -> String {
    let mut out = String::new();
    let mut rest = bytes;
    while let Some(end) = find(rest, b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        let (first, lines) = head.split_once("\r\n").unwrap_or((&head, ""));
        let mut fields: Vec<(String, String)> = lines
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let chunked = fields.iter().any(|(name, _)| name == "transfer-encoding");
        let length = fields.iter().find(|(name, _)| name == "content-length");
        let length = length.and_then(|(_, value)| value.parse::<usize>().ok());
        let answers = first.starts_with("HTTP/");
        let status = first.split(' ').nth(1).unwrap_or_default();
        fields.retain(|(name, value)| !(name == "connection" && value.eq_ignore_ascii_case("keep-alive")));
        rest = &rest[end + 4..];
        // What was asked by HEAD has none, which the next answer shows.
        let bodiless = answers
            && (status.starts_with('1') || matches!(status, "204" | "304") || rest.starts_with(b"HTTP/1."));
        let body = if bodiless {
            Vec::new()
        } else if chunked {
            let (body, length) = unchunked(rest).unwrap_or_else(|| (rest.to_vec(), rest.len()));
            rest = &rest[length..];
            body
        } else {
            let length = length.unwrap_or(0).min(rest.len());
            let (body, after) = rest.split_at(length);
            rest = after;
            body.to_vec()
        };
        for (name, value) in &mut fields {
            made(name, value);
        }
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        let first = if answers {
            format!("HTTP/1.1 {status}")
        } else {
            first.to_owned()
        };
        let body = String::from_utf8_lossy(&body).into_owned();
        out.push_str(&format!("{first} {fields:?} {}\n", without_made(&body)));
    }
    out.push_str(&String::from_utf8_lossy(rest));
    out
}

/// Replaces what was made for this request alone.
fn made(name: &str, value: &mut String) {
    match name {
        // An endpoint's own is another one.
        "date" if value != "Thu, 26 Nov 2026 08:00:00 GMT" => *value = "now".to_owned(),
        // The trace is another one, unless the client has begun it; the span always is.
        "traceparent" if value.starts_with(TRACE) => {
            value.replace_range(TRACE.len() + 1..TRACE.len() + 17, "span")
        }
        "traceparent" if value.len() == 55 => *value = format!("begun here{}", &value[52..]),
        _ => *value = without_made(value),
    }
}

/// The trace that clients of these tests are in.
pub(crate) const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c";

/// A text without names that were made: 32 digits.
pub(crate) fn without_made(text: &str) -> String {
    let digit = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
    match text
        .as_bytes()
        .windows(32)
        .position(|window| window.iter().all(digit))
    {
        Some(at) => format!("{}made{}", &text[..at], &text[at + 32..]),
        None => text.to_owned(),
    }
}
