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
        // stays out, and so does the fragment; a backslash is a slash to some.
        if byte.is_ascii_graphic() && !matches!(byte, b'"' | b'#' | b'<' | b'>' | b'\\') {
            class |= PATH | QUERY;
        }
        if byte == b'\\' {
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
    CLASSES.get(usize::from(byte)).is_some_and(|c| c & class != 0)
}

/// How many bytes at the front of `bytes` belong to `class`.
#[inline]
pub(super) fn run(bytes: &[u8], class: u8) -> usize {
    bytes.iter().position(|b| !is(*b, class)).unwrap_or(bytes.len())
}

/// Where, from `from` on, the first control byte stands: below 0x20, or 0x7f. Eight bytes at a time. Source of the
/// arithmetic: Anderson, "Bit Twiddling Hacks", `hasless` and `haszero`; their lowest hit is exact.
#[inline]
pub(super) fn control(bytes: &[u8], from: usize) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let (words, rest) = bytes.get(from..)?.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let low = word.wrapping_sub(ONES * 0x20) & !word;
        let delete = word ^ (ONES * 0x7f);
        let hits = (low | (delete.wrapping_sub(ONES) & !delete)) & HIGH;
        if hits != 0 {
            return Some(from + index * 8 + (hits.trailing_zeros() / 8) as usize);
        }
    }
    let at = rest.iter().position(|b| *b < 0x20 || *b == 0x7f)?;
    Some(from + words.len() * 8 + at)
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
