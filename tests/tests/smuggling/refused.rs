//! The cases of `refused.txt`, made into bytes.

/// A request that is refused.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) name: String,
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) bytes: Vec<u8>,
}

/// What the parts in braces stand for.
const PARTS: [(&str, &str); 4] = [
    ("{G}", "GET / HTTP/1.1\\r\\nHost: a\\r\\n"),
    ("{P}", "POST / HTTP/1.1\\r\\nHost: a\\r\\n"),
    (
        "{C}",
        "POST / HTTP/1.1\\r\\nHost: a\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n",
    ),
    ("{S}", "GET /smuggled HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n"),
];

/// All cases.
pub(crate) fn refused() -> Vec<Refused> {
    let lines = include_str!("refused.txt").lines();
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(case)
        .collect()
}

fn case(line: &str) -> Refused {
    let parts: Vec<&str> = line.splitn(4, " | ").collect();
    let [name, status, reason, bytes] = parts[..] else {
        panic!("four parts are expected: {line}");
    };
    let text = PARTS
        .iter()
        .fold(bytes.to_owned(), |text, (part, is)| text.replace(part, is));
    Refused {
        name: name.to_owned(),
        status: status.parse().expect("a status"),
        reason: reason.to_owned(),
        bytes: unescaped(&text),
    }
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'\\' => match rest.next() {
                Some(b'r') => b'\r',
                Some(b'n') => b'\n',
                Some(b't') => b'\t',
                Some(b'\\') => b'\\',
                Some(b'x') => {
                    let digits = [rest.next().expect("a digit"), rest.next().expect("a digit")];
                    let digits = std::str::from_utf8(&digits).expect("two digits");
                    u8::from_str_radix(digits, 16).expect("two digits")
                }
                other => panic!("no escape: {other:?} in {text}"),
            },
            byte => byte,
        };
        bytes.push(byte);
    }
    bytes
}
