//! The subject of a certificate as a text that no other subject has: as RFC 4514 says, and letter for letter as
//! `openssl x509 -nameopt RFC2253` writes it, for that is where operators copy it from.
//!
//! RFC 4514 leaves open how most attributes are called, and a name by itself is no standard's: OpenSSL's are in the table.
//! What is in no table, or no text, is written as its type's number and its bytes, which cannot be taken for a text: that
//! begins with no `#` unescaped.

use std::fmt::Write as _;

use x509_parser::der_parser::asn1_rs::{Any, Tag, ToDer as _};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// What OpenSSL calls attributes: those of X.520, of PKCS #9 as far as they are of names, of RFC 4524, and of extended
/// validation. Source: OpenSSL, `crypto/objects/objects.txt`.
const NAMES: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.13", "description"),
    ("2.5.4.14", "searchGuide"),
    ("2.5.4.15", "businessCategory"),
    ("2.5.4.16", "postalAddress"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.18", "postOfficeBox"),
    ("2.5.4.19", "physicalDeliveryOfficeName"),
    ("2.5.4.20", "telephoneNumber"),
    ("2.5.4.21", "telexNumber"),
    ("2.5.4.22", "teletexTerminalIdentifier"),
    ("2.5.4.23", "facsimileTelephoneNumber"),
    ("2.5.4.24", "x121Address"),
    ("2.5.4.25", "internationaliSDNNumber"),
    ("2.5.4.26", "registeredAddress"),
    ("2.5.4.27", "destinationIndicator"),
    ("2.5.4.28", "preferredDeliveryMethod"),
    ("2.5.4.29", "presentationAddress"),
    ("2.5.4.30", "supportedApplicationContext"),
    ("2.5.4.31", "member"),
    ("2.5.4.32", "owner"),
    ("2.5.4.33", "roleOccupant"),
    ("2.5.4.34", "seeAlso"),
    ("2.5.4.35", "userPassword"),
    ("2.5.4.36", "userCertificate"),
    ("2.5.4.37", "cACertificate"),
    ("2.5.4.38", "authorityRevocationList"),
    ("2.5.4.39", "certificateRevocationList"),
    ("2.5.4.40", "crossCertificatePair"),
    ("2.5.4.41", "name"),
    ("2.5.4.42", "GN"),
    ("2.5.4.43", "initials"),
    ("2.5.4.44", "generationQualifier"),
    ("2.5.4.45", "x500UniqueIdentifier"),
    ("2.5.4.46", "dnQualifier"),
    ("2.5.4.47", "enhancedSearchGuide"),
    ("2.5.4.48", "protocolInformation"),
    ("2.5.4.49", "distinguishedName"),
    ("2.5.4.50", "uniqueMember"),
    ("2.5.4.51", "houseIdentifier"),
    ("2.5.4.52", "supportedAlgorithms"),
    ("2.5.4.53", "deltaRevocationList"),
    ("2.5.4.54", "dmdName"),
    ("2.5.4.65", "pseudonym"),
    ("2.5.4.72", "role"),
    ("2.5.4.97", "organizationIdentifier"),
    ("2.5.4.98", "c3"),
    ("2.5.4.99", "n3"),
    ("2.5.4.100", "dnsName"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
    ("1.2.840.113549.1.9.2", "unstructuredName"),
    ("1.2.840.113549.1.9.7", "challengePassword"),
    ("1.2.840.113549.1.9.8", "unstructuredAddress"),
    ("1.2.840.113549.1.9.20", "friendlyName"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.2", "textEncodedORAddress"),
    ("0.9.2342.19200300.100.1.3", "mail"),
    ("0.9.2342.19200300.100.1.4", "info"),
    ("0.9.2342.19200300.100.1.5", "favouriteDrink"),
    ("0.9.2342.19200300.100.1.6", "roomNumber"),
    ("0.9.2342.19200300.100.1.7", "photo"),
    ("0.9.2342.19200300.100.1.8", "userClass"),
    ("0.9.2342.19200300.100.1.9", "host"),
    ("0.9.2342.19200300.100.1.10", "manager"),
    ("0.9.2342.19200300.100.1.11", "documentIdentifier"),
    ("0.9.2342.19200300.100.1.12", "documentTitle"),
    ("0.9.2342.19200300.100.1.13", "documentVersion"),
    ("0.9.2342.19200300.100.1.14", "documentAuthor"),
    ("0.9.2342.19200300.100.1.15", "documentLocation"),
    ("0.9.2342.19200300.100.1.20", "homeTelephoneNumber"),
    ("0.9.2342.19200300.100.1.21", "secretary"),
    ("0.9.2342.19200300.100.1.22", "otherMailbox"),
    ("0.9.2342.19200300.100.1.23", "lastModifiedTime"),
    ("0.9.2342.19200300.100.1.24", "lastModifiedBy"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.26", "aRecord"),
    ("0.9.2342.19200300.100.1.27", "pilotAttributeType27"),
    ("0.9.2342.19200300.100.1.28", "mXRecord"),
    ("0.9.2342.19200300.100.1.29", "nSRecord"),
    ("0.9.2342.19200300.100.1.30", "sOARecord"),
    ("0.9.2342.19200300.100.1.31", "cNAMERecord"),
    ("0.9.2342.19200300.100.1.37", "associatedDomain"),
    ("0.9.2342.19200300.100.1.38", "associatedName"),
    ("0.9.2342.19200300.100.1.39", "homePostalAddress"),
    ("0.9.2342.19200300.100.1.40", "personalTitle"),
    ("0.9.2342.19200300.100.1.41", "mobileTelephoneNumber"),
    ("0.9.2342.19200300.100.1.42", "pagerTelephoneNumber"),
    ("0.9.2342.19200300.100.1.43", "friendlyCountryName"),
    ("0.9.2342.19200300.100.1.44", "uid"),
    ("0.9.2342.19200300.100.1.45", "organizationalStatus"),
    ("0.9.2342.19200300.100.1.46", "janetMailbox"),
    ("0.9.2342.19200300.100.1.47", "mailPreferenceOption"),
    ("0.9.2342.19200300.100.1.48", "buildingName"),
    ("0.9.2342.19200300.100.1.49", "dSAQuality"),
    ("0.9.2342.19200300.100.1.50", "singleLevelQuality"),
    ("0.9.2342.19200300.100.1.51", "subtreeMinimumQuality"),
    ("0.9.2342.19200300.100.1.52", "subtreeMaximumQuality"),
    ("0.9.2342.19200300.100.1.53", "personalSignature"),
    ("0.9.2342.19200300.100.1.54", "dITRedirect"),
    ("0.9.2342.19200300.100.1.55", "audio"),
    ("0.9.2342.19200300.100.1.56", "documentPublisher"),
    ("1.3.6.1.4.1.311.60.2.1.1", "jurisdictionL"),
    ("1.3.6.1.4.1.311.60.2.1.2", "jurisdictionST"),
    ("1.3.6.1.4.1.311.60.2.1.3", "jurisdictionC"),
];

/// The last part first. Source: RFC 4514 section 2.
pub(super) fn written(name: &X509Name<'_>) -> String {
    let parts: Vec<_> = name.iter().collect();
    let parts = parts.into_iter().rev().map(|part| {
        let attributes: Vec<_> = part.iter().collect();
        let attributes = attributes.into_iter().rev().map(attribute);
        attributes.collect::<Vec<_>>().join("+")
    });
    parts.collect::<Vec<_>>().join(",")
}

fn attribute(of: &AttributeTypeAndValue<'_>) -> String {
    let number = of.attr_type().to_id_string();
    let name = NAMES.iter().find(|(known, _)| *known == number);
    match (name, text(of.attr_value())) {
        (Some((_, name)), Some(text)) => format!("{name}={}", escaped(&text)),
        (name, _) => {
            let mut value = format!("{}=#", name.map_or(number.as_str(), |(_, name)| name));
            for byte in of.attr_value().to_der_vec().unwrap_or_default() {
                // Writing to a string cannot fail.
                let _ = write!(value, "{byte:02X}");
            }
            value
        }
    }
}

/// The text of a value; `None` where it is none. What X.520 writes in T.61 is Latin-1 everywhere but in its standard.
fn text(value: &Any<'_>) -> Option<String> {
    let wide = |bytes: &[u8]| {
        let number = bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u32::from(*byte));
        char::from_u32(number)
    };
    let bytes = value.data;
    if !value.header.is_universal() || !value.header.is_primitive() {
        return None;
    }
    match value.tag() {
        Tag::Utf8String => String::from_utf8(bytes.to_vec()).ok(),
        Tag::NumericString | Tag::PrintableString | Tag::T61String | Tag::Ia5String => {
            Some(bytes.iter().copied().map(char::from).collect())
        }
        Tag::BmpString if bytes.len().is_multiple_of(2) => bytes.chunks(2).map(wide).collect(),
        Tag::UniversalString if bytes.len().is_multiple_of(4) => bytes.chunks(4).map(wide).collect(),
        _ => None,
    }
}

/// A value with what could be read as anything else escaped; here also a `#` that is all of it, which OpenSSL forgets.
/// Source: RFC 4514 section 2.4.
fn escaped(text: &str) -> String {
    let mut value = String::with_capacity(text.len());
    let last = text.len().saturating_sub(1);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => value.extend(['\\', char::from(byte)]),
            b'#' if at == 0 => value.push_str("\\#"),
            b' ' if at == 0 || at == last => value.push_str("\\ "),
            b' '..=b'~' => value.push(char::from(byte)),
            _ => {
                let _ = write!(value, "\\{byte:02X}");
            }
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::super::super::files::parse;
    use super::*;
    use rustls::pki_types::CertificateDer;

    const INTEGER: u8 = 0x02;
    const NULL: u8 = 0x05;
    const OBJECT: u8 = 0x06;
    const UTF8: u8 = 0x0c;
    const SEQUENCE: u8 = 0x30;
    const SET: u8 = 0x31;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let [.., high, low] = content.len().to_be_bytes();
        let length: &[u8] = match content.len() {
            ..0x80 => &[low],
            0x80.. => &[0x82, high, low],
        };
        [&[tag], length, content].concat()
    }

    fn object(number: &str) -> Vec<u8> {
        let mut arcs = number.split('.').map(|arc| arc.parse::<u32>().unwrap());
        let first = arcs.next().unwrap() * 40 + arcs.next().unwrap();
        let mut bytes = Vec::new();
        for arc in [first].into_iter().chain(arcs) {
            let begun = bytes.len();
            bytes.push((arc & 0x7f) as u8);
            let mut rest = arc >> 7;
            while rest > 0 {
                bytes.insert(begun, 0x80 | (rest & 0x7f) as u8);
                rest >>= 7;
            }
        }
        der(OBJECT, &bytes)
    }

    /// An attribute: the number of its type, the tag of its value, and that.
    type Attribute<'a> = (&'a str, u8, &'a [u8]);

    /// A certificate, signed by nobody, whose subject has these parts.
    fn certificate(parts: &[Vec<Attribute<'_>>]) -> Vec<u8> {
        let attribute =
            |(kind, tag, value): &Attribute<'_>| der(SEQUENCE, &[object(kind), der(*tag, value)].concat());
        let part = |part: &Vec<Attribute<'_>>| {
            let mut attributes: Vec<_> = part.iter().map(attribute).collect();
            attributes.sort();
            der(SET, &attributes.concat())
        };
        let subject = der(SEQUENCE, &parts.iter().flat_map(part).collect::<Vec<_>>());
        let algorithm = der(SEQUENCE, &[object("1.3.101.112")].concat());
        let nothing = der(SEQUENCE, &[]);
        let time = der(0x17, b"260101000000Z");
        let key = der(SEQUENCE, &[algorithm.clone(), der(0x03, &[0; 33])].concat());
        let signed = [
            der(0xa0, &der(INTEGER, &[2])),
            der(INTEGER, &[1]),
            algorithm.clone(),
            nothing,
            der(SEQUENCE, &[time.clone(), time].concat()),
            subject,
            key,
        ];
        let signed = der(SEQUENCE, &signed.concat());
        der(SEQUENCE, &[signed, algorithm, der(0x03, &[0; 65])].concat())
    }

    fn ours(certificate: &[u8]) -> String {
        let certificate = CertificateDer::from(certificate);
        written(parse(&certificate).expect("a certificate").subject())
    }

    fn openssls(certificate: &[u8]) -> String {
        let mut openssl = Command::new("openssl")
            .args([
                "x509", "-inform", "DER", "-noout", "-subject", "-nameopt", "RFC2253",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("openssl is installed");
        openssl.stdin.take().unwrap().write_all(certificate).unwrap();
        let output = openssl.wait_with_output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        said.trim_end_matches('\n')
            .strip_prefix("subject=")
            .expect("a subject")
            .to_owned()
    }

    #[test]
    fn every_attribute_is_called_as_openssl_calls_it_and_unknown_ones_by_their_number() {
        let unknown = "1.3.6.1.4.1.99999.1";
        let kinds = NAMES.iter().map(|(number, _)| *number).chain([unknown]);
        let parts: Vec<_> = kinds.map(|kind| vec![(kind, UTF8, &b"till-7"[..])]).collect();
        let made = certificate(&parts);
        let said = ours(&made);
        assert!(
            said.starts_with("1.3.6.1.4.1.99999.1=#0C0674696C6C2D37,"),
            "{said}"
        );
        assert_eq!(said, openssls(&made));
        let mail = certificate(&[
            vec![("2.5.4.10", UTF8, b"Shop")],
            vec![
                ("1.2.840.113549.1.9.1", 0x16, b"till@shop.example"),
                ("2.5.4.3", UTF8, b"till"),
                ("0.9.2342.19200300.100.1.1", UTF8, b"7"),
            ],
        ]);
        let said = ours(&mail);
        assert_eq!(said, openssls(&mail));
        for part in ["emailAddress=till@shop.example", "CN=till", "UID=7"] {
            assert!(said.contains(part), "{said}");
        }
        assert!(
            said.ends_with(",O=Shop") && said.matches('+').count() == 2,
            "{said}"
        );
    }

    #[test]
    fn every_kind_of_value_is_written_as_openssl_writes_it() {
        let wide = |width: usize, text: &str| -> Vec<u8> {
            let characters = text.chars().map(|character| u32::from(character).to_be_bytes());
            characters.flat_map(|bytes| bytes[4 - width..].to_vec()).collect()
        };
        let odd = " #a ü+\"\\<>;=\n\u{7f} ";
        let latin: Vec<u8> = odd
            .chars()
            .map(|character| u8::try_from(character).unwrap())
            .collect();
        let (two, four) = (wide(2, odd), wide(4, odd));
        let mut parts: Vec<Vec<Attribute<'_>>> = vec![
            vec![("2.5.4.3", UTF8, odd.as_bytes())],
            vec![("2.5.4.3", UTF8, b"#a")],
            vec![("2.5.4.3", UTF8, b" ")],
            vec![("2.5.4.3", UTF8, b"")],
            vec![("2.5.4.3", 0x1e, &two)],
            vec![("2.5.4.3", 0x1c, &four)],
            vec![("2.5.4.3", SEQUENCE, &[NULL, 0])],
            vec![("2.5.4.45", 0x03, &[0, 0xa5])],
            vec![("1.3.6.1.4.1.99999.1", 0x1e, &two)],
        ];
        // Strings of one byte a character: numeric, printable, T.61, IA5.
        for tag in [0x12, 0x13, 0x14, 0x16] {
            parts.push(vec![("2.5.4.3", tag, &latin)]);
        }
        for part in parts {
            let made = certificate(std::slice::from_ref(&part));
            assert_eq!(ours(&made), openssls(&made), "{part:?}");
        }
        // What OpenSSL does not read at all cannot pose as a text here.
        for (tag, value) in [
            (UTF8, &[0xff][..]),
            (0x1e, &[0]),
            (0x1e, &[0xd8, 0]),
            (0x1c, &[0, 0x11, 0, 0]),
            (NULL, &[]),
            (0x1a, b"till"),
            (0x8c, b"till"),
        ] {
            let said = ours(&certificate(&[vec![("2.5.4.3", tag, value)]]));
            assert!(said.starts_with("CN=#"), "{said}");
        }
    }
}
