//! Classes of bytes, by table, and the search for the bytes that end a line or spoil it.

/// May stand in a token: a method, or the name of a field. Source: RFC 9110 section 5.6.2.
pub(super) const TOKEN: u8 = 1;
/// May stand in the path of a target.
pub(super) const PATH: u8 = 2;
/// May stand in the query of a target.
pub(super) const QUERY: u8 = 4;
/// May stand in the name of a host. RFC 3986 also has percent-encoding and sub-delimiters, which no name in DNS has and
/// which parsers disagree on.
pub(super) const HOST: u8 = 8;

/// What each byte may stand in.
#[expect(
    clippy::indexing_slicing,
    reason = "of a constant, which would not compile if a byte were out of range"
)]
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0u8;
    loop {
        let mut class = 0;
        let alphanumeric = byte.is_ascii_alphanumeric();
        if alphanumeric
            || matches!(
                byte,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.'
            )
            || matches!(byte, b'^' | b'_' | b'`' | b'|' | b'~')
        {
            class |= TOKEN;
        }
        // Browsers send `{|}` and a few more as they are, so what RFC 3986 allows would not do. What no browser sends
        // stays out, and so does the fragment. In a path a backslash is a slash to some, and a backtick is nothing that
        // the parser behind this one takes.
        if byte.is_ascii_graphic() && !matches!(byte, b'"' | b'#' | b'<' | b'>' | b'\\' | b'`') {
            class |= PATH | QUERY;
        }
        if matches!(byte, b'\\' | b'`') {
            class |= QUERY;
        }
        if alphanumeric || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            class |= HOST;
        }
        classes[byte as usize] = class;
        if byte == u8::MAX {
            break;
        }
        byte += 1;
    }
    classes
};

/// Whether `byte` may stand in what `class` names.
#[inline]
pub(super) fn is(byte: u8, class: u8) -> bool {
    classes(byte) & class != 0
}

/// What `byte` may stand in.
#[inline]
fn classes(byte: u8) -> u8 {
    CLASSES.get(usize::from(byte)).copied().unwrap_or_default()
}

/// How many bytes at the front of `bytes` belong to `class`. Four at a time: most names are a dozen bytes.
#[inline]
pub(super) fn run(bytes: &[u8], class: u8) -> usize {
    let (quads, _) = bytes.as_chunks::<4>();
    let mut length = 0;
    for [a, b, c, d] in quads {
        if classes(*a) & classes(*b) & classes(*c) & classes(*d) & class == 0 {
            break;
        }
        length += 4;
    }
    let rest = bytes.get(length..).unwrap_or_default();
    length + rest.iter().position(|b| !is(*b, class)).unwrap_or(rest.len())
}

/// Where, from `from` on, the first control byte stands: below 0x20, or 0x7f. Blocks of sixteen bytes first, written so
/// that the compiler makes vector instructions of it; then words.
#[inline]
pub(super) fn control(bytes: &[u8], from: usize) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let is_control = |byte: &u8| (*byte < 0x20) | (*byte == 0x7f);
    let mut at = from;
    let (blocks, _) = bytes.get(at..)?.as_chunks::<16>();
    for block in blocks {
        if block.iter().fold(false, |any, byte| any | is_control(byte)) {
            break;
        }
        at += 16;
    }
    let (words, rest) = bytes.get(at..)?.as_chunks::<8>();
    for word in words {
        let word = u64::from_le_bytes(*word);
        // Without its high bit no byte carries into the next one: 0x7f is the one to which 1 gives a high bit, and those
        // below 0x20 are the ones to which 0x60 gives none.
        let low = word & !HIGH;
        let hits = ((low + ONES) | !(low + ONES * 0x60)) & !word & HIGH;
        if hits != 0 {
            return Some(at + (hits.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    Some(at + rest.iter().position(is_control)?)
}

/// Without the spaces and tabs around it. Source: RFC 9110 section 5.6.3, `OWS`.
#[inline]
pub(super) fn trimmed(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_finds_each_control_byte_at_each_place_and_nothing_else() {
        for byte in 0..=u8::MAX {
            for length in 1..20 {
                for at in 0..length {
                    let mut text = vec![b'a'; length];
                    text[at] = byte;
                    let expected = (byte < 0x20 || byte == 0x7f).then_some(at);
                    assert_eq!(control(&text, 0), expected, "{byte:#x} at {at} of {length}");
                    assert_eq!(control(&text, at + 1), None);
                }
            }
        }
        assert_eq!(control(b"\x80\xff\x7e \x1f\x7f", 0), Some(4));
        assert_eq!(control(b"abc", 9), None);
    }

    #[test]
    fn tokens_are_what_the_standard_says() {
        for byte in 0..=u8::MAX {
            let delimiter = b"\"(),/:;<=>?@[\\]{} ".contains(&byte);
            assert_eq!(
                is(byte, TOKEN),
                byte.is_ascii_graphic() && !delimiter,
                "{byte:#x}"
            );
        }
    }
}
