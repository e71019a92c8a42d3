//! Why a client is refused, and what he is told: in one table.

use std::fmt;

use bytes::Bytes;

use crate::policy::pages::Shown;

/// Declares the refusals: name, status (0 where nothing can be said any more), label, and what the client is told.
macro_rules! refusals {
    ($($name:ident $status:literal $label:literal: $sentence:literal;)+) => {
        /// Why a request, a body or a connection is refused. A closed set: it labels `foreshade_refused_total`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Refusal {
            $(#[doc = concat!("So that the client is told: ", $sentence, ".")] $name,)+
        }

        impl Refusal {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            fn told(self) -> (u16, &'static str, &'static str) {
                match self {
                    $(Self::$name => ($status, $label, $sentence),)+
                }
            }
        }
    };
}

refusals! {
    EmptyLines 400 "empty_lines": "there is more than one empty line before the request";
    RequestLine 400 "request_line": "the request line is not a method, a target and a version";
    Method 400 "method": "the method is no token";
    Target 400 "target": "the request target is malformed";
    Version 505 "version": "only HTTP/1.1 and HTTP/1.0 are spoken here";
    ControlByte 400 "control_byte": "there is a control character in the head";
    BareCr 400 "bare_cr": "there is a CR without LF in the head";
    BareLf 400 "bare_lf": "there is a line that ends with LF only";
    Folded 400 "folded": "a header continues on a second line";
    FieldName 400 "field_name": "a header line does not begin with a name and a colon";
    LookAlike 400 "look_alike": "a header only looks like one that frames the body";
    HostMissing 400 "host_missing": "there is no Host header";
    HostRepeated 400 "host_repeated": "there is more than one Host header";
    HostMalformed 400 "host_malformed": "the Host header is malformed";
    HostConflict 400 "host_conflict": "the Host header and the target name different hosts";
    LengthRepeated 400 "length_repeated": "there is more than one Content-Length";
    LengthMalformed 400 "length_malformed": "the Content-Length is malformed";
    CodingRepeated 400 "coding_repeated": "there is more than one Transfer-Encoding";
    CodingUnknown 400 "coding_unknown": "the Transfer-Encoding is not just chunked";
    CodingAndLength 400 "coding_and_length": "there are both Transfer-Encoding and Content-Length";
    CodingInOldVersion 400 "coding_in_old_version": "HTTP/1.0 has no Transfer-Encoding";
    ConnectionNames 400 "connection_names": "Connection names a header that is not its to name";
    UpgradeWithBody 400 "upgrade_with_body": "a request that upgrades has no body here";
    ChunkSize 400 "chunk_size": "the size of a chunk is malformed";
    ChunkExtension 400 "chunk_extension": "an extension of a chunk is malformed or too long";
    ChunkEnd 400 "chunk_end": "a chunk does not end where its size says";
    Base64 400 "base64": "the body is not the Base64 that its type says";
    Trailer 400 "trailer": "the trailers are malformed or too long";
    PathEscape 400 "path_escape": "the path has a percent sign without two digits";
    PathNul 400 "path_nul": "the path has a NUL";
    PathEncodedSlash 400 "path_encoded_slash": "the path has an escaped slash";
    PathDots 400 "path_dots": "the path has dots with parameters";
    PathRewrite 400 "path_rewrite": "what is asked for instead would be no path";
    ConnectionField 400 "connection_field": "a header is about the connection, which HTTP/2 has none for";
    FieldValue 400 "field_value": "a header's value begins or ends with a space";
    PlainHttp 400 "plain_http": "this port speaks TLS, so ask for https";
    MethodRefused 405 "method_refused": "this method is not served here";
    HeadSlow 408 "head_slow": "the head did not arrive in time";
    BodySlow 408 "body_slow": "the body arrives too slowly";
    BodyTooLarge 413 "body_too_large": "the body is too large";
    TargetTooLong 414 "target_too_long": "the request target is too long";
    Expectation 417 "expectation": "nothing but 100-continue can be expected here";
    HeadTooLarge 431 "head_too_large": "the head is too large";
    FieldsTooMany 431 "fields_too_many": "there are too many headers";
    ConnectionsTooMany 503 "connections_too_many": "there are too many connections";
    ClientConnectionsTooMany 429 "client_connections_too_many": "there are too many connections from this address";
    Http2Protocol 0 "http2_protocol": "the connection breaks the rules of HTTP/2";
    Http2Flood 0 "http2_flood": "the connection asks for much and wants little of it";
    AnswerSlow 0 "answer_slow": "the answer is taken too slowly";
    ProxyUntrusted 0 "proxy_untrusted": "only known balancers may connect here";
    ProxyHeader 0 "proxy_header": "there is no PROXY header, or a malformed one";
    ProxyChecksum 0 "proxy_checksum": "the checksum of the PROXY header is wrong";
    ProxyTooLong 0 "proxy_too_long": "the PROXY header is too long";
    ProxySlow 0 "proxy_slow": "the PROXY header did not arrive in time";
    HelloMalformed 0 "hello_malformed": "this is no sound beginning of TLS";
    HelloTooLong 0 "hello_too_long": "the beginning of TLS is too long";
    HelloSlow 0 "hello_slow": "the beginning of TLS did not arrive in time";
    NameMissing 0 "name_missing": "no name of a server is asked for";
    NameUnknown 0 "name_unknown": "the server that is asked for is not served here";
    DatagramTooLong 0 "datagram_too_long": "the datagram is too long for the way to the endpoint";
    DatagramUnsent 0 "datagram_unsent": "there is no socket, port or room left to send the datagram on";
    DatagramLooped 0 "datagram_looped": "the datagram claims to come from this proxy";
    AnswerUnsent 0 "answer_unsent": "the answer could not be sent";
    AnswerAmplified 0 "answer_amplified": "the answers are too long for what was asked";
}

