//! The chunked coding, written. Source: RFC 9112 section 7.1.

use std::io::Write as _;

/// The end of a body.
pub(super) const LAST: &[u8] = b"0\r\n\r\n";

/// Begins a chunk of so many bytes; an empty one would end the body.
pub(super) fn open(bytes: usize, out: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    let _ = write!(out, "{bytes:x}\r\n");
}

/// Ends a chunk.
pub(super) fn close(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}
