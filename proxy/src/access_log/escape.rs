//! Bytes of strangers inside of a line: nothing that they send can end a field or a line, or reach a terminal.
//!
//! Both ways write printable ASCII only, and both can be undone: JSON by `\u00XX` for the *byte* XX, so that a parsed
//! string has one character below 256 per byte that came; the combined format by `\xXX`, as Apache and nginx do. That
//! HTTP's bytes are no UTF-8 is thereby no error, and no character exists that a terminal, a browser or a log shipper
//! could take for something else (control sequences, line separators, changes of direction). The price: text outside of
//! ASCII is not readable as it stands.

use std::io::Write as _;

/// A byte that stands for itself, in both formats.
fn is_plain(byte: u8) -> bool {
    (0x20..0x7f).contains(&byte) & (byte != b'"') & (byte != b'\\')
}

/// Without a branch per byte: nearly always all of them are plain, and then this is all there is to do.
fn all_plain(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |plain, byte| plain & is_plain(*byte))
}

/// Appends the inside of a JSON string. Source: RFC 8259, section 7.
pub(super) fn json(line: &mut Vec<u8>, bytes: &[u8]) {
    escaped(line, bytes, |line, byte| match byte {
        b'"' | b'\\' => line.extend_from_slice(&[b'\\', byte]),
        _ => hex(line, b"\\u00", byte),
    });
}

/// Appends the inside of a field of the combined format; a dash where there is nothing.
pub(super) fn combined(line: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.is_empty() {
        line.push(b'-');
    }
    escaped(line, bytes, |line, byte| hex(line, b"\\x", byte));
}

fn escaped(line: &mut Vec<u8>, bytes: &[u8], escape: impl Fn(&mut Vec<u8>, u8)) {
    if all_plain(bytes) {
        line.extend_from_slice(bytes);
        return;
    }
    for byte in bytes {
        match is_plain(*byte) {
            true => line.push(*byte),
            false => escape(line, *byte),
        }
    }
}

fn hex(line: &mut Vec<u8>, before: &[u8], byte: u8) {
    // Writing to a vector cannot fail.
    let _ = line.write_all(before).and_then(|()| write!(line, "{byte:02X}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(write: fn(&mut Vec<u8>, &[u8]), bytes: &[u8]) -> String {
        let mut line = Vec::new();
        write(&mut line, bytes);
        String::from_utf8(line).unwrap()
    }

    /// What Apache's and nginx's readers do.
    fn unescaped(mut text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some((first, rest)) = text.split_at_checked(1) {
            if first == "\\" {
                bytes.push(u8::from_str_radix(&rest[1..3], 16).unwrap());
                text = &rest[3..];
            } else {
                bytes.push(first.as_bytes()[0]);
                text = rest;
            }
        }
        bytes
    }

    #[test]
    fn a_forged_line_stays_inside_of_its_field() {
        let forged = b"/x\" 200 1\r\n{\"status\":200}\n\x1b[2J\xe2\x80\xa8\\";
        let json = written(json, forged);
        assert_eq!(
            json,
            "/x\\\" 200 1\\u000D\\u000A{\\\"status\\\":200}\\u000A\\u001B[2J\\u00E2\\u0080\\u00A8\\\\"
        );
        let combined = written(combined, forged);
        assert_eq!(
            combined,
            "/x\\x22 200 1\\x0D\\x0A{\\x22status\\x22:200}\\x0A\\x1B[2J\\xE2\\x80\\xA8\\x5C"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_come_back_and_nothing_but_printable_ascii_is_written(
            bytes in prop::collection::vec(any::<u8>(), 0..300)
        ) {
            let inside = written(json, &bytes);
            prop_assert!(inside.bytes().all(|b| (0x20..0x7f).contains(&b)));
            let read: String = serde_json::from_str(&format!("\"{inside}\"")).unwrap();
            let back: Vec<u32> = read.chars().map(u32::from).collect();
            prop_assert_eq!(&back, &bytes.iter().map(|b| u32::from(*b)).collect::<Vec<_>>());

            let inside = written(combined, &bytes);
            prop_assert!(inside.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'"'));
            prop_assert_eq!(unescaped(&inside), if bytes.is_empty() { b"-".to_vec() } else { bytes });
        }
    }
}
