//! Which coding a client likes best of those that are offered: `Accept-Encoding`, RFC 9110 section 12.5.3.
//!
//! A client that says nothing gets nothing encoded, though the RFC would allow it: who cannot read gzip often does not know
//! that there is a way to say so. Whoever names `identity` and likes it better than all that is offered gets that. What is
//! no quality counts as none, so a broken item takes itself out, and nothing else.

use http::header::ACCEPT_ENCODING;

use super::Coding;
use crate::fields::Fields;

/// Thousandths: a quality has three digits at most.
type Quality = u16;

const FULL: Quality = 1000;

/// The coding that the client likes best; of equals the first that is offered. `None` where it is to have none.
pub(super) fn best(offered: &[Coding], headers: Fields<'_>) -> Option<Coding> {
    let liked = |names: &[&str]| quality(headers, names);
    let any = liked(&["*"]);
    let plain = liked(&["identity"]).unwrap_or(0);
    let mut best: Option<(Coding, Quality)> = None;
    for coding in offered {
        let names: &[&str] = match coding {
            // RFC 9110 section 8.4.1.3: an older name of the same.
            Coding::Gzip => &["gzip", "x-gzip"],
            Coding::Brotli => &["br"],
            Coding::Zstd => &["zstd"],
        };
        let quality = liked(names).or(any).unwrap_or(0);
        if quality > 0 && quality >= plain && best.is_none_or(|(_, than)| quality > than) {
            best = Some((*coding, quality));
        }
    }
    best.map(|(coding, _)| coding)
}

/// What is said of a coding, under the first of its names that stands there.
fn quality(headers: Fields<'_>, names: &[&str]) -> Option<Quality> {
    let values = headers.all(&ACCEPT_ENCODING);
    let mut items = values.flat_map(|value| value.split(|byte| *byte == b','));
    items.find_map(|item| {
        let mut parts = item.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next()?;
        let is_meant = names.iter().any(|n| name.eq_ignore_ascii_case(n.as_bytes()));
        is_meant.then(|| parts.next().map_or(FULL, |weight| weighed(weight).unwrap_or(0)))
    })
}

/// `q=0.5`, RFC 9110 section 12.4.2.
fn weighed(weight: &[u8]) -> Option<Quality> {
    let (name, value) = weight.split_at_checked(2)?;
    if !name.eq_ignore_ascii_case(b"q=") {
        return None;
    }
    let (whole, rest) = value.split_first()?;
    let digits = match rest {
        [] => rest,
        [b'.', digits @ ..] if digits.len() <= 3 && digits.iter().all(u8::is_ascii_digit) => digits,
        _ => return None,
    };
    let digit = |at: usize| Quality::from(digits.get(at).map_or(0, |digit| digit - b'0'));
    let thousandths = digit(0) * 100 + digit(1) * 10 + digit(2);
    match (whole, thousandths) {
        (b'0', part) => Some(part),
        (b'1', 0) => Some(FULL),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};

    const OFFERED: [Coding; 3] = [Coding::Zstd, Coding::Brotli, Coding::Gzip];

    fn asked(values: &[&'static str]) -> Option<Coding> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(ACCEPT_ENCODING, HeaderValue::from_static(value));
        }
        best(&OFFERED, Fields::from(&headers))
    }

    #[test]
    fn the_client_chooses_by_quality_and_the_proxy_among_equals() {
        for (value, coding) in [
            ("gzip, deflate, br, zstd", Some(Coding::Zstd)),
            ("gzip, br", Some(Coding::Brotli)),
            ("GZIP", Some(Coding::Gzip)),
            ("x-gzip", Some(Coding::Gzip)),
            ("gzip;q=1.0, br;q=0.9", Some(Coding::Gzip)),
            ("br;q=0.5, gzip;q=0.501", Some(Coding::Gzip)),
            ("*", Some(Coding::Zstd)),
            ("*;q=0.1, zstd;q=0", Some(Coding::Brotli)),
            ("gzip;q=0.5, *", Some(Coding::Zstd)),
            ("identity;q=0, gzip", Some(Coding::Gzip)),
            ("identity, gzip", Some(Coding::Gzip)),
        ] {
            assert_eq!(asked(&[value]), coding, "{value}");
        }
        assert_eq!(asked(&["deflate", "br"]), Some(Coding::Brotli), "on two lines");
    }

    #[test]
    fn who_does_not_ask_for_it_or_refuses_it_gets_none() {
        assert_eq!(asked(&[]), None);
        for value in [
            "",
            "deflate",
            "gzip;q=0",
            "gzip;q=0.000",
            "*;q=0",
            "identity;q=1, gzip;q=0.5",
            "gzip;q=2",
            "gzip;q=1.001",
            "gzip;q=0.0001",
            "gzip;q=",
            "gzip;q=-1",
            "gzip;level=9",
            "gzipped",
            "gzip br",
        ] {
            assert_eq!(asked(&[value]), None, "{value}");
        }
    }
}
