//! What an endpoint may say, and more: the same bytes go through both paths.

/// An answer, and whether the endpoint closes behind it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) name: &'static str,
    pub(crate) bytes: &'static [u8],
    pub(crate) close: bool,
}

const fn kept(name: &'static str, bytes: &'static [u8]) -> Answer {
    Answer {
        name,
        bytes,
        close: false,
    }
}

const fn closed(name: &'static str, bytes: &'static [u8]) -> Answer {
    Answer {
        name,
        bytes,
        close: true,
    }
}

/// All of them. The answer that a request gets is that of its number in here.
pub(crate) static ANSWERS: &[Answer] = &[
    kept("length", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
    kept("length_0", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    kept("no_words", b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nhi"),
    kept(
        "not_found",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno",
    ),
    kept(
        "server_error",
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno",
    ),
    kept("no_content", b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n"),
    kept(
        "not_modified",
        b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n",
    ),
    kept(
        "not_modified_with_length",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    ),
    kept(
        "redirect",
        b"HTTP/1.1 302 Found\r\nLocation: /b?c\r\nContent-Length: 0\r\n\r\n",
    ),
    kept(
        "cookies",
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\nok",
    ),
    kept(
        "spaces",
        b"HTTP/1.1 200 OK\r\nX-A:   1 \t\r\nX-B:\r\nContent-Length:  2  \r\n\r\nok",
    ),
    kept(
        "high_bytes",
        b"HTTP/1.1 200 OK\r\nX-A: caf\xc3\xa9\r\nContent-Length: 2\r\n\r\nok",
    ),
    kept(
        "equal_lengths",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    ),
    kept(
        "chunks",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n",
    ),
    kept(
        "no_chunks",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    kept(
        "early_hints",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ),
    kept(
        "dated",
        b"HTTP/1.1 200 OK\r\nDate: Thu, 26 Nov 2026 08:00:00 GMT\r\nContent-Length: 2\r\n\r\nok",
    ),
    kept(
        "load_report",
        b"HTTP/1.1 200 OK\r\nendpoint-load-metrics: TEXT cpu_utilization=0.3\r\nContent-Length: 2\r\n\r\nok",
    ),
    kept("large", LARGE),
    closed(
        "close",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    ),
    closed("until_close", b"HTTP/1.1 200 OK\r\n\r\nuntil the end"),
    closed("version_1_0", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    closed("version_1_0_until_close", b"HTTP/1.0 200 OK\r\n\r\nuntil the end"),
    kept(
        "version_1_0_kept",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
    ),
    closed(
        "unavailable",
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno",
    ),
    closed(
        "unavailable_for_a_second",
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\nno",
    ),
    closed("nothing", b""),
    closed("half_a_head", b"HTTP/1.1 200 OK\r\nContent-Le"),
    closed("no_http", b"SSH-2.0-OpenSSH_9.2\r\n"),
    closed("other_version", b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    closed("no_status", b"HTTP/1.1 OK\r\n\r\n"),
    closed(
        "lengths_differ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
    ),
    closed(
        "length_signed",
        b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
    ),
    closed(
        "unknown_coding",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ),
    closed(
        "name_with_space",
        b"HTTP/1.1 200 OK\r\nX A: 1\r\nContent-Length: 2\r\n\r\nok",
    ),
];

/// A head and 40,000 bytes: more than any buffer takes at once.
const LARGE: &[u8] = {
    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 40000\r\n\r\n";
    static BYTES: [u8; HEAD.len() + 40_000] = {
        let mut bytes = [b'x'; HEAD.len() + 40_000];
        let mut at = 0;
        while at < HEAD.len() {
            bytes[at] = HEAD[at];
            at += 1;
        }
        bytes
    };
    &BYTES
};
