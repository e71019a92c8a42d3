//! Who a client is by his certificate: the names that it bears, for routes that ask for some of them, and as endpoints are
//! told.
//!
//! Endpoints are told in `X-Forwarded-Client-Cert`, in Envoy's notation, because that is what frameworks and meshes read
//! already: the certificate's SHA-256, its subject, and its names. Who may write that header is decided where all headers
//! about the client are: see [`crate::client`].
//!
//! A subject is written with everything escaped that could be read as another part ([`subject`]): whoever chooses a part of
//! his own subject must not be able to choose the others.

mod subject;

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderValue;
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

use super::files::parse;

/// Longest value of the header. Names for which there is no room are left out there.
const VALUE_BYTES_MAX: usize = 4 * 1024;

/// Most names of a certificate that are kept for as long as its connection lives; who has more than any service or
/// person needs is not known by the rest.
const NAMES_MAX: usize = 64;

/// What a verified certificate says of its bearer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// As an endpoint is told.
    pub told: HeaderValue,
    /// The subject, as RFC 4514 writes it; empty where there is none.
    pub subject: String,
    /// The URIs that it bears, as SPIFFE ids are.
    pub uris: Vec<String>,
    /// The DNS names that it bears, in lower case.
    pub hosts: Vec<String>,
}

impl Identity {
    /// What a verified certificate says. `None` where it cannot be told, which no certificate comes to.
    pub(super) fn of(der: &CertificateDer<'_>) -> Option<Self> {
        let mut identity = Self {
            told: HeaderValue::from_static(""),
            subject: String::new(),
            uris: Vec::new(),
            hosts: Vec::new(),
        };
        let mut told = "Hash=".to_owned();
        for byte in digest(&SHA256, der).as_ref() {
            // Writing to a string cannot fail.
            let _ = write!(told, "{byte:02x}");
        }
        if let Some(parsed) = parse(der) {
            identity.subject = subject::written(parsed.subject());
            push(&mut told, "Subject", &identity.subject, true);
            let alternatives = parsed.subject_alternative_name().ok().flatten();
            let alternatives = alternatives.iter().flat_map(|names| &names.value.general_names);
            for name in alternatives.take(NAMES_MAX) {
                match name {
                    GeneralName::URI(uri) => {
                        push(&mut told, "URI", uri, false);
                        identity.uris.push((*uri).to_owned());
                    }
                    GeneralName::DNSName(host) => {
                        push(&mut told, "DNS", host, false);
                        identity.hosts.push(host.to_ascii_lowercase());
                    }
                    _ => {}
                }
            }
        }
        identity.told = HeaderValue::try_from(told).ok()?;
        Some(identity)
    }
}

/// Adds a part, quoted where it has to be: an author of certificates must not be able to write parts of his own.
fn push(value: &mut String, key: &str, text: &str, always_quoted: bool) {
    let is_visible = text.bytes().all(|b| matches!(b, b' '..=b'~'));
    if !is_visible || value.len() + key.len() + 2 * text.len() > VALUE_BYTES_MAX {
        return;
    }
    let _ = write!(value, ";{key}=");
    if !always_quoted && !text.contains([',', ';', '=', '"', '\\']) {
        value.push_str(text);
        return;
    }
    value.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            value.push('\\');
        }
        value.push(character);
    }
    value.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::string::Ia5String;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    fn of(parts: &[(DnType, &str)], names: Vec<SanType>) -> Identity {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.subject_alt_names = names;
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Identity::of(certificate.der()).unwrap()
    }

    #[test]
    fn a_subject_is_written_so_that_no_part_of_it_can_pose_as_another() {
        let honest = of(
            &[(DnType::OrganizationName, "Shop"), (DnType::CommonName, "till-7")],
            vec![],
        );
        assert_eq!(honest.subject, "CN=till-7,O=Shop");
        let told = honest.told.to_str().unwrap();
        assert!(told.ends_with(";Subject=\"CN=till-7,O=Shop\""), "{told}");
        let posing = of(&[(DnType::CommonName, "till-7,O=Shop")], vec![]);
        assert_eq!(posing.subject, "CN=till-7\\,O=Shop");
        let odd = of(&[(DnType::CommonName, " #ü+\"\\<>;\n ")], vec![]);
        assert_eq!(odd.subject, "CN=\\ #\\C3\\BC\\+\\\"\\\\\\<\\>\\;\\0A\\ ");
        assert_eq!(of(&[], vec![]).subject, "");
    }

    #[test]
    fn names_are_kept_up_to_a_bound_and_told_up_to_another() {
        let uri = |n: usize| SanType::URI(Ia5String::try_from(format!("spiffe://a.example/{n}")).unwrap());
        let host = SanType::DnsName(Ia5String::try_from("Till-7.Example").unwrap());
        let some = of(&[], vec![uri(0), host]);
        assert_eq!(
            (some.uris, some.hosts),
            (
                vec!["spiffe://a.example/0".to_owned()],
                vec!["till-7.example".to_owned()]
            )
        );
        let many = of(&[], (0..1000).map(uri).collect());
        assert_eq!(many.uris.len(), NAMES_MAX);
        assert!(many.told.len() <= VALUE_BYTES_MAX);
    }
}
