//! Why a client is refused, and what he is told: in one table.

use std::fmt;

/// Why a request, a body or a connection is refused. A closed set: it labels `foreshade_refused_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is explained by its sentence in the table below")]
pub enum Refusal {
    EmptyLines,
    RequestLine,
    Method,
    Target,
    Version,
    ControlByte,
    BareCr,
    BareLf,
    Folded,
    FieldName,
    LookAlike,
    HostMissing,
    HostRepeated,
    HostMalformed,
    HostConflict,
    LengthRepeated,
    LengthMalformed,
    CodingRepeated,
    CodingUnknown,
    CodingAndLength,
    CodingInOldVersion,
    ConnectionNames,
    UpgradeWithBody,
    ChunkSize,
    ChunkExtension,
    ChunkEnd,
    Trailer,
    MethodRefused,
    HeadSlow,
    BodySlow,
    BodyTooLarge,
    TargetTooLong,
    Expectation,
    HeadTooLarge,
    FieldsTooMany,
    ConnectionsTooMany,
    ClientConnectionsTooMany,
    AnswerSlow,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 38] = [
        Self::EmptyLines,
        Self::RequestLine,
        Self::Method,
        Self::Target,
        Self::Version,
        Self::ControlByte,
        Self::BareCr,
        Self::BareLf,
        Self::Folded,
        Self::FieldName,
        Self::LookAlike,
        Self::HostMissing,
        Self::HostRepeated,
        Self::HostMalformed,
        Self::HostConflict,
        Self::LengthRepeated,
        Self::LengthMalformed,
        Self::CodingRepeated,
        Self::CodingUnknown,
        Self::CodingAndLength,
        Self::CodingInOldVersion,
        Self::ConnectionNames,
        Self::UpgradeWithBody,
        Self::ChunkSize,
        Self::ChunkExtension,
        Self::ChunkEnd,
        Self::Trailer,
        Self::MethodRefused,
        Self::HeadSlow,
        Self::BodySlow,
        Self::BodyTooLarge,
        Self::TargetTooLong,
        Self::Expectation,
        Self::HeadTooLarge,
        Self::FieldsTooMany,
        Self::ConnectionsTooMany,
        Self::ClientConnectionsTooMany,
        Self::AnswerSlow,
    ];

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

    fn told(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::EmptyLines => (
                400,
                "empty_lines",
                "there is more than one empty line before the request",
            ),
            Self::RequestLine => (
                400,
                "request_line",
                "the request line is not a method, a target and a version",
            ),
            Self::Method => (400, "method", "the method is no token"),
            Self::Target => (400, "target", "the request target is malformed"),
            Self::Version => (505, "version", "only HTTP/1.1 and HTTP/1.0 are spoken here"),
            Self::ControlByte => (400, "control_byte", "there is a control character in the head"),
            Self::BareCr => (400, "bare_cr", "there is a CR without LF in the head"),
            Self::BareLf => (400, "bare_lf", "there is a line that ends with LF only"),
            Self::Folded => (400, "folded", "a header continues on a second line"),
            Self::FieldName => (
                400,
                "field_name",
                "a header line does not begin with a name and a colon",
            ),
            Self::LookAlike => (
                400,
                "look_alike",
                "a header only looks like one that frames the body",
            ),
            Self::HostMissing => (400, "host_missing", "there is no Host header"),
            Self::HostRepeated => (400, "host_repeated", "there is more than one Host header"),
            Self::HostMalformed => (400, "host_malformed", "the Host header is malformed"),
            Self::HostConflict => (
                400,
                "host_conflict",
                "the Host header and the target name different hosts",
            ),
            Self::LengthRepeated => (400, "length_repeated", "there is more than one Content-Length"),
            Self::LengthMalformed => (400, "length_malformed", "the Content-Length is malformed"),
            Self::CodingRepeated => (400, "coding_repeated", "there is more than one Transfer-Encoding"),
            Self::CodingUnknown => (400, "coding_unknown", "the Transfer-Encoding is not just chunked"),
            Self::CodingAndLength => (
                400,
                "coding_and_length",
                "there are both Transfer-Encoding and Content-Length",
            ),
            Self::CodingInOldVersion => (400, "coding_in_old_version", "HTTP/1.0 has no Transfer-Encoding"),
            Self::ConnectionNames => (
                400,
                "connection_names",
                "Connection names a header that is not its to name",
            ),
            Self::UpgradeWithBody => (
                400,
                "upgrade_with_body",
                "a request that upgrades has no body here",
            ),
            Self::ChunkSize => (400, "chunk_size", "the size of a chunk is malformed"),
            Self::ChunkExtension => (
                400,
                "chunk_extension",
                "an extension of a chunk is malformed or too long",
            ),
            Self::ChunkEnd => (400, "chunk_end", "a chunk does not end where its size says"),
            Self::Trailer => (400, "trailer", "the trailers are malformed or too long"),
            Self::MethodRefused => (405, "method_refused", "this method is not served here"),
            Self::HeadSlow => (408, "head_slow", "the head did not arrive in time"),
            Self::BodySlow => (408, "body_slow", "the body arrives too slowly"),
            Self::BodyTooLarge => (413, "body_too_large", "the body is too large"),
            Self::TargetTooLong => (414, "target_too_long", "the request target is too long"),
            Self::Expectation => (
                417,
                "expectation",
                "nothing but 100-continue can be expected here",
            ),
            Self::HeadTooLarge => (431, "head_too_large", "the head is too large"),
            Self::FieldsTooMany => (431, "fields_too_many", "there are too many headers"),
            Self::ConnectionsTooMany => (503, "connections_too_many", "there are too many connections"),
            Self::ClientConnectionsTooMany => (
                429,
                "client_connections_too_many",
                "there are too many connections from this address",
            ),
            Self::AnswerSlow => (0, "answer_slow", "the answer is taken too slowly"),
        }
    }

    /// The whole answer, ready for the wire. It closes the connection: where this message ends is not known, or no longer
    /// of interest.
    pub fn answer(self) -> String {
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
        format!(
            "HTTP/1.1 {status} {phrase}\r\n{allow}Content-Type: text/plain\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\nforeshade: {sentence}\n",
            sentence.len() + "foreshade: \n".len()
        )
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
    fn each_refusal_has_a_label_of_its_own_and_an_answer_as_long_as_it_says() {
        let labels: HashSet<_> = Refusal::ALL.iter().map(|r| r.label()).collect();
        assert_eq!(labels.len(), Refusal::ALL.len());
        for refusal in Refusal::ALL {
            let answer = refusal.answer();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(
                head.contains(&format!("Content-Length: {}\r\n", body.len())),
                "{answer}"
            );
            assert!(refusal.status() == 0 || (400..600).contains(&refusal.status()));
        }
    }
}
