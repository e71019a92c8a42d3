//! What must hold of what is read before a connection is carried: the PROXY header, and the beginning of TLS.

use foreshade_proxy::framing::Refusal;
use foreshade_proxy::proxy_protocol::{Ends, HEADER_BYTES_MAX, Header, HeaderReader, Version, write};
use foreshade_proxy::tcp::hello;

/// A PROXY header. The first byte says how large the pieces are in which the rest comes.
pub(crate) fn proxy_protocol(data: &[u8]) {
    let Some((size, bytes)) = data.split_first() else {
        return;
    };
    let whole = header_of(bytes, bytes.len().max(1));
    let pieced = header_of(bytes, usize::from(*size).max(1));
    assert_eq!(whole, pieced, "another verdict in pieces of {size}");
    if let Ok((taken, header)) = whole {
        assert!(taken <= bytes.len().min(HEADER_BYTES_MAX));
        if let Some(Header { ends: Some(ends) }) = header {
            is_told_alike(ends);
        }
    }
}

/// How many bytes belong to the header, and what it says.
fn header_of(bytes: &[u8], size: usize) -> Result<(usize, Option<Header>), Refusal> {
    let mut reader = HeaderReader::default();
    let mut taken = 0;
    for piece in bytes.chunks(size) {
        let (mine, header) = reader.take(piece)?;
        taken += mine;
        if header.is_some() {
            return Ok((taken, header));
        }
        assert_eq!(mine, piece.len(), "some bytes are left, and no header is there");
    }
    Ok((taken, None))
}

/// Whoever is told of the ends in either version reads the same.
fn is_told_alike(ends: Ends) {
    let plain = |ends: Ends| [ends.client, ends.server].map(|end| (end.ip().to_canonical(), end.port()));
    for version in [Version::V1, Version::V2] {
        let mut told = Vec::new();
        write(version, Some(ends), &mut told);
        let (taken, header) = header_of(&told, told.len()).expect("what we write is sound");
        assert_eq!(taken, told.len());
        let again = header.and_then(|header| header.ends).expect("it names both ends");
        assert_eq!(plain(again), plain(ends));
    }
}

/// The beginning of TLS. The first byte says how large the pieces are in which the rest comes.
pub(crate) fn client_hello(data: &[u8]) {
    let Some((size, bytes)) = data.split_first() else {
        return;
    };
    let whole = hello::read(bytes);
    let mut pieced = Ok(None);
    for end in (1..bytes.len())
        .step_by(usize::from(*size).max(1))
        .chain([bytes.len()])
    {
        pieced = hello::read(&bytes[..end]);
        if !matches!(pieced, Ok(None)) {
            break;
        }
    }
    assert_eq!(whole, pieced, "another verdict in pieces of {size}");
    if let Some(name) = by_rustls(bytes) {
        // rustls takes records of any version, and skips what it does not know behind the first name. OpenSSL takes
        // neither, and no more do we.
        if whole.is_err() && !is_taken_by_openssl(bytes) {
            return;
        }
        let ours = whole
            .expect("what a server would take is sound")
            .expect("and whole")
            .name;
        assert_eq!(
            ours.as_deref(),
            name.as_deref().map(|name| name.strip_suffix('.').unwrap_or(name))
        );
    }
}

/// Whether its records are of a version 3, and there is at most one name, in a ClientHello that is whole.
fn is_taken_by_openssl(bytes: &[u8]) -> bool {
    let (mut records, mut message) = (bytes, Vec::new());
    while let Some(([_kind, major, _minor], rest)) = records.split_first_chunk::<3>() {
        if *major != 3 {
            return false;
        }
        records = rest;
        let Some(content) = vector::<2>(&mut records) else {
            break;
        };
        message.extend_from_slice(content);
    }
    names(&message).is_none_or(is_one_name)
}

/// The list of names in a ClientHello.
fn names(message: &[u8]) -> Option<&[u8]> {
    // Kind and length of the message, version and random.
    let mut hello = message.get(4 + 2 + 32..)?;
    let (_session, _ciphers) = (vector::<1>(&mut hello)?, vector::<2>(&mut hello)?);
    let _compressions = vector::<1>(&mut hello)?;
    let mut extensions = vector::<2>(&mut hello)?;
    while let Some((kind, rest)) = extensions.split_first_chunk::<2>() {
        extensions = rest;
        let content = vector::<2>(&mut extensions)?;
        if *kind == [0, 0] {
            return Some(content);
        }
    }
    None
}

/// Takes bytes that are behind their number, which has `N` bytes.
fn vector<'a, const N: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (number, rest) = bytes.split_first_chunk::<N>()?;
    let length = number.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let (content, rest) = rest.split_at_checked(length)?;
    *bytes = rest;
    Some(content)
}

fn is_one_name(names: &[u8]) -> bool {
    let mut outer = names;
    let list = vector::<2>(&mut outer).filter(|_| outer.is_empty());
    list.and_then(|list| list.split_first())
        .is_some_and(|(kind, mut name)| *kind == 0 && vector::<2>(&mut name).is_some() && name.is_empty())
}

/// The name that a server of rustls would see; `None` where it would not take this.
fn by_rustls(bytes: &[u8]) -> Option<Option<String>> {
    let mut acceptor = rustls::server::Acceptor::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        if acceptor.read_tls(&mut rest).ok()? == 0 {
            return None;
        }
        if let Some(accepted) = acceptor.accept().ok()? {
            return Some(accepted.client_hello().server_name().map(str::to_owned));
        }
    }
    None
}