impl Refusal {
    /// The status that says it; 0 where nothing can be said any more.
    pub fn status(self) -> u16 {
        self.told().0
    }

    /// The label in metrics.
    pub fn label(self) -> &'static str {
        self.told().1
    }

    /// What the client is told.
    pub fn sentence(self) -> &'static str {
        self.told().2
    }

    /// The whole answer, ready for the wire, with a page or one line, given at `date` (RFC 9110 section 5.6.7). It closes the
    /// connection: where this message ends is not known, or no longer of interest.
    pub fn answer(self, date: &str, page: Option<&Shown>) -> Vec<u8> {
        let (status, _, sentence) = self.told();
        let phrase = match status {
            400 => "Bad Request",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            413 => "Content Too Large",
            414 => "URI Too Long",
            417 => "Expectation Failed",
            429 => "Too Many Requests",
            431 => "Request Header Fields Too Large",
            503 => "Service Unavailable",
            _ => "HTTP Version Not Supported",
        };
        // Source: RFC 9110 section 15.5.6, a 405 names what is allowed.
        let allow = if status == 405 {
            "Allow: DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT\r\n"
        } else {
            ""
        };
        let line = Bytes::from(format!("foreshade: {sentence}\n"));
        let (kind, body) = match page {
            Some(page) => (page.content_type.as_bytes(), &page.body),
            None => (&b"text/plain"[..], &line),
        };
        let head = format!("HTTP/1.1 {status} {phrase}\r\nDate: {date}\r\n{allow}Content-Type: ");
        let framing = format!("\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        [head.as_bytes(), kind, framing.as_bytes(), body].concat()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_refusal_has_a_label_of_its_own_and_a_dated_answer_as_long_as_it_says() {
        let labels: HashSet<_> = Refusal::ALL.iter().map(|r| r.label()).collect();
        assert_eq!(labels.len(), Refusal::ALL.len());
        for refusal in Refusal::ALL.iter().copied() {
            let answer = refusal.answer("Fri, 20 Nov 2026 17:16:11 GMT", None);
            let answer = String::from_utf8(answer).unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(
                head.contains(&format!("Content-Length: {}\r\n", body.len())),
                "{answer}"
            );
            assert!(
                head.contains("\r\nDate: Fri, 20 Nov 2026 17:16:11 GMT\r\n"),
                "{answer}"
            );
            assert!(refusal.status() == 0 || (400..600).contains(&refusal.status()));
        }
    }
}
