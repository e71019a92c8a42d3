//! The head of a request, checked line by line while it arrives.
//!
//! Incremental, because a head may come one byte at a time, and then looking at all of it with each byte would cost a
//! slow client's server more than the client. State is where the last look ended and what the fields have said; the
//! bytes stay with the caller, who passes them all each time. A fault is found with the byte that makes it, not at the
//! end of a head that may never come.

use std::ops::Range;

use super::bytes::{TOKEN, control, is, run, trimmed};
use super::fields::Fields;
use super::target::{Form, form};
use super::{Framing, Limits, Refusal};

/// A request line is its target and no more than this: a method, a version and two spaces.
const BESIDES_TARGET_MAX: usize = 64;

/// The longest method. The longest one that IANA knows has 17 letters.
pub(super) const METHOD_MAX: usize = 32;

/// Bytes of a version, with the space before it.
const VERSION_BYTES: usize = b" HTTP/1.1".len();

/// The versions of HTTP that a head can be of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Version {
    Http10,
    #[default]
    Http11,
}

/// A head that has passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Where in the bytes it stands: behind an empty line that is to be skipped, if there was one.
    pub place: Range<usize>,
    /// Where in the bytes the method stands.
    pub method: Range<usize>,
    /// Where in the bytes the target stands.
    pub target: Range<usize>,
    /// How its body ends.
    pub framing: Framing,
    /// Whether the client wants the connection to live on.
    pub keep_alive: bool,
    /// It asks to switch to another protocol: what follows it is that protocol if the answer is 101, and else the next
    /// request.
    pub upgrade: bool,
    /// The client waits for `100 Continue` before he sends the body.
    pub expect: bool,
}

/// A head in the making.
#[derive(Clone, Debug, Default)]
pub struct HeadCheck {
    /// Where the head starts: at 0, or behind an empty line.
    start: usize,
    /// Where the line that is read now starts.
    line: usize,
    /// Before this there is no end of that line.
    scanned: usize,
    request: Option<RequestLine>,
    count: u32,
    fields: Fields,
}

/// What the first line said.
#[derive(Clone, Debug)]
struct RequestLine {
    method: Range<usize>,
    target: Range<usize>,
    version: Version,
    form: Form,
}

