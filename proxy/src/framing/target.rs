//! The request target and the host: which forms there are, and which bytes.

use std::net::Ipv6Addr;
use std::ops::Range;

use super::bytes::{HOST, PATH, QUERY, run};

/// The form of a request target. Source: RFC 9112 section 3.2; the authority form is for CONNECT alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A path, and perhaps a query.
    Origin,
    /// A whole URI; where in the target its authority stands.
    Absolute(Range<usize>),
    /// The server itself.
    Asterisk,
}

/// The form of `target`. `None` where it has none.
#[inline]
pub(super) fn form(target: &[u8]) -> Option<Form> {
    if target.first() == Some(&b'/') {
        return is_path_and_query(target).then_some(Form::Origin);
    }
    if target == b"*" {
        return Some(Form::Asterisk);
    }
    let schemes = ["http://", "https://"];
    let starts = |scheme: &&str| {
        target
            .get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes()))
    };
    let start = schemes.iter().find(|scheme| starts(scheme))?.len();
    let rest = target.get(start..)?;
    let length = rest
        .iter()
        .position(|b| matches!(b, b'/' | b'?'))
        .unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(length)?;
    let sound = is_host(authority) && (path.is_empty() || is_path_and_query(path));
    sound.then_some(Form::Absolute(start..start + length))
}

#[inline]
fn is_path_and_query(bytes: &[u8]) -> bool {
    // The question mark belongs to the path's class, too: so the run ends at what only a query may have.
    let path = run(bytes, PATH);
    match bytes.get(path..) {
        None | Some([]) => true,
        Some(rest) => bytes.get(..path).is_some_and(|p| p.contains(&b'?')) && run(rest, QUERY) == rest.len(),
    }
}

/// Whether `host` is a name or an address, perhaps with a port. An empty one names nobody, so it is none; user names
/// have no place in a request. Source: RFC 9110 sections 4.2.1, 4.2.4 and 7.2.
#[inline]
pub(super) fn is_host(host: &[u8]) -> bool {
    let (name, rest) = match host.strip_prefix(b"[") {
        None => host.split_at(run(host, HOST)),
        Some(inside) => {
            let Some(end) = inside.iter().position(|b| *b == b']') else {
                return false;
            };
            let (address, rest) = inside.split_at(end);
            if !std::str::from_utf8(address).is_ok_and(|a| a.parse::<Ipv6Addr>().is_ok()) {
                return false;
            }
            (address, rest.get(1..).unwrap_or_default())
        }
    };
    !name.is_empty() && (rest.is_empty() || rest.strip_prefix(b":").is_some_and(is_port))
}

fn is_port(digits: &[u8]) -> bool {
    // More digits would overflow, and are none that a port has.
    (1..=5).contains(&digits.len())
        && digits.iter().all(u8::is_ascii_digit)
        && digits
            .iter()
            .fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'))
            <= u32::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_and_addresses_with_or_without_a_port() {
        for good in [
            "a",
            "shop.example",
            "a_b-c.d~e",
            "127.0.0.1:80",
            "[::1]",
            "[2001:db8::1]:8443",
            "a:0",
            "a:65535",
        ] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            ":80",
            "a:",
            "a:65536",
            "a:99999999999999999999",
            "a:000080",
            "a:-1",
            "a b",
            "a,b",
            "a@b",
            "a/b",
            "a%20",
            "[::1",
            "::1]",
            "[]",
            "[::1%25eth0]",
            "[::1]x",
            "[v1.a]",
            "a:80:80",
            "é",
            "a\\b",
            "a#b",
            "a?b",
            "[::1]:",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn targets_have_a_form_or_are_none() {
        let of = |text: &str| form(text.as_bytes());
        for origin in [
            "/",
            "/a/b;c=d?e=f&g",
            "/%41",
            "/a?b?c",
            "/a|b{c}^",
            "/a?`",
            "/a?re=\\d",
            "//a",
            "/:@!$&'()*+,",
        ] {
            assert_eq!(of(origin), Some(Form::Origin), "{origin}");
        }
        assert_eq!(of("*"), Some(Form::Asterisk));
        assert_eq!(of("http://a:80/b?c"), Some(Form::Absolute(7..11)));
        assert_eq!(of("HTTPS://a?c"), Some(Form::Absolute(8..9)));
        for none in [
            "",
            "a",
            "a/b",
            "**",
            "*/",
            "/a#b",
            "/a\\b",
            "/a`",
            "/\"",
            "/<",
            "http:/a",
            "http://",
            "http:///a",
            "http://a@b/",
            "http://a b",
            "ftp://a/",
            "http//a",
            "?a",
            "a:80",
            "http://a\\b/",
            "/é",
            "ws://a/",
            "http:\\\\a",
        ] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
