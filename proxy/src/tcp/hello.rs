//! The first message of a TLS client: which server he asks for, read without answering it.
//!
//! Of ours and not of the TLS library, because that refuses clients who could not agree with *it* on how to go on (of old
//! versions, without signature algorithms), which is not for this proxy to say, and allocates kilobytes for a handshake
//! that will not happen. The tests hold the two against each other. Strict where a reading decides about the way: lengths
//! fit exactly, there is one name at most, and a name has the letters of a host name. A message that is spread over several
//! records is put together, because otherwise whoever cuts it in the right place is not seen.
//!
//! Sources: RFC 8446 sections 4.1.2 and 5.1; RFC 6066 section 3.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::framing::Refusal;

/// Longest beginning of a connection that is read for the name. What browsers send has half a kilobyte, with keys that
/// withstand quantum computers not quite two.
pub const HELLO_BYTES_MAX: usize = 16 * 1024;

/// Most records that the message may be spread over.
const RECORDS_MAX: usize = 64;

/// Longest content of a record. Source: RFC 8446 section 5.1.
const RECORD_BYTES_MAX: usize = 1 << 14;

/// Longest host name, without a dot at its end. Source: RFC 1035 section 2.3.4.
const NAME_BYTES_MAX: usize = 253;

/// Bytes before the content of a record, and before that of a handshake message.
const RECORD_HEAD: usize = 5;
const MESSAGE_HEAD: usize = 4;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The server's name, in lower case, without a dot at its end; `None` where he names none, or an address.
    pub name: Option<String>,
}

/// Reads the message that `bytes` begin with. `None` while it is not whole.
///
/// # Errors
/// What is wrong with it, as soon as that is certain.
pub fn read(bytes: &[u8]) -> Result<Option<Hello>, Refusal> {
    let Some(message) = message(bytes)? else {
        return match bytes.len() >= HELLO_BYTES_MAX {
            true => Err(Refusal::HelloTooLong),
            false => Ok(None),
        };
    };
    let name = name(&message)?;
    Ok(Some(Hello { name }))
}

/// The content of the first handshake message, once it is whole.
fn message(bytes: &[u8]) -> Result<Option<Cow<'_, [u8]>>, Refusal> {
    let mut content = Cow::Borrowed(&[][..]);
    let mut rest = bytes;
    for _ in 0..RECORDS_MAX {
        let Some(record) = record(rest)? else {
            return Ok(None);
        };
        if content.is_empty() {
            content = Cow::Borrowed(record.content);
        } else {
            content.to_mut().extend_from_slice(record.content);
        }
        let whole = wanted(&content)?;
        if whole.is_some_and(|whole| content.len() >= whole) {
            return Ok(Some(content));
        }
        if record.content.len() < record.length {
            return Ok(None);
        }
        rest = record.after;
    }
    Err(Refusal::HelloMalformed)
}

/// The first record, as far as it is here.
struct Record<'a> {
    content: &'a [u8],
    /// How much of it there has to be.
    length: usize,
    /// What follows it.
    after: &'a [u8],
}

/// The first record. `None` while its head is not whole.
fn record(bytes: &[u8]) -> Result<Option<Record<'_>>, Refusal> {
    const HANDSHAKE: u8 = 22;
    if bytes.first().is_some_and(|kind| *kind != HANDSHAKE) || bytes.get(1).is_some_and(|major| *major != 3) {
        return Err(Refusal::HelloMalformed);
    }
    let Some(([_, _, _, high, low], rest)) = bytes.split_first_chunk::<RECORD_HEAD>() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if !(1..=RECORD_BYTES_MAX).contains(&length) {
        return Err(Refusal::HelloMalformed);
    }
    let here = length.min(rest.len());
    let (content, after) = rest.split_at_checked(here).unwrap_or((rest, &[]));
    Ok(Some(Record {
        content,
        length,
        after,
    }))
}

/// How many bytes the handshake message has that begins so, its head included; `None` while that is not there.
fn wanted(content: &[u8]) -> Result<Option<usize>, Refusal> {
    const CLIENT_HELLO: u8 = 1;
    if content.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(Refusal::HelloMalformed);
    }
    let Some([_, high, middle, low]) = content.first_chunk::<MESSAGE_HEAD>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
    match length <= HELLO_BYTES_MAX - RECORD_HEAD - MESSAGE_HEAD {
        true => Ok(Some(MESSAGE_HEAD + length)),
        false => Err(Refusal::HelloTooLong),
    }
}