impl HeadCheck {
    /// Looks at what has come since the last call. `bytes` is everything from the first byte on, and longer each time.
    /// `None` while the head is not complete; what stands behind a complete one has not been looked at.
    ///
    /// # Errors
    /// What is wrong with the head. The check is over then.
    pub fn advance(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<Head>, Refusal> {
        loop {
            // Nothing beyond is looked at, so that the verdict is the same whether it has come already or not.
            let most = self.start + self.bytes_max(limits);
            let seen = bytes.get(..most).unwrap_or(bytes);
            let Some(end) = self.line_end(seen)? else {
                return if bytes.len() > most {
                    Err(self.too_large())
                } else {
                    Ok(None)
                };
            };
            let (line, next) = (self.line, end + 2);
            let text = seen.get(line..end).unwrap_or_default();
            (self.line, self.scanned) = (next, next);
            match &self.request {
                Some(request) if text.is_empty() => {
                    return self.conclude(request, bytes, next, limits).map(Some);
                }
                Some(_) => self.field(text, line, limits)?,
                // One empty line, which some clients send behind the body before. Source: RFC 9112 section 2.2.
                None if text.is_empty() && line == 0 => self.start = next,
                None if text.is_empty() => return Err(Refusal::EmptyLines),
                None => self.request = Some(request_line(text, line, limits)?),
            }
        }
    }

    /// How long the head may be, as far as it is known.
    fn bytes_max(&self, limits: &Limits) -> usize {
        match self.request {
            None => limits.head_bytes.min(limits.target_bytes + BESIDES_TARGET_MAX),
            Some(_) => limits.head_bytes,
        }
    }

    /// Where the line ends: at CR LF, and nowhere else.
    #[inline]
    fn line_end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Refusal> {
        // What cannot begin a request needs no end.
        if self.request.is_none()
            && let Some(first) = bytes.get(self.line)
            && !is(*first, TOKEN)
            && !first.is_ascii_control()
        {
            return Err(Refusal::Method);
        }
        while let Some(at) = control(bytes, self.scanned) {
            match bytes.get(at..) {
                Some([b'\r', b'\n', ..]) => return Ok(Some(at)),
                Some([b'\t', ..]) => self.scanned = at + 1,
                // Half of an end, so far.
                Some([b'\r']) => {
                    self.scanned = at;
                    return Ok(None);
                }
                Some([b'\r', ..]) => return Err(Refusal::BareCr),
                Some([b'\n', ..]) => return Err(Refusal::BareLf),
                _ => return Err(Refusal::ControlByte),
            }
        }
        self.scanned = bytes.len();
        Ok(None)
    }

    /// The size of a head is told to be the target's fault where it is.
    fn too_large(&self) -> Refusal {
        match self.request {
            None => Refusal::TargetTooLong,
            Some(_) => Refusal::HeadTooLarge,
        }
    }

    #[inline]
    fn field(&mut self, line: &[u8], at: usize, limits: &Limits) -> Result<(), Refusal> {
        self.count += 1;
        if self.count > limits.fields {
            return Err(Refusal::FieldsTooMany);
        }
        let length = run(line, TOKEN);
        let Some((name, [b':', value @ ..])) = line.split_at_checked(length) else {
            return Err(match line.first() {
                Some(b' ' | b'\t') => Refusal::Folded,
                _ => Refusal::FieldName,
            });
        };
        if name.is_empty() {
            return Err(Refusal::FieldName);
        }
        let value = value.trim_ascii_start();
        let start = at + line.len() - value.len();
        self.fields.note(name, trimmed(value), start)
    }

    /// What needs the whole head.
    fn conclude(
        &self,
        request: &RequestLine,
        bytes: &[u8],
        end: usize,
        limits: &Limits,
    ) -> Result<Head, Refusal> {
        let version = request.version;
        let host = self.fields.host.and_then(|(start, end)| bytes.get(start..end));
        if host.is_none() && version == Version::Http11 {
            return Err(Refusal::HostMissing);
        }
        if let (Form::Absolute(place), Some(host)) = (&request.form, host) {
            let place = request.target.start + place.start..request.target.start + place.end;
            // Byte for byte: two spellings of one host are two hosts to whoever compares them.
            if bytes.get(place) != Some(host) {
                return Err(Refusal::HostConflict);
            }
        }
        Ok(Head {
            place: self.start..end,
            method: request.method.clone(),
            target: request.target.clone(),
            framing: self.fields.framing(version, limits)?,
            keep_alive: self.fields.keeps_alive(version),
            upgrade: self.fields.upgrade && version == Version::Http11,
            expect: self.fields.expect && version == Version::Http11,
        })
    }
}

/// Three parts with one space between them. Source: RFC 9112 section 3.
fn request_line(line: &[u8], at: usize, limits: &Limits) -> Result<RequestLine, Refusal> {
    let method_length = run(line, TOKEN);
    let Some((method, [b' ', rest @ ..])) = line.split_at_checked(method_length) else {
        return Err(match line.contains(&b' ') {
            true => Refusal::Method,
            false => Refusal::RequestLine,
        });
    };
    if !(1..=METHOD_MAX).contains(&method.len()) {
        return Err(Refusal::Method);
    }
    let Some((target, version)) = rest.split_last_chunk::<VERSION_BYTES>() else {
        return Err(Refusal::RequestLine);
    };
    let version = match version {
        b" HTTP/1.1" => Version::Http11,
        b" HTTP/1.0" => Version::Http10,
        [b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(Refusal::Version);
        }
        _ => return Err(Refusal::RequestLine),
    };
    if target.len() > limits.target_bytes {
        return Err(Refusal::TargetTooLong);
    }
    // CONNECT makes a tunnel of the connection, TRACE shows the client what others added to his request.
    if matches!(method, b"CONNECT" | b"TRACE") {
        return Err(Refusal::MethodRefused);
    }
    let Some(form) = form(target) else {
        return Err(match target.contains(&b' ') || target.is_empty() {
            true => Refusal::RequestLine,
            false => Refusal::Target,
        });
    };
    if form == Form::Asterisk && method != b"OPTIONS" {
        return Err(Refusal::Target);
    }
    let method = at..at + method_length;
    let target = method.end + 1..method.end + 1 + target.len();
    Ok(RequestLine {
        method,
        target,
        version,
        form,
    })
}
