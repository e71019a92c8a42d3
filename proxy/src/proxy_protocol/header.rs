//! The header, byte by byte: which bytes belong to it, whether they are sound, and what they say.
//!
//! Strict, because what is read here decides who somebody is: addresses in their one usual form, nothing behind them, no
//! byte of another meaning. What does not name two ends of a TCP connection (`LOCAL`, `UNKNOWN`, `UNSPEC`, a UNIX socket)
//! is sound and names nobody: the connection's own ends count then. Further values (TLV) are passed over, within their
//! bounds; a checksum among them has to be right.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::Ends;
use super::crc32c::crc32c;
use crate::framing::Refusal;

/// Longest header that is read. Version 1 ends after 107 bytes; version 2 could have 64 KiB, and those with a whole
/// client certificate among their values have about two.
pub const HEADER_BYTES_MAX: usize = 4096;

/// Longest line of version 1, with its end.
const LINE_BYTES_MAX: usize = 107;

/// How version 1 begins.
const LINE_BEGIN: &[u8] = b"PROXY ";

/// How version 2 begins: bytes that no other protocol's first line has.
pub(super) const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes of version 2 before the addresses.
pub(super) const FIXED_BYTES: usize = 16;

/// The type of the value that is a checksum over the whole header, itself taken for zero.
const TYPE_CRC32C: u8 = 3;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The ends of the client's connection; `None` where they are those of the connection itself.
    pub ends: Option<Ends>,
}

/// A header on its way.
#[derive(Clone, Debug, Default)]
pub struct HeaderReader {
    bytes: Vec<u8>,
}

impl HeaderReader {
    /// Takes the next bytes: how many of them belong to the header, and the header once it is whole.
    ///
    /// # Errors
    /// What is wrong with it, as soon as that is certain.
    pub fn take(&mut self, piece: &[u8]) -> Result<(usize, Option<Header>), Refusal> {
        let before = self.bytes.len();
        // One by one until it is known where it ends: fifteen bytes at most, or a line.
        for byte in piece {
            self.bytes.push(*byte);
            if let Some(end) = self.end()? {
                let rest = end.saturating_sub(self.bytes.len());
                let at = self.bytes.len() - before;
                let more = piece.get(at..).unwrap_or_default();
                let more = more.get(..rest).unwrap_or(more);
                self.bytes.extend_from_slice(more);
                let whole = self.bytes.len() == end;
                let header = whole.then(|| parse(&self.bytes)).transpose()?;
                return Ok((self.bytes.len() - before, header));
            }
        }
        Ok((piece.len(), None))
    }

    /// How many bytes it has, once that is known.
    fn end(&self) -> Result<Option<usize>, Refusal> {
        let bytes = self.bytes.as_slice();
        if is_begun(bytes, SIGNATURE) {
            let Some([high, low]) = bytes.get(FIXED_BYTES - 2..FIXED_BYTES) else {
                return Ok(None);
            };
            let end = FIXED_BYTES + usize::from(u16::from_be_bytes([*high, *low]));
            return match end <= HEADER_BYTES_MAX {
                true => Ok(Some(end)),
                false => Err(Refusal::ProxyTooLong),
            };
        }
        if !is_begun(bytes, LINE_BEGIN) {
            return Err(Refusal::ProxyHeader);
        }
        match bytes.last() {
            Some(b'\n') => Ok(Some(bytes.len())),
            _ if bytes.len() >= LINE_BYTES_MAX => Err(Refusal::ProxyTooLong),
            _ => Ok(None),
        }
    }
}

/// Whether `bytes` are the beginning of what begins with `sign`.
fn is_begun(bytes: &[u8], sign: &[u8]) -> bool {
    bytes.starts_with(sign) || sign.starts_with(bytes)
}

fn parse(bytes: &[u8]) -> Result<Header, Refusal> {
    let ends = match bytes.strip_prefix(LINE_BEGIN) {
        Some(line) => line_ends(line),
        None => binary_ends(bytes),
    };
    ends.map(|ends| Header { ends })
}

