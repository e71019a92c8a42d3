//! Who the client is when there are proxies before this one, and what the endpoint is told of it.
//!
//! Each proxy writes the address it was called from at the end of `X-Forwarded-For` (or `Forwarded`, RFC 7239). Whatever
//! stands left of what a *trusted* proxy wrote is what somebody claims. So the list is read from its right end for as long
//! as those who wrote it are trusted, and the first address that is not is the client. Taking the left-most one, as many
//! applications do, lets everybody choose an address. From a peer that is not trusted, nothing is believed, and
//! nothing is passed on: every header of the family is taken out, the other spellings too, because an endpoint might read
//! whichever this proxy did not write.
//!
//! What a client proves by a certificate goes by the same rule, in a header of the same family: a certificate that this
//! proxy has verified replaces whatever came, and without one nobody but a trusted proxy can say that there was one, not
//! even where the rest of the family passes.
//!
//! An entry that is no address (`unknown`, an obfuscated name, nonsense) ends the walk: who wrote it is the last one known.

use std::net::{IpAddr, SocketAddr};

use arrayvec::ArrayString;
use http::header::{FORWARDED, HOST};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::cidr::{Cidr, any_contains};
use crate::edit::Head;
use crate::fields::Fields;
use crate::tls::{Agreed, CLIENT_CERTIFICATE};

/// Most proxies that are believed in a row. A longer chain is no chain of one's own.
const PROXIES_MAX: usize = 32;

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Longest address as text: an IPv6 one that ends in an IPv4 one.
const ADDRESS_BYTES_MAX: usize = 45;

/// Whom a listener believes, and how it tells who the client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// Proxies whose word counts.
    pub proxies: Vec<Cidr>,
    /// The header that is read and written.
    pub told_by: ToldBy,
}

/// The header that tells who the client is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ToldBy {
    /// `X-Forwarded-For`, with `-Proto` and `-Host`.
    #[default]
    XForwardedFor,
    /// `Forwarded`, RFC 7239.
    Forwarded,
    /// None: such headers pass as they came, and mean nothing here.
    Nothing,
}

/// Who holds a connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peer<'a> {
    /// His address.
    pub address: Option<IpAddr>,
    /// What was agreed on with him; `None` in the clear.
    pub tls: Option<&'a Agreed>,
}

/// The two ends of a request, as far as they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// The user's address.
    pub address: Option<IpAddr>,
    /// Who holds the connection: the user himself or the last proxy before this one.
    pub peer: Option<IpAddr>,
    /// Whether the peer is a proxy whose word counts.
    pub trusted: bool,
    /// Whether the user speaks https: with this proxy, or as a trusted one says, with that.
    pub secure: bool,
    /// The certificate that the peer has proven to have, as endpoints are told of it.
    pub certificate: Option<HeaderValue>,
    /// The header that tells the endpoint.
    pub told_by: ToldBy,
}

