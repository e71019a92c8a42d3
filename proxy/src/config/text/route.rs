//! The texts of routes: host patterns, paths in their normal form, methods, networks.
//!
//! A path that no request can have, because every request's path is brought to its normal form first, is a mistake here
//! with that form as the hint: a rule that never holds would be found in an incident.

use foreshade_settings::{Scalar, Wrong, text};
use http::uri::PathAndQuery;
use serde_json::{Value as Json, json};

use crate::cidr::{Cidr, CidrError};
use crate::path::{DuplicateSlashes, EncodedSlashes, PathPolicy, normal};

use super::{host, parsed};

/// What some listener lets through, a path of a route may have.
const LOOSEST: PathPolicy = PathPolicy {
    encoded_slashes: EncodedSlashes::Keep,
    duplicate_slashes: DuplicateSlashes::Keep,
};

text! {
    /// A host or all hosts below a domain, in lower case, without port.
    HostPattern(String), "a host name without port, or *. and a domain", host_pattern,
    "^(\\*\\.)?[A-Za-z0-9._-]+$|^\\[[0-9A-Fa-f:.]+\\]$"
}

fn host_pattern(text: &str) -> Result<String, Wrong> {
    let Some(domain) = text.strip_prefix("*.") else {
        return match text {
            "*" => Err(Wrong::because("is every host").hint("leave host out to match every host".to_owned())),
            _ if text.contains('*') => Err(Wrong::because("has a wildcard that is not its first label")
                .hint("write *.shop.example for every host below shop.example".to_owned())),
            _ => host(text),
        };
    };
    if domain.contains('*') || domain.starts_with('[') {
        return Err(Wrong::because(
            "has more than one wildcard, or an address below it",
        ));
    }
    host(domain).map(|domain| format!("*.{domain}"))
}

text! {
    /// A prefix of the path in whole segments, without a slash at its end unless it is all of it.
    Prefix(String), "a path that starts with a slash", prefix, "^/[^?#\\s]*$"
}

fn prefix(text: &str) -> Result<String, Wrong> {
    let path = plain_path(text)?;
    let trimmed = path.trim_end_matches('/');
    normal_path(if trimmed.is_empty() { "/" } else { trimmed })
}

text! {
    /// A whole path.
    Exact(String), "a path that starts with a slash", |text| normal_path(plain_path(text)?), "^/[^?#\\s]*$"
}

/// A path without query, and without the stars that other proxies want.
fn plain_path(text: &str) -> Result<&str, Wrong> {
    if !text.starts_with('/') {
        return Err(Wrong::default().hint(format!("write /{text}")));
    }
    if text.contains(['?', '#', '*']) {
        return Err(Wrong::because("has a character that no path here has")
            .hint("a path has no query, and a prefix needs no '*' at its end".to_owned()));
    }
    parsed::<PathAndQuery>(text)?;
    Ok(text)
}

fn normal_path(text: &str) -> Result<String, Wrong> {
    match normal(text.as_bytes(), LOOSEST) {
        Ok(None) => Ok(text.to_owned()),
        Ok(Some(normal)) => Err(
            Wrong::because("is not the path's normal form, and so no request's path")
                .hint(format!("write {normal}")),
        ),
        Err(_) => Err(Wrong::because("is a path that no request can have")),
    }
}

text! {
    /// Where a redirect leads: a path, maybe with a query.
    NewTarget(String), "a path that starts with one slash", new_target, "^/([^/#\\s\\\\][^#\\s\\\\]*)?$"
}

fn new_target(text: &str) -> Result<String, Wrong> {
    if text.starts_with("//") || text.contains(['\\', '#']) {
        return Err(Wrong::because("would lead to another host, or into a page")
            .hint("write host: for another host".to_owned()));
    }
    super::target(text)
}

text! {
    /// A method, in capitals as nearly all of them.
    Method(String), "a method, as GET", method, "^[A-Z][A-Z0-9-]*$"
}

fn method(text: &str) -> Result<String, Wrong> {
    let capitals = text.to_ascii_uppercase();
    parsed::<http::Method>(text)?;
    if capitals == text {
        Ok(capitals)
    } else {
        Err(Wrong::because("has small letters, and no request's method has")
            .hint(format!("write {capitals}")))
    }
}

text! {
    /// A value to compare with: of a header, or of a query parameter.
    Written(String), "a text of visible characters", |text| {
        if text.is_empty() || text.trim() != text || text.chars().any(char::is_control) {
            return Err(Wrong::default());
        }
        Ok(text.to_owned())
    }, "^\\S(.*\\S)?$"
}

text! {
    /// A text that is checked by whoever knows what it is.
    Text(String), "a text", |text| Ok(text.to_owned()), ""
}

