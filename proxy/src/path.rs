//! The path of a request in its one normal form, before anything is matched: what is matched is what is forwarded.
//!
//! `/a/../admin`, `/%61dmin` and `//admin` are three spellings of `/admin`. A proxy that compares what was sent while its
//! endpoint compares what was meant lets the first two past every rule for `/admin`; most path bypasses are of that kind.
//! So, as in RFC 3986 section 6.2.2, escapes of unreserved characters are decoded, the others get capital digits, dot
//! segments are taken out (never above the root), and, as most endpoints do, doubled slashes become one.
//!
//! What has two readings and no normal form is refused: an escape without two digits, NUL, a backslash (some endpoints take
//! it for a slash, RFC 3986 allows it nowhere), `..;` (some take it for `..`), and, unless the listener says otherwise, an
//! escaped slash. Escapes are decoded once: `%252e` stays what it is. The query is left alone; it is not a hierarchy.
//!
//! Nearly every path is normal already. One pass over a table of 256 bytes tells, and then nothing is copied.

use crate::framing::Refusal;

/// What a listener does about spellings that endpoints read differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathPolicy {
    /// About `%2F` and `%5C`.
    pub encoded_slashes: EncodedSlashes,
    /// About slashes that follow each other.
    pub duplicate_slashes: DuplicateSlashes,
}

impl Default for PathPolicy {
    /// The safe one: what is ambiguous is refused, what has a normal form is brought to it.
    fn default() -> Self {
        Self {
            encoded_slashes: EncodedSlashes::Refuse,
            duplicate_slashes: DuplicateSlashes::Merge,
        }
    }
}

/// What becomes of an escaped slash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodedSlashes {
    /// 400. One endpoint reads `/a%2Fb` as two segments, the next as one.
    Refuse,
    /// It stays as it is, a character inside of its segment. Dot segments between escaped slashes are still refused.
    Keep,
    /// `%2F` becomes a slash; `%5C` is refused.
    Decode,
}

/// What becomes of slashes that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DuplicateSlashes {
    /// They become one.
    Merge,
    /// They stay, with empty segments between them.
    Keep,
}

/// The normal form of a path without its query; `None` where it is normal already.
///
/// # Errors
/// Where it has no single reading.
pub fn normal(path: &[u8], policy: PathPolicy) -> Result<Option<String>, Refusal> {
    if is_normal(path) {
        return Ok(None);
    }
    if path.first() != Some(&b'/') {
        return Err(Refusal::Target);
    }
    let decoded = decode(path, policy.encoded_slashes)?;
    let normal = without_dots(&decoded, policy)?;
    Ok((normal.as_bytes() != path).then_some(normal))
}

/// A query that is not ASCII, with each such byte escaped.
pub fn escaped(query: &[u8]) -> String {
    let mut out = String::with_capacity(query.len() + 8);
    query.iter().for_each(|byte| {
        if byte.is_ascii_graphic() {
            out.push(char::from(*byte));
        } else {
            push_escape(&mut out, *byte);
        }
    });
    out
}

/// What the first pass does at a byte.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Slash,
    Dot,
    /// Something has to be looked at.
    Special,
}

const KINDS: [Kind; 256] = {
    let mut kinds = [Kind::Plain; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "it counts to 255")]
        #[expect(clippy::indexing_slicing, reason = "it counts to 255")]
        {
            kinds[byte] = match byte as u8 {
                b'/' => Kind::Slash,
                b'.' => Kind::Dot,
                b'%' | b'\\' => Kind::Special,
                // Neither blanks nor controls nor anything above ASCII has a place in a path.
                0..=b' ' | 0x7f..=0xff => Kind::Special,
                _ => Kind::Plain,
            };
        }
        byte += 1;
    }
    kinds
};

/// Whether nothing has to be done, nor looked at more closely. Errs on the careful side: `/.well-known` is looked at.
fn is_normal(path: &[u8]) -> bool {
    let Some((b'/', rest)) = path.split_first() else {
        return false;
    };
    let mut after_slash = true;
    for byte in rest {
        match KINDS.get(usize::from(*byte)).copied().unwrap_or(Kind::Special) {
            Kind::Plain => after_slash = false,
            Kind::Slash | Kind::Dot if after_slash => return false,
            Kind::Slash => after_slash = true,
            Kind::Dot => {}
            Kind::Special => return false,
        }
    }
    true
}