impl Client {
    /// Reads who sent a request in the clear.
    pub fn of<'a>(trust: &Trust, peer: Option<IpAddr>, headers: impl Into<Fields<'a>>) -> Self {
        let peer = Peer {
            address: peer,
            tls: None,
        };
        Self::behind(trust, peer, headers)
    }

    /// Reads who sent a request on a connection that `peer` holds.
    pub fn behind<'a>(trust: &Trust, peer: Peer<'_>, headers: impl Into<Fields<'a>>) -> Self {
        let (headers, tls) = (headers.into(), peer.tls);
        let peer = peer.address.map(|address| address.to_canonical());
        let trusted = peer.is_some_and(|peer| any_contains(&trust.proxies, peer));
        let address = if trusted {
            peer.map(|peer| first_untrusted(trust, peer, headers))
        } else {
            peer
        };
        let told = trusted.then(|| told_secure(trust.told_by, headers)).flatten();
        Self {
            address,
            peer,
            trusted,
            secure: told.unwrap_or(tls.is_some()),
            certificate: tls.and_then(|agreed| agreed.certificate().cloned()),
            told_by: trust.told_by,
        }
    }

    /// The scheme that the user speaks.
    pub fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// Tells the endpoint. `head` is what will be sent, `headers` what came.
    pub fn tell(&self, head: &mut impl Head, headers: &HeaderMap) {
        // One pass over names, and as a rule nothing to take out.
        headers
            .keys()
            .filter(|name| self.forgets(name.as_str().as_bytes()))
            .for_each(|name| head.remove(name));
        if let Some(certificate) = &self.certificate {
            head.set(&CLIENT_CERTIFICATE, certificate.clone());
        }
        match self.told_by {
            ToldBy::XForwardedFor => self.tell_x_forwarded(head, headers),
            ToldBy::Forwarded => self.tell_forwarded(head, headers),
            ToldBy::Nothing => {}
        }
    }

    fn tell_x_forwarded(&self, head: &mut impl Head, headers: &HeaderMap) {
        let has = |name: &HeaderName| self.trusted && headers.contains_key(name);
        if let Some(peer) = self.peer {
            let before = has(&X_FORWARDED_FOR).then(|| joined(headers.into(), &X_FORWARDED_FOR));
            let value = match before {
                Some(before) => HeaderValue::try_from(format!("{before}, {peer}")),
                None => HeaderValue::from_str(&written(peer)),
            };
            if let Ok(value) = value {
                head.set(&X_FORWARDED_FOR, value);
            }
        }
        if !has(&X_FORWARDED_PROTO) {
            head.set(&X_FORWARDED_PROTO, HeaderValue::from_static(self.scheme()));
        }
        if let Some(host) = headers.get(HOST).filter(|_| !has(&X_FORWARDED_HOST)) {
            head.set(&X_FORWARDED_HOST, host.clone());
        }
    }

    fn tell_forwarded(&self, head: &mut impl Head, headers: &HeaderMap) {
        if let Ok(value) = HeaderValue::try_from(self.forwarded(headers.into())) {
            head.set(&FORWARDED, value);
        }
    }

    /// The value of `Forwarded`.
    fn forwarded(&self, headers: Fields<'_>) -> String {
        let node = match self.peer {
            Some(IpAddr::V4(address)) => address.to_string(),
            Some(IpAddr::V6(address)) => format!("\"[{address}]\""),
            None => "unknown".to_owned(),
        };
        let mut value = format!("for={node};proto={}", self.scheme());
        let host = headers.get(&HOST).and_then(text);
        // What a quoted string cannot hold as it is, no host has.
        if let Some(host) = host.filter(|host| !host.contains(['"', '\\'])) {
            value.push_str(";host=\"");
            value.push_str(host);
            value.push('"');
        }
        if self.trusted && headers.contains(&FORWARDED) {
            value = format!("{}, {value}", joined(headers, &FORWARDED));
        }
        value
    }

    /// Whether a line of this name says what only somebody else may say.
    fn forgets(&self, name: &[u8]) -> bool {
        match (self.trusted, self.told_by) {
            (true, _) => self.certificate.is_some() && speaks_of_certificate(name),
            (false, ToldBy::Nothing) => speaks_of_certificate(name),
            (false, _) => speaks_of_client(name),
        }
    }

    /// Whether a line of this name that came does not go on, because [`Client::write_lines`] says what is to be said.
    pub fn replaces(&self, name: &[u8]) -> bool {
        if self.forgets(name) {
            return true;
        }
        match self.told_by {
            ToldBy::Nothing => false,
            ToldBy::XForwardedFor => name.eq_ignore_ascii_case(X_FORWARDED_FOR.as_str().as_bytes()),
            ToldBy::Forwarded => name.eq_ignore_ascii_case(FORWARDED.as_str().as_bytes()),
        }
    }

    /// The same as [`Client::tell`], for whoever writes a head line by line.
    pub fn write_lines(&self, headers: Fields<'_>, out: &mut Vec<u8>) {
        let mut line = |name: &HeaderName, value: &[&[u8]]| {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            value.iter().for_each(|part| out.extend_from_slice(part));
            out.extend_from_slice(b"\r\n");
        };
        if let Some(certificate) = &self.certificate {
            line(&CLIENT_CERTIFICATE, &[certificate.as_bytes()]);
        }
        match self.told_by {
            ToldBy::Nothing => {}
            ToldBy::Forwarded => line(&FORWARDED, &[self.forwarded(headers).as_bytes()]),
            ToldBy::XForwardedFor => {
                let has = |name: &HeaderName| self.trusted && headers.contains(name);
                if let Some(peer) = self.peer {
                    let peer = written(peer);
                    match has(&X_FORWARDED_FOR) {
                        true => {
                            let before = joined(headers, &X_FORWARDED_FOR);
                            line(&X_FORWARDED_FOR, &[before.as_bytes(), b", ", peer.as_bytes()]);
                        }
                        false => line(&X_FORWARDED_FOR, &[peer.as_bytes()]),
                    }
                }
                if !has(&X_FORWARDED_PROTO) {
                    line(&X_FORWARDED_PROTO, &[self.scheme().as_bytes()]);
                }
                if let Some(host) = headers.get(&HOST).filter(|_| !has(&X_FORWARDED_HOST)) {
                    line(&X_FORWARDED_HOST, &[host]);
                }
            }
        }
    }
}

