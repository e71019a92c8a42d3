//! Which clients a route lets in by the certificate that they have proven to have.
//!
//! A certificate belongs to a connection and a route to a request, so a connection may come to a route whose certificate
//! it never showed. It cannot be asked for one any more: HTTP/2 has no renegotiation and no authentication after the
//! handshake (RFC 9113 section 9.2.3), and who speaks HTTP/1.1 hardly ever knows what to do when he is asked. So:
//!
//! - He asked for another name when he connected than the request is for, as browsers do that use one connection for
//!   all names of a certificate (RFC 9113 section 9.1.1): 421 has him connect again, under this name, where he is asked anew
//!   and may choose another certificate (RFC 9110 section 15.5.20).
//! - Else 403. Not 401: that has to name a scheme of HTTP by which he could try again (RFC 9110 section 15.5.2), and
//!   there is none for certificates.
//!
//! What counts is what this proxy has verified. The word of a trusted proxy goes on to endpoints, and opens no route.

use crate::request::RequestView;
use crate::route::plain_host;
use crate::tls::Agreed;
use crate::tls::identity::Identity;

use super::{Denial, Reason};

/// Most names of one kind that a route lets in. They are walked; more are better said by an authority or a prefix.
pub const NAMES_MAX: usize = 256;

/// Whose certificates are let in. Where no name is listed, everybody's who has one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// URIs, or with `*` at their end all that begin so.
    pub uris: Vec<String>,
    /// DNS names, or with `*.` all below a domain.
    pub hosts: Vec<String>,
    /// Subjects, as RFC 4514 writes them.
    pub subjects: Vec<String>,
}

impl Certificate {
    /// Why a request is not let in; `None` where it is.
    pub fn denies(&self, view: &RequestView<'_>) -> Option<Denial> {
        let reason = match view.tls.and_then(|agreed| agreed.identity.as_deref()) {
            Some(identity) if self.lets_in(identity) => return None,
            Some(_) => Reason::CertificateDenied,
            None => Reason::CertificateMissing,
        };
        Some(Denial::of(if is_misdirected(view) {
            Reason::Misdirected
        } else {
            reason
        }))
    }

    /// Whether one of its names is listed.
    fn lets_in(&self, identity: &Identity) -> bool {
        let is_any = self.uris.is_empty() && self.hosts.is_empty() && self.subjects.is_empty();
        let has_uri = |pattern: &String| identity.uris.iter().any(|uri| is_uri(pattern, uri));
        let has_host = |pattern: &String| identity.hosts.iter().any(|host| is_host(pattern, host));
        is_any
            || self.uris.iter().any(has_uri)
            || self.hosts.iter().any(has_host)
            || (!identity.subject.is_empty() && self.subjects.contains(&identity.subject))
    }

    /// In a line.
    pub fn in_words(&self) -> String {
        let names = [&self.uris, &self.hosts, &self.subjects];
        let names: Vec<&str> = names.into_iter().flatten().map(String::as_str).collect();
        match names.as_slice() {
            [] => "asks for a client certificate".to_owned(),
            names => format!("asks for a client certificate of {}", names.join(" or ")),
        }
    }
}

fn is_uri(pattern: &str, uri: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => uri.starts_with(beginning),
        None => uri == pattern,
    }
}

/// A certificate that bears a wildcard itself is nobody in particular, and is in no list.
fn is_host(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(domain) => host.ends_with(domain) && !host.starts_with('*'),
        None => host == pattern,
    }
}

/// Whether the connection was made for another name than the request is for.
fn is_misdirected(view: &RequestView<'_>) -> bool {
    let asked_for = view.tls.and_then(|agreed: &Agreed| agreed.server_name.as_deref());
    asked_for.is_some_and(|name| *plain_host(view.host) != *name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};

    fn identity(subject: &str, uris: &[&str], hosts: &[&str]) -> Identity {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Identity {
            told: HeaderValue::from_static("Hash=0"),
            subject: subject.to_owned(),
            uris: owned(uris),
            hosts: owned(hosts),
        }
    }

    fn listed(uris: &[&str], hosts: &[&str], subjects: &[&str]) -> Certificate {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Certificate {
            uris: owned(uris),
            hosts: owned(hosts),
            subjects: owned(subjects),
        }
    }

    #[test]
    fn one_name_of_any_kind_is_enough_and_none_is_guessed() {
        let till = identity(
            "CN=till-7,O=Shop",
            &["spiffe://shop.example/till/7"],
            &["till-7.clients.example"],
        );
        for (rule, expected) in [
            (listed(&[], &[], &[]), true),
            (listed(&["spiffe://shop.example/till/7"], &[], &[]), true),
            (listed(&["spiffe://shop.example/till/*"], &[], &[]), true),
            (listed(&["spiffe://shop.example/till"], &[], &[]), false),
            (listed(&["spiffe://shop.example/admin/*"], &[], &[]), false),
            (listed(&[], &["till-7.clients.example"], &[]), true),
            (listed(&[], &["*.clients.example"], &[]), true),
            (listed(&[], &["*.example.clients"], &[]), false),
            (listed(&[], &["clients.example"], &[]), false),
            (listed(&[], &[], &["CN=till-7,O=Shop"]), true),
            (listed(&[], &[], &["CN=till-7"]), false),
            (
                listed(&["spiffe://other/*"], &["other"], &["CN=till-7,O=Shop"]),
                true,
            ),
        ] {
            assert_eq!(rule.lets_in(&till), expected, "{}", rule.in_words());
        }
        let nobody = identity("", &[], &["*.clients.example"]);
        assert!(!listed(&[], &["*.clients.example"], &[""]).lets_in(&nobody));
    }

    #[test]
    fn who_connected_for_another_name_is_sent_to_connect_again_and_everybody_else_is_refused() {
        let rule = listed(&[], &["till-7.example"], &[]);
        let headers = HeaderMap::new();
        let agreed = |name: Option<&str>, own: Option<Identity>| Agreed {
            identity: own.map(Box::new),
            server_name: name.map(Into::into),
            ..Agreed::anonymous()
        };
        let known = || Some(identity("", &[], &["till-7.example"]));
        let other = || Some(identity("", &[], &["till-8.example"]));
        for (tls, expected) in [
            (Some(agreed(Some("api.example"), known())), None),
            (Some(agreed(Some("www.example"), known())), None),
            (
                Some(agreed(Some("api.example"), other())),
                Some(Reason::CertificateDenied),
            ),
            (
                Some(agreed(Some("api.example"), None)),
                Some(Reason::CertificateMissing),
            ),
            (Some(agreed(None, None)), Some(Reason::CertificateMissing)),
            (Some(agreed(Some("www.example"), None)), Some(Reason::Misdirected)),
            (
                Some(agreed(Some("www.example"), other())),
                Some(Reason::Misdirected),
            ),
            (None, Some(Reason::CertificateMissing)),
        ] {
            let view = RequestView {
                host: "API.example.:8443",
                tls: tls.as_ref(),
                ..RequestView::of("GET", &headers)
            };
            assert_eq!(
                rule.denies(&view).map(|denial| denial.reason),
                expected,
                "{tls:?}"
            );
        }
    }
}