/// Escapes decoded where that does not change the meaning, capital digits where it does, and everything escaped that
/// has to be.
fn decode(path: &[u8], slashes: EncodedSlashes) -> Result<String, Refusal> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path.iter().copied();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digit = |b: Option<u8>| char::from(b?).to_digit(16).and_then(|d| u8::try_from(d).ok());
                let (high, low) = (digit(rest.next()), digit(rest.next()));
                let (Some(high), Some(low)) = (high, low) else {
                    return Err(Refusal::PathEscape);
                };
                match high << 4 | low {
                    0 => return Err(Refusal::PathNul),
                    unreserved if is_unreserved(unreserved) => out.push(char::from(unreserved)),
                    slash @ (b'/' | b'\\') => match slashes {
                        EncodedSlashes::Keep => push_escape(&mut out, slash),
                        EncodedSlashes::Decode if slash == b'/' => out.push('/'),
                        EncodedSlashes::Decode | EncodedSlashes::Refuse => {
                            return Err(Refusal::PathEncodedSlash);
                        }
                    },
                    other => push_escape(&mut out, other),
                }
            }
            0 => return Err(Refusal::PathNul),
            b'\\' => return Err(Refusal::Target),
            graphic if graphic.is_ascii_graphic() => out.push(char::from(graphic)),
            other => push_escape(&mut out, other),
        }
    }
    Ok(out)
}