/// The right-most address that no trusted proxy has; the left-most one where all are.
fn first_untrusted(trust: &Trust, peer: IpAddr, headers: Fields<'_>) -> IpAddr {
    let name = match trust.told_by {
        ToldBy::XForwardedFor => &X_FORWARDED_FOR,
        ToldBy::Forwarded => &FORWARDED,
        ToldBy::Nothing => return peer,
    };
    let mut known = peer;
    let lines = headers.all(name).rev();
    let entries = lines.flat_map(|line| line.rsplit(|b| *b == b','));
    for entry in entries.take(PROXIES_MAX) {
        let entry = std::str::from_utf8(entry).unwrap_or_default();
        let node = match trust.told_by {
            ToldBy::Forwarded => parameter(entry, "for"),
            ToldBy::XForwardedFor | ToldBy::Nothing => Some(entry),
        };
        let Some(address) = node.and_then(address) else {
            break;
        };
        known = address;
        if !any_contains(&trust.proxies, known) {
            break;
        }
    }
    known
}

/// Whether the last trusted proxy was spoken to in https; `None` where it does not say.
fn told_secure(told_by: ToldBy, headers: Fields<'_>) -> Option<bool> {
    let last = |name: &HeaderName| text(headers.all(name).next_back()?);
    let scheme = match told_by {
        ToldBy::XForwardedFor => last(&X_FORWARDED_PROTO),
        ToldBy::Forwarded => last(&FORWARDED)
            .and_then(|line| line.rsplit(',').next())
            .and_then(|element| parameter(element, "proto")),
        ToldBy::Nothing => None,
    };
    scheme.map(|scheme| scheme.trim().trim_matches('"').eq_ignore_ascii_case("https"))
}

/// A parameter of a forwarded-element, as `for`. Source: RFC 7239 section 4. A quoted comma or semicolon, which neither an
/// address nor a scheme has, makes it none.
fn parameter<'a>(element: &'a str, wanted: &str) -> Option<&'a str> {
    element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case(wanted).then_some(value)
    })
}

/// An address with or without port, quotes and brackets.
fn address(node: &str) -> Option<IpAddr> {
    let node = node.trim().trim_matches('"');
    let bracketed = node.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let parsed = match bracketed {
        Some(inside) => inside.parse().ok(),
        None => node
            .parse()
            .ok()
            .or_else(|| node.parse::<SocketAddr>().ok().map(|socket| socket.ip())),
    };
    parsed.map(|address: IpAddr| address.to_canonical())
}

