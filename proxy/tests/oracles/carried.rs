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