/// RFC 3986 section 5.2.4, on whole segments.
fn without_dots(path: &str, policy: PathPolicy) -> Result<String, Refusal> {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match dots(segment)? {
            Dots::None if segment.is_empty() && !last => {
                if policy.duplicate_slashes == DuplicateSlashes::Keep {
                    kept.push(segment);
                }
            }
            Dots::None => kept.push(segment),
            Dots::Here => {}
            Dots::Up => drop(kept.pop()),
        }
        if last && segment_is_dots(segment) {
            // What a dot segment ends in is a folder.
            kept.push("");
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in kept {
        out.push('/');
        out.push_str(segment);
    }
    if out.is_empty() {
        out.push('/');
    }
    Ok(out)
}

/// What a segment says of the way.
enum Dots {
    None,
    Here,
    Up,
}

fn segment_is_dots(segment: &str) -> bool {
    matches!(segment, "." | "..")
}

fn dots(segment: &str) -> Result<Dots, Refusal> {
    match segment {
        "." => return Ok(Dots::Here),
        ".." => return Ok(Dots::Up),
        _ => {}
    }
    if !segment.starts_with('.') && !segment.contains('%') {
        return Ok(Dots::None);
    }
    // Kept escapes of slashes: an endpoint that decodes them must not find a way up.
    for piece in segment.split("%2F").flat_map(|piece| piece.split("%5C")) {
        let name = piece.split(';').next().unwrap_or_default();
        if segment_is_dots(name) {
            return Err(if piece.len() == segment.len() {
                Refusal::PathDots
            } else {
                Refusal::PathEncodedSlash
            });
        }
    }
    Ok(Dots::None)
}

/// RFC 3986 section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn push_escape(out: &mut String, byte: u8) {
    let digit = |four: u8| {
        char::from_digit(u32::from(four), 16)
            .unwrap_or_default()
            .to_ascii_uppercase()
    };
    out.push('%');
    out.push(digit(byte >> 4));
    out.push(digit(byte & 15));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEEP: PathPolicy = PathPolicy {
        encoded_slashes: EncodedSlashes::Keep,
        duplicate_slashes: DuplicateSlashes::Keep,
    };

    fn of(path: &str, policy: PathPolicy) -> Result<String, Refusal> {
        Ok(normal(path.as_bytes(), policy)?.unwrap_or_else(|| path.to_owned()))
    }

    #[test]
    fn three_spellings_have_one_form() {
        for (written, meant) in [
            ("/", "/"),
            ("/a/b.c/d..e", "/a/b.c/d..e"),
            ("/a/", "/a/"),
            ("/%61dmin", "/admin"),
            ("/%7euser/%2d", "/~user/-"),
            ("/a/../admin", "/admin"),
            ("/a/%2e%2E/admin", "/admin"),
            ("/a/.%2e/admin", "/admin"),
            ("/../../etc", "/etc"),
            ("/a/./b/.", "/a/b/"),
            ("/a/b/..", "/a/"),
            ("/..", "/"),
            ("//admin", "/admin"),
            ("/a///b//", "/a/b/"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/café", "/caf%C3%A9"),
            ("/a%20b", "/a%20b"),
            ("/%252e%252e/a", "/%252e%252e/a"),
            ("/.well-known/x", "/.well-known/x"),
            ("/...", "/..."),
            ("/a;b=c/..d", "/a;b=c/..d"),
        ] {
            assert_eq!(
                of(written, PathPolicy::default()).as_deref(),
                Ok(meant),
                "{written}"
            );
        }
    }

    #[test]
    fn what_has_no_single_reading_is_refused() {
        for (path, why) in [
            ("/%", Refusal::PathEscape),
            ("/%4", Refusal::PathEscape),
            ("/%zz", Refusal::PathEscape),
            ("/%+1", Refusal::PathEscape),
            ("/a%00b", Refusal::PathNul),
            ("/a\\..\\b", Refusal::Target),
            ("/a%2fb", Refusal::PathEncodedSlash),
            ("/a%5Cb", Refusal::PathEncodedSlash),
            ("/a/..;/b", Refusal::PathDots),
            ("/a/%2e.;x=1/b", Refusal::PathDots),
            ("a", Refusal::Target),
            ("", Refusal::Target),
        ] {
            assert_eq!(of(path, PathPolicy::default()), Err(why), "{path}");
        }
    }

    #[test]
    fn kept_slashes_stay_and_still_lead_nowhere() {
        assert_eq!(of("/@scope%2fname//x", KEEP).as_deref(), Ok("/@scope%2Fname//x"));
        assert_eq!(of("/a//../b", KEEP).as_deref(), Ok("/a/b"));
        for path in ["/a%2f..%2fb", "/..%5cb", "/a%2F%2e%2e", "/a%2f..;%2fb"] {
            assert_eq!(of(path, KEEP), Err(Refusal::PathEncodedSlash), "{path}");
        }
    }

    #[test]
    fn decoded_slashes_are_slashes_before_dots_are_looked_at() {
        let decode = PathPolicy {
            encoded_slashes: EncodedSlashes::Decode,
            ..PathPolicy::default()
        };
        assert_eq!(of("/a%2f..%2fadmin", decode).as_deref(), Ok("/admin"));
        assert_eq!(of("/a%5cb", decode), Err(Refusal::PathEncodedSlash));
    }

    #[test]
    fn what_is_normal_is_not_copied() {
        for path in ["/", "/a", "/a/b.html", "/caf%C3%A9", "/.well-known/a"] {
            assert_eq!(normal(path.as_bytes(), PathPolicy::default()), Ok(None), "{path}");
        }
    }

    fn policies() -> impl Strategy<Value = PathPolicy> {
        let slashes = vec![
            EncodedSlashes::Refuse,
            EncodedSlashes::Keep,
            EncodedSlashes::Decode,
        ];
        let doubles = vec![DuplicateSlashes::Merge, DuplicateSlashes::Keep];
        (prop::sample::select(slashes), prop::sample::select(doubles)).prop_map(
            |(encoded_slashes, duplicate_slashes)| PathPolicy {
                encoded_slashes,
                duplicate_slashes,
            },
        )
    }

    proptest! {
        #[test]
        fn normal_is_normal_and_never_above_the_root(
            pieces in prop::collection::vec(
                prop::sample::select(&[
                    "/", "/", ".", "..", "%2e", "%2E", "%2f", "%2F", "%5c", "%25", "%", "a", "B", ";", "é", "%00", "%61", "%3b",
                ][..]),
                0..16,
            ),
            policy in policies(),
        ) {
            let path = format!("/{}", pieces.concat());
            if let Ok(once) = of(&path, policy) {
                prop_assert!(once.starts_with('/') && once.is_ascii(), "{once}");
                prop_assert!(!once.split('/').any(|s| matches!(s, "." | "..")), "{once}");
                prop_assert_eq!(of(&once, policy), Ok(once.clone()));
                if policy.duplicate_slashes == DuplicateSlashes::Merge {
                    prop_assert!(!once.contains("//"), "{once}");
                }
                // An endpoint that decodes once more finds no way up either, unless it decodes what was escaped twice.
                let decoded = once.replace("%2F", "/").replace("%5C", "/");
                prop_assert!(!decoded.split('/').any(|s| matches!(s, "." | "..")), "{once}");
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), policy in policies()) {
            let mut path = vec![b'/'];
            path.extend(bytes);
            if let Ok(Some(once)) = normal(&path, policy) {
                prop_assert_eq!(normal(once.as_bytes(), policy), Ok(None));
            }
        }
    }
}
