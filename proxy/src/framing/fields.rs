//! The fields of a head that say where the message ends and what becomes of the connection; all others are only counted.

use super::bytes::trimmed;
use super::head::Version;
use super::target::is_host;
use super::{Framing, Limits, Refusal};

/// Content-Length has this many digits at most: more would not be a number of bytes that anybody can send, and would
/// overflow where it is read.
const LENGTH_DIGITS_MAX: usize = 18;

/// What must not be named by `Connection`, because it would be dropped on the way and change what the message says.
const NOT_TO_NAME: [&str; 4] = ["host", "content-length", "transfer-encoding", "content-type"];

/// What the fields of one head have said so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fields {
    /// Where the value of `Host` stands: start and end.
    pub(super) host: Option<(usize, usize)>,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    pub(super) upgrade: bool,
    pub(super) expect: bool,
}

impl Fields {
    /// Takes note of one field. `at` is where its value stands in the head.
    #[inline]
    pub(super) fn note(&mut self, name: &[u8], value: &[u8], at: usize) -> Result<(), Refusal> {
        match name.len() {
            4 if is(name, "host") => self.note_host(value, at),
            6 if is(name, "expect") => {
                self.expect = true;
                // Nothing else was ever defined; whoever expects it must be told. Source: RFC 9110 section 10.1.1.
                value
                    .eq_ignore_ascii_case(b"100-continue")
                    .then_some(())
                    .ok_or(Refusal::Expectation)
            }
            7 if is(name, "upgrade") => {
                self.upgrade = true;
                Ok(())
            }
            10 if is(name, "connection") => self.note_connection(value),
            14 if is(name, "content-length") => self.note_length(value),
            17 if is(name, "transfer-encoding") => self.note_coding(value),
            // CGI and WSGI make an underscore of each dash, and so one name of these two.
            14 if looks_like(name, "content-length") => Err(Refusal::LookAlike),
            17 if looks_like(name, "transfer-encoding") => Err(Refusal::LookAlike),
            _ => Ok(()),
        }
    }

    fn note_host(&mut self, value: &[u8], at: usize) -> Result<(), Refusal> {
        if self.host.is_some() {
            return Err(Refusal::HostRepeated);
        }
        if !is_host(value) {
            return Err(Refusal::HostMalformed);
        }
        self.host = Some((at, at + value.len()));
        Ok(())
    }

    /// One number in decimal digits. A list of equal numbers is legal, but not every reader knows; a leading zero makes
    /// it octal for some. Source: RFC 9112 section 6.3.
    fn note_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.length.is_some() {
            return Err(Refusal::LengthRepeated);
        }
        let leading_zero = value.len() > 1 && value.first() == Some(&b'0');
        if !(1..=LENGTH_DIGITS_MAX).contains(&value.len()) || leading_zero {
            return Err(Refusal::LengthMalformed);
        }
        let number = value.iter().try_fold(0u64, |sum, digit| {
            digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0'))
        });
        self.length = Some(number.ok_or(Refusal::LengthMalformed)?);
        Ok(())
    }

    fn note_coding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.chunked {
            return Err(Refusal::CodingRepeated);
        }
        self.chunked = value.eq_ignore_ascii_case(b"chunked");
        self.chunked.then_some(()).ok_or(Refusal::CodingUnknown)
    }

    fn note_connection(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if is(value, "keep-alive") {
            self.keep_alive = true;
            return Ok(());
        }
        for token in value.split(|b| *b == b',').map(trimmed) {
            if is(token, "close") {
                self.close = true;
            } else if is(token, "keep-alive") {
                self.keep_alive = true;
            } else if NOT_TO_NAME.iter().any(|name| is(token, name)) {
                return Err(Refusal::ConnectionNames);
            }
        }
        Ok(())
    }

    /// How the body ends, all fields considered.
    pub(super) fn framing(&self, version: Version, limits: &Limits) -> Result<Framing, Refusal> {
        let framing = match (self.chunked, self.length) {
            (true, _) if version == Version::Http10 => return Err(Refusal::CodingInOldVersion),
            (true, Some(_)) => return Err(Refusal::CodingAndLength),
            (true, None) => Framing::Chunked,
            (false, Some(length)) => {
                if limits.body_bytes.is_some_and(|most| length > most) {
                    return Err(Refusal::BodyTooLarge);
                }
                Framing::Length(length)
            }
            (false, None) => Framing::None,
        };
        // A body that one side reads as the first bytes of the other protocol.
        if self.upgrade && !matches!(framing, Framing::None | Framing::Length(0)) {
            return Err(Refusal::UpgradeWithBody);
        }
        Ok(framing)
    }

    /// Whether the client wants the connection to live on. Source: RFC 9112 section 9.3.
    pub(super) fn keeps_alive(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }
}

#[inline]
fn is(name: &[u8], lower: &str) -> bool {
    name.eq_ignore_ascii_case(lower.as_bytes())
}

#[cold]
fn differs_by_more_than_dashes(name: &[u8], lower: &str) -> bool {
    let plain = |byte: u8| {
        if byte == b'_' {
            b'-'
        } else {
            byte.to_ascii_lowercase()
        }
    };
    name.iter().map(|b| plain(*b)).ne(lower.bytes())
}

#[inline]
fn looks_like(name: &[u8], lower: &str) -> bool {
    name.contains(&b'_') && !differs_by_more_than_dashes(name, lower)
}
