//! The two formats. Every field of a stranger goes through [`escape`], and has a bound.
//!
//! JSON has a key for what is known and none for what is not, always in the same order. Times are milliseconds with three
//! decimals. The combined format has what Apache's has and nothing else: whoever needs more reads JSON.

use std::io::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use foreshade_engine::spec::Role;

use super::stamp::Stamped;
use super::{Record, Served, escape};

/// Longest path with query that is written, in bytes that came. Longer ones are attacks or mistakes, and a line must end.
const TARGET_BYTES_MAX: usize = 2048;

/// The same of each other field that a client fills.
const FIELD_BYTES_MAX: usize = 512;

/// A byte takes six where it has to be escaped.
const ESCAPED_BYTES_MAX: usize = 6;

/// Longest line: one target, six other fields (method, host, name, referer, user agent, and room for one), and what is
/// written around them.
pub(super) const LINE_BYTES_MAX: usize = ESCAPED_BYTES_MAX * (TARGET_BYTES_MAX + 6 * FIELD_BYTES_MAX) + 2048;

/// Appends a JSON object and a newline.
pub(super) fn json(line: &mut Vec<u8>, record: &Record<'_>, began: &Stamped, query: bool) {
    line.extend_from_slice(b"{\"time\":\"");
    line.extend_from_slice(&began.rfc3339);
    line.push(b'.');
    three_digits(line, u64::from(began.ms));
    line.extend_from_slice(b"Z\"");
    if let Some(client) = record.client {
        line.extend_from_slice(b",\"client\":\"");
        address(line, client);
        line.push(b'"');
    }
    let mut truncated = false;
    let target = without_query(record.target, query);
    for (key, value, bytes_max) in [
        (&b",\"host\":\""[..], record.host, FIELD_BYTES_MAX),
        (b",\"method\":\"", record.method, FIELD_BYTES_MAX),
        (b",\"target\":\"", target, TARGET_BYTES_MAX),
        (b",\"protocol\":\"", record.protocol.as_bytes(), FIELD_BYTES_MAX),
    ] {
        truncated |= text(line, key, value, bytes_max);
    }
    if record.has_status() {
        number(line, b",\"status\":", u64::from(record.status));
    }
    if let Some(status) = record.grpc_status {
        number(line, b",\"grpc_status\":", u64::from(status));
    }
    text(
        line,
        b",\"reason\":\"",
        record.reason.label().as_bytes(),
        FIELD_BYTES_MAX,
    );
    let detail = match record.detail {
        "" => record.reason.detail(),
        detail => detail,
    };
    text(line, b",\"detail\":\"", detail.as_bytes(), FIELD_BYTES_MAX);
    for (key, bytes) in [
        (&b",\"bytes_in\":"[..], record.bytes_in),
        (b",\"bytes_out\":", record.bytes_out),
    ] {
        if let Some(bytes) = bytes {
            number(line, key, bytes);
        }
    }
    json_times(line, record);
    if let Some(served) = &record.served {
        json_served(line, served);
    }
    truncated |= text(line, b",\"request_id\":\"", record.request_id, FIELD_BYTES_MAX);
    if let Some(trace) = &record.trace {
        text(line, b",\"trace_id\":\"", trace.trace_id(), FIELD_BYTES_MAX);
        text(line, b",\"span_id\":\"", trace.span_id(), FIELD_BYTES_MAX);
    }
    truncated |= text(
        line,
        b",\"referer\":\"",
        without_query(record.referer, query),
        FIELD_BYTES_MAX,
    );
    truncated |= text(line, b",\"user_agent\":\"", record.user_agent, FIELD_BYTES_MAX);
    if truncated {
        line.extend_from_slice(b",\"truncated\":true");
    }
    line.extend_from_slice(b"}\n");
}

fn json_times(line: &mut Vec<u8>, record: &Record<'_>) {
    let times = &record.times;
    for (key, time) in [
        (&b",\"duration_ms\":"[..], Some(times.duration)),
        (b",\"first_byte_ms\":", times.first_byte),
        (b",\"request_ms\":", times.request),
        (b",\"queue_ms\":", times.queue),
        (b",\"retries_ms\":", times.retries),
        (b",\"connect_ms\":", times.connect),
        (b",\"wait_ms\":", times.wait),
        (b",\"transfer_ms\":", times.transfer),
    ] {
        if let Some(time) = time {
            line.extend_from_slice(key);
            milliseconds(line, time);
        }
    }
}