text! {
    /// A URI that a certificate bears, or the beginning of some.
    CertificateUri(String), "a URI, or the beginning of some with * at its end", |text| {
        let beginning = text.strip_suffix('*').unwrap_or(text);
        let (scheme, rest) = beginning.split_once(':').unwrap_or_default();
        if scheme.is_empty() || rest.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Wrong::default());
        }
        if beginning.contains('*') {
            return Err(Wrong::because("has a star that is not its last character"));
        }
        // Without a slash before it, spiffe://shop.example* would be spiffe://shop.example.evil, too.
        if beginning.len() < text.len() && !beginning.ends_with('/') {
            return Err(Wrong::because("ends within a name").hint(format!("write {beginning}/*")));
        }
        Ok(text.to_owned())
    }, "^[!-)+-~]+:([!-)+-~]+|[!-)+-~]*/\\*)$"
}

text! {
    /// What stands in place of a part of a path.
    Replacement(String), "a part of a path, as /v2/$1", |text| {
        if text.bytes().all(|b| b.is_ascii_graphic() && !b"?#\\<>`\"".contains(&b)) {
            return Ok(text.to_owned());
        }
        Err(Wrong::because("has a character that no path has"))
    }, "^[!$-;=@-\\[\\]^_a-~]*$"
}

text! {
    /// A media type.
    MediaType(String), "a media type, as text/html; charset=utf-8", |text| {
        let plain = text.bytes().all(|b| matches!(b, b' '..=b'~'));
        let (kind, rest) = text.split_once('/').unwrap_or_default();
        if plain && !kind.is_empty() && !rest.is_empty() && text.trim() == text {
            return Ok(text.to_owned());
        }
        Err(Wrong::default())
    }, "^[!-~]+/[!-~][ -~]*$"
}

text! {
    /// What browsers show when they ask for a password.
    Realm(String), "a name of visible ASCII characters, without quotes", |text| {
        let plain = text.bytes().all(|b| matches!(b, b' '..=b'~') && !b"\"\\".contains(&b));
        if plain && !text.is_empty() && text.trim() == text {
            return Ok(text.to_owned());
        }
        Err(Wrong::default())
    }, "^[!#-\\[\\]-~]([ !#-\\[\\]-~]*[!#-\\[\\]-~])?$"
}

text! {
    /// Under which path a cookie comes. Source: RFC 6265 section 4.1.1, without what would need quotes.
    CookiePath(String), "a path that starts with a slash, without ; and ,", |text| {
        if text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && !b";,\"\\".contains(&b)) {
            return Ok(text.to_owned());
        }
        Err(Wrong::default())
    }, "^/[!#-+.-:<-\\[\\]-~-]*$"
}

/// A network.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Network(pub(in crate::config) Cidr);

impl Scalar for Network {
    fn expected() -> String {
        "an address or a network, as 10.0.0.0/8 or 2001:db8::/32".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        text.parse().map(Self).map_err(|error: CidrError| {
            let hint = match error {
                CidrError::HostBits(network) => Some(format!("write {network}")),
                CidrError::Address | CidrError::Length => None,
            };
            Wrong::because(error.to_string()).hint(hint)
        })
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_pattern_is_a_host_or_everything_below_one() {
        assert_eq!(HostPattern::parse("Shop.example.").unwrap().0, "shop.example");
        assert_eq!(HostPattern::parse("*.Shop.example").unwrap().0, "*.shop.example");
        for text in ["*", "*.", "a.*", "*.*.a", "*a.b", "*.[::1]", "*.a:80"] {
            assert!(HostPattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_prefix_has_no_slash_at_its_end() {
        assert_eq!(Prefix::parse("/").unwrap().0, "/");
        assert_eq!(Prefix::parse("//").unwrap().0, "/");
        assert_eq!(Prefix::parse("/a/b/").unwrap().0, "/a/b");
        for text in ["", "a", "/a?b", "/a#b", "/a/*", "/a b", "/\u{1}"] {
            assert!(Prefix::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_path_is_written_as_requests_have_it() {
        assert_eq!(Exact::parse("/caf%C3%A9/").unwrap().0, "/caf%C3%A9/");
        for text in ["/a/../b", "/%61", "/caf%c3%a9", "/a\\b", "/a%0", "/..;/a"] {
            assert!(
                Exact::parse(text).is_err() && Prefix::parse(text).is_err(),
                "{text}"
            );
        }
    }

    #[test]
    fn a_target_stays_on_its_host_and_is_ascii() {
        assert_eq!(NewTarget::parse("/a?b=//c").unwrap().0, "/a?b=//c");
        for text in [
            "//evil.example",
            "/\\evil.example",
            "a",
            "/a#b",
            "/a b",
            "/caf\u{e9}",
            "/a?\u{e9}",
        ] {
            assert!(NewTarget::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_replacement_has_no_byte_that_no_path_has() {
        assert_eq!(Replacement::parse("/v2/${id}.$1").unwrap().0, "/v2/${id}.$1");
        for text in ["/a<b", "/a>", "/`", "\"", "/a?b", "/a#", "/\\", "/ ", "/\u{e9}"] {
            assert!(Replacement::parse(text).is_err(), "{text}");
        }
    }
}