/// The name in a whole message, which may have more behind it.
fn name(message: &[u8]) -> Result<Option<String>, Refusal> {
    const SERVER_NAME: u16 = 0;
    let mut reader = Reader(message);
    reader.bytes(1)?;
    let length = reader.length::<3>()?;
    let mut hello = Reader(reader.bytes(length)?);
    // Version and random.
    hello.bytes(2 + 32)?;
    let (session, ciphers, compressions) = (hello.vector::<1>()?, hello.vector::<2>()?, hello.vector::<1>()?);
    let sound = session.len() <= 32
        && !ciphers.is_empty()
        && ciphers.len().is_multiple_of(2)
        && !compressions.is_empty();
    if !sound {
        return Err(Refusal::HelloMalformed);
    }
    // Before TLS 1.3 there could be none at all.
    if hello.0.is_empty() {
        return Ok(None);
    }
    let mut extensions = Reader(hello.vector::<2>()?);
    if !hello.0.is_empty() {
        return Err(Refusal::HelloMalformed);
    }
    let mut found = None;
    while !extensions.0.is_empty() {
        let kind = extensions.number()?;
        let content = extensions.vector::<2>()?;
        if kind == SERVER_NAME && found.replace(named(content)?).is_some() {
            return Err(Refusal::HelloMalformed);
        }
    }
    Ok(found.flatten())
}

/// The one name in a list of names.
fn named(content: &[u8]) -> Result<Option<String>, Refusal> {
    const HOST_NAME: u8 = 0;
    let mut outer = Reader(content);
    let mut list = Reader(outer.vector::<2>()?);
    let kind = list.bytes(1)?;
    let name = list.vector::<2>()?;
    if kind != [HOST_NAME] || !list.0.is_empty() || !outer.0.is_empty() {
        return Err(Refusal::HelloMalformed);
    }
    let name = std::str::from_utf8(name).map_err(|_| Refusal::HelloMalformed)?;
    // No name by the rules, but some clients send it; it is as if they had sent none.
    if name.parse::<IpAddr>().is_ok() {
        return Ok(None);
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    match name.len() <= NAME_BYTES_MAX && name.split('.').all(is_label) {
        true => Ok(Some(name.to_ascii_lowercase())),
        false => Err(Refusal::HelloMalformed),
    }
}

/// What is left to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Refusal> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(Refusal::HelloMalformed)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// A number of `N` bytes.
    fn length<const N: usize>(&mut self) -> Result<usize, Refusal> {
        let bytes = self.bytes(N)?;
        Ok(bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    }

    fn number(&mut self) -> Result<u16, Refusal> {
        let bytes = self.bytes(2)?.try_into().map_err(|_| Refusal::HelloMalformed)?;
        Ok(u16::from_be_bytes(bytes))
    }

    /// Bytes behind their number, which has `N` bytes.
    fn vector<const N: usize>(&mut self) -> Result<&'a [u8], Refusal> {
        let length = self.length::<N>()?;
        self.bytes(length)
    }
}