/// An address as text. Written by hand for IPv4, where the standard library's formatting takes 1,400 instructions of each
/// request.
fn written(address: IpAddr) -> ArrayString<ADDRESS_BYTES_MAX> {
    let mut text = ArrayString::new();
    let mut push = |c: char| {
        // There is room for the longest address.
        let _ = text.try_push(c);
    };
    match address {
        IpAddr::V4(address) => {
            for (position, octet) in address.octets().into_iter().enumerate() {
                if position > 0 {
                    push('.');
                }
                if octet >= 100 {
                    push(char::from(b'0' + octet / 100));
                }
                if octet >= 10 {
                    push(char::from(b'0' + octet / 10 % 10));
                }
                push(char::from(b'0' + octet % 10));
            }
        }
        IpAddr::V6(address) => address.to_string().chars().for_each(push),
    }
    text
}

/// All lines of a header as one list.
fn joined(headers: Fields<'_>, name: &HeaderName) -> String {
    headers.all(name).filter_map(text).collect::<Vec<_>>().join(", ")
}

/// A value as text, if it is of visible ASCII.
fn text(value: &[u8]) -> Option<&str> {
    let visible = value.iter().all(|b| matches!(b, b'\t' | b' '..=b'~'));
    visible.then(|| std::str::from_utf8(value).ok()).flatten()
}

/// Whether a header claims to know the client: `Forwarded`, `X-Real-IP` and all that begins with `X-Forwarded-`, with `_`
/// for `-` too, because applications behind CGI cannot tell the two apart.
fn speaks_of_client(name: &[u8]) -> bool {
    // Nearly every name ends here.
    if !matches!(name.first(), Some(b'x' | b'f' | b'X' | b'F')) {
        return false;
    }
    let prefix = b"x-forwarded-";
    same(name, b"forwarded")
        || same(name, b"x-real-ip")
        || name.get(..prefix.len()).is_some_and(|start| same(start, prefix))
}

/// Whether a header claims that somebody has verified the client's certificate.
fn speaks_of_certificate(name: &[u8]) -> bool {
    same(name, CLIENT_CERTIFICATE.as_str().as_bytes())
}