/// Names of clusters and endpoints have no characters that need to be escaped.
fn json_served(line: &mut Vec<u8>, served: &Served<'_>) {
    line.extend_from_slice(b",\"cluster\":\"");
    line.extend_from_slice(served.cluster.as_bytes());
    line.extend_from_slice(b"\",\"endpoint\":\"");
    line.extend_from_slice(served.endpoint.as_bytes());
    line.extend_from_slice(match served.role {
        Role::Primary { .. } => b"\",\"side\":\"primary\"",
        Role::Shadow => b"\",\"side\":\"shadow\"",
    });
    number(line, b",\"attempts\":", u64::from(served.attempts));
}

/// Appends a line of the combined format. Source: Apache's `LogFormat "%h %l %u %t \"%r\" %>s %b \"%{Referer}i\"
/// \"%{User-Agent}i\""`; nginx writes the same, with 0 for no bytes.
pub(super) fn combined(line: &mut Vec<u8>, record: &Record<'_>, began: &Stamped, query: bool) {
    match record.client {
        Some(client) => address(line, client),
        None => line.push(b'-'),
    }
    line.extend_from_slice(b" - - [");
    line.extend_from_slice(&began.combined);
    line.extend_from_slice(b"] \"");
    escape::combined(line, cropped(record.method, FIELD_BYTES_MAX).0);
    line.push(b' ');
    escape::combined(
        line,
        cropped(without_query(record.target, query), TARGET_BYTES_MAX).0,
    );
    if !record.protocol.is_empty() {
        line.push(b' ');
        line.extend_from_slice(record.protocol.as_bytes());
    }
    line.extend_from_slice(b"\" ");
    // Three digits, because that is what readers look for.
    three_digits(line, u64::from(record.status));
    match record.bytes_out {
        Some(bytes) => number(line, b" ", bytes),
        None => line.extend_from_slice(b" -"),
    }
    for field in [without_query(record.referer, query), record.user_agent] {
        line.extend_from_slice(b" \"");
        escape::combined(line, cropped(field, FIELD_BYTES_MAX).0);
        line.push(b'"');
    }
    line.push(b'\n');
}

/// Appends a string with its key, if there is one. True where it was cropped.
fn text(line: &mut Vec<u8>, key: &[u8], value: &[u8], bytes_max: usize) -> bool {
    if value.is_empty() {
        return false;
    }
    let (value, truncated) = cropped(value, bytes_max);
    line.extend_from_slice(key);
    escape::json(line, value);
    line.push(b'"');
    truncated
}

fn cropped(value: &[u8], bytes_max: usize) -> (&[u8], bool) {
    match value.get(..bytes_max) {
        Some(head) if value.len() > bytes_max => (head, true),
        _ => (value, false),
    }
}

fn without_query(target: &[u8], query: bool) -> &[u8] {
    match query {
        true => target,
        // A fragment is no query, but a referer that has one has it behind the query.
        false => target
            .split(|b| *b == b'?' || *b == b'#')
            .next()
            .unwrap_or_default(),
    }
}

fn number(line: &mut Vec<u8>, key: &[u8], value: u64) {
    line.extend_from_slice(key);
    line.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a time as milliseconds with three digits behind the point.
pub(crate) fn milliseconds(line: &mut Vec<u8>, time: Duration) {
    let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    number(line, b"", us / 1000);
    line.push(b'.');
    three_digits(line, us % 1000);
}

fn three_digits(line: &mut Vec<u8>, value: u64) {
    let digit = |value: u64| b'0' + u8::try_from(value % 10).unwrap_or_default();
    line.extend_from_slice(&[digit(value / 100), digit(value / 10), digit(value)]);
}

fn address(line: &mut Vec<u8>, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(ip) => {
            for (index, octet) in ip.octets().into_iter().enumerate() {
                number(line, if index == 0 { b"" } else { b"." }, u64::from(octet));
            }
        }
        // Writing to a vector cannot fail.
        IpAddr::V6(ip) => drop(write!(line, "{ip}")),
    }
}