/// The alert that tells a client why, as a whole record. Source: RFC 8446 section 6.2.
pub(crate) fn alert(refusal: Refusal) -> [u8; 7] {
    const ALERT: u8 = 21;
    const FATAL: u8 = 2;
    const DECODE_ERROR: u8 = 50;
    const UNRECOGNIZED_NAME: u8 = 112;
    let why = match refusal {
        Refusal::NameMissing | Refusal::NameUnknown => UNRECOGNIZED_NAME,
        _ => DECODE_ERROR,
    };
    [ALERT, 3, 1, 0, 2, FATAL, why]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(bytes: usize, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        [&length[4 - bytes..], content].concat()
    }

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &vector(2, content)].concat()
    }

    fn server_name(name: &str) -> Vec<u8> {
        let entry = [&[0][..], &vector(2, name.as_bytes())].concat();
        extension(0, &vector(2, &entry))
    }

    /// A message with these extensions, without a record around it.
    fn message_with(extensions: &[u8]) -> Vec<u8> {
        let mut hello = vec![3, 3];
        hello.extend_from_slice(&[7; 32]);
        hello.extend(vector(1, &[9; 32]));
        hello.extend(vector(2, &[0x13, 0x01]));
        hello.extend(vector(1, &[0]));
        hello.extend(vector(2, extensions));
        [&[1][..], &vector(3, &hello)].concat()
    }

    fn record_of(content: &[u8]) -> Vec<u8> {
        [&[22, 3, 1][..], &vector(2, content)].concat()
    }

    fn asks(name: &str) -> Vec<u8> {
        record_of(&message_with(&server_name(name)))
    }

    fn found(bytes: &[u8]) -> Result<Option<String>, Refusal> {
        read(bytes).map(|hello| hello.expect("it is whole").name)
    }

    #[test]
    fn the_name_is_found_in_lower_case_among_other_extensions() {
        let more = [
            extension(16, &[0, 3, 2, b'h', b'2']),
            server_name("Shop.Example."),
            extension(43, &[2, 3, 4]),
        ]
        .concat();
        let bytes = record_of(&message_with(&more));
        assert_eq!(found(&bytes), Ok(Some("shop.example".to_owned())));
    }

    #[test]
    fn who_names_nobody_or_an_address_has_no_name() {
        assert_eq!(found(&record_of(&message_with(&[]))), Ok(None));
        for address in ["192.0.2.1", "2001:db8::1"] {
            assert_eq!(found(&asks(address)), Ok(None));
        }
        // Before extensions were invented.
        let mut old = message_with(&[]);
        old.truncate(old.len() - 2);
        old[3] -= 2;
        assert_eq!(found(&record_of(&old)), Ok(None));
    }

    #[test]
    fn a_message_in_several_records_is_put_together_wherever_it_is_cut() {
        let message = message_with(&server_name("shop.example"));
        for cut in 1..message.len() {
            let bytes = [record_of(&message[..cut]), record_of(&message[cut..])].concat();
            assert_eq!(found(&bytes), Ok(Some("shop.example".to_owned())), "{cut}");
        }
        let single: Vec<u8> = message.iter().flat_map(|byte| record_of(&[*byte])).collect();
        assert_eq!(read(&single), Err(Refusal::HelloMalformed), "spread too thin");
    }

    #[test]
    fn a_part_is_waited_for_and_what_follows_is_left_alone() {
        let bytes = asks("shop.example");
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end]), Ok(None), "{end}");
        }
        let more = [&bytes[..], b"\x14\x03\x03\0\x01\x01 and so on"].concat();
        assert_eq!(found(&more), Ok(Some("shop.example".to_owned())));
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let twice = [server_name("a.example"), server_name("b.example")].concat();
        let entry = [&[0][..], &vector(2, b"a.example")].concat();
        let two_names = extension(0, &vector(2, &[&entry[..], &entry].concat()));
        let other_kind = extension(0, &vector(2, &[&[1][..], &vector(2, b"a.example")].concat()));
        let behind = extension(0, &[&vector(2, &entry)[..], b"x"].concat());
        for extensions in [
            twice,
            two_names,
            other_kind,
            behind,
            extension(0, &[]),
            vec![0, 0, 0],
        ] {
            let bytes = record_of(&message_with(&extensions));
            assert_eq!(read(&bytes), Err(Refusal::HelloMalformed), "{extensions:?}");
        }
        for name in [
            "",
            ".",
            "a..b",
            "a b",
            "a/b",
            "*.a",
            "a\0b",
            "\u{e9}.example",
            &"a".repeat(64),
        ] {
            assert_eq!(read(&asks(name)), Err(Refusal::HelloMalformed), "{name:?}");
        }
    }

    #[test]
    fn what_is_no_hello_is_refused_as_soon_as_it_shows() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\x16\x02",
            b"\x16\x03\x01\0\0",
            b"\x16\x03\x01\xff\xff",
            b"\x16\x03\x01\0\x05\x02",
            b"\x15\x03\x01\0\x02\x01\0",
            b"\x80\x2e\x01\x03\x01",
        ] {
            assert_eq!(read(bytes), Err(Refusal::HelloMalformed), "{bytes:?}");
        }
    }

    #[test]
    fn a_hello_that_does_not_end_is_too_long() {
        assert_eq!(
            read(b"\x16\x03\x01\x40\0\x01\0\xff\xff"),
            Err(Refusal::HelloTooLong)
        );
        let padding = extension(21, &vec![0; 15_000]);
        let long = record_of(&message_with(&padding));
        assert!(read(&long).unwrap().is_some());
    }

    #[test]
    fn the_alert_says_what_was_wrong() {
        assert_eq!(alert(Refusal::NameUnknown), *b"\x15\x03\x01\0\x02\x02\x70");
        assert_eq!(alert(Refusal::HelloMalformed), *b"\x15\x03\x01\0\x02\x02\x32");
    }
}
