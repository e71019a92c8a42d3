//! `traceparent` and `tracestate`: read as strictly as their standard says, written as it says.
//!
//! Source: W3C Trace Context, <https://www.w3.org/TR/trace-context/>, sections 3.2 and 3.3. A header of a later version
//! is read as far as this version goes, and answered in this version. Flags that have no meaning here are cleared.

use super::{TRACEPARENT, TRACESTATE};
use crate::fields::Fields;

/// Length of `traceparent` in version 00: `00-` 32 `-` 16 `-` 2.
pub const TRACEPARENT_BYTES: usize = 55;

/// Members of a `tracestate`: more are not valid.
const MEMBERS_MAX: usize = 32;

/// Characters of a member's key, and of its value.
const MEMBER_PART_BYTES_MAX: usize = 256;

/// The caller may have recorded this trace.
const SAMPLED: u8 = 1;

/// The trace's id is random (level 2).
const RANDOM: u8 = 2;

/// Where a request stands in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: [u8; 32],
    span_id: [u8; 16],
    flags: u8,
}

impl TraceContext {
    /// The context that a request brings, if it brings one and it is valid.
    pub fn of<'a>(headers: impl Into<Fields<'a>>) -> Option<Self> {
        Self::parse(headers.into().only(&TRACEPARENT)?)
    }

    /// Reads `traceparent`.
    fn parse(text: &[u8]) -> Option<Self> {
        let (version, rest) = text.split_first_chunk::<2>()?;
        let (trace_id, rest) = rest.strip_prefix(b"-")?.split_first_chunk::<32>()?;
        let (span_id, rest) = rest.strip_prefix(b"-")?.split_first_chunk::<16>()?;
        let (flags, rest) = rest.strip_prefix(b"-")?.split_first_chunk::<2>()?;
        let future = rest.first() == Some(&b'-');
        let ends = rest.is_empty() || (version != b"00" && future);
        let digits = [&version[..], trace_id, span_id, flags].into_iter().flatten();
        let sound = ends
            && digits.copied().all(is_digit)
            && version != b"ff"
            && trace_id.iter().any(|b| *b != b'0')
            && span_id.iter().any(|b| *b != b'0');
        sound.then(|| Self {
            trace_id: *trace_id,
            span_id: *span_id,
            flags: value(flags[1]) & (SAMPLED | RANDOM),
        })
    }

    /// A trace that begins here. Neither number may be 0.
    pub(super) fn begin(trace: u128, span: u64, sampled: bool) -> Self {
        let mut begun = Self {
            trace_id: [0; 32],
            span_id: [0; 16],
            flags: RANDOM | if sampled { SAMPLED } else { 0 },
        };
        write_hex(&trace.to_be_bytes(), &mut begun.trace_id);
        write_hex(&span.to_be_bytes(), &mut begun.span_id);
        begun
    }

    /// The same trace, in a span of its own. `span` may not be 0.
    pub(crate) fn child(mut self, span: u64) -> Self {
        write_hex(&span.to_be_bytes(), &mut self.span_id);
        self
    }

    /// The trace's id, in lower-case hexadecimal.
    pub fn trace_id(&self) -> &[u8; 32] {
        &self.trace_id
    }

    /// The span's id, in lower-case hexadecimal.
    pub fn span_id(&self) -> &[u8; 16] {
        &self.span_id
    }

    /// The trace's id and the span's, as numbers of OTLP.
    pub(super) fn ids(&self) -> ([u8; 16], [u8; 8]) {
        (bytes(&self.trace_id), bytes(&self.span_id))
    }

    /// The flags, as they are written.
    pub(super) fn flags(&self) -> u8 {
        self.flags
    }

    /// Whether somebody before may have recorded the trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The value of `traceparent`.
    pub fn header(&self) -> [u8; TRACEPARENT_BYTES] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        text[3..35].copy_from_slice(&self.trace_id);
        text[36..52].copy_from_slice(&self.span_id);
        text[54] = b'0' + self.flags;
        text
    }
}

/// Whether what came as `tracestate`, if anything did, is valid.
pub(super) fn is_tracestate(headers: Fields<'_>) -> bool {
    let name = TRACESTATE;
    let members = headers
        .all(&name)
        .flat_map(|line| line.split(|b| *b == b','))
        .map(<[u8]>::trim_ascii);
    let mut count = 0;
    for member in members.filter(|member| !member.is_empty()) {
        count += 1;
        if count > MEMBERS_MAX || !is_member(member) {
            return false;
        }
    }
    true
}

fn is_member(member: &[u8]) -> bool {
    let Some(at) = member.iter().position(|b| *b == b'=') else {
        return false;
    };
    let (key, value) = (
        member.get(..at).unwrap_or_default(),
        member.get(at + 1..).unwrap_or_default(),
    );
    let starts = key
        .first()
        .is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let sound = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-*/@".contains(b);
    starts
        && key.len() <= MEMBER_PART_BYTES_MAX
        && key.iter().all(sound)
        && (1..=MEMBER_PART_BYTES_MAX).contains(&value.len())
        && value.iter().all(|b| (0x20..0x7f).contains(b) && *b != b'=')
}

