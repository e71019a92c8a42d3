//! The keys of a listener's limits, and the sizes and rates that they are written in.
//!
//! Beside `raw` and by its rules: each key is declared here once, and nowhere else. The defaults are those of
//! [`Limits`], so that what is written down is what holds where nothing is written.

use foreshade_settings::{Count, Lasting, Scalar, Shown, Wrong, section};
use serde_json::{Value as Json, json};

use crate::framing;

/// A time that a client is granted.
type Patience = Lasting<10, 3_600_000>;

/// Units of sizes, the largest first.
const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

section! {
    /// How much clients may ask for, and how long they may take.
    Limits "a limits section":
    /// Largest head of a request, request line and headers. Beyond: 431.
    header_bytes "headerBytes": default Size<1024, 1_048_576> = Size(defaults().head_bytes as u64);
    /// Most headers of a request. Beyond: 431.
    headers "headers": default Count<1, 256> = Count(defaults().fields);
    /// Longest request target, path and query. Beyond: 414.
    target_bytes "targetBytes": default Size<64, 65_536> = Size(defaults().target_bytes as u64);
    /// Largest body of a request; any where left out, since bodies are streamed and cost the proxy no memory. Beyond: 413.
    body_bytes "bodyBytes": optional Size<0, 1_099_511_627_776>;
    /// From the first byte of a request's head to its last. Beyond: 408.
    header_timeout "headerTimeout": default Patience = Lasting(defaults().head_timeout);
    /// Least bytes per second of a client who is waited for, when he sends a body and when he takes an answer.
    min_rate "minRate": default ByteRate = ByteRate(defaults().rate);
    /// After so much waiting for a body, its bytes are held against minRate. Beyond: 408.
    body_timeout "bodyTimeout": default Patience = Lasting(defaults().body_timeout);
    /// After so much waiting for a client to take an answer, what he took is held against minRate. Beyond: reset.
    answer_timeout "answerTimeout": default Patience = Lasting(defaults().answer_timeout);
    /// Requests of one connection; the answer to the last one closes it.
    requests "requests": default Count<1, 1_000_000_000> = Count(defaults().requests);
    /// Connections at one time, in all workers together. Beyond: 503.
    connections "connections": default Count<1, 10_000_000> = Count(defaults().connections);
    /// Connections in their TLS handshake. Beyond: closed without a word.
    handshakes "handshakes": default Count<1, 10_000_000> = Count(defaults().handshakes);
    /// Connections from one client: an IPv4 address, or an IPv6 /64. Beyond: 429.
    connections_per_client "connectionsPerClient": default Count<1, 10_000_000> = Count(defaults().connections_per_client);
    /// Whether connectionsPerClient is not for loopback, private and link-local addresses: there it usually is a load
    /// balancer, with many users behind it.
    exempt_private "exemptPrivate": default bool = defaults().exempt_private;
}

fn defaults() -> framing::Limits {
    framing::Limits::default()
}

impl Limits {
    /// What the proxy works with.
    pub(super) fn checked(&self) -> framing::Limits {
        let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
        framing::Limits {
            head_bytes: bytes(self.header_bytes.0),
            fields: self.headers.0,
            target_bytes: bytes(self.target_bytes.0),
            body_bytes: self.body_bytes.as_ref().map(|size| size.0),
            head_timeout: self.header_timeout.0,
            body_timeout: self.body_timeout.0,
            answer_timeout: self.answer_timeout.0,
            rate: self.min_rate.0,
            requests: self.requests.0,
            connections: self.connections.0,
            handshakes: self.handshakes.0,
            connections_per_client: self.connections_per_client.0,
            exempt_private: self.exempt_private,
        }
    }
}

/// A number of bytes from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size<const MIN: u64, const MAX: u64>(pub(super) u64);

impl<const MIN: u64, const MAX: u64> Scalar for Size<MIN, MAX> {
    fn expected() -> String {
        format!("a size from {} to {}", written(MIN), written(MAX))
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let bytes = bytes(text)?;
        if (MIN..=MAX).contains(&bytes) {
            Ok(Self(bytes))
        } else {
            Err(Wrong::because("is out of range"))
        }
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB)$" })
    }
}

impl<const MIN: u64, const MAX: u64> Shown for Size<MIN, MAX> {
    fn shown(&self) -> Json {
        written(self.0).into()
    }
}

/// Bytes per second.
#[derive(Clone, Copy, Debug)]
pub(super) struct ByteRate(pub(super) u64);

impl Scalar for ByteRate {
    fn expected() -> String {
        "bytes per second, as 500B/s or 1KiB/s".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let Some(size) = text.strip_suffix("/s") else {
            return Err(Wrong::because("is no rate").hint(format!("write {text}/s")));
        };
        bytes(size).map(Self)
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB)/s$" })
    }
}

impl Shown for ByteRate {
    fn shown(&self) -> Json {
        format!("{}/s", written(self.0)).into()
    }
}

fn bytes(text: &str) -> Result<u64, Wrong> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| Wrong::default())?;
    let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        let hint = match unit {
            "" => format!("write {number}B or {number}KiB"),
            _ => "the units are B, KiB, MiB and GiB".to_owned(),
        };
        return Err(Wrong::because("has no unit that sizes have").hint(hint));
    };
    number
        .checked_mul(*factor)
        .ok_or_else(|| Wrong::because("is out of range"))
}

/// Bytes in the notation of the file.
fn written(bytes: u64) -> String {
    let unit = UNITS
        .iter()
        .find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor));
    let (name, factor) = unit.copied().unwrap_or(("B", 1));
    format!("{}{name}", bytes / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_carry_a_unit_and_are_written_as_they_are_read() {
        for (text, number) in [
            ("0B", 0),
            ("500B", 500),
            ("64KiB", 65_536),
            ("1MiB", 1 << 20),
            ("3GiB", 3 << 30),
        ] {
            assert_eq!(bytes(text).ok(), Some(number), "{text}");
            assert_eq!(written(number), text);
        }
        for wrong in [
            "",
            "64",
            "64kb",
            "64KB",
            "-1B",
            "1.5KiB",
            "B",
            "99999999999GiB",
            "1 KiB",
        ] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        assert_eq!(ByteRate::parse("1KiB/s").map(|r| r.0).ok(), Some(1024));
        assert!(ByteRate::parse("1KiB").is_err());
    }
}