/// Whether two names are one to somebody: letters have no case, and `_` may stand for `-`.
fn same(name: &[u8], wanted: &[u8]) -> bool {
    name.len() == wanted.len()
        && name
            .iter()
            .zip(wanted)
            .all(|(a, b)| a.eq_ignore_ascii_case(b) || (*a == b'_' && *b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::identity::Identity;
    use proptest::prelude::*;

    fn trust(told_by: ToldBy) -> Trust {
        Trust {
            proxies: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
            told_by,
        }
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn client(told_by: ToldBy, peer: &str, lines: &[(&'static str, &str)]) -> String {
        let peer = Some(peer.parse().unwrap());
        let client = Client::of(&trust(told_by), peer, &headers(lines));
        client.address.unwrap().to_string()
    }

    #[test]
    fn a_peer_that_is_not_trusted_is_the_client_whatever_it_says() {
        let lines = [("x-forwarded-for", "1.1.1.1"), ("forwarded", "for=2.2.2.2")];
        for told_by in [ToldBy::XForwardedFor, ToldBy::Forwarded, ToldBy::Nothing] {
            assert_eq!(client(told_by, "9.9.9.9", &lines), "9.9.9.9");
        }
    }

    #[test]
    fn behind_trusted_proxies_the_right_most_stranger_is_the_client() {
        for (list, expected) in [
            ("8.8.8.8", "8.8.8.8"),
            ("1.1.1.1, 8.8.8.8", "8.8.8.8"),
            ("1.1.1.1,8.8.8.8 , 10.2.2.2,10.3.3.3", "8.8.8.8"),
            ("10.2.2.2, 10.3.3.3", "10.2.2.2"),
            ("8.8.8.8:4711", "8.8.8.8"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("::ffff:8.8.8.8, ::ffff:10.1.1.1", "8.8.8.8"),
            // Whoever wrote what is no address is the last one known.
            ("8.8.8.8, unknown", "10.0.0.1"),
            ("8.8.8.8, , 10.2.2.2", "10.2.2.2"),
            ("", "10.0.0.1"),
        ] {
            let lines = [("x-forwarded-for", list), ("forwarded", "for=7.7.7.7")];
            assert_eq!(
                client(ToldBy::XForwardedFor, "10.0.0.1", &lines),
                expected,
                "{list}"
            );
        }
    }

    #[test]
    fn several_lines_are_one_list() {
        let lines = [
            ("x-forwarded-for", "1.1.1.1, 8.8.8.8"),
            ("x-forwarded-for", "10.2.2.2"),
        ];
        assert_eq!(client(ToldBy::XForwardedFor, "10.0.0.1", &lines), "8.8.8.8");
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_has_it() {
        for (list, expected) in [
            ("for=8.8.8.8;proto=https", "8.8.8.8"),
            ("for=1.1.1.1, For=\"[2001:db8::1]:47\";by=x", "2001:db8::1"),
            ("for=8.8.8.8, for=_hidden", "10.0.0.1"),
            ("for=8.8.8.8, proto=http", "10.0.0.1"),
            ("for=\"[fd00::1]\", for=10.2.2.2", "fd00::1"),
        ] {
            assert_eq!(
                client(ToldBy::Forwarded, "10.0.0.1", &[("forwarded", list)]),
                expected,
                "{list}"
            );
        }
    }

    fn told(told_by: ToldBy, peer: &str, lines: &[(&'static str, &str)]) -> HeaderMap {
        let headers = headers(lines);
        let client = Client::of(&trust(told_by), Some(peer.parse().unwrap()), &headers);
        let mut sent = headers.clone();
        client.tell(&mut sent, &headers);
        sent
    }

    const CLAIMS: [(&str, &str); 8] = [
        ("host", "a.example"),
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-prefix", "/evil"),
        ("x_forwarded_for", "1.1.1.1"),
        ("x-real-ip", "1.1.1.1"),
        ("forwarded", "for=1.1.1.1"),
    ];

    #[test]
    fn what_a_stranger_claims_is_replaced_and_its_other_spellings_are_taken_out() {
        let sent = told(ToldBy::XForwardedFor, "9.9.9.9", &CLAIMS);
        assert_eq!(sent["x-forwarded-for"], "9.9.9.9");
        assert_eq!(sent["x-forwarded-proto"], "http");
        assert_eq!(sent["x-forwarded-host"], "a.example");
        assert_eq!(sent.len(), 4, "{sent:?}");

        let sent = told(ToldBy::Forwarded, "2001:db8::9", &CLAIMS);
        assert_eq!(
            sent["forwarded"],
            "for=\"[2001:db8::9]\";proto=http;host=\"a.example\""
        );
        assert_eq!(sent.len(), 2, "{sent:?}");
    }

    #[test]
    fn what_a_trusted_proxy_says_is_kept_and_its_own_address_is_added() {
        let sent = told(ToldBy::XForwardedFor, "10.0.0.1", &CLAIMS);
        assert_eq!(sent["x-forwarded-for"], "1.1.1.1, 10.0.0.1");
        assert_eq!(sent["x-forwarded-proto"], "https");
        assert_eq!(sent["x-forwarded-host"], "evil.example");

        let sent = told(ToldBy::Forwarded, "10.0.0.1", &CLAIMS);
        assert_eq!(
            sent["forwarded"],
            "for=1.1.1.1, for=10.0.0.1;proto=http;host=\"a.example\""
        );
    }

    fn over_tls(told_by: ToldBy, peer: &str, certificate: Option<&'static str>) -> (HeaderMap, String) {
        let claims = headers(&[
            ("host", "a.example"),
            ("x-forwarded-client-cert", "Hash=forged"),
            ("x_forwarded_client_cert", "Hash=forged"),
        ]);
        let agreed = Agreed {
            identity: certificate.map(|told| {
                Box::new(Identity {
                    told: HeaderValue::from_static(told),
                    subject: String::new(),
                    uris: Vec::new(),
                    hosts: Vec::new(),
                })
            }),
            ..Agreed::anonymous()
        };
        let peer = Peer {
            address: Some(peer.parse().unwrap()),
            tls: Some(&agreed),
        };
        let client = Client::behind(&trust(told_by), peer, &claims);
        let mut sent = claims.clone();
        client.tell(&mut sent, &claims);
        let mut lines = Vec::new();
        for (name, value) in claims
            .iter()
            .filter(|(name, _)| !client.replaces(name.as_str().as_bytes()))
        {
            lines.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        client.write_lines((&claims).into(), &mut lines);
        (sent, String::from_utf8(lines).unwrap())
    }

    #[test]
    fn nobody_can_claim_a_certificate_that_he_has_not_proven() {
        for told_by in [ToldBy::XForwardedFor, ToldBy::Forwarded, ToldBy::Nothing] {
            let (sent, lines) = over_tls(told_by, "9.9.9.9", None);
            let claims = sent.keys().any(|name| name.as_str().ends_with("cert"));
            assert!(
                !claims && !lines.contains("forged"),
                "{told_by:?}: {sent:?}\n{lines}"
            );
            for peer in ["9.9.9.9", "10.0.0.1"] {
                let (sent, lines) = over_tls(told_by, peer, Some("Hash=proven"));
                assert_eq!(sent["x-forwarded-client-cert"], "Hash=proven");
                let all: Vec<_> = sent
                    .keys()
                    .filter(|name| name.as_str().ends_with("cert"))
                    .collect();
                assert_eq!(all.len(), 1, "{all:?}");
                assert_eq!(
                    lines.matches("client-cert: Hash=proven\r\n").count(),
                    1,
                    "{lines}"
                );
                assert!(!lines.contains("forged"), "{lines}");
            }
            // The proxy before has verified it, and says so.
            let (sent, lines) = over_tls(told_by, "10.0.0.1", None);
            assert_eq!(sent["x-forwarded-client-cert"], "Hash=forged");
            assert!(lines.contains("x-forwarded-client-cert: Hash=forged"), "{lines}");
        }
    }

    #[test]
    fn over_tls_the_scheme_is_https_unless_a_trusted_proxy_says_otherwise() {
        assert_eq!(
            over_tls(ToldBy::XForwardedFor, "9.9.9.9", None).0["x-forwarded-proto"],
            "https"
        );
        let agreed = Agreed::anonymous();
        for (peer, scheme) in [("9.9.9.9", "https"), ("10.0.0.1", "http")] {
            let peer = Peer {
                address: Some(peer.parse().unwrap()),
                tls: Some(&agreed),
            };
            let lines = headers(&[("x-forwarded-proto", "http")]);
            assert_eq!(
                Client::behind(&trust(ToldBy::XForwardedFor), peer, &lines).scheme(),
                scheme
            );
        }
    }

    #[test]
    fn where_nothing_is_told_everything_passes() {
        assert_eq!(told(ToldBy::Nothing, "9.9.9.9", &CLAIMS), headers(&CLAIMS));
    }

    proptest! {
        #[test]
        fn an_address_is_written_as_everybody_writes_it(v4: [u8; 4], v6: [u16; 8]) {
            for address in [IpAddr::from(v4), IpAddr::from(v6)] {
                prop_assert_eq!(written(address).to_string(), address.to_string());
            }
        }

        #[test]
        fn no_list_makes_a_stranger_somebody_else(list in "[0-9a-f.:,\\[\\]\" =;for]{0,60}") {
            for told_by in [ToldBy::XForwardedFor, ToldBy::Forwarded] {
                let lines = [("x-forwarded-for", list.as_str()), ("forwarded", list.as_str())];
                prop_assert_eq!(client(told_by, "9.9.9.9", &lines), "9.9.9.9");
                // And behind a proxy of ours, what is left of the right-most stranger decides nothing.
                let list = format!("{list}, 8.8.8.8");
                let one = [("x-forwarded-for", list.as_str())];
                prop_assert_eq!(client(ToldBy::XForwardedFor, "10.0.0.1", &one), "8.8.8.8");
            }
        }
    }
}