/// Only lower case is valid.
fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

/// The value of a valid digit.
fn value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => digit.wrapping_sub(b'a').wrapping_add(10),
    }
}

/// The bytes that valid digits stand for, as far as there are digits.
pub(super) fn bytes<const N: usize>(digits: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair.iter().fold(0, |byte, digit| byte << 4 | value(*digit));
    }
    bytes
}

/// Writes bytes as lower-case hexadecimal, as far as there is room.
pub(super) fn write_hex(bytes: &[u8], to: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    for (place, nibble) in to.iter_mut().zip(nibbles) {
        *place = DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;
    use http::HeaderValue;
    use proptest::prelude::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn parsed(text: &str) -> Option<String> {
        TraceContext::parse(text.as_bytes()).map(|t| String::from_utf8(t.header().to_vec()).unwrap())
    }

    #[test]
    fn what_is_valid_is_written_again_in_our_version() {
        let with = |version: &str, flags: &str| format!("{version}-{TRACE}-{SPAN}-{flags}");
        for (version, flags, written) in [
            ("00", "00", "00"),
            ("00", "01", "01"),
            ("00", "03", "03"),
            ("00", "ff", "03"),
            ("cc", "01", "01"),
            ("fe", "01-and-what-comes-later", "01"),
        ] {
            assert_eq!(
                parsed(&with(version, flags)),
                Some(with("00", written)),
                "{version} {flags}"
            );
        }
    }

    #[test]
    fn what_the_standard_forbids_is_refused() {
        let good = format!("00-{TRACE}-{SPAN}-01");
        for bad in [
            String::new(),
            good[..54].to_owned(),
            format!("{good}-"),
            format!("{good}-more"),
            format!("{good} "),
            good.to_uppercase(),
            good.replacen("00", "ff", 1),
            good.replacen("00", "0", 1),
            good.replacen("00", "zz", 1),
            good.replacen("00-", "00_", 1),
            good.replace(TRACE, &"0".repeat(32)),
            good.replace(SPAN, &"0".repeat(16)),
            good.replace(SPAN, &SPAN[1..]),
            good.replace("-01", "-0g"),
            good.replacen("00", "cc", 1) + "x",
        ] {
            assert_eq!(parsed(&bad), None, "{bad}");
        }
    }

    #[test]
    fn two_parents_are_none() {
        let mut headers = HeaderMap::new();
        let good: HeaderValue = format!("00-{TRACE}-{SPAN}-01").parse().unwrap();
        headers.append(TRACEPARENT, good.clone());
        assert!(TraceContext::of(&headers).is_some());
        headers.append(TRACEPARENT, good);
        assert!(TraceContext::of(&headers).is_none());
    }

    #[test]
    fn a_state_is_a_list_of_keys_and_values() {
        let valid = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(TRACESTATE, HeaderValue::from_bytes(line.as_bytes()).unwrap());
            }
            is_tracestate((&headers).into())
        };
        let members = |n: usize| vec!["a=1"; n].join(",");
        for lines in [
            &[][..],
            &[""],
            &["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"],
            &["a=1", " b@c=x y , ,0_-*/=!"],
            &[&members(32)],
            &[&format!("{}={}", "k".repeat(256), "v".repeat(256))],
        ] {
            assert!(valid(lines), "{lines:?}");
        }
        for lines in [
            &["a"][..],
            &["=1"],
            &["a="],
            &["A=1"],
            &["a b=1"],
            &["a=1=2"],
            &["a=\u{e9}"],
            &[&members(33)],
            &["a=1", "b"],
            &[&format!("{}=1", "k".repeat(257))],
            &[&format!("k={}", "v".repeat(257))],
        ] {
            assert!(!valid(lines), "{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn what_begins_here_is_valid_everywhere(trace in 1u128.., span in 1u64.., sampled: bool, child in 1u64..) {
            let begun = TraceContext::begin(trace, span, sampled);
            prop_assert_eq!(TraceContext::parse(&begun.header()), Some(begun));
            let child = begun.child(child);
            prop_assert_eq!(TraceContext::parse(&child.header()), Some(child));
            prop_assert_eq!((child.trace_id(), child.is_sampled()), (begun.trace_id(), sampled));
            prop_assert_eq!(begun.ids(), (trace.to_be_bytes(), span.to_be_bytes()));
        }

        #[test]
        fn no_bytes_break_the_parser(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some(context) = TraceContext::parse(&bytes) {
                prop_assert!(TraceContext::parse(&context.header()).is_some());
            }
        }
    }
}
