//! The texts of the format that have an inner form: addresses, hosts, paths, headers, cookies.
//!
//! What the `http` crate would refuse when a request is on its way is refused here instead, by the same parser. The texts
//! that only routes have are in `route`.

pub(super) mod origin;
pub(super) mod route;

use std::fmt::Display;
use std::net::{Ipv6Addr, SocketAddr};
use std::str::FromStr;

use foreshade_settings::{Address, Scalar, Wrong, is_host_name, text};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Uri};
use serde_json::{Value as Json, json};

use super::dns::DnsName;

/// Where an endpoint is: an address, or a name that stands for some.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    Fixed(SocketAddr),
    Named(DnsName),
}

impl Scalar for Origin {
    fn expected() -> String {
        "an address, as 127.0.0.1:8080 or host:8080, or a service, as _http._tcp.shop.example".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        if text.starts_with('_') && !text.contains(':') {
            let service = text.trim_end_matches('.').to_ascii_lowercase();
            let labels: Vec<&str> = service.split('.').collect();
            let is_service = matches!(&labels[..], [_, protocol, _, ..] if protocol.starts_with('_'));
            return if is_service && is_host_name(&service) && !labels.contains(&"") {
                Ok(Self::Named(DnsName::Service(service)))
            } else {
                Err(Wrong::because("is not the name of a service")
                    .hint("write _service._protocol.domain".to_owned()))
            };
        }
        Address::parse(text).map(|address| match address {
            Address::Ip(address) => Self::Fixed(address),
            Address::Host(host, port) => {
                let host = host.trim_end_matches('.').to_ascii_lowercase();
                Self::Named(DnsName::Host(host, port))
            }
        })
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^.+:[0-9]{1,5}$|^_[^.]+\\._[^.]+\\..+$" })
    }
}

text! {
    /// Where keys are fetched.
    KeysUrl(String), "a URL, as https://issuer.example/jwks.json", keys_url, "^https?://[^/?#\\s@]+(/[^#\\s]*)?$"
}

fn keys_url(text: &str) -> Result<String, Wrong> {
    let url: Uri = parsed(text)?;
    let is_spoken = matches!(url.scheme_str(), Some("http" | "https"));
    let authority = url.authority().map_or("", |authority| authority.as_str());
    if !is_spoken || url.host().is_none_or(str::is_empty) {
        return Err(Wrong::default());
    }
    if authority.contains('@') || text.contains('#') {
        return Err(Wrong::because(
            "has a name, a password or a fragment, which are not sent",
        ));
    }
    Ok(text.to_owned())
}

text! {
    /// The host that users ask for, in lower case, without port.
    Host(String), "a host name without port", host, "^[A-Za-z0-9._-]+$|^\\[[0-9A-Fa-f:.]+\\]$"
}

fn host(text: &str) -> Result<String, Wrong> {
    if text.contains('*') {
        return Err(Wrong::because("has a wildcard").hint("leave host out to match every host".to_owned()));
    }
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if bracketed.is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok()) || is_host_name(text) {
        return Ok(text.trim_end_matches('.').to_ascii_lowercase());
    }
    match text.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => {
            Err(Wrong::because("has a port").hint(format!("write {host}; the listener decides the port")))
        }
        _ => Err(Wrong::default()),
    }
}

text! {
    /// What a probe asks for.
    Target(String), "a path that starts with a slash", target, "^/[^#\\s]*$"
}

fn target(text: &str) -> Result<String, Wrong> {
    if !text.starts_with('/') {
        return Err(Wrong::default().hint(format!("write /{text}")));
    }
    parsed::<PathAndQuery>(text)?;
    if !text.is_ascii() {
        let hint = format!("write {}", crate::path::escaped(text.as_bytes()));
        return Err(Wrong::because("has a letter that no target has").hint(hint));
    }
    Ok(text.to_owned())
}

text! {
    /// The value of a `Host` header.
    Authority(String), "a host, with or without port", |text| {
        parsed::<http::uri::Authority>(text)?;
        Ok(text.to_owned())
    }, "^[^\\s/@]+$"
}

text! {
    /// The name of a header, in lower case.
    Header(HeaderName), "the name of a header", parsed, "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"
}

text! {
    /// The name of a cookie: the letters of a header's name, but their case matters.
    Cookie(String), "the name of a cookie", |text| parsed::<HeaderName>(text).map(|_| text.to_owned()),
    "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"
}

text! {
    /// The value of a header or a cookie.
    Content(String), "a value of visible characters", |text| {
        let value = parsed::<HeaderValue>(text)?;
        let visible = value.to_str().is_ok_and(|text| !text.is_empty() && text.trim() == text);
        if visible { Ok(text.to_owned()) } else { Err(Wrong::default()) }
    }, "^[\\x21-\\x7e]([\\x20-\\x7e]*[\\x21-\\x7e])?$"
}

fn parsed<T: FromStr<Err: Display>>(text: &str) -> Result<T, Wrong> {
    text.parse().map_err(|_| Wrong::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_no_port_and_no_case() {
        assert_eq!(Host::parse("Shop.Example.").unwrap().0, "shop.example");
        assert_eq!(Host::parse("[::1]").unwrap().0, "[::1]");
        for text in ["", "a:80", "*.a", "a/b", "[::1]:80", ".", "[a]"] {
            assert!(Host::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn header_and_cookie_texts_cannot_smuggle_lines() {
        assert_eq!(Header::parse("X-User").unwrap().0, "x-user");
        assert_eq!(Cookie::parse("SID").unwrap().0, "SID");
        assert!(Header::parse("x y").is_err() && Cookie::parse("a=b").is_err());
        for text in ["", " a", "a\r\nb", "\u{7f}"] {
            assert!(Content::parse(text).is_err(), "{text:?}");
        }
    }
}
