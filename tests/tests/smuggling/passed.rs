//! Legal requests, some of them odd: what is sent, and what has to arrive. Each ends its connection.

/// Requests that arrive.
#[derive(Clone, Debug)]
pub(crate) struct Passed {
    pub(crate) name: &'static str,
    pub(crate) bytes: String,
    /// Request line and body of each.
    pub(crate) requests: Vec<(String, String)>,
}

fn case(name: &'static str, bytes: impl Into<String>, requests: &[(&str, &str)]) -> Passed {
    let owned = |(line, body): &(&str, &str)| ((*line).to_owned(), (*body).to_owned());
    Passed {
        name,
        bytes: bytes.into(),
        requests: requests.iter().map(owned).collect(),
    }
}

const LAST: &str = "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// All cases.
pub(crate) fn passed() -> Vec<Passed> {
    [heads(), bodies(), chunks()].concat()
}

/// A head with a host and these fields.
fn head(line: &str, fields: &str) -> String {
    format!("{line}\r\nHost: a\r\n{fields}\r\n")
}

fn heads() -> Vec<Passed> {
    let last = ("GET /last HTTP/1.1", "");
    vec![
        case("plain", LAST, &[last]),
        case("one_empty_line_first", format!("\r\n{LAST}"), &[last]),
        case(
            "three_pipelined",
            format!(
                "{}{}{LAST}",
                head("GET /1 HTTP/1.1", ""),
                head("HEAD /2 HTTP/1.1", "")
            ),
            &[("GET /1 HTTP/1.1", ""), ("HEAD /2 HTTP/1.1", ""), last],
        ),
        case(
            "version_1_0",
            "GET /old HTTP/1.0\r\n\r\n",
            &[("GET /old HTTP/1.1", "")],
        ),
        case(
            "version_1_0_kept_alive",
            format!("GET /old HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n{LAST}"),
            &[("GET /old HTTP/1.1", ""), last],
        ),
        case(
            "version_1_0_with_body",
            "POST /old HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello",
            &[("POST /old HTTP/1.1", "hello")],
        ),
        // CVE-2026-2833: what follows a request for another protocol is a request of its own while nobody agreed.
        case(
            "behind_an_upgrade_that_is_not_granted",
            format!(
                "{}{LAST}",
                head("GET /1 HTTP/1.1", "Upgrade: websocket\r\nConnection: upgrade\r\n")
            ),
            &[("GET /1 HTTP/1.1", ""), last],
        ),
        case(
            "an_unknown_method",
            format!("{}{LAST}", head("PROPFIND /1 HTTP/1.1", "Depth: 1\r\n")),
            &[("PROPFIND /1 HTTP/1.1", ""), last],
        ),
        case(
            "characters_of_targets",
            format!("{}{LAST}", head("GET /a;b=c/%20|d?e={f}&g=\\h HTTP/1.1", "")),
            &[("GET /a;b=c/%20|d?e={f}&g=\\h HTTP/1.1", ""), last],
        ),
        case(
            "high_bytes_in_values",
            format!("{}{LAST}", head("GET /1 HTTP/1.1", "X-Name: caf\u{e9}\r\n")),
            &[("GET /1 HTTP/1.1", ""), last],
        ),
        case(
            "ipv6_host",
            format!("GET /1 HTTP/1.1\r\nHost: [2001:db8::1]:8080\r\n\r\n{LAST}"),
            &[("GET /1 HTTP/1.1", ""), last],
        ),
        case(
            "absolute_form",
            format!("GET http://a/1?b HTTP/1.1\r\nHost: a\r\n\r\n{LAST}"),
            &[("GET /1?b HTTP/1.1", ""), last],
        ),
    ]
}

fn bodies() -> Vec<Passed> {
    let last = ("GET /last HTTP/1.1", "");
    vec![
        case(
            "body_then_request",
            format!("{}hello{LAST}", head("POST /1 HTTP/1.1", "Content-Length: 5\r\n")),
            &[("POST /1 HTTP/1.1", "hello"), last],
        ),
        case(
            "body_then_empty_line_then_request",
            format!(
                "{}hello\r\n{LAST}",
                head("POST /1 HTTP/1.1", "Content-Length: 5\r\n")
            ),
            &[("POST /1 HTTP/1.1", "hello"), last],
        ),
        case(
            "body_that_looks_like_a_request",
            format!(
                "{}{LAST}{LAST}",
                head("POST /1 HTTP/1.1", &format!("Content-Length: {}\r\n", LAST.len()))
            ),
            &[("POST /1 HTTP/1.1", LAST), last],
        ),
        case(
            "body_of_a_get",
            format!("{}hello{LAST}", head("GET /1 HTTP/1.1", "Content-Length: 5\r\n")),
            &[("GET /1 HTTP/1.1", "hello"), last],
        ),
        case(
            "spelling_of_fields",
            format!(
                "POST /1 HTTP/1.1\r\nhOsT:\t a \t\r\ncOnTeNt-LeNgTh:5\r\nX-Empty:\r\nX-Spaces:  \r\n\r\nhello{LAST}"
            ),
            &[("POST /1 HTTP/1.1", "hello"), last],
        ),
    ]
}

fn chunks() -> Vec<Passed> {
    let last = ("GET /last HTTP/1.1", "");
    let chunked = "Transfer-Encoding: chunked\r\n";
    vec![
        case(
            "chunks_then_request",
            format!(
                "{}5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n{LAST}",
                head("PUT /1 HTTP/1.1", chunked)
            ),
            &[("PUT /1 HTTP/1.1", "hello!"), last],
        ),
        case(
            "chunk_that_looks_like_an_end",
            format!(
                "{}5\r\n0\r\n\r\n\r\n0\r\n\r\n{LAST}",
                head("PUT /1 HTTP/1.1", chunked)
            ),
            &[("PUT /1 HTTP/1.1", "0\r\n\r\n"), last],
        ),
        case(
            "chunk_extensions_zeros_and_trailers",
            format!(
                "{}005;a=b;c=\"d e\"\r\nhello\r\n00;x\r\nX-Sum: 1\r\nY:\r\n\r\n{LAST}",
                head("PUT /1 HTTP/1.1", chunked)
            ),
            &[("PUT /1 HTTP/1.1", "hello"), last],
        ),
        case(
            "upper_case_hexadecimal",
            format!(
                "{}A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n{LAST}",
                head("PUT /1 HTTP/1.1", chunked)
            ),
            &[("PUT /1 HTTP/1.1", "01234567890123456789"), last],
        ),
        case(
            "spelling_of_chunked",
            format!(
                "{}0\r\n\r\n{LAST}",
                head("PUT /1 HTTP/1.1", "TRANSFER-encoding: \t Chunked \r\n")
            ),
            &[("PUT /1 HTTP/1.1", ""), last],
        ),
    ]
}