/// What version 1 says: `TCP4 192.0.2.1 192.0.2.2 56324 443`, or `UNKNOWN` and anything.
fn line_ends(line: &[u8]) -> Result<Option<Ends>, Refusal> {
    let text = line.strip_suffix(b"\r\n").ok_or(Refusal::ProxyHeader)?;
    if text == b"UNKNOWN" || text.starts_with(b"UNKNOWN ") {
        return Ok(None);
    }
    let text = std::str::from_utf8(text).map_err(|_| Refusal::ProxyHeader)?;
    let ends = match text.split_once(' ') {
        Some(("TCP4", rest)) => written_ends::<Ipv4Addr>(rest),
        Some(("TCP6", rest)) => written_ends::<Ipv6Addr>(rest),
        _ => None,
    };
    ends.map(Some).ok_or(Refusal::ProxyHeader)
}

fn written_ends<A: FromStr + Into<IpAddr>>(text: &str) -> Option<Ends> {
    let address = |word: &str| word.parse::<A>().ok().map(Into::<IpAddr>::into);
    // One space between two words, and none around them: between two spaces stands nothing, which is no address.
    let mut words = text.split(' ');
    let (client, server) = (address(words.next()?)?, address(words.next()?)?);
    let (client_port, server_port) = (port(words.next()?)?, port(words.next()?)?);
    words.next().is_none().then_some(Ends {
        client: SocketAddr::new(client, client_port),
        server: SocketAddr::new(server, server_port),
    })
}

/// A port in decimal, without a sign or a zero before it.
fn port(text: &str) -> Option<u16> {
    let plain = text == "0" || !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

/// What version 2 says.
fn binary_ends(bytes: &[u8]) -> Result<Option<Ends>, Refusal> {
    let (fixed, rest) = bytes.split_at_checked(FIXED_BYTES).ok_or(Refusal::ProxyHeader)?;
    let (ends, values) = match fixed.get(SIGNATURE.len()..) {
        // LOCAL: the balancer itself, as to see whether anybody is there. What it says of ends means nothing.
        Some([0x20, ..]) => return Ok(None),
        Some([0x21, 0x00, ..]) => (None, Some(rest)),
        Some([0x21, 0x11, ..]) => addresses::<4, Ipv4Addr>(rest),
        Some([0x21, 0x21, ..]) => addresses::<16, Ipv6Addr>(rest),
        // A UNIX socket: two paths of 108 bytes.
        Some([0x21, 0x31, ..]) => (None, rest.get(216..)),
        _ => return Err(Refusal::ProxyHeader),
    };
    check_values(bytes, values.ok_or(Refusal::ProxyHeader)?)?;
    Ok(ends)
}

/// The ends, and what follows them; nothing where there are too few bytes.
fn addresses<const N: usize, A: From<[u8; N]> + Into<IpAddr>>(bytes: &[u8]) -> (Option<Ends>, Option<&[u8]>) {
    let read = || {
        let (client, rest) = bytes.split_first_chunk::<N>()?;
        let (server, rest) = rest.split_first_chunk::<N>()?;
        let (client_port, rest) = rest.split_first_chunk::<2>()?;
        let (server_port, rest) = rest.split_first_chunk::<2>()?;
        let end = |address: &[u8; N], port: &[u8; 2]| {
            SocketAddr::new(A::from(*address).into(), u16::from_be_bytes(*port))
        };
        let ends = Ends {
            client: end(client, client_port),
            server: end(server, server_port),
        };
        Some((ends, rest))
    };
    read().map_or((None, None), |(ends, rest)| (Some(ends), Some(rest)))
}

/// Each value lies within the header, and a checksum among them is right.
fn check_values(header: &[u8], mut values: &[u8]) -> Result<(), Refusal> {
    while let Some((kind, rest)) = values.split_first() {
        let (length, rest) = rest.split_first_chunk::<2>().ok_or(Refusal::ProxyHeader)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (value, rest) = rest.split_at_checked(length).ok_or(Refusal::ProxyHeader)?;
        if *kind == TYPE_CRC32C {
            let at = header.len() - rest.len() - length;
            check_sum(header, at, value)?;
        }
        values = rest;
    }
    Ok(())
}

/// The checksum `value`, which stands at `at`, is that of the header.
fn check_sum(header: &[u8], at: usize, value: &[u8]) -> Result<(), Refusal> {
    let said = <[u8; 4]>::try_from(value).map_err(|_| Refusal::ProxyHeader)?;
    let zeroed = header.iter().enumerate();
    let zeroed = zeroed.map(|(index, byte)| if (at..at + 4).contains(&index) { 0 } else { *byte });
    match crc32c(zeroed) == u32::from_be_bytes(said) {
        true => Ok(()),
        false => Err(Refusal::ProxyChecksum),
    }
}
