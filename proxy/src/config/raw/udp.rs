//! The keys of datagrams: what a probe sends, and what it has to get.

use foreshade_settings::{Scalar, Wrong, section};
use serde_json::{Value as Json, json};

/// Longest datagram of a probe: what every network carries in one piece.
const BYTES_MAX: usize = 1200;

section! {
    /// A probe by a datagram.
    UdpProbe "a udp probe":
    /// What is sent: text, or bytes in hexadecimal after 0x.
    send "send": required Datagram;
    /// What the answer has to begin with, in the same notation; any answer passes where left out.
    expect "expect": optional Datagram;
}

/// The content of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct Datagram(pub(in crate::config) Vec<u8>);

impl Scalar for Datagram {
    fn expected() -> String {
        format!("a text, or bytes in hexadecimal as 0x0d0a; at most {BYTES_MAX} bytes")
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let bytes = match text.strip_prefix("0x") {
            Some(digits) => bytes(digits).ok_or_else(|| {
                Wrong::because("is no hexadecimal")
                    .hint("two digits for each byte, and nothing else".to_owned())
            })?,
            None => text.as_bytes().to_vec(),
        };
        match bytes.len() {
            0..=BYTES_MAX => Ok(Self(bytes)),
            _ => Err(Wrong::because("is too long")),
        }
    }

    fn schema() -> Json {
        json!({ "type": "string" })
    }
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_is_text_or_hexadecimal() {
        let parsed = |text: &str| Datagram::parse(text).ok().map(|datagram| datagram.0);
        assert_eq!(parsed("ping\n"), Some(b"ping\n".to_vec()));
        assert_eq!(parsed("0x00fF10"), Some(vec![0, 255, 16]));
        assert_eq!((parsed("0x"), parsed("")), (Some(Vec::new()), Some(Vec::new())));
        for wrong in ["0x0", "0x0g", "0x+1", "0x 1", &"a".repeat(BYTES_MAX + 1)] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }
}
